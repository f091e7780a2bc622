"""Publishing a SavedModel that the stock TensorFlow Serving image is certain to load and run.

    version = export(module, module.functions(), folder=Path("saved_models/banking77"),
                     requests=[{"text": np.array(["My card still has not arrived"])}], card=card)

The model is saved under a name that no server looks at, proven by `export_check`, and only then
renamed to the next free version number.
"""

import fcntl
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.types.experimental import ConcreteFunction

from tasks.engine.errors import ExportError
from tasks.engine.exporting.export_check import graph_problems, replay_problems
from tasks.engine.exporting.warmup import write_warmup
from tasks.engine.files import atomic_folder
from tasks.engine.quiet import quiet_tensorflow

MODEL_CARD = "model_card.md"


def export(
    module: tf.Module,
    signatures: Mapping[str, ConcreteFunction],
    *,
    folder: Path,
    requests: Sequence[Mapping[str, np.ndarray]],
    card: str,
    tolerance: float = 1e-4,
) -> Path:
    """Saves, proves and publishes a model.

    Args:
        module: Tracks what the signatures need: variables, tables, assets.
        signatures: The functions to serve by name, `serving_default` among them.
        folder: The model's folder, saved_models/NAME, that a server watches.
        requests: Real raw requests: the arguments of `serving_default` by name. Batches of their
            rows become the warmup requests of every signature, and the reloaded model must answer
            them as it does here.
        card: The model card in Markdown. It lies in the version's folder, and so is published,
            moved and deleted with the version; a server reads only the files that it knows.
        tolerance: How far a reloaded answer's floats may be off, relative and absolute.

    Returns:
        The published version, folder/N, where N is the next free integer.

    Raises:
        ExportError: the server could not load the model, or would answer otherwise than it does
            here. Nothing is left behind.
    """
    with _only_exporter(folder):
        version = folder / str(_next_version(folder))
        with atomic_folder(version) as unpublished:
            with quiet_tensorflow():
                tf.saved_model.save(module, str(unpublished), signatures=dict(signatures))
            write_warmup(unpublished, folder.resolve().name, signatures, requests)
            (unpublished / MODEL_CARD).write_text(card, encoding="utf-8")
            problems = graph_problems(unpublished)
            problems = problems or replay_problems(unpublished, signatures, tolerance)
            if problems:
                raise ExportError(f"{folder} was not exported: {'; '.join(problems)}")
    return version


def _next_version(folder: Path) -> int:
    names = (entry.name for entry in folder.iterdir())
    return 1 + max((int(name) for name in names if name.isascii() and name.isdigit()), default=0)


@contextmanager
def _only_exporter(folder: Path) -> Iterator[None]:
    """Makes the model's folder and locks it, so that the next version number is ours.

    The lock goes when its process does, however that ends. So whoever holds it knows that an
    unpublished version in the folder is what a killed export left.
    """
    created = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a network file system that cannot lock: leave remains alone
            fcntl.flock(handle, fcntl.LOCK_EX)
            _remove_remains(folder)
        yield
    finally:
        os.close(handle)
        if created:
            with suppress(OSError):  # not empty: the version was published
                folder.rmdir()


def _remove_remains(folder: Path) -> None:
    for entry in folder.iterdir():
        if re.fullmatch(r"\.\d+\.\w{8}", entry.name):  # as atomic_folder names a version
            shutil.rmtree(entry, ignore_errors=True)
