"""Judges a trained model: metrics, report, pictures."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from data.preprocessing import Preprocessor
from data.records import DataSet, Records, cell_text
from data.survey import survey
from tasks.engine.console import compared, headline, say, say_facts
from tasks.engine.judging.evaluation import Evaluation, evaluate, features
from tasks.engine.options import Config
from tasks.engine.run import Run
from tasks.engine.showing.figures import pixels
from tasks.engine.showing.report import write_report
from tasks.engine.showing.tensorboard import write_projector
from tasks.engine.task import Task
from tasks.engine.trained import best_model
from tasks.engine.training.part import Trained


def judge(
    task: Task,
    run: Run,
    trained: Trained,
    data: dict[str, DataSet | None],
    metrics: dict[str, Any],
    config: Config,
    history: list[dict],
) -> None:
    """Evaluates the best model on validation and test data, and writes what it found."""
    model, preprocessor = trained.model, trained.preprocessor
    assessment = trained.objective.assessment
    judged: Evaluation | None = None
    for split, records in data.items():
        if records is not None:
            answers = task.answers(model, preprocessor, records, config)
            judged = evaluate(model, preprocessor, records, answers)
            baselines = {
                name: evaluate(best_model(run.baseline(name)), preprocessor, records).outputs
                for name in run.baselines()
            }
            metrics[split] = assessment.metrics(
                judged.truth, judged.outputs, judged.records, baselines
            )
            metrics[split] |= {"examples": len(records), "skipped": records.skipped}
            if config.decode:
                metrics[split]["decode"] = asdict(config.decode)
            own, known = survey(preprocessor, records), metrics.get("data", {})
            if records.facts or own:
                metrics[split]["data"] = {**records.facts, **own}
            say(split, headline(metrics[split]))
            say_facts({k: v for k, v in records.facts.items() if known.get(k) != v} | own)
            if "baselines" in metrics[split]:
                say("", compared(metrics[split]["baselines"], trained.objective.monitor))
            logs = run.logs / split
    run.write_metrics(metrics)
    pictures, mistakes = {}, []
    if judged is not None:
        shown = len(judged.records)
        part = (judged.truth[:shown], judged.outputs[:shown], judged.records)
        pictures = assessment.pictures(judged.truth, judged.outputs, judged.records, baselines)
        pictures |= task.pictures(model, preprocessor, *part)
        mistakes = assessment.mistakes(*part)
        with tf.summary.create_file_writer(str(logs)).as_default():
            for name, figure in pictures.items():
                tf.summary.image(name, pixels(figure)[np.newaxis], step=len(history))
            assessment.summaries(*part, step=len(history))
        _write_vectors(logs, model, preprocessor, judged)

    title = assessment.mistakes_title
    write_report(run, metrics, history, pictures, mistakes, config.plain, title)
    say("report", str(run.folder / "report.md"))


def _write_vectors(
    logs: Path,
    model: keras.Model,
    preprocessor: Preprocessor,
    judged: Evaluation,
    limit: int = 2000,
) -> None:
    """Shows what the model makes of the records in TensorBoard's projector."""
    records = judged.records.take(slice(0, limit))
    if not isinstance(records, Records):  # windows of series have no text to be found by
        return
    vectors = features(model, preprocessor, records)
    if vectors is None:
        return
    names = [name for name, column in records.columns.items() if column.dtype == object]
    texts = [[cell_text(cell) for cell in records.columns[name]] for name in names]
    write_projector(logs, "features", vectors, list(zip(*texts, strict=True)), names)
