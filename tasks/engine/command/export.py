"""The verb `export`: writes a trained run as a SavedModel for TensorFlow Serving."""

import json
import os
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from data.preprocessing import Preprocessor
from tasks.engine.console import say
from tasks.engine.errors import UsageError
from tasks.engine.exporting.answers import readable, rows_of
from tasks.engine.exporting.export import export
from tasks.engine.exporting.foreign import is_remote
from tasks.engine.exporting.model_card import model_card
from tasks.engine.exporting.stock_ops import STOCK_SERVER
from tasks.engine.exporting.warmup import input_specs
from tasks.engine.options import Config
from tasks.engine.requests import read_requests
from tasks.engine.run import Run
from tasks.engine.task import Task
from tasks.engine.trained import signatures_of


def do(task: Task, config: Config, options: Any) -> None:
    """Exports a run's best model for TensorFlow Serving."""
    if config.export.dir is None:
        raise UsageError(
            "export where? Name the model's folder with --export.dir saved_models/NAME"
        )
    require_writable(Path(config.export.dir))
    export_model(task, Run.existing(config.run.dir), config, Path(config.export.dir))


def export_model(task: Task, run: Run, config: Config, folder: Path) -> Path:
    """Publishes a run's best model as the next version in a folder, and shows how to serve it."""
    signatures = signatures_of(task, run, config)
    functions = signatures.functions()
    requests = read_requests(run, input_specs(functions["serving_default"]))
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
    say("export", str(published))
    _show_served(task, published, requests[0], Preprocessor.load(run.assets))
    return published


def _show_served(
    task: Task, published: Path, request: dict[str, np.ndarray], preprocessor: Preprocessor
) -> None:
    """Answers one raw record from the exported SavedModel, and says how to serve it."""
    served = tf.saved_model.load(str(published)).signatures["serving_default"]
    answer = next(rows_of(served(**{key: tf.constant(value) for key, value in request.items()})))
    raw = {key: readable(value[0]) for key, value in request.items()}
    short = task.rows(answer, preprocessor)[0]
    say("answer", f"{json.dumps(raw, ensure_ascii=False)} -> {json.dumps(short)}")
    print(
        "\nServe it here, with a playground at http://localhost:8501/, or with stock TensorFlow "
        f"Serving; then ask as {published / 'model_card.md'} shows:\n"
        + "\n".join(f"  {line}" for line in serving_lines(published.parent))
    )


def serving_lines(model: Path) -> list[str]:
    """Lines for a POSIX shell that serve the model in a folder."""
    name, mount = shlex.quote(model.name), f"{model.resolve()}:/models/{model.name}"
    return [
        f"python -m tasks.serve --model_name {name} --model_base_path {shlex.quote(str(model))}",
        f"docker run -p 8501:8501 -v {shlex.quote(mount)} -e MODEL_NAME={name} "
        f"tensorflow/serving:{STOCK_SERVER}.0",
    ]


def require_writable(folder: Path) -> None:
    """Fails before the work is done rather than after it."""
    if is_remote(folder):
        raise UsageError(
            f"--export.dir {folder}: remote storage is not written to; export into a folder, and "
            "copy the version to the storage from there"
        )
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK):
        raise UsageError(f"--export.dir {folder}: {existing} can't be written to; name another")
