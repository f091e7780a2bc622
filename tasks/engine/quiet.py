"""Keeps TensorFlow's and Keras' start-up chatter off the user's screen.

What they say there, nobody who runs a task can do anything about; real errors still arrive as
exceptions.
"""

import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_imports() -> Iterator[None]:
    """Imports TensorFlow and what is built on it in silence.

    Its C++ libraries log to file descriptor 2 before any log level can be set, so that is held
    back, and shown after all if an import fails. Set TF_CPP_MIN_LOG_LEVEL to see everything.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
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
            yield
        except BaseException:
            held.seek(0)
            os.write(screen, held.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(screen, 2)
            os.close(screen)


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
