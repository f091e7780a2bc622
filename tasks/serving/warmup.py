"""Sends a version the requests in its warmup file, so that no client's request is the first."""

import time
from pathlib import Path
from typing import Any

import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow_serving.apis import prediction_log_pb2

from tasks.engine.warmup import WARMUP_FILE, WARMUP_LIMIT
from tasks.serving import signatures as sig
from tasks.serving.errors import Code, ServingError
from tasks.serving.metrics import WARMUP_LATENCY
from tasks.serving.model import Model


def warm_up(model: Model, folder: Path, iterations: int = 1) -> int:
    """Replays each record of the file, if there is one; returns how many there were.

    Raises:
        ServingError: a record can't be read, or its request fails: then the version isn't served.
    """
    path = folder / WARMUP_FILE
    if not path.exists():
        return 0
    start = time.monotonic()
    try:
        records = _records(path)
        for record in records:
            for _ in range(iterations):
                _replay(model, record)
    except ServingError as error:
        _observe(start, folder, error.code.name)
        raise ServingError(error.code, f"warmup: {error.message}") from None
    _observe(start, folder, "OK")
    return len(records)


def _records(path: Path) -> list[prediction_log_pb2.PredictionLog]:
    records = []
    try:
        for content in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            records.append(prediction_log_pb2.PredictionLog.FromString(content))
    except (tf.errors.OpError, DecodeError) as error:
        message = getattr(error, "message", "not a PredictionLog").splitlines()[0]
        raise ServingError(Code.DATA_LOSS, f"a record can't be read: {message}") from None
    if len(records) > WARMUP_LIMIT:
        raise ServingError(
            Code.INVALID_ARGUMENT,
            f"Number of warmup records exceeds the maximum ({WARMUP_LIMIT})",
        )
    return records


def _replay(model: Model, record: prediction_log_pb2.PredictionLog) -> None:
    kind = record.WhichOneof("log_type")
    if kind is None:
        return
    request: Any = getattr(record, kind).request
    if kind == "predict_log":
        signature = sig.predict_signature(model.signatures, request.model_spec.signature_name)
        feeds = sig.predict_call(signature, request.inputs)
        model.run(feeds, list(sig.predict_fetches(signature, request.output_filter).values()))
    elif kind in ("classify_log", "regress_log"):
        signature = sig.example_signature(model.signatures, request.model_spec.signature_name)
        tensors = sig.classify_tensors if kind == "classify_log" else sig.regress_tensors
        _replay_examples(model, request, *tensors(signature, check_method=False))
    elif kind == "multi_inference_log":
        tensor, fetches = sig.multi_inference_tensors(request, model.signatures, False)
        _replay_examples(model, request, tensor, {k: v for f in fetches for k, v in f.items()})
    else:
        number = prediction_log_pb2.PredictionLog.DESCRIPTOR.fields_by_name[kind].number
        raise ServingError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {number}")


def _replay_examples(model: Model, request: Any, tensor: str, fetches: dict[str, str]) -> None:
    model.run({tensor: sig.serialized_examples(request.input)}, list(fetches.values()))


def _observe(start: float, folder: Path, status: str) -> None:
    WARMUP_LATENCY.observe((time.monotonic() - start) * 1e6, str(folder), status)
