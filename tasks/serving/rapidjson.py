"""JSON the way TensorFlow Serving sets up RapidJSON 1.1.0 to read and write it.

    document = parse(b'{"instances": [1.5, NaN]} what follows is ignored')

Valid bodies go through Python's own parser, which is fast; only what that one refuses, or would
read differently, goes through `parse_exactly`, which finds RapidJSON's message and byte offset.
Strings hold bytes that are not UTF-8 as surrogate escapes. Of a key that comes twice the first
value counts; watching for that costs a body of many small objects 0.2 microseconds for each.

Known to differ: doubles are rounded correctly, where RapidJSON may be off by a unit in the last
place beyond 15 digits; and `parse` takes a number too big for a double for an infinity: call
`parse_exactly` where `may_overflow` and that matters.
"""

import json
import math
import re
from ctypes import c_float
from typing import Any

from tasks.protocol.errors import ServingError, invalid_argument

# Bytes of a body up to which one that Python's fast reader does not take is read a token at a time,
# for the very message of the stock server: that is some microseconds a token.
LONG = 2**20


class RepeatedKeys(dict[str, Any]):
    """An object with a repeated key: reads as its first values; `members` has every pair."""

    def __init__(self, members: list[tuple[str, Any]]) -> None:
        super().__init__(reversed(members))
        self.members = members


def parse(body: bytes) -> Any:
    """The first JSON value of `body`; raises `ServingError` if there is none."""
    if not body:
        raise invalid_argument("JSON Parse error: The document is empty")
    if _lone_surrogate(body):
        return parse_exactly(body)
    text = body[_start(body) :].decode("utf-8", "surrogateescape")
    try:
        value, _ = _DECODER.raw_decode(text)
    except (ValueError, RecursionError) as error:
        if isinstance(error, json.JSONDecodeError) and len(body) > LONG:
            read = len(text[: error.pos].encode("utf-8", "surrogateescape"))
            raise _parse_error("Invalid value.", _start(body) + read) from None
        return parse_exactly(body)
    # Python ends a number that is not in an object where it stops to be one.
    return value if isinstance(value, dict) or len(body) > LONG else parse_exactly(body)


def parse_exactly(body: bytes) -> Any:
    """Like `parse`, one token at a time, at any depth."""
    open_values: list[Any] = []  # a list for an array, a list of pairs in a tuple for an object
    names: list[str] = []
    at, missing = _start(body), "The document is empty."
    while True:
        at = _skip(body, at)
        mark = body[at : at + 1]
        if mark in _NO_VALUE:
            raise _parse_error(missing, at)
        value: Any
        if mark == b"[":
            at = _skip(body, at + 1)
            if body[at : at + 1] != b"]":
                open_values.append([])
                missing = "Invalid value."
                continue
            value, at = [], at + 1
        elif mark == b"{":
            at = _skip(body, at + 1)
            if body[at : at + 1] != b"}":
                name, at = _name(body, at)
                names.append(name)
                open_values.append(([],))
                missing = "Invalid value."
                continue
            value, at = {}, at + 1
        else:
            value, at = _scalar(body, at)
        value, at, done = _close(body, at, value, open_values, names)
        if done:
            return value
        missing = "Invalid value."


def may_overflow(body: bytes) -> bool:
    """Whether a number in `body` can be too big for a double, which RapidJSON refuses."""
    # Not a regular expression: those try many ways, and hold up all threads meanwhile.
    shape = body.translate(_SHAPE, b"+")
    return b"e000" in shape or b"0" * 300 in shape


def is_integer(value: Any) -> bool:
    """Whether RapidJSON holds a value as an integer; beyond 64 bits it makes a double of it."""
    return type(value) is int and -(2**63) <= value < 2**64


def type_name(value: Any) -> str:
    """The type of a parsed value, as messages call it."""
    if value is None or isinstance(value, bool):
        return {None: "Null", True: "True", False: "False"}[value]
    if isinstance(value, str):
        return "String"
    if isinstance(value, list):
        return "Array"
    return "Object" if isinstance(value, dict) else "Number"


def to_text(value: Any) -> str:
    """A parsed value as messages quote it.

    A number on its own has a float's precision if it fits one. Inside an array or object it has the
    writer's, and NaN or an infinity cuts the text off, as that writer cannot print them. Of a text
    of more than 65,536 characters, the beginning: indented, it can be a thousand times the body.
    """
    if type(value) in (int, float) and not is_integer(value):
        value = float(value)
        return decimal(value, single=abs(value) <= 3.4028234e38)
    parts = _Quoted()
    try:
        _write(value, parts, "\n")
    except _Full:
        return "".join(parts) + "..."
    return "".join(parts)


class _Full(Exception):
    """There is no room for more."""


class _Quoted(list[str]):
    """The parts of a text, as long as there is room for them."""

    room = 65_536  # characters

    def append(self, part: str) -> None:
        """Adds a part, or as much of it as there is room for.

        Raises:
            _Full: that was not all of it.
        """
        super().append(part[: self.room])
        self.room -= len(part)
        if self.room < 0:
            raise _Full


def quote(text: str) -> str:
    """A string with quotes, escaped."""
    if _ESCAPED.search(text):
        text = text.translate(_ESCAPES)
    return f'"{text}"'


def decimal(value: float, single: bool) -> str:
    """A float (`single`) or double as the server prints it.

    Six digits if they read back as the same number, else as many as any number needs: 9 or 17.
    """
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if single:
        value = c_float(value).value
    text = f"{value:.6g}"
    read_back = c_float(float(text)).value if single else float(text)
    if read_back != value:
        text = f"{value:.9g}" if single else f"{value:.17g}"
    return text if "." in text or "e" in text else text + ".0"


def _object(members: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(members)
    return value if len(value) == len(members) else RepeatedKeys(members)


_DECODER = json.JSONDecoder(object_pairs_hook=_object)

_SPACE = re.compile(rb"[ \t\n\r]*")
_PAIR = re.compile(rb"(?<!\\)\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_SHAPE = bytes.maketrans(b"123456789E", b"000000000e")
_UNESCAPED = re.compile(rb'[^"\\\x00-\x1f]*')
_HEX = re.compile(rb"[0-9a-fA-F]{4}")
_INTEGER = re.compile(rb"0|[1-9][0-9]*")
_DIGITS = re.compile(rb"[0-9]*")
_ESCAPED = re.compile(r'["\\\x00-\x1f]')

# RapidJSON takes a NUL for the end of the body.
_NO_VALUE = (b"", b"\0", b"]", b"}", b",", b":")
_PLAIN_ESCAPES = dict(zip(b'"/\\bfnrt', b'"/\\\b\f\n\r\t', strict=True))
_ESCAPES = {code: f"\\u{code:04X}" for code in range(0x20)} | {
    ord(char): f"\\{name}" for char, name in zip('"\\\b\f\n\r\t', '"\\bfnrt', strict=True)
}


def _lone_surrogate(body: bytes) -> bool:
    """Whether an escaped surrogate may lack its other half, which Python's parser lets pass."""
    if b"\\u" not in body or not _SURROGATE.search(body):
        return False
    return _SURROGATE.search(_PAIR.sub(b"", body)) is not None


def _start(body: bytes) -> int:
    at = 0
    for mark in (b"\xef", b"\xbb", b"\xbf"):  # RapidJSON skips each byte of the BOM on its own
        at += body[at : at + 1] == mark
    return _skip(body, at)


def _skip(body: bytes, at: int) -> int:
    match = _SPACE.match(body, at)
    assert match
    return match.end()


def _parse_error(message: str, offset: int) -> ServingError:
    return invalid_argument(f"JSON Parse error: {message} at offset: {offset}")


def _close(
    body: bytes, at: int, value: Any, open_values: list[Any], names: list[str]
) -> tuple[Any, int, bool]:
    """Puts a finished value into what is open, and closes what ends after it."""
    while open_values:
        at = _skip(body, at)
        mark = body[at : at + 1]
        top = open_values[-1]
        if isinstance(top, list):
            top.append(value)
            if mark not in (b",", b"]"):
                raise _parse_error("Missing a comma or ']' after an array element.", at)
            closed: Any = top
        else:
            top[0].append((names.pop(), value))
            if mark not in (b",", b"}"):
                raise _parse_error("Missing a comma or '}' after an object member.", at)
            closed = top[0]
        at += 1
        if mark == b",":
            if isinstance(top, tuple):
                name, at = _name(body, _skip(body, at))
                names.append(name)
            return None, at, False
        open_values.pop()
        value = closed if isinstance(top, list) else _object(closed)
    return value, at, True


def _name(body: bytes, at: int) -> tuple[str, int]:
    if body[at : at + 1] != b'"':
        raise _parse_error("Missing a name for object member.", at)
    name, at = _string(body, at)
    at = _skip(body, at)
    if body[at : at + 1] != b":":
        raise _parse_error("Missing a colon after a name of object member.", at)
    return name, at + 1


def _scalar(body: bytes, at: int) -> tuple[Any, int]:
    mark = body[at : at + 1]
    if mark == b'"':
        return _string(body, at)
    if mark == b"n":
        return None, _word(body, at, b"null")
    if mark == b"t":
        return True, _word(body, at, b"true")
    if mark == b"f":
        return False, _word(body, at, b"false")
    return _number(body, at)


def _word(body: bytes, at: int, word: bytes) -> int:
    """The end of `word`, which has to be at `at`."""
    for offset in range(len(word)):
        if body[at + offset : at + offset + 1] != word[offset : offset + 1]:
            raise _parse_error("Invalid value.", at + offset)
    return at + len(word)


def _string(body: bytes, at: int) -> tuple[str, int]:
    parts = []
    at += 1
    while True:
        match = _UNESCAPED.match(body, at)
        assert match
        parts.append(match.group())
        at = match.end()
        mark = body[at : at + 1]
        if mark == b'"':
            return b"".join(parts).decode("utf-8", "surrogateescape"), at + 1
        if mark in (b"", b"\0"):
            raise _parse_error("Missing a closing quotation mark in string.", at)
        if mark != b"\\":
            raise _parse_error("Invalid escape character in string.", at)
        part, at = _escape(body, at)
        parts.append(part)


def _escape(body: bytes, start: int) -> tuple[bytes, int]:
    kind = body[start + 1 : start + 2]
    if kind and kind[0] in _PLAIN_ESCAPES:
        return bytes([_PLAIN_ESCAPES[kind[0]]]), start + 2
    if kind != b"u":
        raise _parse_error("Invalid escape character in string.", start)
    code = _hex(body, start + 2, start)
    at = start + 6
    if 0xD800 <= code <= 0xDBFF:
        second = _hex(body, at + 2, start) if body[at : at + 2] == b"\\u" else 0
        if not 0xDC00 <= second <= 0xDFFF:
            raise _parse_error("The surrogate pair in string is invalid.", start)
        code = 0x10000 + ((code - 0xD800) << 10) + second - 0xDC00
        at += 6
    return chr(code).encode("utf-8", "surrogatepass"), at


def _hex(body: bytes, at: int, start: int) -> int:
    match = _HEX.match(body, at)
    if not match:
        raise _parse_error("Incorrect hex digit after \\u escape in string.", start)
    return int(match.group(), 16)


def _number(body: bytes, start: int) -> tuple[int | float, int]:
    minus = body[start : start + 1] == b"-"
    at = start + minus
    match = _INTEGER.match(body, at)
    if not match:
        return _constant(body, at, minus)
    whole, at = match.group(), match.end()
    if len(whole) > 300:
        _check_whole(whole, start)
    fraction, exponent = b"", b""
    if body[at : at + 1] == b".":
        fraction, at = _digits(body, at + 1, "Miss fraction part in number.")
    if body[at : at + 1] in (b"e", b"E"):
        at += 1
        sign = body[at : at + 1] in (b"+", b"-")
        digits, end = _digits(body, at + sign, "Miss exponent in number.")
        exponent, at = body[at : at + sign] + digits, end
        if not exponent.startswith(b"-"):
            _check_exponent(whole, fraction, digits, start)
    if not fraction and not exponent and len(whole) <= 20:
        value = int(body[start:at])
        return (value if is_integer(value) else float(value)), at
    return float(body[start:at]), at


def _digits(body: bytes, at: int, missing: str) -> tuple[bytes, int]:
    match = _DIGITS.match(body, at)
    assert match
    if not match.group():
        raise _parse_error(missing, at)
    return match.group(), match.end()


def _constant(body: bytes, at: int, minus: bool) -> tuple[float, int]:
    if body.startswith(b"NaN", at):
        return math.nan, at + 3
    # RapidJSON does not go back when that fails: "NaInf" is an infinity.
    at += 2 if body.startswith(b"Na", at) else body.startswith(b"N", at)
    at = _word(body, at, b"Inf")
    if body.startswith(b"i", at):
        at = _word(body, at, b"inity")
    return (-math.inf if minus else math.inf), at


def _check_whole(digits: bytes, start: int) -> None:
    """RapidJSON refuses one digit more once a tenth of the largest double is reached."""
    value = 0.0
    for digit in digits:
        if value >= 1.7976931348623157e307:
            raise _parse_error("Number too big to be stored in double.", start)
        value = value * 10 + (digit - ord("0"))


def _check_exponent(whole: bytes, fraction: bytes, digits: bytes, start: int) -> None:
    """RapidJSON bounds the exponent by the digits of the fraction that it takes into account."""
    digits = digits.lstrip(b"0")
    if len(digits) < 3:
        return
    used, significant = 0, len(whole) - 1
    value = int(whole) if len(whole) <= 20 else 2**64
    if value < 2**64:
        while used < len(fraction) and value < 2**53:
            value = value * 10 + (fraction[used] - ord("0"))
            used += 1
            significant += value != 0
    while used < len(fraction) and significant < 17:
        value = value or fraction[used] - ord("0")
        used += 1
        significant += value != 0
    if len(digits) > 9 or int(digits) > 308 + used:
        raise _parse_error("Number too big to be stored in double.", start)


def _write(value: Any, parts: _Quoted, line: str) -> bool:
    """Appends a value, four blanks a level; False when it had to stop at a NaN or an infinity."""
    inner = line + "    "
    if isinstance(value, dict):
        members = value.members if isinstance(value, RepeatedKeys) else list(value.items())
        parts.append("{")
        for index, (name, member) in enumerate(members):
            parts.append(f"{',' if index else ''}{inner}{quote(name)}: ")
            if not _write(member, parts, inner):
                return False
        parts.append(f"{line}}}" if members else "}")
    elif isinstance(value, list):
        parts.append("[")
        for index, member in enumerate(value):
            parts.append(f"{',' if index else ''}{inner}")
            if not _write(member, parts, inner):
                return False
        parts.append(f"{line}]" if value else "]")
    elif isinstance(value, str):
        parts.append(quote(value[: parts.room + 1]))
    elif value is None or isinstance(value, bool):
        parts.append({None: "null", True: "true", False: "false"}[value])
    elif is_integer(value):
        parts.append(str(value))
    elif math.isfinite(value := float(value)):
        parts.append(_shortest(value))
    else:
        return False
    return True


def _shortest(value: float) -> str:
    """A double as RapidJSON's own writer prints it.

    Its algorithm misses the shortest digits for one number in a thousand; this one never does.
    """
    if value == 0:
        return "-0.0" if math.copysign(1, value) < 0 else "0.0"
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = f"{abs(value)!r}e0".partition("e")
    whole, _, fraction = mantissa.partition(".")
    point = len(whole) + int(exponent.removesuffix("e0"))
    digits = (whole + fraction).lstrip("0")
    point -= len(whole + fraction) - len(digits)
    digits = digits.rstrip("0")
    if len(digits) <= point <= 21:
        return f"{sign}{digits.ljust(point, '0')}.0"
    if 0 < point <= 21:
        return f"{sign}{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"{sign}0.{'0' * -point}{digits}"
    rest = f".{digits[1:]}" if len(digits) > 1 else ""
    return f"{sign}{digits[0]}{rest}e{point - 1}"
