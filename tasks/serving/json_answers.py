"""Tensors as the REST interface answers them, byte for byte.

    predictions_json({"scores": np.float32([[0.5, 1.0]])}, row_format=True)
    # {
    #     "predictions": [[0.5, 1.0]
    #     ]
    # }

Strings are bytes and go out as they are, whether UTF-8 or not. Of several outputs the stock server
writes first whatever its hash map has first; here the order is the mapping's.
"""

import base64
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from tensorflow_serving.apis import classification_pb2, regression_pb2

from tasks.protocol.errors import invalid_argument
from tasks.serving.rapidjson import decimal, quote


def predictions_json(outputs: Mapping[str, np.ndarray], row_format: bool) -> bytes:
    """The answer to a predict request.

    Raises:
        ServingError: an output cannot be written, or outputs don't share a first dimension where
            rows were asked for.
    """
    if not outputs:
        raise invalid_argument("Cannot convert empty tensor map to JSON")
    return _rows(outputs) if row_format else _columns(outputs)


def classifications_json(result: classification_pb2.ClassificationResult) -> bytes:
    """The answer to a classify request: label and score of each class, an example a list."""
    if not result.classifications:
        raise invalid_argument("Cannot convert empty ClassificationResults to JSON")
    examples = (
        _line(f"[{quote(each.label)}, {decimal(each.score, single=True)}]" for each in one.classes)
        for one in result.classifications
    )
    return _answer("results", f"[{', '.join(examples)}\n    ]")


def regressions_json(result: regression_pb2.RegressionResult) -> bytes:
    """The answer to a regress request: a number an example."""
    if not result.regressions:
        raise invalid_argument("Cannot convert empty RegressionResults to JSON")
    numbers = (decimal(each.value, single=True) for each in result.regressions)
    return _answer("results", _line(numbers))


def error_json(message: str) -> bytes:
    """The answer to a request that failed."""
    return _answer("error", quote(message))


_STEP = "    "
_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint32", "uint64")


def _answer(key: str, value: str) -> bytes:
    return f'{{\n{_STEP}"{key}": {value}\n}}'.encode("utf-8", "surrogateescape")


def _rows(outputs: Mapping[str, np.ndarray]) -> bytes:
    batch_size = -1
    for name, array in outputs.items():
        if array.ndim == 0:
            raise invalid_argument(f"Tensor name: {name} has no shape information ")
        if batch_size not in (-1, len(array)):
            raise invalid_argument(
                f"Tensor name: {name} has inconsistent batch size: {len(array)} "
                f"expecting: {batch_size}"
            )
        batch_size = len(array)
    if batch_size == 0:
        return _answer("predictions", "[]")
    named = len(outputs) > 1
    columns = [
        _grouped(_texts(name, array, depth=array.ndim + 1 + named), array.shape[1:], batch_size)
        for name, array in outputs.items()
    ]
    if not named:
        return _answer("predictions", f"[{', '.join(columns[0])}\n{_STEP}]")
    keys = [f"{_STEP * 3}{quote(name)}: " for name in outputs]
    rows = (
        ",\n".join(key + text for key, text in zip(keys, row, strict=True))
        for row in zip(*columns, strict=True)
    )
    objects = f",\n{_STEP * 2}".join(f"{{\n{row}\n{_STEP * 2}}}" for row in rows)
    return _answer("predictions", f"[\n{_STEP * 2}{objects}\n{_STEP}]")


def _columns(outputs: Mapping[str, np.ndarray]) -> bytes:
    named = len(outputs) > 1
    values = [_indented(name, array, depth=1 + named) for name, array in outputs.items()]
    if not named:
        return _answer("outputs", values[0])
    members = (
        f"{_STEP * 2}{quote(name)}: {value}" for name, value in zip(outputs, values, strict=True)
    )
    return _answer("outputs", "{\n" + ",\n".join(members) + f"\n{_STEP}}}")


def _line(texts: Iterable[str]) -> str:
    return f"[{', '.join(texts)}]"


def _grouped(texts: list[str], shape: tuple[int, ...], count: int) -> list[str]:
    """Values as `count` arrays of a shape, each on one line."""
    counts = [count]
    for size in shape:
        counts.append(counts[-1] * size)
    for size, arrays in zip(reversed(shape), reversed(counts[:-1]), strict=True):
        texts = [_line(texts[i * size : (i + 1) * size]) for i in range(arrays)]
    return texts


def _indented(name: str, array: np.ndarray, depth: int) -> str:
    """A tensor with a line for each value."""
    texts = _texts(name, array, depth + array.ndim)
    counts = [1]
    for size in array.shape:
        counts.append(counts[-1] * size)
    for axis in reversed(range(array.ndim)):
        size, outer = array.shape[axis], f"\n{_STEP * (depth + axis)}"
        inner = outer + _STEP
        texts = [
            f"[{inner}{f',{inner}'.join(texts[i * size : (i + 1) * size])}{outer}]"
            if size
            else "[]"
            for i in range(counts[axis])
        ]
    return texts[0]


def _texts(name: str, array: np.ndarray, depth: int) -> list[str]:
    """Each value of an output, `depth` levels deep, in row-major order."""
    flat = array.ravel()
    if array.dtype in (np.float32, np.float64):
        return _decimals(flat)
    if array.dtype.name in _INTEGERS:
        return list(map(str, flat.tolist()))
    if array.dtype == np.bool_:
        return ["true" if value else "false" for value in flat.tolist()]
    if array.dtype.kind in "OSU":
        if name.endswith("_bytes"):
            return [_base64(value, depth) for value in flat.tolist()]
        return [quote(_text(value)) for value in flat.tolist()]
    if not array.size:
        return []
    kind = {"float16": "half"}.get(array.dtype.name, array.dtype.name)
    raise invalid_argument(f"Failed to write JSON value for tensor type: {kind}")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "surrogateescape")


def _base64(value: Any, depth: int) -> str:
    data = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
    inner = f'"b64": "{base64.b64encode(data).decode()}"'
    return f"{{\n{_STEP * (depth + 1)}{inner}\n{_STEP * depth}}}"


def _decimals(values: np.ndarray) -> list[str]:
    """What `decimal` gives for each, at a third of its time where most need all their digits."""
    single = values.dtype == np.float32
    texts = list(map(("%.9g" if single else "%.17g").__mod__, values.tolist()))
    for index in np.flatnonzero(~_is_long(values)).tolist():
        texts[index] = decimal(float(values[index]), single)
    return texts


def _is_long(values: np.ndarray) -> np.ndarray:
    """Whether a number surely has a fraction, and more digits than six.

    Six digits do if they are within half a unit in the last place. That is taken with a margin for
    errors in computing it; numbers too small to have all their bits do not count as long.
    """
    single = values.dtype == np.float32
    with np.errstate(all="ignore"):
        size = np.abs(values.astype(np.float64))
        step = 10.0 ** (np.floor(np.log10(size)) - 5)
        error = np.abs(np.rint(size / step) * step - size) / size
        fraction = size != np.rint(size)
    least = np.finfo(values.dtype).tiny * 1e6
    return fraction & (size > least) & (error > (6.1e-8 if single else 1e-14))
