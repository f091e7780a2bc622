"""How far apart the time stamps of a series are: a number of seconds, of business days, or of
calendar months.

    frequency = Frequency.infer(times)      # or Frequency.parse("15min"), Frequency(months=1)
    frequency.shift(times[-1], np.arange(1, 25))   # the stamps of the next 24 steps
    steps, on_grid = frequency.steps(times[0], times)

Times are int64 seconds since 1970-01-01 everywhere, as a `Clock` has them.
"""

from dataclasses import dataclass, replace
from itertools import pairwise
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
SPARE = 2  # time steps there may be made up for each that there is


@dataclass(frozen=True)
class Frequency:
    """The step from a time stamp to the next; `Frequency(**dataclasses.asdict(f)) == f`."""

    seconds: int = 0
    """Seconds in a step; 0 where `months` are given."""

    months: int = 0
    """Calendar months in a step; 0 where `seconds` are given."""

    end: bool = False
    """Whether stamps of months are their last days, rather than always the same day."""

    day: int = 0
    """The day of the month on which stamps of months are, or its last where it has none such; 0 for
    that of the first stamp."""

    business: bool = False
    """Whether `seconds` are those of days from Monday to Friday."""

    index: bool = False
    """Whether times are a plain index, of which `seconds` are steps."""

    def __post_init__(self) -> None:
        if min(self.seconds, self.months) != 0 or max(self.seconds, self.months) < 1:
            raise DataError(
                f"A frequency has seconds or months above 0, not {self.seconds} and {self.months}."
            )

    @classmethod
    def parse(cls, alias: str) -> "Frequency":
        """The frequency that pandas knows by an alias: "h", "15min", "D", "B", "W", "MS", "QE"...;
        or steps of an index: "1".

        Days on which weeks, quarters and years begin are left to the data: "W-SUN" is "W".

        Raises:
            DataError: there is no such alias, or steps of it differ in length, as twice a month.
        """
        from pandas.tseries import offsets
        from pandas.tseries.frequencies import to_offset

        if alias.isdecimal() and int(alias) > 0:
            return cls(int(alias), index=True)
        try:
            offset: Any = to_offset(alias)
        except ValueError:
            offset = None
        count = getattr(offset, "n", 0)
        nanoseconds = offset.nanos if isinstance(offset, offsets.Tick) else 0
        business = type(offset) is offsets.BusinessDay and not offset.offset
        days = 1 if business else {offsets.Day: 1, offsets.Week: 7}.get(type(offset), 0)
        months = _MONTHS_OF.get(type(offset).__name__, 0)
        if count > 0 and nanoseconds % 10**9 == 0 and (nanoseconds or days or months):
            seconds = nanoseconds // 10**9 + count * days * DAY
            end = type(offset).__name__.endswith("End")
            return cls(seconds, count * months, end, business=business)
        raise DataError(
            f"--data.frequency {alias!r} is no frequency; name one of s, min, h, D, B (Monday to "
            "Friday), W, MS, ME, QS, QE, YS, YE (months, quarters and years by their start or end),"
            " or several: 15min; or 1 for an index."
        )

    @classmethod
    def infer(
        cls, times: np.ndarray, bounds: np.ndarray | None = None, index: bool = False
    ) -> "Frequency":
        """The most common difference of time stamps; months where all are on the same day of one,
        business days where none is on a weekend and three weekends are left out.

        Args:
            times: int64 seconds, ascending within each series.
            bounds: where series start and end among them, (series + 1,); None for a single one.
            index: whether times are a plain index.

        Raises:
            DataError: there are fewer than two differences, or two step lengths are common; the
                message says what can be done about it, which was tried.
        """
        bounds = np.array([0, len(times)]) if bounds is None else bounds
        pairs = np.ones(max(len(times) - 1, 0), bool)
        pairs[bounds[1:-1] - 1] = False
        if np.count_nonzero(pairs) < 2:
            raise DataError(
                f"{len(times)} time stamps are too few to tell how far apart they are; give "
                "a series of 3 at least, or say it with --data.frequency."
            )
        seconds = np.diff(times)[pairs]
        common = _most_common(seconds)
        if index:
            return _checked(seconds, cls(common, index=True), times, bounds)
        months = _months(times)
        if common >= 28 * DAY and months is not None:
            steps = np.diff(_calendar(times)[0])[pairs]
            return _checked(steps, replace(months, months=_most_common(steps)), times, bounds)
        weekdays = (times // DAY + 3) % 7
        weekends = (weekdays[1:] < weekdays[:-1])[pairs] & (seconds > DAY)
        if common == DAY and weekdays.max() < 5 and np.count_nonzero(weekends) > GAPS:
            steps = _business(times)
            return _checked(np.diff(steps)[pairs], cls(DAY, business=True), times, bounds)
        return _checked(seconds, cls(common), times, bounds)

    def shift(self, times: np.ndarray | int, steps: np.ndarray | int) -> np.ndarray:
        """Times moved by some steps; a day that a month lacks becomes its last.

        Args:
            times: int64 seconds.
            steps: integers of a shape that broadcasts with that of `times`.
        """
        times, steps = np.asarray(times, np.int64), np.asarray(steps, np.int64)
        if self.business:
            day = _business(times) + steps * (self.seconds // DAY)
            return (day // 5 * 7 + day % 5 - 3) * DAY + times % DAY
        if self.seconds:
            return times + steps * self.seconds
        month, day, rest, _ = _calendar(times)
        month = month + steps * self.months
        first, last = _days(month), _days(month + 1) - 1
        date = last if self.end else np.minimum(first + (self.day - 1 if self.day else day), last)
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
        if self.business:
            steps = (_business(times) - _business(start)) // (self.seconds // DAY)
        elif self.seconds:
            steps = (times - start) // self.seconds
        else:
            steps = (_calendar(times)[0] - _calendar(start)[0]) // self.months
        return steps, self.shift(start, steps) == times

    def anchored(self, times: np.ndarray) -> "Frequency":
        """The same, of months on the day of the month that times are on."""
        found = _months(times) if self.months and not self.end else None
        return self if found is None or found.end else replace(self, day=found.day)

    def agrees(self, other: "Frequency") -> bool:
        """Whether steps are equally long, on whichever day of a month they are."""
        mine, others = ((f.seconds, f.months, f.business, f.index) for f in (self, other))
        return mine == others

    @property
    def season(self) -> int:
        """The steps after which a series is expected to repeat itself.

        Of a day if steps are shorter, of a week for days, of a year for weeks and months; else 1.
        """
        if self.business or self.index:
            return 5 if self.business and self.seconds == DAY else 1
        if self.months:
            return 12 // self.months if 12 % self.months == 0 else 1
        if MINUTE <= self.seconds < DAY and DAY % self.seconds == 0:
            return DAY // self.seconds
        return {DAY: 7, WEEK: 52}.get(self.seconds, 1)

    @property
    def alias(self) -> str:
        """pandas' name of it: `Frequency.parse(f.alias) == f`."""
        if self.index:
            return str(self.seconds)
        if self.business:
            return "B" if self.seconds == DAY else f"{self.seconds // DAY}B"
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


def _business(times: np.ndarray) -> np.ndarray:
    """Days from Monday to Friday since Monday 1969-12-29; a weekend counts as the Friday before."""
    week, day = np.divmod(np.asarray(times, np.int64) // DAY + 3, 7)
    return np.asarray(week * 5 + np.minimum(day, 4))


def _months(times: np.ndarray) -> Frequency | None:
    """Steps of months, if all times are on one day of the month, or its last where it has none
    such, at one time of the day."""
    _, day, rest, length = _calendar(times)
    if (rest != rest[0]).any():
        return None
    if (day == length - 1).all() and (day != day[0]).any():
        return Frequency(months=1, end=True)
    latest = int(day.max())
    if (day != np.minimum(latest, length - 1)).any():
        return None
    end = bool((day == length - 1).all())
    return Frequency(months=1, end=end, day=latest + 1 if latest >= 28 and not end else 0)


def _checked(
    steps: np.ndarray, frequency: Frequency, times: np.ndarray, bounds: np.ndarray
) -> Frequency:
    """The frequency, or an error if a second step length is nearly as common as the first.

    Args:
        steps: the lengths of the steps between times, in units of the frequency.
        frequency: what the most common one is called.
        times, bounds: as `Frequency.infer` has them.
    """
    values, counts = np.unique(steps, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:2]
    if len(values) < 2 or counts[order[1]] <= max(GAPS, MIXED * len(steps)):
        return frequency
    first, second = order
    one, other = (_of_length(frequency, int(values[place])).alias for place in (first, second))
    within = np.ones(len(times) - 1, bool)
    within[bounds[1:-1] - 1] = False
    met = times[1:][within][np.argmax(steps == values[second])]
    raise DataError(
        f"time steps are '{one}' apart ({counts[first]:,} times) and '{other}' apart "
        f"({counts[second]:,} times, first at {met if frequency.index else stamp_text(met)}); "
        f"give series of one frequency{advice(times, bounds, frequency.index)}."
    )


def advice(times: np.ndarray, bounds: np.ndarray, index: bool = False) -> str:
    """What else can be done about time stamps that are not evenly apart, the end of a sentence; of
    what was tried on them, and nothing if nothing helps.

    Args:
        times, bounds: as `Frequency.infer` has them.
        index: whether times are a plain index.
    """
    starts = np.repeat(times[bounds[:-1]], np.diff(bounds))
    own = [np.diff(times[begin:end]) for begin, end in pairwise(bounds.tolist())]
    own = [steps for steps in own if len(steps)]
    for frequency in _candidates(times, own, index):
        steps, on_grid = frequency.steps(starts, times)
        absent = int((steps[bounds[1:] - 1] + 1).sum()) - len(times)
        # Where most would be made up, it is no frequency of theirs.
        if on_grid.all() and absent <= SPARE * len(times):
            filled = f", and {absent:,} time steps that are absent are filled" if absent else ""
            return f", or say --data.frequency {frequency.alias}{filled}"
    lengths = {_most_common(steps) for steps in own}
    if len(lengths) > 1 and all((steps == _most_common(steps)).mean() > 1 - MIXED for steps in own):
        names = ", ".join(f"'{Frequency(step, index=index).alias}'" for step in sorted(lengths))
        return f": there are series of {names}, which want a model each"
    for unit in [] if index else [WEEK, DAY, HOUR, 15 * MINUTE, MINUTE]:
        rounded = (times + unit // 2) // unit * unit
        again = [np.diff(rounded[begin:end]) for begin, end in pairwise(bounds.tolist())]
        every = np.concatenate(again)
        if unit <= _most_common(every) and every.min() > 0 and (every == unit).mean() > 1 - MIXED:
            return f", or round time stamps to whole steps of '{Frequency(unit).alias}' before"
    return ""


def _candidates(times: np.ndarray, own: list[np.ndarray], index: bool) -> list[Frequency]:
    """Frequencies that times may be of, the longest steps first."""
    step = int(np.gcd.reduce(np.concatenate(own)))
    if index:
        return [Frequency(step, index=True)]
    months = _months(times)
    called = [] if months is None else [replace(months, months=n) for n in (12, 3, 1)]
    return [*called, *[Frequency(WEEK)] * (step == WEEK), Frequency(DAY, business=True),
            Frequency(step)]  # fmt: skip


def _of_length(frequency: Frequency, count: int) -> Frequency:
    """So many steps of the unit of a frequency."""
    if frequency.months:
        return replace(frequency, months=count)
    return replace(frequency, seconds=count * DAY if frequency.business else count)


def _most_common(numbers: np.ndarray) -> int:
    """The number that is there most often; the smallest of several."""
    values, counts = np.unique(numbers, return_counts=True)
    return int(values[np.argmax(counts)])
