"""Signatures and states, over REST and gRPC."""

import json
import re
from dataclasses import dataclass
from typing import Any

import pytest
from google.protobuf import json_format
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import get_model_metadata_pb2, get_model_status_pb2, model_pb2

from tests.serving.conformance.cases import (
    assert_answers,
    assert_refuses,
    fails,
    spec,
    table,
)
from tests.serving.conformance.models import DTYPES

INVALID, NOT_FOUND = "INVALID_ARGUMENT", "NOT_FOUND"


def status(*versions):
    fine = {"error_code": "OK", "error_message": ""}
    return {
        "model_version_status": [
            {"version": str(version), "state": "AVAILABLE", "status": fine} for version in versions
        ]
    }


@dataclass(frozen=True)
class Path:
    id: str
    path: str
    answer: Any


STATUS = [
    Path("all versions and the latest first", "half", status(2, 1)),
    Path("one version", "half/versions/1", status(1)),
    Path("a label is ignored", "half/labels/stable", status(2, 1)),
    Path("a label that there isn't is ignored", "half/labels/nope", status(2, 1)),
    Path("an encoded name", "half%2Fplus%20two%20%C3%A9", status(2, 1)),
    Path("words in capitals", "half/VERSIONS/2", status(2)),
]


@table(STATUS)
def test_rest_status(server, case):
    assert_answers(server.get(f"/v1/models/{case.path}"), case.answer)


def test_the_layout_of_a_status(server):
    text = json.dumps(status(1), indent=1) + "\n"
    assert server.get("/v1/models/half/versions/1").body.decode() == text


def ask_status(server, model):
    request = get_model_status_pb2.GetModelStatusRequest(model_spec=model)
    return server.models.GetModelStatus(request, timeout=60)


@dataclass(frozen=True)
class Asked:
    id: str
    spec: model_pb2.ModelSpec | None
    answer: Any = None
    code: str = ""
    message: str | re.Pattern[str] = ""
    fields: tuple[str, ...] = ("signature_def",)


GRPC_STATUS = [
    Asked("all versions and the latest first", spec("half"), status(2, 1)),
    Asked("one version", spec("half", 1), status(1)),
    Asked("a label is ignored", spec("half", label="nope"), status(2, 1)),
    Asked("no spec", None, code=INVALID, message="Missing ModelSpec"),
    Asked("no name", spec(), None, NOT_FOUND, "Could not find any versions of model "),
    Asked("no such model", spec("x"), None, NOT_FOUND, "Could not find any versions of model x"),
    Asked(
        "no such version",
        spec("half", 3),
        None,
        NOT_FOUND,
        "Could not find version 3 of model half",
    ),
    Asked(
        "a version of no model",
        spec("x", 0),
        None,
        NOT_FOUND,
        "Could not find version 0 of model x",
    ),
]


@table(GRPC_STATUS)
def test_grpc_status(server, case):
    if case.code:
        with fails(case.code, case.message):
            ask_status(server, case.spec)
        return
    answer = json_format.MessageToDict(
        ask_status(server, case.spec),
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )
    assert answer == case.answer


def metadata(server, model, fields=("signature_def",)):
    request = get_model_metadata_pb2.GetModelMetadataRequest(
        model_spec=model, metadata_field=fields
    )
    return server.prediction.GetModelMetadata(request, timeout=60)


def signatures(response):
    found = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(found)
    return found.signature_def


BAD_METADATA = [
    Asked("no spec", None, code=INVALID, message="Missing ModelSpec"),
    Asked(
        "no field",
        spec("half"),
        None,
        INVALID,
        "GetModelMetadataRequest must specify at least one metadata_field",
        fields=(),
    ),
    Asked(
        "another field",
        spec("half"),
        None,
        INVALID,
        re.compile("^Metadata field .*is not supported"),
        fields=("signature_def", "assets"),
    ),
    Asked(
        "the field comes before the model",
        spec("x"),
        None,
        INVALID,
        "GetModelMetadataRequest must specify at least one metadata_field",
        fields=(),
    ),
    Asked("no name", spec(), None, INVALID, "ModelSpec has no name specified."),
]


@table(BAD_METADATA)
def test_grpc_metadata_refuses(server, case):
    with fails(case.code, case.message):
        metadata(server, case.spec, case.fields)


def test_grpc_metadata_has_all_signatures(server):
    response = metadata(server, spec("types"))
    assert response.model_spec == spec("types", version=1)
    assert list(response.metadata) == ["signature_def"]
    found = signatures(response)
    for name, dtype in DTYPES.items():
        assert found[name].inputs["x"].dtype == dtype.as_datatype_enum
        assert found[name].method_name == "tensorflow/serving/predict"
    assert found["all"].inputs.keys() == DTYPES.keys() - {"half", "bfloat16", "uint16"}


@pytest.mark.parametrize("field_count", [1, 2])
def test_grpc_metadata_of_a_label_echoes_the_version(server, field_count):
    response = metadata(server, spec("half", label="stable"), ["signature_def"] * field_count)
    assert response.model_spec == spec("half", version=1)
    assert signatures(response)["serving_default"].inputs["x"].dtype == types_pb2.DT_FLOAT


def info(name):
    shape = {"dim": [], "unknown_rank": True}
    return {"dtype": "DT_FLOAT", "tensor_shape": shape, "name": name}


HALF = {
    "serving_default": {
        "inputs": {"x": info("x:0")},
        "outputs": {"y": info("y:0")},
        "method_name": "tensorflow/serving/predict",
        "defaults": {},
    }
}


@pytest.mark.parametrize(
    ("path", "version"), [("half", 2), ("half/versions/1", 1), ("half/labels/stable", 1)]
)
def test_rest_metadata(server, path, version):
    answer = {
        "model_spec": {"name": "half", "signature_name": "", "version": str(version)},
        "metadata": {"signature_def": {"signature_def": HALF}},
    }
    assert_answers(server.get(f"/v1/models/{path}/metadata"), answer)


def test_rest_metadata_has_defaults_and_shapes(server):
    answer = server.get("/v1/models/shapes/metadata").json
    found = answer["metadata"]["signature_def"]["signature_def"]["with_default"]
    assert found["defaults"]["b"]["int64_val"] == ["10"]
    assert found["inputs"]["a"]["tensor_shape"]["dim"] == [{"size": "-1", "name": ""}]
    assert "__saved_model_init_op" not in answer["metadata"]["signature_def"]["signature_def"]


def test_the_layout_of_metadata(server):
    text = server.get("/v1/models/half/metadata").body.decode()
    assert text.startswith('{\n"model_spec":{\n "name": "half",\n')
    assert '\n}\n,\n"metadata": {"signature_def": {\n "signature_def": {\n' in text
    assert text.endswith("\n }\n}\n}\n}\n")


BAD_PATHS = [
    ("nope/metadata", 404, "Servable not found for request: Latest(nope)"),
    ("half/versions/9/metadata", 404, "Servable not found for request: Specific(half, 9)"),
    ("half/labels/x/metadata", 400, "Unrecognized servable version label: x"),
    ("versions/1/metadata", 400, "Missing model name in request."),
]


@pytest.mark.parametrize(("path", "code", "message"), BAD_PATHS, ids=[p[0] for p in BAD_PATHS])
def test_rest_metadata_refuses(server, path, code, message):
    assert_refuses(server.get(f"/v1/models/{path}"), code, message)
