"""How far apart the time stamps of a series are: a number of seconds, or of calendar months.

    frequency = Frequency.infer(times)      # or Frequency.parse("15min"), Frequency(months=1)
    frequency.shift(times[-1], np.arange(1, 25))   # the stamps of the next 24 steps
    steps, on_grid = frequency.steps(times[0], times)

Times are int64 seconds since 1970-01-01 UTC everywhere.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from data.errors import DataError
from data.series.stamps import stamp_text

MINUTE, HOUR, DAY, WEEK = 60, 3600, 86_400, 604_800
_UNITS = {"W": WEEK, "D": DAY, "h": HOUR, "min": MINUTE, "s": 1}
_MONTHS = {12: "Y", 3: "Q", 1: "M"}

# A second step length in more than this share of the differences, and not in one or two gaps only,
# is no matter of a few steps that are absent.
MIXED, GAPS = 0.1, 2


@dataclass(frozen=True)
class Frequency:
    """The step from a time stamp to the next; `Frequency(**dataclasses.asdict(f)) == f`."""

    seconds: int = 0
    """Seconds in a step; 0 where `months` are given."""

    months: int = 0
    """Calendar months in a step; 0 where `seconds` are given."""

    end: bool = False
    """Whether stamps of months are their last days, rather than always the same day."""

    def __post_init__(self) -> None:
        if min(self.seconds, self.months) != 0 or max(self.seconds, self.months) < 1:
            raise DataError(
                f"A frequency has seconds or months above 0, not {self.seconds} and {self.months}."
            )

    @classmethod
    def parse(cls, alias: str) -> "Frequency":
        """The frequency that pandas knows by an alias: "h", "15min", "D", "W", "MS", "QE"...

        Days on which weeks, quarters and years begin are left to the data: "W-SUN" is "W".

        Raises:
            DataError: there is no such alias, or steps of it differ in length, as business days.
        """
        from pandas.tseries import offsets
        from pandas.tseries.frequencies import to_offset

        try:
            offset: Any = to_offset(alias)
        except ValueError:
            offset = None
        count = getattr(offset, "n", 0)
        nanoseconds = offset.nanos if isinstance(offset, offsets.Tick) else 0
        days = {offsets.Day: 1, offsets.Week: 7}.get(type(offset), 0)
        months = _MONTHS_OF.get(type(offset).__name__, 0)
        if count > 0 and nanoseconds % 10**9 == 0 and (nanoseconds or days or months):
            seconds = nanoseconds // 10**9 + count * days * DAY
            return cls(seconds, count * months, type(offset).__name__.endswith("End"))
        raise DataError(
            f"--data.frequency {alias!r} is no frequency; name one of s, min, h, D, W, MS, ME, QS, "
            "QE, YS, YE (months, quarters and years by their start or end), or several: 15min."
        )

    @classmethod
    def infer(cls, times: np.ndarray, bounds: np.ndarray | None = None) -> "Frequency":
        """The most common difference of time stamps; months where all are on the same day of one.

        Args:
            times: int64 seconds, ascending within each series.
            bounds: where series start and end among them, (series + 1,); None for a single one.

        Raises:
            DataError: there are fewer than two differences, or two step lengths are common.
        """
        pairs = np.ones(max(len(times) - 1, 0), bool)
        if bounds is not None:
            pairs[bounds[1:-1] - 1] = False
        if np.count_nonzero(pairs) < 2:
            raise DataError(
                f"{len(times)} time stamps are too few to tell how far apart they are; give "
                "a series of 3 at least, or say it with --data.frequency."
            )
        month, day, rest, length = _calendar(times)
        seconds, ends = np.diff(times)[pairs], times[1:][pairs]
        common = _most_common(seconds)
        same_day, same_time = (not np.diff(part)[pairs].any() for part in (day, rest))
        last_day = bool((day == length - 1).all())
        if common >= 28 * DAY and same_time and (same_day or last_day):
            months = np.diff(month)[pairs]
            _check_even(months, ends, lambda step: cls(months=step, end=last_day))
            return cls(months=_most_common(months), end=last_day)
        _check_even(seconds, ends, lambda step: cls(seconds=step))
        return cls(seconds=common)

    def shift(self, times: np.ndarray | int, steps: np.ndarray | int) -> np.ndarray:
        """Times moved by some steps; a day that a month lacks becomes its last.

        Args:
            times: int64 seconds.
            steps: integers of a shape that broadcasts with that of `times`.
        """
        times, steps = np.asarray(times, np.int64), np.asarray(steps, np.int64)
        if self.seconds:
            return times + steps * self.seconds
        month, day, rest, _ = _calendar(times)
        month = month + steps * self.months
        first, last = _days(month), _days(month + 1) - 1
        date = last if self.end else np.minimum(first + day, last)
        return date * DAY + rest

    def steps(self, start: np.ndarray | int, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """How many whole steps times are from a start, and whether they are exactly that.

        Args:
            start: int64 seconds, one or as many as there are times.
            times: int64 seconds.

        Returns:
            Steps, int64, rounded down where a time is not on the grid; booleans, true where it is.
        """
        start, times = np.asarray(start, np.int64), np.asarray(times, np.int64)
        if self.seconds:
            steps = (times - start) // self.seconds
        else:
            steps = (_calendar(times)[0] - _calendar(start)[0]) // self.months
        return steps, self.shift(start, steps) == times

    def agrees(self, other: "Frequency") -> bool:
        """Whether steps are equally long, on whichever day of a month they are."""
        return (self.seconds, self.months) == (other.seconds, other.months)

    @property
    def season(self) -> int:
        """The steps after which a series is expected to repeat itself.

        Of a day if steps are shorter, of a week for days, of a year for weeks and months; else 1.
        """
        if self.months:
            return 12 // self.months if 12 % self.months == 0 else 1
        if MINUTE <= self.seconds < DAY and DAY % self.seconds == 0:
            return DAY // self.seconds
        return {DAY: 7, WEEK: 52}.get(self.seconds, 1)

    @property
    def alias(self) -> str:
        """pandas' name of it: `Frequency.parse(f.alias) == f`."""
        if self.seconds:
            length, units = self.seconds, list(_UNITS.items())
            unit, size = next((name, size) for name, size in units if length % size == 0)
        else:
            length = self.months
            size, letter = next((n, letter) for n, letter in _MONTHS.items() if length % n == 0)
            unit = letter + ("E" if self.end else "S")
        count = length // size
        return unit if count == 1 else f"{count}{unit}"


_MONTHS_OF = {
    f"{period}{side}": months
    for period, months in (("Month", 1), ("Quarter", 3), ("Year", 12))
    for side in ("Begin", "End")
}


def _calendar(times: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Months since 1970, days from 0 within the month, seconds of the day, and the month's days."""
    days, rest = np.divmod(np.asarray(times, np.int64), DAY)
    month = days.astype("datetime64[D]").astype("datetime64[M]").astype(np.int64)
    first = _days(month)
    return month, days - first, rest, _days(month + 1) - first


def _days(month: np.ndarray) -> np.ndarray:
    """The first day of months since 1970, in days since then."""
    return month.astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)


def _check_even(steps: np.ndarray, ends: np.ndarray, frequency: Callable[[int], Frequency]) -> None:
    """Raises if a second step length is nearly as common as the first.

    Args:
        steps: the lengths, in a unit.
        ends: the times at which they end.
        frequency: what a length in that unit is called.
    """
    values, counts = np.unique(steps, return_counts=True)
    if len(values) < 2:
        return
    first, second = np.argsort(-counts, kind="stable")[:2]
    if counts[second] <= max(GAPS, MIXED * len(steps)):
        return
    one, other = (frequency(int(values[place])).alias for place in (first, second))
    met = stamp_text(ends[np.argmax(steps == values[second])])
    smaller = min(int(values[first]), int(values[second]))
    raise DataError(
        f"time steps are '{one}' apart ({counts[first]:,} times) and '{other}' apart "
        f"({counts[second]:,} times, first at {met}); give series of one frequency, or say "
        f"--data.frequency {frequency(smaller).alias}, and steps that are absent are filled."
    )


def _most_common(numbers: np.ndarray) -> int:
    """The number that is there most often; the smallest of several."""
    values, counts = np.unique(numbers, return_counts=True)
    return int(values[np.argmax(counts)])
