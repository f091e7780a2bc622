"""Loading a saved zoo model, whichever it is."""

import pkgutil
from importlib import import_module
from pathlib import Path

import keras


def load_model(path: str | Path, dtype: str = "float32") -> keras.Model:
    """A model from a `.keras` file, without its optimizer.

    Keras finds a class only once its module has been imported, so all of the zoo's are.

    Args:
        dtype: the policy to compute under, whatever it was trained under. Half precision is
            emulated, and many times slower, on most machines that a model may be served on.
    """
    package = import_module("zoo")
    for module in pkgutil.iter_modules(package.__path__):
        import_module(f"zoo.{module.name}")
    model = keras.models.load_model(path, compile=False)
    for layer in model._flatten_layers():
        layer.dtype_policy = keras.DTypePolicy(dtype)
    return model
