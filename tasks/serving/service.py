"""The server's answers, whichever way the requests came.

`Service` is what REST and gRPC have in common: it finds the version, runs the graph, alone or with
other requests, and makes the answer. What goes wrong is a `ServingError`.
"""

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

from google.protobuf import any_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from tasks.protocol import signatures as sig
from tasks.protocol.errors import invalid_argument
from tasks.protocol.tensors import Arrays, to_proto, values_in
from tasks.serving.batching import Batcher
from tasks.serving.manager import Manager, Version
from tasks.serving.metrics import EXAMPLE_COUNTS, EXAMPLE_TOTAL, RUNTIME_LATENCY
from tasks.serving.model import Model

_T = TypeVar("_T")

# What takes about as long as reading so many bytes of JSON leaves the loop to others' requests.
_LONG = 4096


async def beside(size: int, function: Callable[..., _T], *arguments: object) -> _T:
    """What the function gives: called at once if there's little to do, else in another thread.

    Args:
        size: How much there is, in bytes of JSON or values of tensors.
        function: What does it.
        arguments: The function's.
    """
    if size <= _LONG:
        return function(*arguments)
    return await asyncio.get_running_loop().run_in_executor(None, function, *arguments)


class Service:
    """What clients may ask for.

    Args:
        manager: The models.
        batcher: Puts requests together; None to run each by itself.
        threads: Requests that run at once without it; 0 for four a core.
        check_methods: Whether a signature's method name is looked at.
    """

    def __init__(
        self,
        manager: Manager,
        batcher: Batcher | None = None,
        threads: int = 0,
        check_methods: bool = False,
    ) -> None:
        self.manager = manager
        self._batcher = batcher
        self._check_methods = check_methods
        self._threads = ThreadPoolExecutor(threads or 4 * (os.cpu_count() or 1), "run")
        # One waits for its models until a newer configuration takes its place.
        self._reloads = ThreadPoolExecutor(2, "reload")

    async def predict(
        self, request: predict_pb2.PredictRequest, deadline: float
    ) -> predict_pb2.PredictResponse:
        """Predict. `deadline` is a time of `time.monotonic`."""
        spec = request.model_spec
        with self.manager.use(spec) as version:
            call = await beside(
                max(map(values_in, request.inputs.values()), default=0),
                sig.predict_call,
                model_of(version).signatures,
                spec.signature_name,
                request.inputs,
                request.output_filter,
                self._check_methods,
            )
            outputs = await self._run(version, "Predict", call, deadline)
        response = predict_pb2.PredictResponse()
        _fill_spec(response.model_spec, spec, version, call.signature)
        await beside(values_of(outputs), _fill_outputs, response, outputs)
        return response

    async def predict_arrays(
        self,
        version: Version,
        signature_name: str,
        inputs: Arrays,
        deadline: float,
    ) -> Arrays:
        """What a version answers to Predict, by output."""
        signatures = model_of(version).signatures
        call = sig.predict_call(
            signatures, signature_name, inputs, check_method=self._check_methods
        )
        return await self._run(version, "Predict", call, deadline)

    async def classify(
        self, request: classification_pb2.ClassificationRequest, deadline: float
    ) -> classification_pb2.ClassificationResponse:
        """Classify."""
        version, call, outputs = await self._examples(
            "Classify", sig.classify_call, request, deadline
        )
        result = await beside(16 * values_of(outputs), sig.classifications, outputs, call.rows)
        response = classification_pb2.ClassificationResponse(result=result)
        _fill_spec(response.model_spec, request.model_spec, version, call.signature)
        return response

    async def regress(
        self, request: regression_pb2.RegressionRequest, deadline: float
    ) -> regression_pb2.RegressionResponse:
        """Regress."""
        version, call, outputs = await self._examples(
            "Regress", sig.regress_call, request, deadline
        )
        result = await beside(16 * call.rows, sig.regressions, outputs, call.rows)
        response = regression_pb2.RegressionResponse(result=result)
        _fill_spec(response.model_spec, request.model_spec, version, call.signature)
        return response

    async def multi_inference(
        self, request: inference_pb2.MultiInferenceRequest, deadline: float
    ) -> inference_pb2.MultiInferenceResponse:
        """MultiInference: Classify and Regress with several signatures in one run."""
        first = request.tasks[0].model_spec if request.tasks else model_pb2.ModelSpec()
        with self.manager.use(first) as version:
            calls = await beside(
                16 * sig.examples_in(request.input),
                sig.multi_inference_calls,
                model_of(version).signatures,
                request,
                self._check_methods,
            )
            tensors = sorted({tensor for call in calls for tensor in call.fetches.values()})
            together = replace(calls[0], fetches={tensor: tensor for tensor in tensors})
            _count_examples(version, together)
            fetched = await self._run(version, "MultiInference", together, deadline)
        response = inference_pb2.MultiInferenceResponse()
        for task, call in zip(request.tasks, calls, strict=True):
            outputs = {alias: fetched[tensor] for alias, tensor in call.fetches.items()}
            size = 16 * values_of(outputs)
            result = await beside(size, sig.multi_inference_result, task, outputs, call.rows)
            _fill_spec(result.model_spec, task.model_spec, version, call.signature)
            response.results.append(result)
        return response

    def metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """GetModelMetadata: the signatures."""
        if not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
        if not request.metadata_field:
            raise invalid_argument(
                "GetModelMetadataRequest must specify at least one metadata_field"
            )
        for name in request.metadata_field:
            if name != "signature_def":
                raise invalid_argument(f"Metadata field {name} is not supported")
        with self.manager.use(request.model_spec) as version:
            signatures = get_model_metadata_pb2.SignatureDefMap()
            for name, signature in model_of(version).signatures.items():
                signatures.signature_def[name].CopyFrom(signature)
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        _fill_spec(response.model_spec, request.model_spec, version)
        packed = any_pb2.Any()
        packed.Pack(signatures)
        response.metadata["signature_def"].CopyFrom(packed)
        return response

    def status(
        self, request: get_model_status_pb2.GetModelStatusRequest
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """GetModelStatus: each version's state."""
        if not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
        response = get_model_status_pb2.GetModelStatusResponse()
        for version in self.manager.statuses(request.model_spec):
            status = response.model_version_status.add(version=version.number, state=version.state)
            error = version.error
            status.status.error_code = error.code if error else 0
            status.status.error_message = error.message if error else ""
        return response

    async def reload(
        self, request: model_management_pb2.ReloadConfigRequest
    ) -> model_management_pb2.ReloadConfigResponse:
        """HandleReloadConfigRequest: other models, or other versions and labels of them."""
        if request.config.WhichOneof("config") != "model_config_list":
            raise invalid_argument(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. Only "
                "ModelConfigList is currently supported"
            )
        models = request.config.model_config_list
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(self._reloads, self.manager.reload, models)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.error_code = 0
        return response

    async def _examples(
        self, api: str, make: Callable[..., sig.Call], request: Any, deadline: float
    ) -> tuple[Version, sig.Call, Arrays]:
        """Runs a Classify or Regress request."""
        spec = request.model_spec
        with self.manager.use(spec) as version:
            call = await beside(
                16 * sig.examples_in(request.input),
                make,
                model_of(version).signatures,
                spec.signature_name,
                request.input,
                self._check_methods,
            )
            _count_examples(version, call)
            return version, call, await self._run(version, api, call, deadline)

    async def _run(self, version: Version, api: str, call: sig.Call, deadline: float) -> Arrays:
        """The outputs by their names in the answer. Timed are queueing and the graph."""
        model = model_of(version)
        start = time.monotonic()
        if self._batcher is not None:
            values = await self._batcher.run(model, call.feeds, call.tensors, deadline)
        else:
            loop = asyncio.get_running_loop()
            values = await loop.run_in_executor(self._threads, model.run, call.feeds, call.tensors)
        RUNTIME_LATENCY.observe((time.monotonic() - start) * 1e6, version.name, api, "TF1")
        return call.outputs(values)


def model_of(version: Version) -> Model:
    assert version.model is not None, "a version in use is loaded"
    return version.model


def values_of(arrays: Arrays) -> int:
    return sum(array.size for array in arrays.values())


def _fill_outputs(response: predict_pb2.PredictResponse, outputs: Arrays) -> None:
    for alias, array in outputs.items():
        to_proto(array, response.outputs[alias])


def _count_examples(version: Version, call: sig.Call) -> None:
    EXAMPLE_COUNTS.observe(call.rows, version.name)
    EXAMPLE_TOTAL.add(version.name, count=call.rows)


def _fill_spec(
    spec: model_pb2.ModelSpec,
    asked: model_pb2.ModelSpec,
    version: Version,
    signature_name: str | None = None,
) -> None:
    spec.name = asked.name
    spec.version.value = version.number
    if signature_name:
        spec.signature_name = signature_name
