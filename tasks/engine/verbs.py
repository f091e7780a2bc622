"""What the verbs of a task's command line do: train, evaluate, predict, export."""

import base64
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from data.preprocessing import Preprocessor
from data.tables import Splits
from tasks.engine.distribution import make_precision, make_strategy, one_thread_an_op
from tasks.engine.errors import UsageError
from tasks.engine.evaluation import Evaluation, environment, evaluate, features
from tasks.engine.export import export
from tasks.engine.files import atomic_write
from tasks.engine.model_card import model_card
from tasks.engine.options import Config
from tasks.engine.pictures import pixels
from tasks.engine.report import write_report
from tasks.engine.run import Run
from tasks.engine.task import Objective, Task
from tasks.engine.tensorboard import write_projector
from tasks.engine.training import AnyRecords, fit
from zoo.saving import load_model


def train(task: Task, config: Config) -> None:
    """Trains (or resumes), evaluates, and exports when an export folder is given."""
    run = Run.named(config.run.dir, task.name)
    resuming = run.resumable(config.plain)
    if config.export.dir:
        _require_writable(Path(config.export.dir))
    if config.train.freeze_epochs and not config.model.start:
        raise UsageError(
            f"--train.freeze_epochs {config.train.freeze_epochs}: there is nothing to keep, the "
            "model starts from random weights; give a pretrained --model.preset"
        )
    if config.train.deterministic:
        tf.config.experimental.enable_op_determinism()
    if task.one_thread_an_op:
        one_thread_an_op()
    strategy = make_strategy(config.train)
    precision = make_precision(config.train)
    keras.config.set_dtype_policy(precision)

    splits = task.source(config.data).splits(config.train.seed)
    _say("data", _describe(splits))
    if resuming and (run.assets / "preprocessor.json").exists():
        preprocessor = Preprocessor.load(run.assets)
    else:
        preprocessor = task.preprocessor(config.model, splits.train)
    augmentation = task.augmentation(config.data, preprocessor)
    keras.utils.set_random_seed(config.train.seed)
    with strategy.scope():
        model = task.model(config.model, preprocessor)
    objective = task.objective(config.train, preprocessor)
    _say("model", f"{type(model).__name__}, {model.count_params():,} parameters, {precision}")
    if not resuming:
        run.begin(config.plain)
        _say("run", f"{run.folder}  (watch it: tensorboard --logdir {run.logs})")
    else:
        _say("run", f"{run.folder}, after epoch {len(run.history())}")
    preprocessor.save(run.assets)
    _write_requests(run, splits)

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
        )
    seconds = sum(epoch["seconds"] for epoch in history)
    metrics = {
        "task": task.name,
        "parameters": model.count_params(),
        "train": {
            "seconds": round(seconds, 3),
            "examples_per_second": round(len(splits.train) * len(history) / max(seconds, 1e-9), 1),
            "epochs": len(history),
            "examples": len(splits.train),
            "skipped": splits.train.skipped,
        },
        "environment": environment(precision, strategy),
    }
    judged = {"validation": splits.validation, "test": splits.test}
    _judge(task, run, _load_model(run), preprocessor, objective, judged, metrics, config, history)
    if config.export.dir:
        _export(task, run, config, Path(config.export.dir))


def _judge(
    task: Task,
    run: Run,
    model: keras.Model,
    preprocessor: Preprocessor,
    objective: Objective,
    data: dict[str, AnyRecords | None],
    metrics: dict[str, Any],
    config: Config,
    history: list[dict],
) -> None:
    """Evaluates the best model on validation and test data, and writes what it found."""
    judged: Evaluation | None = None
    for split, records in data.items():
        if records is not None:
            judged = evaluate(model, preprocessor, records)
            metrics[split] = objective.assessment.metrics(judged.truth, judged.outputs)
            metrics[split] |= {"examples": len(records), "skipped": records.skipped}
            _say(split, _headline(metrics[split]))
            logs = run.logs / split
    run.write_metrics(metrics)
    if judged is None:
        write_report(run, metrics, history, {}, [], config.plain)
        return
    shown = len(judged.records)
    part = (judged.truth[:shown], judged.outputs[:shown], judged.records)
    more = task.pictures(model, preprocessor, *part)
    with tf.summary.create_file_writer(str(logs)).as_default():
        objective.assessment.summaries(*part, step=len(history))
        for name, figure in more.items():
            tf.summary.image(name, pixels(figure)[np.newaxis], step=len(history))
    _write_vectors(logs, model, preprocessor, judged)
    write_report(
        run,
        metrics,
        history,
        pictures=objective.assessment.pictures(judged.truth, judged.outputs) | more,
        mistakes=objective.assessment.mistakes(*part),
        config=config.plain,
    )
    _say("report", str(run.folder / "report.md"))


def _write_vectors(
    logs: Path,
    model: keras.Model,
    preprocessor: Preprocessor,
    judged: Evaluation,
    limit: int = 2000,
) -> None:
    """Shows what the model makes of the records in TensorBoard's projector."""
    records = judged.records.take(slice(0, limit))
    vectors = features(model, preprocessor, records)
    if vectors is None:
        return
    names = [name for name, column in records.columns.items() if column.dtype == object]
    texts = [[str(cell) for cell in records.columns[name]] for name in names]
    write_projector(logs, "features", vectors, list(zip(*texts, strict=True)), names)


def evaluate_run(task: Task, config: Config) -> None:
    """Evaluates a run's best model on new test data; metrics.json and report.md follow."""
    if config.data.test is None:
        raise UsageError("evaluate on what? Name the data with --data.test")
    run = Run.existing(config.run.dir)
    model, preprocessor = _load_model(run), Preprocessor.load(run.assets)
    records = task.source(config.data).read(config.data.test, labels=preprocessor.labels)
    objective = task.objective(config.train, preprocessor)
    metrics = run.metrics() | {"task": task.name, "parameters": model.count_params()}
    _judge(
        task, run, model, preprocessor, objective, {"test": records}, metrics, config, run.history()
    )


def predict(task: Task, config: Config, paths: list[str]) -> None:
    """Answers raw records, as the exported model would: one JSON object a line."""
    run = Run.existing(config.run.dir)
    serve = _signatures(task, run).functions()["serving_default"]
    names = serve.structured_input_signature[1]
    try:
        for records in task.source(config.data).requests(paths):
            inputs = {name: tf.constant(records.columns[name]) for name in names}
            files = records.columns.get("file")
            for index, answer in enumerate(_rows(serve(**inputs))):
                named = {"file": files[index]} if files is not None and files[index] else {}
                print(json.dumps(named | answer, ensure_ascii=False), flush=True)
    except BrokenPipeError:
        # Whoever read the answers has had enough; Python would fail to flush the rest at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def export_run(task: Task, config: Config) -> None:
    """Exports a run's best model for TensorFlow Serving."""
    if config.export.dir is None:
        raise UsageError(
            "export where? Name the model's folder with --export.dir saved_models/NAME"
        )
    _require_writable(Path(config.export.dir))
    _export(task, Run.existing(config.run.dir), config, Path(config.export.dir))


def _export(task: Task, run: Run, config: Config, folder: Path) -> Path:
    signatures = _signatures(task, run)
    functions = signatures.functions()
    requests = _read_requests(run)
    card = model_card(
        name=folder.name,
        task=task.name,
        base=config.model.origin,
        metrics=run.metrics(),
        config=run.options(),
        functions=functions,
        request=requests[0],
    )
    published = export(signatures, functions, folder=folder, requests=requests, card=card)
    _say("export", str(published))
    _show_served(published, requests[0])
    return published


def _show_served(published: Path, request: dict[str, np.ndarray]) -> None:
    """Answers one raw record from the exported SavedModel, and says how to serve it."""
    served = tf.saved_model.load(str(published)).signatures["serving_default"]
    answer = next(_rows(served(**{key: tf.constant(value) for key, value in request.items()})))
    raw = {key: _named(value[0]) for key, value in request.items()}
    short = {k: v for k, v in answer.items() if not isinstance(v, list)}
    _say("answer", f"{json.dumps(raw, ensure_ascii=False)} -> {json.dumps(short)}")
    model = published.parent
    print(
        "\nServe it with stock TensorFlow Serving (REST on 8501), then ask as "
        f"{published / 'model_card.md'} shows:\n"
        f"  docker run -p 8501:8501 -v {model.resolve()}:/models/{model.name} "
        f"-e MODEL_NAME={model.name} tensorflow/serving"
    )


def _signatures(task: Task, run: Run) -> Any:
    preprocessor = Preprocessor.load(run.assets)
    assets = sorted(run.assets.glob("*.txt"))  # labels.txt among them
    return task.signatures(_load_model(run), preprocessor, assets)


def _load_model(run: Run) -> keras.Model:
    if not run.best.exists():
        raise UsageError(f"{run.folder}: no finished epoch yet; train it first")
    try:
        return load_model(run.best)
    except (ValueError, OSError, KeyError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UsageError(f"{run.best}: can't be loaded ({reason}); train again") from None


def _write_requests(run: Run, splits: Splits, count: int = 32) -> None:
    """Keeps a few raw records, as TF Serving's JSON has them: real requests to prove exports by."""
    records = splits.test or splits.validation or splits.train
    names = [name for name in next(records.chunks(1)).columns if name != "label"]
    chunk = next(records.chunks(count))
    with atomic_write(run.assets / "requests.jsonl") as file:
        for row in zip(*(chunk.columns[name] for name in names), strict=True):
            cells = (
                {"b64": base64.b64encode(cell).decode()} if isinstance(cell, bytes) else cell
                for cell in row
            )
            record = dict(zip(names, cells, strict=True))
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def _read_requests(run: Run) -> list[dict[str, np.ndarray]]:
    requests = []
    for line in (run.assets / "requests.jsonl").read_text("utf-8").split("\n")[:-1]:
        record = {
            name: base64.b64decode(cell["b64"]) if isinstance(cell, dict) else cell
            for name, cell in json.loads(line).items()
        }
        requests.append({name: np.array([cell], object) for name, cell in record.items()})
    return requests


def _rows(outputs: dict[str, tf.Tensor]) -> Iterator[dict[str, Any]]:
    """A batch of named outputs as one dict of plain values a row."""
    arrays = {name: tensor.numpy() for name, tensor in outputs.items()}
    for index in range(len(next(iter(arrays.values())))):
        yield {name: _plain(array[index]) for name, array in arrays.items()}


def _named(value: Any) -> Any:
    """A value for people: bytes that are not text by their number."""
    try:
        return _plain(value.decode("utf-8") if isinstance(value, bytes) else value)
    except UnicodeDecodeError:
        return f"{len(value):,} bytes"


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value.tolist()]
    if isinstance(value, np.floating | float):
        return float(np.format_float_positional(np.float32(value), unique=True))
    return value.item() if isinstance(value, np.generic) else value


def _require_writable(folder: Path) -> None:
    """Fails before the work is done rather than after it."""
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise UsageError(f"--export.dir {folder}: {existing} can't be written to; name another")


def _describe(splits: Splits) -> str:
    parts = [("train", splits.train), ("validation", splits.validation), ("test", splits.test)]
    text = ", ".join(f"{len(records):,} {name}" for name, records in parts if records is not None)
    skipped = sum(records.skipped for _, records in parts if records is not None)
    return text + (f" ({skipped:,} bad rows skipped)" if skipped else "")


def _headline(metrics: dict[str, Any]) -> str:
    numbers = ((name, value) for name, value in metrics.items() if isinstance(value, float))
    return ", ".join(f"{name} {value:.4f}" for name, value in numbers)


def _say(what: str, text: str) -> None:
    print(f"{what:<11} {text}", flush=True)
