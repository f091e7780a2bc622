"""The parts of a record, and how the cells of a file become them.

values, problems = Field("stars", "label").convert(["1", 2, 3.0, None])
# ["1", "2", "3", None], {3: "column 'stars' is empty"}
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from data.cells import Problem, clip, from_base64, tidy

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Field:
    """One part of a record and the column it comes from."""

    column: str
    """The column's name; "0", "1", ... in files without a header."""

    kind: Literal["text", "label", "number", "bytes", "image", "sequence"] = "text"
    """text: kept as it is. label: the str() of a scalar, so True is "True"; but an integral float,
    which is what integers become beside nulls in many tools, loses its ".0"; without white space
    around it, and in Unicode's form NFC, as labels that look alike are one. number: float32.
    bytes: kept as they are, or decoded where they are {"b64": "..."}. image: the bytes of an
    encoded picture, from bytes, the path of a file, {"bytes": ..., "path": ...} as Hugging Face's
    Parquet files have it, or {"b64": "..."}; it is decoded once to see that it is whole. sequence:
    float32 (steps, features), which tables of `data.series.sequence_tables` have in their cells."""

    required: bool = True
    """Whether the column and each of its cells must be there."""

    option: str = ""
    """The option that names the column, for messages: "--data.text_column"."""

    max_pixels: int | None = 2**26
    """Pixels that a picture may have; None takes pictures unchecked, as when read once more."""

    @property
    def missing(self) -> Any:
        """What an optional field holds where its cell is empty."""
        return {"number": float("nan"), "bytes": b"", "image": b""}.get(self.kind, "")

    def convert(self, cells: list[Any], folder: Path = Path()) -> tuple[list[Any], dict[int, str]]:
        """The cells' values, and by position why some are None: null, blank or not of this kind.

        Args:
            cells: what the rows of a table hold, or what is wrong with them.
            folder: what the paths of pictures are relative to.
        """
        if self.kind == "sequence":
            wrong = [i for i, cell in enumerate(cells) if isinstance(cell, Problem)]
            problems: dict[int, str] = {i: cells[i] for i in wrong}
            return [None if i in problems else cell for i, cell in enumerate(cells)], problems
        if self.kind == "image":
            values, problems = self._pictures(cells, folder)
        else:
            values = self._values(cells)
            bad = [i for i, value in enumerate(values) if value is None] if None in values else []
            problems = {index: self._complaint(cells[index]) for index in bad}
        if not self.required:
            for index in [index for index in problems if self.is_empty(cells[index])]:
                values[index] = self.missing
                del problems[index]
        return values, problems

    def is_empty(self, cell: Any) -> bool:
        """Whether a cell is null, NaN, or text or bytes with nothing but blanks."""
        if isinstance(cell, dict) and self.kind == "image":
            return all(part is None for part in cell.values())
        if isinstance(cell, str):
            return not tidy(cell)
        return cell is None or cell != cell or (isinstance(cell, bytes) and not cell.strip())

    def array(self, values: list[Any]) -> np.ndarray:
        """Converted values as an array of objects, or of float32 for numbers."""
        if self.kind == "number":
            return np.array(values, np.float32)
        return np.fromiter(values, object, len(values))  # also where the values are arrays

    def _values(self, cells: list[Any]) -> list[Any]:
        """Each cell's value, or None where it has none of this kind."""
        cell_to_value = _CONVERTERS[self.kind]
        if self.kind == "label" and set(map(type, cells)) == {str}:
            # Labels are few, and rows are many.
            known = {cell: cell_to_value(cell) for cell in set(cells)}
            return [known[cell] for cell in cells]
        return [cell_to_value(cell) for cell in cells]

    def _pictures(self, cells: list[Any], folder: Path) -> tuple[list[Any], dict[int, str]]:
        from data.images.pictures import load_pictures

        found = load_pictures(cells, folder, f"column '{self.column}'", self.max_pixels)
        problems = {index: why for index, why in enumerate(found) if isinstance(why, str)}
        return [None if isinstance(value, str) else value for value in found], problems

    def _complaint(self, cell: Any) -> str:
        """Why a cell that became None is no good, in words."""
        if isinstance(cell, Problem):
            return cell
        name = f"column '{self.column}'"
        if self.is_empty(cell):
            return f"{name} is empty"
        if self.kind == "number":
            return f"{name} is {clip(repr(cell))}, not a finite number"
        if isinstance(cell, bytes):
            return f"{name} is not UTF-8"
        if self.kind == "bytes" and isinstance(cell, dict) and "b64" in cell:
            return f"{name} is not base64"
        return f"{name} is a {type(cell).__name__}, not {_NOUNS[self.kind]}"


def _text(cell: Any) -> str | None:
    if type(cell) is not str:
        cell = _scalar(cell)
    return None if cell is None or not cell or cell.isspace() else cell


def _label(cell: Any) -> str | None:
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    text = _text(cell)
    return None if text is None else sys.intern(tidy(text)) or None


def _number(cell: Any) -> float | None:
    try:
        number = float(cell)
    except (TypeError, ValueError):
        return None
    if isinstance(cell, str) and "_" in cell:
        return None
    return number if abs(number) <= _LARGEST else None


def _bytes(cell: Any) -> bytes | None:
    if isinstance(cell, dict) and cell.keys() == {"b64"}:
        cell = from_base64(cell["b64"])
    return cell if isinstance(cell, bytes) and cell else None


def _scalar(cell: Any) -> str | None:
    """A scalar as text; None for a null, a container, or bytes that are not UTF-8."""
    if cell is None or cell != cell or isinstance(cell, list | tuple | dict | set | Problem):
        return None
    if isinstance(cell, bytes):
        try:
            return cell.decode("utf-8")
        except UnicodeDecodeError:
            return None
    return str(cell)


_CONVERTERS = {"text": _text, "label": _label, "number": _number, "bytes": _bytes}
_NOUNS = {"text": "a text", "label": "a label", "bytes": 'bytes (in JSON: {"b64": "..."})'}
