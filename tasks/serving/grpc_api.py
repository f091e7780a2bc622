"""The server's gRPC side: the official stubs, with our service behind them."""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

from tasks.protocol.errors import Code, ServingError
from tasks.serving.metrics import REQUEST_LATENCY, REQUESTS, model_label
from tasks.serving.service import Service

_log = logging.getLogger("tasks.serving")

# The stock server's limit, the most that a message's length can say.
_MOST_BYTES = 2**31 - 1
_SERVICES = ("", "tensorflow.serving.PredictionService", "tensorflow.serving.ModelService")

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN

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
        self._server = grpc.aio.server(interceptors=[_Guard(service)], options=options)
        self._health = _Health()
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
        await self._server.start()

    def set_ready(self, ready: bool) -> None:
        """What the health service says from now on."""
        self._health.set(_SERVING if ready else _NOT_SERVING)

    async def stop(self, seconds: float) -> None:
        """Takes no more requests, and gives those under way this time to end."""
        self._health.end()
        await self._server.stop(seconds)


class _Health(health_pb2_grpc.HealthServicer):
    """One status for all services.

    With the reference implementation, streams never end: each that is open would hold up the end of
    the server for as long as requests may take.
    """

    def __init__(self) -> None:
        self._status = _NOT_SERVING
        self._changed = asyncio.Event()
        self._ended = False

    def set(self, status: int) -> None:
        """Tells whoever watches, unless the end has begun."""
        if self._ended:
            return
        self._status = status
        self._changed.set()
        self._changed = asyncio.Event()

    def end(self) -> None:
        """Ends the streams: nothing will change any more."""
        self.set(_NOT_SERVING)
        self._ended = True

    async def Check(self, request: Any, context: Any) -> Message:
        if request.service not in _SERVICES:
            await context.abort(grpc.StatusCode.NOT_FOUND, "")
        return health_pb2.HealthCheckResponse(status=self._status)

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Message]:
        told = None
        while True:
            changed = self._changed
            status = self._status if request.service in _SERVICES else _SERVICE_UNKNOWN
            if status != told:
                yield health_pb2.HealthCheckResponse(status=status)
                told = status
            if self._ended:
                return
            await changed.wait()


class _PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    def __init__(self, service: Service) -> None:
        self._service = service

    async def Predict(self, request: Any, context: Any) -> Message:
        name = request.model_spec.name
        return await self._counted(name, "Predict", self._service.predict, request, context)

    async def Classify(self, request: Any, context: Any) -> Message:
        name = request.model_spec.name
        return await self._counted(name, "Classify", self._service.classify, request, context)

    async def Regress(self, request: Any, context: Any) -> Message:
        name = request.model_spec.name
        return await self._counted(name, "Regress", self._service.regress, request, context)

    async def MultiInference(self, request: Any, context: Any) -> Message:
        name = request.tasks[0].model_spec.name if request.tasks else ""
        answer = self._service.multi_inference
        return await self._counted(name, "MultiInference", answer, request, context)

    async def GetModelMetadata(self, request: Any, context: Any) -> Message:
        return self._service.metadata(request)

    async def _counted(
        self,
        name: str,
        api: str,
        answer: Callable[[Any, float], Awaitable[_Response]],
        request: Any,
        context: Any,
    ) -> _Response:
        """The answer, counted, however it ends, and timed."""
        start = time.monotonic()
        remaining = context.time_remaining()
        timeout = math.inf if remaining is None else remaining
        status = Code.INTERNAL
        try:
            response = await answer(request, start + timeout)
            REQUEST_LATENCY.observe((time.monotonic() - start) * 1e6, name, api, "GRPC")
            status = Code.OK
            return response
        except ServingError as error:
            status = error.code
            raise
        except asyncio.CancelledError:
            # The client's own time is over a little sooner: it comes rounded up.
            late = time.monotonic() - start > 0.95 * timeout
            status = Code.DEADLINE_EXCEEDED if late else Code.CANCELLED
            raise
        finally:
            REQUESTS.add(model_label(name, self._service.manager.names()), status.name)


class _ModelService(model_service_pb2_grpc.ModelServiceServicer):
    def __init__(self, service: Service) -> None:
        self._service = service

    async def GetModelStatus(self, request: Any, context: Any) -> Message:
        return self._service.status(request)

    async def HandleReloadConfigRequest(self, request: Any, context: Any) -> Message:
        return await self._service.reload(request)


class _Guard(grpc.aio.ServerInterceptor):
    """Turns what goes wrong in a call into its status, bytes that are no message included.

    Until the models have loaded, calls are UNAVAILABLE, but for those of the health service.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
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
            models = details.method.startswith("/tensorflow.serving.")
            check = self._service.manager.check_started if models else lambda: None
            guarded = self._guarded[details.method] = _guard(handler, check)
        return guarded


def _guard(handler: Any, check: Callable[[], None]) -> grpc.RpcMethodHandler:
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
            check()
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
