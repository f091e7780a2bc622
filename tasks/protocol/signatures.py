"""What a request means for a graph: which tensors go in, which come out, and what the answer says.

Each kind of request has two functions: the first checks it against a signature and makes a `Call`
of it, the second makes the answer of what the graph gave. The order of checks, and what they say,
are the stock server's (`predict_util.cc`, `classifier.cc`, `regressor.cc`).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef, TensorInfo
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    input_pb2,
    prediction_log_pb2,
    regression_pb2,
)

from tasks.protocol.errors import Code, ServingError, invalid_argument
from tasks.protocol.tensors import Arrays, as_array, to_array, type_name

DEFAULT = "serving_default"
_CLASSIFY = "tensorflow/serving/classify"
_REGRESS = "tensorflow/serving/regress"
_METHODS = ("tensorflow/serving/predict", _CLASSIFY, _REGRESS)

Signatures = Mapping[str, SignatureDef]


@dataclass(frozen=True)
class Call:
    """A run of a graph."""

    signature: str

    feeds: Arrays
    """By the tensors' names in the graph."""

    fetches: dict[str, str]
    """By the outputs' names in the answer, the tensors' in the graph."""

    rows: int = 0
    """Of Classify and Regress: how many examples there are."""

    @property
    def tensors(self) -> tuple[str, ...]:
        """What to fetch, each once: two outputs may be one tensor."""
        return tuple(dict.fromkeys(self.fetches.values()))

    def outputs(self, values: Sequence[object]) -> Arrays:
        """The outputs by name, of the values of `tensors`."""
        fetched = dict(zip(self.tensors, map(as_array, values), strict=True))
        return {alias: fetched[tensor] for alias, tensor in self.fetches.items()}


# Predict


def predict_call(
    signatures: Signatures,
    name: str,
    inputs: Mapping[str, Any],
    output_filter: Sequence[str] = (),
    check_method: bool = False,
) -> Call:
    """What a Predict request runs; its inputs are `TensorProto`s, or arrays already.

    Raises:
        ServingError: there is no such signature, or it has other inputs or outputs.
    """
    name = name or DEFAULT
    if name not in signatures:
        message = f'Serving signature key "{name}" not found.'
        raise ServingError(Code.FAILED_PRECONDITION, message)
    feeds = _predict_feeds(signatures[name], inputs, check_method)
    return Call(name, feeds, _predict_fetches(signatures[name], output_filter))


def _predict_feeds(
    signature: SignatureDef, inputs: Mapping[str, Any], check_method: bool
) -> Arrays:
    if check_method and signature.method_name not in _METHODS:
        raise ServingError(
            Code.INTERNAL,
            "Expected prediction signature method_name to be one of "
            f"{{{', '.join(_METHODS)}}}. Was: {signature.method_name}",
        )
    required, defaults = signature.inputs, signature.defaults
    if len(inputs) > len(required) or (len(inputs) < len(required) and not defaults):
        extra, missing = inputs.keys() - required.keys(), required.keys() - inputs.keys()
        raise invalid_argument(
            f"input size does not match signature: {len(inputs)}!={len(required)} "
            f"len({_names(inputs)}) != len({_names(required)}). Sent extra: {_names(extra)}. "
            f"Missing but required: {_names(missing)}."
        )
    feeds: Arrays = {}
    for position, alias in enumerate(sorted(required)):
        info = required[alias]
        if alias not in inputs and alias not in defaults:
            raise invalid_argument(
                f"Signature input alias: {alias}(feed name: {info.name}) not found in request and "
                "no default value provided. Inputs expected to be in the request "
                f"{_names(inputs)}, or default input alias set: {','.join(sorted(defaults))}"
            )
        value = inputs[alias] if alias in inputs else defaults[alias]
        if not isinstance(value, np.ndarray):
            try:
                value = to_array(value)
            except ValueError:
                raise invalid_argument(f"tensor parsing error: {alias}") from None
        _check_type(position, value, info.dtype)
        _check_shape(alias, value, info)
        feeds[info.name] = value
    used = inputs.keys() & required.keys()
    if len(used) != len(inputs):
        raise invalid_argument(
            f"Inputs contains invalid name. Used request inputs: {','.join(sorted(used))}, request "
            f"input: {','.join(sorted(inputs))}"
        )
    return feeds


def _predict_fetches(signature: SignatureDef, output_filter: Sequence[str]) -> dict[str, str]:
    fetches: dict[str, str] = {}
    for alias in output_filter:
        if alias not in signature.outputs:
            raise invalid_argument(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in "
                f"the set {_names(signature.outputs)}."
            )
        if alias in fetches:
            raise invalid_argument(f"duplicate output tensor alias: {alias}")
        fetches[alias] = signature.outputs[alias].name
    return fetches or {alias: info.name for alias, info in sorted(signature.outputs.items())}


# Classify and Regress


def classify_call(
    signatures: Signatures, name: str, examples: input_pb2.Input, check_method: bool = False
) -> Call:
    """What a Classify request runs.

    Raises:
        ServingError: there is no such signature, it isn't one for Classify, or no examples.
    """
    signature = _example_signature(signatures, name)
    return _example_call(name, signature, *_classify_tensors(signature, check_method), examples)


def regress_call(
    signatures: Signatures, name: str, examples: input_pb2.Input, check_method: bool = False
) -> Call:
    """What a Regress request runs.

    Raises:
        ServingError: there is no such signature, it isn't one for Regress, or no examples.
    """
    signature = _example_signature(signatures, name)
    return _example_call(name, signature, *_regress_tensors(signature, check_method), examples)


def _example_signature(signatures: Signatures, name: str) -> SignatureDef:
    if (name or DEFAULT) not in signatures:
        raise invalid_argument(f"No signature was found with the name: {name or DEFAULT}")
    return signatures[name or DEFAULT]


def _example_call(
    name: str,
    signature: SignatureDef,
    tensor: str,
    fetches: dict[str, str],
    examples: input_pb2.Input,
) -> Call:
    serialized = _serialized(examples)
    _check_shape("inputs", serialized, signature.inputs["inputs"])
    return Call(name or DEFAULT, {tensor: serialized}, fetches, len(serialized))


def examples_in(request: input_pb2.Input) -> int:
    """How many examples a request has."""
    kinds = (request.example_list, request.example_list_with_context)
    return sum(len(kind.examples) for kind in kinds)


def _serialized(request: input_pb2.Input) -> np.ndarray:
    """The examples of a request, each with the context before it; strings, [B]."""
    kind = request.WhichOneof("kind")
    if kind == "example_list_with_context":
        with_context = request.example_list_with_context
        context = with_context.context.SerializeToString()
        examples = [context + e.SerializeToString() for e in with_context.examples]
    else:
        examples = [e.SerializeToString() for e in request.example_list.examples]
    if not examples:
        raise invalid_argument("Input is empty.")
    return np.array([*examples, b""], object)[:-1]


def _classify_tensors(signature: SignatureDef, check_method: bool) -> tuple[str, dict[str, str]]:
    """The input's tensor, and those of `classes` and `scores` as far as there are such."""
    _check_method(signature, _CLASSIFY, "classification", check_method)
    if len(signature.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    if len(signature.outputs) not in (1, 2):
        raise invalid_argument(
            f"Expected one or two output Tensors, found {len(signature.outputs)}"
        )
    if "inputs" not in signature.inputs:
        raise ServingError(
            Code.FAILED_PRECONDITION,
            f"No classification inputs found in SignatureDef: {signature}",
        )
    outputs = {
        alias: signature.outputs[alias].name
        for alias in ("classes", "scores")
        if alias in signature.outputs
    }
    if not outputs:
        raise ServingError(
            Code.FAILED_PRECONDITION,
            'Expected classification signature outputs to contain at least one of "classes" or '
            f'"scores". Signature was: {signature}',
        )
    return signature.inputs["inputs"].name, outputs


def classifications(
    outputs: Mapping[str, np.ndarray], examples: int
) -> classification_pb2.ClassificationResult:
    """The answer to Classify from `classes` and `scores`, [B, C] each.

    Raises:
        ServingError: they have other shapes or types.
    """
    for alias, dtype, name in (("classes", "O", "STRING"), ("scores", "f", "FLOAT")):
        if alias not in outputs:
            continue
        output = outputs[alias]
        if output.ndim != 2:
            raise invalid_argument(
                "Expected Tensor shape: [batch_size num_classes] but got " + _shape(output)
            )
        if output.dtype.kind != dtype or (dtype == "f" and output.dtype != np.float32):
            raise invalid_argument(
                f"Expected {alias} Tensor of DT_{name}. Got: {_data_type(output)}"
            )
        if len(output) != examples:
            raise invalid_argument(
                f"Expected {alias} output batch size of {examples}. Got: {len(output)}"
            )
    widths = [output.shape[1] for output in outputs.values()]
    if len(set(widths)) > 1:
        raise invalid_argument(
            f"Tensors class and score should match in dim_size(1). Got {widths[0]} vs. {widths[1]}"
        )
    result = classification_pb2.ClassificationResult()
    for row in range(examples):
        classes = result.classifications.add().classes
        for column in range(widths[0]):
            entry = classes.add()
            if "classes" in outputs:
                # A field of text can't hold other bytes; what can't be read is replaced.
                entry.label = outputs["classes"][row, column].decode("utf-8", "replace")
            if "scores" in outputs:
                entry.score = outputs["scores"][row, column]
    return result


def _regress_tensors(signature: SignatureDef, check_method: bool) -> tuple[str, dict[str, str]]:
    """The input's tensor, and that of `outputs`."""
    _check_method(signature, _REGRESS, "regression", check_method)
    if len(signature.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    if len(signature.outputs) != 1:
        raise invalid_argument("Expected one output Tensor.")
    for way, tensors in (("inputs", signature.inputs), ("outputs", signature.outputs)):
        if way not in tensors:
            raise ServingError(
                Code.FAILED_PRECONDITION,
                f"No regression {way} found in SignatureDef: {signature}",
            )
    return signature.inputs["inputs"].name, {"outputs": signature.outputs["outputs"].name}


def regressions(
    outputs: Mapping[str, np.ndarray], examples: int
) -> regression_pb2.RegressionResult:
    """The answer to Regress from `outputs`, [B] or [B, 1].

    Raises:
        ServingError: it has another shape or type.
    """
    output = outputs["outputs"]
    if not (output.ndim == 1 or (output.ndim == 2 and output.shape[1] == 1)):
        raise invalid_argument(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            + _shape(output)
        )
    if len(output) != examples:
        raise invalid_argument(
            f"Input batch size did not match output batch size: {examples} vs. {len(output)}"
        )
    if output.dtype != np.float32:
        raise invalid_argument(f"Expected output Tensor of DT_FLOAT.  Got: {_data_type(output)}")
    values = output.ravel().tolist()
    return regression_pb2.RegressionResult(
        regressions=[regression_pb2.Regression(value=value) for value in values]
    )


# MultiInference


def multi_inference_calls(
    signatures: Signatures, request: inference_pb2.MultiInferenceRequest, check_method: bool = False
) -> list[Call]:
    """What each task of the request runs; all have the same feeds.

    Raises:
        ServingError: the tasks don't go together, or one isn't for its signature.
    """
    calls: dict[str, Call] = {}
    tensors: set[str] = set()
    for task in request.tasks:
        spec = task.model_spec
        if not spec.name:
            raise invalid_argument("Found ModelSpec with an empty model name.")
        if spec.name != request.tasks[0].model_spec.name:
            raise invalid_argument(
                "All ModelSpecs in a MultiInferenceRequest must access the same model name."
            )
        name = spec.signature_name or DEFAULT
        if name in calls:
            raise invalid_argument(f"Duplicate evaluation of signature: {name}")
        if name not in signatures:
            raise invalid_argument(f"Requested signature not found in model graph: {name}")
        if task.method_name not in _EXAMPLE_TENSORS:
            raise ServingError(
                Code.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}"
            )
        tensor, fetches = _EXAMPLE_TENSORS[task.method_name](signatures[name], check_method)
        tensors.add(tensor)
        if len(tensors) > 1:
            raise invalid_argument("Input tensor must be the same for all Signatures.")
        calls[name] = Call(name, {}, fetches)
    examples = _serialized(request.input)
    for name in calls:
        _check_shape("inputs", examples, signatures[name].inputs["inputs"])
    feeds = dict.fromkeys(tensors, examples)
    return [replace(call, feeds=feeds, rows=len(examples)) for call in calls.values()]


def multi_inference_result(
    task: inference_pb2.InferenceTask, outputs: Mapping[str, np.ndarray], rows: int
) -> inference_pb2.InferenceResult:
    """The answer to a task of MultiInference.

    Raises:
        ServingError: the outputs have other shapes or types.
    """
    if task.method_name == _CLASSIFY:
        result = classifications(outputs, rows)
        return inference_pb2.InferenceResult(classification_result=result)
    return inference_pb2.InferenceResult(regression_result=regressions(outputs, rows))


_EXAMPLE_TENSORS = {_CLASSIFY: _classify_tensors, _REGRESS: _regress_tensors}


# Warmup records


def logged_calls(
    signatures: Signatures, record: prediction_log_pb2.PredictionLog
) -> list[tuple[Call, Callable[[Mapping[str, np.ndarray]], object]]]:
    """What the request in a warmup record runs, and what makes the answer of the outputs.

    Raises:
        ServingError: the server would not answer it; then it does not load the model either.
    """
    kind = record.WhichOneof("log_type")
    if kind in (None, "session_run_log"):
        number = record.DESCRIPTOR.fields_by_name[kind].number if kind else 0
        raise ServingError(Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {number}")
    request = getattr(record, kind).request
    if kind == "multi_inference_log":
        calls = multi_inference_calls(signatures, request)
        return [
            (call, partial(multi_inference_result, task, rows=call.rows))
            for call, task in zip(calls, request.tasks, strict=True)
        ]
    name = request.model_spec.signature_name
    if kind == "predict_log":
        return [(predict_call(signatures, name, request.inputs, request.output_filter), dict)]
    if kind == "classify_log":
        call = classify_call(signatures, name, request.input)
        return [(call, partial(classifications, examples=call.rows))]
    call = regress_call(signatures, name, request.input)
    return [(call, partial(regressions, examples=call.rows))]


def _check_method(signature: SignatureDef, method: str, kind: str, check: bool) -> None:
    if check and signature.method_name != method:
        raise invalid_argument(
            f"Expected {kind} signature method_name to be {method}. Was: {signature.method_name}"
        )


def _check_type(position: int, value: np.ndarray, expected: int) -> None:
    """Refuses a type as the graph would, and before it waits for a batch."""
    wanted = tf.as_dtype(expected)
    given = "string" if value.dtype.kind in "OSU" else type_name(value.dtype)
    name = "string" if wanted == tf.string else type_name(np.dtype(wanted.as_numpy_dtype))
    if given != name:
        raise invalid_argument(f"Expects arg[{position}] to be {name} but {given} is provided")


def _check_shape(alias: str, value: np.ndarray, info: TensorInfo) -> None:
    """Refuses a shape that the signature has not, before the graph sees it.

    A kernel may believe the signature, and end the process if it is wrong. The first dimension is
    let be: where it is fixed, batching changes it all the same.
    """
    if not info.HasField("tensor_shape") or info.tensor_shape.unknown_rank:
        return
    sizes = [dim.size for dim in info.tensor_shape.dim]
    if len(sizes) != value.ndim or any(
        size not in (-1, given) for size, given in zip(sizes[1:], value.shape[1:], strict=True)
    ):
        shape = ",".join("?" if size < 0 else str(size) for size in sizes)
        raise invalid_argument(
            f"Shape of input {alias} {_shape(value)} is not compatible with expected shape "
            f"[{shape}]"
        )


def _data_type(array: np.ndarray) -> str:
    return f"DT_{type_name(array.dtype).upper()}"


def _shape(array: np.ndarray) -> str:
    return "[" + ",".join(map(str, array.shape)) + "]"


def _names(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
