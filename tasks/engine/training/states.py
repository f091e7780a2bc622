"""The state of a training, of which a stopped run goes on as if nothing had happened.

A state is one file of a run's `checkpoints/states/`, named by how far it is: every variable of the
model, its optimizer and its metrics, and as JSON all that is none. It is written in the background
under a temporary name and renamed, and its parts have checksums, so that one is either whole or
known to be damaged; then the one before it serves.
"""

import json
import sys
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tasks.engine.errors import UsageError, one_line
from tasks.engine.files import atomic_path

History = list[dict[str, float]]
Metrics = Sequence[keras.metrics.Metric]

# What NumPy and zipfile raise of files that are cut off, or have bits of theirs flipped.
DAMAGED = (
    *(OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)
KEPT = 3  # states, the older ones in case that the newest is damaged
_ABOUT = "about"  # the member of the file that is JSON


@dataclass(frozen=True)
class Progress:
    """How far a training is, and what else there is to remember that is no variable."""

    epoch: int = 0  # whole epochs done
    batch: int = 0  # batches done of the next one
    history: History = field(default_factory=list)  # the logs of the whole epochs
    clocks: dict[str, float] = field(default_factory=dict)  # seconds of that next epoch so far

    @property
    def name(self) -> str:
        """The file's name; names sort as training goes."""
        return f"{self.epoch:05}-{self.batch:09}.npz"


@dataclass(frozen=True)
class State:
    """A training at some moment."""

    progress: Progress
    values: list[np.ndarray]  # of `variables_of`


def variables_of(model: keras.Model, metrics: Metrics = ()) -> list[keras.Variable]:
    """All variables that a compiled model trains with, each once: weights, seeds, the optimizer's,
    and those of its loss and of the metrics that it was compiled with.

    Keras knows the metrics' only once it has seen a batch.
    """
    known = {id(variable) for variable in model.metrics_variables}
    variables = [variable for variable in model.variables if id(variable) not in known]
    variables += [*model.optimizer.variables, *_counting(model, metrics)]
    return list({id(variable): variable for variable in variables}.values())


def _counting(model: keras.Model, metrics: Metrics) -> list[keras.Variable]:
    """The variables of the loss so far, and of metrics."""
    return [variable for one in (model._loss_tracker, *metrics) for variable in one.variables]


class States:
    """A folder of states.

    Args:
        folder: need not be there.
        metrics: that the model is compiled with.
        writes: whether `save` writes; to take a state's values, all workers are needed.
        holds: whether the last state is held in memory, as `latest`.
    """

    def __init__(
        self, folder: Path, metrics: Metrics = (), writes: bool = True, holds: bool = False
    ) -> None:
        self._folder = folder
        self._metrics = metrics
        self._writes = writes
        self._holds = holds
        self.latest: State | None = None  # that was saved, restored or held
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._pending: Future[None] | None = None

    def files(self) -> list[Path]:
        """The states' files, the newest first."""
        return sorted(self._folder.glob("[0-9]*.npz"), reverse=True)

    def newest(self) -> State | None:
        """The newest state that is whole; None if there is none at all.

        Raises:
            UsageError: there are states, but all are damaged.
        """
        files = self.files()
        for number, path in enumerate(files):
            try:
                return _read(path)
            except DAMAGED as error:
                what = f"{path}: damaged ({one_line(error, 200)})"
                if number + 1 == len(files):
                    raise UsageError(
                        f"{what}; delete {self._folder.parent} to train anew"
                    ) from None
                print(f"warning: {what}; going on from the one before", file=sys.stderr)
        return None

    def save(self, progress: Progress, model: keras.Model, wait: bool = False) -> None:
        """Takes a model's state, and writes it in the background.

        One whose weights are not finite is not taken; `Steps` will say so.

        Args:
            wait: until it is written.
        Raises:
            OSError: this state, or the one before it, could not be written.
        """
        # The state before is written by now, or is waited for.
        state = self._taken(progress, model)
        self.settle()
        if state is None:
            return
        if self._holds:
            self.latest = state
        if not self._writes:
            return
        self._pending = self._thread.submit(self._write, state)
        if wait:
            self.settle()

    def hold(self, progress: Progress, model: keras.Model) -> None:
        """Takes a model's state, its optimizer built, as `latest` alone."""
        self.latest = self._taken(progress, model)

    def restore(self, state: State, model: keras.Model, metrics: bool = True) -> None:
        """Gives a model, compiled and its optimizer built as it was, and the metrics the state's
        values.

        Args:
            metrics: whether those, and the loss so far, too.
        Raises:
            ValueError: the model is another one.
        """
        variables = variables_of(model, self._metrics)
        if len(variables) != len(state.values):
            raise ValueError(f"{len(state.values)} variables instead of {len(variables)}")
        left_out = [] if metrics else _counting(model, self._metrics)
        kept = {id(variable) for variable in left_out}
        for variable, value in zip(variables, state.values, strict=True):
            if id(variable) not in kept:
                variable.assign(value)
        if self._holds:
            self.latest = state

    def _taken(self, progress: Progress, model: keras.Model) -> State | None:
        """The state of a model, copied, as its variables go on; None of weights not finite."""
        variables = variables_of(model, self._metrics)
        values = [np.array(variable.numpy()) for variable in variables]
        weights = {id(weight) for weight in model.trainable_variables}
        pairs = zip(variables, values, strict=True)
        finite = _all_finite(value for of, value in pairs if id(of) in weights)
        return State(progress, values) if finite else None

    def settle(self) -> None:
        """Returns when nothing is being written.

        Raises:
            OSError: it could not be written.
        """
        pending, self._pending = self._pending, None
        if pending:
            pending.result()

    def close(self) -> None:
        """Returns once what is being written is; what failed then is not heard of."""
        if self._pending:
            wait([self._pending])

    def _write(self, state: State) -> None:
        path = self._folder / state.progress.name
        about = np.frombuffer(json.dumps(asdict(state.progress)).encode(), np.uint8)
        values: dict[str, Any] = {f"{n:05}": value for n, value in enumerate(state.values)}
        with atomic_path(path) as temporary:
            np.savez(temporary, **values | {_ABOUT: about})
        # What is newer is of a future that did not come to pass: the run was resumed before it.
        others = [other for other in self.files() if other != path]
        newer = [other for other in others if other.name > path.name]
        for other in [*newer, *[o for o in others if o not in newer][KEPT - 1 :]]:
            other.unlink(missing_ok=True)


def is_finite(model: keras.Model) -> bool:
    """Whether no weight that is trained is infinite or NaN."""
    return _all_finite(weight.numpy() for weight in model.trainable_variables)


def _all_finite(values: Iterable[np.ndarray]) -> bool:
    return all(np.isfinite(value).all() for value in values)


def _read(path: Path) -> State:
    """Reads a state whole, and with it the checksums of its parts."""
    with np.load(path) as file:
        # NumPy reads as much as a part's header says, and a checksum counts at a part's end only.
        if damaged := file.zip.testzip():
            raise zipfile.BadZipFile(f"{damaged} is not what was written")
        about = json.loads(file[_ABOUT].tobytes())
        values = [file[name] for name in sorted(set(file.files) - {_ABOUT})]
    return State(Progress(**about), values)
