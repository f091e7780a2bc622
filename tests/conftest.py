"""What all tests share: TensorFlow in silence, with two logical CPUs to play replicas."""

import pytest

from tasks.engine.quiet import quiet_imports

with quiet_imports():
    import keras
    import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)


@pytest.fixture(autouse=True)
def float32():
    """Gives each test Keras' default policy: training sets the one that suits the machine."""
    keras.config.set_dtype_policy("float32")


@pytest.fixture(autouse=True)
def own_collectives():
    """Keeps a test's replicas from taking its collective ops for an earlier test's."""
    tf.distribute.MirroredStrategy._collective_key_base += 100_000
