"""What all tests share: TensorFlow in silence, with two logical CPUs to play replicas; and in which
order and process they run."""

import pytest

from tasks.engine.quiet import quiet_imports

with quiet_imports():
    import keras
    import tensorflow as tf
    from tensorflow.python.framework import config

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


@pytest.fixture(autouse=True)
def float32():
    """Gives each test Keras' default policy: training sets the one that suits the machine."""
    keras.config.set_dtype_policy("float32")


@pytest.fixture(autouse=True)
def no_determinism():
    """Takes back what a test asked for with `--train.deterministic`: it is for the whole process,
    in which others draw random numbers without a seed."""
    yield
    config.disable_op_determinism()


@pytest.fixture(autouse=True)
def own_collectives():
    """Keeps a test's replicas from taking its collective ops for an earlier test's."""
    tf.distribute.MirroredStrategy._collective_key_base += 100_000


# Long tests begin first, so that no process ends long after the other.
LONG = (
    "test_distribution.py",
    "test_translation.py",
    "test_image_classification.py",
    "test_replicas.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; each stays in one process (`--dist loadfile`), with its fixtures."""
    order = {name: number for number, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.name, len(LONG)))
