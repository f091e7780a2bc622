"""What the machine has, for layers that work in another way on a CPU."""

import tensorflow as tf


def has(kind: str) -> bool:
    """Whether there is a device of this kind: GPU or TPU."""
    return bool(tf.config.list_logical_devices(kind))


def accelerated() -> bool:
    """Whether there is a GPU or TPU."""
    return any(device.device_type != "CPU" for device in tf.config.list_logical_devices())
