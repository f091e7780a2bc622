"""The local model server: latency and throughput beside the model in the process, swaps, start.

    python -m benchmarks.serving latency     # one connection: what the server adds
    python -m benchmarks.serving load        # 16 connections, with and without batching
    python -m benchmarks.serving swaps       # 100 new versions under load, and the memory
    python -m benchmarks.serving starting    # a small model: start to ready

From the project's folder. `latency` and `load` need an export that takes texts (`--model`), such as
`python -m tasks.text_classification train --data.train banking77/train.csv ... --export.dir
saved_models/banking77` makes. The server, the load and the model in the process are processes of
their own; what is compared takes turns, and never runs at the same time.
"""

import argparse
import base64
import contextlib
import json
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from benchmarks.compare import (
    DATA,
    BenchmarkError,
    run,
    show_table,
    start,
    turns,
    verdict,
    write_results,
)

RESULTS = Path("benchmarks/results/serving.json")
OURS = [sys.executable, "-m", "benchmarks.ours.serving"]
LOAD = [sys.executable, "-m", "benchmarks.ours.serving_load"]

ADDED_BARS = {"grpc": 1.5, "rest": 3.0}  # milliseconds that the server may add
SHARE_BAR, SHARE_GOAL = 0.75, 0.85  # of the throughput in the process, with batching
START_BAR = 6.0  # seconds
MEMORY_BAR = 0.05  # last ten swaps beside the first ten
NAME = "benchmark"


def main() -> None:
    """Runs the benchmark that the arguments name."""
    start(_parser())


@dataclass
class Server:
    """A running server."""

    process: subprocess.Popen[bytes]
    grpc: int
    rest: int
    ready_seconds: float

    def port(self, way: str) -> int:
        """The port of gRPC or of REST."""
        return self.grpc if way == "grpc" else self.rest

    def rows_in_a_batch(self) -> float | None:
        """The mean of the batches so far, as Prometheus reads it; None without any."""
        url = f"http://127.0.0.1:{self.rest}/monitoring/prometheus/metrics"
        with urllib.request.urlopen(url, timeout=30) as answer:
            page = answer.read().decode()
        found = dict(re.findall(r"processed_batch_size_(sum|count)\{.*\} (\S+)", page))
        return float(found["sum"]) / float(found["count"]) if found else None


def latency(arguments: argparse.Namespace) -> None:
    """The milliseconds that the server adds for one connection, over gRPC and over REST.

    The three take short turns, as the speed of machines drifts by more than what is looked for:
    what is added is the median of the differences of each turn."""
    figures: dict[str, list[float]] = {"grpc": [], "rest": []}
    alones: dict[str, list[float]] = {"signature": [], "session": []}
    seconds = str(arguments.turn)
    with (
        _workplace(arguments) as (folder, base),
        _server(NAME, base) as server,
        contextlib.ExitStack() as stack,
    ):
        commands: dict[str, list[str | Path]] = {
            "in process": [*OURS, "in_process", *_texts(arguments), "--turns", "--seconds", seconds]
        }
        for way in ADDED_BARS:
            more = ["--turns", "--warmup", "0.3"]
            commands[way] = [*_load_command(server, way, folder / way, 1, arguments.turn), *more]
        contestants = {
            name: stack.enter_context(turns(name, command)) for name, command in commands.items()
        }
        for turn in range(arguments.rounds + 1):
            for name, take in contestants.items():
                measured = take()
                if not turn:
                    continue  # caches fill
                if name in figures:
                    figures[name].append(measured["milliseconds"]["p50"])
                else:
                    for way, took in measured["ways"].items():
                        alones[way].append(took["milliseconds"])
    alone = min(alones.values(), key=median)
    rows = [("in process", f"{median(alone):.2f}", "", "", "")]
    results: dict[str, Any] = {"in_process": median(alone)}
    for way, bar in ADDED_BARS.items():
        took = median(figures[way])
        added = median(mine - base for mine, base in zip(figures[way], alone, strict=True))
        rows.append((way, f"{took:.2f}", f"{added:.2f}", f"≤ {bar}", verdict(added <= bar)))
        results[way] = {"milliseconds": took, "added": round(added, 3), "bar": bar}
    show_table("One connection, one text", ("", "ms (median)", "server adds", "bar", "holds"), rows)
    write_results(arguments.results, "latency", {**results, "rounds": {**alones, **figures}})


def load(arguments: argparse.Namespace) -> None:
    """Requests a second and percentiles of 16 connections, with batching and without."""
    rows: list[tuple[str, ...]] = []
    results: dict[str, Any] = {}
    size = arguments.batch
    with _workplace(arguments) as (folder, base):
        batching = Path(folder, "batching.config")
        batching.write_text(
            f"max_batch_size {{ value: {size} }} num_batch_threads {{ value: 2 }}\n"
            f"batch_timeout_micros {{ value: {arguments.timeout} }}\n"
            "max_enqueued_batches { value: 100 }\n"
        )
        monitoring = Path(folder, "monitoring.config")
        monitoring.write_text("prometheus_config { enable: true }\n")
        flags = [f"--monitoring_config_file={monitoring}"]
        with_batching = [*flags, "--enable_batching", f"--batching_parameters_file={batching}"]
        in_process = _in_process(arguments, size)
        served = []
        for way in ("grpc", "rest"):
            for batched in (True, False):
                with _server(NAME, base, with_batching if batched else flags) as server:
                    loaded = _load(server, way, folder, 16, arguments.seconds)
                    loaded["rows_in_a_batch"] = server.rows_in_a_batch()
                served.append((way, batched, loaded))
        # Before and after, since machines drift; and the better of one call at a time and two.
        for threads, value in _in_process(arguments, size).items():
            in_process[threads] = (in_process[threads] + value) / 2
    best = max(in_process.values())
    for threads, value in in_process.items():
        title = f"in process, batches of {size}, {threads} thread{'s' * (threads > 1)}"
        rows.append((title, f"{value:.0f}", *[""] * 8))
    for way, batched, loaded in served:
        share, together = loaded["requests_per_second"] / best, loaded["rows_in_a_batch"]
        loaded["share_of_in_process"] = round(share, 3)
        results[f"{way}_{'batching' if batched else 'alone'}"] = loaded
        rows.append(
            (
                f"{way}, {'batching' if batched else 'no batching'}",
                f"{loaded['requests_per_second']:.0f}",
                *(f"{loaded['milliseconds'][p]:.1f}" for p in ("p50", "p95", "p99")),
                str(loaded["errors"]),
                f"{together:.1f}" if together else "",
                f"{loaded['generator_share']:.0%}",
                f"{loaded['server_share']:.0%}",
                f"{share:.0%}",
                verdict(share >= SHARE_BAR and not loaded["errors"]) if batched else "",
            )
        )
    columns = ("", "texts/s", "p50 ms", "p95", "p99", "errors", "rows/batch", "load's cores")
    columns += ("server's", "of the best", "≥ 75%")
    show_table(f"16 connections, {arguments.seconds:.0f} s each", columns, rows)
    results["in_process"] = {f"threads_{n}": round(v, 1) for n, v in in_process.items()}
    results |= {"batch": size, "bar": SHARE_BAR, "goal": SHARE_GOAL}
    write_results(arguments.results, "load", results)


def _in_process(arguments: argparse.Namespace, rows: int) -> dict[int, float]:
    """Texts a second of calls in a process, by the threads that call."""
    command = [*OURS, "in_process", *_texts(arguments), "--rows", str(rows)]
    return {
        threads: run("in process", [*command, "--threads", str(threads)])[0]["rows_per_second"]
        for threads in (1, 2)
    }


def swaps(arguments: argparse.Namespace) -> None:
    """Failed requests while versions are swapped, and the memory after each swap."""
    memory: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        source, base = Path(folder, "source"), Path(folder, NAME)
        run("half plus two", [*OURS, "half_plus_two", source])
        _publish(source, base, 1)
        requests = Path(folder, "rest")
        body = b'{"instances": [1.0, 2.0, 5.0]}'
        requests.write_text(base64.b64encode(body).decode() + "\n")
        with _server(NAME, base, ["--file_system_poll_wait_seconds=0.2"]) as server:
            process = psutil.Process(server.process.pid)
            command = _load_command(server, "rest", requests, 4, 10_000)
            with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE) as loading:
                try:
                    for version in range(2, arguments.swaps + 2):
                        _publish(source, base, version)
                        _wait_for(server.rest, version)
                        shutil.rmtree(base / str(version - 1))
                        memory.append(process.memory_info().rss / 2**20)
                finally:
                    loading.terminate()
                printed = (loading.communicate()[0] or b"{}").decode()
    loaded = json.loads(printed)
    first, last = median(memory[:10]), median(memory[-10:])
    growth = last / first - 1
    holds = growth <= MEMORY_BAR and not loaded["errors"]
    rows = [
        ("requests", f"{loaded['requests']:,}", "", ""),
        ("failed", str(loaded["errors"]), "0", verdict(not loaded["errors"])),
        ("memory after the first ten, MiB", f"{first:.0f}", "", ""),
        ("after the last ten, MiB", f"{last:.0f}", "", ""),
        ("growth", f"{growth:.1%}", f"≤ {MEMORY_BAR:.0%}", verdict(growth <= MEMORY_BAR)),
        ("p99 ms", f"{loaded['milliseconds']['p99']:.1f}", "", ""),
    ]
    show_table(f"{arguments.swaps} swaps under load", ("", "", "bar", "holds"), rows)
    write_results(
        arguments.results,
        "swaps",
        {"swaps": arguments.swaps, "load": loaded, "memory_mib": memory, "holds": holds},
    )


def starting(arguments: argparse.Namespace) -> None:
    """Seconds from the command to the first `/readyz` that says so, for a small model."""
    with tempfile.TemporaryDirectory() as folder:
        run("half plus two", [*OURS, "half_plus_two", Path(folder, NAME, "1")])
        seconds = []
        for _ in range(arguments.rounds):
            with _server(NAME, Path(folder, NAME)) as server:
                seconds.append(server.ready_seconds)
    took = median(seconds)
    rows = [("start to ready, s", f"{took:.2f}", f"≤ {START_BAR}", verdict(took <= START_BAR))]
    show_table("A small model", ("", "", "bar", "holds"), rows)
    write_results(arguments.results, "starting", {"seconds": took, "rounds": seconds})


@contextlib.contextmanager
def _workplace(arguments: argparse.Namespace) -> Iterator[tuple[Path, Path]]:
    """A folder with requests in it, and a model's folder with the export as version 1."""
    if not (arguments.model / "saved_model.pb").is_file():
        raise BenchmarkError(f"{arguments.model}: no export; name a version's folder with --model")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run("requests", [*OURS, "requests", *_texts(arguments), "--name", NAME, folder])
        base = folder / NAME
        base.mkdir()
        (base / "1").symlink_to(arguments.model.absolute())
        yield folder, base


@contextlib.contextmanager
def _server(name: str, base: Path, flags: Sequence[str] = ()) -> Iterator[Server]:
    grpc, rest = _free_port(), _free_port()
    command = [
        *(sys.executable, "-m", "tasks.serve", f"--model_name={name}"),
        *(f"--model_base_path={base}", f"--port={grpc}", f"--rest_api_port={rest}", *flags),
    ]
    with tempfile.TemporaryFile() as log:
        begin = time.perf_counter()
        with subprocess.Popen(command, stderr=log) as process:
            try:
                while not _ready(rest):
                    if process.poll() is not None or time.perf_counter() - begin > 120:
                        log.seek(0)
                        raise BenchmarkError(f"the server: {log.read().decode()[-500:]}")
                    time.sleep(0.02)
                yield Server(process, grpc, rest, time.perf_counter() - begin)
            finally:
                process.terminate()


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=5):
            return True
    except (urllib.error.URLError, OSError):
        return False


def _load(server: Server, way: str, folder: Path, connections: int, seconds: float) -> Any:
    return run(way, _load_command(server, way, folder / way, connections, seconds))[0]


def _load_command(
    server: Server, way: str, requests: Path, connections: int, seconds: float
) -> list[str | Path]:
    return [
        *(*LOAD, way, "--port", str(server.port(way)), "--requests", requests),
        *("--path", f"/v1/models/{NAME}:predict", "--connections", str(connections)),
        *("--seconds", str(seconds), "--server", str(server.process.pid)),
    ]


def _publish(source: Path, base: Path, version: int) -> None:
    """A new version, whole at once."""
    base.mkdir(exist_ok=True)
    incoming = base / f"incoming-{version}"
    shutil.copytree(source, incoming)
    incoming.rename(base / str(version))


def _wait_for(port: int, version: int) -> None:
    """Until a version answers, and the one before it is gone."""
    url = f"http://127.0.0.1:{port}/v1/models/{NAME}"
    for _ in range(3000):
        with urllib.request.urlopen(url, timeout=30) as answer:
            versions = json.load(answer)["model_version_status"]
        states = {int(status["version"]): status["state"] for status in versions}
        if states.get(version) == "AVAILABLE" and states.get(version - 1) == "END":
            return
        time.sleep(0.02)
    raise BenchmarkError(f"version {version} did not become available")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _texts(arguments: argparse.Namespace) -> list[str | Path]:
    """What the model and the texts are, which must be there."""
    if not arguments.texts.exists():
        raise BenchmarkError(
            f"no {arguments.texts}; 'python -m benchmarks.data banking77' says how to make it, or "
            "name a CSV file with --texts"
        )
    if not (arguments.model / "saved_model.pb").exists():
        raise BenchmarkError(
            f"no export in {arguments.model}; make it with 'python -m tasks.text_classification "
            f"train --data.train {DATA}/banking77/train.csv --data.label_column category "
            "--export.dir saved_models/banking77', or name a version's folder with --model"
        )
    return ["--model", arguments.model, "--texts", arguments.texts, "--column", arguments.column]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.serving",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True)
    for compare in (latency, load, swaps, starting):
        command = commands.add_parser(compare.__name__, help=compare.__doc__)
        command.set_defaults(compare=compare)
        command.add_argument("--results", type=Path, default=RESULTS)
        if compare in (latency, load):
            command.add_argument(
                "--model",
                type=Path,
                default=Path("saved_models/banking77/1"),
                help="a version's folder (%(default)s)",
            )
            command.add_argument(
                "--texts",
                type=Path,
                default=DATA / "banking77/test.csv",
                help="a CSV file with texts to send (%(default)s)",
            )
            command.add_argument("--column", default="text", help="of the texts (%(default)s)")
        if compare is load:
            command.add_argument(
                "--seconds", type=float, default=60.0, help="of load (%(default)s)"
            )
            command.add_argument("--batch", type=int, default=8, help="rows (%(default)s)")
            command.add_argument(
                "--timeout", type=int, default=5000, help="batch_timeout_micros (%(default)s)"
            )
        if compare is swaps:
            command.add_argument("--swaps", type=int, default=100, help="(%(default)s)")
        if compare in (latency, starting):
            rounds = 15 if compare is latency else 3
            command.add_argument("--rounds", type=int, default=rounds, help="turns (%(default)s)")
        if compare is latency:
            command.add_argument("--turn", type=float, default=2.0, help="seconds (%(default)s)")
    return parser


if __name__ == "__main__":
    main()
