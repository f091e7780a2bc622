"""What the time column of a table means: what its numbers count, and which clocks its texts are of.

clock, times, problem = Clock.told(stamps, series)      # in training
times, problem = clock.seconds(stamps, series)          # and ever after
clock.texts(times)                                      # as a served model writes them

Times are int64 seconds: since 1970-01-01 UTC; or, if `wall`, as if clocks that show local time
showed UTC, so that days are equally long and steps of days, weeks and months stay at local
midnight; or a plain index.
"""

from dataclasses import dataclass, replace

import numpy as np

from data.errors import DataError
from data.series.stamps import NAIVE, Stamps, dates_by_digits, stamp_text
from data.series.zones import Zone

DAY = 86_400
_UTC = ("UTC", "Etc/UTC")
UNITS = {"s": 1.0, "ms": 1e3, "us": 1e6, "ns": 1e9}
_EXCEL = 25_569  # the day number of 1970-01-01
_EXCEL_DAYS = range(36_526, 73_051)  # of 2000 to 2099
_FIRST_SECONDS = 1e8  # 1973-03-03; what is less is an index
_MOST_TIMES = 4  # of the day, that tell steps of days from those of hours


@dataclass(frozen=True)
class Clock:
    """The meaning of a time column; `Clock(**dataclasses.asdict(c)) == c`."""

    unit: str = ""
    """What numbers are: "index", "s", "ms", "us", "ns" since 1970, "date" by their digits, "excel",
    days as Excel counts them; "" where there were none."""

    zone: str = ""
    """The time zone of texts without one, as the IANA names it; "" for UTC."""

    wall: bool = False
    """Whether times are those that clocks show, rather than UTC."""

    @classmethod
    def told(
        cls, stamps: Stamps, series: np.ndarray, unit: str = "auto", zone: str | None = None
    ) -> "Clock":
        """What the stamps of a training table mean.

        Args:
            stamps: without problems.
            series: a number for each, the same for those of a series.
            unit: as `unit`, or "auto".
            zone: as `zone`; None for that of the table.

        Raises:
            DataError: numbers may be several things; the message names none of the table.
        """
        numbers = stamps.numbers[~np.isnan(stamps.numbers)]
        if unit == "auto":
            unit = _unit(numbers) if len(numbers) else ""
        if unit == "index":
            return cls(unit)
        dated = stamps.offsets[np.isnan(stamps.numbers)]
        named = zone_name(stamps.zone if zone is None else zone)
        local = cls(unit, named, wall=True)
        if not (named or (dated != NAIVE).any()):
            return cls(unit)
        shown = local._times(stamps, series)[0]
        instants = cls(unit, named)._times(stamps, series)[0]
        times, of_utc = (len(np.unique(seconds % DAY)) for seconds in (shown, instants))
        even = times == 1 or times < min(of_utc, _MOST_TIMES + 1)
        if even and _repeated(shown, series).sum() <= _repeated(instants, series).sum():
            return local
        return cls(unit, named if zone else "")

    def seconds(self, stamps: Stamps, series: np.ndarray) -> tuple[np.ndarray, dict[int, str]]:
        """The times of stamps, int64, and what is wrong with one of them, by its position.

        Args:
            stamps: without problems.
            series: a number for each, the same for those of a series.
        """
        if self.unit == "index" and (stamps.dates != NAIVE).any():
            position = int(np.argmax(stamps.dates != NAIVE))
            return stamps.dates, {position: "is a date, and the model was trained on an index"}
        numbers = stamps.numbers[~np.isnan(stamps.numbers)]
        if len(numbers) and not self.unit:  # trained on texts, or before there were clocks
            try:
                unit = _unit(numbers)
            except DataError as error:
                return stamps.dates, {int(np.argmax(~np.isnan(stamps.numbers))): str(error)}
            return replace(self, unit="s" if unit == "index" else unit).seconds(stamps, series)
        times, odd = self._times(stamps, series)
        return times, {int(np.argmax(odd)): self._oddity(stamps, odd)} if odd.any() else {}

    @property
    def index(self) -> bool:
        """Whether times are a plain index."""
        return self.unit == "index"

    def text(self, seconds: int) -> str:
        """A time for a message or a request: "2016-07-01 12:00:00", or the date alone at
        midnight."""
        if self.unit == "index":
            return str(int(seconds))
        if self.zone and not self.wall:
            return self.texts(np.array([seconds]))[0]
        return stamp_text(seconds)

    def texts(self, seconds: np.ndarray) -> list:
        """Times (times,) as a served model writes them; those of an index are integers."""
        if self.unit == "index":
            return seconds.tolist()
        if not self.zone or self.wall:
            return _written(seconds)
        ahead = Zone.named(self.zone).of_instants(seconds)
        pairs = zip(_written(seconds + ahead), (ahead // 60).tolist(), strict=True)
        return [
            f"{text}{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
            for text, minutes in pairs
        ]

    def _times(self, stamps: Stamps, series: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Times, and which of them can't be what they are."""
        times, rest = np.divmod(stamps.dates, 10**6)
        odd, offsets = rest != 0, stamps.offsets.copy()
        where = np.flatnonzero(~np.isnan(stamps.numbers))
        if len(where):
            times[where], odd[where] = _counted(stamps.numbers[where], self.unit)
            offsets[where] = NAIVE if self.unit in ("date", "excel") else 0
        naive = offsets == NAIVE
        if not self.zone:
            shown = times + np.where(naive, 0, offsets)
            return (_at_one_time(shown, times, series) if self.wall else times), odd
        zone = Zone.named(self.zone)
        instants = np.where(naive, times - zone.of_walls(times), times)
        if self.wall:
            shown = np.where(naive, times, instants + zone.of_instants(instants))
            return _at_one_time(shown, instants, series), odd
        again = np.flatnonzero(naive & zone.twice(times))
        if len(again):
            instants[again] += _second_time(times[again], series[again], zone)
        return instants, odd | (naive & zone.skipped(times))

    def _oddity(self, stamps: Stamps, odd: np.ndarray) -> str:
        position = int(np.argmax(odd))
        number, dated = stamps.numbers[position], stamps.dates[position]
        if not np.isnan(number) and self.unit in ("date", "index"):
            what = "whole number" if self.unit == "index" else "year, month or day such as 20160701"
            return f"is {number:.17g}, and no {what}, as the others are"
        if np.isnan(number) and dated % 10**6 == 0:
            return (
                f"is {stamp_text(dated // 10**6)}, which clocks in {self.zone} skip; correct it, "
                "or name the zone that it is of with --data.time_zone"
            )
        return "has a fraction of a second; give time stamps of whole seconds"


UTC = Clock()


def zone_name(zone: str | None) -> str:
    """A time zone's name as a clock has it."""
    return "" if zone is None or zone in _UTC else zone


def _unit(numbers: np.ndarray) -> str:
    """What numbers are, by how large they are."""
    low, high = numbers.min(), numbers.max()
    whole = bool((numbers % 1 == 0).all())
    if dates_by_digits(numbers) is not None:
        return "date"
    if not whole and low >= 1500 and high < 2200:
        raise DataError(
            f"are years with a fraction, from {low:.8g} to {high:.8g}; write dates such as 1959-02"
        )
    if low >= _EXCEL_DAYS.start and high < _EXCEL_DAYS.stop:
        first = stamp_text(int(low - _EXCEL) * DAY)
        raise DataError(
            f"are numbers from {low:.17g} to {high:.17g}; if these are days as Excel counts them, "
            f"from {first} on, say --data.time_unit excel, and if they are a plain index, "
            "--data.time_unit index"
        )
    largest = max(abs(low), abs(high))
    if largest < _FIRST_SECONDS and whole:
        return "index"
    # Beyond 1e11 seconds lies the year 5138.
    return next((unit for unit, size in UNITS.items() if largest / size < 1e11), "ns")


def _counted(numbers: np.ndarray, unit: str) -> tuple[np.ndarray, np.ndarray]:
    """Times of numbers, and which of them are none or are rounded."""
    if unit == "date":
        dates = dates_by_digits(numbers)
        if dates is not None:
            return dates, np.zeros(len(dates), bool)
        each = [dates_by_digits(numbers[i : i + 1]) is None for i in range(len(numbers))]
        return numbers.astype(np.int64), np.array(each) if any(each) else np.ones(len(each), bool)
    seconds = (numbers - _EXCEL) * DAY if unit == "excel" else numbers / UNITS.get(unit, 1.0)
    whole = np.rint(seconds)
    # A day number has five digits before its point, and ten behind it.
    return whole.astype(np.int64), np.abs(seconds - whole) > (0.01 if unit == "excel" else 5e-7)


def _at_one_time(shown: np.ndarray, instants: np.ndarray, series: np.ndarray) -> np.ndarray:
    """What clocks show, but where a day began later, for midnight was skipped, as if they had not
    been changed yet."""
    times, counts = np.unique(shown % DAY, return_counts=True)
    if len(times) == 1 or counts.max() < 0.9 * len(shown):
        return shown
    usual = times[np.argmax(counts)]
    order = np.lexsort((instants, series))
    before = np.zeros_like(shown)
    before[order[1:]] = (shown - instants)[order[:-1]]
    moved = instants + before
    return np.where((shown % DAY != usual) & (moved % DAY == usual), moved, shown)


def _second_time(shown: np.ndarray, series: np.ndarray, zone: Zone) -> np.ndarray:
    """What is to be added, in seconds, to times that clocks show twice: for the second row of a
    series that has one, what clocks were put back by."""
    second = _repeated(shown, series)
    before = zone.of_walls(shown)
    after = zone.offsets[np.searchsorted(zone.walls, shown, "right") + 1]
    return np.where(second, before - after, 0)


def _repeated(times: np.ndarray, series: np.ndarray) -> np.ndarray:
    """Which times are in their series before, booleans."""
    import pandas as pd

    return pd.DataFrame({"times": times, "series": series}).duplicated().to_numpy()


def _written(seconds: np.ndarray) -> list[str]:
    texts = np.datetime_as_string(seconds.astype("datetime64[s]")).tolist()
    return [text.replace("T", " ") for text in texts]
