"""Cells of tables: as messages show them, and as bytes."""

import base64
from typing import Any


def clip(text: str, length: int = 40) -> str:
    """The text on one line, shortened for a message."""
    line = " ".join(text.split())
    return line if len(line) <= length else line[: length - 1] + "…"


def shown(path: str) -> str:
    """A path on one line, for a message; octets in it that are no UTF-8 are as \\xe9."""
    path = readable(path)
    return clip(path if path.isprintable() else repr(path), 200)


def readable(path: str) -> str:
    """A path as text that can be written as UTF-8, in which octets that are none are as \\xe9."""
    try:
        return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # half of a surrogate pair, which no file's name can have
        return path.encode("utf-8", "backslashreplace").decode("utf-8")


def from_base64(text: Any) -> bytes | None:
    """The bytes that a text encodes; None if it doesn't."""
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError):
        return None
