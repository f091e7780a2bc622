"""Asks a model server again and again, over some connections, and times the answers.

    python -m benchmarks.ours.serving_load grpc --port 8500 --requests FILE --seconds 60

Each connection sends its next request when it has the answer to the last. FILE holds requests that
are ready to send, one a line, as base64: what a request costs to make is not the server's matter,
and TensorFlow need not be here. SIGTERM ends it early. Prints one JSON object: requests, errors,
requests a second, milliseconds by percentile, and this process's share of the machine's cores
while it counted; with `--server PID` the server's share, too.
"""

import argparse
import asyncio
import base64
import json
import os
import signal
import time
from collections.abc import Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import uvloop

from benchmarks.ours.turns import TURNS, turns

Ask = Callable[[bytes], Awaitable[None]]
_PERCENTILES = (50, 95, 99)
# HTTP/2's frames and flags, as far as a client of one call at a time needs them.
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS = 1, 1, 4
_PREDICT = "/tensorflow.serving.PredictionService/Predict"


def main() -> None:
    """Runs the load that the arguments describe, and prints its figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("way", choices=["grpc", "rest"])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", default="", help="REST: the path to POST to")
    parser.add_argument("--requests", type=Path, required=True, help="base64, one a line")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--server", type=int, help="the server's process, to see its share")
    parser.add_argument("--warmup", type=float, default=2.0, help="seconds before counting begins")
    parser.add_argument("--turns", action="store_true", help=TURNS)
    arguments = parser.parse_args()
    for _ in turns(arguments.turns):
        print(json.dumps(uvloop.run(_load(arguments))), flush=True)


async def _load(arguments: argparse.Namespace) -> dict[str, Any]:
    requests = [base64.b64decode(line) for line in arguments.requests.read_text().split()]
    connect = _grpc if arguments.way == "grpc" else _rest
    asks = [await connect(arguments) for _ in range(arguments.connections)]
    seconds: list[float] = []
    errors: list[str] = []
    begin = time.perf_counter() + arguments.warmup
    end = begin + arguments.seconds
    order = count()

    def stop() -> None:
        nonlocal end
        end = time.perf_counter()

    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop)

    async def connection(ask: Ask) -> None:
        while (start := time.perf_counter()) < end:
            try:
                await ask(requests[next(order) % len(requests)])
            except Exception as error:
                errors.append(f"{type(error).__name__}: {error}")
                await asyncio.sleep(0.01)
                continue
            if start >= begin:
                seconds.append(time.perf_counter() - start)

    processes = {"generator_share": psutil.Process()}
    if arguments.server:
        processes["server_share"] = psutil.Process(arguments.server)

    def cpu_seconds() -> dict[str, float]:
        return {name: sum(process.cpu_times()[:2]) for name, process in processes.items()}

    async def at_begin() -> dict[str, float]:
        await asyncio.sleep(arguments.warmup)
        return cpu_seconds()

    before, *_ = await asyncio.gather(at_begin(), *(connection(ask) for ask in asks))
    took = time.perf_counter() - begin
    cores = took * (os.cpu_count() or 1)
    percentiles = np.percentile(seconds or [np.nan], _PERCENTILES) * 1e3
    return {
        "requests": len(seconds),
        "errors": len(errors),
        "first_errors": errors[:3],
        "requests_per_second": round(len(seconds) / took, 1),
        "milliseconds": {
            f"p{percent}": round(float(value), 3)
            for percent, value in zip(_PERCENTILES, percentiles, strict=True)
        },
        **{name: round((now - before[name]) / cores, 3) for name, now in cpu_seconds().items()},
    }


async def _grpc(arguments: argparse.Namespace) -> Ask:
    """Calls over a bare HTTP/2 connection: gRPC's own client would cost more than the server."""
    reader, writer = await asyncio.open_connection(arguments.host, arguments.port)
    fields = (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", _PREDICT.encode()),
        (b":authority", arguments.host.encode()),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
    )
    # RFC 7541, section 6.2.2: literal fields that are not to be indexed, so all requests are alike.
    head = b"".join(
        b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value for name, value in fields
    )
    window = (2**31 - 1 - 65535).to_bytes(4)
    settings = (4).to_bytes(2) + (2**31 - 1).to_bytes(4)  # INITIAL_WINDOW_SIZE
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(_SETTINGS, 0, 0, settings))
    writer.write(_frame(_WINDOW_UPDATE, 0, 0, window))
    streams = count(1, 2)

    async def ask(request: bytes) -> None:
        if len(request) > 16_000:
            raise ValueError("more than one frame holds")
        stream, size = next(streams), 0
        message = b"\0" + len(request).to_bytes(4) + request
        writer.write(
            _frame(_HEADERS, _END_HEADERS, stream, head)
            + _frame(_DATA, _END_STREAM, stream, message)
        )
        while True:
            header = await reader.readexactly(9)
            length, kind, flags = int.from_bytes(header[:3]), header[3], header[4]
            content = await reader.readexactly(length)
            if kind in (_SETTINGS, _PING) and not flags & _ACK:
                writer.write(_frame(kind, _ACK, 0, content if kind == _PING else b""))
            elif kind in (_RESET, _GOAWAY):
                raise ConnectionError(f"the server ended the call: {content!r}")
            elif int.from_bytes(header[5:]) == stream:
                size += length if kind == _DATA else 0
                if flags & _END_STREAM and kind in (_DATA, _HEADERS):
                    break
        if not size:
            raise ValueError(f"no answer: {content!r}")  # the trailers say why
        # What was taken is given back to the connection's window.
        writer.write(_frame(_WINDOW_UPDATE, 0, 0, size.to_bytes(4)))

    return ask


def _frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    """RFC 9113, section 4.1."""
    return len(content).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + content


async def _rest(arguments: argparse.Namespace) -> Ask:
    reader, writer = await asyncio.open_connection(arguments.host, arguments.port)
    head = f"POST {arguments.path} HTTP/1.1\r\nHost: {arguments.host}\r\nContent-Length: "

    async def ask(request: bytes) -> None:
        writer.write(f"{head}{len(request)}\r\n\r\n".encode() + request)
        header = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(header.split(b"content-length:")[1].split(b"\r\n")[0])
        body = await reader.readexactly(length)
        if not header.startswith(b"http/1.1 200"):
            raise ValueError(body.decode(errors="replace"))

    return ask


if __name__ == "__main__":
    main()
