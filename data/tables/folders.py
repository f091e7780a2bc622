"""Picture files as tables: a folder of class folders, or any files to predict from.

photos/cat/7.jpg  photos/cat/more/8.png  photos/dog/9.jpg

table = FolderTable("photos", "photos", "image", "label")
table.chunks(["image", "label"], size=8192)      # "photos/cat/7.jpg" and "cat", ...
"""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from data.cells import shown
from data.errors import DataError
from data.tables.table import Chunk

EXTENSIONS = (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp")
FILE = "file"  # the column, and the key of records, that has the path of a picture


class PicturesTable:
    """Picture files, one a row; the cells are text: their paths, and what goes with them."""

    folder = Path()

    def __init__(self, name: str, files: list[str], cells: dict[str, list[str]]):
        """Takes what to call the table, the files, and column name -> one cell a file."""
        self.name = name
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
    are files that don't end like pictures.
    """

    def __init__(self, path: str, name: str, image_column: str, label_column: str):
        """Takes the folder, what to call it, and what to call the two columns.

        Raises:
            DataError: there are no class folders, one is empty, or a picture is in none.
        """
        entries = sorted(entry for entry in Path(path).iterdir() if not _hidden(entry.name))
        classes = [entry for entry in entries if entry.is_dir()]
        if not classes:
            raise DataError(f"{name} has no class folders; put pictures into {name}/CLASS/.")
        for entry in entries:
            if is_picture(entry.name) and not entry.is_dir():
                raise DataError(
                    f"{shown(str(entry))} lies beside the class folders; move it into the folder "
                    "of its class."
                )
        files: list[str] = []
        labels: list[str] = []
        for folder in classes:
            found = pictures_in(str(folder))
            if not found:
                raise DataError(
                    f"{shown(str(folder))} has no pictures ({', '.join(EXTENSIONS)}); remove the "
                    "folder, or fill it."
                )
            files += found
            labels += [folder.name] * len(found)
        super().__init__(name, files, {image_column: files, label_column: labels})


def pictures_in(folder: str) -> list[str]:
    """The paths of the pictures anywhere in a folder, sorted; hidden ones are left out."""
    found = []
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not _hidden(name)]
        found += [
            str(Path(parent, name)) for name in files if is_picture(name) and not _hidden(name)
        ]
    return sorted(found)


def is_picture(path: str) -> bool:
    """Whether a file's name ends like a picture's."""
    return path.lower().endswith(EXTENSIONS)


def _hidden(name: str) -> bool:
    return name.startswith(".")
