"""Signatures' method names: looked at only if a flag says so."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.serving.conformance.cases import assert_refuses, table
from tests.serving.conformance.models import CLASSIFY, PREDICT, REGRESS, examples, save
from tests.serving.harness import Running, running

EXAMPLES = {"examples": [{"x": 0.25}]}
ROWS = {"instances": [{"b64": ""}]}


@pytest.fixture(scope="module")
def checking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("examples")
    save(folder / "1", examples)
    with running(
        model_name="examples",
        model_base_path=str(folder),
        enable_signature_method_name_check=True,
    ) as server:
        yield server


@dataclass(frozen=True)
class Case:
    id: str
    method: str
    signature: str
    message: str = ""  # without the check, all are answered
    status: int = 400


def expected(kind, method, was):
    return f"Expected {kind} signature method_name to be {method}. Was: {was}"


CASES = [
    Case("classify for classify", "classify", "scores_only"),
    Case("regress for regress", "regress", "regress"),
    Case("classify for predict", "predict", "scores_only"),
    Case("regress for predict", "predict", "regress"),
    Case(
        "another for predict",
        "predict",
        "odd_method",
        expected("prediction", f"one of {{{PREDICT}, {CLASSIFY}, {REGRESS}}}", "odd"),
        500,
    ),
    Case(
        "another for classify",
        "classify",
        "odd_method",
        expected("classification", CLASSIFY, "odd"),
    ),
    Case(
        "predict for regress",
        "regress",
        "predict_method",
        expected("regression", REGRESS, PREDICT),
    ),
]


def ask(server, case):
    body = ROWS if case.method == "predict" else EXAMPLES
    path = f"/v1/models/examples:{case.method}"
    return server.post(path, {"signature_name": case.signature, **body})


@table(CASES)
def test_by_default_they_are_not_looked_at(server, case):
    assert ask(server, case).status == 200


@table(CASES)
def test_with_the_flag_they_are(checking, case):
    answer = ask(checking, case)
    if case.message:
        assert_refuses(answer, case.status, case.message)
    else:
        assert answer.status == 200
