"""JSON values as numpy arrays, with the checks and messages of TensorFlow Serving.

    to_array([["good"], [{"b64": "YmFk"}]], types_pb2.DT_STRING)

A list is converted a whole tensor at a time. When that finds anything amiss, the list is walked in
the stock server's order instead, so that the first error it would meet is what is told.
"""

import binascii
import re
from itertools import chain
from typing import Any

import numpy as np
from tensorflow.core.framework import types_pb2

from tasks.protocol.errors import Code, ServingError, invalid_argument
from tasks.serving import rapidjson


def to_array(value: Any, dtype: int) -> np.ndarray:
    """A list, or a single value, as an array."""
    array = fast_array(value, dtype) if isinstance(value, list) else None
    if array is None:
        tensor = Tensor(dtype)
        tensor.add(value)
        array = tensor.array(tensor.shape)
    return array


def fast_array(values: list[Any], dtype: int) -> np.ndarray | None:
    """A list as an array, or None for a list that has to be walked."""
    flat, shape = values, [len(values)]
    while flat and type(flat[0]) is list:
        if set(map(type, flat)) != {list} or len(lengths := set(map(len, flat))) > 1:
            return None
        shape += lengths
        flat = list(chain.from_iterable(flat))
    if len(shape) > 64:
        return None
    types = set(map(type, flat))
    if dtype in _LIMITS and types <= {float, int}:
        array = _float_array(flat, dtype, int in types)
    elif dtype in _RANGES and types <= {int}:
        array = _int_array(flat, dtype)
    elif dtype == types_pb2.DT_STRING and types <= {str, dict}:
        array = _string_array(flat)
    elif dtype == types_pb2.DT_BOOL and types <= {bool}:
        array = np.array(flat, np.bool_)
    else:
        return None
    return None if array is None else array.reshape(shape)


class Tensor:
    """A tensor that is filled value by value, in the order and with the checks of the source."""

    def __init__(self, dtype: int) -> None:
        self.dtype = dtype
        self.values: list[Any] = []
        self.shape: list[int] = []  # of what was added last

    def add(self, value: Any) -> int:
        """Appends the values in a (nested) list, or a single one; returns their number."""
        self.shape, inner = [], value
        while isinstance(inner, list):
            self.shape.append(len(inner))
            inner = inner[0] if inner else None
        before = len(self.values)
        self._fill(value, 0)
        return len(self.values) - before

    def array(self, shape: list[int]) -> np.ndarray:
        """The values in a shape; what a repeated key added beyond it is left out."""
        if len(shape) > 64:
            raise invalid_argument("tensor parsing error: more than 64 dimensions")
        count = 1
        for size in shape:
            count *= size
        array = np.empty(count, _NUMPY.get(self.dtype, object))
        if self.dtype in _RANGES and self.dtype != types_pb2.DT_UINT64:
            array[:] = np.array(self.values[:count], np.int64).astype(array.dtype)
        else:
            for index, value in enumerate(self.values[:count]):
                array[index] = value
        return array.reshape(shape)

    def _fill(self, value: Any, level: int) -> None:
        rank = len(self.shape)
        if not isinstance(value, list):
            if level != rank:
                raise invalid_argument(
                    f"JSON Value: {rapidjson.to_text(value)} found at incorrect level: "
                    f"{level + 1} in the JSON DOM. Expected at level: {rank}"
                )
            self.values.append(_leaf(value, self.dtype))
            return
        if level >= rank:
            raise invalid_argument(
                f"Encountered list at unexpected level: {level} expected < {rank}"
            )
        if len(value) != self.shape[level]:
            raise invalid_argument(
                f"Encountered list at unexpected size: {len(value)} at level: {level} "
                f"expected size: {self.shape[level]}"
            )
        for inner in value:
            self._fill(inner, level + 1)


def is_named(value: Any) -> bool:
    """Whether a value is an object of names and values, not a single string in base64."""
    return isinstance(value, dict) and not is_base64(value)


def is_base64(value: Any) -> bool:
    """Whether a value is an object that stands for a string: `b64` is its only key, given once."""
    return type(value) is dict and len(value) == 1 and isinstance(value.get("b64"), str)


def decode_base64(value: dict[str, Any]) -> bytes:
    """The string that such an object stands for."""
    decoded = _base64_decoded(value["b64"])
    if decoded is None:
        raise invalid_argument("Unable to base64 decode")
    return decoded


def to_bytes(text: str) -> bytes:
    """A parsed string as the bytes that it was in the body."""
    return text.encode("utf-8", "surrogateescape")


def is_lossy(value: float, dtype: int) -> bool:
    """Whether a float or double input refuses a number."""
    most_integer, most = _LIMITS[dtype]
    if rapidjson.is_integer(value):
        return abs(value) > most_integer
    value = float(value)
    return most < abs(value) < float("inf")


def lossy_error(value: Any, target: str) -> ServingError:
    """What is told then."""
    shown = rapidjson.to_text(value)
    return invalid_argument(
        f"Cannot convert JSON value: {shown} to {target} without loss of precision."
    )


def format_error(value: Any, problem: str) -> ServingError:
    """An error that quotes the value it is about."""
    return invalid_argument(f"JSON Value: {rapidjson.to_text(value)} {problem}")


# Integers that an input takes. The types below 32 bits are not checked: their values wrap.
_RANGES = {
    types_pb2.DT_INT64: (-(2**63), 2**63 - 1),
    types_pb2.DT_UINT32: (0, 2**32 - 1),
    types_pb2.DT_UINT64: (0, 2**64 - 1),
} | dict.fromkeys(
    [types_pb2.DT_INT32, types_pb2.DT_INT16, types_pb2.DT_INT8, types_pb2.DT_UINT8],
    (-(2**31), 2**31 - 1),
)

# The largest integer, and the largest number, that an input takes.
_LIMITS = {
    types_pb2.DT_FLOAT: (2**24 - 1, float(np.finfo(np.float32).max)),
    types_pb2.DT_DOUBLE: (2**53 - 1, float(np.finfo(np.float64).max)),
}

_NUMPY: dict[int, Any] = {
    types_pb2.DT_FLOAT: np.float32,
    types_pb2.DT_DOUBLE: np.float64,
    types_pb2.DT_INT64: np.int64,
    types_pb2.DT_INT32: np.int32,
    types_pb2.DT_INT16: np.int16,
    types_pb2.DT_INT8: np.int8,
    types_pb2.DT_UINT64: np.uint64,
    types_pb2.DT_UINT32: np.uint32,
    types_pb2.DT_UINT8: np.uint8,
    types_pb2.DT_BOOL: np.bool_,
    types_pb2.DT_HALF: np.float16,  # only ever without values, as are the types not named here
}

_BASE64 = re.compile(rb"([A-Za-z0-9+/]*)([=.]*)")


def _float_array(flat: list[Any], dtype: int, has_integers: bool) -> np.ndarray | None:
    array = np.array(flat, np.float64)
    limit = _LIMITS[dtype][0 if has_integers else 1]
    if not has_integers and dtype == types_pb2.DT_DOUBLE:
        return array
    magnitudes = np.abs(array)
    if ((magnitudes > limit) & (magnitudes < np.inf)).any():
        return None
    return array.astype(_NUMPY[dtype])


def _int_array(flat: list[int], dtype: int) -> np.ndarray | None:
    least, most = _RANGES[dtype]
    if flat and (min(flat) < least or max(flat) > most):
        return None
    wide = np.uint64 if dtype == types_pb2.DT_UINT64 else np.int64
    return np.array(flat, wide).astype(_NUMPY[dtype])


def _string_array(flat: list[Any]) -> np.ndarray | None:
    array = np.empty(len(flat), object)
    for index, value in enumerate(flat):
        if type(value) is str:
            array[index] = to_bytes(value)
        elif not is_base64(value) or (decoded := _base64_decoded(value["b64"])) is None:
            return None
        else:
            array[index] = decoded
    return array


def _base64_decoded(text: str) -> bytes | None:
    """As Abseil decodes it: white space anywhere, and no padding, all of it, or dots."""
    data = to_bytes(text)
    if len(data) % 4 == 0 and not data.endswith(b"==="):
        try:
            return binascii.a2b_base64(data, strict_mode=True)
        except binascii.Error:
            pass
    match = _BASE64.fullmatch(data) or _BASE64.fullmatch(b"".join(data.split()))
    if not match:
        return None
    digits, padding = match.groups()
    missing = -len(digits) % 4
    if missing == 3 or len(padding) not in (0, missing):
        return None
    return binascii.a2b_base64(digits + b"=" * missing)


def _leaf(value: Any, dtype: int) -> Any:
    """A single value of a tensor."""
    if isinstance(value, dict):
        if dtype != types_pb2.DT_STRING:
            raise _type_error(value, dtype)
        if not is_base64(value):
            raise format_error(value, "not formatted correctly for base64 data")
        return decode_base64(value)
    kind = type(value)
    if dtype in _LIMITS:
        if kind not in (int, float):
            raise _type_error(value, dtype)
        name = _dtype_name(dtype)
        if is_lossy(value, dtype):
            raise lossy_error(value, name)
        return float(value)
    if dtype in _RANGES:
        least, most = _RANGES[dtype]
        good = kind is int and least <= value <= most
    elif dtype == types_pb2.DT_STRING:
        good = kind is str
    elif dtype == types_pb2.DT_BOOL:
        good = kind is bool
    else:
        raise ServingError(
            Code.UNIMPLEMENTED,
            f"Conversion of JSON Value: {rapidjson.to_text(value)} to type: {_dtype_name(dtype)}",
        )
    if not good:
        raise _type_error(value, dtype)
    return to_bytes(value) if kind is str else value


def _type_error(value: Any, dtype: int) -> ServingError:
    kind = rapidjson.type_name(value)
    return format_error(value, f"Type: {kind} is not of expected type: {_dtype_name(dtype)}")


def _dtype_name(dtype: int) -> str:
    return types_pb2.DataType.Name(dtype).removeprefix("DT_").lower()  # type: ignore[arg-type]
