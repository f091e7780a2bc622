"""The server's REST side: TensorFlow Serving's paths, health, metrics, and the playground."""

import asyncio
import logging
import math
import re
import time
import zlib
from collections.abc import Awaitable, Callable
from importlib.resources import files
from typing import Any
from urllib.parse import unquote_to_bytes

from google.protobuf import json_format
from google.protobuf.message import Message
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    regression_pb2,
)

from tasks.protocol.errors import Code, ServingError, http_status, invalid_argument
from tasks.serving import json_answers, json_requests
from tasks.serving.manager import State
from tasks.serving.metrics import REQUEST_LATENCY, REQUESTS, model_label, prometheus_page
from tasks.serving.options import Options
from tasks.serving.service import Service, beside, model_of, values_of

_Page = Callable[[Request], Awaitable[Response]]

_log = logging.getLogger("tasks.serving")

# The stock server's (http_rest_api_util.cc), which match without regard to case.
_VERSION = r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
_POST = re.compile(
    rf"/v1/models/(?P<name>[^/:]+){_VERSION}:(?P<method>classify|regress|predict)",
    re.IGNORECASE | re.ASCII,
)
_GET = re.compile(
    rf"/v1/models(?:/(?P<name>[^/:]+))?{_VERSION}(?P<metadata>/metadata)?",
    re.IGNORECASE | re.ASCII,
)

_ORIGIN = re.compile("https?://")  # of a preflight, with which a browser asks before it posts

_CORS = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Allow-Methods": "POST, GET",
    "Access-Control-Allow-Headers": "Content-Type",
}
_PAGE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; connect-src 'self'; img-src data: blob:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


class RestApi:
    """An ASGI application.

    Args:
        service: What answers.
        options: The server's.
        metrics_path: Where Prometheus finds its page; None for nowhere.
    """

    def __init__(self, service: Service, options: Options, metrics_path: str | None) -> None:
        self._service = service
        self._options = options
        self.draining = False
        page = files("tasks.serving").joinpath("playground.html").read_text("utf-8")
        self._page = page.replace("__GRPC_PORT__", str(options.port))
        routes = [
            Route("/", self._once_started(self._playground)),
            Route("/playground/models", self._once_started(self._models)),
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
        ]
        if metrics_path:
            routes.append(Route(metrics_path, self._metrics))
        not_found = dict.fromkeys((404, 405), _not_found)
        self._others = Starlette(routes=routes, exception_handlers=not_found)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["raw_path"][:4].lower() == b"/v1/":
            response = await self._answer(Request(scope, receive))
            if self._options.rest_api_enable_cors_support:
                response.headers.update(_CORS)
            await response(scope, receive, send)
        elif scope["type"] == "http":
            await self._others(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close"})

    # TensorFlow Serving's paths

    async def _answer(self, request: Request) -> Response:
        start = time.monotonic()
        name = method = ""
        try:
            self._service.manager.check_started()
            if request.method == "OPTIONS":
                origin = request.headers.get("origin", "")
                return Response(status_code=200 if _ORIGIN.search(origin) else 400)
            path = _path(request.scope)
            matched = {"GET": _GET, "POST": _POST}.get(request.method, _NOTHING).fullmatch(path)
            malformed = invalid_argument(f"Malformed request: {request.method} {path}")
            if matched is None:
                raise malformed
            parts = matched.groupdict()
            spec = _spec(parts)
            name, method = spec.name, parts.get("method", "")
            if method:
                if method != method.lower():  # the only word that minds case
                    raise malformed
                timeout = (self._options.rest_api_timeout_in_ms or math.inf) / 1e3
                async with asyncio.timeout(timeout):
                    body = await self._body(request)
                    content = await self._infer(method, spec, body, start + timeout)
                self._count(name, "OK")
                REQUEST_LATENCY.observe((time.monotonic() - start) * 1e6, name, method, "REST")
            elif not spec.name:
                raise invalid_argument("Missing model name in request.")
            elif parts["metadata"] == "/metadata":
                content = self._metadata(spec)
            else:
                content = self._status(spec)
            return Response(content, media_type="application/json")
        except ServingError as error:
            failure = error
        except TimeoutError:
            failure = ServingError(Code.DEADLINE_EXCEEDED, "Timed out waiting for notification")
        except ClientDisconnect:
            failure = ServingError(Code.CANCELLED, "The client went away")
        except Exception:
            _log.exception("a request failed")
            failure = ServingError(Code.INTERNAL, "The server failed; its log says how")
        if method:
            self._count(name, failure.code.name)
        too_long = isinstance(failure, _TooLong)
        response = _error(failure.message, 413 if too_long else http_status(failure.code))
        if too_long or failure.code is Code.DEADLINE_EXCEEDED:  # who sends for ever would go on
            response.headers["Connection"] = "close"
        return response

    def _count(self, model: str, status: str) -> None:
        REQUESTS.add(model_label(model, self._service.manager.names()), status)

    async def _infer(
        self, method: str, spec: model_pb2.ModelSpec, body: bytes, deadline: float
    ) -> bytes:
        if method == "predict":
            return await self._predict(spec, body, deadline)
        parsed = await beside(len(body), json_requests.parse_examples, body)
        spec.signature_name = parsed.signature_name
        if method == "classify":
            request = classification_pb2.ClassificationRequest(model_spec=spec)
            await beside(len(body), _fill_examples, request.input, parsed)
            result = (await self._service.classify(request, deadline)).result
            size = 16 * sum(len(example.classes) for example in result.classifications)
            return await beside(size, json_answers.classifications_json, result)
        request = regression_pb2.RegressionRequest(model_spec=spec)
        await beside(len(body), _fill_examples, request.input, parsed)
        result = (await self._service.regress(request, deadline)).result
        size = 16 * len(result.regressions)
        return await beside(size, json_answers.regressions_json, result)

    async def _predict(self, spec: model_pb2.ModelSpec, body: bytes, deadline: float) -> bytes:
        manager = self._service.manager
        # Held from here on, so that parsing and running are the same version's.
        version, missing = None, None
        try:
            version = manager.acquire(spec)
        except ServingError as error:
            missing = error  # told later: what is wrong with the body comes first

        def inputs_of(signature_name: str) -> Any:
            if version is None:
                raise missing or AssertionError
            signature = model_of(version).signatures.get(signature_name)
            if signature is None:
                raise invalid_argument(
                    f'Serving signature name: "{signature_name}" not found in signature def'
                )
            return signature.inputs

        try:
            parsed = await beside(len(body), json_requests.parse_predict, body, inputs_of)
            assert version is not None
            outputs = await self._service.predict_arrays(
                version, parsed.signature_name, parsed.inputs, deadline
            )
        finally:
            if version is not None:
                manager.release(version)
        size = 16 * values_of(outputs)
        return await beside(size, json_answers.predictions_json, outputs, parsed.row_format)

    def _status(self, spec: model_pb2.ModelSpec) -> bytes:
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=spec)
        if spec.WhichOneof("version_choice") == "version_label":
            request.model_spec.ClearField("version_label")  # the stock server does not look at it
        return _json(self._service.status(request)).encode() + b"\n"

    def _metadata(self, spec: model_pb2.ModelSpec) -> bytes:
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=spec, metadata_field=["signature_def"]
        )
        response = self._service.metadata(request)
        signatures = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(signatures)
        text = (
            f'{{\n"model_spec":{_json(response.model_spec)}\n,\n'
            f'"metadata": {{"signature_def": {_json(signatures)}\n}}\n}}\n'
        )
        return text.encode()

    async def _body(self, request: Request) -> bytes:
        """The request's body, unpacked.

        Raises:
            ServingError: it is longer than the server takes, or not what its header says.
        """
        limit = self._options.rest_api_max_request_bytes
        # The stock server takes any other encoding for none, too.
        packed = "gzip" in request.headers.get("content-encoding", "").lower()
        chunks, size = [], 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise _TooLong(limit)
            chunks.append(chunk)
        body = b"".join(chunks)
        return await asyncio.to_thread(_unpacked, body, limit) if packed else body

    # Our own

    def _once_started(self, page: _Page) -> _Page:
        """The page, which is a 503 as long as a script may wait for the models by it."""

        async def answer(request: Request) -> Response:
            try:
                self._service.manager.check_started()
            except ServingError as error:
                return _error(error.message, http_status(error.code))
            return await page(request)

        return answer

    async def _playground(self, request: Request) -> Response:
        return Response(self._page, media_type="text/html", headers=_PAGE_HEADERS)

    async def _models(self, request: Request) -> Response:
        manager = self._service.manager
        models = []
        for name in manager.names():
            labels = manager.labels(name)
            try:
                versions = manager.statuses(model_pb2.ModelSpec(name=name))
            except ServingError:
                versions = []
            described = [
                {
                    "version": version.number,
                    "state": State.Name(version.state),
                    "labels": sorted(label for label, n in labels.items() if n == version.number),
                }
                for version in versions
            ]
            models.append({"name": name, "versions": described})
        return JSONResponse(models, headers={"Cache-Control": "no-store"})

    async def _healthz(self, request: Request) -> Response:
        return PlainTextResponse("ok\n")

    async def _readyz(self, request: Request) -> Response:
        if self.draining:
            return PlainTextResponse("draining\n", 503)
        ready = self._service.manager.ready()
        return PlainTextResponse("ok\n" if ready else "loading\n", 200 if ready else 503)

    async def _metrics(self, request: Request) -> Response:
        return PlainTextResponse(prometheus_page(), media_type="text/plain; version=0.0.4")


class _TooLong(ServingError):
    def __init__(self, limit: int) -> None:
        message = f"The body is longer than the {limit} bytes that are allowed"
        super().__init__(Code.RESOURCE_EXHAUSTED, message)


def _unpacked(body: bytes, limit: int) -> bytes:
    """A gzip or zlib body's content.

    Raises:
        ServingError: it is neither, is cut off or goes on after its end, or unpacks to too much.
    """
    unpacker = zlib.decompressobj(32 + zlib.MAX_WBITS)  # 32: either header
    try:
        content = unpacker.decompress(body, limit + 1)
    except zlib.error:
        raise invalid_argument("The body is not gzip, as Content-Encoding says") from None
    if len(content) > limit:
        raise _TooLong(limit)
    if body and not unpacker.eof:
        raise invalid_argument("The gzip body is cut off")
    if unpacker.unused_data:
        raise invalid_argument("The gzip body goes on after its end")
    return content


_NOTHING = re.compile(r"(?!)")


def _path(scope: Scope) -> str:
    """The path as it was sent, with its query: the stock server does not part them."""
    query = scope["query_string"]
    return (scope["raw_path"] + (b"?" + query if query else b"")).decode("latin-1")


def _spec(parts: dict[str, str | None]) -> model_pb2.ModelSpec:
    """The model, and the version or label, that a path names."""
    spec = model_pb2.ModelSpec(name=_decoded(parts["name"] or ""))
    if parts["version"]:
        number = int(parts["version"][:20])
        if len(parts["version"]) > 19 or number >= 2**63:
            raise invalid_argument(f"Failed to convert version: {parts['version']} to numeric.")
        spec.version.value = number
    elif parts["label"]:
        spec.version_label = _decoded(parts["label"])
    return spec


def _decoded(text: str) -> str:
    return unquote_to_bytes(text).decode("utf-8", "replace")


def _fill_examples(target: Any, parsed: json_requests.ExamplesBody) -> None:
    if parsed.context is None:
        target.example_list.examples.extend(parsed.examples)
    else:
        target.example_list_with_context.context.CopyFrom(parsed.context)
        target.example_list_with_context.examples.extend(parsed.examples)


def _json(message: Message) -> str:
    """A message as the stock server prints it: its fields' own names, defaults included."""
    return json_format.MessageToJson(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
        indent=1,
    )


def _not_found(request: Request, error: Exception) -> Response:
    return _error("Not found", 404)


def _error(message: str, status: int) -> Response:
    return Response(json_answers.error_json(message), status, media_type="application/json")
