"""Compares commands that measure themselves: side by side, alternating, ratios of medians.

    rounds = run_rounds([Contender("ours", ["python", "measure.py"], read)], rounds=3)
    comparison = Comparison("training", "examples/s", rounds, [Ratio("ours", "peer", bar=4.0)])
    comparison.show()
    write_results(Path("benchmarks/results/task.json"), "training", comparison.plain())

Whatever slows a machine down for a while (a neighbour, heat) hits contenders that take turns alike,
so their ratios are steadier than any figure by itself.
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tasks.engine.files import atomic_write

DATA = Path("benchmarks/datasets")
"""Where `benchmarks.data` makes data sets, and benchmarks look for them."""

PEERS = Path("benchmarks/peers")

Figures = dict[str, list[float]]
"""What was measured, by name: one value a round."""


TIMES = ("seconds", "per_second")
"""How the names of figures end that say how long something took."""


def apart(one: Any, two: Any, floor: float = 1.0) -> float:
    """The largest difference of numbers within two values of JSON, relative to the larger of the
    two, or to `floor` if both are smaller; infinite where anything else differs."""
    if isinstance(one, dict) and isinstance(two, dict) and one.keys() == two.keys():
        return max((apart(one[name], two[name], floor) for name in one), default=0.0)
    if isinstance(one, list) and isinstance(two, list) and len(one) == len(two):
        pairs = zip(one, two, strict=True)
        return max((apart(mine, other, floor) for mine, other in pairs), default=0.0)
    if one == two:
        return 0.0
    if not all(isinstance(value, int | float) for value in (one, two)):
        return math.inf
    if math.isnan(one) or math.isnan(two):
        return 0.0 if math.isnan(one) and math.isnan(two) else math.inf
    return abs(one - two) / max(abs(one), abs(two), floor)


def without_times(value: Any) -> Any:
    """A value of JSON, but for how long things took."""
    if isinstance(value, dict):
        return {
            name: without_times(part) for name, part in value.items() if not name.endswith(TIMES)
        }
    return [without_times(part) for part in value] if isinstance(value, list) else value


class BenchmarkError(RuntimeError):
    """A measurement could not be made; the message is for whoever runs the benchmark."""


@dataclass(frozen=True)
class Contender:
    """A command that measures something and prints its figures as JSON, one object a line."""

    name: str
    """What to call it while it runs."""

    command: Sequence[str | Path]

    read: Callable[[dict[str, Any]], tuple[str, float]]
    """A printed object -> the figure's name in the table, and its value."""

    first: int | None = None
    """Stop the command after this many figures, when those that follow are not wanted."""


@dataclass(frozen=True)
class Ratio:
    """What ours is held against: our figure divided by the peer's. One for each peer's figure."""

    ours: str
    peer: str
    bar: float | None = None  # what must hold
    goal: float | None = None  # what is hoped for


@dataclass(frozen=True)
class Comparison:
    """Figures of several contenders, and the ratios of their medians that matter."""

    title: str
    unit: str
    figures: Figures
    ratios: Sequence[Ratio]
    higher_is_better: bool = True

    def show(self) -> None:
        """Prints the table: a row a figure, the ratios beside the peers'."""
        columns = (self.unit, "lowest to highest", "ours is", "bar", "goal", "holds")
        ratios = {ratio.peer: ratio for ratio in self.ratios}
        rows = [
            (name, _number(median(values)), _spread(values), *self._cells(ratios.get(name)))
            for name, values in self.figures.items()
        ]
        show_table(self.title, ("", *columns), rows)

    def plain(self) -> dict[str, Any]:
        """The same as JSON has it."""
        return {
            "unit": self.unit,
            "higher_is_better": self.higher_is_better,
            "figures": {
                name: {"median": median(values), "rounds": values}
                for name, values in self.figures.items()
            },
            "ratios": [
                {
                    "ours": ratio.ours,
                    "peer": ratio.peer,
                    "ratio": round(value, 3),
                    "bar": ratio.bar,
                    "goal": ratio.goal,
                    "holds": self._holds(value, ratio.bar),
                }
                for ratio in self.ratios
                if (value := self._value(ratio)) is not None
            ],
        }

    def _value(self, ratio: Ratio) -> float | None:
        if not {ratio.ours, ratio.peer} <= self.figures.keys():
            return None
        return median(self.figures[ratio.ours]) / median(self.figures[ratio.peer])

    def _holds(self, value: float, bar: float | None) -> bool | None:
        if bar is None:
            return None
        return value >= bar if self.higher_is_better else value <= bar

    def _cells(self, ratio: Ratio | None) -> tuple[str, ...]:
        value = self._value(ratio) if ratio else None
        if ratio is None or value is None:
            return ("", "", "", "")
        sign = "≥" if self.higher_is_better else "≤"
        bounds = ("" if bound is None else f"{sign} {bound}" for bound in (ratio.bar, ratio.goal))
        return (f"{value:.2f} times", *bounds, verdict(self._holds(value, ratio.bar)))


def start(parser: argparse.ArgumentParser) -> None:
    """Runs the benchmark that the arguments name: `compare` of what they are parsed into."""
    arguments = parser.parse_args()
    try:
        arguments.compare(arguments)
    except BenchmarkError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def run_rounds(contenders: Sequence[Contender], rounds: int) -> Figures:
    """Runs every contender once a round, each in a process of its own, and gathers the figures.

    Raises:
        BenchmarkError: a command failed, or printed no figure.
    """
    figures: Figures = {}
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("", total=rounds * len(contenders))
        for number in range(1, rounds + 1):
            for contender in contenders:
                progress.update(bar, description=f"round {number} of {rounds}: {contender.name}")
                printed = run(contender.name, contender.command, contender.first)
                for name, value in map(contender.read, printed):
                    figures.setdefault(name, []).append(value)
                progress.advance(bar)
    return figures


def run(name: str, command: Sequence[str | Path], first: int | None = None) -> list[dict[str, Any]]:
    """Runs a command in silence; returns the JSON objects that it printed.

    Args:
        name: what to call it in messages.
        first: stop the command after this many objects; None to let it finish.

    Raises:
        BenchmarkError: it failed, or printed none.
    """
    printed: list[dict[str, Any]] = []
    said: list[str] = []
    with (
        tempfile.TemporaryFile("w+", errors="replace") as errors,
        subprocess.Popen(
            list(map(str, command)),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        ) as process,
    ):
        try:
            for line in process.stdout or ():
                said.append(line)
                if line.startswith("{"):
                    printed.append(json.loads(line))
                if len(printed) == first:
                    return printed
            process.wait()
        finally:
            process.kill()  # does nothing to one that has ended
        errors.seek(0)
        said.append(errors.read())
    if process.returncode or not printed:
        raise BenchmarkError(f"{name} failed: {_last_words(said)}")
    return printed


@contextmanager
def turns(name: str, command: Sequence[str | Path]) -> Iterator[Callable[[], dict[str, Any]]]:
    """Starts a command that measures once for each line that it is given; yields what asks it to,
    and returns the JSON object that it prints then.

    Args:
        name: what to call it in messages.
    """
    with (
        tempfile.TemporaryFile("w+", errors="replace") as errors,
        subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        assert process.stdin and process.stdout
        stdin, stdout = process.stdin, process.stdout

        def take() -> dict[str, Any]:
            with suppress(OSError):  # it has ended; why is seen below
                stdin.write("\n")
                stdin.flush()
            for line in stdout:
                if line.startswith("{"):
                    return json.loads(line)
            process.wait()
            errors.seek(0)
            raise BenchmarkError(f"{name} failed: {_last_words([errors.read()])}")

        try:
            yield take
        finally:
            process.kill()
            with suppress(OSError):
                stdin.close()


@dataclass(frozen=True)
class Bars:
    """Test accuracy and seconds of training: what must hold, and what is hoped for."""

    accuracy: float
    seconds: float
    hoped: float
    sooner: float


def train(task: str, options: Sequence[str | Path]) -> tuple[dict[str, Any], float]:
    """Trains by a task's command; returns the run's metrics, and the command's seconds.

    Raises:
        BenchmarkError: training failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", f"tasks.{task}", "train", "--run.dir", f"{folder}/run"]
        start = time.perf_counter()
        if subprocess.run(list(map(str, [*command, *options]))).returncode:
            raise BenchmarkError("training failed; what it said is above")
        seconds = time.perf_counter() - start
        return json.loads(Path(folder, "run/metrics.json").read_text("utf-8")), seconds


def judge(
    metrics: dict[str, Any], seconds: float, bars: Bars, unit: str
) -> tuple[list[tuple[str, ...]], dict[str, Any]]:
    """A classifier's run beside its bars: the rows of a table, whose columns are ours, bar, goal
    and holds; and the same as JSON has it.

    Args:
        metrics: the run's.
        seconds: what the whole command took.
        unit: what training counts: "pictures/s".
    """
    test, trained = metrics["test"]["accuracy"], metrics["train"]
    good, quick = test >= bars.accuracy, trained["seconds"] <= bars.seconds
    rows = [
        ("test accuracy", f"{test:.4f}", f"≥ {bars.accuracy}", f"≥ {bars.hoped}", verdict(good)),
        (
            "training, s",
            f"{trained['seconds']:.0f}",
            f"≤ {bars.seconds}",
            f"≤ {bars.sooner}",
            verdict(quick),
        ),
        ("the whole command, s", f"{seconds:.0f}", "", "", ""),
        (unit, f"{trained['examples_per_second']:.0f}", "", "", ""),
    ]
    results = {
        "test_accuracy": {
            "value": test,
            "bar": bars.accuracy,
            "goal": bars.hoped,
            "holds": good,
        },
        "train_seconds": {
            "value": trained["seconds"],
            "bar": bars.seconds,
            "goal": bars.sooner,
            "holds": quick,
        },
        "command_seconds": round(seconds, 1),
        "train": trained,
        "environment": metrics["environment"],
    }
    return rows, results


def show_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Prints a table whose first column is text and whose other columns are figures."""
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    console = Console()
    # Into a file or a pipe there is no width to fit.
    Console(width=None if console.is_terminal else 160).print(table)


def verdict(holds: bool | None) -> str:
    """Whether a bar holds, in a word."""
    return "" if holds is None else "yes" if holds else "no"


def write_results(path: Path, name: str, results: dict[str, Any]) -> None:
    """Puts a benchmark's results into a JSON file, beside those of the other benchmarks in it."""
    known = json.loads(path.read_text("utf-8")) if path.exists() else {}
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    known[name] = {"measured": when, "machine": _machine(), **results}
    with atomic_write(path) as file:
        json.dump(known, file, indent=1)
        file.write("\n")
    print(f"written to {path}")


def add_options(parser: argparse.ArgumentParser, results: Path) -> None:
    """Adds the options of every comparison: rounds, peers, results."""
    group = parser.add_argument_group("comparison")
    group.add_argument(
        "--rounds", type=int, default=3, help="turns of every contender (%(default)s)"
    )
    group.add_argument(
        "--peers",
        type=Path,
        default=PEERS,
        help="folder of the peers' scripts (%(default)s)",
    )
    group.add_argument(
        "--peers-python",
        type=Path,
        default=Path(".venv-peers/bin/python"),
        help="interpreter with PyTorch, transformers and ONNX Runtime (%(default)s)",
    )
    group.add_argument(
        "--only",
        nargs="+",
        metavar="NAME",
        help="run only the contenders whose name contains one of these, such as: ours kerashub",
    )
    group.add_argument(
        "--results", type=Path, default=results, help="JSON file to write (%(default)s)"
    )


def chosen(contenders: Sequence[Contender], arguments: argparse.Namespace) -> list[Contender]:
    """The contenders that `--only` names, or all; checked that their programs are there.

    Raises:
        BenchmarkError: `--only` matches none, or an interpreter or a script is missing.
    """
    words = [word.lower() for word in arguments.only or [""]]
    picked = [c for c in contenders if any(word in c.name.lower() for word in words)]
    if not picked:
        names = ", ".join(contender.name for contender in contenders)
        raise BenchmarkError(f"--only {' '.join(words)}: no such contender; there are {names}")
    for contender in picked:
        interpreter, script = map(Path, contender.command[:2])
        if not interpreter.exists():
            raise BenchmarkError(
                f"{contender.name}: no interpreter {interpreter}; name one with --peers-python, "
                "make it as benchmarks/README.md says, or measure ours alone: --only ours"
            )
        if script.suffix == ".py" and not script.exists():
            raise BenchmarkError(f"{contender.name}: no {script}; name its folder with --peers")
    return picked


def _last_words(said: Sequence[str]) -> str:
    """The last line of what a failed command said, and the file that all of it is written to."""
    lines = "".join(said).strip().splitlines() or ["it printed nothing"]
    with tempfile.NamedTemporaryFile("w", prefix="benchmark-", suffix=".log", delete=False) as log:
        log.write("".join(said))
    return f"{lines[-1]} (all it said: {log.name})"


def _number(value: float) -> str:
    return f"{value:.1f}" if value >= 100 else f"{value:.2f}"


def _spread(values: Sequence[float]) -> str:
    return f"{_number(min(values))} to {_number(max(values))}" if len(values) > 1 else ""


def _machine() -> dict[str, Any]:
    try:
        information = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        information = ""
    named = [
        line.split(":", 1)[1].strip() for line in information.splitlines() if "model name" in line
    ]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "processor": named[0] if named else platform.processor(),
        "cores": cores,
        "native_bfloat16": "avx512_bf16" in information or "amx_bf16" in information,
        "platform": platform.platform(),
        "python": platform.python_version(),
    }
