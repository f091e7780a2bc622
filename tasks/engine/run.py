"""The run folder: everything needed to repeat, judge, resume or explain a run."""

import atexit
import json
import shlex
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.engine.config_file import read_yaml, write_yaml
from tasks.engine.errors import UsageError, one_line
from tasks.engine.files import atomic_write, is_remains
from tasks.engine.lock import LOCK

Data = Mapping[str, Mapping[str, Any]]  # by part: source, records, checksum

# Options that may differ between two commands that mean the same run.
_INCIDENTAL = (
    *("config", "run.", "export.", "decode.", "train.profile", "train.checkpoint_", "train.on_nan"),
    *("train.strategy", "train.replicas"),
)


@dataclass(frozen=True)
class Run:
    """Names the files of a run folder.

    Args:
        origin: of the scratch folder of a worker, the run's.
    """

    folder: Path
    origin: Path | None = None

    @classmethod
    def named(cls, folder: str | None, task: str) -> "Run":
        """The given folder, or a new one named by the time."""
        return cls(Path(folder or f"runs/{task}/{time.strftime('%Y%m%d-%H%M%S')}"))

    @classmethod
    def existing(cls, folder: str | None, option: str = "--run.dir") -> "Run":
        """The folder of a run that was trained, which an option names."""
        if not folder:
            raise UsageError(f"which run? Name its folder with {option}")
        run = cls(Path(folder))
        if not run.config_file.is_file():
            raise UsageError(
                f"{folder}: not a run folder, there is no config.yaml in it; name another {option}"
            )
        return run

    config_file = property(lambda self: self.folder / "config.yaml")
    metrics_file = property(lambda self: self.folder / "metrics.json")
    logs = property(lambda self: self.folder / "logs")
    assets = property(lambda self: self.folder / "assets")
    checkpoints = property(lambda self: self.folder / "checkpoints")
    best = property(lambda self: self.checkpoints / "best.keras")
    last = property(lambda self: self.checkpoints / "last.keras")
    states = property(lambda self: self.checkpoints / "states")
    bad_batches = property(lambda self: (self.origin or self.folder) / "bad_batches")
    cache = property(lambda self: self.folder / "cache")
    history_file = property(lambda self: self.checkpoints / "history.json")
    epochs = property(lambda self: self.checkpoints / "epochs")
    data_file = property(lambda self: self.folder / "data.json")
    averaged_file = property(lambda self: self.checkpoints / "averaged.json")

    def epoch_weights(self, epoch: int) -> Path:
        """Where the weights of an epoch, counted from one, are until training ends."""
        return self.epochs / f"{epoch:04}.npz"

    def baseline(self, name: str) -> "Run":
        """Where a model to compare with is trained."""
        return self._within(Path("baselines", name))

    def fold(self, number: int) -> "Run":
        """Where a fold of a backtest, counted from one, is trained and tested."""
        return self._within(Path("backtest", f"{number:02}"))

    def _within(self, place: Path) -> "Run":
        return Run(self.folder / place, self.origin and self.origin / place)

    def baselines(self) -> list[str]:
        """The names of the models to compare with that there are."""
        return sorted(path.parents[1].name for path in self.folder.glob("baselines/*/*/best.keras"))

    def scratch(self) -> "Run":
        """A temporary folder that begins as this one, whatever becomes of either: where the workers
        write that are not to."""
        folder = Path(tempfile.mkdtemp(prefix="worker-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        for path in self.folder.rglob("*"):
            within = path.relative_to(self.folder)
            if path.is_file() and not {"logs", "cache", LOCK} & set(within.parts):
                (folder / within).parent.mkdir(parents=True, exist_ok=True)
                # Files are only ever replaced, so that a link is as good as a copy.
                (folder / within).symlink_to(path.absolute())
        return Run(folder, self.folder)

    def resumable(self, options: dict[str, Any], defaults: Mapping[str, Any] | None = None) -> bool:
        """Whether the folder already holds this very run; False when it is free for a new one.

        Args:
            options: the whole config, by section.
            defaults: what options were that the run's config doesn't have yet, by section.
        Raises:
            UsageError: the folder holds something else; the message says what differs.
        """
        if not self.config_file.exists():
            if self.folder.exists() and not (self.folder.is_dir() and self._is_free()):
                raise UsageError(f"{self.folder}: not empty and not a run; name another --run.dir")
            return False
        earlier = flat(defaults or {}) | flat(self.options())
        now = flat(options)
        self.require_task(now["task"])
        differing = [
            key
            for key in sorted(earlier.keys() | now.keys())
            if not key.startswith(_INCIDENTAL)
            and _listed(earlier.get(key)) != _listed(now.get(key))
        ]
        longer = differing == ["train.epochs"] and now["train.epochs"] > earlier["train.epochs"]
        if differing and not (longer and _can_be_longer(now)):
            said = "; ".join(f"{k} is {now.get(k)}, was {earlier.get(k)}" for k in differing)
            folder = shlex.quote(str(self.folder))
            raise UsageError(
                f"{self.folder}: a run with other options: {said}; "
                + (
                    "more epochs go on from where it ended only with --train.schedule constant and "
                    "--train.warmup 0, as else its learning rates would have been others; train in "
                    f"a new --run.dir from its weights: --train.start_from {folder}"
                    if longer
                    else "repeat them as they were to resume, or name another --run.dir"
                )
            )
        return True

    def _is_free(self) -> bool:
        """Whether nothing is in the folder, but perhaps what a run left that was killed before it
        had a config, or while it wrote that."""
        mine = f".{self.config_file.name}."
        return all(
            path.name == LOCK or (is_remains(path) and path.name.startswith(mine))
            for path in self.folder.iterdir()
        )

    def begin(self, options: dict[str, Any]) -> None:
        """Makes the folder a run's, by writing its config.

        Where it and its exports lie is left out, so that `--config` begins a new run like it.
        """
        kept = {name: part for name, part in options.items() if name not in ("run", "export")}
        with atomic_write(self.config_file) as file:
            write_yaml(kept, file)

    def require_task(self, task: str, option: str = "--run.dir") -> None:
        """Raises UsageError if another task made the run, which an option names."""
        made_by = self.options().get("task")
        if made_by != task:
            raise UsageError(
                f"{self.folder}: a run of the task {made_by}, not of {task}; name another {option}"
            )

    def options(self) -> dict[str, Any]:
        """The config that the run was started with, by section."""
        options = read_yaml(self.config_file)
        if not all(isinstance(part, dict) for name, part in options.items() if name != "task"):
            raise UsageError(f"{self.config_file}: not a run's config")
        return options

    def require_data(self, data: Data) -> None:
        """Raises UsageError if the run was begun with other data, and says which changed; runs of
        before this was kept go on.

        Args:
            data: what was read now, as `write_data` takes it.
        """
        earlier = _read_json(self.data_file, {})
        changed = [
            name
            for name, now in data.items()
            if name in earlier and now["checksum"] != earlier[name]["checksum"]
        ]
        if not changed:
            return
        # Of what is held out of a part that changed, that says all.
        of = {data[name]["checksum"]: name for name in reversed(changed)}
        said = "; ".join(_change(name, data[name], earlier[name]) for name in of.values())
        folder = shlex.quote(str(self.folder))
        mend = (
            f"judge it on this with evaluate --run.dir {folder} --data.test FILE"
            if changed == ["test"]
            else "train in a new --run.dir, from the weights of this one with "
            f"--train.start_from {folder}"
        )
        raise UsageError(
            f"{self.folder}: its data changed since it began: {said}; bring back what was, or "
            + mend
        )

    def write_data(self, data: Data) -> None:
        """Keeps what the run was begun with: of each part of the data its source, number of
        records and checksum."""
        with atomic_write(self.data_file) as file:
            json.dump(data, file, indent=1, ensure_ascii=False)

    def metrics(self) -> dict[str, Any]:
        """What metrics.json holds; empty before there is one."""
        return _read_json(self.metrics_file, {})

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        with atomic_write(self.metrics_file) as file:
            json.dump(metrics, file, indent=2, ensure_ascii=False)
            file.write("\n")

    def history(self) -> list[dict[str, float]]:
        """The logs of each finished epoch, in order."""
        return _read_json(self.history_file, [])

    def write_history(self, history: list[dict[str, float]]) -> None:
        with atomic_write(self.history_file) as file:
            json.dump(history, file, indent=1)

    def averaged(self) -> dict[str, Any]:
        """What came of the mean of epochs' weights; empty before it was taken."""
        return _read_json(self.averaged_file, {})

    def write_averaged(self, found: dict[str, Any]) -> None:
        with atomic_write(self.averaged_file) as file:
            json.dump(found, file, indent=1)


def _listed(value: Any) -> Any:
    """What an option that takes one or several says, however it was written."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _can_be_longer(options: Mapping[str, Any]) -> bool:
    """Whether a training with these options, by dotted names, begins as a longer one does."""
    return (
        options.get("train.schedule") == "constant"
        and options.get("train.warmup") == 0
        and options.get("train.average") in (None, "none")
        and not options.get("train.lookahead")
        and not options.get("data.backtest_folds")
    )


def flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one, with dotted keys."""
    result: dict[str, Any] = {}
    for key, value in options.items():
        if isinstance(value, Mapping):
            result |= flat(value, f"{prefix}{key}.")
        else:
            result[prefix + key] = value
    return result


def _change(name: str, now: Mapping[str, Any], then: Mapping[str, Any]) -> str:
    """What became of a part of the data, in words."""
    what, count = f"the {name} data, {now['source']}", f"{now['records']:,} records"
    if now["source"] != then["source"]:
        return f"{what} of {count}, was {then['source']} of {then['records']:,}"
    if now["records"] != then["records"]:
        return f"{what}, has {count}, had {then['records']:,}"
    return f"{what}, has {count} as before, but others"


def _read_json(path: Path, default: Any) -> Any:
    if not path.exists():
        return default
    try:
        return json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise UsageError(f"{path}: damaged ({one_line(error)}); restore it or train anew") from None
