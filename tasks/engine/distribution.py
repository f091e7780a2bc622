"""Devices: the tf.distribute strategy that trains, and the precision that suits the machine."""

import os
from contextlib import suppress
from pathlib import Path

import tensorflow as tf

from tasks.engine.errors import UsageError
from tasks.engine.options import Train


def one_thread_an_op() -> None:
    """Lets several ops run at once, each on one thread, instead of one on all of them.

    It suits models of many small ops in a row, such as recurrent ones. Nothing happens once
    TensorFlow has started, where there are GPUs, and where the threads have been set already.
    """
    threading = tf.config.threading
    if tf.config.list_physical_devices("GPU") or threading.get_intra_op_parallelism_threads():
        return
    with suppress(RuntimeError):  # TensorFlow has started
        threads = threading.get_inter_op_parallelism_threads() or processors()
        threading.set_intra_op_parallelism_threads(1)
        threading.set_inter_op_parallelism_threads(threads)


def processors() -> int:
    """The processors that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def make_strategy(train: Train) -> tf.distribute.Strategy:
    """The strategy that the options ask for; call it before TensorFlow touches any device."""
    gpus = tf.config.list_physical_devices("GPU")
    name = train.strategy
    if name == "auto":
        name = "mirrored" if len(gpus) > 1 or (train.replicas or 1) > 1 else "default"
    if name == "default":
        if (train.replicas or 1) > 1:
            raise UsageError(
                f"--train.replicas {train.replicas} needs --train.strategy mirrored, "
                "or leave the strategy on auto"
            )
        return tf.distribute.get_strategy()
    devices = _replica_devices(train.replicas, len(gpus))
    if train.batch_size % len(devices):
        raise UsageError(
            f"--train.batch_size {train.batch_size}: must be a multiple of the {len(devices)} "
            "replicas, which share each batch"
        )
    if train.accumulate > 1 and len(devices) > 1:
        raise UsageError(
            "--train.accumulate works on one replica only (Keras can't update inside a condition "
            "under several); raise --train.batch_size, or give --train.strategy default"
        )
    # Without GPUs there is nothing for the default's NCCL to talk to.
    reduction = None if gpus else tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=reduction)


def _replica_devices(replicas: int | None, gpus: int) -> list[str]:
    if gpus:
        wanted = replicas or gpus
        if wanted > gpus:
            raise UsageError(f"--train.replicas {wanted}: this machine has {gpus} GPUs")
        return [f"GPU:{index}" for index in range(wanted)]
    wanted = replicas or 1
    cpu = tf.config.list_physical_devices("CPU")[0]
    if len(tf.config.get_logical_device_configuration(cpu) or [None]) != wanted:
        devices = [tf.config.LogicalDeviceConfiguration() for _ in range(wanted)]
        tf.config.set_logical_device_configuration(cpu, devices)
    return [f"CPU:{index}" for index in range(wanted)]


def make_precision(train: Train) -> str:
    """The Keras dtype policy's name that the options ask for."""
    if train.precision != "auto":
        return train.precision
    return "mixed_bfloat16" if _computes_bfloat16() else "float32"


def _computes_bfloat16() -> bool:
    """Whether this machine multiplies bfloat16 natively."""
    if tf.config.list_physical_devices("TPU"):
        return True
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        details = [tf.config.experimental.get_device_details(gpu) for gpu in gpus]
        return all(detail.get("compute_capability", (0, 0)) >= (8, 0) for detail in details)
    try:
        flags = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags
