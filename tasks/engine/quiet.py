"""Imports TensorFlow and Keras as a command wants them: in silence, and without what it never uses.

What they say at their start, nobody who runs a task can do anything about; real errors still arrive
as exceptions.
"""

import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# Where they are installed, Keras imports them with itself, for wrappers and utilities of which a
# command uses none: a third of the time that it takes.
_UNUSED_BY_KERAS = ("sklearn", "pandas", "matplotlib")


@contextmanager
def quiet_imports() -> Iterator[None]:
    """Imports TensorFlow and Keras first of all, and what is built on them, in silence.

    TensorFlow's C++ libraries log to file descriptor 2 before any log level can be set, so that is
    held back, and shown after all if an import fails. Set TF_CPP_MIN_LOG_LEVEL to see everything.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        _import_lean()
        yield
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    for name in ("tensorflow", "absl", "matplotlib", "h5py"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for module in ("keras", "tensorflow", "keras_hub", "google", "h5py"):
        warnings.filterwarnings("ignore", module=rf"{module}($|\.)")
    sys.stderr.flush()
    screen = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            _import_lean()
            yield
        except BaseException:
            held.seek(0)
            os.write(screen, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(screen, 2)
            os.close(screen)


def _import_lean() -> None:
    """Imports TensorFlow and Keras as if the packages that Keras has no use for here were absent;
    whoever wants one of them imports it afterwards."""
    absent = [name for name in _UNUSED_BY_KERAS if name not in sys.modules]
    for name in absent:
        sys.modules[name] = None  # type: ignore[assignment]  # which makes an import fail
    try:
        import keras  # noqa: F401  # and with it TensorFlow
    finally:
        for name in absent:
            del sys.modules[name]


@contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Keeps back what TensorFlow logs about saving and loading, which nobody can act on."""
    logger = logging.getLogger("tensorflow")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
