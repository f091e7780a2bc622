"""Markdown that GitHub and TensorBoard both show as meant, whatever the text in it."""

import re
import unicodedata
from collections.abc import Iterable, Sequence

_SPECIAL = re.compile(r"[\\`*\[\]<>|~$]|(?<![^\W_])_|_(?![^\W_])|&(?=#?\w+;)")


def table(header: Sequence[str], rows: Iterable[Sequence[object]], numbers: Sequence[str] = ()):
    """A table of plain texts; the columns named in `numbers` are aligned to the right."""
    lines = [
        _row(header),
        _row_of_raw("---:" if name in numbers else "---" for name in header),
        *(_row(row) for row in rows),
    ]
    return "\n".join(lines) + "\n"


def escape(text: object, limit: int = 400) -> str:
    """The text on one line, at most `limit` characters, with nothing that Markdown or HTML reads.

    Special characters become entities: GitHub and TensorBoard differ in what a backslash escapes.
    """
    line = printable(str(text))
    if len(line) > limit:
        line = line[: limit - 1] + "…"
    return _SPECIAL.sub(lambda found: f"&#{ord(found[0])};", line)


def printable(text: str) -> str:
    """The text without line breaks, control characters and repeated blanks."""
    visible = (" " if unicodedata.category(c) in _UNPRINTABLE else c for c in text)
    return " ".join("".join(visible).split())


_UNPRINTABLE = {"Cc", "Cs", "Co", "Cn", "Zl", "Zp"}


def _row(cells: Iterable[object]) -> str:
    return _row_of_raw(escape(cell) for cell in cells)


def _row_of_raw(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"
