"""Cells of tables: as messages show them, and as bytes."""

import base64
from typing import Any


def clip(text: str, length: int = 40) -> str:
    """The text on one line, shortened for a message."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"


def shown(path: str) -> str:
    """A path on one line, for a message."""
    return clip(path if path.isprintable() else repr(path), 200)


def from_base64(text: Any) -> bytes | None:
    """The bytes that a text encodes; None if it doesn't."""
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError):
        return None
