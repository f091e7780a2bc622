"""What the signatures of all tasks are made with."""

import shutil
import tempfile
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import tensorflow as tf
from tensorflow.types.experimental import ConcreteFunction

Record = dict[str, tf.Tensor]
Answers = Mapping[str, tuple[Callable[..., Record], Mapping[str, tf.TensorSpec]]]


def traced(answers: Answers, names: Collection[str] | None = None) -> dict[str, ConcreteFunction]:
    """Functions and what they take, by name, as a SavedModel's signatures: all, or some names'.

    Each looks at the shapes of its inputs before it does anything else.
    """
    return {
        name: tf.function(_checked(answer, specs), autograph=False).get_concrete_function(**specs)
        for name, (answer, specs) in answers.items()
        if names is None or name in names
    }


def _checked(
    answer: Callable[..., Record], specs: Mapping[str, tf.TensorSpec]
) -> Callable[..., Record]:
    """The answer to inputs of the shapes that are declared, with as many rows in each.

    A server feeds a graph whatever a client sends: only the type is looked at. Many ops believe
    what the graph was traced with, and give wrong answers to other shapes, or none at all.
    """
    batched = [name for name, spec in specs.items() if spec.shape.rank and spec.shape[0] is None]

    def checked(**record: tf.Tensor) -> Record:
        # What comes out of these ops is all that the rest of the graph sees.
        record = {name: tf.ensure_shape(record[name], specs[name].shape) for name in record}
        if len(batched) > 1:
            record |= _of_equal_rows({name: record[name] for name in batched})
        return answer(**record)

    return checked


def _of_equal_rows(batch: Record) -> Record:
    rows = {name: tf.shape(value)[0] for name, value in batch.items()}
    first, *others = rows.values()
    said = (part for name, count in rows.items() for part in (f"rows of {name}:", count))
    alike = tf.raw_ops.Assert(
        condition=tf.reduce_all(tf.equal(first, tf.stack(others))),
        data=["inputs must have as many rows as each other;", *said],
    )
    with tf.control_dependencies([alike]):
        return {name: tf.identity(value) for name, value in batch.items()}


def lines_asset(owner: object, name: str, lines: Sequence[str]) -> Path:
    """A file with one name a line, for people and clients to read; it lasts as long as `owner`."""
    folder = Path(tempfile.mkdtemp(prefix="assets-"))
    weakref.finalize(owner, shutil.rmtree, folder, ignore_errors=True)
    escapes = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r"})
    text = "".join(line.translate(escapes) + "\n" for line in lines)
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def parse_examples(serialized: tf.Tensor, inputs: Mapping[str, tf.TensorSpec]) -> Record:
    """Raw records from serialized `tf.train.Example`s; a missing feature is an error that names it.

    Args:
        serialized: string, [B].
        inputs: The raw inputs by name, of dtype string, int64 or float32 (or what casts from them),
            with all dimensions known but the batch and the one after it: numbers of unequal length
            are filled up with NaN.
    """
    features = {name: _feature(spec) for name, spec in inputs.items()}
    parsed = tf.io.parse_example(serialized, features)
    return {
        name: value if value.dtype == inputs[name].dtype else tf.cast(value, inputs[name].dtype)
        for name, value in parsed.items()
    }


def _feature(spec: tf.TensorSpec) -> tf.io.FixedLenFeature | tf.io.FixedLenSequenceFeature:
    wire = {tf.string: tf.string, tf.int32: tf.int64, tf.int64: tf.int64}
    dtype = wire.get(spec.dtype, tf.float32)
    if spec.shape[1:].is_fully_defined():
        return tf.io.FixedLenFeature(spec.shape[1:], dtype)
    fill = float("nan") if dtype == tf.float32 else None
    return tf.io.FixedLenSequenceFeature(spec.shape[2:], dtype, True, fill)
