"""What a trained model's signatures answer, as plain values."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf


def rows_of(outputs: dict[str, tf.Tensor]) -> Iterator[dict[str, Any]]:
    """A batch of named outputs as one dict of plain values a row."""
    arrays = {name: tensor.numpy() for name, tensor in outputs.items()}
    for index in range(len(next(iter(arrays.values())))):
        yield {name: plain_value(array[index]) for name, array in arrays.items()}


def readable(value: Any) -> Any:
    """A value for people: bytes that are not text, and arrays, by their number."""
    if isinstance(value, np.ndarray) and value.size > 8:
        return f"{' x '.join(map(str, value.shape))} values"
    try:
        return plain_value(value.decode("utf-8") if isinstance(value, bytes) else value)
    except UnicodeDecodeError:
        return f"{len(value):,} bytes"


def plain_value(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.ndarray):
        return plain_value(value.tolist())
    if isinstance(value, list):
        return [plain_value(item) for item in value]
    if isinstance(value, np.floating | float):
        return float(np.format_float_positional(np.float32(value), unique=True))
    return value.item() if isinstance(value, np.generic) else value
