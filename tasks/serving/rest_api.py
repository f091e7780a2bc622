"""The server's REST side: TensorFlow Serving's paths, health, metrics, and the playground."""

import asyncio
import logging
import re
import time
import zlib
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

from tasks.serving import json_answers, json_requests
from tasks.serving.errors import Code, ServingError, http_status
from tasks.serving.manager import State
from tasks.serving.metrics import REQUEST_LATENCY, REQUESTS, prometheus_page
from tasks.serving.options import Options
from tasks.serving.service import Service, model_of
from tasks.serving.tensors import as_array

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

# Longer bodies are parsed beside the loop, which has others' requests to look after.
_LONG = 64 * 1024
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
            Route("/", self._playground),
            Route("/playground/models", self._models),
            Route("/healthz", self._healthz),
            Route("/readyz", self._readyz),
        ]
        if metrics_path:
            routes.append(Route(metrics_path, self._metrics))
        self._others = Starlette(routes=routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["raw_path"][:4].lower() == b"/v1/":
            response = await self._answer(Request(scope, receive))
            if self._options.rest_api_enable_cors_support:
                response.headers.update(_CORS)
            await response(scope, receive, send)
        elif scope["type"] == "http":
            await self._others(scope, receive, send)

    # TensorFlow Serving's paths

    async def _answer(self, request: Request) -> Response:
        start = time.monotonic()
        name = method = ""
        try:
            if request.method == "OPTIONS" and self._options.rest_api_enable_cors_support:
                return Response()
            path = _path(request.scope)
            matched = {"GET": _GET, "POST": _POST}.get(request.method, _NOTHING).fullmatch(path)
            malformed = _invalid(f"Malformed request: {request.method} {path}")
            if matched is None:
                raise malformed
            parts = matched.groupdict()
            spec = _spec(parts)
            name, method = spec.name, parts.get("method", "")
            if method:
                if method != method.lower():  # the only word that minds case
                    raise malformed
                body = await self._body(request)
                timeout = (self._options.rest_api_timeout_in_ms or 1e12) / 1e3
                content = await asyncio.wait_for(
                    self._infer(method, spec, body, start + timeout), timeout
                )
                REQUESTS.add(name, "OK")
                REQUEST_LATENCY.observe((time.monotonic() - start) * 1e6, name, method, "REST")
            elif not spec.name:
                raise _invalid("Missing model name in request.")
            elif parts["metadata"] == "/metadata":
                content = self._metadata(spec)
            else:
                content = self._status(spec)
            return Response(content, media_type="application/json")
        except ServingError as error:
            failure = error
        except TimeoutError:
            failure = ServingError(Code.DEADLINE_EXCEEDED, "Timed out waiting for notification")
        except _TooLong as error:
            return _error(str(error), 413)
        except ClientDisconnect:
            return Response(status_code=499)
        except Exception:
            _log.exception("a request failed")
            failure = ServingError(Code.INTERNAL, "The server failed; its log says how")
        if method:
            REQUESTS.add(name, failure.code.name)
        return _error(failure.message, http_status(failure.code))

    async def _infer(
        self, method: str, spec: model_pb2.ModelSpec, body: bytes, deadline: float
    ) -> bytes:
        if method == "predict":
            return await self._predict(spec, body, deadline)
        parsed = await _beside(len(body), json_requests.parse_examples, body)
        spec.signature_name = parsed.signature_name
        if method == "classify":
            request = classification_pb2.ClassificationRequest(model_spec=spec)
            _fill_examples(request.input, parsed)
            response = await self._service.classify(request, deadline)
            return json_answers.classifications_json(response.result)
        request = regression_pb2.RegressionRequest(model_spec=spec)
        _fill_examples(request.input, parsed)
        response = await self._service.regress(request, deadline)
        return json_answers.regressions_json(response.result)

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
                raise _invalid(
                    f'Serving signature name: "{signature_name}" not found in signature def'
                )
            return signature.inputs

        try:
            parsed = await _beside(len(body), json_requests.parse_predict, body, inputs_of)
            assert version is not None
            outputs = await self._service.predict_arrays(
                version, parsed.signature_name, parsed.inputs, (), deadline
            )
        finally:
            if version is not None:
                manager.release(version)
        outputs = {alias: as_array(value) for alias, value in outputs.items()}
        size = sum(array.size for array in outputs.values())
        return await _beside(16 * size, json_answers.predictions_json, outputs, parsed.row_format)

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
            ServingError: it is not what its header says.
            _TooLong: it is longer than the server takes.
        """
        limit = self._options.rest_api_max_request_bytes
        # The stock server takes any other encoding for none, too.
        packed = "gzip" in request.headers.get("content-encoding", "").lower()
        # 32 + 15: a gzip or zlib header, whichever is there, and the largest window.
        unpacker = zlib.decompressobj(32 + zlib.MAX_WBITS) if packed else None
        chunks, size = [], 0
        async for chunk in request.stream():
            if unpacker is not None:
                try:
                    chunk = unpacker.decompress(chunk, limit - size + 1)
                except zlib.error:
                    raise _invalid("The body is not gzip, as Content-Encoding says") from None
            size += len(chunk)
            if size > limit:
                raise _TooLong(f"The body is longer than the {limit} bytes that are allowed")
            chunks.append(chunk)
        if unpacker is not None and not unpacker.eof and size:
            raise _invalid("The gzip body is cut off")
        return b"".join(chunks)

    # Our own

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


class _TooLong(Exception):
    pass


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
            raise _invalid(f"Failed to convert version: {parts['version']} to numeric.")
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


async def _beside(size: int, function: Any, *arguments: Any) -> Any:
    """What the function gives: called at once if there's little to do, else in another thread."""
    if size <= _LONG:
        return function(*arguments)
    return await asyncio.get_running_loop().run_in_executor(None, function, *arguments)


def _json(message: Message) -> str:
    """A message as the stock server prints it: its fields' own names, defaults included."""
    return json_format.MessageToJson(
        message,
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
        indent=1,
    )


def _error(message: str, status: int) -> Response:
    return Response(json_answers.error_json(message), status, media_type="application/json")


def _invalid(message: str) -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, message)
