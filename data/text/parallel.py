"""Parallel texts, to learn translation from: texts of one language, with translations to another.

    source = ParallelSource(ParallelTexts(train=["train.en", "train.de"]))
    splits = source.splits(seed=1)
    splits.train.columns["text"], splits.train.columns["reference"]

Training pairs are cleaned of what harms a translator (Khayrallah & Koehn 2018, arXiv 1805.12282):
pairs whose sides can't be translations of each other, texts that are too long, and repetitions.
What a model is judged on is left as it is.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from data.checksum import together
from data.errors import DataError
from data.options import ParallelTexts, Tables
from data.records import Records, Requests
from data.samples.phrase_book import phrases
from data.splits import Splits, hold_out
from data.tables.fields import Field
from data.tables.formats import open_table
from data.tables.lines import STDIN, LinesTable, holds_lines
from data.tables.nested import with_parts
from data.tables.opening import (
    SAMPLE,
    describe,
    expand,
    has_column,
    named_paths,
    open_tables,
    require_columns,
    tolerate,
)
from data.tables.reading import BadRows, load, requests
from data.tables.source import REQUESTS
from data.tables.table import Chunk, Table, check_filled_file, line_text, not_utf8, opened_lines
from data.tables.tfds import PREFIX
from data.text.tmx import TmxTable, is_tmx

if TYPE_CHECKING:  # for TensorFlow takes seconds to import
    from data.preprocessing import Preprocessor
    from data.text.subwords import TranslationPreprocessor

__all__ = ["ParallelSource", "shortened"]

Some = TypeVar("Some", bound=Records)


class ParallelSource:
    """Reads the pairs of texts that a user names, and texts to translate.

    Records have the columns `text` (str, to be translated) and `reference` (str, its translation);
    with back-translated pairs, those to train on have `weight` too (float32).
    """

    def __init__(self, options: ParallelTexts):
        """Takes the data options."""
        self._options = options
        self._fields = {
            "text": Field(options.source_column, option="--data.source_column"),
            "reference": Field(options.target_column, option="--data.target_column"),
        }

    def splits(self, seed: int) -> Splits:
        """Reads training, validation and test data.

        Validation data that isn't named is held out of the training data once that is cleaned;
        pairs to train on that give it away are left out. Of the sample, all three are parts that
        share no pair.

        Args:
            seed: picks what is held out.

        Raises:
            DataError: the data isn't there, can't be read, or has nothing to train on.
        """
        options = self._options
        if not options.train:
            raise DataError("No training data; name it with --data.train SOURCE TARGET.")
        # A part of the sample is taken for each part that isn't named.
        own = options.train in (SAMPLE, [SAMPLE])
        judged = {
            "validation": options.validation
            or (SAMPLE if own and options.validation_fraction else None),
            "test": options.test or (SAMPLE if own else None),
        }
        train, made, facts = self._training()
        read = {name: self._judged(paths, name) for name, paths in judged.items() if paths}
        validation = read.get("validation")
        if validation is None and options.validation_fraction:
            train, validation = _held_out(train, options.validation_fraction, seed)
            train, made, left_out = _kept_apart(train, made, validation)
            if left_out:
                facts["training pairs left out as they are in the validation data"] = left_out
            if not len(train):
                raise DataError(_nothing_left(train.source, facts))
        for name, records in read.items():
            if count := _shared(_joined(train, made), records):
                facts[f"{name} pairs in the training data"] = count
        train = replace(self._tagged(train, made), facts=facts)
        return Splits(train, validation, read.get("test"))

    def folds(self, splits: Splits) -> Sequence[Splits]:
        """None: a backtest is for what has an order in time."""
        return ()

    def read(self, paths: str | list[str], preprocessor: "Preprocessor | None" = None) -> Records:
        """Reads pairs to judge a model on, all but those with an empty side, which are skipped.

        Args:
            paths: as in the data options; `tfds:NAME` and `sample` mean their test parts.
            preprocessor: the model's, of which nothing needs to be known here.
        """
        return self._judged(paths, "test")

    def requests(
        self,
        paths: str | list[str] | None,
        preprocessor: "Preprocessor | None" = None,
        echo: Sequence[str] = (),
    ) -> Iterator[Requests]:
        """Reads texts to translate, as they come, at most 256 at a time; records have `text` alone.

        Any text file, plain or .gz, and "-" for standard input, holds a text a line, or a JSON
        object with it under "text" or the name of the source column. An empty line is an empty
        text, so that the lines of the answers are those of the texts. Tables and translation
        memories are read by the source column.

        Args:
            paths: files and globs, which are read in this order; standard input if None.
            preprocessor: the model's, of which nothing needs to be known here.
            echo: columns that answers repeat; of lines, keys of those that are JSON.
        """
        options = self._options
        bad = BadRows()
        fields = {"text": self._fields["text"]}
        paths = STDIN if paths is None else paths
        for path in [paths] if isinstance(paths, str) else paths:
            for file in [path] if path == STDIN else expand(path):
                table: Table
                if _is_text(file, options):
                    table = LinesTable(file, fields, lenient=True)
                else:
                    table = self._opened_up(self._table(file, options, file))
                require_columns(table, echo)
                for part in requests(table, _checked([table], fields), REQUESTS, bad, echo):
                    tolerate(bad, options)
                    yield _stripped(part)

    def _training(self) -> tuple[Records, Records, dict[str, int]]:
        """The pairs to train on, first those that people made, and what is said of them."""
        options = self._options
        records = self._load(options.train or [], "train")
        people = len(records)
        if options.back_translated:
            records = _joined(records, self._load(options.back_translated, "train"))
        machine = np.arange(len(records)) >= people
        facts = {"pairs read": len(records)}
        for what, find in UNFIT.items():
            unfit = find(records, options)
            if unfit.any():
                facts[what] = int(np.count_nonzero(unfit))
                records, machine = records.take(~unfit), machine[~unfit]
            if machine.all():
                raise DataError(_nothing_left(records.source, facts))
        if machine.any():
            facts["back-translated pairs"] = int(np.count_nonzero(machine))
        return records.take(~machine), records.take(machine).counting_no_skipped(), facts

    def _tagged(self, train: Records, made: Records) -> Records:
        """The training pairs with the back-translated ones, which are marked as such."""
        options = self._options
        if not options.back_translated:
            return train
        texts = [f"{options.back_translation_tag} {text}".strip() for text in made.columns["text"]]
        marked = replace(made, columns=made.columns | {"text": np.array(texts, object)})
        weights = np.ones(len(train) + len(made), np.float32)
        weights[len(train) :] = options.back_translation_weight
        both = _joined(train, marked)
        return replace(both, columns=both.columns | {"weight": weights})

    def _judged(self, paths: str | list[str], split: str) -> Records:
        """Pairs to judge a model on."""
        records = self._load(paths, split)
        empty = _empty(records, self._options)
        if empty.all():
            raise DataError(f"{records.source}: every pair has an empty side; give texts on both.")
        skipped = records.skipped + int(np.count_nonzero(empty))
        return replace(records.take(~empty), skipped=skipped)

    def _load(self, paths: str | list[str], split: str) -> Records:
        """All pairs that some paths mean, also those with an empty side."""
        tables = self._open(named_paths(paths), split)
        bad = BadRows()
        records = load(tables, _checked(tables, self._fields), describe(tables), bad)
        tolerate(bad, self._options)
        if not len(records):
            skipped = f" but {bad.count} bad rows that were skipped" if bad.count else ""
            raise DataError(f"{records.source} has no pairs{skipped}; give a file that has some.")
        return _stripped(records)

    def _open(self, paths: Sequence[str], split: str) -> list[Table]:
        """The tables that some paths mean; text files next to each other are one."""
        tables: list[Table] = []
        sources: list[str] = []  # text files whose translations are still to come
        for path in paths:
            texts = self._texts(path)
            if sources and texts:
                tables += self._aligned(sources, texts)
                sources = []
            elif sources:
                break
            elif texts:
                sources = texts
            elif path == SAMPLE:
                pairs = phrases(self._options.sample_target, split)
                tables.append(PairsTable(SAMPLE, pairs, self._columns()))
            else:
                tables += open_tables(self._options, path, split, None, self._table)
        if sources:
            raise DataError(
                f"{sources[0]} is a text file without another of its translations; name the source "
                f"file and the target file: --data.{split} SOURCE TARGET."
            )
        return [self._opened_up(table) for table in tables]

    def _texts(self, path: str) -> list[str]:
        """The text files that a path or a glob means; none if it means something else."""
        if path == SAMPLE or path.startswith(PREFIX):
            return []
        files = expand(path)
        texts = [file for file in files if _is_text(file, self._options)]
        if texts and len(texts) < len(files):
            raise DataError(
                f"{path} matches text files and tables, such as {texts[0]} and "
                f"{next(file for file in files if file not in texts)}; name them apart."
            )
        return texts

    def _aligned(self, sources: list[str], targets: list[str]) -> list[Table]:
        if len(sources) != len(targets):
            raise DataError(
                f"{len(sources)} source files ({sources[0]}, ...) but {len(targets)} target files "
                f"({targets[0]}, ...); name as many of each, in the same order."
            )
        for path in chain(sources, targets):
            check_filled_file(path, path)
        return [
            AlignedTable(source, target, self._columns())
            for source, target in zip(sources, targets, strict=True)
        ]

    def _table(self, path: str, options: Tables, name: str) -> Table:
        if is_tmx(path):
            check_filled_file(path, name)
            languages = (self._options.source_language, self._options.target_language)
            return TmxTable(path, name, self._columns(), languages)
        return open_table(path, options, name)

    def _opened_up(self, table: Table) -> Table:
        """The table with the columns that the objects in its cells have, by their keys or by those
        of the languages."""
        languages = (self._options.source_language, self._options.target_language)
        names = zip(self._columns(), languages, strict=True)
        return with_parts(table, {column: [column, code or column] for column, code in names})

    def _columns(self) -> tuple[str, str]:
        return self._options.source_column, self._options.target_column


def shortened(
    splits: Splits, preprocessor: "TranslationPreprocessor", options: ParallelTexts
) -> Splits:
    """The splits without the training pairs that are too long, which are counted, if those are to
    be dropped."""
    train = splits.train
    assert isinstance(train, Records)
    if options.too_long == "truncate":  # which the preprocessor counts
        return splits
    long = preprocessor.too_long(train.columns)
    if not long.any():
        return splits
    count = int(long.sum())
    if count == len(train):
        raise DataError(
            f"{train.source}: every pair has more subwords than --model.max_length; raise it, or "
            "give --data.too_long truncate"
        )
    facts = train.facts | {"pairs of too many subwords": count}
    return replace(splits, train=replace(train.take(~long), facts=facts))


@dataclass(frozen=True)
class AlignedTable:
    """Two text files as a table: line N of one is the translation of line N of the other."""

    source: str
    target: str
    names: tuple[str, str]
    """What the two columns are called."""

    @property
    def name(self) -> str:
        return f"{self.source} and {self.target}"

    @property
    def folder(self) -> Path:
        return Path(self.source).parent

    def size(self) -> int:
        return sum(Path(path).stat().st_size for path in (self.source, self.target))

    def columns(self) -> list[str]:
        return list(self.names)

    def where(self, row: int) -> str:
        return f"{self.name}, row {row}"

    def chunks(self, columns: Sequence[str], size: int) -> Iterator[Chunk]:
        lines = enumerate(self._lines(), 1)
        while part := list(islice(lines, size)):
            chunk = Chunk([], {name: [] for name in self.names}, [])
            sources, targets = chunk.cells.values()
            for row, (source, target) in part:
                try:
                    texts = line_text(source, row), line_text(target, row)
                except UnicodeDecodeError as error:
                    path = self.source if error.object == source else self.target
                    problem = f"in {path}, {not_utf8(error.object[error.start])}"
                    chunk.broken.append((row, problem))
                    continue
                chunk.rows.append(row)
                sources.append(texts[0])
                targets.append(texts[1])
            yield chunk

    def _lines(self) -> Iterator[tuple[bytes, bytes]]:
        """The lines of both files side by side; raises if one file has more."""
        sources, targets = _file_lines(self.source), _file_lines(self.target)
        for count, (source, target) in enumerate(zip_longest(sources, targets)):
            if source is None or target is None:
                longer = count + 1 + sum(1 for _ in chain(sources, targets))
                counts = (count, longer) if source is None else (longer, count)
                raise DataError(
                    f"{self.source} has {counts[0]} lines but {self.target} has {counts[1]}; each "
                    "line of one must be the translation of the same line of the other."
                )
            yield source, target


@dataclass(frozen=True)
class PairsTable:
    """Pairs of texts in memory as a table."""

    name: str
    pairs: Sequence[tuple[str, str]]
    names: tuple[str, str]
    """What the two columns are called."""

    folder = Path()

    def size(self) -> int:
        return sum(len(text) for pair in self.pairs for text in pair)

    def columns(self) -> list[str]:
        return list(self.names)

    def where(self, row: int) -> str:
        return f"{self.name}, row {row}"

    def chunks(self, columns: Sequence[str], size: int) -> Iterator[Chunk]:
        for start in range(0, len(self.pairs), size):
            part = self.pairs[start : start + size]
            cells = zip(self.names, map(list, zip(*part, strict=True)), strict=True)
            yield Chunk(list(range(start + 1, start + 1 + len(part))), dict(cells), [])


def _is_text(path: str, options: Tables) -> bool:
    """Whether a file holds a text a line."""
    return not is_tmx(path) and holds_lines(path, options.format)


def _file_lines(path: str) -> Iterator[bytes]:
    # Not both files in one `with`: what is wrong with one would be said of the other.
    with opened_lines(path, path) as file:
        yield from file


def _checked(tables: Sequence[Table], fields: dict[str, Field]) -> dict[str, Field]:
    """The fields, whose columns all tables have, with "" for empty cells."""
    for table in tables:
        columns = table.columns()
        for field in fields.values():
            has_column(table, columns, field)
    return {key: replace(field, required=False) for key, field in fields.items()}


def _stripped(records: Some) -> Some:
    columns = {
        key: np.fromiter(map(str.strip, column), object, len(column))
        for key, column in records.columns.items()
    }
    return replace(records, columns=columns)


def _held_out(records: Records, fraction: float, seed: int) -> tuple[Records, Records]:
    stay, held = hold_out(records, fraction, seed)
    assert isinstance(stay, Records) and isinstance(held, Records)  # as what they are taken from
    return stay, held


def _joined(first: Records, second: Records) -> Records:
    """Both, the first ones first, called as these are."""
    columns = {
        key: np.concatenate([column, second.columns[key]]) for key, column in first.columns.items()
    }
    return replace(
        first,
        columns=columns,
        skipped=first.skipped + second.skipped,
        checksum=together(first.checksum, second.checksum),
    )


# What makes a pair unfit to train on: booleans (pairs,).


def _empty(records: Records, options: ParallelTexts) -> np.ndarray:
    return _lengths(records).min(axis=0) == 0


def _too_long(records: Records, options: ParallelTexts) -> np.ndarray:
    return _lengths(records).max(axis=0) > (options.max_characters or np.inf)


def _unlike(records: Records, options: ParallelTexts) -> np.ndarray:
    source, target = _lengths(records)
    ratio = np.log(target / source) - np.log(target.sum() / source.sum())
    # Rounding mustn't decide about pairs that are just as unlike as is allowed.
    return np.abs(ratio) > np.log(options.max_ratio or np.inf) + 1e-9


def _repeated(records: Records, options: ParallelTexts) -> np.ndarray:
    if not options.deduplicate:
        return np.zeros(len(records), bool)
    _, first, which = np.unique(_hashes(records), return_index=True, return_inverse=True)
    earlier = first[which]
    same = [column == column[earlier] for column in records.columns.values()]
    return np.logical_and.reduce(same) & (earlier < np.arange(len(records)))


UNFIT: dict[str, Callable[[Records, ParallelTexts], np.ndarray]] = {
    "pairs with an empty side": _empty,
    "pairs too long": _too_long,
    "pairs of unlike length": _unlike,
    "repeated pairs": _repeated,
}


def _lengths(records: Records) -> np.ndarray:
    """Characters of sources and targets, float64 (2, pairs)."""
    return np.array(
        [np.fromiter(map(len, column), float, len(column)) for column in records.columns.values()]
    )


def _hashes(records: Records) -> np.ndarray:
    """A number for each pair, int64: a hundred bytes a pair less than a set of them."""
    return np.fromiter(map(hash, _pairs(records)), np.int64, len(records))


def _pairs(records: Records) -> Iterator[tuple[str, str]]:
    return zip(records.columns["text"], records.columns["reference"], strict=True)


def _shared(train: Records, other: Records) -> int:
    """How many pairs of `other` are among the training pairs."""
    suspects = train.take(np.isin(_hashes(train), _hashes(other)))
    known = set(_pairs(suspects))
    return sum(pair in known for pair in _pairs(other))


def _kept_apart(train: Records, made: Records, held_out: Records) -> tuple[Records, Records, int]:
    """Training and back-translated pairs without those that are held out, nor back-translations of
    what these should be translated as; and how many that were."""
    pairs, references = set(_pairs(held_out)), set(held_out.columns["reference"])
    leaks = np.fromiter((pair in pairs for pair in _pairs(train)), bool, len(train))
    known = (reference in references for reference in made.columns["reference"])
    made_leaks = np.fromiter(known, bool, len(made))
    count = np.count_nonzero(leaks) + np.count_nonzero(made_leaks)
    return train.take(~leaks), made.take(~made_leaks), int(count)


def _nothing_left(source: str, facts: dict[str, int]) -> str:
    counts = ", ".join(f"{count} {what}" for what, count in facts.items())
    return (
        f"{source}: no pair is left to train on ({counts}); mend the data, or leave out less with "
        "--data.max_characters 0 or --data.max_ratio 0."
    )
