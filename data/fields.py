"""The parts of a record, and how the cells of a file become them.

Field("stars", "label", option="--data.label_column").convert(["1", 2, 3.0, None])
# ["1", "2", "3", None]
"""

import sys
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class Field:
    """One part of a record and the column it comes from."""

    column: str
    """The column's name; "0", "1", ... in files without a header."""

    kind: Literal["text", "label", "number", "bytes"] = "text"
    """text: kept as it is. label: the str() of a scalar, so True is "True"; but an integral float,
    which is what integers become beside nulls in many tools, loses its ".0". number: float32.
    bytes: kept as they are."""

    required: bool = True
    """Whether the column and each of its cells must be there."""

    option: str = ""
    """The option that names the column, for messages: "--data.text_column"."""

    @property
    def missing(self) -> Any:
        """What an optional field holds where its cell is empty."""
        return {"number": float("nan"), "bytes": b""}.get(self.kind, "")

    def convert(self, cells: list[Any]) -> list[Any]:
        """The cells' values; None where one is null, empty, blank or not of this kind."""
        cell_to_value = _CONVERTERS[self.kind]
        return [cell_to_value(cell) for cell in cells]

    def is_empty(self, cell: Any) -> bool:
        """Whether a cell is null, NaN, or text or bytes with nothing but blanks."""
        return cell is None or cell != cell or (isinstance(cell, str | bytes) and not cell.strip())

    def array(self, values: list[Any]) -> np.ndarray:
        """Converted values as an array of objects, or of float32 for numbers."""
        return np.array(values, np.float32 if self.kind == "number" else object)

    def complaint(self, cell: Any) -> str:
        """Why a cell that `convert` made None is no good, in words."""
        name = f"column '{self.column}'"
        if self.is_empty(cell):
            return f"{name} is empty"
        if self.kind == "number":
            return f"{name} is {clip(repr(cell))}, not a finite number"
        if isinstance(cell, bytes):
            return f"{name} is not UTF-8"
        return f"{name} is a {type(cell).__name__}, not {_NOUNS[self.kind]}"


def clip(text: str, length: int = 40) -> str:
    """The text on one line, shortened for a message."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"


def _text(cell: Any) -> str | None:
    if type(cell) is not str:
        cell = _scalar(cell)
    return None if cell is None or not cell or cell.isspace() else cell


def _label(cell: Any) -> str | None:
    if isinstance(cell, float) and cell.is_integer():
        cell = int(cell)
    text = _text(cell)
    return None if text is None else sys.intern(text)


def _number(cell: Any) -> float | None:
    try:
        number = float(cell)
    except (TypeError, ValueError):
        return None
    if isinstance(cell, str) and "_" in cell:
        return None
    return number if abs(number) <= _LARGEST else None


def _bytes(cell: Any) -> bytes | None:
    return cell if isinstance(cell, bytes) and cell else None


def _scalar(cell: Any) -> str | None:
    """A scalar as text; None for a null, a container, or bytes that are not UTF-8."""
    if cell is None or cell != cell or isinstance(cell, list | tuple | dict | set):
        return None
    if isinstance(cell, bytes):
        try:
            return cell.decode("utf-8")
        except UnicodeDecodeError:
            return None
    return str(cell)


_CONVERTERS = {"text": _text, "label": _label, "number": _number, "bytes": _bytes}
_NOUNS = {"text": "a text", "label": "a label", "bytes": "bytes"}
