"""What the verbs of a task's command line do: train, evaluate, predict, export."""

import base64
import csv
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from data.preprocessing import Preprocessor, raw_tensors
from data.records import cell_text
from data.tables import Records, Splits
from tasks.engine.ballot import Ballot
from tasks.engine.distribution import (
    has_workers,
    is_chief,
    make_precision,
    make_strategy,
    missing_workers,
    one_thread_an_op,
    wait_for_all,
)
from tasks.engine.errors import UsageError, one_line
from tasks.engine.evaluation import Evaluation, environment, evaluate, features
from tasks.engine.export import export
from tasks.engine.files import atomic_write, remove_remains
from tasks.engine.model_card import model_card
from tasks.engine.options import Config, Train
from tasks.engine.pictures import pixels
from tasks.engine.report import write_report
from tasks.engine.run import Run
from tasks.engine.spent import advice, described, spent
from tasks.engine.stock_ops import STOCK_SERVER
from tasks.engine.task import Objective, Task
from tasks.engine.tensorboard import write_projector
from tasks.engine.training import AnyRecords, fit
from tasks.engine.warmup import input_specs
from zoo.saving import load_model

_ANSWERS = ("label", "target", "reference", "weight")  # columns that requests have not


def train(task: Task, config: Config) -> None:
    """Trains (or resumes), evaluates, and exports when an export folder is given."""
    run = Run.named(config.run.dir, task.name)
    resuming = run.resumable(config.plain, config.defaults)
    if config.export.dir:
        _require_writable(Path(config.export.dir))
    if config.train.freeze_epochs and not config.model.start:
        raise UsageError(
            f"--train.freeze_epochs {config.train.freeze_epochs}: there is nothing to keep, the "
            "model starts from random weights; give a pretrained --model.preset"
        )
    if config.train.deterministic:
        tf.config.experimental.enable_op_determinism()
    for name, why in task.without.items():
        if getattr(config.train, name) != getattr(Train(), name):
            raise UsageError(f"--train.{name} {getattr(config.train, name)}: {why}; leave it out")
    if task.one_thread_an_op(config.model):
        one_thread_an_op()
    strategy = make_strategy(config.train)
    if not is_chief(strategy):
        # What all would say, one says.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        run = run.scratch()
    else:
        remove_remains(run.folder)
    with missing_workers(strategy):
        wait_for_all(strategy)
    precision = make_precision(config.train)
    keras.config.set_dtype_policy(precision)

    source = task.source(config.data, config.model)
    splits = source.splits(config.train.seed)
    _say("data", _describe(splits))
    if facts := splits.train.facts:
        _say("", ", ".join(f"{name} {value}" for name, value in facts.items()))
    folds = source.folds(splits)
    with missing_workers(strategy):
        part = _train_part(task, config, run, splits, strategy, resuming)
        backtest = _backtest(task, config, run, folds, strategy) if folds else None
    if not is_chief(strategy):
        return
    metrics = {
        "task": task.name,
        "parameters": part.parameters,
        "train": part.figures,
        "data": part.facts,
        "environment": environment(precision, strategy),
    }
    if backtest:
        metrics["backtest"] = backtest
    judged = {"validation": splits.validation, "test": splits.test}
    _judge(task, run, part, judged, metrics, config, run.history())
    if config.export.dir:
        _export(task, run, config, Path(config.export.dir))


@dataclass(frozen=True)
class _Trained:
    """What is needed of a finished training to judge it."""

    model: keras.Model
    preprocessor: Preprocessor
    objective: Objective
    parameters: int
    figures: dict[str, Any]
    facts: dict[str, Any]  # about the training data


def _train_part(
    task: Task,
    config: Config,
    run: Run,
    splits: Splits,
    strategy: tf.distribute.Strategy,
    resuming: bool,
) -> _Trained:
    """Trains the model and its baselines in a run folder, or goes on with it."""
    # Before there is a preprocessor: TensorFlow then drops its kernels, and SentencePiece's with
    # them the vocabularies that they hold.
    keras.utils.set_random_seed(config.train.seed)
    if resuming and (run.assets / "preprocessor.json").exists():
        preprocessor = Preprocessor.load(run.assets)
    else:
        preprocessor = task.preprocessor(config.model, splits.train, config.data)
    known = splits.train.facts
    splits = task.fitted(splits, preprocessor, config.data)
    if facts := {name: value for name, value in splits.train.facts.items() if name not in known}:
        _say("", ", ".join(f"{name} {value}" for name, value in facts.items()))
    augmentation = task.augmentation(config.data, preprocessor)
    with strategy.scope():
        model = task.model(config.model, preprocessor)
        baselines = task.baselines(config.model, preprocessor)
        objective = task.objective(config.train, preprocessor)
    plain = type(model).__name__ == "Functional"
    kind = model.name.capitalize() if plain else type(model).__name__
    policy = keras.config.dtype_policy().name
    _say("model", f"{kind}, {model.count_params():,} parameters, {policy}")
    if not resuming:
        run.begin(config.plain)
        _say("run", f"{run.folder}  (watch it: tensorboard --logdir {run.logs})")
    else:
        _say("run", f"{run.folder}, after epoch {len(run.history())}")
    preprocessor.save(run.assets)
    _write_requests(run, splits)

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
            _say("baseline", f"{name}, {baseline.count_params():,} parameters")
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
    _say("time", described(seconds))
    if what := advice(seconds, splits.train):
        _say("", what)
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
    facts = splits.train.facts
    return _Trained(_load_model(run), preprocessor, objective, parameters, figures, facts)


def _backtest(
    task: Task, config: Config, run: Run, folds: Sequence[Splits], strategy: tf.distribute.Strategy
) -> dict[str, Any]:
    """Trains and tests anew on each fold, in a run folder of its own; a finished fold is kept."""
    tested = []
    for number, splits in enumerate(folds, 1):
        own = run.fold(number)
        metrics = own.metrics()
        if not metrics:
            _say("fold", f"{number} of {len(folds)}: {_describe(splits)}")
            resuming = own.resumable(config.plain, config.defaults)
            part = _train_part(task, config, own, splits, strategy, resuming)
            metrics = {"task": task.name, "parameters": part.parameters, "train": part.figures}
            _judge(task, own, part, {"test": splits.test}, metrics, config, own.history())
        tested.append(metrics["test"])
    names = [name for name, value in tested[0].items() if isinstance(value, float)]
    figures = {name: [fold[name] for fold in tested] for name in names}
    return {
        "folds": [{name: fold[name] for name in ("examples", *names)} for fold in tested],
        "mean": {name: float(np.mean(values)) for name, values in figures.items()},
        "deviation": {name: float(np.std(values)) for name, values in figures.items()},
    }


def _judge(
    task: Task,
    run: Run,
    trained: _Trained,
    data: dict[str, AnyRecords | None],
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
                name: evaluate(_load_model(run.baseline(name)), preprocessor, records).outputs
                for name in run.baselines()
            }
            metrics[split] = assessment.metrics(
                judged.truth, judged.outputs, judged.records, baselines
            )
            metrics[split] |= {"examples": len(records), "skipped": records.skipped}
            if config.decode:
                metrics[split]["decode"] = asdict(config.decode)
            _say(split, _headline(metrics[split]))
            if "baselines" in metrics[split]:
                _say("", _compared(metrics[split]["baselines"], trained.objective.monitor))
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
    if not isinstance(records, Records):  # windows of series have no text to be found by
        return
    vectors = features(model, preprocessor, records)
    if vectors is None:
        return
    names = [name for name, column in records.columns.items() if column.dtype == object]
    texts = [[cell_text(cell) for cell in records.columns[name]] for name in names]
    write_projector(logs, "features", vectors, list(zip(*texts, strict=True)), names)


def evaluate_run(task: Task, config: Config) -> None:
    """Evaluates a run's best model on new test data; metrics.json and report.md follow."""
    if config.data.test is None:
        raise UsageError("evaluate on what? Name the data with --data.test")
    run = Run.existing(config.run.dir)
    model, preprocessor = _load_model(run), Preprocessor.load(run.assets)
    source = task.source(config.data, config.model)
    records = source.read(config.data.test, preprocessor)
    objective = task.objective(config.train, preprocessor)
    trained = _Trained(model, preprocessor, objective, model.count_params(), {}, {})
    metrics = run.metrics() | {"task": task.name, "parameters": trained.parameters}
    _judge(task, run, trained, {"test": records}, metrics, config, run.history())


def predict(task: Task, config: Config, paths: list[str] | None, output: str | None = None) -> None:
    """Answers raw records, as the exported model would: one JSON object a line, or a table."""
    run = Run.existing(config.run.dir)
    preprocessor = Preprocessor.load(run.assets)
    answers = _answers(task, config, run, preprocessor, paths)
    if output is None:
        try:
            for answer in answers:
                print(_json_line(answer), flush=True)
        except BrokenPipeError:
            # Whoever read the answers has had enough; Python would fail to flush the rest at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    with atomic_write(Path(output)) as file:
        if not output.endswith(".csv"):
            file.writelines(_json_line(answer) + "\n" for answer in answers)
            return
        rows = [row for answer in answers for row in task.rows(answer, preprocessor)]
        table = csv.DictWriter(file, dict.fromkeys(chain.from_iterable(rows)), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def _answers(
    task: Task, config: Config, run: Run, preprocessor: Preprocessor, paths: list[str] | None
) -> Iterator[dict[str, Any]]:
    """Each record's answer, after what it repeats of the record."""
    serve = _signatures(task, run, config).functions(["serving_default"])["serving_default"]
    names = serve.structured_input_signature[1]
    for records in task.source(config.data, config.model).requests(paths, preprocessor):
        columns = records.columns
        inputs = raw_tensors({name: columns[name] for name in names})
        echoed = [name for name in task.echoed if name in columns and name not in names]
        for index, answer in enumerate(_rows(serve(**inputs))):
            yield {name: columns[name][index] for name in echoed if columns[name][index]} | answer


def _json_line(answer: dict[str, Any]) -> str:
    return json.dumps(answer, ensure_ascii=False)


def export_run(task: Task, config: Config) -> None:
    """Exports a run's best model for TensorFlow Serving."""
    if config.export.dir is None:
        raise UsageError(
            "export where? Name the model's folder with --export.dir saved_models/NAME"
        )
    _require_writable(Path(config.export.dir))
    _export(task, Run.existing(config.run.dir), config, Path(config.export.dir))


def _export(task: Task, run: Run, config: Config, folder: Path) -> Path:
    signatures = _signatures(task, run, config)
    functions = signatures.functions()
    requests = _read_requests(run, input_specs(functions["serving_default"]))
    card = model_card(
        name=folder.name,
        task=task.name,
        base=config.model.origin,
        metrics=run.metrics(),
        config=run.options() | {"decode": config.plain["decode"]}
        if config.decode
        else run.options(),
        functions=functions,
        request=requests[0],
    )
    published = export(signatures, functions, folder=folder, requests=requests, card=card)
    _say("export", str(published))
    _show_served(task, published, requests[0], Preprocessor.load(run.assets))
    return published


def _show_served(
    task: Task, published: Path, request: dict[str, np.ndarray], preprocessor: Preprocessor
) -> None:
    """Answers one raw record from the exported SavedModel, and says how to serve it."""
    served = tf.saved_model.load(str(published)).signatures["serving_default"]
    answer = next(_rows(served(**{key: tf.constant(value) for key, value in request.items()})))
    raw = {key: _named(value[0]) for key, value in request.items()}
    short = task.rows(answer, preprocessor)[0]
    _say("answer", f"{json.dumps(raw, ensure_ascii=False)} -> {json.dumps(short)}")
    model = published.parent
    print(
        "\nServe it here, with a playground at http://localhost:8501/, or with stock TensorFlow "
        f"Serving; then ask as {published / 'model_card.md'} shows:\n"
        f"  python -m tasks.serve --model_name {model.name} --model_base_path {model}\n"
        f"  docker run -p 8501:8501 -v {model.resolve()}:/models/{model.name} "
        f"-e MODEL_NAME={model.name} tensorflow/serving:{STOCK_SERVER}.0"
    )


def _signatures(task: Task, run: Run, config: Config) -> Any:
    preprocessor = Preprocessor.load(run.assets)
    assets = sorted(run.assets.glob("*.txt"))  # labels.txt among them
    return task.signatures(_load_model(run), preprocessor, assets, config)


def _load_model(run: Run) -> keras.Model:
    if not run.best.exists():
        raise UsageError(f"{run.folder}: no finished epoch yet; train it first")
    try:
        return load_model(run.best)
    except (ValueError, OSError, KeyError) as error:
        reason = one_line(error, 200)
        raise UsageError(f"{run.best}: can't be loaded ({reason}); train again") from None


def _write_requests(run: Run, splits: Splits, count: int = 32) -> None:
    """Keeps a few raw records, as TF Serving's JSON has them: real requests to prove exports by."""
    records = splits.test or splits.validation or splits.train
    names = [name for name in next(records.chunks(1)).columns if name not in _ANSWERS]
    chunk = next(records.chunks(count))
    with atomic_write(run.assets / "requests.jsonl") as file:
        for row in zip(*(chunk.columns[name] for name in names), strict=True):
            record = dict(zip(names, map(_json_cell, row), strict=True))
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def _read_requests(run: Run, specs: Mapping[str, tf.TensorSpec]) -> list[dict[str, np.ndarray]]:
    """The kept records, with the inputs that a signature has, each as a batch of one."""
    lines = (run.assets / "requests.jsonl").read_text("utf-8").split("\n")[:-1]
    return [
        {
            name: _request_cell(cell, specs[name])
            for name, cell in json.loads(line).items()
            if name in specs
        }
        for line in lines
    ]


def _json_cell(cell: Any) -> Any:
    if isinstance(cell, bytes):
        return {"b64": base64.b64encode(cell).decode()}
    return cell.tolist() if isinstance(cell, np.ndarray | np.generic) else cell


def _request_cell(cell: Any, spec: tf.TensorSpec) -> np.ndarray:
    if isinstance(cell, dict):
        cell = base64.b64decode(cell["b64"])
    return np.array([cell], object if spec.dtype == tf.string else spec.dtype.as_numpy_dtype)


def _rows(outputs: dict[str, tf.Tensor]) -> Iterator[dict[str, Any]]:
    """A batch of named outputs as one dict of plain values a row."""
    arrays = {name: tensor.numpy() for name, tensor in outputs.items()}
    for index in range(len(next(iter(arrays.values())))):
        yield {name: _plain(array[index]) for name, array in arrays.items()}


def _named(value: Any) -> Any:
    """A value for people: bytes that are not text, and arrays, by their number."""
    if isinstance(value, np.ndarray) and value.size > 8:
        return f"{' x '.join(map(str, value.shape))} values"
    try:
        return _plain(value.decode("utf-8") if isinstance(value, bytes) else value)
    except UnicodeDecodeError:
        return f"{len(value):,} bytes"


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list):
        return [_plain(item) for item in value]
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


def _compared(baselines: Mapping[str, Mapping[str, float]], monitor: str) -> str:
    values = (f"{name.replace('_', ' ')} {own[monitor]:.4f}" for name, own in baselines.items())
    return f"baselines' {monitor}: {', '.join(values)}"


def _say(what: str, text: str) -> None:
    print(f"{what:<11} {text}", flush=True)
