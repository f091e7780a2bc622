"""What the tables of cases have in common."""

import json
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import model_pb2, predict_pb2

from tests.serving.harness import Answer, Running


def table(cases: Iterable[Any]) -> pytest.MarkDecorator:
    """Runs a test for each case; its `id` says what it pins."""
    cases = list(cases)
    assert len({case.id for case in cases}) == len(cases), "two cases have one id"
    return pytest.mark.parametrize("case", cases, ids=lambda case: case.id.replace(" ", "_"))


def assert_answers(answer: Answer, expected: Any) -> None:
    """Text is compared as it is but for white space, anything else as JSON."""
    assert answer.status == 200, answer.body
    assert answer.headers["Content-Type"] == "application/json"
    if isinstance(expected, str):
        assert re.sub(r"\s+", "", answer.body.decode()) == expected
    else:
        assert answer.json == expected


def assert_refuses(answer: Answer, status: int, message: str | re.Pattern[str]) -> None:
    """The status, the message, and the layout that both come in."""
    said = answer.json["error"]
    assert answer.body.decode() == f'{{\n    "error": {json.dumps(said, ensure_ascii=False)}\n}}'
    assert answer.headers["Content-Type"] == "application/json"
    assert_says(said, message)
    assert answer.status == status


def assert_says(said: str, message: str | re.Pattern[str]) -> None:
    if isinstance(message, str):
        assert said == message
    else:
        assert message.search(said), said


@contextmanager
def fails(code: str, message: str | re.Pattern[str]) -> Iterator[None]:
    """A gRPC call fails with this status and message."""
    with pytest.raises(grpc.RpcError) as caught:
        yield
    assert_says(caught.value.details(), message)
    assert caught.value.code().name == code


def spec(
    name: str = "", version: int | None = None, label: str = "", signature: str = ""
) -> model_pb2.ModelSpec:
    made = model_pb2.ModelSpec(name=name, signature_name=signature)
    if version is not None:
        made.version.value = version
    if label:
        made.version_label = label
    return made


def tensor(values: Any, dtype: tf.DType = tf.float32) -> Any:
    return tf.make_tensor_proto(values, dtype)


def predict(
    server: Running, model: model_pb2.ModelSpec, output_filter: Iterable[str] = (), **inputs: Any
) -> predict_pb2.PredictResponse:
    request = predict_pb2.PredictRequest(
        model_spec=model, inputs=inputs, output_filter=output_filter
    )
    return server.prediction.Predict(request, timeout=60)


def arrays(response: predict_pb2.PredictResponse) -> dict[str, np.ndarray]:
    return {name: tf.make_ndarray(proto) for name, proto in response.outputs.items()}
