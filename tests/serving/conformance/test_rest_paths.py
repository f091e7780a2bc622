"""REST paths and methods: which there are, and what is said to the others."""

from dataclasses import dataclass

import pytest

from tests.serving.conformance.cases import assert_answers, assert_refuses, table

ODD = "half%2Fplus%20two%20%C3%A9"
ODD_LABEL = "release%20candidate%2F1%3A%C3%A4"
ROWS = b'{"instances": [1]}'
NO_NAME = "Missing model name in request."
NOT_FOUND = "Servable not found for request:"
NO_LABEL = "Unrecognized servable version label:"
TOO_LARGE = "9223372036854775808"


@dataclass(frozen=True)
class Case:
    id: str
    request: str  # method and path
    answer: str  # if it fails, the message
    status: int = 200


PREDICT = [
    Case("latest", "half", '{"predictions":[3.5]}'),
    Case("version", "half/versions/1", '{"predictions":[2.5]}'),
    Case("version with zeros before it", "half/versions/001", '{"predictions":[2.5]}'),
    Case("label", "half/labels/stable", '{"predictions":[2.5]}'),
    Case("label of the latest", "half/labels/canary", '{"predictions":[3.5]}'),
    Case("encoded name", ODD, '{"predictions":[3.5]}'),
    Case("encoded letters", "%68alf", '{"predictions":[3.5]}'),
    Case("encoded label", f"half/labels/{ODD_LABEL}", '{"predictions":[2.5]}'),
    Case("words in capitals", "half/VERSIONS/1", '{"predictions":[2.5]}'),
    Case("no such model", "nope", f"{NOT_FOUND} Latest(nope)", 404),
    Case("names mind case", "HALF", f"{NOT_FOUND} Latest(HALF)", 404),
    Case(
        "no such version",
        "half/versions/9",
        f"{NOT_FOUND} Specific(half, 9)",
        404,
    ),
    Case("no such label", "half/labels/x", f"{NO_LABEL} x", 400),
    Case("labels mind case", "half/labels/Stable", f"{NO_LABEL} Stable", 400),
    Case("label of no model", "nope/labels/x", f"{NO_LABEL} x", 400),
    Case(
        "largest version",
        "half/versions/9223372036854775807",
        f"{NOT_FOUND} Specific(half, 9223372036854775807)",
        404,
    ),
    Case(
        "version beyond int64",
        f"half/versions/{TOO_LARGE}",
        f"Failed to convert version: {TOO_LARGE} to numeric.",
        400,
    ),
    Case("a broken escape is kept", "h%zz", f"{NOT_FOUND} Latest(h%zz)", 404),
    Case("a plus is no blank", "a+b", f"{NOT_FOUND} Latest(a+b)", 404),
]

MALFORMED = [
    Case(f"{method} {path}", f"{method} {path}", f"Malformed request: {method} {path}", 400)
    for method, path in [
        ("GET", "/v1/models/half:predict"),
        ("PUT", "/v1/models/half:predict"),
        ("DELETE", "/v1/models/half"),
        ("PATCH", "/v1/models/half"),
        ("POST", "/v1/models/half"),
        ("POST", "/v1/models/half/metadata"),
        ("POST", "/v1/models/half:predicts"),
        ("POST", "/v1/models/half:Predict"),
        ("POST", "/v1/models/half:classify/"),
        ("POST", "/v1/models/half:predict?x=1"),
        ("POST", "/v1/models/half:multiInference"),
        ("POST", "/v1/models/:predict"),
        ("POST", "/v1/models/half/versions/x:predict"),
        ("POST", "/v1/models/half/versions/-1:predict"),
        ("POST", "/v1/models/half/versions/1/labels/stable:predict"),
        ("GET", "/v1/models/"),
        ("GET", "/v1/models/half/"),
        ("GET", "/v1/models/half/versions"),
        ("GET", "/v1/models/half/metadata/x"),
        ("GET", "/v1/half"),
        ("GET", "/v1/"),
    ]
]

STATUS = [
    Case("no name", "GET /v1/models", NO_NAME, 400),
    Case(
        "no name with a version", "GET /v1/models/versions/1", "Missing model name in request.", 400
    ),
    Case("no such model", "GET /v1/models/nope", "Could not find any versions of model nope", 404),
    Case(
        "no such version",
        "GET /v1/models/half/versions/9",
        "Could not find version 9 of model half",
        404,
    ),
    Case(
        "the query is part of the name",
        "GET /v1/models/half?x=1",
        "Could not find any versions of model half?x=1",
        404,
    ),
    Case(
        "a version beyond int64",
        f"GET /v1/models/half/versions/{TOO_LARGE}",
        f"Failed to convert version: {TOO_LARGE} to numeric.",
        400,
    ),
]


def ask(server, request):
    method, path = request.split(" ", 1)
    return server.ask(method, path, ROWS if method == "POST" else None)


@table(PREDICT)
def test_a_path_names_the_version(server, case):
    answer = server.post(f"/v1/models/{case.request}:predict", ROWS)
    if case.status == 200:
        assert_answers(answer, case.answer)
    else:
        assert_refuses(answer, case.status, case.answer)


@table(MALFORMED)
def test_another_path_or_method_is_malformed(server, case):
    assert_refuses(ask(server, case.request), case.status, case.answer)


@table(STATUS)
def test_a_status_that_there_isnt(server, case):
    assert_refuses(ask(server, case.request), case.status, case.answer)


def test_the_path_but_not_the_method_may_be_in_capitals(server):
    assert server.post("/V1/Models/half/Labels/stable:predict", ROWS).json == {"predictions": [2.5]}
    assert server.get("/V1/MODELS/half/METADATA").json == server.get("/v1/models/half").json


@pytest.mark.parametrize("origin", ["http://localhost:3000", "https://shop.example", "x http://y"])
def test_a_preflight_is_answered_with_its_origin(server, origin):
    for path in ("/v1/models/half:predict", "/v1/models/nope", "/v1/x"):
        answer = server.ask("OPTIONS", path, None, Origin=origin)
        assert (answer.status, answer.body) == (200, b"")


@pytest.mark.parametrize("headers", [{}, {"Origin": "null"}, {"Origin": "file://"}], ids=str)
def test_a_preflight_without_a_webs_origin_is_refused_without_a_body(server, headers):
    answer = server.ask("OPTIONS", "/v1/models/half:predict", None, **headers)
    assert (answer.status, answer.body) == (400, b"")


def test_a_head_request_is_malformed_without_a_body(server):
    answer = server.ask("HEAD", "/v1/models/half", None)
    assert answer.status == 400 and answer.body == b""


def test_outside_v1_there_is_nothing(server):
    for path in ("/v2/models/half", "/v1", "/models/half:predict", "/%761/models/half"):
        for method, body in (("GET", None), ("POST", ROWS)):
            assert server.ask(method, path, body).status == 404
