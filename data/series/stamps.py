"""Time stamps as they are in tables: texts, dates, or numbers.

    stamps = Stamps.of(["2016-07-01 00:00:00", "2016-07", "2020-Q1", 1467331200, None])
    stamps.dates, stamps.numbers, stamps.problems      # problems: {4: "is empty"}

What the numbers of a column count is told by all of them together, so the stamps of a table's
chunks are joined before a `Clock` says which times they are.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np

from data.cells import clip

LARGEST = 1e20  # nanoseconds, for which there is no int64
NEVER = NAIVE = np.iinfo(np.int64).min
# 2016, 201607, 20160701 and, with the time of day, 2016070113, 201607011305, 20160701130500.
_DATES = {4: "%Y", 6: "%Y%m", 8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}
_YEARS, _TIMED_YEARS = range(1500, 2201), range(1900, 2201)
_OFFSET = re.compile(r"(?:[Zz]|([-+]\d\d):?(\d\d)?)$")
_UTC = re.compile(r" ?(?:UTC|GMT)$")  # as BigQuery writes it
_QUARTER = re.compile(r"(\d{4})-?[Qq]([1-4])")
_WEEK = re.compile(r"\d{4}-?W\d\d(-?[1-7])?")


@dataclass(frozen=True, eq=False)
class Stamps:
    """Cells of a column of time stamps."""

    dates: np.ndarray
    """int64 microseconds since 1970-01-01 UTC of texts and dates; NEVER where a cell is none."""

    offsets: np.ndarray
    """int64 seconds that each of `dates` says its clock is ahead of UTC; NAIVE where it does not,
    and is taken for UTC."""

    numbers: np.ndarray
    """float64 numbers, NaN where a cell is none."""

    problems: dict[int, str]
    """What is wrong, by position, with cells that are neither."""

    zone: str = ""
    """The time zone that all dates are of, as the IANA names it, if they say so."""

    @classmethod
    def of(cls, cells: list[Any]) -> "Stamps":
        """The stamps in some cells."""
        import pandas as pd

        if any(isinstance(cell, bytes) for cell in cells):
            cells = [c.decode(errors="replace") if isinstance(c, bytes) else c for c in cells]
        numbers = to_numbers(cells)
        numbers[np.abs(numbers) >= LARGEST] = np.nan
        dates, offsets, zone = np.full(len(cells), NEVER), np.full(len(cells), NAIVE), ""
        rest = np.flatnonzero(np.isnan(numbers))
        if len(rest):
            texts = [_dated(cells[position]) for position in rest]
            found = pd.to_datetime(
                pd.Series(texts, dtype=object), format="ISO8601", utc=True, errors="coerce"
            )
            naive = found.dt.tz_localize(None).to_numpy()
            dates[rest] = naive.astype("datetime64[us]").astype(np.int64)
            offsets[rest], zone = _offsets(texts)
        neither = np.flatnonzero((dates == NEVER) & np.isnan(numbers))
        problems = {int(i): _complaint(cells[i]) for i in neither}
        return cls(dates, offsets, numbers, problems, zone)

    @classmethod
    def joined(cls, parts: "Sequence[Stamps]") -> "Stamps":
        """One after another; of cells without problems."""
        dates = np.concatenate([np.zeros(0, np.int64), *(part.dates for part in parts)])
        offsets = np.concatenate([np.zeros(0, np.int64), *(part.offsets for part in parts)])
        numbers = np.concatenate([np.zeros(0), *(part.numbers for part in parts)])
        zones = {part.zone for part in parts}
        return cls(dates, offsets, numbers, {}, zones.pop() if len(zones) == 1 else "")

    def take(self, positions: np.ndarray) -> "Stamps":
        """Those at some positions, which have no problems."""
        dates, offsets = self.dates[positions], self.offsets[positions]
        return Stamps(dates, offsets, self.numbers[positions], {}, self.zone)


def stamp_text(seconds: int) -> str:
    """A time for a message: "2016-07-01 12:00:00", or the date alone at midnight."""
    return str(np.datetime64(int(seconds), "s")).replace("T", " ").removesuffix(" 00:00:00")


def to_numbers(cells: list[Any]) -> np.ndarray:
    """The cells as float64; NaN where one is no number."""
    import pandas as pd

    series = pd.Series(cells, dtype=object)
    try:
        return pd.to_numeric(series, errors="coerce").to_numpy(np.float64, copy=True)
    except OverflowError:  # an integer of JSON has as many digits as it likes
        texts = series.map(lambda cell: str(cell) if isinstance(cell, int) else cell)
        return pd.to_numeric(texts, errors="coerce").to_numpy(np.float64, copy=True)


def dates_by_digits(numbers: np.ndarray) -> np.ndarray | None:
    """Seconds of years (2016), months (201607), days (20160701) or times (201607011305), if all
    numbers are such."""
    import pandas as pd

    digits = len(str(int(numbers[0])))
    form = _DATES.get(digits)
    if form is None or (numbers % 1 != 0).any():
        return None
    years = numbers // 10 ** (digits - 4)
    known = _YEARS if digits <= 8 else _TIMED_YEARS  # seconds since 1970 may look alike
    if years.min() < known.start or years.max() >= known.stop:
        return None
    texts = pd.Series(numbers.astype(np.int64)).astype(str)
    dates = pd.to_datetime(texts, format=form, errors="coerce").to_numpy()
    if np.isnat(dates).any():
        return None
    return dates.astype("datetime64[s]").astype(np.int64)


def _dated(cell: Any) -> date | str | None:
    """What may be a date; pandas would take "now" and "today" for dates too, and knows no quarters
    and weeks."""
    if not isinstance(cell, str):
        return cell if isinstance(cell, date) else None
    text = _UTC.sub("Z", cell.strip())
    if not text[:1].isdigit():
        return None
    if "Q" in text or "q" in text:
        quarter = _QUARTER.fullmatch(text)
        return f"{quarter[1]}-{3 * int(quarter[2]) - 2:02}" if quarter else None
    if "W" in text and _WEEK.fullmatch(text):
        try:
            return date.fromisoformat(text)
        except ValueError:  # a year of 52 weeks
            return None
    return text


def _offsets(cells: list[Any]) -> tuple[np.ndarray, str]:
    """How far ahead of UTC the clocks of dates are, in seconds, and the zone that all are of."""
    zones = {cell.tzinfo for cell in cells if isinstance(cell, datetime)}
    known: dict[str, int] = {}
    offsets = np.full(len(cells), NAIVE)
    for position, cell in enumerate(cells):
        if isinstance(cell, str):
            if len(cell) <= 10:
                continue
            end = cell[-6:]
            if end not in known:
                known[end] = _offset(end)
            offsets[position] = known[end]
        elif isinstance(cell, datetime) and cell.tzinfo is not None:
            ahead = cell.utcoffset()
            offsets[position] = NAIVE if ahead is None else int(ahead.total_seconds())
    named = getattr(zones.pop(), "key", None) if len(zones) == 1 else None
    return offsets, named or ""


def _offset(text: str) -> int:
    found = _OFFSET.search(text)
    if found is None:
        return int(NAIVE)
    if found[1] is None:
        return 0
    hours, minutes = int(found[1]), int(found[2] or 0)
    return hours * 3600 + (-60 if found[1][0] == "-" else 60) * minutes


def _complaint(cell: Any) -> str:
    if cell is None or cell != cell or (isinstance(cell, str) and not cell.strip()):
        return "is empty"
    return f"is {clip(repr(cell))}, not a time stamp such as 2016-07-01 00:00:00 or 2016-07"
