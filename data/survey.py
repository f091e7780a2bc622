"""What becomes of a data set's records: how many are cut, and how much of them means nothing.

facts = survey(preprocessor, splits.validation)
facts["texts cut"], facts["share of unknown tokens"]
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from data.records import CHUNK, DataSet, Records

if TYPE_CHECKING:  # for TensorFlow takes seconds to import
    from data.preprocessing import Preprocessor

TOKENS, UNKNOWN_TOKENS, UNKNOWN_SHARE = "tokens", "unknown tokens", "share of unknown tokens"
WARNING = "warning"


def survey(preprocessor: "Preprocessor", records: DataSet) -> dict[str, Any]:
    """What a preprocessor has to say of a data set's records, by name; with `WARNING`, in words,
    where something is wrong.

    Of more than the preprocessor's `surveyed` records so many are looked at, which is said: evenly
    picked ones, or the first of streamed ones.
    """
    tally: Counter[str] = Counter()
    seen = 0
    for chunk in _some(records, preprocessor.surveyed):
        tally.update(preprocessor.tally(chunk.columns))
        seen += len(chunk)
    facts = facts_of(tally)
    if facts and seen < len(records):
        facts["records looked at"] = seen
    warning = preprocessor.warning(facts, seen)
    return facts | ({WARNING: warning} if warning else {})


def facts_of(tally: Mapping[str, int]) -> dict[str, Any]:
    """What a tally says: its counts, but of tokens the share of unknown ones."""
    facts: dict[str, Any] = {k: v for k, v in tally.items() if k not in (TOKENS, UNKNOWN_TOKENS)}
    if tally.get(TOKENS):
        facts[UNKNOWN_SHARE] = round(tally.get(UNKNOWN_TOKENS, 0) / tally[TOKENS], 4)
    return facts


def _some(records: DataSet, count: int | None) -> Iterator[Records]:
    """The records, or so many of them."""
    if count is None or len(records) <= count:
        yield from records.chunks() if count != 0 else ()
    elif isinstance(records, Records):
        yield from records.take(np.linspace(0, len(records) - 1, count).astype(int)).chunks()
    else:
        for chunk in records.chunks(min(count, CHUNK)) if count else ():
            yield chunk.take(slice(0, count))
            count -= min(count, len(chunk))
            if not count:
                return
