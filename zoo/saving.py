"""Loading a saved zoo model, whichever it is."""

import pkgutil
from importlib import import_module
from pathlib import Path

import keras


def load_model(path: str | Path) -> keras.Model:
    """A model from a `.keras` file, without its optimizer.

    Keras finds a class only once its module has been imported, so all of the zoo's are.
    """
    package = import_module("zoo")
    for module in pkgutil.iter_modules(package.__path__):
        import_module(f"zoo.{module.name}")
    return keras.models.load_model(path, compile=False)
