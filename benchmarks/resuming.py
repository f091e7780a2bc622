"""Trainings that are killed, and go on: is the result that of one that was left alone?

    python -m benchmarks.resuming kills                # 25 times SIGKILL, one process
    python -m benchmarks.resuming kills --workers 2    # the same with two workers
    python -m benchmarks.resuming cost                 # what saving every 100 steps costs

From the project's folder. `kills` trains a small text classifier without interruption, then again
and again with a SIGKILL at random moments (`--seed`), each time followed by the same command, until
it has ended by itself. The moments are drawn from the start, the training (some of them from the
middle of a save), and what comes after it: the evaluation, the report and the export.
Losses, metrics, TensorBoard's scalars and the weights are compared: on one process bit for bit.
"""

import argparse
import csv
import io
import json
import math
import random
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import psutil
import tensorflow as tf

from benchmarks.compare import (
    TIMES,
    BenchmarkError,
    apart,
    show_table,
    start,
    verdict,
    without_times,
    write_results,
)
from tasks.engine.command.cli import main as train
from tasks.text_classification import TextClassification

RESULTS = Path("benchmarks/results/resuming.json")
WORDS = "red blue green grey good bad fine poor nice awful great plain old new".split()
OPTIONS = (
    "--model.size tiny --train.epochs 4 --train.batch_size 16 --train.learning_rate 2e-3 "
    "--train.precision float32 --train.checkpoint_steps 3 --train.deterministic true"
).split()


@dataclass
class Outcome:
    """What a training has left in its folder, but for how long things took."""

    history: list[dict[str, float]]
    metrics: dict[str, Any]
    scalars: dict[str, list[list[float]]]  # by run and tag: steps and values
    weights: list[np.ndarray] = field(repr=False)  # of the last model, then of the best

    @classmethod
    def of(cls, folder: Path) -> "Outcome":
        """Reads a run's folder."""
        history = json.loads((folder / "checkpoints/history.json").read_text())
        models = (folder / "checkpoints" / f"{name}.keras" for name in ("last", "best"))
        return cls(
            history=without_times(history),
            metrics=without_times(json.loads((folder / "metrics.json").read_text())),
            scalars=_scalars(folder / "logs"),
            weights=[array for model in models for array in _arrays(model)],
        )

    def difference(self, other: "Outcome") -> float:
        """The largest relative difference between two outcomes' numbers; infinite where anything
        else differs, or a weight is not finite."""
        if len(self.weights) != len(other.weights):
            return math.inf
        pairs = zip(self.weights, other.weights, strict=True)
        return max(
            *(_arrays_apart(mine, theirs) for mine, theirs in pairs),
            apart(self.history, other.history, floor=1e-12),
            apart(self.metrics, other.metrics, floor=1e-12),
            apart(self.scalars, other.scalars, floor=1e-12),
        )


def _arrays(model: Path) -> list[np.ndarray]:
    """All values in a model's file: its weights, seeds, and its optimizer's."""
    found: list[np.ndarray] = []
    with zipfile.ZipFile(model) as archive:
        content = archive.read("model.weights.h5")
    with h5py.File(io.BytesIO(content)) as file:
        file.visititems(
            lambda name, item: found.append(item[()]) if hasattr(item, "shape") else None
        )
    return found


def _arrays_apart(one: Any, two: Any) -> float:
    one, two = np.asarray(one, np.float64), np.asarray(two, np.float64)
    if one.shape != two.shape or not (np.isfinite(one).all() and np.isfinite(two).all()):
        return math.inf
    scale = max(np.max(np.abs(one), initial=0.0), 1e-12)
    return float(np.max(np.abs(one - two), initial=0.0) / scale)


def _scalars(logs: Path) -> dict[str, list[list[float]]]:
    found: dict[str, list[list[float]]] = {}
    for path in sorted(logs.rglob("events.out.tfevents.*")):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                if value.metadata.plugin_data.plugin_name == "scalars":
                    name = f"{path.parent.name}/{value.tag}"
                    if not name.endswith(TIMES):
                        number = float(tf.make_ndarray(value.tensor))
                        found.setdefault(name, []).append([event.step, number])
    return {name: sorted(values) for name, values in found.items()}


def write_texts(path: Path, count: int = 301) -> None:
    """A CSV file of short texts whose labels can be learned."""
    draw = random.Random(7)
    with path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(("text", "label"))
        for _ in range(count):
            words = draw.choices(WORDS, k=draw.randint(1, 9))
            label = "red" if "red" in words else "long" if len(words) > 5 else "short"
            table.writerow((" ".join(words), label))


def command(
    folder: Path,
    name: str,
    workers: int = 1,
    options: Sequence[str] = OPTIONS,
    exports: bool = True,
) -> list[str]:
    """The training's command line; `folder` has its data, and gets its run, and export."""
    launch = ["-m", "tasks.launch", "--workers", str(workers), "--", sys.executable]
    return [
        *(sys.executable, *(launch if workers > 1 else [])),
        *("-m", "tasks.text_classification", "train", *options),
        *("--data.train", str(folder / "texts.csv"), "--run.dir", str(folder / name)),
        *(["--export.dir", str(folder / f"{name}-model")] if exports else []),
    ]


@dataclass(frozen=True)
class Kill:
    """When to kill a training: so many seconds after it has come to a phase.

    Args:
        saving: in the middle of its next save after that.
        worker: the one to kill of several; all of them if None.
    """

    phase: str  # of PHASES
    seconds: float
    saving: bool = False
    worker: int | None = None


PHASES = ("start", "training", "ending")


def train_killed(
    folder: Path, name: str, kills: Sequence[Kill], workers: int, log: Any, exports: bool = True
) -> list[str]:
    """Trains until the command ends by itself, or has been killed so often and then ends; returns
    where the training was at each kill that it lived to see.

    Args:
        kills: at most one of the phases `start` and `ending` each, as they can't be told from those
            of the session before.
    """
    where: list[str] = []
    run = folder / name
    for kill in (*kills, None):
        before = _states(run)
        begin = time.time()
        line = command(folder, name, workers, exports=exports)
        process = subprocess.Popen(line, stdout=log, stderr=log)
        if kill is not None:
            _wait(process, lambda: _is_in(kill.phase, run, before))  # noqa: B023
            deadline = time.monotonic() + kill.seconds
            _wait(process, lambda: time.monotonic() >= deadline)  # noqa: B023
            if kill.saving:
                _wait(process, lambda: any((run / "checkpoints").rglob(".*")))
            _kill(process, kill.worker)
        code = process.wait()
        if code in (-signal.SIGKILL, 128 + signal.SIGKILL):
            where.append(_where(folder, name, begin))
        elif code:
            raise BenchmarkError(f"a training ended with {code}")
        else:
            break
    return where


def _kill(process: subprocess.Popen[Any], worker: int | None) -> None:
    """Kills a training, or one of its workers, which the others then notice."""
    if worker is not None and process.poll() is None:
        children = psutil.Process(process.pid).children()
        if children:
            children[worker].kill()
            return
    process.send_signal(signal.SIGKILL)


def _wait(process: subprocess.Popen[Any], holds: Callable[[], bool]) -> None:
    """Until something holds, or the process has ended."""
    while process.poll() is None and not holds():
        time.sleep(0.001)


def _is_in(phase: str, run: Path, before: Collection[Path]) -> bool:
    """Whether a training has come to a phase; `before` are the states that it began with."""
    if phase == "start":
        return run.exists()
    return (run / "checkpoints/last.keras").exists() or (
        phase == "training" and not _states(run) <= set(before)
    )


def _states(run: Path) -> set[Path]:
    return set(run.glob("checkpoints/states/[0-9]*"))


def _where(folder: Path, name: str, begin: float) -> str:
    """What a training that began at a time was doing when it was killed, as its folder shows."""
    run = folder / name

    def written(paths: Iterable[Path]) -> bool:
        return any(path.stat().st_mtime >= begin for path in paths if path.exists())

    if written((folder / f"{name}-model").glob(".*")):
        return "export"
    if written([run / "metrics.json"]):
        return "report or export"
    if (run / "checkpoints/last.keras").exists():
        return "evaluation"
    if written((run / "checkpoints").rglob(".*")):
        return "save"
    return "step or validation" if written(_states(run)) else "start"


def kills(arguments: argparse.Namespace) -> None:
    """Whether killed trainings end as one that was left alone."""
    draw = random.Random(arguments.seed)
    workers, left = arguments.workers, arguments.kills
    moments: Counter[str] = Counter()
    differences: list[float] = []
    with tempfile.TemporaryDirectory() as name, Path(name, "log").open("w") as log:
        folder = Path(name)
        write_texts(folder / "texts.csv", 1501)
        spans = _phases_of_one(folder, workers, log)
        print(*(f"{name} {span:.1f} s" for name, span in spans.items()), sep=", ", flush=True)
        whole = Outcome.of(folder / "whole")
        while left > 0:
            planned = _planned(draw, spans, min(left, arguments.of_a_run), workers)
            run = f"killed-{len(differences)}"
            where = train_killed(folder, run, planned, workers, log)
            left -= len(where)
            moments.update(where)
            differences.append(Outcome.of(folder / run).difference(whole))
            print(
                f"{len(where)} kills ({', '.join(where)}): {differences[-1]:.1e} apart", flush=True
            )
    bar = 0.0 if workers == 1 else 1e-5
    worst = max(differences)
    rows = [
        (f"kills, in {len(differences)} runs", str(sum(moments.values())), "", ""),
        *((f"  during {moment}", str(count), "", "") for moment, count in moments.most_common()),
        ("largest difference", f"{worst:.1e}", f"≤ {bar:g}", verdict(worst <= bar)),
    ]
    title = f"Killed and resumed, {workers} worker{'s' * (workers > 1)}"
    show_table(title, ("", "", "bar", "holds"), rows)
    figures = {"moments": moments, "differences": differences, "seed": arguments.seed}
    write_results(arguments.results, f"kills_{workers}", figures)


def _planned(draw: random.Random, spans: dict[str, float], most: int, workers: int) -> list[Kill]:
    """Kills of one training, in the order of its phases."""
    phases = ["start"] * (draw.random() < 0.5) + ["ending"] * (draw.random() < 0.5)
    phases += ["training"] * max(most - len(phases), 0)
    planned = []
    for phase in sorted(phases[:most], key=PHASES.index):
        saving = phase == "training" and draw.random() < 0.4
        alone = workers > 1 and phase == "training" and draw.random() < 0.5
        worker = draw.randrange(workers) if alone else None
        planned.append(Kill(phase, draw.uniform(0, spans[phase]), saving, worker))
    return planned


def _phases_of_one(folder: Path, workers: int, log: Any) -> dict[str, float]:
    """The seconds of each phase of a training that is left alone."""
    run = folder / "whole"
    process = subprocess.Popen(command(folder, "whole", workers), stdout=log, stderr=log)
    begins = []
    for phase in PHASES:
        _wait(process, lambda: _is_in(phase, run, ()))  # noqa: B023
        begins.append(time.monotonic())
    if process.wait():
        raise BenchmarkError("the training that is not killed failed")
    return {
        phase: end - begin
        for phase, (begin, end) in zip(PHASES, pairwise([*begins, time.monotonic()]), strict=True)
    }


class Marks(keras.callbacks.Callback):
    """Notes when each batch of each epoch begins."""

    def __init__(self) -> None:
        super().__init__()
        self.begins: list[list[float]] = []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.begins.append([])

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.begins[-1].append(time.perf_counter())


def cost(arguments: argparse.Namespace) -> None:
    """The share of a training's time that saving its state every 100 steps takes.

    Within one training, as machines drift by more than what is looked for: the 20 steps from a save
    on, the save included, beside 20 steps in the middle between two saves."""
    marks = Marks()

    class Watched(TextClassification):
        def callbacks(self, *arguments: Any) -> list[keras.callbacks.Callback]:
            return [marks]

    options = ["--model.size", "mini", "--train.epochs", "5", "--train.precision", "float32"]
    options += ["--train.checkpoint_steps", "100", "--train.checkpoint_minutes", "null"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "--data.train" not in arguments.options:
            write_texts(folder / "texts.csv", 10_000)
            options += ["--data.train", str(folder / "texts.csv")]
        options += [*arguments.options, "--run.dir", str(folder / "run")]
        try:
            train(Watched, ["train", *options])
        except SystemExit as ended:
            if ended.code:
                raise BenchmarkError(f"the training ended with {ended.code}") from None
        size = max(path.stat().st_size for path in _states(folder / "run")) / 2**20
    steps = len(marks.begins[0])
    more, plain = [], []
    for epoch, begins in enumerate(marks.begins[1:], 1):  # in the first, the step is traced
        for batch in range(steps - 60):
            if (epoch * steps + batch + 1) % 100 == 0:
                with_save, without = (
                    begins[batch + first + 20] - begins[batch + first] for first in (0, 40)
                )
                more.append(with_save - without)
                plain.append(without / 20)
    if not more:
        raise BenchmarkError(f"an epoch has {steps} steps, too few; give more data")
    step, save = float(np.median(plain)), float(np.median(more))
    share = save / (100 * step)
    rows = [
        ("a step, ms", f"{1e3 * step:.1f}", "", ""),
        (f"a save of {size:.0f} MiB, ms ({len(more)} of them)", f"{1e3 * save:.1f}", "", ""),
        ("share of 100 steps", f"{share:.1%}", "< 3%", verdict(share < 0.03)),
    ]
    show_table("What a save adds to a training", ("", "", "bar", "holds"), rows)
    figures = {"save_seconds": more, "step_seconds": plain, "share": share, "mib": size}
    write_results(arguments.results, "cost", {**figures, "options": arguments.options})


def main() -> None:
    """Runs the benchmark that the arguments name."""
    start(_parser())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.resuming",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True)
    for compare in (kills, cost):
        one = commands.add_parser(compare.__name__, help=compare.__doc__)
        one.set_defaults(compare=compare)
        one.add_argument("--results", type=Path, default=RESULTS)
        if compare is kills:
            one.add_argument("--kills", type=int, default=25, help="(%(default)s)")
            one.add_argument("--of-a-run", type=int, default=3, help="kills of a run (%(default)s)")
            one.add_argument("--seed", type=int, default=0, help="of the moments (%(default)s)")
            one.add_argument("--workers", type=int, default=1, help="(%(default)s)")
        else:
            one.add_argument("options", nargs="*", help="of the training, after --")
    return parser


if __name__ == "__main__":
    main()
