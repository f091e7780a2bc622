"""The server as a process: loads, listens, and on SIGTERM ends what is under way before it goes."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from tensorflow.core.protobuf import config_pb2
from tensorflow_serving.config import model_server_config_pb2

from tasks.engine.errors import UsageError
from tasks.protocol.errors import ServingError
from tasks.serving import configs
from tasks.serving.batching import Batcher
from tasks.serving.grpc_api import GrpcServer
from tasks.serving.manager import Loading, Manager
from tasks.serving.metrics import LOAD_ATTEMPTS, LOAD_LATENCY
from tasks.serving.model import Model
from tasks.serving.options import Options
from tasks.serving.rest_api import RestApi
from tasks.serving.service import Service
from tasks.serving.warmup import warm_up

_log = logging.getLogger("tasks.serving")


async def serve(
    options: Options,
    until: "asyncio.Future[int] | None" = None,
    when_ready: Callable[[], None] = lambda: None,
) -> int:
    """Serves until it is told to end; returns the number of the signal that did.

    Args:
        options: The flags.
        until: Ends the server when it is done, with what it is done with; by default signals do.
        when_ready: Called once all models answer.

    Raises:
        UsageError: a config, a model or a port can't be had.
    """
    models = configs.read_models(options)
    batching = configs.batching_parameters(options)
    metrics_path = configs.metrics_path(options)
    manager = Manager(
        Loading(
            _loader(options),
            options.num_load_threads,
            options.max_num_load_retries,
            options.load_retry_interval_micros / 1e6,
        ),
        options.file_system_poll_wait_seconds,
        options.prefix_map(),
        options.allow_version_labels_for_unavailable_models,
    )
    batcher = Batcher(batching) if batching else None
    service = Service(
        manager, batcher, options.rest_api_num_threads, options.enable_signature_method_name_check
    )
    rest = RestApi(service, options, metrics_path)
    ended = until or _signals()
    listening = _Listening(options, rest, GrpcServer(service, options.channel_arguments()))
    try:
        await listening.start()
        loading = asyncio.create_task(asyncio.to_thread(manager.start, models))
        both: list[asyncio.Future[Any]] = [loading, ended]
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not ended.done():
            try:
                await loading
            except ServingError as error:
                raise UsageError(error.message) from None
            if options.model_config_file and options.model_config_file_poll_wait_seconds:
                _reread(options, manager, models)
            _tell_ready(options, listening)
            _keep_health(manager, listening)
            when_ready()
            await ended
    finally:
        manager.close()
        await listening.stop()
        if batcher:
            batcher.close()
    if not loading.done() or loading.exception():
        _log.info("ended before the models were loaded")
    return ended.result()


def _keep_health(manager: Manager, listening: "_Listening") -> None:
    """Has gRPC's health service say what /readyz does."""
    loop = asyncio.get_running_loop()

    def tell() -> None:
        loop.call_soon_threadsafe(listening.grpc.set_ready, manager.ready())

    manager.every(1.0, tell, "health")


def _tell_ready(options: Options, listening: "_Listening") -> None:
    listening.grpc.set_ready(True)
    rest = f", REST and playground at http://{_host(options)}:{options.rest_api_port}/"
    _log.info(
        "ready: gRPC at %s:%d%s", _host(options), options.port, rest * bool(options.rest_api_port)
    )


class _Listening:
    """Both ports."""

    def __init__(self, options: Options, rest: RestApi, grpc: GrpcServer) -> None:
        self.grpc = grpc
        self._rest = rest
        self._options = options
        self._http = _Uvicorn(
            uvicorn.Config(
                rest,
                http="httptools",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                # Longer than proxies and pools of connections keep theirs: who closes first must
                # be who sends.
                timeout_keep_alive=75,
                timeout_graceful_shutdown=max(1, round(options.drain_seconds)),
            )
        )
        self._serving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Listens.

        Raises:
            UsageError: a port can't be had.
        """
        options = self._options
        addresses = [f"{_host(options)}:{options.port}"]
        if options.grpc_socket_path:
            addresses.append(f"unix:{options.grpc_socket_path}")
        try:
            await self.grpc.start(addresses)
            if not options.rest_api_port:
                return
            family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
            address = (options.host, options.rest_api_port)
            listener = socket.create_server(address, family=family, backlog=2048)
        except OSError as error:
            what = error.strerror or str(error)
            raise UsageError(
                f"--rest_api_port {options.rest_api_port}: {what}; give another port"
                if error.strerror
                else f"--port {options.port}: {what}; give another port"
            ) from None
        self._serving = asyncio.create_task(self._http.serve([listener]))

    async def stop(self) -> None:
        """Tells that it isn't ready, takes nothing new, and waits for what is under way.

        The one follows the other at once: whoever sends requests must know before SIGTERM that the
        server ends. That is what the `preStop` sleep of `deploy/kubernetes.yaml` is for.
        """
        self._rest.draining = True
        self.grpc.set_ready(False)
        self._http.should_exit = True
        await self.grpc.stop(self._options.drain_seconds)
        if self._serving:
            await self._serving


class _Uvicorn(uvicorn.Server):
    """Leaves signals to us: they end both servers."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _loader(options: Options) -> Callable[[str, int, Path], Model]:
    """How a version is loaded and warmed up."""
    parallelism = options.tensorflow_session_parallelism
    session = config_pb2.ConfigProto(
        intra_op_parallelism_threads=options.tensorflow_intra_op_parallelism or parallelism,
        inter_op_parallelism_threads=options.tensorflow_inter_op_parallelism or parallelism,
    )
    fraction = options.per_process_gpu_memory_fraction
    session.gpu_options.per_process_gpu_memory_fraction = fraction
    tags = options.saved_model_tags.split(",")

    def load(name: str, number: int, folder: Path) -> Model:
        try:
            model = loaded(folder)
            if options.enable_model_warmup:
                try:
                    warm_up(model, folder, options.num_request_iterations_for_warmup)
                except Exception:
                    model.close()
                    raise
            return model
        except ServingError as error:
            # Clients read it in the model's status: they need not know where folders are.
            message = error.message.replace(str(folder), f"{name}/{number}")
            raise ServingError(error.code, message) from None

    def loaded(folder: Path) -> Model:
        start = time.monotonic()
        try:
            model = Model(folder, tags, session)
        except ServingError:
            LOAD_ATTEMPTS.add(str(folder), "fail")
            raise
        LOAD_ATTEMPTS.add(str(folder), "success")
        LOAD_LATENCY.add(str(folder), count=round((time.monotonic() - start) * 1e6))
        return model

    return load


def _reread(
    options: Options, manager: Manager, served: model_server_config_pb2.ModelConfigList
) -> None:
    """Reads the models' file again and again, and serves what it says by then.

    An edit that can't be taken is tried again at each reading, as the stock server does: a label
    may be for a version that is still being loaded. The next one need not wait until the models of
    this one have loaded.
    """
    complaint = ""

    def read() -> None:
        nonlocal served, complaint
        try:
            models = configs.read_models(options)
            if models != served:
                manager.reload(models, wait=False)
                _log.info("%s: read again", options.model_config_file)
            served, complaint = models, ""
        except (UsageError, ServingError) as error:
            if str(error) != complaint:
                _log.error("%s: not taken: %s", options.model_config_file, error)
            complaint = str(error)

    manager.every(options.model_config_file_poll_wait_seconds, read, "models file")


def _signals() -> "asyncio.Future[int]":
    """Done with the number of the first SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()

    def end(number: int) -> None:
        if ended.done():
            os._exit(128 + number)  # who asks twice does not want to wait
        _log.info("%s: draining", signal.Signals(number).name)
        ended.set_result(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, number)
    return ended


def _host(options: Options) -> str:
    return f"[{options.host}]" if ":" in options.host else options.host
