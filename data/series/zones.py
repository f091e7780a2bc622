"""The clocks of a time zone, as three lists of numbers that NumPy and a graph look up alike.

zone = Zone.named("Europe/Berlin")
zone.offsets[np.searchsorted(zone.instants, seconds, "right")]     # of UTC times
zone.offsets[np.searchsorted(zone.walls, seconds, "right")]        # of times as clocks show them
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

FIRST, END = "1900-01-01", "2100-01-01"  # beyond these, clocks go on as they do there


@dataclass(frozen=True, eq=False)
class Zone:
    """When the clocks of a zone are changed."""

    instants: np.ndarray
    """int64 (changes,): seconds since 1970-01-01 UTC."""

    walls: np.ndarray
    """int64 (changes,): what clocks that were not yet changed would show where there is no doubt
    any more that they were. A time that is shown twice is the first, one that is skipped is as if
    clocks had gone on."""

    offsets: np.ndarray
    """int64 (changes + 1,): seconds that clocks are ahead of UTC before, between and after."""

    @classmethod
    def named(cls, name: str) -> "Zone":
        """The zone of the IANA's database, which is known to have it."""
        return _zone(name)

    def of_instants(self, seconds: np.ndarray) -> np.ndarray:
        """How far clocks are ahead at UTC times, in seconds."""
        return self.offsets[np.searchsorted(self.instants, seconds, "right")]

    def of_walls(self, seconds: np.ndarray) -> np.ndarray:
        """How far clocks are ahead when they show some times, in seconds."""
        return self.offsets[np.searchsorted(self.walls, seconds, "right")]

    def twice(self, seconds: np.ndarray) -> np.ndarray:
        """Which of the times that clocks show they show twice, booleans."""
        place = np.searchsorted(self.walls, seconds, "right")
        after = np.append(self.offsets[1:], self.offsets[-1])[place]
        change = np.append(self.instants, np.iinfo(np.int64).max)[place]
        return seconds - after >= change

    def skipped(self, seconds: np.ndarray) -> np.ndarray:
        """Which times clocks never show, booleans."""
        instants = seconds - self.of_walls(seconds)
        return instants + self.of_instants(instants) != seconds


_DAY = 86_400


@cache
def _zone(name: str) -> Zone:
    import pandas as pd

    def offsets(seconds: np.ndarray) -> np.ndarray:
        stamps = pd.to_datetime(seconds, unit="s", utc=True)
        local = stamps.tz_convert(name).tz_localize(None)
        return local.to_numpy().astype("datetime64[s]").astype(np.int64) - seconds

    first, end = np.array([FIRST, END], "datetime64[s]").astype(np.int64)
    days = np.arange(first, end, _DAY)
    by_day = offsets(days)
    changed = np.flatnonzero(np.diff(by_day))
    low, high, before = days[changed], days[changed + 1], by_day[changed]
    while len(low) and (high - low).max() > 1:  # to the second
        middle = (low + high) // 2
        same = offsets(middle) == before
        low, high = np.where(same, middle, low), np.where(same, high, middle)
    after = by_day[changed + 1]
    ahead = np.concatenate([by_day[:1], after])
    return Zone(high, high + np.maximum(before, after), ahead)
