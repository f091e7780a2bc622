"""Cells of tables: as messages show them, and as bytes."""

import base64
import unicodedata
from typing import Any

_UNSEEN = "\ufeff\u200b\u2060"  # what has no width, and is no letter's part


class Problem(str):
    """What is wrong with a row, in words, in place of a cell of it that must be there."""


def clip(text: str, length: int = 40) -> str:
    """The text on one line, shortened for a message; what can't be printed as its escape."""
    line = " ".join(text.split())
    line = line if len(line) <= length else line[: length - 1] + "…"
    return line if line.isprintable() else "".join(map(_printable, line))


def exact(text: str) -> str:
    """A name for a message that shows what `clip` would hide: blanks around it, or Unicode's
    decomposed letters."""
    if text == tidy(text):
        return clip(text)
    return ascii(text) if text.strip() == tidy(text) else repr(text)


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


def tidy(text: str) -> str:
    """A name as it is compared: without white space around it, in Unicode's form NFC, as what
    looks the same is meant to be the same."""
    text = text.strip()
    if text.isascii():
        return text
    return unicodedata.normalize("NFC", text.strip(_UNSEEN).strip())


def from_base64(text: Any) -> bytes | None:
    """The bytes that a text encodes; None if it doesn't."""
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError):
        return None


def _printable(letter: str) -> str:
    return letter if letter.isprintable() else ascii(letter)[1:-1]
