"""Between `TensorProto`, which gRPC carries, and numpy, which a session takes and gives."""

import math
from itertools import accumulate, pairwise

import ml_dtypes
import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2

Arrays = dict[str, np.ndarray]

# The field of TensorProto that holds the values of a type, and the type that they have in it.
_FIELDS: dict[tf.DType, tuple[str, type]] = {
    tf.float32: ("float_val", np.float32),
    tf.float64: ("double_val", np.float64),
    tf.int64: ("int64_val", np.int64),
    tf.uint64: ("uint64_val", np.uint64),
    tf.uint32: ("uint32_val", np.uint32),
    tf.bool: ("bool_val", np.bool_),
    tf.half: ("half_val", np.uint16),
    tf.bfloat16: ("half_val", np.uint16),
    tf.complex64: ("scomplex_val", np.complex64),
    tf.complex128: ("dcomplex_val", np.complex128),
}
_FIELDS |= dict.fromkeys([tf.int32, tf.int16, tf.int8, tf.uint16, tf.uint8], ("int_val", np.int32))

_FIELD_NAMES = {dtype.as_datatype_enum: field for dtype, (field, _) in _FIELDS.items()}

_MOST_BYTES = 2**31 - 1
_MOST_DIMS = 254  # that TensorFlow can have

# A proto of a few bytes may claim a shape of many: one value stands for all. This much is believed;
# the stock server believes it all, and can be killed with it.
_MOST_FILLED = 2**26

# Values that are on the way into a proto at once: as Python objects, they take more space there.
_AT_ONCE = 2**16


def to_array(proto: tensor_pb2.TensorProto) -> np.ndarray:
    """The values of a proto, strings as an object array of bytes.

    Raises:
        ValueError: the proto contradicts itself: values that don't fill the shape, no such type.
    """
    if len(proto.tensor_shape.dim) > _MOST_DIMS:
        raise ValueError("too many dimensions")
    shape = [dim.size for dim in proto.tensor_shape.dim]
    try:
        dtype = tf.as_dtype(proto.dtype)
    except TypeError:
        raise ValueError(f"no type {proto.dtype}") from None
    if any(size < 0 for size in shape):  # as TensorFlow does, unknown_rank is not looked at
        raise ValueError("the shape is not known")
    count = 1
    for size in shape:  # Python's integers do not overflow, as numpy's would
        count *= size
    if count * max(dtype.size or 8, 1) > _MOST_BYTES:
        raise ValueError(f"{count} values are too many")
    content_counts = bool(proto.tensor_content and count)
    if dtype == tf.string:
        strings = proto.string_val
        if content_counts:
            strings = _strings(proto.tensor_content, count)
        return _filled(np.array([*strings, b""], object)[:-1], count, shape)
    if dtype not in _FIELDS:
        raise ValueError(f"no values of type {dtype.name}")
    numpy_dtype = dtype.as_numpy_dtype
    if content_counts:
        content = np.frombuffer(proto.tensor_content, numpy_dtype)
        if len(content) != count:
            raise ValueError(f"{len(content)} values for {count}")
        return content.reshape(shape).copy()
    field, stored = _FIELDS[dtype]
    if field == "half_val":
        bits = np.array(proto.half_val, np.int64).astype(np.uint16)
        return _filled(bits.view(numpy_dtype), count, shape)
    if field in ("scomplex_val", "dcomplex_val"):
        parts = np.array(getattr(proto, field), np.float64)
        return _filled((parts[0::2] + 1j * parts[1::2]).astype(numpy_dtype), count, shape)
    values: np.ndarray = np.array(getattr(proto, field), stored)
    return _filled(values.astype(numpy_dtype, copy=False), count, shape)


def values_in(proto: tensor_pb2.TensorProto) -> int:
    """How many values `to_array` has to look at."""
    dims = proto.tensor_shape.dim
    if len(dims) > _MOST_DIMS:
        return 0  # which is seen first
    given = len(getattr(proto, _FIELD_NAMES.get(proto.dtype, "string_val")))
    return max(math.prod(dim.size for dim in dims), given)


def _filled(values: np.ndarray, count: int, shape: list[int]) -> np.ndarray:
    """The values in shape; missing ones are the last given, or zeros and empty texts.

    As in TensorFlow, values beyond the shape are left out.
    """
    values = values[:count]
    if len(values) < count:
        nothing = b"" if values.dtype == object else values.dtype.type(0)
        last = values[-1] if len(values) else nothing
        size = max(values.itemsize, len(last) if values.dtype == object else 0)
        if count * size > _MOST_FILLED:
            raise ValueError(f"{len(values)} values for {count}")
        padded = np.full(count, last, values.dtype)
        padded[: len(values)] = values
        values = padded
    return values.reshape(shape)


def _strings(content: bytes, count: int) -> list[bytes]:
    """The strings in a `tensor_content`: the lengths of all as varints, then all."""
    lengths, at = [], 0
    for _ in range(count):
        length, at = _varint(content, at)
        lengths.append(length)
    if at + sum(lengths) != len(content):
        raise ValueError(f"{len(content) - at} bytes for strings of {sum(lengths)}")
    ends = list(accumulate(lengths, initial=at))
    return [content[start:end] for start, end in pairwise(ends)]


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """A number of 32 bits, and where it ends."""
    value = 0
    for shift, byte in zip(range(0, 35, 7), content[at : at + 5], strict=False):
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value & 0xFFFFFFFF, at
    raise ValueError("a length is cut off")


def to_proto(array: np.ndarray, proto: tensor_pb2.TensorProto) -> None:
    """Writes an array into a proto's typed fields, as the stock server does."""
    dtype = tf.string if array.dtype.kind in "OSU" else tf.as_dtype(array.dtype)
    proto.dtype = dtype.as_datatype_enum
    dims = [tensor_shape_pb2.TensorShapeProto.Dim(size=size) for size in array.shape]
    proto.tensor_shape.dim.extend(dims)
    flat = array.ravel()
    if dtype == tf.string:
        _extend(proto, "string_val", flat)
    elif dtype in (tf.half, tf.bfloat16):
        _extend(proto, "half_val", flat.view(np.uint16))
    elif dtype in (tf.complex64, tf.complex128):
        parts = np.stack([flat.real, flat.imag], -1).ravel()
        _extend(proto, _FIELDS[dtype][0], parts)
    elif dtype in _FIELDS:
        _extend(proto, _FIELDS[dtype][0], flat)
    else:  # quantized and 4-bit types have no field of their own here
        proto.tensor_content = flat.tobytes()


def _extend(proto: tensor_pb2.TensorProto, field: str, values: np.ndarray) -> None:
    for start in range(0, len(values), _AT_ONCE):
        part = values[start : start + _AT_ONCE]
        if part.dtype.kind in "fb":  # numpy has them as they are on the wire: ten times as fast
            proto.MergeFromString(_packed(field, part.tobytes()))
        else:
            getattr(proto, field).extend(part.tolist())


def _packed(field: str, content: bytes) -> bytes:
    """A packed field of fewer than 2**21 bytes on the wire: its tag, its length, its values."""
    tag = tensor_pb2.TensorProto.DESCRIPTOR.fields_by_name[field].number << 3 | 2
    low, middle, high = (len(content) >> shift & 0x7F for shift in (0, 7, 14))
    return bytes((tag, low | 0x80, middle | 0x80, high)) + content


def as_array(value: object) -> np.ndarray:
    """What a session gives, as an array: it gives a string that is alone as bytes."""
    if not isinstance(value, bytes):
        return np.asarray(value)
    array = np.empty((), object)  # numpy's own strings lose the zeros that one may end with
    array[()] = value
    return array


def type_name(dtype: np.dtype) -> str:
    """A type as TensorFlow's messages name it: `float`, `double`, `half`, `string`, `int64`."""
    if dtype.kind in "OSU":
        return "string"
    names = {"float32": "float", "float64": "double", "float16": "half"}
    if dtype == ml_dtypes.bfloat16:
        return "bfloat16"
    return names.get(dtype.name, dtype.name)
