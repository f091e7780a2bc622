"""Trainings by one and by several replicas: are their numbers the same?

    python -m benchmarks.distribution equality                     # all five tasks
    python -m benchmarks.distribution equality --tasks translation
    python -m benchmarks.distribution scaling                      # speed, on this machine

From the project's folder. `equality` trains a tiny model of each task for thirty steps and more,
with one seed and one global batch, without dropout and in float32, as one process, as two replicas
of one process, as two workers, and as two workers of two replicas. Nothing divides: not the records
by the batch, the batch's last part by the replicas, nor the records that are judged, of which there
are fewer than replicas in one task. Losses and metrics of all epochs, the metrics of the best
model, and its answers to a file of records are compared with those of one process.

`scaling` trains a text classifier on one processor, on two, by two replicas of one process, and by
two workers with one processor each; all on this machine, so it says what the distribution costs,
not what more machines gain.
"""

import argparse
import json
import math
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.compare import (
    BenchmarkError,
    apart,
    show_table,
    start,
    verdict,
    without_times,
    write_results,
)

RESULTS = Path("benchmarks/results/distribution.json")
BAR = 1e-5
ALIKE = (
    "--train.epochs 4 --train.batch_size 8 --train.learning_rate 2e-3 --train.precision float32 "
    "--model.dropout 0"
).split()
COUNTS = {"train": 61, "validation": 11, "test": 13}

Write = Callable[[Path], list[str]]


@dataclass(frozen=True)
class Layout:
    """How many train together."""

    name: str
    workers: int = 1
    options: str = ""


LAYOUTS = (
    Layout("1 process", 1, "--train.strategy default"),
    Layout("2 replicas", 1, "--train.strategy mirrored --train.replicas 2"),
    Layout("2 workers x 1", 2, "--train.strategy multi_worker"),
    Layout("2 workers x 2", 2, "--train.strategy multi_worker --train.replicas 2"),
)


@dataclass(frozen=True)
class Contest:
    """A task's tiny training.

    Args:
        write: makes data in a folder; returns the options that name them.
        asked: of that folder, what is given to `predict`.
        options: beside those that all tasks have.
    """

    write: Write
    asked: str
    options: str = ""


@dataclass(frozen=True)
class Outcome:
    """The numbers of a training: by epoch, of its best model, and its answers."""

    history: list[dict[str, float]]
    metrics: dict[str, Any]
    answers: list[dict[str, Any]]

    def differences(self, other: "Outcome") -> dict[str, float]:
        """The largest differences: of losses relative to themselves, of metrics and answers to
        themselves or to 1; infinite where something is not there, or another word."""
        measured = max(
            apart(self._epochs(loss=False), other._epochs(loss=False)),
            apart(self.metrics, other.metrics),
        )
        return {
            "losses": apart(self._epochs(loss=True), other._epochs(loss=True), floor=0.0),
            "metrics": measured,
            "answers": apart(self.answers, other.answers),
        }

    def _epochs(self, loss: bool) -> list[dict[str, float]]:
        """Of each epoch the losses, or what else there is."""
        return [
            {name: value for name, value in epoch.items() if ("loss" in name) is loss}
            for epoch in self.history
        ]


def write_texts(folder: Path) -> list[str]:
    """CSV files of texts whose label one word tells."""
    draw = random.Random(1)
    words = "the a this shop item box it was so very".split()
    for split, count in COUNTS.items():
        lines = ["text,label"]
        for index in range(count):
            label = ("good", "bad", "odd")[index % 3]
            lines.append(f"{' '.join([*draw.choices(words, k=1 + index % 7), label])},{label}")
        _write_lines(folder / f"{split}.csv", lines)
    return _named(folder, "{}.csv")


def write_walks(folder: Path) -> list[str]:
    """JSONL files of two features that go up or down, of unlike lengths; there are fewer to judge
    than there are replicas."""
    draw = np.random.RandomState(1)
    for split, count in (COUNTS | {"validation": 3, "test": 1}).items():
        lines = []
        for index in range(count):
            steps = draw.randint(3, 12)
            x = draw.normal((-0.6, 0.6)[index % 2], 0.5, steps).cumsum().round(3)
            y = draw.normal(100, 50, steps).round(3)
            label = ("down", "up")[index % 2]
            lines.append(json.dumps({"x": x.tolist(), "y": y.tolist(), "label": label}))
        _write_lines(folder / f"{split}.jsonl", lines)
    return [*_named(folder, "{}.jsonl"), "--data.feature_columns", "x,y"]


def write_pictures(folder: Path) -> list[str]:
    """Folders of stripes on noise, which go across, or up and down."""
    draw = np.random.RandomState(1)
    for split, count in COUNTS.items():
        for index in range(count):
            label = ("across", "down")[index % 2]
            pixels = draw.randint(0, 60, (16, 16, 3))
            stripes = pixels if label == "across" else pixels.transpose(1, 0, 2)
            stripes[index % 4 :: 4] += 160
            path = folder / split / label / f"{index:02}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(path)
    return _named(folder, "{}")


def write_series(folder: Path) -> list[str]:
    """A CSV file of two series with a daily wave."""
    draw = np.random.RandomState(1)
    lines = ["time,load,heat"]
    for hour in range(103):
        wave, (a, b) = math.sin(hour * math.pi / 12), draw.randn(2)
        time = f"2020-01-{6 + hour // 24:02} {hour % 24:02}:00"
        lines.append(f"{time},{50 + 10 * wave + hour / 20 + a:.3f},{2 - wave + b / 10:.3f}")
    _write_lines(folder / "series.csv", lines)
    return ["--data.train", str(folder / "series.csv")]


def write_pairs(folder: Path) -> list[str]:
    """Two text files of each kind, of sentences and those of a language of another order."""
    subjects = (("The dog", "Der Hund"), ("A child", "Ein Kind"), ("Anna", "Anna"))
    verbs = (("sees", "sieht"), ("has seen", "sah"), ("likes", "mag"), ("paints", "malt"))
    objects = (("a bird", "einen Vogel"), ("two trees", "zwei Bäume"), ("the sea", "das Meer"))
    ends = ((".", "."), ("?", "?"), (" today.", " heute."))
    pairs = [
        (f"{who[0]} {does[0]} {what[0]}{end[0]}", f"{does[1]} {what[1]} {who[1]}{end[1]}")
        for who, does, what, end in product(subjects, verbs, objects, ends)
    ]
    random.Random(1).shuffle(pairs)
    for split, count in COUNTS.items():
        own, pairs = pairs[:count], pairs[count:]
        for language, texts in zip(("en", "de"), zip(*own, strict=True), strict=True):
            _write_lines(folder / f"{split}.{language}", texts)
    return [
        option
        for split in COUNTS
        for option in (f"--data.{split}", *(str(folder / f"{split}.{of}") for of in ("en", "de")))
    ]


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")


def _named(folder: Path, name: str) -> list[str]:
    return [
        part for split in COUNTS for part in (f"--data.{split}", str(folder / name.format(split)))
    ]


TASKS = {
    # At a rate that suits BERT: with a higher one, Adam makes much of rounding, and the losses soon
    # are near zero, which makes much of it once more.
    "text_classification": Contest(
        write_texts,
        "test.csv",
        "--model.size tiny --model.encoder_dropout 0 --train.learning_rate 3e-4",
    ),
    "image_classification": Contest(
        write_pictures,
        "test",
        "--model.widths [4,8,8] --model.synchronize_norms true --data.translate 0",
    ),
    "sequence_classification": Contest(write_walks, "train.jsonl", "--model.units 8"),
    "forecasting": Contest(
        write_series, "series.csv", "--model.window 12 --model.horizon 4 --model.units 8"
    ),
    "translation": Contest(
        write_pairs,
        "test.en",
        "--model.width 32 --model.inner 64 --model.heads 2 --model.encoder_layers 1 "
        "--model.decoder_layers 1 --model.vocabulary_size 300 --train.batch_tokens 96 "
        "--decode.beam_width 1 --decode.n_best 1",
    ),
}


def outcome(
    task: str, contest: Contest, data: Sequence[str], folder: Path, layout: Layout
) -> Outcome:
    """Trains by a task's command line, as so many; then asks the best model.

    Raises:
        BenchmarkError: a command failed.
    """
    run = folder / layout.name.replace(" ", "-")
    ours = [sys.executable, "-m", f"tasks.{task}"]
    launch = [sys.executable, "-m", "tasks.launch", "--workers", str(layout.workers), "--"]
    options = [*ALIKE, *contest.options.split(), *layout.options.split(), "--run.dir", str(run)]
    _said([*(launch if layout.workers > 1 else []), *ours, "train", *data, *options])
    said = _said([*ours, "predict", "--run.dir", str(run), "--input", str(folder / contest.asked)])
    history = json.loads((run / "checkpoints/history.json").read_text("utf-8"))
    metrics = json.loads((run / "metrics.json").read_text("utf-8"))
    return Outcome(
        history=without_times(history),
        metrics=without_times({split: metrics[split] for split in ("validation", "test")}),
        answers=[json.loads(line) for line in said.splitlines()],
    )


def _said(command: Sequence[str]) -> str:
    """What a command prints."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise BenchmarkError(
            f"{' '.join(command)}\nended with {done.returncode}:\n{done.stderr[-3000:]}"
        )
    return done.stdout


def equality(arguments: argparse.Namespace) -> None:
    """Whether trainings by several have the numbers of one."""
    rows: list[tuple[str, ...]] = []
    for task in arguments.tasks:
        contest = TASKS[task]
        figures: dict[str, Any] = {"bar": BAR}
        with tempfile.TemporaryDirectory() as name:
            data = contest.write(Path(name))
            one, *several = LAYOUTS
            expected = outcome(task, contest, data, Path(name), one)
            for layout in several:
                found = outcome(task, contest, data, Path(name), layout)
                differences = found.differences(expected)
                holds = max(differences.values()) <= BAR
                figures[layout.name] = {**differences, "holds": holds}
                shown = [f"{value:.1e}" for value in differences.values()]
                rows.append((task, layout.name, *shown, f"≤ {BAR:g}", verdict(holds)))
                print(*rows[-1], flush=True)
        write_results(arguments.results, f"equality of {task}", figures)
    columns = ("", "beside 1 process", "losses", "metrics", "answers", "bar", "holds")
    show_table("Largest differences", columns, rows)


@dataclass(frozen=True)
class Crew:
    """Who trains, and on how many processors together."""

    name: str
    processors: int
    options: str = "--train.strategy default"
    workers: int = 1


CREWS = (
    Crew("1 process on 1 core", 1),
    Crew("1 process on 2 cores", 2),
    Crew("2 replicas on 2 cores", 2, "--train.strategy mirrored --train.replicas 2"),
    Crew("2 workers, a core each", 2, "--train.strategy multi_worker", 2),
)
_PARTS = ("input_seconds", "all_reduce_seconds")


def scaling(arguments: argparse.Namespace) -> None:
    """Examples a second by one and by several, and what adding up gradients takes of it."""
    available = sorted(os.sched_getaffinity(0))
    if len(available) < 2:
        raise BenchmarkError("this needs two processors")
    base = (
        f"--model.size {arguments.size} --train.epochs 3 --train.batch_size {arguments.batch} "
        "--train.precision float32 --train.checkpoint_minutes null --data.validation_fraction 0.01"
    ).split()
    rates: dict[str, list[float]] = {crew.name: [] for crew in CREWS}
    shares: dict[str, list[list[float]]] = {crew.name: [] for crew in CREWS}
    with tempfile.TemporaryDirectory() as name:
        data = _write_long_texts(Path(name) / "texts.csv", arguments.texts)
        for turn in range(arguments.rounds):
            for number, crew in enumerate(CREWS):
                run = Path(name) / f"{turn}-{number}"
                launch = ["-m", "tasks.launch", "--workers", str(crew.workers), "--pin", "--"]
                command = [
                    *([sys.executable, *launch] if crew.workers > 1 else []),
                    *(sys.executable, "-m", "tasks.text_classification", "train", *base),
                    *(*crew.options.split(), "--data.train", str(data), "--run.dir", str(run)),
                ]
                os.sched_setaffinity(0, available[: crew.processors])  # children inherit it
                try:
                    _said(command)
                finally:
                    os.sched_setaffinity(0, available)
                history = json.loads((run / "checkpoints/history.json").read_text("utf-8"))
                settled = history[1:]  # in the first epoch the step is traced
                seconds = sum(epoch["seconds"] for epoch in settled)
                rates[crew.name].append(
                    sum(epoch["examples_per_second"] for epoch in settled) / len(settled)
                )
                shares[crew.name].append(
                    [sum(epoch.get(part, 0.0) for epoch in settled) / seconds for part in _PARTS]
                )
                print(f"{crew.name}: {rates[crew.name][-1]:.0f} examples/s", flush=True)
    alone = median(rates[CREWS[1].name])
    rows = []
    for crew in CREWS:
        own = [median(part) for part in zip(*shares[crew.name], strict=True)]
        rate = median(rates[crew.name])
        rows.append((crew.name, f"{rate:.0f}", f"{rate / alone:.2f}", *(f"{s:.1%}" for s in own)))
    columns = ("", "examples/s", "of 1 x 2 cores", "waiting for input", "all-reduce")
    show_table(f"BERT {arguments.size}, batches of {arguments.batch}", columns, rows)
    figures = {"examples_per_second": rates, "input_and_all_reduce_shares": shares}
    settings = {name: getattr(arguments, name) for name in ("size", "batch", "texts")}
    write_results(arguments.results, "scaling", {**settings, **figures})


def _write_long_texts(path: Path, count: int) -> Path:
    """A CSV file of texts of 30 to 60 words of 2,000."""
    draw = random.Random(3)
    words = ["".join(draw.choices("abcdefghijklmnoprstuvw", k=6)) for _ in range(2000)]
    lines = ["text,label"]
    for index in range(count):
        text = " ".join(draw.choices(words, k=draw.randint(30, 60)))
        lines.append(f"{('good', 'bad')[index % 2]} {text},{('good', 'bad')[index % 2]}")
    _write_lines(path, lines)
    return path


def main() -> None:
    """Runs the benchmark that the arguments name."""
    start(_parser())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.distribution",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("equality", help=equality.__doc__)
    one.set_defaults(compare=equality)
    one.add_argument("--results", type=Path, default=RESULTS, help="JSON to write (%(default)s)")
    one.add_argument("--tasks", nargs="+", choices=TASKS, default=list(TASKS), help="(all)")
    two = commands.add_parser("scaling", help=scaling.__doc__)
    two.set_defaults(compare=scaling)
    two.add_argument("--results", type=Path, default=RESULTS, help="JSON to write (%(default)s)")
    two.add_argument("--size", default="mini", help="of the BERT model (%(default)s)")
    two.add_argument("--batch", type=int, default=32, help="texts of a batch (%(default)s)")
    two.add_argument("--texts", type=int, default=3000, help="(%(default)s)")
    two.add_argument("--rounds", type=int, default=3, help="turns of each (%(default)s)")
    return parser


if __name__ == "__main__":
    main()
