"""The server's gRPC side: the official stubs, with our service behind them."""

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from tasks.serving.errors import Code, ServingError
from tasks.serving.metrics import REQUEST_LATENCY, REQUESTS
from tasks.serving.service import Service

_log = logging.getLogger("tasks.serving")

# The stock server's limit, the most that a message's length can say.
_MOST_BYTES = 2**31 - 1
_SERVICES = ("", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService")

_Response = TypeVar("_Response", bound=Message)


class GrpcServer:
    """The server, its services and its health.

    Args:
        service: What answers.
        arguments: Channel arguments, name and value.
    """

    def __init__(self, service: Service, arguments: Sequence[tuple[str, int | str]] = ()) -> None:
        options = [
            ("grpc.max_receive_message_length", _MOST_BYTES),
            ("grpc.max_send_message_length", _MOST_BYTES),
            ("grpc.so_reuseport", 0),  # two servers on one port would share its requests
            *arguments,
        ]
        self._server = grpc.aio.server(interceptors=[_Guard()], options=options)
        self._health = health.aio.HealthServicer()
        prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(
            _PredictionService(service), self._server
        )
        model_service_pb2_grpc.add_ModelServiceServicer_to_server(
            _ModelService(service), self._server
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)

    async def start(self, addresses: Sequence[str]) -> None:
        """Listens.

        Raises:
            OSError: an address can't be had.
        """
        for address in addresses:
            try:
                bound = self._server.add_insecure_port(address)
            except RuntimeError:
                bound = 0
            if not bound:
                raise OSError(f"{address} can't be had; another program may have it")
        await self.set_ready(False)
        await self._server.start()

    async def set_ready(self, ready: bool) -> None:
        """What the health service says from now on."""
        statuses = health_pb2.HealthCheckResponse
        status = statuses.SERVING if ready else statuses.NOT_SERVING
        for name in _SERVICES:
            await self._health.set(name, status)

    async def stop(self, seconds: float) -> None:
        """Takes no more requests, and gives those under way this time to end."""
        await self._server.stop(seconds)


class _PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, service: Service) -> None:
        self._service = service

    async def Predict(self, request: Any, context: Any) -> Message:
        answer = self._service.predict(request, _deadline(context))
        return await _counted(request.model_spec.name, "Predict", answer)

    async def Classify(self, request: Any, context: Any) -> Message:
        answer = self._service.classify(request, _deadline(context))
        return await _counted(request.model_spec.name, "Classify", answer)

    async def Regress(self, request: Any, context: Any) -> Message:
        answer = self._service.regress(request, _deadline(context))
        return await _counted(request.model_spec.name, "Regress", answer)

    async def MultiInference(self, request: Any, context: Any) -> Message:
        name = request.tasks[0].model_spec.name if request.tasks else ""
        answer = self._service.multi_inference(request, _deadline(context))
        return await _counted(name, "MultiInference", answer)

    async def GetModelMetadata(self, request: Any, context: Any) -> Message:
        return self._service.metadata(request)


class _ModelService(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, service: Service) -> None:
        self._service = service

    async def GetModelStatus(self, request: Any, context: Any) -> Message:
        return self._service.status(request)

    async def HandleReloadConfigRequest(self, request: Any, context: Any) -> Message:
        return await self._service.reload(request)


async def _counted(model: str, api: str, answer: Awaitable[_Response]) -> _Response:
    """The answer, counted and timed."""
    start = time.monotonic()
    try:
        response = await answer
    except ServingError as error:
        REQUESTS.add(model, error.code.name)
        raise
    REQUESTS.add(model, "OK")
    REQUEST_LATENCY.observe((time.monotonic() - start) * 1e6, model, api, "GRPC")
    return response


def _deadline(context: Any) -> float:
    remaining = context.time_remaining()
    return math.inf if remaining is None else time.monotonic() + remaining


class _Guard(grpc.aio.ServerInterceptor):
    """Turns what goes wrong in a call into its status, bytes that are no message included."""

    def __init__(self) -> None:
        self._guarded: dict[str, grpc.RpcMethodHandler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler]],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler:
        guarded = self._guarded.get(details.method)
        if guarded is None:
            handler = await continuation(details)
            if handler is None or handler.unary_unary is None:
                return handler
            guarded = self._guarded[details.method] = _guard(handler)
        return guarded


def _guard(handler: Any) -> grpc.RpcMethodHandler:
    def parse(content: bytes) -> Message | None:
        try:
            return handler.request_deserializer(content)
        except DecodeError:
            return None

    async def answer(request: Message | None, context: Any) -> Any:
        if request is None:
            await context.abort(
                grpc.StatusCode.INVALID_ARGUMENT, "The request is not the message that it should be"
            )
        try:
            return await handler.unary_unary(request, context)
        except ServingError as error:
            # A message may quote bytes of the request, which gRPC's field for it can't hold.
            quoted = error.message.encode("utf-8", "surrogateescape")
            await context.abort(_STATUS[error.code], quoted.decode("utf-8", "replace"))
        except (asyncio.CancelledError, grpc.aio.AbortError, grpc.RpcError):
            raise
        except Exception:
            _log.exception("a request failed")
            await context.abort(grpc.StatusCode.INTERNAL, "The server failed; its log says how")

    return grpc.unary_unary_rpc_method_handler(answer, parse, handler.response_serializer)


_STATUS = {code: getattr(grpc.StatusCode, code.name) for code in Code}
