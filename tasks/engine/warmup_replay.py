"""Sending a model the requests of its warmup file, as the server does while it loads the model.

    problems = replay(session, meta_graph, read_logs(saved_model))

A record is a request to Predict, Classify, Regress or MultiInference. One that fails keeps the
server from loading the model; its messages are the server's.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.types.experimental import ConcreteFunction
from tensorflow_serving.apis import prediction_log_pb2

from tasks.engine.warmup import WARMUP_FILE, WARMUP_LIMIT, Arrays, input_specs

_METHODS = {
    "tensorflow/serving/classify": "classify_log",
    "tensorflow/serving/regress": "regress_log",
}
# What a request that may hold anything makes TensorFlow and NumPy raise.
_FAILURES = (tf.errors.OpError, ValueError, TypeError, RuntimeError, OverflowError, MemoryError)


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
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            logs.append(prediction_log_pb2.PredictionLog.FromString(record))
    except DecodeError:
        reason = f"record {len(logs) + 1} is no PredictionLog"
        raise WarmupError(f"the warmup file cannot be read: {reason}") from None
    except (tf.errors.OpError, OSError) as error:
        raise WarmupError(f"the warmup file cannot be read: {first_line(error)}") from None
    if len(logs) > WARMUP_LIMIT:
        raise WarmupError(f"{len(logs)} warmup requests; the server takes at most {WARMUP_LIMIT}")
    return logs


def replay(
    session: tf.compat.v1.Session,
    meta_graph: Any,
    logs: Iterable[Any],
    expected: Mapping[str, ConcreteFunction] | None = None,
    tolerance: float = 0,
) -> list[str]:
    """What goes wrong with the requests of a warmup file."""
    problems = []
    for log in logs:
        kind = log.WhichOneof("log_type")
        if kind not in _REQUESTS:
            what = f"is a {kind}" if kind else "holds no request"
            problems.append(f"a warmup record {what}: Unsupported log_type for warmup")
            continue
        name = _signature_name(log, kind)
        answered = []
        try:
            for request in _REQUESTS[kind](getattr(log, kind).request, meta_graph):
                name = request.signature
                answers = request.answer(session)
                if expected is not None:
                    # Compared is the second answer: ops that draw random numbers from a seed, such
                    # as a dropout left on, would give here and there the same first one.
                    answers = request.answer(session)
                answered.append((request, answers))
        except _FAILURES as error:
            problems.append(f"a warmup request to {name} fails: {first_line(error)}")
            continue
        if expected is not None:
            for request, answers in answered:
                function = expected[request.signature]
                problems += _disagreements(request, function, answers, tolerance)
    return list(dict.fromkeys(problems))


@dataclass(frozen=True)
class _Request:
    """What one signature is asked."""

    signature: str
    definition: Any
    arguments: Arrays
    kind: str = "predict_log"
    outputs: tuple[str, ...] = ()  # those wanted; none: all

    def answer(self, session: tf.compat.v1.Session) -> Arrays:
        """The outputs by name.

        Raises:
            ValueError: a server could not write the answer.
            tf.errors.OpError: the graph fails.
        """
        tensors = self.definition.outputs
        names = self.outputs or tuple(tensors)
        feeds = {self.definition.inputs[name].name: v for name, v in self.arguments.items()}
        answers = session.run({name: tensors[name].name for name in names}, feeds)
        if self.kind != "predict_log":
            for name, value in answers.items():
                _require_row_each(self.kind, name, value, len(self.arguments["inputs"]))
        return answers


def _predict_requests(request: Any, meta_graph: Any) -> Iterator[_Request]:
    name, definition = _signature(request.model_spec, meta_graph, 'Serving signature key "{}"')
    sent, inputs, defaults = set(request.inputs), set(definition.inputs), set(definition.defaults)
    if sent - inputs or inputs - defaults - sent:
        extra, missing = _braces(sent - inputs), _braces(inputs - defaults - sent)
        raise ValueError(
            f"input size does not match signature: {len(sent)}!={len(inputs)} "
            f"len({_braces(sent)}) != len({_braces(inputs)}). "
            f"Sent extra: {extra}. Missing but required: {missing}."
        )
    unknown = [output for output in request.output_filter if output not in definition.outputs]
    if unknown:
        raise ValueError(f"output tensor alias not found in signature: {unknown[0]}")
    if len(set(request.output_filter)) < len(request.output_filter):
        raise ValueError("duplicate output tensor alias")
    protos = {name: definition.defaults[name] for name in defaults - sent}
    protos |= {name: request.inputs[name] for name in sent}
    for key, proto in protos.items():
        if proto.dtype != definition.inputs[key].dtype:  # a session here would convert it
            given, wanted = (tf.as_dtype(t.dtype).name for t in (proto, definition.inputs[key]))
            raise ValueError(f"input {key} should be {wanted}, not {given}")
    arguments = {key: tf.make_ndarray(proto) for key, proto in protos.items()}
    yield _Request(name, definition, arguments, outputs=tuple(request.output_filter))


def _classify_requests(request: Any, meta_graph: Any) -> Iterator[_Request]:
    yield _examples_request("classify_log", request.model_spec, request.input, meta_graph)


def _regress_requests(request: Any, meta_graph: Any) -> Iterator[_Request]:
    yield _examples_request("regress_log", request.model_spec, request.input, meta_graph)


def _multi_inference_requests(request: Any, meta_graph: Any) -> Iterator[_Request]:
    requests: list[_Request] = []
    for task in request.tasks:
        if not task.model_spec.name:
            raise ValueError("Found ModelSpec with an empty model name.")
        if task.method_name not in _METHODS:
            raise ValueError(f"Unsupported signature method_name: {task.method_name}")
        kind = _METHODS[task.method_name]
        requests.append(_examples_request(kind, task.model_spec, request.input, meta_graph))
    if len({task.model_spec.name for task in request.tasks}) > 1:
        raise ValueError("All ModelSpecs in a MultiInferenceRequest must access the same model.")
    if len({asked.signature for asked in requests}) < len(requests):
        raise ValueError("Duplicate evaluation of a signature.")
    if len({asked.definition.inputs["inputs"].name for asked in requests}) > 1:
        raise ValueError("Input tensor must be the same for all Signatures.")
    yield from requests


# What becomes of each kind of record; a server refuses other kinds.
_REQUESTS = {
    "predict_log": _predict_requests,
    "classify_log": _classify_requests,
    "regress_log": _regress_requests,
    "multi_inference_log": _multi_inference_requests,
}


def _examples_request(kind: str, spec: Any, given: Any, meta_graph: Any) -> _Request:
    """A request of Classify or Regress, whose rows are serialized `tf.train.Example`s."""
    name, definition = _signature(spec, meta_graph, "Signature {}")
    outputs = {"classify_log": {"classes", "scores"}, "regress_log": {"outputs"}}[kind]
    wanted = tuple(sorted(outputs & set(definition.outputs)))
    if set(definition.inputs) != {"inputs"}:
        raise ValueError("it must have one input, named inputs")
    if not wanted or len(definition.outputs) > len(outputs):
        raise ValueError(f"its outputs must be {' or '.join(sorted(outputs))}")
    rows = given.example_list.examples
    context = b""
    if given.WhichOneof("kind") == "example_list_with_context":
        rows = given.example_list_with_context.examples
        context = given.example_list_with_context.context.SerializeToString()
    if not rows:
        raise ValueError("Input is empty.")
    examples = np.array([context + row.SerializeToString() for row in rows], dtype=object)
    return _Request(name, definition, {"inputs": examples}, kind, wanted)


def _require_row_each(kind: str, name: str, value: np.ndarray, rows: int) -> None:
    """Classify and Regress answer each example: their outputs must have the shape for it."""
    shape, dtype = np.shape(value), np.asarray(value).dtype
    if kind == "classify_log":
        fits, wanted = len(shape) == 2, "[batch_size num_classes]"
    else:
        fits = len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)
        wanted = "[batch_size] or [batch_size, 1]"
    if not fits or shape[0] != rows:
        raise ValueError(f"output {name} should be {wanted} for {rows} examples, not {shape}")
    if dtype.name != ("object" if name == "classes" else "float32"):  # object: of strings
        wanted = "string" if name == "classes" else "float32"
        raise ValueError(f"output {name} should be {wanted}, not {dtype}")


def _signature(spec: Any, meta_graph: Any, title: str) -> tuple[str, Any]:
    name = spec.signature_name or "serving_default"
    if name not in meta_graph.signature_def:
        raise ValueError(f"{title.format(name)} not found.")
    return name, meta_graph.signature_def[name]


def _signature_name(log: Any, kind: str) -> str:
    request = getattr(log, kind).request
    multi = kind == "multi_inference_log"
    specs = [task.model_spec for task in request.tasks] if multi else [request.model_spec]
    return " and ".join(spec.signature_name or "serving_default" for spec in specs) or "nothing"


def _braces(names: set[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"


def _disagreements(
    request: _Request, function: ConcreteFunction, answers: Arrays, tolerance: float
) -> Iterator[str]:
    specs = input_specs(function)
    tensors = {
        name: tf.constant(value, specs[name].dtype) for name, value in request.arguments.items()
    }
    for name, value in function(**tensors).items():
        if name not in answers:
            continue
        # Of a ranking, near ties may change places: their scores are compared, in order.
        ranking = name in ("labels", "classes")
        expected, actual = value.numpy(), answers[name]
        if ranking:
            expected, actual = np.sort(expected), np.sort(actual)
        if not _same(expected, actual, tolerance):
            where = f"output {name} of {request.signature}"
            yield f"{where}, reloaded, differs from the model in memory"


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
