"""What a run was trained to: its best model, and the signatures that answer with it."""

from typing import Any

import keras

from data.preprocessing import Preprocessor
from tasks.engine.errors import UsageError, one_line
from tasks.engine.options import Config
from tasks.engine.run import Run
from tasks.engine.task import Task
from zoo.saving import load_model


def best_model(run: Run) -> keras.Model:
    """The model of a run's best epoch.

    Raises:
        UsageError: there is none yet, or it can't be loaded.
    """
    if not run.best.exists():
        raise UsageError(f"{run.folder}: no finished epoch yet; train it first")
    try:
        return load_model(run.best)
    except (ValueError, OSError, KeyError) as error:
        reason = one_line(error, 200)
        raise UsageError(f"{run.best}: can't be loaded ({reason}); train again") from None


def signatures_of(task: Task, run: Run, config: Config, here: bool = False) -> Any:
    """The task's signatures (`tasks.engine.task.Signatures`) of a run's best model; `here` as in
    `Task.signatures`."""
    preprocessor = Preprocessor.load(run.assets)
    assets = sorted(run.assets.glob("*.txt"))  # labels.txt among them
    return task.signatures(best_model(run), preprocessor, assets, config, here)
