"""A tiny model for the server's tests: exported once, and copied to be published."""

import functools
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tensorflow as tf

_FLOATS = tf.TensorSpec([None], tf.float32, name="x")
_KEPT: list[object] = []


def hook(rows: np.ndarray) -> np.ndarray:
    """What the signature `hooked` calls; tests put something else here, to wait or to look."""
    return rows


class _Tiny(tf.Module):
    def __init__(self) -> None:
        self.two = tf.Variable(2.0)

    @tf.function(input_signature=[_FLOATS])
    def twice(self, x):
        return {"y": x * self.two}

    @tf.function(input_signature=[_FLOATS])
    def count(self, x):
        return {"rows": tf.fill(tf.shape(x), tf.size(x))}

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32, name="x")])
    def echo(self, x):
        return {"x": tf.identity(x)}

    @tf.function(input_signature=[_FLOATS])
    def positive(self, x):
        tf.debugging.assert_greater(x, 0.0, message="not positive")
        return {"y": tf.identity(x)}

    @tf.function(input_signature=[_FLOATS])
    def hooked(self, x):
        y = tf.numpy_function(lambda rows: hook(rows), [x], tf.float32)
        return {"y": tf.reshape(y, [-1])}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int32, name="x")])
    def slow(self, x):
        steps = tf.reduce_max(x)
        (done,) = tf.while_loop(lambda i: i < steps, lambda i: i + 1, [0])
        return {"y": tf.fill(tf.shape(x), done)}


@functools.cache
def _template() -> tempfile.TemporaryDirectory[str]:
    module = _Tiny()
    _KEPT.append(module)
    names = ("count", "echo", "positive", "hooked", "slow")
    signatures = {name: getattr(module, name) for name in names} | {"serving_default": module.twice}
    folder = tempfile.TemporaryDirectory()
    tf.saved_model.save(module, f"{folder.name}/1", signatures)
    return folder


def template() -> Path:
    """The folder of one version."""
    return Path(_template().name) / "1"


def publish(folder: Path, number: int) -> Path:
    """Puts a version into a model's folder, whole at once."""
    hidden = folder / f"incoming-{number}"
    shutil.copytree(template(), hidden)
    return hidden.rename(folder / str(number))


def publish_garbage(folder: Path, number: int) -> Path:
    """Puts a version into a model's folder that can't be loaded."""
    version = folder / str(number)
    version.mkdir(parents=True)
    (version / "saved_model.pb").write_bytes(b"\x07garbage")
    return version


def eventually(holds: Callable[[], object], seconds: float = 10.0) -> None:
    """Waits until something holds."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(0.005)
