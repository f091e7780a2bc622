"""The verb `evaluate`: judges a trained run on other test data."""

from dataclasses import replace
from typing import Any

from data.preprocessing import Preprocessor
from tasks.engine.errors import UsageError
from tasks.engine.judging.judge import judge
from tasks.engine.options import Config
from tasks.engine.run import Run
from tasks.engine.task import Task
from tasks.engine.trained import best_model
from tasks.engine.training.part import Trained


def do(task: Task, config: Config, options: Any) -> None:
    """Evaluates a run's best model on new test data; metrics.json and report.md follow."""
    if config.data.test is None:
        raise UsageError("evaluate on what? Name the data with --data.test")
    run = Run.existing(config.run.dir)
    model, preprocessor = best_model(run), Preprocessor.load(run.assets)
    source = task.source(config.data, config.model)
    records = source.read(config.data.test, preprocessor)
    objective = task.objective(config.train, preprocessor)
    objective = replace(objective, assessment=task.assessment(objective, config))
    trained = Trained(model, preprocessor, objective, model.count_params(), {}, {})
    metrics = run.metrics() | {"task": task.name, "parameters": trained.parameters}
    judge(task, run, trained, {"test": records}, metrics, config, run.history())
