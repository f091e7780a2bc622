"""Picture files as tables: a folder of class folders, or any files to predict from.

photos/cat/7.jpg  photos/cat/more/8.png  photos/dog/9.jpg

table = FolderTable("photos", "photos", "image", "label")
table.chunks(["image", "label"], size=8192)      # "photos/cat/7.jpg" and "cat", ...
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import NoReturn

from data.cells import readable, shown
from data.errors import DataError
from data.tables.table import Chunk

EXTENSIONS = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")
FILE = "file"  # the column, and the key of records, that has the path of a picture

# Less common names of the same formats, and pictures of formats that have to be converted first.
_ALIASES = (".jpe", ".jfif", ".jfi", ".jif", ".pjpeg", ".pjpg", ".pjp", ".apng", ".dib")
_OTHERS = (
    *(".tif", ".tiff", ".heic", ".heif", ".hif", ".avif", ".jxl", ".jp2", ".j2k", ".jpx"),
    *(".ico", ".psd", ".svg", ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".pcx", ".exr"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".orf", ".rw2", ".raw", ".dcm"),
)
_LITTER = ("thumbs.db", "desktop.ini")  # which systems leave in folders, as hidden files are

_TRAIN = ("train", "training")
_JUDGING = {
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}


class PicturesTable:
    """Picture files, one a row; the cells are text: their paths, and what goes with them."""

    folder = Path()

    def __init__(
        self,
        name: str,
        files: list[str],
        cells: dict[str, list[str]],
        facts: Mapping[str, int] | None = None,
    ):
        """Takes what to call the table, the files, column name -> one cell a file, and what is
        worth saying of the table."""
        self.name = name
        self.facts = dict(facts or {})
        self._files = files
        self._cells = cells

    def size(self) -> int:
        """The files' bytes together."""
        return sum(Path(file).stat().st_size for file in self._files if Path(file).exists())

    def columns(self) -> list[str]:
        return list(self._cells)

    def where(self, row: int) -> str:
        """The path of a row's picture."""
        return shown(self._files[row - 1])

    def chunks(self, columns: Sequence[str], size: int) -> Iterator[Chunk]:
        for start in range(0, len(self._files), size):
            stop = min(start + size, len(self._files))
            cells = {column: self._cells[column][start:stop] for column in columns}
            yield Chunk(list(range(start + 1, stop + 1)), cells, [])


class FolderTable(PicturesTable):
    """The pictures in the folders of a folder, each folder named like the class of its pictures.

    Pictures may lie deeper in their class' folder. Hidden files and folders are left out, and so
    are files that don't end like pictures, which are counted.
    """

    def __init__(self, path: str, name: str, image_column: str, label_column: str):
        """Takes the folder, what to call it, and what to call the two columns.

        Raises:
            DataError: there are no class folders, one is empty or has a name that is no text, a
                picture is in none, or they are the folders of splits.
        """
        entries = sorted(_entries(Path(path)))
        classes = [entry for entry in entries if entry.is_dir()]
        if not classes:
            raise DataError(f"{name} has no class folders; put pictures into {name}/CLASS/.")
        _refuse_splits(name, classes)
        left_out: Counter[str] = Counter()
        for entry in entries:
            if is_picture(entry.name) and not entry.is_dir():
                raise DataError(
                    f"{shown(str(entry))} lies beside the class folders; move it into the folder "
                    "of its class."
                )
            if is_other_picture(entry.name) and not entry.is_dir():
                left_out[_left_out(str(entry))] += 1
        files: list[str] = []
        labels: list[str] = []
        for folder in classes:
            if not _is_text(folder.name):
                raise DataError(
                    f"{shown(str(folder))}: the folder's name is not UTF-8, and so no label; "
                    "rename the folder."
                )
            found = pictures_in(str(folder))
            if not found.files:
                raise DataError(
                    f"{shown(str(folder))} has no pictures ({', '.join(EXTENSIONS)}); remove the "
                    "folder, or fill it."
                )
            files += found.files
            labels += [folder.name] * len(found.files)
            left_out += found.left_out
        super().__init__(name, files, {image_column: files, label_column: labels}, left_out)


@dataclass(frozen=True)
class Found:
    """What is in a folder."""

    files: list[str]
    """The paths of the pictures, sorted."""

    left_out: Counter[str]
    """What is not among them, in words, and how many of it."""

    others: list[str]
    """The paths of pictures that have to be converted first, which are left out, too; sorted."""


def pictures_in(folder: str) -> Found:
    """The pictures anywhere in a folder.

    Hidden files and folders are left out. Folders that are links are followed, but each folder is
    looked into once, and none that the folder itself lies in.

    Raises:
        DataError: a folder can't be read.
    """
    files: list[str] = []
    others: list[str] = []
    left_out: Counter[str] = Counter()
    around = (Path(folder).absolute(), Path(folder).resolve())
    seen = {_identity(path) for inner in around for path in (inner, *inner.parents)}
    for parent, folders, names in os.walk(folder, onerror=_raise_unreadable, followlinks=True):
        visible = sorted(name for name in folders if not _hidden(name))
        folders.clear()
        for name in visible:
            identity = _identity(Path(parent, name))
            if identity not in seen:
                folders.append(name)
            seen.add(identity)
        for name in names:
            path = str(Path(parent, name))
            if is_picture(name) and not _hidden(name):
                files.append(path)
            elif not _hidden(name) and name.lower() not in _LITTER:
                left_out[_left_out(path)] += 1
                if is_other_picture(name):
                    others.append(path)
    return Found(sorted(files), left_out, sorted(others))


def is_picture(path: str) -> bool:
    """Whether a file's name ends like that of a picture that can be decoded."""
    return path.lower().endswith(EXTENSIONS + _ALIASES)


def is_other_picture(path: str) -> bool:
    """Whether a file's name ends like that of a picture that has to be converted first."""
    return path.lower().endswith(_OTHERS)


def _refuse_splits(name: str, classes: Sequence[Path]) -> None:
    """Raises a DataError if folders are those of training and other data, with classes inside."""
    inside = {folder.name.lower(): folder for folder in classes if _holds_folders(folder)}

    def first(names: Sequence[str]) -> Path | None:
        return next((inside[name] for name in names if name in inside), None)

    found = {"train": first(_TRAIN)}
    found |= {split: first(names) for split, names in _JUDGING.items()}
    given = {split: folder for split, folder in found.items() if folder is not None}
    if "train" in given and (len(given) > 1 or len(classes) == 1):
        options = (f"--data.{split} {quote(str(folder))}" for split, folder in given.items())
        names = ", ".join(folder.name for folder in given.values())
        raise DataError(
            f"{name} has the folders of splits in it ({names}), not of classes; "
            f"give {' '.join(options)}."
        )


def _holds_folders(folder: Path) -> bool:
    """Whether there are folders in a folder, and no pictures."""
    entries = _entries(folder)
    return any(entry.is_dir() for entry in entries) and not any(
        is_picture(entry.name) and not entry.is_dir() for entry in entries
    )


def _entries(folder: Path) -> list[Path]:
    """What is in a folder, but for what is hidden."""
    try:
        return [entry for entry in folder.iterdir() if not _hidden(entry.name)]
    except PermissionError as error:
        _raise_unreadable(error)


def _left_out(path: str) -> str:
    """What to count a file as that is left out, in words."""
    if not Path(path).exists():
        return "broken links left out"
    ending = readable(Path(path).suffix).lower()
    return f"{shown(ending)} files left out" if ending else "files without an ending left out"


def _identity(path: Path) -> tuple[int, int]:
    """What is the same for two paths of one folder."""
    status = path.stat()
    return status.st_dev, status.st_ino


def _raise_unreadable(error: OSError) -> NoReturn:
    raise DataError(
        f"{shown(str(error.filename))} can't be read ({error.strerror}); allow it, or remove the "
        "folder."
    ) from error


def _is_text(name: str) -> bool:
    return readable(name) == name


def _hidden(name: str) -> bool:
    return name.startswith(".")
