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

Ask = Callable[[bytes], Awaitable[None]]
_PERCENTILES = (50, 95, 99)
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
    arguments = parser.parse_args()
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
    import grpc

    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_receive_message_length", -1)]
    channel = grpc.aio.insecure_channel(f"{arguments.host}:{arguments.port}", options)
    await channel.channel_ready()
    call = channel.unary_unary(_PREDICT)

    async def ask(request: bytes) -> None:
        if not await call(request, timeout=30):
            raise ValueError("an empty answer")

    return ask


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
