"""Sending a model the requests of its warmup file, as the server does while it loads the model.

    problems = replay(session, meta_graph, read_logs(saved_model))

A record is a request to Predict, Classify, Regress or MultiInference. One that fails keeps the
server from loading the model; its messages are the server's.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.types.experimental import ConcreteFunction
from tensorflow_serving.apis import prediction_log_pb2

from tasks.engine.exporting.warmup import WARMUP_FILE, WARMUP_LIMIT, Arrays, input_specs
from tasks.protocol.errors import ServingError
from tasks.protocol.signatures import Call, logged_calls

# What a request that may hold anything makes TensorFlow and NumPy raise.
_FAILURES = (
    ServingError, tf.errors.OpError,
    ValueError, TypeError, RuntimeError, OverflowError, MemoryError,
)  # fmt: skip


class WarmupError(ValueError):
    """The warmup file cannot be read, or is too long; the message says why."""


def read_logs(saved_model: Path) -> list[Any]:
    """The records of the warmup file, if there is one.

    Raises:
        WarmupError: it cannot be read, or has more records than the server takes.
    """
    path = saved_model / WARMUP_FILE
    logs: list[Any] = []
    try:
        if not path.exists():
            return []
        # One beyond the limit tells that there are too many; a file may have millions.
        records = tf.data.TFRecordDataset(str(path)).take(WARMUP_LIMIT + 1)
        for record in records.as_numpy_iterator():
            logs.append(prediction_log_pb2.PredictionLog.FromString(record))
    except DecodeError:
        reason = f"record {len(logs) + 1} is no PredictionLog"
        raise WarmupError(f"the warmup file cannot be read: {reason}") from None
    except (tf.errors.OpError, OSError) as error:
        raise WarmupError(f"the warmup file cannot be read: {first_line(error)}") from None
    if len(logs) > WARMUP_LIMIT:
        raise WarmupError(f"more than {WARMUP_LIMIT} warmup requests, the most that a server takes")
    return logs


def replay(
    session: tf.compat.v1.Session,
    meta_graph: Any,
    logs: Iterable[Any],
    expected: Mapping[str, ConcreteFunction] | None = None,
    tolerance: float = 0,
) -> list[str]:
    """What goes wrong with the requests of a warmup file."""
    problems: list[str] = []
    signatures = meta_graph.signature_def
    for log in logs:
        name = _signature_name(log)
        try:
            for call, answer in logged_calls(signatures, log):
                name = call.signature
                outputs = _run(session, call)
                answer(outputs)  # Classify and Regress ask for shapes and types
                if expected is not None:
                    # Compared is the second answer: ops that draw random numbers from a seed, such
                    # as a dropout left on, would give here and there the same first one.
                    outputs = _run(session, call)
                    arguments = {
                        alias: call.feeds[info.name]
                        for alias, info in signatures[name].inputs.items()
                        if info.name in call.feeds
                    }
                    function = expected[name]
                    problems += _disagreements(name, function, arguments, outputs, tolerance)
        except _FAILURES as error:
            to = f" to {name}" if name else ""
            problems.append(f"a warmup request{to} fails: {first_line(error)}")
    return list(dict.fromkeys(problems))


def _run(session: tf.compat.v1.Session, call: Call) -> Arrays:
    return call.outputs(session.run(list(call.tensors), call.feeds))


def _signature_name(log: Any) -> str:
    kind = log.WhichOneof("log_type")
    if kind is None or kind == "session_run_log":
        return ""
    request = getattr(log, kind).request
    multi = kind == "multi_inference_log"
    specs = [task.model_spec for task in request.tasks] if multi else [request.model_spec]
    return " and ".join(spec.signature_name or "serving_default" for spec in specs) or "nothing"


def _disagreements(
    signature: str,
    function: ConcreteFunction,
    arguments: Arrays,
    answers: Arrays,
    tolerance: float,
) -> Iterator[str]:
    specs = input_specs(function)
    tensors = {name: tf.constant(value, specs[name].dtype) for name, value in arguments.items()}
    for name, value in function(**tensors).items():
        if name not in answers:
            continue
        # Of a ranking, near ties may change places: their scores are compared, in order.
        ranking = name in ("labels", "classes")
        expected, actual = value.numpy(), answers[name]
        if ranking:
            expected, actual = np.sort(expected), np.sort(actual)
        if not _same(expected, actual, tolerance):
            yield f"output {name} of {signature}, reloaded, differs from the model in memory"


def _same(expected: np.ndarray, actual: np.ndarray, tolerance: float) -> bool:
    expected, actual = np.asarray(expected), np.asarray(actual)
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        return False
    if expected.dtype.kind == "f":
        return np.allclose(actual, expected, rtol=tolerance, atol=tolerance, equal_nan=True)
    return np.array_equal(expected, actual)


def first_line(error: Exception) -> str:
    """What a failed operation said, without where in the graph it stood."""
    message = str(getattr(error, "message", "") or error).strip()
    said = re.search(r"^(.+)\n\s*\[\[\{\{", message, re.MULTILINE)
    line = said[1] if said else (message.splitlines() or [""])[0]
    # What tells of nodes: {{function_node F}} before; [[{{node N}}]], {{node N}} or [Op:O] after.
    line = re.sub(r"\{\{function_node .*?\}\}\s*", "", line)
    line = re.sub(r"\s*:?\s*(\[\[\{\{|\{\{node |\[Op:).*", "", line)
    return line.strip() or type(error).__name__
