"""Loading a saved zoo model, whichever it is."""

import pkgutil
import re
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from inspect import signature
from pathlib import Path
from typing import Any
from unittest import mock

import keras


def load_model(path: str | Path) -> keras.Model:
    """A model from a `.keras` file, without its optimizer, that computes in float32.

    So do exports, whatever a model was trained in: most machines that serve only emulate half
    precision, many times slower. A model that is judged has to be the one that is exported.
    """
    _import_classes(path)
    with _no_random_weights():
        model = keras.models.load_model(path, compile=False)
    for layer in model._flatten_layers():  # Keras has no public way to reach layers of layers
        layer.dtype_policy = keras.DTypePolicy("float32")
    return model


def _import_classes(path: str | Path) -> None:
    """Imports the modules of the model's classes, which Keras does not find before: those that the
    file names, or all of the zoo, where one has moved since."""
    package = import_module("zoo")
    present = {f"zoo.{module.name}" for module in pkgutil.iter_modules(package.__path__)}
    with zipfile.ZipFile(path) as file:
        named = set(re.findall(r'"module": "(zoo\.[\w.]+)"', file.read("config.json").decode()))
    for module in named if named <= present else present | named & present:
        import_module(module)


@contextmanager
def _no_random_weights() -> Iterator[None]:
    """Lets layers begin with zeros: drawing weights that a file is about to replace takes as long
    as reading them."""

    def zeros(self: Any, shape: Any, dtype: Any = None, **_: Any) -> Any:
        return keras.ops.zeros(shape, dtype=keras.backend.standardize_dtype(dtype))

    with ExitStack() as stack:
        for kind in {v for v in vars(keras.initializers).values() if isinstance(v, type)}:
            if "seed" in signature(kind).parameters:
                stack.enter_context(mock.patch.object(kind, "__call__", zeros))
        yield
