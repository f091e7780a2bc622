"""The verb `train`: trains or resumes, evaluates, and exports when an export folder is given."""

import os
import sys
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tasks.engine.command.export import export_model, require_writable
from tasks.engine.console import describe, say, say_facts
from tasks.engine.distribution import (
    is_chief,
    make_precision,
    make_strategy,
    missing_workers,
    one_thread_an_op,
    wait_for_all,
)
from tasks.engine.errors import UsageError
from tasks.engine.files import remove_remains
from tasks.engine.judging.backtest import backtest
from tasks.engine.judging.evaluation import environment
from tasks.engine.judging.judge import judge
from tasks.engine.lock import locked
from tasks.engine.options import Config, Train
from tasks.engine.run import Run
from tasks.engine.task import Task
from tasks.engine.training.part import train_part


def do(task: Task, config: Config, options: Any) -> None:
    """Trains (or resumes), evaluates, and exports when an export folder is given."""
    run = Run.named(config.run.dir, task.name)
    run.resumable(config.plain, config.defaults)  # which says at once if it is another
    if config.export.dir:
        require_writable(Path(config.export.dir))
    if config.train.freeze_epochs and not config.model.start:
        raise UsageError(
            f"--train.freeze_epochs {config.train.freeze_epochs}: there is nothing to keep, the "
            "model starts from random weights; give a pretrained --model.preset"
        )
    if config.train.deterministic:
        tf.config.experimental.enable_op_determinism()
    folds: int = getattr(config.data, "backtest_folds", 0)
    if config.train.start_from and folds:
        raise UsageError(
            f"--train.start_from {config.train.start_from}: a backtest is of models that know "
            "nothing of what comes after; give --data.backtest_folds 0"
        )
    for option, why in task.without.items():
        if getattr(config.train, option) != getattr(Train(), option):
            raise UsageError(
                f"--train.{option} {getattr(config.train, option)}: {why}; leave it out"
            )
    if task.one_thread_an_op(config.model):
        one_thread_an_op()
    strategy = make_strategy(config.train)
    if not is_chief(strategy):
        # What all would say, one says.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        run = run.scratch()
    with locked(run.folder):
        _train(task, config, run, strategy)


def _train(task: Task, config: Config, run: Run, strategy: tf.distribute.Strategy) -> None:
    """All that is done while no other process may train in the run's folder."""
    resuming = run.resumable(config.plain, config.defaults)
    if is_chief(strategy):
        remove_remains(run.folder)
    with missing_workers(strategy):
        wait_for_all(strategy)
    precision = make_precision(config.train)
    keras.config.set_dtype_policy(precision)

    source = task.source(config.data, config.model)
    splits = source.splits(config.train.seed)
    say("data", describe(splits))
    say_facts(splits.train.facts)
    folds = source.folds(splits)
    with missing_workers(strategy):
        part = train_part(task, config, run, splits, strategy, resuming)
        tested = backtest(task, config, run, folds, strategy) if folds else None
    if not is_chief(strategy):
        return
    metrics = {
        "task": task.name,
        "parameters": part.parameters,
        "train": part.figures,
        "data": part.facts,
        "environment": environment(precision, strategy),
    }
    if tested:
        metrics["backtest"] = tested
    judged = {"validation": splits.validation, "test": splits.test}
    judge(task, run, part, judged, metrics, config, run.history())
    if config.export.dir:
        export_model(task, run, config, Path(config.export.dir))
