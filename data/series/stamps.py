"""Time stamps as they are in tables: texts, dates, or numbers of a unit that only all of them tell.

    stamps = Stamps.of(["2016-07-01 00:00:00", "2016-07", None])
    seconds, problems = stamps.seconds()      # problems: {2: "is empty"}

What the numbers of a column count is told by all of them together, so the stamps of a table's
chunks are joined before they become seconds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np

from data.cells import clip

LARGEST = 1e20  # nanoseconds, for which there is no int64
NEVER = np.iinfo(np.int64).min
_DATES = {4: "%Y", 6: "%Y%m", 8: "%Y%m%d"}  # 2016, 201607, 20160701
_YEARS = range(1000, 3001)


@dataclass(frozen=True, eq=False)
class Stamps:
    """Cells of a column of time stamps."""

    dates: np.ndarray
    """int64 microseconds since 1970-01-01 UTC of texts and dates; NEVER where a cell is none."""

    numbers: np.ndarray
    """float64 numbers, NaN where a cell is none."""

    problems: dict[int, str]
    """What is wrong, by position, with cells that are neither."""

    @classmethod
    def of(cls, cells: list[Any]) -> "Stamps":
        """The stamps in some cells."""
        import pandas as pd

        if any(isinstance(cell, bytes) for cell in cells):
            cells = [c.decode(errors="replace") if isinstance(c, bytes) else c for c in cells]
        numbers = to_numbers(cells)
        numbers[np.abs(numbers) >= LARGEST] = np.nan
        dates = np.full(len(cells), NEVER)
        rest = np.flatnonzero(np.isnan(numbers))
        if len(rest):
            texts = [_dated(cells[position]) for position in rest]
            found = pd.to_datetime(
                pd.Series(texts, dtype=object), format="ISO8601", utc=True, errors="coerce"
            )
            naive = found.dt.tz_localize(None).to_numpy()
            dates[rest] = naive.astype("datetime64[us]").astype(np.int64)
        neither = np.flatnonzero((dates == NEVER) & np.isnan(numbers))
        return cls(dates, numbers, {int(i): _complaint(cells[i]) for i in neither})

    @classmethod
    def joined(cls, parts: "Sequence[Stamps]") -> "Stamps":
        """One after another; of cells without problems."""
        dates = np.concatenate([np.zeros(0, np.int64), *(part.dates for part in parts)])
        return cls(dates, np.concatenate([np.zeros(0), *(part.numbers for part in parts)]), {})

    def take(self, positions: np.ndarray) -> "Stamps":
        """Those at some positions, which have no problems."""
        return Stamps(self.dates[positions], self.numbers[positions], {})

    def seconds(self) -> tuple[np.ndarray, np.ndarray]:
        """Seconds since 1970-01-01 UTC, int64, and which of them are rounded, booleans."""
        seconds, rest = np.divmod(self.dates, 10**6)
        rounded = rest != 0
        where = np.flatnonzero(~np.isnan(self.numbers))
        if len(where):
            seconds[where], rounded[where] = _numbered(self.numbers[where])
        return seconds, rounded


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


def _numbered(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Numbers as seconds, and which are rounded: they are dates by their digits, or a count."""
    dates = _by_digits(numbers)
    if dates is not None:
        return dates, np.zeros(len(dates), bool)
    largest = np.abs(numbers).max()
    # Beyond 1e11 seconds lies the year 5138.
    unit = next((unit for unit in (1.0, 1e3, 1e6) if largest / unit < 1e11), 1e9)
    seconds = numbers / unit
    whole = np.rint(seconds)
    return whole.astype(np.int64), np.abs(seconds - whole) > 5e-7


def _by_digits(numbers: np.ndarray) -> np.ndarray | None:
    """Seconds of years (2016), months (201607) or days (20160701), if all numbers are such."""
    import pandas as pd

    digits = len(str(int(numbers[0])))
    form = _DATES.get(digits)
    if form is None or (numbers % 1 != 0).any():
        return None
    years = numbers // 10 ** (digits - 4)
    if years.min() < _YEARS.start or years.max() >= _YEARS.stop:
        return None
    texts = pd.Series(numbers.astype(np.int64)).astype(str)
    dates = pd.to_datetime(texts, format=form, errors="coerce").to_numpy()
    if np.isnat(dates).any():
        return None
    return dates.astype("datetime64[s]").astype(np.int64)


def _dated(cell: Any) -> date | str | None:
    """What may be a date; pandas would take "now" and "today" for dates too."""
    if isinstance(cell, str):
        text = cell.strip()
        return text if text[:1].isdigit() else None
    return cell if isinstance(cell, date) else None


def _complaint(cell: Any) -> str:
    if cell is None or cell != cell or (isinstance(cell, str) and not cell.strip()):
        return "is empty"
    return f"is {clip(repr(cell))}, not a time stamp such as 2016-07-01 00:00:00 or 2016-07"
