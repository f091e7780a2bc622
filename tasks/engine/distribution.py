"""Devices: the tf.distribute strategy that trains, and the precision that suits the machine."""

import json
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.distribute.cluster_resolver.slurm_cluster_resolver import (
    expand_hostlist,
    expand_tasks_per_node,
)
from tensorflow.python.distribute.collective_all_reduce_strategy import CollectiveAllReduceExtended

from data.batching import ALL, Share
from tasks.engine import keras_replicas
from tasks.engine.errors import RunError, UsageError, one_line
from tasks.engine.options import Train

# Seconds for one sum between workers: one that hangs, but lives, is given up after it. What the
# others do meanwhile, such as tracing a step or saving a state, has to take less.
_LONGEST_WAIT = 1800.0
_SLURM = ("STEP_NUM_TASKS", "STEP_NODELIST", "STEP_TASKS_PER_NODE", "PROCID", "JOB_ID")
_EXAMPLE = (
    """TF_CONFIG='{"cluster": {"worker": ["one:2222", "two:2222"]}, """
    """"task": {"type": "worker", "index": 0}}'"""
)


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
    """The strategy that the options ask for; call it before TensorFlow touches any device.

    Raises:
        UsageError: this machine, or its environment, has not what the strategy needs.
    """
    name = train.strategy
    if name == "auto":
        gpus = len(tf.config.list_physical_devices("GPU"))
        name = "mirrored" if gpus > 1 or (train.replicas or 1) > 1 else "default"
        name = "multi_worker" if _workers_of_environment() > 1 else name
    if name == "default" and (train.replicas or 1) > 1:
        raise UsageError(
            f"--train.replicas {train.replicas} needs --train.strategy mirrored or multi_worker, "
            "or leave the strategy on auto"
        )
    make = {
        "default": lambda replicas: tf.distribute.get_strategy(),
        "mirrored": _mirrored,
        "multi_worker": _multi_worker,
        "tpu": _tpu,
    }
    strategy = make[name](train.replicas)
    keras_replicas.mend()
    return strategy


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes: the first worker, or the only one."""
    return _index(strategy) == 0


def has_workers(strategy: tf.distribute.Strategy) -> bool:
    """Whether there are several processes that train together."""
    return getattr(strategy.extended, "_num_workers", 1) > 1


def share_of(strategy: tf.distribute.Strategy) -> Share:
    """The part of each batch that this process' replicas take."""
    own = len(strategy.extended.worker_devices)
    return Share(strategy.num_replicas_in_sync, _index(strategy) * own, own)


def distributed(batches: Callable[[Share], tf.data.Dataset], rows: int | None = None) -> Any:
    """Endless batches for `fit` under the strategy in scope, of which each process makes its own
    share, and each of its replicas gets a part.

    Args:
        batches: makes a share of them.
        rows: that each batch is filled up to; by default they may differ.
    """
    strategy = tf.distribute.get_strategy()
    if strategy.num_replicas_in_sync == 1:
        return batches(replace(ALL, rows=rows))
    share = replace(share_of(strategy), rows=rows)
    # Else workers ask each other before each step whether all of them have a batch.
    endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
    return strategy.distribute_datasets_from_function(lambda context: batches(share).apply(endless))


def wants_static_shapes(strategy: tf.distribute.Strategy) -> bool:
    """Whether steps are compiled for the shapes of their batches."""
    return isinstance(strategy, tf.distribute.TPUStrategy)


def worker_name(strategy: tf.distribute.Strategy) -> str:
    """What people call this worker: `worker 1`; nothing if there are no others."""
    if not has_workers(strategy):
        return ""
    return _name(strategy.cluster_resolver.task_type, str(strategy.cluster_resolver.task_id))


def require_agreement(strategy: tf.distribute.Strategy, place: Sequence[int]) -> None:
    """Has all workers go on from one place in a training, as far as that is known.

    Raises:
        RunError: this one would go on from another place than others.
    """
    if not has_workers(strategy):
        return
    # Of unequal numbers, one may be the mean; its square is not that of the squares.
    own = np.array([*place, *(number**2 for number in place)], np.float64)
    if (_reduced(strategy, "MEAN", own) != own).any():
        raise RunError(
            f"{worker_name(strategy)} would go on after batch {place[1]} of epoch {place[0] + 1}, "
            "and others elsewhere; --run.dir must be a folder that all workers see, at one time"
        )


def wait_for_all(strategy: tf.distribute.Strategy) -> None:
    """Returns when every worker has come here."""
    if has_workers(strategy):
        _reduced(strategy, "SUM", np.ones([]))


def any_of(strategy: tf.distribute.Strategy, here: bool) -> bool:
    """Whether something holds for any of the workers, which all must ask."""
    if not has_workers(strategy):
        return here
    return bool(_reduced(strategy, "SUM", np.array(float(here))) > 0)


def _reduced(strategy: tf.distribute.Strategy, how: str, value: np.ndarray) -> np.ndarray:
    """The sum or mean of each replica's value, which is that of its worker."""
    each = tf.function(lambda: strategy.run(lambda: tf.constant(value)))
    return strategy.reduce(how, each(), axis=None).numpy()


_PERHAPS_OWN = (
    tf.errors.FailedPreconditionError,
    tf.errors.InternalError,
    tf.errors.UnknownError,
)
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    *_PERHAPS_OWN,
)


@contextmanager
def missing_workers(strategy: tf.distribute.Strategy) -> Iterator[None]:
    """Says which worker is gone when one is: the others notice at the next step if its process has
    ended, and within half a minute if it, or its machine, has only fallen silent.

    Raises:
        RunError: a worker is gone.
    """
    try:
        yield
    except _LOST as error:
        if not has_workers(strategy):
            raise
        tasks = re.findall(r"/job:(\w+)/(?:replica:\d+/)?task:(\d+)", error.message)
        mine = (strategy.cluster_resolver.task_type, str(strategy.cluster_resolver.task_id))
        names = [_name(*task) for task in dict.fromkeys(tasks) if task != mine]
        # A failure of this worker's own, such as its GPU's or its disk's, may have the same type.
        is_shared = re.search("collective|coordination", error.message, re.IGNORECASE)
        if isinstance(error, _PERHAPS_OWN) and not (names or is_shared):
            raise
        others = [task for task in _tasks(strategy) if task != mine]
        if not names and len(others) == 1:  # TensorFlow doesn't always tell
            names = [_name(*others[0])]
        raise RunError(
            f"{_name(*mine)} can't go on: {' or '.join(names) or 'another worker'} is gone; "
            "start all workers again, and training goes on from its last saved state "
            f"(what TensorFlow says of it: {one_line(error, 300)})"
        ) from None


def _tasks(strategy: tf.distribute.Strategy) -> list[tuple[str, str]]:
    """The kind and number of each process that trains."""
    jobs = strategy.cluster_resolver.cluster_spec().as_dict()
    return [(kind, str(number)) for kind, those in jobs.items() for number in range(len(those))]


def _name(kind: str, number: str) -> str:
    """What people call a worker."""
    return "the chief" if kind == "chief" else f"{kind} {number}"


def _index(strategy: tf.distribute.Strategy) -> int:
    return getattr(strategy.extended, "_id_in_cluster", None) or 0


def _mirrored(replicas: int | None) -> tf.distribute.Strategy:
    gpus = len(tf.config.list_physical_devices("GPU"))
    devices = _local_devices(replicas, gpus)
    # Without GPUs there is nothing for the default's NCCL to talk to.
    reduction = None if gpus else tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(devices, cross_device_ops=reduction)


def _multi_worker(replicas: int | None) -> tf.distribute.Strategy:
    cluster = _cluster()
    gpus = len(tf.config.list_physical_devices("GPU"))
    devices = _local_devices(replicas, gpus)
    if gpus and len(devices) < gpus:
        visible = tf.config.list_physical_devices("GPU")[: len(devices)]
        tf.config.set_visible_devices(visible, "GPU")
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=tf.distribute.experimental.CommunicationImplementation.NCCL
        if gpus
        else tf.distribute.experimental.CommunicationImplementation.RING,
        timeout_seconds=_LONGEST_WAIT,
    )
    with _cpus_a_worker(len(devices)), _said_if_late("waiting for the other workers to start"):
        try:
            return tf.distribute.MultiWorkerMirroredStrategy(cluster, options)
        except (tf.errors.OpError, RuntimeError) as error:
            raise RunError(
                f"--train.strategy multi_worker: the workers don't come together "
                f"({one_line(error, 200)}); see that their addresses in TF_CONFIG can be reached, "
                "that no other program has this one's port, and start all of them again"
            ) from None


@contextmanager
def _said_if_late(what: str, seconds: float = 15.0) -> Iterator[None]:
    """Says what is going on where it takes long."""
    timer = threading.Timer(seconds, lambda: print(what, file=sys.stderr, flush=True))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _tpu(replicas: int | None) -> tf.distribute.Strategy:
    if replicas:
        raise UsageError("--train.replicas: a TPU has as many as it has cores; leave it out")
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver.connect()
    except (ValueError, OSError, tf.errors.OpError) as error:
        raise UsageError(
            f"--train.strategy tpu: no TPU was found ({one_line(error, 200)}); start this on a "
            "TPU VM, or name the TPU in the environment variable TPU_NAME"
        ) from None
    return tf.distribute.TPUStrategy(resolver)


def _workers_of_environment() -> int:
    """How many workers the environment says there are: TF_CONFIG, or Slurm of `srun`'s tasks."""
    _translate_slurm()
    if "TF_CONFIG" not in os.environ:
        return 1
    return sum(len(addresses) for addresses in _tf_config()["cluster"].values())


def _cluster() -> tf.distribute.cluster_resolver.ClusterResolver:
    _translate_slurm()
    if "TF_CONFIG" not in os.environ:
        raise UsageError(
            "--train.strategy multi_worker: who are the workers? Say so on each machine in "
            f"TF_CONFIG, such as {_EXAMPLE}, start this by Slurm's srun, or rehearse it here with "
            "python -m tasks.launch --workers 2 -- COMMAND"
        )
    _tf_config()
    return tf.distribute.cluster_resolver.TFConfigClusterResolver()


def _translate_slurm() -> None:
    """Says in TF_CONFIG what Slurm says of the tasks of a step, unless that is said already.

    TensorFlow's own resolver for Slurm takes hosts in another order than Slurm's ranks, and fails
    without GPUs. Slurm gives each task its GPUs, by `--gpus-per-task`.
    """
    slurm = {name: os.environ.get(f"SLURM_{name}", "") for name in _SLURM}
    if "TF_CONFIG" in os.environ or int(slurm["STEP_NUM_TASKS"] or 1) < 2:
        return
    try:
        hosts = expand_hostlist(slurm["STEP_NODELIST"])
        tasks = expand_tasks_per_node(slurm["STEP_TASKS_PER_NODE"])
        rank = int(slurm["PROCID"])
        # Jobs that share a machine have ports of their own; beyond are those that clients get.
        port = 20_000 + int(slurm["JOB_ID"] or 0) % 12_000
        addresses = [
            f"{host}:{port + number}"
            for host, count in zip(hosts, tasks, strict=True)
            for number in range(count)
        ]
    except (ValueError, AssertionError) as error:
        raise UsageError(f"Slurm's variables can't be understood: {error}") from None
    task = {"type": "worker", "index": rank}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": addresses}, "task": task})


def _tf_config() -> dict[str, Any]:
    """What the environment variable TF_CONFIG says, checked."""
    text = os.environ["TF_CONFIG"]
    try:
        config = json.loads(text)
        cluster = config.get("cluster") or {}
        task = config.get("task") or {"type": "worker", "index": 0}
        if not cluster:
            return {"cluster": {"worker": ["localhost:0"]}, "task": task}
        cluster[task["type"]][int(task["index"])]
        if not set(cluster) <= {"chief", "worker"}:
            raise ValueError(f"has jobs other than chief and worker: {', '.join(cluster)}")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        what = f"no such task: {error}" if isinstance(error, KeyError) else str(error)
        raise UsageError(f"TF_CONFIG: {what}; it should be like {_EXAMPLE}") from None
    return config


@contextmanager
def _cpus_a_worker(count: int) -> Iterator[None]:
    """Has a worker without GPUs take several logical CPUs for replicas, of which the strategy knows
    one only: for rehearsals."""
    original = CollectiveAllReduceExtended._initialize_local_devices

    def local_devices(self: Any, resolver: Any, worker: str) -> tuple[tuple[str, ...], str]:
        devices, kind = original(self, resolver, worker)
        if kind == "CPU":
            devices = tuple(f"{worker}/device:CPU:{index}" for index in range(count))
        return devices, kind

    CollectiveAllReduceExtended._initialize_local_devices = local_devices
    try:
        yield
    finally:
        CollectiveAllReduceExtended._initialize_local_devices = original


def _local_devices(replicas: int | None, gpus: int) -> list[str]:
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
