"""A model server in this process, for tests to ask."""

import asyncio
import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import uvloop
from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

from tasks.serving.options import Options
from tasks.serving.server import serve


@dataclass(frozen=True)
class Answer:
    """What REST answered."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return self.json["error"]


@dataclass(frozen=True)
class Running:
    """A server that is ready."""

    grpc_port: int
    rest_port: int
    prediction: prediction_service_pb2_grpc.PredictionServiceStub
    models: model_service_pb2_grpc.ModelServiceStub

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, None, **headers)

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        """POSTs bytes as they are, text as UTF-8, and anything else as JSON."""
        if isinstance(body, str):
            body = body.encode()
        elif not isinstance(body, bytes):
            body = json.dumps(body).encode()
        return self.ask("POST", path, body, **headers)

    def ask(self, method: str, path: str, body: bytes | None, **headers: str) -> Answer:
        url = f"http://127.0.0.1:{self.rest_port}{path}"
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(url, body, names, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return Answer(answer.status, answer.read(), answer.headers)
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.read(), error.headers)


@contextmanager
def running(**options: Any) -> Iterator[Running]:
    """Serves with these flags, in a thread, until the block ends.

    Raises:
        UsageError: as the command would end with.
    """
    grpc_port, rest_port = free_port(), free_port()
    defaults = {"port": grpc_port, "rest_api_port": rest_port, "drain_seconds": 5.0}
    settings = Options(**defaults | {"file_system_poll_wait_seconds": 0.05} | options)
    ready, loops, failures = threading.Event(), [], []

    async def main() -> None:
        until = asyncio.get_running_loop().create_future()
        loops.append((asyncio.get_running_loop(), until))
        await serve(settings, until, ready.set)

    def work() -> None:
        try:
            uvloop.run(main())  # as the command does
        except BaseException as error:
            failures.append(error)
        finally:
            ready.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert ready.wait(120), "the server does not become ready"
    if failures:
        raise failures[0]
    try:
        with grpc.insecure_channel(f"127.0.0.1:{settings.port}") as channel:
            yield Running(
                settings.port,
                settings.rest_api_port,
                prediction_service_pb2_grpc.PredictionServiceStub(channel),
                model_service_pb2_grpc.ModelServiceStub(channel),
            )
    finally:
        loop, until = loops[0]
        loop.call_soon_threadsafe(until.set_result, 0)
        thread.join(60)
    assert not thread.is_alive(), "the server does not end"
    if failures:
        raise failures[0]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]
