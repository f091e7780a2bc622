"""Predict over REST: what is answered to good requests."""

import gzip
import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.serving.conformance.cases import assert_answers, table
from tests.serving.conformance.models import DTYPES


@dataclass(frozen=True)
class Case:
    id: str
    body: Any
    answer: Any  # text: with its white space left out; else what it is as JSON
    model: str = "half"
    signature: str = ""
    headers: dict[str, str] = field(default_factory=dict)


BODIES = [
    Case("row format", {"instances": [1.0, 2.0, 5.0]}, '{"predictions":[3.5,4.0,5.5]}'),
    Case("columnar format", {"inputs": [1.0, 2.0, 5.0]}, '{"outputs":[3.5,4.0,5.5]}'),
    Case("rows as objects", {"instances": [{"x": 1.0}, {"x": 2.0}]}, '{"predictions":[3.5,4.0]}'),
    Case("columns as an object", {"inputs": {"x": [1.0]}}, '{"outputs":[3.5]}'),
    Case("a column may be a single value", {"inputs": 1.0}, '{"outputs":3.5}'),
    Case("a named column may be a single value", {"inputs": {"x": 1}}, '{"outputs":3.5}'),
    Case("other columns are ignored", {"inputs": {"x": [1], "y": [2]}}, '{"outputs":[3.5]}'),
    Case(
        "rows may be lists",
        {"instances": [[1, 2], [3, 4]]},
        '{"predictions":[[3.5,4.0],[4.5,5.0]]}',
    ),
    Case("an integer is a float, too", {"instances": [2]}, '{"predictions":[4.0]}'),
    Case("a column may be empty", {"inputs": []}, '{"outputs":[]}'),
    Case("rows may be empty lists", {"instances": [[], []]}, '{"predictions":[[],[]]}'),
    Case("other keys are ignored", {"instances": [1], "id": 7}, '{"predictions":[3.5]}'),
    Case(
        "what follows the first value is ignored",
        '{"instances": [1]} {"instances": "x"} and so on',
        '{"predictions":[3.5]}',
    ),
    Case("white space around the value", ' \n\t{"instances":[1]}\r\n', '{"predictions":[3.5]}'),
    Case("a byte order mark", b'\xef\xbb\xbf{"instances":[1]}', '{"predictions":[3.5]}'),
    Case(
        "the signature is named",
        {"signature_name": "serving_default", "instances": [1]},
        '{"predictions":[3.5]}',
    ),
    Case(
        "no signature name is the default's",
        {"signature_name": "", "instances": [1]},
        '{"predictions":[3.5]}',
    ),
    Case(
        "what type the body has is not looked at",
        {"instances": [1]},
        '{"predictions":[3.5]}',
        headers={"Content_Type": "text/plain"},
    ),
    Case(
        "a gzip body is unpacked",
        gzip.compress(b'{"instances": [1]}'),
        '{"predictions":[3.5]}',
        headers={"Content_Encoding": "gzip"},
    ),
    Case(
        "an encoding that is not gzip is ignored",
        {"instances": [1]},
        '{"predictions":[3.5]}',
        headers={"Content_Encoding": "br"},
    ),
    Case(
        "NaN and infinities come in and go out",
        '{"instances": [NaN, Infinity, -Infinity, Inf, -Inf]}',
        '{"predictions":[NaN,Infinity,-Infinity,Infinity,-Infinity]}',
    ),
    Case("10,000 rows", {"instances": [0] * 10_000}, {"predictions": [3.0] * 10_000}),
]

SHAPES = [
    Case(
        "two inputs in rows",
        {"instances": [{"a": 0.5, "b": 1}, {"b": 2, "a": 1}]},
        '{"predictions":[1.5,3.0]}',
    ),
    Case("two inputs in columns", {"inputs": {"a": [0.5], "b": [1]}}, '{"outputs":[1.5]}'),
    Case(
        "several outputs keep their names in rows",
        {"instances": [{"a": 0.5, "b": 1}, {"a": 1, "b": 2}]},
        {"predictions": [{"sum": 1.5, "twice": 2}, {"sum": 3.0, "twice": 4}]},
        signature="two_outputs",
    ),
    Case(
        "several outputs keep their names in columns",
        {"inputs": {"a": [0.5, 1], "b": [1, 2]}},
        {"outputs": {"sum": [1.5, 3.0], "twice": [2, 4]}},
        signature="two_outputs",
    ),
    Case(
        "two outputs may be one tensor",
        {"instances": [{"a": 0.5, "b": 1}]},
        {"predictions": [{"sum": 1.5, "again": 1.5}]},
        signature="same_output",
    ),
    Case("a scalar output in columns", {"inputs": [1, 2]}, '{"outputs":1.5}', signature="scalar"),
    Case(
        "outputs of unequal sizes in columns",
        {"inputs": [1, 2]},
        {"outputs": {"a": [1, 2], "one": [1]}},
        signature="unequal",
    ),
    Case(
        "an output of rank two in rows",
        {"instances": [1, 2]},
        '{"predictions":[[1.0,2.0],[2.0,4.0]]}',
        signature="matrix",
    ),
    Case(
        "an output without rows in rows",
        {"instances": [1, 2]},
        '{"predictions":[]}',
        signature="empty",
    ),
    Case("an output without rows in columns", {"inputs": [1]}, '{"outputs":[]}', signature="empty"),
]

TEXTS = [
    Case(
        "unicode, escaped or not, goes out as it is",
        '{"instances": ["é中\U0001f600", "\\u00e9\\ud83d\\ude00", ""]}',
        '{"predictions":["é中\U0001f600","é\U0001f600",""]}',
    ),
    Case(
        "control characters and quotes go out escaped",
        {"instances": ['"\\/\b\f\n\r\t\x01\x00']},
        '{"predictions":["\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u0000"]}',
    ),
    Case("base64 in", {"instances": [{"b64": "aGk="}]}, '{"predictions":["hi"]}'),
    Case("base64 in columns", {"inputs": [{"b64": "aGk="}]}, '{"outputs":["hi"]}'),
    Case(
        "base64 under its name",
        {"instances": [{"text": {"b64": "aGk="}}]},
        '{"predictions":["hi"]}',
    ),
    Case("base64 without padding", {"instances": [{"b64": "aGk"}]}, '{"predictions":["hi"]}'),
    Case(
        "base64 goes out if the name ends in _bytes",
        {"instances": ["hi"]},
        '{"predictions":[{"b64":"aGk="}]}',
        signature="bytes",
    ),
    Case(
        "base64 goes out in columns",
        {"inputs": ["hi"]},
        '{"outputs":[{"b64":"aGk="}]}',
        signature="bytes",
    ),
    Case(
        "base64 goes out for that output alone",
        {"instances": ["hi"]},
        {"predictions": [{"text": "hi", "text_bytes": {"b64": "aGk="}}]},
        signature="both_texts",
    ),
    Case(
        "bytes that are no UTF-8 survive as base64",
        {"instances": [{"b64": "/wD+"}]},
        '{"predictions":[{"b64":"/wD+"}]}',
        signature="bytes",
    ),
    Case(
        "a string of a megabyte",
        {"instances": ["x" * 2**20]},
        {"predictions": ["x" * 2**20]},
    ),
]

NUMBERS = [
    Case(f"{dtype} {values}", f'{{"inputs": {values}}}', f'{{"outputs":{answer}}}', signature=dtype)
    for dtype, values, answer in [
        ("float", "[0, 1, -0.0, 1e10, 0.1]", "[0.0,1.0,-0.0,1e+10,0.1]"),
        ("float", "[123456, 1234567, 0.3333333333]", "[123456.0,1234567.0,0.333333343]"),
        ("float", "[1e-45, 3.4028234e38]", "[1.4013e-45,3.40282347e+38]"),
        ("double", "[1, 0.1, 1e300, 0.1234567891]", "[1.0,0.1,1e+300,0.12345678910000001]"),
        ("double", "[0.333333333333333314829616256247]", "[0.33333333333333331]"),
        ("int8", "[-128, 127]", "[-128,127]"),
        ("int16", "[-32768, 32767]", "[-32768,32767]"),
        ("int32", "[-2147483648, 2147483647]", "[-2147483648,2147483647]"),
        ("int64", "[-9223372036854775808]", "[-9223372036854775808]"),
        ("int64", "[9223372036854775807]", "[9223372036854775807]"),
        ("uint8", "[0, 255]", "[0,255]"),
        ("uint8", "[256, -1]", "[0,255]"),
        ("uint32", "[4294967295]", "[4294967295]"),
        ("uint64", "[18446744073709551615]", "[18446744073709551615]"),
        ("bool", "[true, false]", "[true,false]"),
        ("string", '["true"]', '["true"]'),
        ("reciprocal", "[0, -0.0, 4]", "[Infinity,-Infinity,0.25]"),
    ]
]


def ask(server, case, model):
    body = case.body
    if case.signature:
        body = json.loads(body) if isinstance(body, str) else body
        body = {"signature_name": case.signature, **body}
    return server.post(f"/v1/models/{model}:predict", body, **case.headers)


@table(BODIES)
def test_a_body_is_read(server, case):
    assert_answers(ask(server, case, "half"), case.answer)


@table(SHAPES)
def test_shapes_come_out(server, case):
    assert_answers(ask(server, case, "shapes"), case.answer)


@table(TEXTS)
def test_texts_come_through(server, case):
    signature = case.signature or "text"
    body = case.body
    if isinstance(body, str):
        body = f'{{"signature_name": "{signature}", {body[1:]}'
    else:
        body = {"signature_name": signature, **body}
    assert_answers(server.post("/v1/models/shapes:predict", body), case.answer)


@table(NUMBERS)
def test_numbers_come_through(server, case):
    body = f'{{"signature_name": "{case.signature}", {case.body[1:]}'
    assert_answers(server.post("/v1/models/types:predict", body), case.answer)


@pytest.mark.parametrize("key", ["instances", "inputs"])
def test_every_type_comes_through_at_once(server, key):
    names = set(DTYPES) - {"half", "bfloat16", "uint16"}
    row = {name: "text" if name == "string" else name == "bool" or 7 for name in names}
    values = [row] if key == "instances" else {name: [value] for name, value in row.items()}
    answer = server.post("/v1/models/types:predict", {"signature_name": "all", key: values})
    assert_answers(answer, {"predictions" if key == "instances" else "outputs": values})
