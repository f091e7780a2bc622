"""Which version answers: the latest, a given one, or the one that a label points to."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    inference_pb2,
    model_pb2,
    regression_pb2,
)

from tests.serving.conformance.cases import (
    arrays,
    fails,
    predict,
    spec,
    table,
    tensor,
)
from tests.serving.conformance.models import CLASSIFY, ODD_LABEL, ODD_NAME

CONSTANTS = {1: 2.0, 2: 3.0}


@dataclass(frozen=True)
class Good:
    id: str
    spec: model_pb2.ModelSpec
    version: int


GOOD = [
    Good("neither is the latest", spec("half"), 2),
    Good("an older version", spec("half", 1), 1),
    Good("the latest version", spec("half", 2), 2),
    Good("a label", spec("half", label="stable"), 1),
    Good("another label", spec("half", label="canary"), 2),
    Good("a label of any letters", spec(ODD_NAME, label=ODD_LABEL), 1),
]


@dataclass(frozen=True)
class Bad:
    id: str
    spec: model_pb2.ModelSpec
    code: str
    message: str


def not_found(asked):
    return "NOT_FOUND", f"Servable not found for request: {asked}"


def no_label(label):
    return "INVALID_ARGUMENT", f"Unrecognized servable version label: {label}"


EMPTY_LABEL = model_pb2.ModelSpec(name="half", version_label="")
BAD = [
    Bad("no such model", spec("nope"), *not_found("Latest(nope)")),
    Bad("no such version", spec("half", 3), *not_found("Specific(half, 3)")),
    Bad("version zero", spec("half", 0), *not_found("Specific(half, 0)")),
    Bad("a version below zero", spec("half", -1), *not_found("Specific(half, -1)")),
    Bad("a version of no model", spec("nope", 1), *not_found("Specific(nope, 1)")),
    Bad("no such label", spec("half", label="x"), *no_label("x")),
    Bad("another model's label", spec("types", label="stable"), *no_label("stable")),
    Bad("a label of no model", spec("nope", label="stable"), *no_label("stable")),
    Bad("an empty label", EMPTY_LABEL, *no_label("")),
    Bad("no name", spec("", 1), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    Bad(
        "no name but a label",
        spec("", label="stable"),
        "INVALID_ARGUMENT",
        "ModelSpec has no name specified.",
    ),
]

METHODS: dict[str, Callable[[model_pb2.ModelSpec], Any]] = {
    "Classify": lambda spec: classification_pb2.ClassificationRequest(model_spec=spec),
    "Regress": lambda spec: regression_pb2.RegressionRequest(model_spec=spec),
    "MultiInference": lambda spec: inference_pb2.MultiInferenceRequest(
        tasks=[inference_pb2.InferenceTask(model_spec=spec, method_name=CLASSIFY)]
    ),
    "GetModelMetadata": lambda spec: get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec=spec, metadata_field=["signature_def"]
    ),
}


@table(GOOD)
def test_a_spec_names_a_version(server, case):
    response = predict(server, case.spec, x=tensor([2.0]))
    assert response.model_spec == spec(case.spec.name, case.version, signature="serving_default")
    assert arrays(response)["y"].tolist() == [1.0 + CONSTANTS[case.version]]


@table(BAD)
def test_a_spec_that_names_none_is_refused(server, case):
    with fails(case.code, case.message):
        predict(server, case.spec, x=tensor([2.0]))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_refuses_it_likewise(server, method):
    for case in BAD:
        request = METHODS[method](case.spec)
        with fails(case.code, case.message):
            getattr(server.prediction, method)(request, timeout=60)
