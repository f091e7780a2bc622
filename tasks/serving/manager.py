"""Models and their versions: found in folders, loaded, switched, and let go.

A model's folder is looked at again and again. The versions that its policy asks for are loaded, and
one that it no longer asks for is let go only when another is there to answer, and when the last
request that uses it has ended. So a swap loses no request.
"""

import gc
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tensorflow_serving.apis import get_model_status_pb2, model_pb2
from tensorflow_serving.config import model_server_config_pb2

from tasks.protocol.errors import Code, ServingError
from tasks.serving.configs import check_models
from tasks.serving.metrics import forget
from tasks.serving.model import Model

State = get_model_status_pb2.ModelVersionStatus.State
AVAILABLE = get_model_status_pb2.ModelVersionStatus.AVAILABLE
_LOADING = get_model_status_pb2.ModelVersionStatus.LOADING
_START = get_model_status_pb2.ModelVersionStatus.START
_UNLOADING = get_model_status_pb2.ModelVersionStatus.UNLOADING
_END = get_model_status_pb2.ModelVersionStatus.END

_log = logging.getLogger("tasks.serving")

# What is gone and still has a status: versions of a model, and models. The stock server keeps all.
_MOST_ENDED = 100


@dataclass(eq=False)
class Version:
    """A version of a model, from when it is found until it is gone; `model` is there meanwhile."""

    name: str
    number: int
    folder: Path
    state: int = _START
    error: ServingError | None = None
    model: Model | None = None
    users: int = 0
    wanted: bool = True
    retry: threading.Timer | None = None


@dataclass(frozen=True)
class Loading:
    """How versions are loaded."""

    load: Callable[[str, int, Path], Model]
    """Loads and warms up a version: the model's name, the version, its folder."""

    threads: int = 1
    retries: int = 5
    """Of a version that can't be loaded, once the server has started."""

    retry_seconds: float = 60.0


class Manager:
    """All models of a server. Its methods may be called from any thread.

    Args:
        loading: How versions are loaded.
        poll_seconds: Between looks for new versions; 0 for one look at each new config.
        prefix_map: What base paths begin with, and what stands for it.
        any_labels: Whether a new label may point to a version that isn't loaded.
    """

    def __init__(
        self,
        loading: Loading,
        poll_seconds: float = 1.0,
        prefix_map: tuple[str, str] | None = None,
        any_labels: bool = False,
    ) -> None:
        self._loading = loading
        self._prefix_map = prefix_map
        self._any_labels = any_labels
        self._models = model_server_config_pb2.ModelConfigList()
        self._folders: dict[str, Path] = {}
        self._labels: dict[str, dict[str, int]] = {}
        self._versions: dict[str, dict[int, Version]] = {}
        self._complaints: dict[str, str] = {}
        self._answered: set[str] = set()  # models of the config that have had a version to answer
        self._started = False
        # Whoever takes both takes them in this order.
        self._polling = threading.Lock()
        self._changed = threading.Condition(threading.RLock())
        self._loaders = ThreadPoolExecutor(loading.threads, "load")
        self._stopped = threading.Event()
        if poll_seconds > 0:
            self.every(poll_seconds, self._poll, "poll")

    # Requests

    @contextmanager
    def use(self, spec: model_pb2.ModelSpec) -> Iterator[Version]:
        """Keeps the version that a request asks for from being let go.

        Raises:
            ServingError: there is no such version, or it isn't loaded.
        """
        version = self.acquire(spec)
        try:
            yield version
        finally:
            self.release(version)

    def acquire(self, spec: model_pb2.ModelSpec) -> Version:
        """The version that a request asks for; `release` it afterwards.

        Raises:
            ServingError: there is no such version, or it isn't loaded.
        """
        if not spec.name:
            raise ServingError(Code.INVALID_ARGUMENT, "ModelSpec has no name specified.")
        with self._changed:
            number = self._number(spec)
            versions = self._versions.get(spec.name, {})
            if number is None:
                asked = f"Latest({spec.name})"
                ready = [n for n, version in versions.items() if version.state == AVAILABLE]
                version = versions[max(ready)] if ready else None
            else:
                asked = f"Specific({spec.name}, {number})"
                version = versions.get(number)
            if version is None or version.state != AVAILABLE:
                raise ServingError(Code.NOT_FOUND, f"Servable not found for request: {asked}")
            version.users += 1
            return version

    def release(self, version: Version) -> None:
        """A request no longer uses the version."""
        with self._changed:
            version.users -= 1
            if version.state == _UNLOADING and not version.users:
                self._close(version)

    def statuses(self, spec: model_pb2.ModelSpec) -> list[Version]:
        """A model's versions, the latest first, or the one that is asked for.

        Raises:
            ServingError: there are none.
        """
        with self._changed:
            versions = self._versions.get(spec.name, {})
            if spec.WhichOneof("version_choice") == "version":
                number = spec.version.value
                if number not in versions:
                    raise ServingError(
                        Code.NOT_FOUND, f"Could not find version {number} of model {spec.name}"
                    )
                return [versions[number]]
            if not versions:
                raise ServingError(
                    Code.NOT_FOUND, f"Could not find any versions of model {spec.name}"
                )
            return [versions[number] for number in sorted(versions, reverse=True)]

    def names(self) -> list[str]:
        """The models of the config, in its order."""
        with self._changed:
            return [model.name for model in self._models.config]

    def labels(self, name: str) -> Mapping[str, int]:
        """A model's labels, and the versions that they point to."""
        with self._changed:
            return dict(self._labels.get(name, {}))

    def check_started(self) -> None:
        """Models are asked for once the first of them answer, as the stock server opens its ports.

        Raises:
            ServingError: UNAVAILABLE, until then.
        """
        if not self._started:
            raise ServingError(Code.UNAVAILABLE, "The server is starting; try again")

    def ready(self) -> bool:
        """Whether the start is over, and each model that has ever answered still does.

        One that a reload adds counts once it has loaded: it is no reason to send away the requests
        for the others meanwhile.
        """
        with self._changed:
            return self._started and all(map(self._answers, self._answered))

    # Configs

    def start(self, models: model_server_config_pb2.ModelConfigList) -> None:
        """Serves these models; returns when each has a version that answers.

        A folder may still be empty: it is waited for. But what can't be loaded now is the mistake
        of whoever starts the server, who is told at once, not after the retries.

        Raises:
            ServingError: the config is wrong, a folder isn't there, a model can't be loaded.
        """
        folders = check_models(models, self._prefix_map)
        for name, folder in folders.items():
            _check_folder(name, folder, str(folder))
        for model in models.config:
            folder = folders[model.name]
            if Path(model.base_path) != folder:
                _log.info("%s: %s is looked for at %s", model.name, model.base_path, folder)
        with self._polling:
            config = self._configure(models, folders)
        self._wait(set(folders), config)
        with self._changed:
            self._started = True

    def reload(self, models: model_server_config_pb2.ModelConfigList, wait: bool = True) -> None:
        """Serves these models instead; returns when the new ones are loaded.

        A new model must have a version by now. A later reload that is taken ends the wait of an
        earlier one, and waits for those of its models that have not loaded yet too.

        Args:
            models: The config.
            wait: For the new models; else returns once the config is taken.

        Raises:
            ServingError: the config is wrong, a new model could not be loaded, or (ABORTED) another
                config has come meanwhile.
        """
        with self._polling:
            folders = check_models(models, self._prefix_map)
            self.check_started()
            with self._changed:
                new = folders.keys() - self._answered
            for model in models.config:
                if model.name in new:
                    # Told to a client, who need not know where folders really are.
                    folder = folders[model.name]
                    _check_folder(model.name, folder, model.base_path)
                    with _refused_unreadable(model.name, model.base_path):
                        found = versions_in(folder)
                    if not _by_policy(model, found):
                        raise ServingError(
                            Code.NOT_FOUND,
                            f"No versions of servable {model.name} in {model.base_path} that its "
                            "policy asks for",
                        )
            config = self._configure(models, folders)
        if wait:
            self._wait(new, config)

    def every(self, seconds: float, do: Callable[[], None], name: str) -> None:
        """Has a thread do something again and again, whatever fails, until `close`."""

        def loop() -> None:
            while not self._stopped.wait(seconds):
                try:
                    do()
                except Exception:
                    _log.exception("%s failed; it goes on", name)

        threading.Thread(target=loop, name=name, daemon=True).start()

    def close(self) -> None:
        """Loads nothing more. Models stay loaded: the process is about to end."""
        with self._changed:
            self._stopped.set()
            for versions in self._versions.values():
                for version in versions.values():
                    if version.retry:
                        version.retry.cancel()
            self._changed.notify_all()
        self._loaders.shutdown(wait=False, cancel_futures=True)

    def _configure(
        self, models: model_server_config_pb2.ModelConfigList, folders: dict[str, Path]
    ) -> model_server_config_pb2.ModelConfigList:
        """Takes a config, and returns it as it is now kept."""
        config = model_server_config_pb2.ModelConfigList()
        config.CopyFrom(models)
        with self._changed:
            self._labels = self._checked_labels(config)
            self._models, self._folders = config, folders
            self._answered &= folders.keys()
            removed = [name for name in self._versions if name not in folders]
            for name in removed:
                self._want(name, {})
                self._complaints.pop(name, None)
            for name in removed[:-_MOST_ENDED]:
                if all(version.state == _END for version in self._versions[name].values()):
                    for version in self._versions.pop(name).values():
                        forget(version.folder)
            self._changed.notify_all()
        self._look()
        return config

    def _checked_labels(
        self, models: model_server_config_pb2.ModelConfigList
    ) -> dict[str, dict[str, int]]:
        for model in models.config:
            states = {n: v.state for n, v in self._versions.get(model.name, {}).items()}
            for label, number in model.version_labels.items():
                moved = self._labels.get(model.name, {}).get(label, number) != number
                if states.get(number) != AVAILABLE and (moved or not self._any_labels):
                    raise ServingError(
                        Code.FAILED_PRECONDITION,
                        f"Request to assign label to version {number} of model {model.name}, which "
                        "is not currently available for inference",
                    )
        return {model.name: dict(model.version_labels) for model in models.config}

    def _wait(self, names: set[str], config: model_server_config_pb2.ModelConfigList) -> None:
        """Until each of these models has a version that answers, or none that can be loaded.

        Whoever starts the server is told of the first failure: another folder may stay empty.
        """

        def silent() -> list[str]:
            return [name for name in sorted(names) if not self._answers(name)]

        def settled() -> bool:
            given_up = [self._given_up(name) for name in silent()]
            return (
                self._stopped.is_set()
                or self._models is not config
                or (any(given_up) and not self._started)
                or all(given_up)
            )

        with self._changed:
            self._changed.wait_for(settled)
            if self._stopped.is_set():
                raise ServingError(Code.UNAVAILABLE, "The server is ending")
            if silent() and self._models is not config:
                raise ServingError(Code.ABORTED, "A newer configuration has replaced this one")
            failed = [name for name in silent() if self._given_up(name)]
            reasons = "".join(map(self._reasons, failed))
        if failed:
            raise ServingError(
                Code.UNKNOWN, f"{len(failed)} model(s) did not become available: {{{reasons}}}"
            )

    def _answers(self, name: str) -> bool:
        """Whether the model has a version that answers."""
        return any(version.state == AVAILABLE for version in self._versions.get(name, {}).values())

    def _given_up(self, name: str) -> bool:
        """Whether no version of the model is going to answer, unless its folder changes.

        At the start, an empty folder is waited for to change.
        """
        wanted = self._wanted(name)
        return all(version.error for version in wanted) and bool(wanted or self._started)

    def _reasons(self, name: str) -> str:
        """Why the model was given up, written as the stock server does."""
        reasons = [
            (f"{name} version: {version.number}", version.error)
            for version in self._wanted(name)
            if version.error
        ] or [(name, ServingError(Code.NOT_FOUND, "its versions are gone"))]
        return "".join(
            f"{{{{name: {named}}} due to error: {error.code.name}: {error.message}}}, "
            for named, error in reasons
        )

    def _wanted(self, name: str) -> list[Version]:
        return [version for version in self._versions.get(name, {}).values() if version.wanted]

    def _number(self, spec: model_pb2.ModelSpec) -> int | None:
        choice = spec.WhichOneof("version_choice")
        if choice == "version":
            return spec.version.value
        if choice == "version_label":
            number = self._labels.get(spec.name, {}).get(spec.version_label)
            if number is None:
                raise ServingError(
                    Code.INVALID_ARGUMENT,
                    f"Unrecognized servable version label: {spec.version_label}",
                )
            return number
        return None

    # Versions

    def _poll(self) -> None:
        with self._polling:
            self._look()

    def _look(self) -> None:
        """Looks into each model's folder for the versions that its policy asks for."""
        with self._changed:
            models = [(model, self._folders[model.name]) for model in self._models.config]
        for model, folder in models:
            try:
                found = versions_in(folder)
            except OSError as error:
                self._complain(model.name, f"{folder}: {error.strerror}; its versions are kept")
                continue
            wanted = _by_policy(model, found)
            if not found:
                complaint = f"no versions in {folder}; a version is a folder named by an integer"
            elif not wanted:
                complaint = f"{folder} has none of the versions that its policy names"
            else:
                complaint = ""
            with self._changed:
                self._want(model.name, wanted)
                moved = [n for n, path in wanted.items() if self._folder(model.name, n) != path]
            if moved:
                complaint = f"version {moved[0]} stays as it was loaded, not {wanted[moved[0]]}"
            self._complain(model.name, complaint)

    def _want(self, name: str, wanted: Mapping[int, Path]) -> None:
        """Loads what is new among the wanted versions, the latest first, and lets go the rest.

        A version that is there stays the same, whatever becomes of its folder, as in the stock
        server: what has changed is a new version.
        """
        versions = self._versions.setdefault(name, {})
        for number in sorted(wanted, reverse=True):
            version = versions.get(number)
            if version is None or (
                version.state in (_UNLOADING, _END)
                and not (version.wanted and version.folder == wanted[number])
            ):
                new = versions[number] = Version(name, number, wanted[number])
                self._submit(new)
            else:
                version.wanted = True
        for number, version in list(versions.items()):  # `_end` forgets some
            if number in wanted:
                continue
            version.wanted = False
            if version.retry and version.state == _LOADING:
                self._end(version)
        self._changed.notify_all()
        self._settle(name)

    def _folder(self, name: str, number: int) -> Path:
        return self._versions[name][number].folder

    def _settle(self, name: str) -> None:
        """Lets go what isn't wanted, if something wanted answers, or nothing is wanted at all."""
        wanted = self._wanted(name)
        if wanted and not any(version.state == AVAILABLE for version in wanted):
            return
        for version in self._versions.get(name, {}).values():
            if not version.wanted and version.state == AVAILABLE:
                self._drop(version)

    def _drop(self, version: Version) -> None:
        version.state = _UNLOADING
        if not version.users:
            self._close(version)

    def _submit(self, version: Version, attempt: int = 0) -> None:
        """Has a version loaded as soon as a loader is free."""
        with self._changed:
            version.retry = None
            if not self._stopped.is_set() and version.state != _END:
                self._loaders.submit(self._load, version, attempt)

    def _load(self, version: Version, attempt: int) -> None:
        """In a loader's thread: loads, and tells, or has it tried again."""
        with self._changed:
            if not version.wanted:
                self._end(version)
                return
            version.state = _LOADING
            again = self._started and attempt < self._loading.retries
        start = time.monotonic()
        try:
            model = self._loading.load(version.name, version.number, version.folder)
        except Exception as error:  # whatever it is, nobody may be left waiting
            if not isinstance(error, ServingError):
                _log.exception("%s %s: loading failed", version.name, version.number)
                error = ServingError(Code.INTERNAL, type(error).__name__)
            self._failed(version, error, attempt + 1 if again else None)
            return
        seconds = time.monotonic() - start
        _log.info("%s %s: loaded in %.1f s", version.name, version.number, seconds)
        with self._changed:
            version.model, version.state = model, AVAILABLE
            if version.wanted:
                self._answered.add(version.name)
            self._settle(version.name)
            self._changed.notify_all()

    def _failed(self, version: Version, error: ServingError, attempt: int | None) -> None:
        """Has it tried again, if there is to be another attempt."""
        _log.error("%s %s: cannot be loaded: %s", version.name, version.number, error)
        with self._changed:
            if attempt is None or not version.wanted:
                self._end(version, error)
            elif not self._stopped.is_set():
                # A loader that waited could not load another model meanwhile.
                seconds = self._loading.retry_seconds
                version.retry = threading.Timer(seconds, self._submit, (version, attempt))
                version.retry.daemon = True
                version.retry.start()

    def _end(self, version: Version, error: ServingError | None = None) -> None:
        if version.retry:
            version.retry.cancel()
        version.state = _END
        version.error = error if version.wanted else None
        versions = self._versions.get(version.name, {})
        ended = sorted(n for n, v in versions.items() if v.state == _END and not v.wanted)
        for number in ended[:-_MOST_ENDED]:
            forget(versions.pop(number).folder)
        self._changed.notify_all()

    def _close(self, version: Version) -> None:
        """Gives the memory back, beside: a run that nobody waits for any more may hold it up."""
        model, version.model = version.model, None

        def close() -> None:
            nonlocal model
            assert model is not None, "only what is loaded is let go"
            model.close()
            model = None
            gc.collect()  # graphs hold themselves in cycles
            with self._changed:
                self._end(version)
            _log.info("%s %s: unloaded", version.name, version.number)

        threading.Thread(target=close, name="unload", daemon=True).start()

    def _complain(self, name: str, complaint: str) -> None:
        """Logs what is wrong with a model's folder when it becomes so, not at each look."""
        if complaint and complaint != self._complaints.get(name):
            _log.warning("%s: %s", name, complaint)
        self._complaints[name] = complaint


def _check_folder(name: str, folder: Path, shown: str) -> None:
    """Refuses what can't be the folder of a model."""
    with _refused_unreadable(name, shown):
        is_folder, is_version = folder.is_dir(), (folder / "saved_model.pb").exists()
    if not is_folder:
        raise ServingError(
            Code.NOT_FOUND,
            f"Could not find base path {shown} for servable {name}; put the model there, or "
            "correct --model_base_path or the config's base_path",
        )
    if is_version:
        raise ServingError(
            Code.INVALID_ARGUMENT,
            f"Base path {shown} of {name} is a version; give the folder that holds it",
        )


@contextmanager
def _refused_unreadable(name: str, shown: str) -> Iterator[None]:
    """Says of a model's folder that it can't be looked at, where that is so."""
    try:
        yield
    except OSError as error:
        raise ServingError(
            Code.FAILED_PRECONDITION,
            f"Base path {shown} of {name} can't be read: {error.strerror}",
        ) from None


def versions_in(folder: Path) -> dict[int, Path]:
    """The folders named by an integer, by that integer; of 007 and 7, 7.

    Raises:
        OSError: the folder can't be read.
    """
    found: dict[int, Path] = {}
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            name = entry.name
            if name.isascii() and name.isdigit() and int(name) < 2**63 and entry.is_dir():
                found[int(name)] = Path(entry.path)
    return found


def _by_policy(
    model: model_server_config_pb2.ModelConfig, found: Mapping[int, Path]
) -> dict[int, Path]:
    policy = model.model_version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        return dict(found)
    if choice == "specific":
        return {number: found[number] for number in policy.specific.versions if number in found}
    latest = sorted(found, reverse=True)[: max(policy.latest.num_versions, 1)]
    return {number: found[number] for number in latest}
