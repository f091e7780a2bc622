"""Records: what a data set is once it has been read, in memory or streamed from its files."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

import numpy as np

from data.errors import DataError

if TYPE_CHECKING:  # for TensorFlow takes seconds to import
    from data.batching import Batches
    from data.preprocessing import Preprocessor

CHUNK = 8192
CHUNK_BYTES = 2**26  # of pictures, which are large


class DataSet(Protocol):
    """What training and judging ask of data, whatever they are made of."""

    @property
    def skipped(self) -> int:
        """Bad rows left out."""

    @property
    def source(self) -> str:
        """What to call the records in messages and reports."""

    @property
    def checksum(self) -> str:
        """That of all records that were read, of which these may be a part."""

    @property
    def facts(self) -> dict[str, Any]:
        """What else is worth saying of all the data, by name."""

    def __len__(self) -> int: ...

    def take(self, indices: np.ndarray) -> Self:
        """The records at `indices`."""

    def first(self, count: int) -> Any:
        """Records to show: the first ones, or all where they are in memory anyway."""

    def chunks(self, size: int = CHUNK) -> Iterator["Records"]:
        """Raw records in order, at most `size` at a time."""

    def truth(self, preprocessor: "Preprocessor") -> np.ndarray:
        """What a model should answer, a row a record."""

    def batches(self, preprocessor: "Preprocessor") -> "Batches | None":
        """What makes batches of the data, where that is their own affair; else they are encoded
        by the preprocessor, as raw records."""


class _Encoded:
    """Data whose targets and batches the preprocessor makes of raw records."""

    def chunks(self, size: int = CHUNK) -> Iterator["Records"]:
        raise NotImplementedError

    def truth(self, preprocessor: "Preprocessor") -> np.ndarray:
        """What a model should answer, a row a record."""
        return np.concatenate([preprocessor.targets(chunk.columns) for chunk in self.chunks()])

    def batches(self, preprocessor: "Preprocessor") -> None:
        """None: the preprocessor encodes the records."""
        return None


@dataclass(frozen=True, eq=False)
class Records(_Encoded):
    """Records in memory: equally long columns."""

    columns: dict[str, np.ndarray]
    """Record key -> array of objects (str, bytes, or float32 arrays) or of float32."""

    skipped: int = 0
    """Bad rows left out."""

    source: str = ""
    """What to call the records in messages and reports."""

    facts: dict[str, Any] = field(default_factory=dict)
    """What else is worth saying of all the data, by name."""

    checksum: str = ""
    """That of all records that were read, of which these may be a part; of data sets only."""

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def take(self, indices: np.ndarray | slice) -> "Records":
        """The records at `indices` (integers, booleans or a slice), in that order."""
        columns = {key: column[indices] for key, column in self.columns.items()}
        return replace(self, columns=columns)

    def first(self, count: int) -> "Records":
        """All the records, as they are in memory anyway."""
        return self

    def counting_no_skipped(self) -> "Records":
        """The same records, as if nothing had been left out of them, and nothing said of them."""
        return replace(self, skipped=0, facts={})

    def with_facts(self, facts: dict[str, Any]) -> "Records":
        """The same records, with more that is worth saying of them."""
        return replace(self, facts=self.facts | facts)

    def chunks(self, size: int = CHUNK) -> Iterator["Records"]:
        """Consecutive parts of at most `size` records and about 64 MiB of bytes and arrays."""
        weights = [0] * len(self)
        for column in self.columns.values():
            if len(column) and isinstance(column[0], bytes | np.ndarray):
                sizes = (
                    cell.nbytes if isinstance(cell, np.ndarray) else len(cell) for cell in column
                )
                weights = [weight + size for weight, size in zip(weights, sizes, strict=True)]
        for part in bounded(weights, size):
            yield self.take(part)

    def labels(self, key: str = "label") -> tuple[np.ndarray, list[str]]:
        """Each record's label as a number, and the labels so numbered, by first appearance."""
        numbering = Numbering()
        return numbering.encode(self.columns[key]), numbering.names


class Asked(NamedTuple):
    """One of the records that were read to be answered."""

    source: str
    """What it was read from, such as the path of a file."""

    row: int | None
    """Its number in there, as messages have it; None if it is no row."""

    where: str
    """What messages call it: "a.csv, row 7"."""

    problem: str | None = None
    """Why it can't be answered, in words; None if it can."""

    echoed: Mapping[str, Any] = {}
    """What the answer repeats of it, by name."""


@dataclass(frozen=True, eq=False)
class Requests(Records):
    """Raw records to answer, and which others can't be answered."""

    asked: Sequence[Asked] = ()
    """All of them, in order; those without a problem are the records."""


class StreamedRecords(_Encoded):
    """Records that stay in their files: each call of `chunks` reads the files once more."""

    def __init__(
        self,
        read: Callable[[int], Iterator[Records]],
        codes: dict[str, tuple[np.ndarray, list[str]]],
        keep: np.ndarray,
        skipped: int = 0,
        source: str = "",
        facts: dict[str, Any] | None = None,
        checksum: str = "",
    ):
        """Takes a reader of all good rows, and what a first pass over them found.

        Args:
            read: called with a size, yields all good rows in chunks of at most that many.
            codes: record key -> the label numbers of all good rows, and the labels' names.
            keep: which of the good rows these records are, booleans.
            skipped: bad rows left out.
            source: what to call the records in messages.
            facts: what else is worth saying of all the data, by name.
            checksum: that of all good rows.
        """
        self._read = read
        self._codes = codes
        self._keep = keep
        self.skipped = skipped
        self.source = source
        self.facts = facts or {}
        self.checksum = checksum

    def __len__(self) -> int:
        return int(np.count_nonzero(self._keep))

    def take(self, indices: np.ndarray) -> "StreamedRecords":
        """The records at `indices` (integers without repeats), in the order of the files."""
        keep = np.zeros_like(self._keep)
        keep[np.flatnonzero(self._keep)[indices]] = True
        return self._replaced(keep=keep)

    def first(self, count: int) -> Records:
        """The first records, in memory."""
        return next(self.chunks(count))

    def counting_no_skipped(self) -> "StreamedRecords":
        """The same records, as if nothing had been left out of them, and nothing said of them."""
        return self._replaced(skipped=0, facts={})

    def with_facts(self, facts: dict[str, Any]) -> "StreamedRecords":
        """The same records, with more that is worth saying of them."""
        return self._replaced(facts=self.facts | facts)

    def chunks(self, size: int = CHUNK) -> Iterator[Records]:
        """The records in the order of the files, in parts of at most `size`."""
        start = 0
        for chunk in self._read(size):
            kept = np.flatnonzero(self._keep[start : start + len(chunk)])
            start += len(chunk)
            if len(kept):
                yield chunk.take(kept)
        if start != len(self._keep):
            raise DataError(
                f"{self.source} changed while it was being used: {len(self._keep)} rows became "
                f"{start}; start again with files that stay as they are."
            )

    def labels(self, key: str = "label") -> tuple[np.ndarray, list[str]]:
        """Each record's label as a number, and the labels so numbered, by first appearance."""
        codes, names = self._codes[key]
        present, first, codes = np.unique(codes[self._keep], return_index=True, return_inverse=True)
        order = np.argsort(first)
        rank = np.empty(len(order), np.int32)
        rank[order] = np.arange(len(order))
        return rank[codes], [names[code] for code in present[order]]

    def _replaced(self, **changes: Any) -> "StreamedRecords":
        same = {"keep": self._keep, "skipped": self.skipped, "source": self.source}
        same |= {"facts": self.facts, "checksum": self.checksum}
        return StreamedRecords(self._read, self._codes, **{**same, **changes})


def bounded(weights: Sequence[int], size: int) -> Iterator[slice]:
    """Consecutive parts of at most `size` rows, and of `CHUNK_BYTES` where more than one row."""
    start, total = 0, 0
    for row, weight in enumerate(weights):
        if row > start and (row - start == size or total + weight > CHUNK_BYTES):
            yield slice(start, row)
            start, total = row, 0
        total += weight
    if start < len(weights):
        yield slice(start, len(weights))


class Numbering:
    """Numbers labels by first appearance, over as many arrays as there are."""

    def __init__(self) -> None:
        self._codes: dict[str, int] = {}

    @property
    def names(self) -> list[str]:
        """The labels met so far, in the order of their numbers."""
        return list(self._codes)

    def encode(self, labels: np.ndarray) -> np.ndarray:
        """The labels' numbers, int32."""
        for label in dict.fromkeys(labels.tolist()):
            self._codes.setdefault(label, len(self._codes))
        return np.fromiter(map(self._codes.__getitem__, labels), np.int32, len(labels))


def cell_text(cell: Any) -> str:
    """A cell for people to read: of an array, its shape and first numbers."""
    if not isinstance(cell, np.ndarray):
        return str(cell)
    numbers = ", ".join(f"{number:.4g}" for number in cell.ravel()[:8].tolist())
    return f"{' x '.join(map(str, cell.shape))}: {numbers}{', …' if cell.size > 8 else ''}"


def label_counts(records: Records | StreamedRecords, key: str = "label") -> dict[str, int]:
    """How many records each label has; sorted as numbers if all are integers, else as text."""
    codes, names = records.labels(key)
    counts = np.bincount(codes, minlength=len(names)).tolist()
    integers = all(name.isascii() and name.removeprefix("-").isdigit() for name in names)
    order = (lambda pair: (int(pair[0]), pair[0])) if integers else None
    return dict(sorted(zip(names, counts, strict=True), key=order))
