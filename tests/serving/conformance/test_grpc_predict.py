"""Predict over gRPC: tensors in and out, and what is said to bad requests."""

import re
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow_serving.apis import predict_pb2

from tests.serving.conformance.cases import (
    arrays,
    fails,
    predict,
    spec,
    table,
    tensor,
)
from tests.serving.conformance.models import DTYPES, ODD_NAME

INVALID, PRECONDITION, NOT_FOUND = "INVALID_ARGUMENT", "FAILED_PRECONDITION", "NOT_FOUND"

VALUES = {
    "float": [0.1, -1e30, np.inf],
    "double": [0.1, -1e300, np.nan],
    "int8": [-128, 127],
    "int16": [-(2**15), 2**15 - 1],
    "int32": [-(2**31), 2**31 - 1],
    "int64": [-(2**63), 2**63 - 1],
    "uint8": [0, 255],
    "uint16": [0, 2**16 - 1],
    "uint32": [0, 2**32 - 1],
    "uint64": [0, 2**64 - 1],
    "bool": [True, False],
    "string": [b"a", b"\xff\0"],
    "half": [0.5, 65504.0],
    "bfloat16": [0.5, 3e38],
}
FIELDS = {
    "float": "float_val",
    "double": "double_val",
    "int64": "int64_val",
    "uint32": "uint32_val",
    "uint64": "uint64_val",
    "bool": "bool_val",
    "string": "string_val",
    "half": "half_val",
    "bfloat16": "half_val",
}


def proto(dtype: str, shape: list[int], **fields: Any) -> tensor_pb2.TensorProto:
    made = tensor_pb2.TensorProto(dtype=DTYPES[dtype].as_datatype_enum, **fields)
    made.tensor_shape.SetInParent()
    for size in shape:
        made.tensor_shape.dim.add(size=size)
    return made


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_dtype_comes_through_in_its_typed_field(server, dtype):
    numpy_dtype = object if dtype == "string" else DTYPES[dtype].as_numpy_dtype
    values = np.array(VALUES[dtype], numpy_dtype)
    response = predict(server, spec("types", signature=dtype), x=tensor(values, DTYPES[dtype]))
    output = response.outputs["y"]
    np.testing.assert_array_equal(tf.make_ndarray(output), values)
    assert output.dtype == DTYPES[dtype].as_datatype_enum and not output.tensor_content
    assert len(getattr(output, FIELDS.get(dtype, "int_val"))) == len(values)


@pytest.mark.parametrize("dtype", [name for name in DTYPES if name != "string"])
def test_a_dtype_comes_in_as_tensor_content(server, dtype):
    values = np.array(VALUES[dtype], DTYPES[dtype].as_numpy_dtype)
    given = proto(dtype, [len(values)], tensor_content=values.tobytes())
    response = predict(server, spec("types", signature=dtype), x=given)
    np.testing.assert_array_equal(arrays(response)["y"], values)


@dataclass(frozen=True)
class Proto:
    id: str
    dtype: str
    proto: tensor_pb2.TensorProto
    values: Any = None  # None if it contradicts itself


PROTOS = [
    Proto("one value stands for all", "float", proto("float", [2, 2], float_val=[7]), [[7, 7]] * 2),
    Proto("the last value is repeated", "int32", proto("int32", [3], int_val=[1, 2]), [1, 2, 2]),
    Proto("no value is zero", "int64", proto("int64", [2]), [0, 0]),
    Proto("no value is an empty text", "string", proto("string", [2]), [b"", b""]),
    Proto("one text stands for all", "string", proto("string", [2], string_val=[b"a"]), [b"a"] * 2),
    Proto("values too many are left out", "float", proto("float", [1], float_val=[1, 2]), [1]),
    Proto("a scalar", "double", proto("double", [], double_val=[1.5]), 1.5),
    Proto("a dimension of none", "float", proto("float", [0, 3]), np.zeros([0, 3])),
    Proto("content of none", "float", proto("float", [0], tensor_content=b"1234"), []),
    Proto("int8 wraps", "int8", proto("int8", [2], int_val=[128, 255]), [-128, -1]),
    Proto(
        "texts as content",
        "string",
        proto("string", [3], tensor_content=b"\x01\x00\x82\x00" + b"abc"),
        [b"a", b"", b"bc"],
    ),
    Proto(
        "content before typed fields",
        "int32",
        proto("int32", [1], int_val=[1], tensor_content=b"\x02\0\0\0"),
        [2],
    ),
    Proto("a size below zero", "float", proto("float", [-1], float_val=[1])),
    Proto("content too short", "float", proto("float", [2], tensor_content=b"1234")),
    Proto("content too long", "float", proto("float", [1], tensor_content=b"12345678")),
    Proto("content that is no multiple", "float", proto("float", [1], tensor_content=b"123")),
    Proto("texts cut off", "string", proto("string", [2], tensor_content=b"\x01\x05ab")),
    Proto("lengths cut off", "string", proto("string", [9], tensor_content=b"\x01")),
    Proto("no dtype", "float", tensor_pb2.TensorProto()),
    Proto("no such dtype", "float", tensor_pb2.TensorProto(dtype=99)),
    Proto("a reference", "float", tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT_REF)),
]
_UNRANKED = proto("float", [], float_val=[1])
_UNRANKED.tensor_shape.unknown_rank = True
PROTOS.append(Proto("an unknown rank is that of its dimensions", "float", _UNRANKED, 1.0))


@table(PROTOS)
def test_a_proto_is_read_as_tensorflow_reads_it(server, case):
    dtype = DTYPES[case.dtype]
    model = spec("types", signature=case.dtype)
    if case.values is None:
        with pytest.raises(tf.errors.OpError):
            tf.io.parse_tensor(case.proto.SerializeToString(), dtype)
        with fails(INVALID, "tensor parsing error: x"):
            predict(server, model, x=case.proto)
    else:
        parsed = tf.io.parse_tensor(case.proto.SerializeToString(), dtype).numpy()
        np.testing.assert_array_equal(parsed, np.array(case.values, parsed.dtype))
        np.testing.assert_array_equal(arrays(predict(server, model, x=case.proto))["y"], parsed)


@dataclass(frozen=True)
class Case:
    id: str
    model: Any
    inputs: dict[str, Any]
    output_filter: list[str] = field(default_factory=list)
    outputs: dict[str, Any] = field(default_factory=dict)
    code: str = ""
    message: str | re.Pattern[str] = ""


X = {"x": tensor([1.0])}
A = {"a": tensor([1.0])}
B = {"b": tensor([2], tf.int64)}
SHAPES = spec("shapes")
TWO = spec("shapes", signature="two_outputs")
DEFAULTED = spec("shapes", signature="with_default")

GOOD = [
    Case("all outputs", TWO, A | B, outputs={"sum": [3], "twice": [4]}),
    Case("a filter", TWO, A | B, ["twice"], {"twice": [4]}),
    Case("a filter of all", TWO, A | B, ["twice", "sum"], {"sum": [3], "twice": [4]}),
    Case("a default input", DEFAULTED, A, outputs={"sum": [11]}),
    Case("a default input that is given", DEFAULTED, A | B, outputs={"sum": [3]}),
    Case("a scalar output", spec("shapes", signature="scalar"), A, outputs={"mean": 1.0}),
    Case("an empty output", spec("shapes", signature="empty"), A, outputs={"none": []}),
    Case("no inputs", spec("shapes", signature="no_inputs"), {}, outputs={"one": [1]}),
    Case(
        "a signature that says nothing of its shape",
        spec("shapes", signature="shapeless"),
        {"a": tensor([[1.0]])},
        outputs={"twice": [[2]]},
    ),
    Case(
        "more rows than declared",  # as batches may have, too
        spec("shapes", signature="wide"),
        {"wide": tensor([[1.0, 2.0, 3.0]] * 2)},
        outputs={"sum": [6, 6]},
    ),
    Case("a name of any letters", spec(ODD_NAME), X, outputs={"y": [3.5]}),
    Case(
        "a megabyte of text",
        spec("shapes", signature="text"),
        {"text": tensor(["x" * 2**20], tf.string)},
        outputs={"text": [b"x" * 2**20]},
    ),
    Case(
        "10,000 rows",
        spec("half"),
        {"x": tensor([1.0] * 10_000)},
        outputs={"y": [3.5] * 10_000},
    ),
]

BAD = [
    Case("no name", spec(), X, code=INVALID, message="ModelSpec has no name specified."),
    Case("no spec", None, X, code=INVALID, message="ModelSpec has no name specified."),
    Case(
        "no such signature",
        spec("half", signature="nope"),
        X,
        code=PRECONDITION,
        message='Serving signature key "nope" not found.',
    ),
    Case(
        "no default signature",
        spec("types"),
        X,
        code=PRECONDITION,
        message='Serving signature key "serving_default" not found.',
    ),
    Case(
        "a missing input",
        SHAPES,
        A,
        code=INVALID,
        message="input size does not match signature: 1!=2 len({a}) != len({a,b}). "
        "Sent extra: {}. Missing but required: {b}.",
    ),
    Case(
        "no inputs at all",
        SHAPES,
        {},
        code=INVALID,
        message="input size does not match signature: 0!=2 len({}) != len({a,b}). "
        "Sent extra: {}. Missing but required: {a,b}.",
    ),
    Case(
        "inputs too many",
        SHAPES,
        A | B | X,
        code=INVALID,
        message="input size does not match signature: 3!=2 len({a,b,x}) != len({a,b}). "
        "Sent extra: {x}. Missing but required: {}.",
    ),
    Case(
        "one missing and another too many",
        SHAPES,
        X,
        code=INVALID,
        message="input size does not match signature: 1!=2 len({x}) != len({a,b}). "
        "Sent extra: {x}. Missing but required: {a,b}.",
    ),
    Case(
        "an input of another rank",  # which the stock server leaves to the graph
        SHAPES,
        A | {"b": tensor([[2]], tf.int64)},
        code=INVALID,
        message="Shape of input b [1,1] is not compatible with expected shape [?]",
    ),
    Case(
        "an input without dimensions",
        SHAPES,
        B | {"a": tensor(1.0)},
        code=INVALID,
        message="Shape of input a [] is not compatible with expected shape [?]",
    ),
    Case(
        "an input of another size",
        spec("shapes", signature="wide"),
        {"wide": tensor([[1.0, 2.0]])},
        code=INVALID,
        message="Shape of input wide [1,2] is not compatible with expected shape [1,3]",
    ),
    Case(
        "another name",
        spec("half"),
        {"z": tensor([1.0])},
        code=INVALID,
        message="Signature input alias: x(feed name: x:0) not found in request and no default "
        "value provided. Inputs expected to be in the request {z}, or default input alias set: ",
    ),
    Case(
        "a missing input that has no default",
        DEFAULTED,
        B,
        code=INVALID,
        message="Signature input alias: a(feed name: a:0) not found in request and no default "
        "value provided. Inputs expected to be in the request {b}, or default input alias set: b",
    ),
    Case(
        "another name beside a default",
        DEFAULTED,
        A | X,
        code=INVALID,
        message="Inputs contains invalid name. Used request inputs: a, request input: a,x",
    ),
    Case(
        "an unknown output",
        TWO,
        A | B,
        ["sum", "nope"],
        code=INVALID,
        message="output tensor alias not found in signature: nope Outputs expected to be in the "
        "set {sum,twice}.",
    ),
    Case(
        "an output twice",
        TWO,
        A | B,
        ["sum", "sum"],
        code=INVALID,
        message="duplicate output tensor alias: sum",
    ),
    Case(
        "inputs come before outputs",
        SHAPES,
        A,
        ["nope"],
        code=INVALID,
        message=re.compile("^input size does not match signature"),
    ),
    Case(
        "another dtype",
        spec("half"),
        {"x": tensor([1], tf.int32)},
        code=INVALID,
        message=re.compile(r"to be float but int32 is provided"),
    ),
    Case(
        "a text for a number",
        spec("half"),
        {"x": tensor(["1"], tf.string)},
        code=INVALID,
        message=re.compile(r"to be float but string is provided"),
    ),
    Case(
        "a graph that fails",
        spec("failures", signature="INVALID_ARGUMENT"),
        {"x": tensor([5], tf.int64)},
        code=INVALID,
        message=re.compile(r"indices\[0\] = 5 is not in \[0, 2\)"),
    ),
    Case(
        "a graph that finds nothing",
        spec("failures", signature="NOT_FOUND"),
        {"x": tensor(["/no/such/file"], tf.string)},
        code=NOT_FOUND,
        message=re.compile("/no/such/file"),
    ),
    Case(
        "a graph that is cancelled",
        spec("failures", signature="CANCELLED"),
        {"x": tensor([1], tf.int64)},
        code="CANCELLED",
        message=re.compile("closed"),
    ),
]
ONE_FOR_ALL = proto("float", [2**40], float_val=[1])


def ask(server, case):
    request = predict_pb2.PredictRequest(
        model_spec=case.model, inputs=case.inputs, output_filter=case.output_filter
    )
    return server.prediction.Predict(request, timeout=60)


@table(GOOD)
def test_what_is_asked_for_is_answered(server, case):
    outputs = arrays(ask(server, case))
    assert outputs.keys() == case.outputs.keys()
    for name, values in case.outputs.items():
        np.testing.assert_array_equal(outputs[name], values)


@table(BAD)
def test_a_bad_request_is_refused(server, case):
    with fails(case.code, case.message):
        ask(server, case)


@pytest.mark.parametrize("signature", ["", "serving_default"])
def test_the_spec_is_echoed(server, signature):
    echo = predict(server, spec("half", signature=signature), **X).model_spec
    assert echo == spec("half", version=2, signature="serving_default")


def test_the_version_behind_a_label_is_echoed(server):
    echo = predict(server, spec("half", label="stable"), **X).model_spec
    assert echo == spec("half", version=1, signature="serving_default")


def test_a_proto_of_a_few_bytes_does_not_fill_the_memory(server):
    with fails(INVALID, "tensor parsing error: x"):
        predict(server, spec("half"), x=ONE_FOR_ALL)
