"""What the steps of sequences are sorted by: numbers, time stamps, clock times or durations.

order, problems = sortable(["8:00", "13:30", "3", "noon"], np.array([0, 0, 1, 1]))
# numbers that sort as the times of each group do; problems: {3: "is 'noon', not a number ..."}
"""

import re
from collections.abc import Callable
from datetime import date, time, timedelta
from typing import Any

import numpy as np

from data.cells import clip

_WITHOUT_SECONDS = re.compile(r"\d{1,3}:\d\d")
_WITH_SECONDS = re.compile(r"\d{1,3}:\d\d:\d\d(\.\d+)?")
# pandas would take "1,5" and "2020-01" for nanoseconds, and "9:00+02:00" for a duration.
_DURATION = re.compile(r"(?=.*[A-Za-z:])(?!.*\d[-+])[-+P\d]\S*( \S+)*", re.ASCII)


def sortable(cells: list[Any], groups: np.ndarray) -> tuple[np.ndarray, dict[int, str]]:
    """Numbers, int64 (cells,), that sort as the cells of each group do in pandas, and what is wrong
    with some cells, by position.

    Those of a group are of one kind: numbers, also as text; time stamps, as ISO 8601 or as objects,
    in UTC where they have no zone; clock times and durations, as pandas and ISO 8601 write them.

    Args:
        cells: of a column.
        groups: the group of each, counted from 0.
    """
    import pandas as pd

    # The same times come again in many groups.
    which, distinct = pd.factorize(pd.Series([_plain(cell) for cell in cells], dtype=object))
    distinct = pd.Series(distinct, dtype=object)
    order = np.zeros(len(cells), np.int64)
    left = np.ones(len(cells), bool)
    misfits: dict[str, np.ndarray] = {}
    for kind, convert in _KINDS.items():
        found = convert(distinct)
        misfits[kind] = ~_at(which, found.notna())
        taken = left & (np.bincount(groups, misfits[kind])[groups] == 0)
        order[taken] = _whole(distinct, found)[which[taken]]
        left &= ~taken
        if not left.any():
            break
    problems: dict[int, str] = {}
    if left.any():
        kind = min(misfits, key=lambda kind: np.count_nonzero(left & misfits[kind]))
        some = not misfits[kind][left].all()
        wanted = f"a {kind} as others are" if some else f"a {', '.join(_KINDS)}"
        for index in np.flatnonzero(left & misfits[kind]).tolist():
            empty = which[index] < 0 or _plain(cells[index]) == ""
            problems[index] = (
                "is empty" if empty else f"is {clip(repr(cells[index]))}, not {wanted}"
            )
    return order, problems | _without_seconds(cells, groups, which, distinct)


def _plain(cell: Any) -> Any:
    """A cell as pandas takes it."""
    if isinstance(cell, bytes):
        cell = cell.decode(errors="replace")
    if isinstance(cell, list | dict) or (isinstance(cell, int) and abs(cell) >= 2**63):
        return str(cell)  # an integer of JSON has as many digits as it likes
    return cell.strip() if isinstance(cell, str) else cell


def _at(which: np.ndarray, of_distinct: Any) -> np.ndarray:
    """What is true of each cell, as it is of the distinct ones; of an empty one nothing is."""
    return np.append(np.asarray(of_distinct, bool), False)[which]


def _whole(distinct: Any, found: Any) -> np.ndarray:
    """Whole numbers that sort as those that a kind has found do; 0 for the others."""
    import pandas as pd

    good = np.flatnonzero(found.notna())
    if found.dtype.kind in "mM":
        values = found.iloc[good].astype("int64").to_numpy()
    else:  # without the others, whole numbers are as exact as they were
        values = pd.to_numeric(distinct.iloc[good]).to_numpy()
    whole = np.zeros(len(found), np.int64)
    exact = values.dtype == np.int64
    whole[good] = values if exact else np.unique(values, return_inverse=True)[1]
    return whole


def _numbers(series: Any) -> Any:
    import pandas as pd

    return pd.to_numeric(series, errors="coerce")


def _stamps(series: Any) -> Any:
    """pandas would take "now" and "today" for dates too."""
    import pandas as pd

    dated = series.map(
        lambda cell: cell if isinstance(cell, date) or str(cell)[:1].isdigit() else None
    )
    return pd.to_datetime(dated, format="ISO8601", utc=True, errors="coerce")


def _durations(series: Any) -> Any:
    import pandas as pd

    return pd.to_timedelta(series.map(_duration), errors="coerce")


def _duration(cell: Any) -> Any:
    if isinstance(cell, time):
        cell = cell.isoformat()
    if not isinstance(cell, str):
        return cell if isinstance(cell, timedelta | np.timedelta64) else None
    if _WITHOUT_SECONDS.fullmatch(cell):
        return f"{cell}:00"
    return cell if _DURATION.fullmatch(cell) else None


def _without_seconds(
    cells: list[Any], groups: np.ndarray, which: np.ndarray, distinct: Any
) -> dict[int, str]:
    """Clock times without seconds in groups of some that have them: 1:30 may be of hours or of
    minutes."""
    texts = [cell if isinstance(cell, str) else "" for cell in distinct]
    short = _at(which, [_WITHOUT_SECONDS.fullmatch(text) is not None for text in texts])
    if not short.any():
        return {}
    long = _at(which, [_WITH_SECONDS.fullmatch(text) is not None for text in texts])
    mixed = np.flatnonzero(short & (np.bincount(groups, long)[groups] > 0))
    return {int(i): f"is {cells[i]!r}, without the seconds that others have" for i in mixed}


_KINDS: dict[str, Callable[[Any], Any]] = {
    "number": _numbers,
    "time stamp": _stamps,
    "clock time or duration": _durations,
}
