"""What turns raw records into model inputs, in training and in serving alike.

A task's preprocessor is a `tf.Module` of TensorFlow ops. It works in two steps so that training can
keep the dear one: `encode` is computed once a record and cached, `collate` once a batch.
Calling the preprocessor does both, which is what an exported SavedModel does with a request.
"""

import hashlib
import importlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import tensorflow as tf

from data.cells import tidy
from data.errors import DataError

Encoded = dict[str, tf.RaggedTensor | tf.Tensor]
Inputs = dict[str, tf.Tensor]
Batch = tuple[Inputs, tf.Tensor] | tuple[Inputs, tf.Tensor, tf.Tensor]


# What a saved preprocessor is called, and where its class is: files may move, names stay. A class
# that is not listed, such as one of your own, is called MODULE:CLASS.
NAMES = {
    "bert_texts": "data.text.wordpiece:BertPreprocessor",
    "unigram_texts": "data.text.unigram:UnigramPreprocessor",
    "translation": "data.text.subwords:TranslationPreprocessor",
    "tokens": "data.text.sequences:TokenPreprocessor",
    "numbers": "data.text.sequences:NumberPreprocessor",
    "images": "data.images.preprocessor:ImagePreprocessor",
    "forecasting": "data.series.preprocessor:ForecastPreprocessor",
}
# What runs from before there were names have.
_FORMER = {
    "data.text:BertPreprocessor": "bert_texts",
    "data.subwords:TranslationPreprocessor": "translation",
    "data.sequences:TokenPreprocessor": "tokens",
    "data.sequences:NumberPreprocessor": "numbers",
    "data.images:ImagePreprocessor": "images",
    "data.forecasting:ForecastPreprocessor": "forecasting",
}


class Preprocessor(tf.Module):
    """Raw records in, model inputs out; subclasses answer the methods that raise here."""

    surveyed: ClassVar[int | None] = 0
    """How many records of a data set `data.survey` tallies; None for all of them."""

    def encode(self, record: Mapping[str, tf.Tensor]) -> Encoded:
        """A batch of raw records as tensors of the same first dimension, ragged ones unpadded."""
        raise NotImplementedError

    def lengths(self, encoded: Encoded) -> tf.Tensor | None:
        """Each record's length once collated, int32 (batch,), if records differ in length."""
        return None

    def longest(self) -> int | None:
        """The greatest length of a record once collated, if records differ in length."""
        return None

    def encoded_bytes(self) -> int | None:
        """What each record takes once encoded, in bytes, if all are of one shape."""
        return None

    def collate(self, encoded: Encoded, length: int | None = None) -> dict[str, tf.Tensor]:
        """Encoded records as one dense batch of model inputs.

        Args:
            encoded: what `encode` returned, or any rows of it.
            length: pad ragged rows to this length, for devices that want static shapes; by default
                to the longest row of the batch.
        """
        raise NotImplementedError

    def batch(self, encoded: Encoded, targets: tf.Tensor, length: int | None = None) -> Batch:
        """Encoded records and their `targets` as a model is trained and judged on them: model
        inputs, what it should answer, and weights, float32 (batch,), if records have them; `length`
        as in `collate`."""
        return self.collate(encoded, length), targets

    def targets(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """What the model should answer for these records."""
        raise NotImplementedError

    def tally(self, columns: Mapping[str, np.ndarray]) -> dict[str, int]:
        """What becomes of raw records, as counts that can be added up: how many are cut, and, as
        `data.survey` names them, their tokens and which of these are unknown."""
        return {}

    def warning(self, facts: Mapping[str, Any], records: int) -> str | None:
        """What is wrong with some data, and how to mend it, if `data.survey` found these facts of
        so many of its records."""
        return None

    def state(self) -> tuple[dict[str, Any], Mapping[str, Sequence[str] | bytes]]:
        """The constructor's plain arguments, and its word lists, which are kept as text files; a
        model that is its own word list is bytes, and named NAME_model."""
        raise NotImplementedError

    def with_labels(self, labels: Sequence[str]) -> Self:
        """The same for other classes."""
        arguments, word_lists = self.state()
        return type(self)(**{**arguments, **word_lists, "labels": labels})

    def __call__(self, record: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return self.collate(self.encode(record))

    def save(self, folder: Path) -> None:
        """Writes `preprocessor.json` and one file a word list, such as `vocabulary.txt` or, for a
        model called `source_model`, `source.model`."""
        folder.mkdir(parents=True, exist_ok=True)
        arguments, word_lists = self.state()
        description: dict[str, Any] = {
            "class": _name_of(type(self)),
            "arguments": arguments,
            "word_lists": [],
            "models": [],
        }
        for name, words in sorted(word_lists.items()):
            if isinstance(words, bytes):
                _write(_model_file(folder, name), words)
                description["models"].append(name)
            else:
                write_lines(folder / f"{name}.txt", words)
                description["word_lists"].append(name)
        _write(folder / "preprocessor.json", (json.dumps(description, indent=2) + "\n").encode())

    @classmethod
    def load(cls, folder: Path) -> Self:
        """The preprocessor that `save` wrote into `folder`."""
        try:
            description = json.loads((folder / "preprocessor.json").read_text("utf-8"))
            name = _FORMER.get(description["class"], description["class"])
            module, kind_name = NAMES.get(name, name).split(":")
            arguments = dict(description["arguments"])
            for words in description["word_lists"]:
                lines = (folder / f"{words}.txt").read_text("utf-8").split("\n")[:-1]
                arguments[words] = [_unescape(line) for line in lines]
            for name in description.get("models", ()):  # which older ones lack
                arguments[name] = _model_file(folder, name).read_bytes()
        except (OSError, KeyError, ValueError) as error:
            raise DataError(f"{folder}: not a saved preprocessor ({error}); train again") from None
        kind = getattr(importlib.import_module(module), kind_name)
        if not issubclass(kind, cls):
            raise DataError(f"{folder}: holds a {kind_name}, not a {cls.__name__}")
        return kind(**arguments)


def _name_of(kind: type) -> str:
    place = f"{kind.__module__}:{kind.__qualname__}"
    return next((name for name, where in NAMES.items() if where == place), place)


def raw_tensors(columns: Mapping[str, np.ndarray]) -> dict[str, tf.Tensor]:
    """Columns of records as a batch of raw records, as a SavedModel is sent them.

    Arrays of unequal length, such as sequences, are filled up with NaN to one shape.
    """
    return {
        name: tf.constant(filled_up(cells) if _unequal(cells) else cells)
        for name, cells in columns.items()
    }


def filled_up(sequences: Sequence[np.ndarray] | np.ndarray) -> np.ndarray:
    """Arrays (steps, features) as one, (batch, longest, features), with NaN after their ends."""
    longest = max(len(values) for values in sequences)
    whole = np.full((len(sequences), longest, *sequences[0].shape[1:]), np.nan, sequences[0].dtype)
    for row, values in zip(whole, sequences, strict=True):
        row[: len(values)] = values
    return whole


def _unequal(cells: np.ndarray) -> bool:
    return (
        cells.dtype == object
        and cells.ndim == 1
        and isinstance(next(iter(cells), None), np.ndarray)
    )


def encoded_or_refused(
    encode: Callable[[Mapping[str, tf.Tensor]], Encoded], columns: Mapping[str, np.ndarray]
) -> Encoded:
    """Raw records, encoded.

    Raises:
        DataError: TensorFlow refuses one of them, such as a picture that Pillow can read; it says
            which, by what it begins with, as records do not know where they are from.
    """
    record = raw_tensors(columns)
    try:
        return encode(record)
    except tf.errors.InvalidArgumentError as error:
        reason, which = reason_of(error), "one of them"
        for row in range(len(next(iter(columns.values())))):
            try:
                encode({name: cells[row : row + 1] for name, cells in record.items()})
            except tf.errors.InvalidArgumentError as own:
                reason = reason_of(own)
                which = ", ".join(f"{name} {_named(cells[row])}" for name, cells in columns.items())
                break
        raise DataError(
            f"TensorFlow can't encode a record ({which}): {reason}; leave it out, or save it again."
        ) from error


def _named(cell: Any) -> str:
    if isinstance(cell, bytes):
        return f"of {len(cell):,} bytes, MD5 {hashlib.md5(cell, usedforsecurity=False).hexdigest()}"
    return f"'{str(cell)[:40]}'"


def reason_of(error: tf.errors.OpError) -> str:
    """What TensorFlow says is wrong, on one line, without where in a graph it happened."""
    message = re.split(r"\n\t ?\[\[|\[Op:", str(error.message))[0]
    if message.startswith("Graph execution error"):
        message = re.split(r"\n\n|\nNode: \S+\n", message)[-1]
    message = re.sub(r"^(\{\{.*?\}\}|\d+ root error.*\n *\(0\) \w+:|\s)*", "", message)
    return " ".join(message.split())[:160]


def class_ids(labels: Sequence[str], values: np.ndarray) -> np.ndarray:
    """The position of each value in `labels`, int32."""
    # Labels of runs from before are as the files had them, with blanks around.
    positions = {tidy(label): index for index, label in enumerate(labels)}
    positions |= {label: index for index, label in enumerate(labels)}
    try:
        return np.fromiter((positions[value] for value in values), np.int32, len(values))
    except KeyError as error:
        known = ", ".join(labels[:10]) + (", ..." if len(labels) > 10 else "")
        raise DataError(
            f"label {error} is not one that the model knows ({known}); correct it or train with it"
        ) from None


def write_lines(path: Path, words: Sequence[str]) -> None:
    """Writes words, one a line, whatever is in them."""
    _write(path, "".join(f"{_escape(word)}\n" for word in words).encode())


def _model_file(folder: Path, name: str) -> Path:
    return folder / f"{name.removesuffix('_model')}.model"


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)


def _escape(word: str) -> str:
    """One line a word, whatever the word: labels may hold line breaks."""
    return word.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")


def _unescape(line: str) -> str:
    out, escaped = [], False
    for character in line:
        if escaped:
            out.append({"n": "\n", "r": "\r"}.get(character, character))
        elif character != "\\":
            out.append(character)
        escaped = character == "\\" and not escaped
    return "".join(out)
