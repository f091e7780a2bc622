"""Time stamps in the graph: from text to seconds and back, steps of a frequency, and what a model
is told of the time.

seconds = parse_times(tf.constant(["2016-07-01 13:00"]))
steps = shift(seconds[:, tf.newaxis], tf.range(1, 25, dtype=tf.int64), frequency)
features = calendar_features(steps, calendar_periods(frequency))

Dates are counted as in the proleptic Gregorian calendar, by the algorithms of Hinnant 2013,
"chrono-compatible low-level date algorithms". Everything is a stock TensorFlow op.
"""

import math
import re
from collections.abc import Sequence
from datetime import date

import tensorflow as tf

from data.series.frequency import DAY, HOUR, Frequency

WEEK = 7 * DAY
YEAR = 365.2425 * DAY

_PATTERN = (
    r"\s*(\d{4})(?:-(0[1-9]|1[0-2])(?:-(\d{2})"
    r"(?:[T ]([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d)(?:\.\d*)?)?)?)?)?"
    r"(?:Z|[+]00:?00)?\s*"
)
_MESSAGE = "time must be like 2016-07-01 13:00:00 (UTC), 2016-07-01, 2016-07 or 2016, not:"


def parse_times(texts: tf.Tensor) -> tf.Tensor:
    """Seconds since 1970-01-01 UTC, int64, of ISO 8601 texts such as 2016-07-01 13:00:00, 2016-07,
    or 2016; those without a zone are UTC.

    Raises:
        tf.errors.InvalidArgumentError: a text is not like that, names no real day, or has
            another zone than UTC.
    """
    known = tf.reduce_all(tf.strings.regex_full_match(texts, _PATTERN))
    with tf.control_dependencies([tf.debugging.Assert(known, [_MESSAGE, texts])]):
        texts = tf.identity(texts)
    year, month, day, hour, minute, second = (
        tf.strings.to_number(
            # A part that is not there leaves nothing; months and days begin with 1.
            tf.strings.regex_replace(
                tf.strings.regex_replace(texts, _PATTERN, rf"\{group + 1}"), "^$", first
            ),
            tf.int64,
        )
        for group, first in enumerate(("0", "1", "1", "0", "0", "0"))
    )
    days = _days(year, month, day)
    there_is = tf.reduce_all(_civil(days)[2] == day)  # 2016-02-30 would be another day
    with tf.control_dependencies([tf.debugging.Assert(there_is, [_MESSAGE, texts])]):
        return days * DAY + hour * HOUR + minute * 60 + second


def is_time(text: str) -> bool:
    """Whether `parse_times` takes a text."""
    parts = re.fullmatch(_PATTERN, text, re.ASCII)
    if parts is None:
        return False
    year, month, day = (int(part or "1") for part in parts.groups()[:3])
    try:
        date(year or 2000, month, day)  # 0000 is a leap year too, but none that Python knows
    except ValueError:
        return False
    return True


def format_times(seconds: tf.Tensor) -> tf.Tensor:
    """Texts such as 2016-07-01 13:00:00 of seconds since 1970-01-01 UTC."""
    days = seconds // DAY
    rest = seconds - days * DAY
    year, month, day = _civil(days)
    return tf.strings.join(
        [
            *(_digits(year, 4), "-", _digits(month, 2), "-", _digits(day, 2), " "),
            *(_digits(rest // HOUR, 2), ":", _digits(rest // 60 % 60, 2)),
            *(":", _digits(rest % 60, 2)),
        ]
    )


def shift(seconds: tf.Tensor, steps: tf.Tensor, frequency: Frequency) -> tf.Tensor:
    """Times some steps later, int64; a day that a month lacks becomes its last one.

    Args:
        seconds, steps: int64, of shapes that broadcast.
    """
    if not frequency.months:
        return seconds + steps * frequency.seconds
    days = seconds // DAY
    year, month, day = _civil(days)
    months = year * 12 + month - 1 + steps * frequency.months
    year, month = months // 12, months % 12 + 1
    length = _days(year + month // 12, month % 12 + 1, tf.ones_like(month)) - _days(
        year, month, tf.ones_like(month)
    )
    day = length if frequency.end else tf.minimum(day, length)
    return _days(year, month, day) * DAY + (seconds - days * DAY)


def calendar_periods(frequency: Frequency, span: float = math.inf) -> tuple[float, ...]:
    """The periods, in seconds, of which a model is told where a time is: those that have two steps
    at least, and that data of this span, in seconds, show twice. In a year that was seen once,
    every day has but one history, which can only be learned by heart."""
    step = frequency.seconds or frequency.months * YEAR / 12
    # Two years of data may be a day short of two mean years.
    long = span + DAY
    return tuple(p for p in (float(DAY), float(WEEK), YEAR) if step * 2 <= p and 2 * p <= long)


def calendar_features(seconds: tf.Tensor, periods: Sequence[float]) -> tf.Tensor:
    """Sine and cosine of the place in each of some periods: float32 (..., 2 x periods)."""
    if not periods:
        return tf.zeros(tf.concat([tf.shape(seconds), [0]], axis=0))
    features = []
    for period in periods:
        # A week begins on a Monday, and 1970-01-01 was a Thursday.
        since = tf.cast(seconds + (3 * DAY if period == WEEK else 0), tf.float64)
        angle = tf.cast(tf.math.floormod(since, period) * (2 * math.pi / period), tf.float32)
        features += [tf.sin(angle), tf.cos(angle)]
    return tf.stack(features, axis=-1)


def _days(year: tf.Tensor, month: tf.Tensor, day: tf.Tensor) -> tf.Tensor:
    """Days since 1970-01-01."""
    year = year - tf.cast(month <= 2, tf.int64)  # years begin in March, so that leap days are last
    era = year // 400
    of_era = year - era * 400
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468


def _civil(days: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Year, month and day of days since 1970-01-01."""
    days = days + 719468
    era = days // 146097
    of_era = days - era * 146097
    year = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    day = of_year - (153 * month + 2) // 5 + 1
    month = (month + 2) % 12 + 1
    return year + era * 400 + tf.cast(month <= 2, tf.int64), month, day


def _digits(number: tf.Tensor, width: int) -> tf.Tensor:
    return tf.strings.as_string(number, width=width, fill="0")
