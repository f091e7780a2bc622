"""Trains and tests anew on each fold of the data."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from data.splits import Splits
from tasks.engine.console import describe, say
from tasks.engine.judging.judge import judge
from tasks.engine.options import Config
from tasks.engine.run import Run
from tasks.engine.task import Task
from tasks.engine.training.part import train_part


def backtest(
    task: Task, config: Config, run: Run, folds: Sequence[Splits], strategy: tf.distribute.Strategy
) -> dict[str, Any]:
    """Trains and tests anew on each fold, in a run folder of its own; a finished fold is kept."""
    tested = []
    for number, splits in enumerate(folds, 1):
        own = run.fold(number)
        metrics = own.metrics()
        if not metrics:
            say("fold", f"{number} of {len(folds)}: {describe(splits)}")
            resuming = own.resumable(config.plain, config.defaults)
            part = train_part(task, config, own, splits, strategy, resuming)
            metrics = {
                "task": task.name,
                "parameters": part.parameters,
                "train": part.figures,
                "data": part.facts,
            }
            judge(task, own, part, {"test": splits.test}, metrics, config, own.history())
        tested.append(metrics["test"])
    names = [name for name, value in tested[0].items() if isinstance(value, float)]
    figures = {name: [fold[name] for fold in tested] for name in names}
    return {
        "folds": [{name: fold[name] for name in ("examples", *names)} for fold in tested],
        "mean": {name: float(np.mean(values)) for name, values in figures.items()},
        "deviation": {name: float(np.std(values)) for name, values in figures.items()},
    }
