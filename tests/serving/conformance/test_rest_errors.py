"""Predict over REST: what is said to bad requests, and in which layout."""

import gzip
import json
import re
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.serving.conformance.cases import assert_refuses, table


@dataclass(frozen=True)
class Case:
    id: str
    body: Any
    message: str | re.Pattern[str]
    model: str = "half"
    signature: str = ""
    status: int = 400
    headers: dict[str, str] = field(default_factory=dict)


def pretty(value):
    """A value as messages quote it."""
    return json.dumps(value, indent=4)


def not_formatted(body, problem):
    return f"JSON Value: {pretty(body)} {problem}"


BOTH = {"instances": [1], "inputs": [1]}
BODIES = [
    Case(
        "rows and columns at once",
        BOTH,
        not_formatted(
            BOTH,
            "Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist ",
        ),
    ),
    Case("neither rows nor columns", {"x": 1}, "Missing 'inputs' or 'instances' key"),
    Case("an empty object", {}, "Missing 'inputs' or 'instances' key"),
    Case("a list at the top", [1], "JSON Value: [\n    1\n] Is not object"),
    Case("a number at the top", "1.5", "JSON Value: 1.5 Is not object"),
    Case("a text at the top", '"x"', 'JSON Value: "x" Is not object'),
    Case("an empty body", b"", "JSON Parse error: The document is empty"),
    Case("a blank body", b"  ", "JSON Parse error: The document is empty. at offset: 2"),
    Case("a word that is no JSON", b"hello", "JSON Parse error: Invalid value. at offset: 0"),
    Case(
        "an object that does not end",
        b'{"instances": [1]',
        "JSON Parse error: Missing a comma or '}' after an object member. at offset: 17",
    ),
    Case(
        "a list that does not end",
        b'{"instances": [1',
        "JSON Parse error: Missing a comma or ']' after an array element. at offset: 16",
    ),
    Case(
        "single quotes",
        b"{'instances': [1]}",
        "JSON Parse error: Missing a name for object member. at offset: 1",
    ),
    Case(
        "a signature name that is a number",
        {"signature_name": 1, "instances": [1]},
        not_formatted(
            {"signature_name": 1, "instances": [1]},
            "not formatted correctly. 'signature_name' key must be a string value.",
        ),
    ),
    Case(
        "a signature name that is null",
        {"signature_name": None, "instances": [1]},
        not_formatted(
            {"signature_name": None, "instances": [1]},
            "not formatted correctly. 'signature_name' key must be a string value.",
        ),
    ),
    Case(
        "a signature that there isn't",
        {"signature_name": "nope", "instances": [1]},
        'Serving signature name: "nope" not found in signature def',
    ),
    Case(
        "instances that are no list",
        {"instances": 1},
        not_formatted({"instances": 1}, "Excepting 'instances' to be an list/array"),
    ),
    Case(
        "no instances",
        {"instances": []},
        not_formatted({"instances": []}, "No values in 'instances' array"),
    ),
    Case(
        "a gzip body that isn't",
        b'{"instances": [1]}',
        re.compile("."),
        headers={"Content_Encoding": "gzip"},
    ),
    Case(
        "a gzip body that is cut off",
        gzip.compress(b'{"instances": [1]}')[:-12],
        re.compile("."),
        headers={"Content_Encoding": "gzip"},
    ),
    Case(
        "a gzip body without the header",
        gzip.compress(b'{"instances": [1]}'),
        "JSON Parse error: Invalid value. at offset: 0",
    ),
    Case(
        "a default signature that there isn't",
        {"instances": [1]},
        'Serving signature name: "serving_default" not found in signature def',
        model="types",
    ),
    Case(
        "a message with quotes and unicode",
        {"signature_name": '"é\n', "instances": [1]},
        'Serving signature name: ""é\n" not found in signature def',
    ),
    Case(
        "a signature without inputs",
        {"instances": [1]},
        "Failed to get input map for signature: no_inputs",
        model="shapes",
        signature="no_inputs",
    ),
]

ROW = "Failed to process element: {} of 'instances' list."
NAMED_ROW = "Failed to process element: {} key: {} of 'instances' list."
ROWS = [
    Case(
        "bare rows where there are two inputs",
        {"instances": [1, 2]},
        "instances is a plain list, but expecting list of objects as multiple "
        "input tensors required as per tensorinfo_map",
        model="shapes",
    ),
    Case(
        "bare columns where there are two inputs",
        {"inputs": [1, 2]},
        "inputs is a plain value/list, but expecting an object as multiple "
        "input tensors required as per tensorinfo_map",
        model="shapes",
    ),
    Case(
        "a row that lacks an input",
        {"instances": [{"a": 1}]},
        f"{ROW.format(0)} JSON object: {pretty({'a': 1})} keys must be equal to: a,b",
        model="shapes",
    ),
    Case(
        "a row with an input too many",
        {"instances": [{"a": 1, "b": 2}, {"a": 1, "b": 2, "c": 3}]},
        f"{NAMED_ROW.format(1, 'c')} Error: INVALID_ARGUMENT: "
        "JSON object: does not have named input: c",
        model="shapes",
    ),
    Case(
        "a column that is missing",
        {"inputs": {"a": [1]}},
        "Missing named input: b in 'inputs' object.",
        model="shapes",
    ),
    Case(
        "a bare row after an object",
        {"instances": [{"x": 1}, 2]},
        "Expecting object but got list at item 1 of input list",
    ),
    Case(
        "an object after a bare row",
        {"instances": [1, {"x": 2}]},
        "Expecting value/list but got object at item 1 of input list",
    ),
    Case(
        "rows of another rank",  # which the stock server leaves to the graph
        {"signature_name": "text", "instances": [["a", "b"], ["c", "d"]]},
        "Shape of input text [2,2] is not compatible with expected shape [?]",
        model="shapes",
    ),
    Case(
        "a column without dimensions",
        {"signature_name": "text", "inputs": "a"},
        "Shape of input text [] is not compatible with expected shape [?]",
        model="shapes",
    ),
    Case(
        "rows of another size",
        {"signature_name": "wide", "instances": [[1, 2, 3, 4]]},
        "Shape of input wide [1,4] is not compatible with expected shape [1,3]",
        model="shapes",
    ),
    Case(
        "rows of unequal sizes",
        {"instances": [[1, 2], [3]]},
        f"{ROW.format(1)} Error: INVALID_ARGUMENT: Expecting tensor size: 2 but got: 1",
    ),
    Case(
        "rows of unequal shapes",
        {"instances": [[[1], [2]], [[3, 4]]]},
        f"{ROW.format(1)} Error: INVALID_ARGUMENT: Expecting shape [2,1] but got: [1,2]",
    ),
    Case(
        "a row that is ragged in itself",
        {"instances": [[[1, 2], [3]]]},
        f"{ROW.format(0)} Error: INVALID_ARGUMENT: "
        "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
    ),
    Case(
        "a ragged column",
        {"inputs": [[1, 2], [3]]},
        "Encountered list at unexpected size: 1 at level: 1 expected size: 2",
    ),
    Case(
        "a value among lists",
        {"inputs": [[1], 2]},
        "JSON Value: 2 found at incorrect level: 2 in the JSON DOM. Expected at level: 2",
    ),
    Case(
        "a list among values",
        {"inputs": [1, [2]]},
        "Encountered list at unexpected level: 1 expected < 1",
    ),
    Case(
        "a scalar output in rows",
        {"instances": [1, 2]},
        "Tensor name: mean has no shape information ",
        model="shapes",
        signature="scalar",
    ),
    Case(
        "outputs of unequal sizes in rows",
        {"instances": [1, 2]},
        re.compile(r"^Tensor name: (one|a) has inconsistent batch size: (1|2) expecting: (2|1)$"),
        model="shapes",
        signature="unequal",
    ),
]


def no_type(shown, kind, dtype):
    return f"JSON Value: {shown} Type: {kind} is not of expected type: {dtype}"


def unimplemented(dtype):
    return f"Conversion of JSON Value: 1 to type: {dtype}"


VALUES = [
    Case(f"{dtype} of {value}", f'{{"inputs": [{value}]}}', message, "types", dtype, status)
    for dtype, value, message, status in [
        *[
            (dtype, "1.0", no_type("1.0", "Number", dtype), 400)
            for dtype in ("int8", "int16", "int32", "int64", "uint8", "uint32", "uint64")
        ],
        ("int32", "true", no_type("true", "True", "int32"), 400),
        ("int64", '"1"', no_type('"1"', "String", "int64"), 400),
        ("int32", "null", no_type("null", "Null", "int32"), 400),
        ("int32", "2147483648", no_type("2147483648", "Number", "int32"), 400),
        ("int8", "-2147483649", no_type("-2147483649", "Number", "int8"), 400),
        ("int64", "9223372036854775808", no_type("9223372036854775808", "Number", "int64"), 400),
        ("uint32", "-1", no_type("-1", "Number", "uint32"), 400),
        ("uint64", "-1", no_type("-1", "Number", "uint64"), 400),
        ("uint64", "18446744073709551616", no_type("1.84467441e+19", "Number", "uint64"), 400),
        ("float", '"1"', no_type('"1"', "String", "float"), 400),
        ("float", "true", no_type("true", "True", "float"), 400),
        ("float", '{"b64": "aGk="}', None, 400),
        (
            "float",
            "16777216",
            "Cannot convert JSON value: 16777216 to float without loss of precision.",
            400,
        ),
        (
            "float",
            "1e39",
            "Cannot convert JSON value: 1e+39 to float without loss of precision.",
            400,
        ),
        (
            "double",
            "9007199254740992",
            "Cannot convert JSON value: 9007199254740992 to double without loss of precision.",
            400,
        ),
        (
            "double",
            "1e309",
            "JSON Parse error: Number too big to be stored in double. at offset: 40",
            400,
        ),
        ("bool", "1", no_type("1", "Number", "bool"), 400),
        ("bool", '"true"', no_type('"true"', "String", "bool"), 400),
        ("string", "1", no_type("1", "Number", "string"), 400),
        ("string", '{"b64": "?"}', "Unable to base64 decode", 400),
        ("string", '{"b64": "aGk=="}', "Unable to base64 decode", 400),
        ("half", "1", unimplemented("half"), 501),
        ("bfloat16", "1", unimplemented("bfloat16"), 501),
        ("uint16", "1", unimplemented("uint16"), 501),
    ]
    if message
] + [
    Case(
        "float of base64",
        {"inputs": [{"b64": "aGk="}]},
        no_type(pretty({"b64": "aGk="}), "Object", "float"),
        "types",
        "float",
    ),
    Case(
        "string of b64 with another key",
        {"inputs": [{"b64": "aGk=", "x": 1}]},
        f"JSON Value: {pretty({'b64': 'aGk=', 'x': 1})} not formatted correctly for base64 data",
        "types",
        "string",
    ),
    Case(
        "string of b64 that is no text",
        {"inputs": [{"b64": 1}]},
        f"JSON Value: {pretty({'b64': 1})} not formatted correctly for base64 data",
        "types",
        "string",
    ),
    *[
        Case(
            f"an output of {dtype}",
            {"inputs": [1]},
            f"Failed to write JSON value for tensor type: {dtype}",
            "types",
            f"to_{dtype}",
        )
        for dtype in ("half", "bfloat16", "uint16")
    ],
    Case(
        "an output of complex64",
        {"inputs": [1]},
        "Failed to write JSON value for tensor type: complex64",
        "types",
        "to_complex",
    ),
]

FAILURES = [
    Case(f"{name} is {status}", {"inputs": values}, re.compile(message), "failures", name, status)
    for name, values, message, status in [
        ("INVALID_ARGUMENT", [5], r"indices\[0\] = 5 is not in \[0, 2\)", 400),
        ("FAILED_PRECONDITION", [1], "Table not initialized", 400),
        ("OUT_OF_RANGE", [1], "End of sequence", 400),
        ("NOT_FOUND", ["/no/such/file"], "/no/such/file; No such file", 404),
        ("CANCELLED", [1], "closed", 499),
        ("DATA_LOSS", ["no gzip"], "inflate", 500),
    ]
]


def ask(server, case):
    body = case.body
    if case.signature:
        text = body if isinstance(body, str) else json.dumps(body)
        body = f'{{"signature_name": "{case.signature}", {text[1:]}'
    return server.post(f"/v1/models/{case.model}:predict", body, **case.headers)


@table(BODIES)
def test_a_bad_body_is_refused(server, case):
    assert_refuses(ask(server, case), case.status, case.message)


@table(ROWS)
def test_what_does_not_fit_the_signature_is_refused(server, case):
    assert_refuses(ask(server, case), case.status, case.message)


@table(VALUES)
def test_a_value_of_another_type_is_refused(server, case):
    assert_refuses(ask(server, case), case.status, case.message)


@table(FAILURES)
def test_what_the_graph_says_is_passed_on(server, case):
    assert_refuses(ask(server, case), case.status, case.message)


@pytest.mark.parametrize("key", ["instances", "inputs"])
def test_a_message_keeps_bytes_that_are_no_utf8(server, key):
    body = b'{"signature_name": "int32", "%s": ["\xff"]}' % key.encode()
    answer = server.post("/v1/models/types:predict", body)
    assert answer.status == 400 and b'\\"\xff\\" Type: String is not of expected' in answer.body
