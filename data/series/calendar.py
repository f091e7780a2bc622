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

import numpy as np
import tensorflow as tf

from data.series.clock import UTC, Clock
from data.series.frequency import DAY, HOUR, Frequency
from data.series.zones import Zone

WEEK = 7 * DAY
YEAR = 365.2425 * DAY

_DATE = (
    r"\s*(\d{4})(?:-(0[1-9]|1[0-2])(?:-(\d{2})"
    r"(?:[T ]([01]\d|2[0-3]):([0-5]\d)(?::([0-5]\d)(?:\.\d*)?)?)?)?)?"
)
_PATTERN = _DATE + r"(?:Z|[+]00:?00)?\s*"
_ZONED = _DATE + r" ?(?:Z|([-+])(\d{2})(?::?([0-5]\d))?)?\s*"


def parse_times(texts: tf.Tensor, clock: Clock = UTC) -> tf.Tensor:
    """Seconds as a clock has them, int64, of ISO 8601 texts such as 2016-07-01 13:00:00, 2016-07,
    or 2016; those without a zone are of the clock's.

    Raises:
        tf.errors.InvalidArgumentError: a text is not like that, names no real day, or, if the clock
            is UTC, has another zone.
    """
    pattern, message = _pattern(clock), _message(clock)
    known = tf.reduce_all(tf.strings.regex_full_match(texts, pattern))
    with tf.control_dependencies([tf.debugging.Assert(known, [message, texts])]):
        texts = tf.identity(texts)

    def number(group: int, first: str) -> tf.Tensor:
        # A part that is not there leaves nothing; months and days begin with 1.
        part = tf.strings.regex_replace(texts, pattern, rf"\{group}")
        return tf.strings.to_number(tf.strings.regex_replace(part, "^$", first), tf.int64)

    year, month, day, hour, minute, second = (
        number(group, first) for group, first in enumerate(("0", "1", "1", "0", "0", "0"), 1)
    )
    days = _days(year, month, day)
    there_is = tf.reduce_all(_civil(days)[2] == day)  # 2016-02-30 would be another day
    with tf.control_dependencies([tf.debugging.Assert(there_is, [message, texts])]):
        shown = days * DAY + hour * HOUR + minute * 60 + second
    if not clock.zone:
        return shown
    ahead = number(8, "0") * HOUR + number(9, "0") * 60
    behind = tf.strings.regex_replace(texts, pattern, r"\7") == "-"
    instants = shown - tf.where(behind, -ahead, ahead)
    given = tf.strings.regex_full_match(texts, r".*(Z|:.*[-+].*)\s*")
    zone = Zone.named(clock.zone)
    if clock.wall:
        return tf.where(given, instants + _ahead(instants, zone.instants, zone), shown)
    return tf.where(given, instants, shown - _ahead(shown, zone.walls, zone))


def is_time(text: str, clock: Clock = UTC) -> bool:
    """Whether `parse_times` takes a text."""
    parts = re.fullmatch(_pattern(clock), text, re.ASCII)
    if parts is None:
        return False
    year, month, day = (int(part or "1") for part in parts.groups()[:3])
    try:
        date(year or 2000, month, day)  # 0000 is a leap year too, but none that Python knows
    except ValueError:
        return False
    return True


def format_times(seconds: tf.Tensor, clock: Clock = UTC) -> tf.Tensor:
    """Texts such as 2016-07-01 13:00:00 of seconds as a clock has them; of a zone's hours with
    what they are ahead of UTC: 2016-07-01 13:00:00+02:00."""
    if clock.zone and not clock.wall:
        zone = Zone.named(clock.zone)
        ahead = _ahead(seconds, zone.instants, zone)
        minutes = tf.abs(ahead) // 60
        sign = tf.where(ahead < 0, "-", "+")
        ends = [sign, _digits(minutes // 60, 2), ":", _digits(minutes % 60, 2)]
        return tf.strings.join([format_times(seconds + ahead), *ends])
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


def shown(seconds: tf.Tensor, clock: Clock) -> tf.Tensor:
    """What clocks show at times that a clock has, in seconds."""
    if not clock.zone or clock.wall:
        return seconds
    zone = Zone.named(clock.zone)
    return seconds + _ahead(seconds, zone.instants, zone)


def shift(seconds: tf.Tensor, steps: tf.Tensor, frequency: Frequency) -> tf.Tensor:
    """Times some steps later, int64; a day that a month lacks becomes its last one.

    Args:
        seconds, steps: int64, of shapes that broadcast.
    """
    if frequency.business:
        week, day = (seconds // DAY + 3) // 7, (seconds // DAY + 3) % 7
        # A weekend counts as the Friday before.
        day = week * 5 + tf.minimum(day, 4) + steps * (frequency.seconds // DAY)
        return (day // 5 * 7 + day % 5 - 3) * DAY + seconds % DAY
    if not frequency.months:
        return seconds + steps * frequency.seconds
    days = seconds // DAY
    year, month, day = _civil(days)
    months = year * 12 + month - 1 + steps * frequency.months
    year, month = months // 12, months % 12 + 1
    length = _days(year + month // 12, month % 12 + 1, tf.ones_like(month)) - _days(
        year, month, tf.ones_like(month)
    )
    if frequency.day:
        day = tf.constant(frequency.day, tf.int64)
    day = length if frequency.end else tf.minimum(day, length)
    return _days(year, month, day) * DAY + (seconds - days * DAY)


def calendar_periods(frequency: Frequency, span: float = math.inf) -> tuple[float, ...]:
    """The periods, in seconds, of which a model is told where a time is: those that have two steps
    at least, and that data of this span, in seconds, show twice. In a year that was seen once,
    every day has but one history, which can only be learned by heart. An index has none."""
    if frequency.index:
        return ()
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


def _pattern(clock: Clock) -> str:
    return _ZONED if clock.zone or clock.wall else _PATTERN


def _message(clock: Clock) -> str:
    zone = clock.zone or "UTC"
    return f"time must be like 2016-07-01 13:00:00 ({zone}), 2016-07-01, 2016-07 or 2016, not:"


def _ahead(seconds: tf.Tensor, changes: np.ndarray, zone: Zone) -> tf.Tensor:
    """How far clocks are ahead of UTC, in seconds: between which changes times are."""
    flat = tf.reshape(seconds, [-1])
    place = tf.searchsorted(tf.constant(changes), flat, side="right")
    return tf.reshape(tf.gather(tf.constant(zone.offsets), place), tf.shape(seconds))


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
