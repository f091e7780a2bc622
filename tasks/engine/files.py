"""Files that are either whole or not there: written under a temporary name, then renamed."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

# What the functions below call a file or folder `NAME.ENDING` until it is whole.
_REMAINS = re.compile(r"\..+\.([a-z0-9_]{8}|\d+(\.\w+)?)")


def is_remains(path: Path) -> bool:
    """Whether this is what a process that was killed left of a file half written."""
    return _REMAINS.fullmatch(path.name) is not None and path.is_file()


def remove_remains(folder: Path) -> None:
    """Removes from a folder, if there is one, what killed processes left of files half written."""
    for path in folder.rglob(".*"):
        if is_remains(path):
            path.unlink(missing_ok=True)


@contextmanager
def atomic_write(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Opens a temporary file beside `path` that becomes `path` when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    encoding = None if "b" in mode else "utf-8"
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, mode, encoding=encoding) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Names a temporary file, with `path`'s ending, for what opens its files itself."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Makes a temporary folder beside `path` that becomes `path` when the block ends well.

    The temporary name starts with a dot, so a model server that watches the parent for folders
    named by integers never sees a half-written one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        Path(temporary).replace(path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _umask() -> int:
    """The process's umask, which mkstemp and mkdtemp do not honour."""
    current = os.umask(0)
    os.umask(current)
    return current
