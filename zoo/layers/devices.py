"""What the machine has, for layers that work in another way on a CPU."""

import tensorflow as tf


def has(kind: str) -> bool:
    """Whether there is a device of this kind: GPU or TPU."""
    return bool(tf.config.list_logical_devices(kind))


def side_by_side() -> int:
    """How many parts a training batch had better be cut in: where TensorFlow runs each op on one
    thread, as many as there are such threads, and else 1."""
    threading = tf.config.threading
    one_thread_an_op = threading.get_intra_op_parallelism_threads() == 1
    return max(threading.get_inter_op_parallelism_threads(), 1) if one_thread_an_op else 1


def accelerated() -> bool:
    """Whether there is a GPU or TPU."""
    return any(device.device_type != "CPU" for device in tf.config.list_logical_devices())
