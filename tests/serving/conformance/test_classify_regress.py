"""Classify, Regress and MultiInference over REST and gRPC."""

import re
from dataclasses import dataclass
from typing import Any

import pytest
from tensorflow.core.example import example_pb2, feature_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    input_pb2,
    regression_pb2,
)

from tests.serving.conformance.cases import (
    assert_answers,
    assert_refuses,
    fails,
    spec,
    table,
)
from tests.serving.conformance.models import CLASSIFY, PREDICT, REGRESS

INVALID, PRECONDITION = "INVALID_ARGUMENT", "FAILED_PRECONDITION"


@dataclass(frozen=True)
class Rest:
    id: str
    method: str
    body: Any
    answer: Any  # if it fails, the message
    status: int = 200


def body(signature="", xs=(0.25, 1.0), **more):
    named = {"signature_name": signature} if signature else {}
    return {**named, "examples": [{"x": x} for x in xs], **more}


GOOD = [
    Rest(
        "classes and scores",
        "classify",
        body(),
        '{"results":[[["good",0.25],["bad",0.75]],[["good",1.0],["bad",0.0]]]}',
    ),
    Rest(
        "classes only have no score",
        "classify",
        body("classes_only", [1.0]),
        '{"results":[[["good",0.0],["bad",0.0]]]}',
    ),
    Rest(
        "scores only have no label",
        "classify",
        body("scores_only", [0.25]),
        '{"results":[[["",0.25],["",0.75]]]}',
    ),
    Rest("no classes at all", "classify", body("no_classes"), '{"results":[[],[]]}'),
    Rest("regress by row", "regress", body("regress"), '{"results":[0.25,1.0]}'),
    Rest("regress by column", "regress", body("regress_column"), '{"results":[0.25,1.0]}'),
    Rest(
        "a feature may be a list",
        "regress",
        {"signature_name": "regress", "examples": [{"x": [0.5]}]},
        '{"results":[0.5]}',
    ),
    Rest(
        "a context is in each example",
        "regress",
        {"signature_name": "regress", "context": {"x": 0.5}, "examples": [{}, {"i": 1}]},
        '{"results":[0.5,0.5]}',
    ),
    Rest(
        "an example beats its context",
        "regress",
        {"signature_name": "regress", "context": {"x": 0.5}, "examples": [{"x": 0.75}]},
        '{"results":[0.75]}',
    ),
    Rest(
        "a feature that isn't there has its default",
        "regress",
        {"signature_name": "regress", "examples": [{}]},
        '{"results":[0.0]}',
    ),
    Rest(
        "features of each kind",
        "classify",
        {
            "signature_name": "kinds",
            "examples": [
                {"s": "é", "i": 7, "x": 0.5},
                {"s": {"b64": "aGk="}, "i": -1},
                {"i": True, "unknown": ["a", "b"]},
            ],
        },
        '{"results":[[["é",0.5],["7",0.5]],[["hi",0.0],["-1",0.0]],[["",0.0],["1",0.0]]]}',
    ),
    Rest(
        "NaN and infinity",
        "regress",
        '{"signature_name": "regress", "examples": [{"x": NaN}, {"x": -Infinity}]}',
        '{"results":[NaN,-Infinity]}',
    ),
    Rest("1,000 examples", "regress", body("regress", [0.5] * 1000), {"results": [0.5] * 1000}),
]

NO_EXAMPLES = "When method is classify, key 'examples' is expected and was not found"
BAD = [
    Rest("no examples", "classify", {}, f"JSON Value: {{}} {NO_EXAMPLES}", 400),
    Rest("no examples to regress", "regress", {}, f"JSON Value: {{}} {NO_EXAMPLES}", 400),
    Rest(
        "examples that are no list",
        "classify",
        {"examples": 1},
        "JSON Value: {\n    \"examples\": 1\n} Expecting 'examples' value to be an list/array",
        400,
    ),
    Rest(
        "examples that are empty",
        "classify",
        {"examples": []},
        "JSON Value: {\n    \"examples\": []\n} 'examples' value is an empty array",
        400,
    ),
    Rest(
        "an example that is no object",
        "classify",
        {"examples": [1]},
        "Example must be JSON object but got JSON Number",
        400,
    ),
    Rest(
        "a context that is no object",
        "classify",
        body(context=[]),
        "Example must be JSON object but got JSON Array",
        400,
    ),
    Rest("a list at the top", "classify", [], "JSON Value: [] Is not object", 400),
    Rest(
        "a signature name that is no text",
        "regress",
        {"signature_name": 1},
        'JSON Value: {\n    "signature_name": 1\n} not formatted correctly. '
        "'signature_name' key must be a string value.",
        400,
    ),
    Rest(
        "a feature of null",
        "classify",
        {"examples": [{"x": None}]},
        "Feature: x has element with unexpected JSON type: Null",
        400,
    ),
    Rest(
        "a feature of lists",
        "classify",
        {"examples": [{"x": [[1.0]]}]},
        "Feature: x has element with unexpected JSON type: Array",
        400,
    ),
    Rest(
        "a feature that is an object",
        "classify",
        {"examples": [{"x": {"y": 1}}]},
        "Feature: x has element with unexpected JSON type: Object",
        400,
    ),
    Rest(
        "a feature of several kinds",
        "classify",
        {"examples": [{"x": [1.0, "a"]}]},
        "Unexpected element type in feature: x expecting type: float",
        400,
    ),
    Rest(
        "a feature beyond int64",
        "classify",
        {"examples": [{"i": 2**63}]},
        "Feature: i has uint64 element. Only int64 is supported.",
        400,
    ),
    Rest(
        "a feature of broken base64",
        "classify",
        {"examples": [{"s": {"b64": "?"}}]},
        "Unable to base64 decode",
        400,
    ),
    Rest(
        "a feature of another kind",
        "classify",
        {"examples": [{"x": "text"}]},
        re.compile("Data types don't match"),
        400,
    ),
]


@table(GOOD)
def test_rest_answers(server, case):
    answer = server.post(f"/v1/models/examples:{case.method}", case.body)
    assert_answers(answer, case.answer)


@table(BAD)
def test_rest_refuses(server, case):
    answer = server.post(f"/v1/models/examples:{case.method}", case.body)
    assert_refuses(answer, case.status, case.answer)


@dataclass(frozen=True)
class Signature:
    id: str
    method: str
    signature: str
    message: str | re.Pattern[str]
    code: str = INVALID


SHAPE = "Expected Tensor shape: [batch_size num_classes] but got "
REGRESS_SHAPE = "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
NO_INPUTS = re.compile("^No classification inputs found in SignatureDef: ")
NO_SIGNATURE = "No signature was found with the name: nope"
WRONG = [
    Signature("no such signature", "Classify", "nope", NO_SIGNATURE),
    Signature("none to regress", "Regress", "nope", NO_SIGNATURE),
    Signature(
        "an input of another rank than examples have",
        "Classify",
        "pairs",
        re.compile(
            r"^Shape of input inputs \[\d+\] is not compatible with expected shape \[\?,2\]$"
        ),
    ),
    Signature("two inputs", "Classify", "two_inputs", "Expected one input Tensor."),
    Signature("two inputs to regress", "Regress", "two_inputs", "Expected one input Tensor."),
    Signature(
        "three outputs",
        "Classify",
        "three_outputs",
        "Expected one or two output Tensors, found 3",
    ),
    Signature("another input", "Classify", "other_input", NO_INPUTS, PRECONDITION),
    Signature(
        "another input to regress",
        "Regress",
        "other_input",
        re.compile("^No regression inputs found in SignatureDef: "),
        PRECONDITION,
    ),
    Signature(
        "another output",
        "Classify",
        "other_output",
        re.compile(
            "^Expected classification signature outputs to contain at least one of "
            '"classes" or "scores". Signature was: '
        ),
        PRECONDITION,
    ),
    Signature("classes of rank one", "Classify", "flat_classes", f"{SHAPE}[2]"),
    Signature("a scalar for classes", "Classify", "scalar_classes", f"{SHAPE}[]"),
    Signature("scores of rank one", "Classify", "flat_scores", f"{SHAPE}[2]"),
    Signature(
        "classes that are no texts",
        "Classify",
        "integer_classes",
        "Expected classes Tensor of DT_STRING. Got: DT_INT64",
    ),
    Signature(
        "scores that are no floats",
        "Classify",
        "double_scores",
        "Expected scores Tensor of DT_FLOAT. Got: DT_DOUBLE",
    ),
    Signature(
        "classes too few",
        "Classify",
        "short_classes",
        "Expected classes output batch size of 2. Got: 1",
    ),
    Signature(
        "scores too few",
        "Classify",
        "short_scores",
        "Expected scores output batch size of 2. Got: 1",
    ),
    Signature(
        "more classes than scores",
        "Classify",
        "unequal_widths",
        "Tensors class and score should match in dim_size(1). Got 2 vs. 1",
    ),
    Signature("two outputs", "Regress", "regress_two_outputs", "Expected one output Tensor."),
    Signature(
        "another output to regress",
        "Regress",
        "regress_other_output",
        re.compile("^No regression outputs found in SignatureDef: "),
        PRECONDITION,
    ),
    Signature("an output of two columns", "Regress", "regress_wide", f"{REGRESS_SHAPE}[2,2]"),
    Signature("a scalar output", "Regress", "regress_scalar", f"{REGRESS_SHAPE}[]"),
    Signature(
        "an output too short",
        "Regress",
        "regress_short",
        "Input batch size did not match output batch size: 2 vs. 1",
    ),
    Signature(
        "an output that is no float",
        "Regress",
        "regress_double",
        "Expected output Tensor of DT_FLOAT.  Got: DT_DOUBLE",
    ),
]


def example(**features: float) -> example_pb2.Example:
    made = example_pb2.Example()
    for name, value in features.items():
        floats = feature_pb2.FloatList(value=[value])
        made.features.feature[name].CopyFrom(feature_pb2.Feature(float_list=floats))
    return made


def inputs(*xs: float) -> input_pb2.Input:
    made = input_pb2.Input()
    made.example_list.examples.extend(example(x=x) for x in xs)
    return made


REQUESTS = {
    "Classify": classification_pb2.ClassificationRequest,
    "Regress": regression_pb2.RegressionRequest,
}


def ask(server, method, signature, given, model="examples"):
    request = REQUESTS[method](model_spec=spec(model, signature=signature), input=given)
    return getattr(server.prediction, method)(request, timeout=60)


@table(WRONG)
def test_a_signature_for_something_else_is_refused(server, case):
    with fails(case.code, case.message):
        ask(server, case.method, case.signature, inputs(0.25, 1.0))
    path = f"/v1/models/examples:{case.method.lower()}"
    assert_refuses(server.post(path, body(case.signature)), 400, case.message)


def test_grpc_classifies(server):
    response = ask(server, "Classify", "", inputs(0.25))
    assert response.model_spec == spec("examples", version=1, signature="serving_default")
    ((good, bad),) = [each.classes for each in response.result.classifications]
    assert (good.label, good.score, bad.label, bad.score) == ("good", 0.25, "bad", 0.75)


def test_grpc_regresses(server):
    response = ask(server, "Regress", "regress", inputs(0.25, 1.0))
    assert response.model_spec == spec("examples", version=1, signature="regress")
    assert [each.value for each in response.result.regressions] == [0.25, 1.0]


def test_grpc_puts_the_context_into_each_example(server):
    given = input_pb2.Input()
    given.example_list_with_context.context.CopyFrom(example(x=0.5))
    given.example_list_with_context.examples.extend([example(), example(x=0.75)])
    response = ask(server, "Regress", "regress", given)
    assert [each.value for each in response.result.regressions] == [0.5, 0.75]


@pytest.mark.parametrize("method", ["Classify", "Regress"])
@pytest.mark.parametrize("kind", ["", "example_list", "example_list_with_context"])
def test_no_examples_are_refused(server, method, kind):
    given = input_pb2.Input()
    if kind:
        getattr(given, kind).SetInParent()
    signature = {"Classify": "", "Regress": "regress"}[method]
    with fails(INVALID, "Input is empty."):
        ask(server, method, signature, given)


@pytest.mark.parametrize("method", ["Classify", "Regress"])
def test_a_model_that_there_isnt_is_not_found(server, method):
    with fails("NOT_FOUND", "Servable not found for request: Latest(nope)"):
        ask(server, method, "", inputs(1.0), "nope")


@dataclass(frozen=True)
class Multi:
    id: str
    tasks: list[tuple[str, str, str]]  # model, signature, method
    message: str
    code: str = INVALID


SAME_NAME = "All ModelSpecs in a MultiInferenceRequest must access the same model name."
MULTI = [
    Multi("no tasks", [], "ModelSpec has no name specified."),
    Multi("no name", [("", "regress", REGRESS)], "ModelSpec has no name specified."),
    Multi(
        "no name in the second",
        [("examples", "regress", REGRESS), ("", "", CLASSIFY)],
        "Found ModelSpec with an empty model name.",
    ),
    Multi(
        "different models",
        [("examples", "regress", REGRESS), ("half", "", CLASSIFY)],
        SAME_NAME,
    ),
    Multi(
        "one signature twice",
        [("examples", "", CLASSIFY), ("examples", "serving_default", CLASSIFY)],
        "Duplicate evaluation of signature: serving_default",
    ),
    Multi(
        "no such signature",
        [("examples", "nope", CLASSIFY)],
        "Requested signature not found in model graph: nope",
    ),
    Multi(
        "a method that isn't one of both",
        [("examples", "regress", PREDICT)],
        f"Unsupported signature method_name: {PREDICT}",
        "UNIMPLEMENTED",
    ),
    Multi(
        "no method",
        [("examples", "regress", "")],
        "Unsupported signature method_name: ",
        "UNIMPLEMENTED",
    ),
    Multi(
        "different tensors",
        [("examples", "regress", REGRESS), ("examples", "other_tensor", REGRESS)],
        "Input tensor must be the same for all Signatures.",
    ),
    Multi(
        "a signature that doesn't do",
        [("examples", "two_inputs", CLASSIFY)],
        "Expected one input Tensor.",
    ),
    Multi(
        "no such model",
        [("nope", "", CLASSIFY)],
        "Servable not found for request: Latest(nope)",
        "NOT_FOUND",
    ),
]


def multi(server, tasks, given):
    request = inference_pb2.MultiInferenceRequest(input=given)
    for model, signature, method in tasks:
        request.tasks.add(model_spec=spec(model, signature=signature), method_name=method)
    return server.prediction.MultiInference(request, timeout=60)


@table(MULTI)
def test_tasks_that_do_not_go_together_are_refused(server, case):
    with fails(case.code, case.message):
        multi(server, case.tasks, inputs(1.0))


def test_several_tasks_share_a_run(server):
    tasks = [("examples", "", CLASSIFY), ("examples", "regress", REGRESS)]
    classified, regressed = multi(server, tasks, inputs(0.25, 1.0)).results
    assert classified.model_spec == spec("examples", version=1, signature="serving_default")
    assert regressed.model_spec == spec("examples", version=1, signature="regress")
    scores = [each.classes[0].score for each in classified.classification_result.classifications]
    values = [each.value for each in regressed.regression_result.regressions]
    assert scores == values == [0.25, 1.0]


def test_tasks_without_examples_are_refused(server):
    with fails(INVALID, "Input is empty."):
        multi(server, [("examples", "", CLASSIFY)], inputs())
