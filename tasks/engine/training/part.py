"""Trains a task's model, and those to compare it with, in a run folder.

That is the whole of a training, or a fold of a backtest.
"""

import shlex
from dataclasses import dataclass, replace
from typing import Any

import keras
import tensorflow as tf

from data.preprocessing import Preprocessor
from data.splits import Splits
from data.survey import WARNING, survey
from tasks.engine.console import say, say_facts
from tasks.engine.distribution import (
    has_workers,
)
from tasks.engine.options import Config
from tasks.engine.requests import write_requests
from tasks.engine.run import Run
from tasks.engine.task import Objective, Task
from tasks.engine.trained import best_model
from tasks.engine.training.ballot import Ballot
from tasks.engine.training.beginning import inherited, take_weights
from tasks.engine.training.fit import fit
from tasks.engine.training.spent import advice, described, spent


@dataclass(frozen=True)
class Trained:
    """What is needed of a finished training to judge it."""

    model: keras.Model
    preprocessor: Preprocessor
    objective: Objective
    parameters: int
    figures: dict[str, Any]
    facts: dict[str, Any]  # about the training data


def train_part(
    task: Task,
    config: Config,
    run: Run,
    splits: Splits,
    strategy: tf.distribute.Strategy,
    resuming: bool,
) -> Trained:
    """Trains the model and its baselines in a run folder, or goes on with it."""
    data = _described(splits)
    if resuming:
        run.require_data(data)
    # Before there is a preprocessor: TensorFlow then drops its kernels, and SentencePiece's with
    # them the vocabularies that they hold.
    keras.utils.set_random_seed(config.train.seed)
    if resuming and (run.assets / "preprocessor.json").exists():
        preprocessor = Preprocessor.load(run.assets)
    elif config.train.start_from:
        preprocessor = inherited(task, config.train.start_from, splits.train)
    else:
        preprocessor = task.preprocessor(config.model, splits.train, config.data)
    known = splits.train.facts
    splits = task.fitted(splits, preprocessor, config.data)
    facts = splits.train.facts | survey(preprocessor, splits.train)
    say_facts({name: value for name, value in facts.items() if name not in known})
    if splits.validation is not None and WARNING not in facts:
        # All of it is said once it is judged; but who trains in vain had better know before.
        warning = survey(preprocessor, splits.validation).get(WARNING)
        say_facts({WARNING: f"validation data: {warning}"} if warning else {})
    augmentation = task.augmentation(config.data, preprocessor)
    with strategy.scope():
        model = task.model(config.model, preprocessor)
        baselines = task.baselines(config.model, preprocessor)
        objective = task.objective(config.train, preprocessor)
        if config.train.start_from and not run.history():
            taken = take_weights(model, preprocessor, config.train.start_from)
            say("start", f"{config.train.start_from}, {taken}")
    objective = replace(objective, assessment=task.assessment(objective, config))
    plain = type(model).__name__ == "Functional"
    kind = model.name.capitalize() if plain else type(model).__name__
    policy = keras.config.dtype_policy().name
    say("model", f"{kind}, {model.count_params():,} parameters, {policy}")
    if not resuming:
        run.begin(config.plain)
        say("run", f"{run.folder}  (watch it: tensorboard --logdir {shlex.quote(str(run.logs))})")
    else:
        say("run", f"{run.folder}, after epoch {len(run.history())}")
        if run.options()["train"].get("epochs") != config.train.epochs:
            run.begin(config.plain)  # to go on to more epochs than it was to have
    if not run.data_file.exists():
        run.write_data(data)
    preprocessor.save(run.assets)
    write_requests(run, splits)

    ballot = Ballot(has_workers(strategy))
    with strategy.scope():
        history = fit(
            model,
            objective,
            splits,
            preprocessor,
            config.train,
            run,
            hparams=config.plain,
            shuffle_buffer=config.data.shuffle_buffer,
            augmentation=augmentation,
            callbacks=task.callbacks(preprocessor, splits, config, run.logs),
            ballot=ballot,
        )
        for name, baseline in baselines.items():
            say("baseline", f"{name}, {baseline.count_params():,} parameters")
            fit(
                baseline,
                objective,
                splits,
                preprocessor,
                config.train,
                run.baseline(name),
                hparams=config.plain,
                shuffle_buffer=config.data.shuffle_buffer,
                ballot=ballot,
            )
    seconds = spent(history)
    say("time", described(seconds))
    if what := advice(seconds, splits.train):
        say("", what)
    rate = len(splits.train) * len(history) / max(seconds.get("seconds", 0.0), 1e-9)
    figures: dict[str, Any] = {
        **{name: round(value, 3) for name, value in seconds.items()},
        "examples_per_second": round(rate, 1),
        "epochs": len(history),
        "examples": len(splits.train),
        "skipped": splits.train.skipped,
    }
    if averaged := run.averaged():
        figures["averaged"] = averaged
    parameters = model.count_params()
    return Trained(best_model(run), preprocessor, objective, parameters, figures, facts)


def _described(splits: Splits) -> dict[str, dict[str, Any]]:
    """What a run remembers its data by."""
    parts = {"training": splits.train, "validation": splits.validation, "test": splits.test}
    return {
        name: {"source": part.source, "records": len(part), "checksum": part.checksum}
        for name, part in parts.items()
        if part is not None
    }
