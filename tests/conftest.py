"""What all tests share: TensorFlow in silence, with two logical CPUs to play replicas."""

from tasks.engine.quiet import quiet_imports

with quiet_imports():
    import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)
