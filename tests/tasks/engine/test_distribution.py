"""Who the workers are, and whose fault a failure is."""

import json
import os
from types import SimpleNamespace

import pytest
import tensorflow as tf

from tasks.engine import distribution
from tasks.engine.distribution import make_strategy, missing_workers
from tasks.engine.errors import RunError, UsageError
from tasks.engine.options import Train

STEP = {
    "SLURM_STEP_NUM_TASKS": "3",
    "SLURM_STEP_NODELIST": "node[08-09]",
    "SLURM_STEP_TASKS_PER_NODE": "2,1",
    "SLURM_PROCID": "2",
    "SLURM_JOB_ID": "60123",
}


@pytest.fixture
def slurm(monkeypatch):
    """Sets the variables of a task of Slurm's, some of them as given."""

    def set_them(**changed: str) -> None:
        monkeypatch.setenv("TF_CONFIG", "")  # so that it is taken back, too
        monkeypatch.delenv("TF_CONFIG")
        for name, value in (STEP | changed).items():
            monkeypatch.setenv(name, value)

    return set_them


def test_slurm_says_who_the_workers_are_and_jobs_have_their_own_ports(slurm):
    slurm()
    assert distribution._workers_of_environment() == 3
    config = json.loads(os.environ["TF_CONFIG"])
    addresses = ["node08:20123", "node08:20124", "node09:20123"]
    assert config == {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": 2}}


@pytest.mark.parametrize(
    ("name", "value"), [("SLURM_STEP_TASKS_PER_NODE", "2"), ("SLURM_PROCID", "x")]
)
def test_what_slurm_can_not_mean_is_a_mistake_of_usage(slurm, name, value):
    slurm(**{name: value})
    with pytest.raises(UsageError, match="Slurm's variables can't be understood"):
        distribution._workers_of_environment()


def test_workers_that_do_not_come_together_are_told(monkeypatch):
    def fails(*arguments):
        raise tf.errors.UnknownError(None, None, "Could not start gRPC server")

    workers = {"cluster": {"worker": ["localhost:1", "localhost:2"]}}
    task = {"task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(workers | task))
    monkeypatch.setattr(tf.distribute, "MultiWorkerMirroredStrategy", fails)
    with pytest.raises(RunError, match=r"don't come together \(Could not start gRPC server\)"):
        make_strategy(Train(strategy="multi_worker", replicas=2))


def first_of(workers: list[str]) -> SimpleNamespace:
    """A strategy of this many workers, as the first of them has it."""
    cluster = tf.train.ClusterSpec({"worker": workers})
    own = {"task_type": "worker", "task_id": 0, "cluster_spec": lambda: cluster}
    return SimpleNamespace(
        extended=SimpleNamespace(_num_workers=len(workers)), cluster_resolver=SimpleNamespace(**own)
    )


WORKERS = first_of(["a:1", "b:1", "c:1"])


@pytest.mark.parametrize(
    ("error", "who"),
    [
        (tf.errors.UnavailableError(None, None, "/job:worker/replica:0/task:1 left"), "worker 1"),
        (tf.errors.InternalError(None, None, "Collective ops is aborted"), "another worker"),
        (tf.errors.UnknownError(None, None, "from /job:worker/task:1: end"), "worker 1"),
    ],
)
def test_a_worker_that_is_gone_is_named(error, who):
    said = f"worker 0 can't go on: {who} is gone"
    with pytest.raises(RunError, match=said), missing_workers(WORKERS):
        raise error


def test_of_two_workers_the_other_is_gone_whether_tensorflow_names_it_or_not():
    error = tf.errors.InternalError(None, None, "Collective ops is aborted")
    said = "worker 0 can't go on: worker 1 is gone"
    with pytest.raises(RunError, match=said), missing_workers(first_of(["a:1", "b:1"])):
        raise error


@pytest.mark.parametrize("kind", [tf.errors.InternalError, tf.errors.UnknownError])
def test_a_failure_of_a_workers_own_is_not_laid_on_others(kind):
    with pytest.raises(kind, match="disk"), missing_workers(WORKERS):
        raise kind(None, None, "the disk of /job:worker/task:0 is gone")
