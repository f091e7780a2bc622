"""REST bodies: what the stock server's json_tensor_test.cc covers, and what nobody expects."""

import base64
import json
import math
import time

import numpy as np
import pytest
from google.protobuf import text_format
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from tensorflow.core.example import example_pb2
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf.meta_graph_pb2 import TensorInfo
from tensorflow_serving.apis import classification_pb2, regression_pb2

from tasks.protocol.errors import Code, ServingError, http_status, invalid_argument
from tasks.serving import rapidjson
from tasks.serving.json_answers import (
    _decimals,
    classifications_json,
    error_json,
    predictions_json,
    regressions_json,
)
from tasks.serving.json_requests import parse_examples, parse_predict


def read(body, **dtypes):
    """Parses a predict body for a signature of these inputs; types are named as in `DT_...`."""
    infos = {
        name: TensorInfo(dtype=types_pb2.DataType.Value(f"DT_{dtype}"))
        for name, dtype in dtypes.items()
    }
    return parse_predict(body if isinstance(body, bytes) else body.encode(), lambda name: infos)


def refused(body, **dtypes):
    with pytest.raises(ServingError) as caught:
        read(body, **dtypes)
    return caught.value.code, caught.value.message


def refused_examples(body):
    with pytest.raises(ServingError) as caught:
        parse_examples(body if isinstance(body, bytes) else body.encode())
    assert caught.value.code == Code.INVALID_ARGUMENT
    return caught.value.message


def rows(values):
    return json.dumps({"instances": values})


@pytest.mark.parametrize(
    ("dtype", "values", "expected"),
    [
        ("INT32", "[[1, 2], [3, 4], [5, 6]]", np.int32([[1, 2], [3, 4], [5, 6]])),
        ("INT32", "[-0, -2147483648]", np.int32([0, -(2**31)])),
        ("INT64", "[9223372036854775807]", np.int64([2**63 - 1])),
        ("UINT64", "[0, 18446744073709551615]", np.uint64([0, 2**64 - 1])),
        ("UINT32", "[4294967295]", np.uint32([2**32 - 1])),
        ("UINT8", "[255, 256, -1]", np.uint8([255, 0, 255])),
        ("INT8", "[128]", np.int8([-128])),
        ("INT16", "[65537]", np.int16([1])),
        ("BOOL", "[true, false]", np.array([True, False])),
        ("FLOAT", "[1, 2.0, 3, 5.003, 0.007, 0.0]", np.float32([1, 2, 3, 5.003, 0.007, 0])),
        ("FLOAT", "[1e10, 0.5, 2]", np.float32([1e10, 0.5, 2])),
        ("FLOAT", "[1e5, NaN, Infinity, -Infinity, Inf, -Inf, -NaN]", None),
        ("FLOAT", "[16777215]", np.float32([16777215])),
        ("FLOAT", "[100000000000000000000]", np.float32([1e20])),
        ("DOUBLE", "[1.0, 2, 0.662, 0]", np.array([1, 2, 0.662, 0])),
        ("DOUBLE", "[10e308]", np.array([np.inf])),
        ("FLOAT", "[[], []]", np.zeros([2, 0], np.float32)),
        ("STRING", "[[[]]]", np.zeros([1, 1, 0], object)),
        ("HALF", "[[]]", np.zeros([1, 0], np.float16)),
        ("FLOAT", "[" * 64 + "1" + "]" * 64, np.ones([1] * 64, np.float32)),
    ],
)
def test_values_become_an_array_of_the_inputs_type(dtype, values, expected):
    if expected is None:
        expected = np.float32([1e5, np.nan, np.inf, -np.inf, np.inf, -np.inf, np.nan])
    for key, row_format in [("instances", True), ("inputs", False)]:
        body = read(f'{{"{key}": {values}}}', x=dtype)
        assert body.row_format == row_format and body.signature_name == "serving_default"
        assert body.inputs["x"].dtype == expected.dtype
        np.testing.assert_array_equal(body.inputs["x"], expected)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ('["a", "\u00e9", "\\u00e9", ""]', [b"a", b"\xc3\xa9", b"\xc3\xa9", b""]),
        ('["\\ud83d\\ude00", "a\\u0000b"]', ["\U0001f600".encode(), b"a\0b"]),
        ('["\\udc80"]', [b"\xed\xb2\x80"]),
        ('["\\\\ud83d\\ude00"]', [b"\\ud83d\xed\xb8\x80"]),
        ('[{"b64": "aGVsbG8="}, {"b64": "d29ybGQ="}]', [b"hello", b"world"]),
        ('[{"b64": "aGVsbG8"}, {"b64": " aGVs\\nbG8. "}]', [b"hello", b"hello"]),
        ('["a", {"b64": "/+8="}]', [b"a", b"\xff\xef"]),
    ],
)
def test_strings_are_bytes(values, expected):
    for body in (f'{{"instances": {values}}}', f'{{"inputs": {values}}}'):
        assert read(body, x="STRING").inputs["x"].tolist() == expected


def test_bytes_that_are_not_utf8_come_through():
    body = read(b'{"instances": ["\xff\xfe\xe9", "\xed\xb2\x80"]}', x="STRING")
    assert body.inputs["x"].tolist() == [b"\xff\xfe\xe9", b"\xed\xb2\x80"]


def test_strings_in_nested_lists_and_under_their_name():
    nested = [[{"b64": "aGVsbG8="}], [{"b64": "d29ybGQ="}]]
    assert read(rows(nested), x="STRING").inputs["x"].tolist() == [[b"hello"], [b"world"]]
    named = read(rows([{"x": nested}]), x="STRING").inputs["x"]
    assert named.shape == (1, 2, 1) and named.dtype == object


def test_several_inputs_in_rows():
    body = read(
        '{"instances": [{"i": [[1, 2]], "s": ["foo"], "f": [1.0, NaN], "d": 2},'
        ' {"d": Infinity, "f": [2.0, Infinity], "s": ["baz"], "i": [[7, 8]]}]}',
        i="INT32",
        s="STRING",
        f="FLOAT",
        d="DOUBLE",
    )
    assert body.inputs["i"].tolist() == [[[1, 2]], [[7, 8]]]
    assert body.inputs["s"].tolist() == [[b"foo"], [b"baz"]]
    np.testing.assert_array_equal(body.inputs["f"], np.float32([[1, np.nan], [2, np.inf]]))
    assert body.inputs["d"].tolist() == [2.0, math.inf]


def test_columnar_inputs_need_no_shape_in_common():
    body = read(
        '{"inputs": {"i": [[1, 2]], "s": ["foo", "bar"], "b": {"b64": "aGVsbG8="}, "n": 5}}',
        i="INT32",
        s="STRING",
        b="STRING",
        n="INT64",
    )
    assert body.inputs["i"].shape == (1, 2) and body.inputs["s"].shape == (2,)
    assert body.inputs["b"].shape == () and body.inputs["b"][()] == b"hello"
    assert body.inputs["n"] == 5
    assert read('{"inputs": {"x": [1], "more": 2}}', x="INT32").inputs["x"].tolist() == [1]
    assert read('{"inputs": {"b64": "aGk="}}', x="STRING").inputs["x"][()] == b"hi"


@pytest.mark.parametrize(
    ("given_name", "asked"),
    [('"other"', "other"), ('""', "serving_default"), (None, "serving_default")],
)
def test_the_signature_that_is_asked_for(given_name, asked):
    names = []

    def inputs_of(name):
        names.append(name)
        return {"x": TensorInfo(dtype=types_pb2.DT_INT32)}

    start = "{" if given_name is None else f'{{"signature_name": {given_name}, '
    body = parse_predict(f'{start}"instances": [1], "ignored": {{}}}}'.encode(), inputs_of)
    assert names == [asked] and body.signature_name == asked


def test_an_error_about_the_signature_is_passed_on():
    def inputs_of(name):
        raise ServingError(Code.NOT_FOUND, name)

    with pytest.raises(ServingError, match="serving_default") as caught:
        parse_predict(b'{"signature_name": ""}', inputs_of)
    assert caught.value.code == Code.NOT_FOUND


def test_of_a_repeated_key_the_first_counts():
    assert read('{"instances": [1], "instances": 2}', x="INT32").inputs["x"].tolist() == [1]
    repeated = '{"instances": [{"x": 1, "x": 1}, {"x": 2}]}'
    assert read(repeated, x="INT32").inputs["x"].tolist() == [1, 1]  # of 1, 1, 2, as the source
    _, message = refused('{"inputs": [{"b64": "", "b64": ""}]}', x="STRING")
    assert message.endswith("not formatted correctly for base64 data")
    assert message.count('"b64": ""') == 2


@pytest.mark.parametrize(
    "body",
    [
        b'{"instances": [1]}X',
        b'{"instances": [1]}{',
        b'{"instances": [1]}\0',
        b'\xef\xbb\xbf \n{"instances": [1]}',
    ],
)
def test_reading_ends_with_the_object(body):
    assert read(body, x="INT32").inputs["x"].tolist() == [1]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The document is empty"),
        (b" ", "The document is empty. at offset: 1"),
        (b"]", "The document is empty. at offset: 0"),
        (b"\0{}", "The document is empty. at offset: 0"),
        (b"nul", "Invalid value. at offset: 3"),
        (b"x", "Invalid value. at offset: 0"),
        (b"{", "Missing a name for object member. at offset: 1"),
        (b'{"a": 1, }', "Missing a name for object member. at offset: 9"),
        (b'{"a" 1}', "Missing a colon after a name of object member. at offset: 5"),
        (b'{"a": }', "Invalid value. at offset: 6"),
        (b'{"a": 1 "b"', "Missing a comma or '}' after an object member. at offset: 8"),
        (b'{"a": [1 2]}', "Missing a comma or ']' after an array element. at offset: 9"),
        (b'{"a": [1, ]}', "Invalid value. at offset: 10"),
        (b'{"a": [01]}', "Missing a comma or ']' after an array element. at offset: 8"),
        (b'{"a": 1.}', "Miss fraction part in number. at offset: 8"),
        (b'{"a": 1e}', "Miss exponent in number. at offset: 8"),
        (b'{"a": 1e999}', "Number too big to be stored in double. at offset: 6"),
        (b'{"a": ' + b"9" * 400 + b"}", "Number too big to be stored in double. at offset: 6"),
        (b'{"a": ' + b"9" * 5000 + b"}", "Number too big to be stored in double. at offset: 6"),
        (b'{"a": "b', "Missing a closing quotation mark in string. at offset: 8"),
        (b'{"a": "\x00"}', "Missing a closing quotation mark in string. at offset: 7"),
        (b'{"a": "\x1f"}', "Invalid escape character in string. at offset: 7"),
        (b'{"a": "\\x"}', "Invalid escape character in string. at offset: 7"),
        (b'{"a": "\\u12G4"}', "Incorrect hex digit after \\u escape in string. at offset: 7"),
        (b'{"a": "\\ud800"}', "The surrogate pair in string is invalid. at offset: 7"),
        (b'{"a": "\\ud800\\u0041"}', "The surrogate pair in string is invalid. at offset: 7"),
        (b"[" * 100_000, "Invalid value. at offset: 100000"),
        (b'{"instances": [1e999]}', "Number too big to be stored in double. at offset: 15"),
    ],
)
def test_what_is_no_json(body, message):
    expected = f"JSON Parse error: {message}"
    assert refused(body, x="FLOAT") == (Code.INVALID_ARGUMENT, expected)
    if body:
        with pytest.raises(ServingError) as caught:
            rapidjson.parse_exactly(body)
        assert caught.value.message == expected


@pytest.mark.parametrize(
    ("number", "may"),
    [
        (b"1e308", True),
        (b"-2.5E+0400", True),
        (b"9" * 309, True),
        (b"1e-308", False),
        (b"1e+99", False),
        (b"9" * 299, False),
    ],
)
def test_numbers_that_may_be_too_big(number, may):
    assert rapidjson.may_overflow(b'{"a": [1.5, ' + number + b"]}") == may


def test_looking_for_numbers_that_may_be_too_big_takes_no_time():
    start = time.thread_time()
    assert not rapidjson.may_overflow((b"9" * 299 + b",") * 14_000)
    assert time.thread_time() - start < 0.5


BOTH = """JSON Value: {
    "instances": [
        1
    ],
    "inputs": 2
} Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist """


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("[]", "JSON Value: [] Is not object"),
        ("5", "JSON Value: 5 Is not object"),
        ("{}", "Missing 'inputs' or 'instances' key"),
        ('{"instances": [1], "inputs": 2}', BOTH),
        (
            '{"signature_name": 5}',
            'JSON Value: {\n    "signature_name": 5\n} not formatted correctly. '
            "'signature_name' key must be a string value.",
        ),
        (
            '{"instances": {}}',
            "JSON Value: {\n    \"instances\": {}\n} Excepting 'instances' to be an list/array",
        ),
        (
            '{"instances": []}',
            "JSON Value: {\n    \"instances\": []\n} No values in 'instances' array",
        ),
    ],
)
def test_what_is_no_request(body, message):
    assert refused(body, x="INT32") == (Code.INVALID_ARGUMENT, message)


ITEM = "Failed to process element: {} of 'instances' list. Error: INVALID_ARGUMENT: {}"


@pytest.mark.parametrize(
    ("dtype", "values", "index", "message"),
    [
        ("INT32", "[[1, 2], [5, 6, 7]]", 1, "Expecting tensor size: 2 but got: 3"),
        ("INT32", "[[1, 2], [[5, 6]]]", 1, "Expecting shape [2] but got: [1,2]"),
        ("INT32", "[1, [1]]", 1, "Expecting shape [] but got: [1]"),
        ("INT32", "[[1, [2]]]", 0, "Encountered list at unexpected level: 1 expected < 1"),
        (
            "INT32",
            "[[[1], 2]]",
            0,
            "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
        ),
        (
            "INT32",
            "[[[1], [2, 3]]]",
            0,
            "Encountered list at unexpected size: 2 at level: 1 expected size: 1",
        ),
        ("INT32", '["a"]', 0, 'JSON Value: "a" Type: String is not of expected type: int32'),
        ("INT32", "[1.0]", 0, "JSON Value: 1.0 Type: Number is not of expected type: int32"),
        ("INT64", "[1e5]", 0, "JSON Value: 100000.0 Type: Number is not of expected type: int64"),
        ("INT32", "[0, true]", 1, "JSON Value: true Type: True is not of expected type: int32"),
        (
            "INT32",
            "[2147483648]",
            0,
            "JSON Value: 2147483648 Type: Number is not of expected type: int32",
        ),
        ("UINT32", "[-1]", 0, "JSON Value: -1 Type: Number is not of expected type: uint32"),
        ("UINT8", "[null]", 0, "JSON Value: null Type: Null is not of expected type: uint8"),
        ("FLOAT", "[0.5, true]", 1, "JSON Value: true Type: True is not of expected type: float"),
        ("DOUBLE", '["1"]', 0, 'JSON Value: "1" Type: String is not of expected type: double'),
        ("BOOL", "[1]", 0, "JSON Value: 1 Type: Number is not of expected type: bool"),
        ("STRING", "[1]", 0, "JSON Value: 1 Type: Number is not of expected type: string"),
        ("STRING", "[NaN]", 0, "JSON Value: NaN Type: Number is not of expected type: string"),
        ("STRING", '[{"b64": "!"}]', 0, "Unable to base64 decode"),
        (
            "FLOAT",
            "[16777217]",
            0,
            "Cannot convert JSON value: 16777217 to float without loss of precision.",
        ),
        (
            "FLOAT",
            "[1, 0.5, 16777216]",
            2,
            "Cannot convert JSON value: 16777216 to float without loss of precision.",
        ),
        (
            "FLOAT",
            "[1.7976931348623157e308]",
            0,
            "Cannot convert JSON value: 1.7976931348623157e+308 to float "
            "without loss of precision.",
        ),
        (
            "DOUBLE",
            "[9007199254740993]",
            0,
            "Cannot convert JSON value: 9007199254740993 to double without loss of precision.",
        ),
        (
            "INT32",
            '[[{"a": [1.5e-7, []]}]]',
            0,
            'JSON Value: {\n    "a": [\n        1.5e-7,\n        []\n    ]\n} '
            "Type: Object is not of expected type: int32",
        ),
    ],
)
def test_what_is_no_tensor(dtype, values, index, message):
    expected = ITEM.format(index, message)
    assert refused(f'{{"instances": {values}}}', x=dtype) == (Code.INVALID_ARGUMENT, expected)


def test_numbers_inside_an_object_that_cannot_be_quoted_cut_the_quotation_off():
    _, message = refused('{"inputs": {"y": [1, NaN, 2]}, "instances": 1}', x="INT32")
    assert message.startswith(
        'JSON Value: {\n    "inputs": {\n        "y": [\n            1,\n             Not formatted'
    )


@pytest.mark.parametrize("dtype", ["HALF", "BFLOAT16", "UINT16", "COMPLEX64"])
def test_types_that_json_has_no_values_for(dtype):
    told = f"Conversion of JSON Value: 1.5 to type: {dtype.lower()}"
    assert refused('{"inputs": [1.5]}', x=dtype) == (Code.UNIMPLEMENTED, told)
    # In rows the stock server wraps what went wrong in an error of its own.
    told = f"Failed to process element: 0 of 'instances' list. Error: UNIMPLEMENTED: {told}"
    assert refused('{"instances": [1.5]}', x=dtype) == (Code.INVALID_ARGUMENT, told)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            '{"instances": [1]}',
            "instances is a plain list, but expecting list of objects as multiple input tensors "
            "required as per tensorinfo_map",
        ),
        (
            '{"inputs": [1]}',
            "inputs is a plain value/list, but expecting an object as multiple input tensors "
            "required as per tensorinfo_map",
        ),
        ('{"inputs": {"i": 1}}', "Missing named input: s in 'inputs' object."),
        (
            '{"instances": [{"i": 1, "s": "a"}, [1]]}',
            "Expecting object but got list at item 1 of input list",
        ),
        (
            '{"instances": [{"i": 1, "s": "a"}, {"i": [1], "s": "a"}]}',
            "Failed to process element: 1 key: i of 'instances' list. "
            "Error: INVALID_ARGUMENT: Expecting shape [] but got: [1]",
        ),
        (
            '{"instances": [{"i": 1, "other": "a"}]}',
            "Failed to process element: 0 key: other of 'instances' list. "
            "Error: INVALID_ARGUMENT: JSON object: does not have named input: other",
        ),
        (
            '{"instances": [{"i": 1}]}',
            "Failed to process element: 0 of 'instances' list. JSON object: "
            '{\n    "i": 1\n} keys must be equal to: i,s',
        ),
    ],
)
def test_several_inputs_that_do_not_fit(body, message):
    assert refused(body, i="INT32", s="STRING") == (Code.INVALID_ARGUMENT, message)


def test_an_object_among_plain_values():
    _, message = refused('{"instances": [["a"], {"x": ["b"]}]}', x="STRING")
    assert message == "Expecting value/list but got object at item 1 of input list"


def test_a_signature_without_inputs():
    assert refused('{"instances": [1]}')[1] == "Failed to get input map for signature: DEFAULT"
    _, message = refused('{"signature_name": "s", "instances": [1]}')
    assert message == "Failed to get input map for signature: s"


@pytest.mark.parametrize("depth", [65, 990, 5_000, 200_000])
def test_what_is_nested_too_deep(depth):
    for key in ("instances", "inputs"):
        body = f'{{"{key}": {"[" * depth}1{"]" * depth}}}'
        code, message = refused(body, x="INT32")
        assert code == Code.INVALID_ARGUMENT and ("too deep" in message or "64" in message)


def test_a_body_is_quoted_as_far_as_there_is_room():
    values = "[" * 900 + "0," * 100_000 + "0" + "]" * 900
    code, message = refused(f'{{"signature_name": 1, "x": {values}}}', x="INT32")
    assert code == Code.INVALID_ARGUMENT and len(message) < 70_000
    assert message.startswith('JSON Value: {\n    "signature_name": 1,\n    "x": [\n        [')
    assert message.endswith(
        "... not formatted correctly. 'signature_name' key must be a string value."
    )
    code, message = refused(json.dumps({"signature_name": ["\n" * 100_000]}), x="INT32")
    assert len(message) < 70_000 and "... not formatted" in message


@pytest.mark.parametrize(("end", "at"), [("nan]}", 0), ("1,]}", 2), ("1", 1)])
def test_a_long_body_that_is_no_json_is_refused_where_it_ceases_to_be(end, at):
    body = '{"instances": ["ä", ' + "1, " * 400_000
    code, message = refused(body + end, x="INT32")
    offset = len(body.encode()) + at
    assert code == Code.INVALID_ARGUMENT
    assert message == f"JSON Parse error: Invalid value. at offset: {offset}"
    code, message = refused(f"[{'1, ' * 400_000}1]", x="INT32")
    assert "Is not object" in message


# Answers ------------------------------------------------------------------------------------------


def strings(*values):
    return np.array(values, object)


@pytest.mark.parametrize(
    ("outputs", "row_format", "expected"),
    [
        ({"y": np.int32([1, 2])}, True, '{\n    "predictions": [1, 2\n    ]\n}'),
        ({"y": np.int32([[[1], [2]]])}, True, '{\n    "predictions": [[[1], [2]]\n    ]\n}'),
        (
            {"y": np.float32([[1, 0.1], [1e-7, 9e6]])},
            True,
            '{\n    "predictions": [[1.0, 0.1], [1e-07, 9e+06]\n    ]\n}',
        ),
        ({"y": np.zeros([0, 2], np.int32)}, True, '{\n    "predictions": []\n}'),
        (
            {"y": np.zeros([0, 2]), "z": np.zeros([0])},
            True,
            '{\n    "predictions": []\n}',
        ),
        ({"y": np.zeros([2, 0])}, True, '{\n    "predictions": [[], []\n    ]\n}'),
        (
            {"y": np.array([True, False]), "z": np.float64([[0.5], [2]])},
            True,
            '{\n    "predictions": [\n        {\n            "y": true,\n            "z": [0.5]\n'
            '        },\n        {\n            "y": false,\n            "z": [2.0]\n        }\n'
            "    ]\n}",
        ),
        (
            {"y_bytes": strings(b"tf", b"a")[:, None]},
            True,
            '{\n    "predictions": [[{\n                "b64": "dGY="\n            }], '
            '[{\n                "b64": "YQ=="\n            }]\n    ]\n}',
        ),
        (
            {"y_bytes": strings(b"tf"), "n": np.int64([1])},
            True,
            '{\n    "predictions": [\n        {\n            "y_bytes": {\n'
            '                "b64": "dGY="\n            },\n            "n": 1\n'
            "        }\n    ]\n}",
        ),
        ({"y": np.int32(7)}, False, '{\n    "outputs": 7\n}'),
        ({"y": np.zeros([0])}, False, '{\n    "outputs": []\n}'),
        (
            {"y": np.uint8([[1, 2], [3, 4]])},
            False,
            '{\n    "outputs": [\n        [\n            1,\n            2\n        ],\n'
            "        [\n            3,\n            4\n        ]\n    ]\n}",
        ),
        (
            {"a": np.int32([1]), "b_bytes": strings(b"tf")},
            False,
            '{\n    "outputs": {\n        "a": [\n            1\n        ],\n'
            '        "b_bytes": [\n            {\n                "b64": "dGY="\n            }\n'
            "        ]\n    }\n}",
        ),
    ],
)
def test_answers_are_laid_out_as_the_stock_servers(outputs, row_format, expected):
    assert predictions_json(outputs, row_format).decode() == expected


def test_strings_are_escaped_and_otherwise_left_as_they_are():
    answer = predictions_json({"y": strings(b'"\\/\x00\x1f\n\x7f\xc3\xa9\xff')}, True)
    assert b'["\\"\\\\/\\u0000\\u001F\\n\x7f\xc3\xa9\xff"\n' in answer


@pytest.mark.parametrize(
    ("value", "single", "double"),
    [
        (0.0, "0.0", "0.0"),
        (-0.0, "-0.0", "-0.0"),
        (999999.0, "999999.0", "999999.0"),
        (1000000.0, "1e+06", "1e+06"),
        (555557.5, "555557.5", "555557.5"),
        (16777216.0, "16777216.0", "16777216.0"),
        (0.0003, "0.0003", "0.0003"),
        (0.00003, "3e-05", "3e-05"),
        (1 / 3, "0.333333343", "0.33333333333333331"),
        (1e300, "Infinity", "1e+300"),
        (math.nan, "NaN", "NaN"),
        (-math.inf, "-Infinity", "-Infinity"),
    ],
)
def test_numbers_are_written_in_six_digits_or_all(value, single, double):
    with np.errstate(over="ignore"):
        assert _decimals(np.array([value], np.float32)) == [single]
    assert _decimals(np.array([value])) == [double]


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        ({}, "Cannot convert empty tensor map to JSON"),
        ({"y": np.int32(1)}, "Tensor name: y has no shape information "),
        (
            {"y": np.zeros([2, 3]), "z": np.zeros([1, 3])},
            "Tensor name: z has inconsistent batch size: 1 expecting: 2",
        ),
        (
            {"y": np.zeros([0]), "z": np.zeros([1])},
            "Tensor name: z has inconsistent batch size: 1 expecting: 0",
        ),
        (
            {"y": np.zeros([2], np.complex64)},
            "Failed to write JSON value for tensor type: complex64",
        ),
        ({"y": np.zeros([2], np.float16)}, "Failed to write JSON value for tensor type: half"),
        ({"y": np.zeros([2], np.uint16)}, "Failed to write JSON value for tensor type: uint16"),
    ],
)
def test_outputs_that_cannot_be_rows(outputs, message):
    with pytest.raises(ServingError) as caught:
        predictions_json(outputs, row_format=True)
    assert (caught.value.code, caught.value.message) == (Code.INVALID_ARGUMENT, message)


def test_classifications():
    result = text_format.Parse(
        'classifications { classes { label: "car" score: 0.2 } classes { score: 0.7 } }'
        "classifications { }",
        classification_pb2.ClassificationResult(),
    )
    expected = b'{\n    "results": [[["car", 0.2], ["", 0.7]], []\n    ]\n}'
    assert classifications_json(result) == expected
    with pytest.raises(ServingError, match="Cannot convert empty ClassificationResults to JSON"):
        classifications_json(classification_pb2.ClassificationResult())


def test_regressions():
    values = [0.2, math.inf, 1.0, -math.inf, math.nan]
    result = regression_pb2.RegressionResult()
    for value in values:
        result.regressions.add(value=value)
    expected = b'{\n    "results": [0.2, Infinity, 1.0, -Infinity, NaN]\n}'
    assert regressions_json(result) == expected
    with pytest.raises(ServingError, match="Cannot convert empty RegressionResults to JSON"):
        regressions_json(regression_pb2.RegressionResult())


def test_errors():
    assert error_json("Bad key: \"key\" 'k'") == b'{\n    "error": "Bad key: \\"key\\" \'k\'"\n}'
    assert error_json(invalid_argument("\udcff").message) == b'{\n    "error": "\xff"\n}'
    assert {http_status(code) for code in Code} >= {
        200,
        400,
        404,
        409,
        429,
        499,
        500,
        501,
        503,
        504,
    }


# Examples -----------------------------------------------------------------------------------------


def example(text):
    return text_format.Parse(text, example_pb2.Example())


def test_examples_with_a_context():
    body = parse_examples(
        b'{"signature_name": "s", "context": {"query": "pizza"}, "examples": ['
        b'{"names": ["foo", {"b64": "aGVsbG8="}], "ratings": [8.0, NaN, Infinity], "age": 20},'
        b'{"mix": [1, true, false], "none": []}]}'
    )
    assert body.signature_name == "s" and body.context is not None
    assert body.context.features.feature["query"].bytes_list.value == [b"pizza"]
    first, second = (each.features.feature for each in body.examples)
    assert first["names"].bytes_list.value == [b"foo", b"hello"]
    assert str(list(first["ratings"].float_list.value)) == "[8.0, nan, inf]"
    assert first["age"].int64_list.value == [20]
    assert second["mix"].int64_list.value == [1, 1, 0]
    assert "none" in second and second["none"].WhichOneof("kind") is None


def test_examples_without_a_context():
    body = parse_examples(b'{"examples": [{"a": 1.5}, {}, {"a": 1, "a": [2, 3]}]}')
    assert body.context is None and body.signature_name == "serving_default"
    assert body.examples[0] == example(
        'features { feature { key: "a" value { float_list { value: 1.5 } } } }'
    )
    assert body.examples[2].features.feature["a"].int64_list.value == [2, 3]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("[10, null]", "Feature: f has element with unexpected JSON type: Null"),
        ('[10, {"test": 10}]', "Feature: f has element with unexpected JSON type: Object"),
        ("[[10], 20]", "Feature: f has element with unexpected JSON type: Array"),
        ("[10, 10.0]", "Unexpected element type in feature: f expecting type: int64"),
        ("[1.5, true]", "Unexpected element type in feature: f expecting type: float"),
        ('["a", 1]', "Unexpected element type in feature: f expecting type: bytes"),
        ("[20, 18446744073709551603]", "Feature: f has uint64 element. Only int64 is supported."),
        ('{"b64": "a"}', "Unable to base64 decode"),
        (
            "1e300",
            "Cannot convert JSON value: 1e+300 to float without loss of precision.",
        ),
        ("1e999", "JSON Parse error: Number too big to be stored in double. at offset: 20"),
    ],
)
def test_features_that_do_not_fit(value, message):
    assert refused_examples(f'{{"examples": [{{"f": {value}}}]}}') == message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"signature_name": ["a"]}', "'signature_name' key must be a string value."),
        ('{"context": []}', "Example must be JSON object but got JSON Array"),
        ('{"examples": [[]]}', "Example must be JSON object but got JSON Array"),
        (
            "{}",
            "JSON Value: {} When method is classify, key 'examples' is expected and was not found",
        ),
        ('{"examples": {}}', "Expecting 'examples' value to be an list/array"),
        ('{"examples": []}', "'examples' value is an empty array"),
        (b'{"examples": [{"\xff": 1}]}', "has a name that is not UTF-8"),
    ],
)
def test_what_is_no_list_of_examples(body, message):
    assert refused_examples(body).endswith(message)


# Anything -----------------------------------------------------------------------------------------

TOKENS = st.sampled_from(
    [
        *'{ } [ ] , : "instances" "inputs" "signature_name" "examples" "context" "b64" "x"'.split(),
        *'"i" "s" "a" "aGk=" "\\ud800" "\\udc80" 1 -0 1.5 1e5 1e999 1e39 -1e-400 NaN Inf'.split(),
        *"-Infinity true false null 255 4294967296 9223372036854775808".split(),
        "18446744073709551616",
        *'{"b64":"aGk="} [1] [[]] {"instances":[ {"inputs": {"examples":[{"x": ]} }]}'.split(),
        *[" ", "\0", "\xff", "9" * 400, "9" * 4500, "[" * 2000, '{"x":' * 1500, "]" * 2000],
    ]
)
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**31, 2**53, 2**63, 2**64, 10**300, 10**320])
    | st.floats()
    | st.text(max_size=4)
    | st.just({"b64": "aGk="})
    | st.just({"b64": "?"})
)
NAMES = st.sampled_from(["x", "i", "s", "b64", "instances", "a\0b"])
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=12,
)
TOP = st.sampled_from(["instances", "inputs", "examples", "context", "signature_name"])
SIGNATURES = [{"x": "FLOAT"}, {"x": "STRING"}, {"i": "INT32", "s": "STRING", "x": "UINT64"}]


def read_anyhow(body):
    """Reads a body in every way; only a `ServingError` may come of it."""
    for dtypes in SIGNATURES:
        try:
            parsed = read(body, **dtypes)
        except ServingError as error:
            assert error_json(error.message)
        else:
            for name, array in parsed.inputs.items():
                assert array.dtype.kind in "fOiu" and name in dtypes
                assert predictions_json({name: array}, row_format=False)
    try:
        parse_examples(body)
    except ServingError as error:
        assert error_json(error.message)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(TOP, VALUES, min_size=1, max_size=2) | VALUES)
def test_any_document(document):
    read_anyhow(json.dumps(document).encode())


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40) | st.binary(max_size=20).map(lambda tail: b'{"instances":[' + tail))
def test_any_bytes(body):
    read_anyhow(body)


@settings(max_examples=200, deadline=None)
@given(st.lists(TOKENS, max_size=12))
def test_any_tokens(tokens):
    read_anyhow("".join(tokens).encode("latin-1"))


SHAPES = arrays.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=3)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(
        [np.float32, np.float64, np.int32, np.int64, np.uint8, np.uint64, np.bool_]
    ).flatmap(lambda dtype: arrays.arrays(dtype, SHAPES))
)
def test_an_answer_reads_back_as_it_was(array):
    # The stock server prints the largest float, in nine digits, as more than it takes.
    assume(array.dtype != np.float32 or not (np.abs(array) == np.finfo(np.float32).max).any())
    dtype = {"float32": "FLOAT", "float64": "DOUBLE"}.get(
        array.dtype.name, array.dtype.name.upper()
    )
    for row_format, key in [(True, b"predictions"), (False, b"outputs")]:
        answer = predictions_json({"x": array}, row_format)
        body = answer.replace(key, b"instances" if row_format else b"inputs", 1)
        read_back = read(body, x=dtype).inputs["x"]
        assert read_back.dtype == array.dtype
        np.testing.assert_array_equal(read_back, array)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=8), min_size=1), st.sampled_from(["x", "x_bytes"]))
def test_strings_read_back_as_they_were(values, name):
    body = predictions_json({name: strings(*values)}, True).replace(b"predictions", b"instances", 1)
    assert read(body, x="STRING").inputs["x"].tolist() == values
    encoded = rows([{"b64": base64.b64encode(value).decode()} for value in values])
    assert read(encoded, x="STRING").inputs["x"].tolist() == values


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from([np.float32, np.float64]).flatmap(
        lambda dtype: arrays.arrays(
            dtype,
            8,
            elements=arrays.from_dtype(np.dtype(dtype)) | st.sampled_from([0.1, 1e6, 7e9, 0.001]),
        )
    )
)
def test_many_numbers_are_written_as_each_alone(values):
    single = values.dtype == np.float32
    assert _decimals(values) == [rapidjson.decimal(float(value), single) for value in values]


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(st.text(), VALUES))
def test_both_ways_of_reading_agree(document):
    body = json.dumps(document, ensure_ascii=len(document) % 2 == 0).encode()
    assume(b"0" * 310 not in body)
    fast, exact = rapidjson.parse(body), rapidjson.parse_exactly(body)
    assert rapidjson.to_text(fast) == rapidjson.to_text(exact)
