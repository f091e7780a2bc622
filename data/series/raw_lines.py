"""Raw records of numbers from standard input, one JSON object a line, as a served model takes them.

for records in raw_records(preprocessor.raw(), options):
    records.columns["history"]      # float32 (records, window, columns)
"""

import sys
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
import tensorflow as tf

from data.cells import clip
from data.errors import DataError
from data.options import Tables
from data.records import Asked, Requests
from data.series.calendar import is_time
from data.series.clock import Clock
from data.tables.lines import available_lines
from data.tables.table import line_text, not_utf8, parse_object

NAME = "standard input"
REQUESTS = 256  # that are yielded at once

Row = dict[str, np.ndarray]


def raw_records(
    specs: Mapping[str, tf.TensorSpec], options: Tables, clock: Clock
) -> Iterator[Requests]:
    """Records from standard input, as they come, at most 256 at a time.

    A blank line is none, unless each line is to be answered: then it can't be.

    Args:
        specs: what a record is made of, by name, with the batch as the first dimension; "time" is a
            time stamp. A number that is null or NaN is missing.
        options: say what to do with a bad row.
        clock: which time stamps there may be.

    Raises:
        DataError: a line is no such record, and is not to be skipped.
    """
    first = 1
    for lines in available_lines(sys.stdin.buffer):
        rest = iter(lines)
        while part := list(islice(rest, REQUESTS)):
            good, asked = [], []
            for row, line in enumerate(part, first):
                if not line.strip() and options.on_bad_row != "answer":
                    continue
                found, where = _record(line, row, specs, clock), f"{NAME}, row {row}"
                if isinstance(found, dict):
                    good.append(found)
                    asked.append(Asked(NAME, row, where))
                    continue
                asked.append(Asked(NAME, row, where, found))
                if options.on_bad_row == "error":
                    raise DataError(
                        f"{where}: {found}; mend the data, or leave such rows out with "
                        "--data.on_bad_row skip."
                    )
            first += len(part)
            columns = {name: np.stack([record[name] for record in good]) for name in specs if good}
            yield Requests(columns, len(asked) - len(good), NAME, asked=asked)


def _record(line: bytes, row: int, specs: Mapping[str, tf.TensorSpec], clock: Clock) -> Row | str:
    """The record on a line, or what is wrong with it in words."""
    try:
        text = line_text(line, row)
    except UnicodeDecodeError as error:
        return not_utf8(error.object[error.start])
    if not text.strip():
        return "an empty line"
    record = parse_object(text)
    if isinstance(record, str):
        return record
    if record.keys() != specs.keys():
        keys = ", ".join(map(clip, record)) or "none"
        return f"a JSON object with the keys {keys}, where they are {', '.join(specs)}"
    cells: Row = {}
    for name, spec in specs.items():
        cell = _cell(name, record[name], spec, clock)
        if isinstance(cell, str):
            return f"'{name}' {cell}"
        cells[name] = cell
    return cells


def _cell(name: str, value: Any, spec: tf.TensorSpec, clock: Clock) -> np.ndarray | str:
    """A part of a record as an array, or what is wrong with it in words."""
    shape = tuple(spec.shape[1:])
    texts = spec.dtype == tf.string
    if not _has_shape(value, shape):
        noun = "text" if texts else "number"
        size = f"{' x '.join(map(str, shape))} {noun}s, in lists" if shape else f"a {noun}"
        return f"is not {size}"
    array = np.array(value, object)
    return _texts(name, array, clock) if texts else _numbers(array)


def _has_shape(value: Any, shape: tuple[int, ...]) -> bool:
    if not shape:
        return not isinstance(value, list | dict)
    fits = isinstance(value, list) and len(value) == shape[0]
    return fits and all(_has_shape(part, shape[1:]) for part in value)


def _texts(name: str, array: np.ndarray, clock: Clock) -> np.ndarray | str:
    for part in array.ravel():
        if not isinstance(part, str):
            return f"has {clip(repr(part))}, which is no text"
        if any("\ud800" <= letter <= "\udfff" for letter in part):
            return "has half of a surrogate pair, which is no character"
        if name == "time" and not is_time(part, clock):
            zone = clock.zone or "UTC"
            return f"is {clip(repr(part))}, not a time stamp such as 2016-07-01 13:00:00, in {zone}"
    return array


def _numbers(array: np.ndarray) -> np.ndarray | str:
    for part in array.ravel():
        if part is not None and (isinstance(part, bool) or not isinstance(part, int | float)):
            return f"has {clip(repr(part))}, which is no number"
    try:
        with np.errstate(over="ignore"):
            return array.astype(np.float64).astype(np.float32)
    except OverflowError:
        return "has a number that is too large"
