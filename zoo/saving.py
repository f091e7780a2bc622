"""Loading a saved zoo model, whichever it is."""

import pkgutil
from importlib import import_module
from pathlib import Path

import keras


def load_model(path: str | Path) -> keras.Model:
    """A model from a `.keras` file, without its optimizer, that computes in float32.

    So do exports, whatever a model was trained in: most machines that serve only emulate half
    precision, many times slower. A model that is judged has to be the one that is exported.
    """
    # Keras finds a class only once its module has been imported.
    package = import_module("zoo")
    for module in pkgutil.iter_modules(package.__path__):
        import_module(f"zoo.{module.name}")
    model = keras.models.load_model(path, compile=False)
    for layer in model._flatten_layers():  # Keras has no public way to reach layers of layers
        layer.dtype_policy = keras.DTypePolicy("float32")
    return model
