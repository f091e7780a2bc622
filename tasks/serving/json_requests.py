"""What the bodies of REST requests say.

    body = parse_predict(b'{"instances": ["good", "bad"]}', lambda name: signatures[name].inputs)
    body.inputs["text"]    # array([b'good', b'bad'], dtype=object)

Where the stock server crashes, by nesting too deep for its stack, or passes on what numpy cannot
hold, more than 64 dimensions, the answer is INVALID_ARGUMENT. So it is for feature names that are
not UTF-8.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from tensorflow.core.example import example_pb2, feature_pb2
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf.meta_graph_pb2 import TensorInfo

from tasks.protocol.errors import ServingError, invalid_argument
from tasks.serving import json_arrays, rapidjson

_T = TypeVar("_T")


@dataclass(frozen=True)
class PredictBody:
    """A predict request."""

    signature_name: str  # never empty
    inputs: dict[str, np.ndarray]  # strings are object arrays of bytes
    row_format: bool  # the answer is to have "predictions", not "outputs"


@dataclass(frozen=True)
class ExamplesBody:
    """A classify or regress request."""

    signature_name: str  # never empty
    examples: list[example_pb2.Example]
    context: example_pb2.Example | None


def parse_predict(body: bytes, inputs_of: Callable[[str], Mapping[str, TensorInfo]]) -> PredictBody:
    """Reads a predict request.

    Args:
        body: the request's body, unpacked.
        inputs_of: the inputs of a signature; its `ServingError` is passed on.
    """
    return _told(body, lambda: _predict(body, inputs_of))


def parse_examples(body: bytes) -> ExamplesBody:
    """Reads a classify or a regress request."""
    return _told(body, lambda: _examples(body))


def _told(body: bytes, read: Callable[[], _T]) -> _T:
    """What `read` gives, or the error that the stock server would meet first."""
    try:
        return read()
    except ServingError:
        if len(body) <= rapidjson.LONG:
            _check_overflow(body)
        raise
    except OverflowError:
        rapidjson.parse_exactly(body)
        raise invalid_argument("JSON Value: a number is too big") from None
    except RecursionError:
        raise invalid_argument("JSON Value: nested too deep") from None


def _predict(body: bytes, inputs_of: Callable[[str], Mapping[str, TensorInfo]]) -> PredictBody:
    document = _document(body)
    signature_name = _signature_name(document)
    infos = inputs_of(signature_name or _DEFAULT)
    dtypes = {name: infos[name].dtype for name in infos}
    if not dtypes:
        shown = signature_name or "DEFAULT"
        raise invalid_argument(f"Failed to get input map for signature: {shown}")
    row_format = "instances" in document
    if row_format:
        if "inputs" in document:
            raise json_arrays.format_error(
                document,
                "Not formatted correctly expecting only one of "
                "'inputs' or 'instances' keys to exist ",
            )
        inputs = _row_inputs(_list_of(document, "instances"), dtypes)
    elif "inputs" in document:
        inputs = _columnar_inputs(document["inputs"], dtypes)
    else:
        raise invalid_argument("Missing 'inputs' or 'instances' key")
    if any(array.dtype.kind == "f" and np.isinf(array).any() for array in inputs.values()):
        _check_overflow(body)
    return PredictBody(signature_name or _DEFAULT, inputs, row_format)


def _examples(body: bytes) -> ExamplesBody:
    document = _document(body)
    signature_name = _signature_name(document)
    context = _example(document["context"]) if "context" in document else None
    if "examples" not in document:
        raise json_arrays.format_error(
            document, "When method is classify, key 'examples' is expected and was not found"
        )
    examples = [_example(value) for value in _list_of(document, "examples")]
    _check_overflow(body)
    return ExamplesBody(signature_name or _DEFAULT, examples, context)


_DEFAULT = "serving_default"


def _document(body: bytes) -> dict[str, Any]:
    document = rapidjson.parse(body)
    if not isinstance(document, dict):
        raise json_arrays.format_error(document, "Is not object")
    return document


def _signature_name(document: dict[str, Any]) -> str:
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise json_arrays.format_error(
            document, "not formatted correctly. 'signature_name' key must be a string value."
        )
    return json_arrays.to_bytes(name).decode("utf-8", "replace")  # protos do not take other strings


def _list_of(document: dict[str, Any], key: str) -> list[Any]:
    values = document[key]
    row = key == "instances"
    if not isinstance(values, list):
        what = "Excepting 'instances' to be" if row else "Expecting 'examples' value to be"
        raise json_arrays.format_error(document, f"{what} an list/array")
    if not values:
        what = "No values in 'instances' array" if row else "'examples' value is an empty array"
        raise json_arrays.format_error(document, what)
    return values


def _check_overflow(body: bytes) -> None:
    # Python reads as infinite what RapidJSON refuses as too big for a double.
    if rapidjson.may_overflow(body):
        rapidjson.parse_exactly(body)


def _row_inputs(instances: list[Any], dtypes: dict[str, int]) -> dict[str, np.ndarray]:
    first = instances[0]
    if not isinstance(first, dict) and len(dtypes) > 1:
        raise invalid_argument(
            "instances is a plain list, but expecting list of objects as multiple "
            "input tensors required as per tensorinfo_map"
        )
    named = json_arrays.is_named(first)
    if named:
        names = dtypes.keys()
        if all(type(each) is dict and each.keys() == names for each in instances):
            columns = {name: [each[name] for each in instances] for name in names}
        else:
            columns = {}
    else:
        columns = {next(iter(dtypes)): instances}
    arrays = {
        name: json_arrays.fast_array(values, dtypes[name]) for name, values in columns.items()
    }
    inputs = {name: array for name, array in arrays.items() if array is not None}
    if inputs and len(inputs) == len(columns):
        return inputs
    return _walked_rows(instances, named, dtypes)


def _columnar_inputs(value: Any, dtypes: dict[str, int]) -> dict[str, np.ndarray]:
    if json_arrays.is_named(value):
        inputs = {}
        for name, dtype in dtypes.items():
            if name not in value:
                raise invalid_argument(f"Missing named input: {name} in 'inputs' object.")
            inputs[name] = json_arrays.to_array(value[name], dtype)
        return inputs
    if len(dtypes) > 1:
        raise invalid_argument(
            "inputs is a plain value/list, but expecting an object as multiple "
            "input tensors required as per tensorinfo_map"
        )
    ((name, dtype),) = dtypes.items()
    return {name: json_arrays.to_array(value, dtype)}


def _walked_rows(
    instances: list[Any], named: bool, dtypes: dict[str, int]
) -> dict[str, np.ndarray]:
    tensors: dict[str, json_arrays.Tensor] = {}
    firsts: dict[str, tuple[int, list[int]]] = {}
    for index, instance in enumerate(instances):
        if not named:
            if json_arrays.is_named(instance):
                raise invalid_argument(
                    f"Expecting value/list but got object at item {index} of input list"
                )
            where = f"Failed to process element: {index} of 'instances' list."
            _add_row(instance, next(iter(dtypes)), dtypes, tensors, firsts, where)
            continue
        if not json_arrays.is_named(instance):
            raise invalid_argument(f"Expecting object but got list at item {index} of input list")
        members = _members(instance)
        for name, value in members:
            where = f"Failed to process element: {index} key: {name} of 'instances' list."
            _add_row(value, name, dtypes, tensors, firsts, where)
        if {name for name, _ in members} != dtypes.keys():
            raise invalid_argument(
                f"Failed to process element: {index} of 'instances' list. JSON object: "
                f"{rapidjson.to_text(instance)} keys must be equal to: {','.join(sorted(dtypes))}"
            )
    return {
        name: tensor.array([len(instances), *firsts[name][1]]) for name, tensor in tensors.items()
    }


def _add_row(
    value: Any,
    name: str,
    dtypes: dict[str, int],
    tensors: dict[str, json_arrays.Tensor],
    firsts: dict[str, tuple[int, list[int]]],
    where: str,
) -> None:
    """Adds one instance's value of an input, which has to be shaped like the first one's."""
    try:
        if name not in dtypes:
            raise invalid_argument(f"JSON object: does not have named input: {name}")
        tensor = tensors.setdefault(name, json_arrays.Tensor(dtypes[name]))
        size = tensor.add(value)
        first_size, first_shape = firsts.setdefault(name, (size, tensor.shape))
        if size != first_size:
            raise invalid_argument(f"Expecting tensor size: {first_size} but got: {size}")
        if tensor.shape != first_shape:
            expected, got = (f"[{','.join(map(str, s))}]" for s in (first_shape, tensor.shape))
            raise invalid_argument(f"Expecting shape {expected} but got: {got}")
    except ServingError as error:
        raise invalid_argument(f"{where} Error: {error.code.name}: {error.message}") from None


def _members(value: dict[str, Any]) -> list[tuple[str, Any]]:
    """An object's pairs, repeated ones too. The source ends a name at its first NUL."""
    pairs = value.members if isinstance(value, rapidjson.RepeatedKeys) else value.items()
    return [(name.partition("\0")[0], member) for name, member in pairs]


def _example(value: Any) -> example_pb2.Example:
    if not isinstance(value, dict):
        raise invalid_argument(
            f"Example must be JSON object but got JSON {rapidjson.type_name(value)}"
        )
    example = example_pb2.Example()
    for name, content in _members(value):
        feature = feature_pb2.Feature()
        for element in content if isinstance(content, list) else [content]:
            _add_to_feature(element, name, feature)
        try:
            example.features.feature[name].CopyFrom(feature)
        except UnicodeEncodeError:
            raise invalid_argument(f"Feature: {name} has a name that is not UTF-8") from None
    return example


def _add_to_feature(value: Any, name: str, feature: feature_pb2.Feature) -> None:
    if value is None or isinstance(value, list) or json_arrays.is_named(value):
        raise invalid_argument(
            f"Feature: {name} has element with unexpected JSON type: {rapidjson.type_name(value)}"
        )
    if isinstance(value, str | dict):
        _expect_kind(feature, name, "bytes_list")
        data = (
            json_arrays.to_bytes(value)
            if isinstance(value, str)
            else json_arrays.decode_base64(value)
        )
        feature.bytes_list.value.append(data)
    elif isinstance(value, bool) or rapidjson.is_integer(value):
        _expect_kind(feature, name, "int64_list")
        if value >= 2**63:
            raise invalid_argument(f"Feature: {name} has uint64 element. Only int64 is supported.")
        feature.int64_list.value.append(int(value))
    else:
        _expect_kind(feature, name, "float_list")
        if json_arrays.is_lossy(value, types_pb2.DT_FLOAT):
            raise json_arrays.lossy_error(value, "float")
        feature.float_list.value.append(float(value))


def _expect_kind(feature: feature_pb2.Feature, name: str, wanted: str) -> None:
    kind = feature.WhichOneof("kind")
    if kind not in (None, wanted):
        shown = str(kind).removesuffix("_list")
        raise invalid_argument(
            f"Unexpected element type in feature: {name} expecting type: {shown}"
        )
