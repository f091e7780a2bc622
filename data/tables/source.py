"""Tables of records: from the data options and a task's columns to training, validation and test.

    fields = {
        "text": Field("text", option="--data.text_column"),
        "label": Field("label", "label", option="--data.label_column"),
    }
    source = TableSource(Tables(train="reviews.csv"), fields)
    splits = source.splits(seed=1)
    for chunk in splits.train.chunks():
        chunk.columns["text"], chunk.columns["label"]

What fits in memory comes as `Records`; files above the memory limit as `StreamedRecords`, which
hold one number a row and are split just as exactly.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from data.cells import clip, readable, tidy
from data.errors import DataError
from data.options import Tables
from data.records import CHUNK, Records, Requests, StreamedRecords, label_counts
from data.splits import Splits, hold_out
from data.tables.fields import Field
from data.tables.folders import (
    EXTENSIONS,
    FILE,
    FolderTable,
    PicturesTable,
    is_other_picture,
    is_picture,
    pictures_in,
)
from data.tables.formats import open_table
from data.tables.lines import STDIN, LinesTable, holds_lines
from data.tables.opening import (
    SAMPLE,
    describe,
    expand,
    has_column,
    open_tables,
    require_columns,
    tolerate,
)
from data.tables.reading import BadRows, load, picture_bytes, requests, scan, stream
from data.tables.table import Table, check_file, known_format

if TYPE_CHECKING:  # for TensorFlow takes seconds to import
    from data.preprocessing import Preprocessor

SAMPLE_TEST_FRACTION = 0.15
REQUESTS = 256


class TableSource:
    """Reads the records that a task asks for from the tables that a user names."""

    def __init__(self, options: Tables, fields: dict[str, Field], sample: str | None = None):
        """Takes the options, record key -> field, and the path of the file that `sample` means."""
        if not 0 <= options.validation_fraction <= 0.5:
            raise DataError(
                "--data.validation_fraction must be from 0 to 0.5, "
                f"not {options.validation_fraction:g}."
            )
        if options.shuffle_buffer < 1 or options.memory_limit_mb < 0:
            raise DataError(
                "--data.shuffle_buffer must be at least 1 and --data.memory_limit_mb at least 0."
            )
        self._options = options
        self._fields = fields
        self._sample = sample

    def splits(self, seed: int, stratify: str | None = "label") -> Splits:
        """Reads training, validation and test data.

        Validation data that isn't named is held out of the training data, and so is the test data
        of the sample. The same seed gives the same splits.

        Args:
            seed: picks what is held out.
            stratify: the record key of the classes, which keep their shares and are checked: at
                least two, and none in validation or test that training lacks. None for neither.

        Raises:
            DataError: the data isn't there, can't be read, or can't be trained on.
        """
        options = self._options
        if not options.train:
            raise DataError("No training data; name it with --data.train FILE.")
        train = self._read(self._open(options.train, "train"))
        known = None
        if stratify:
            known = self._classes(train, stratify)
            train = train.with_facts(
                {"classes": f"{len(known)} ({_listed(label_counts(train, stratify))})"}
            )
        validation = self._named(options.validation, "validation", stratify, known)
        test = self._named(options.test, "test", stratify, known)
        if test is None and options.train in (SAMPLE, [SAMPLE]):
            train, test = hold_out(train, SAMPLE_TEST_FRACTION, seed, stratify)
        if validation is None and options.validation_fraction:
            train, validation = hold_out(train, options.validation_fraction, seed, stratify)
        return Splits(train, validation, test)

    def read(
        self,
        paths: str | list[str],
        preprocessor: "Preprocessor | None" = None,
        *,
        require_labels: bool = True,
        labels: Collection[str] | None = None,
    ) -> Records | StreamedRecords:
        """Reads one data set, such as the test data of a model that is trained already.

        Args:
            paths: as in the data options; `tfds:NAME` means its test split.
            preprocessor: the model's, which says what labels it knows.
            require_labels: False lets label columns be absent and their cells be empty ("").
            labels: the labels that a model knows; any other is an error.
        """
        tables = self._open(paths, "test")
        records = self._read(tables, require_labels)
        labels = getattr(preprocessor, "labels", labels)
        if labels is not None and "label" in self._fields:  # not of other names, such as ids
            self._check_labels(records, tables, "label", labels)
        return records

    def folds(self, splits: Splits) -> Sequence[Splits]:
        """None: a backtest is for what has an order in time."""
        return ()

    def requests(
        self,
        paths: str | list[str] | None,
        preprocessor: "Preprocessor | None" = None,
        echo: Sequence[str] = (),
    ) -> Iterator[Requests]:
        """Reads raw records to predict from, as they come, at most 256 at a time.

        CSV, TSV, JSONL, Parquet and TFRecord by the file's ending, with the task's columns, of
        which labels may be absent. Any other file, and "-" for standard input, holds one record a
        line: a JSON object, or the raw text (a tab before the second text of a pair).

        A task that reads pictures takes them from picture files and from folders of them too, and
        a line may be the path of one. Such records have a column "file", the path of the picture.

        Args:
            paths: files, globs, and for pictures folders, which are read in this order; standard
                input if None.
            preprocessor: the model's, of which nothing needs to be known here.
            echo: columns that answers repeat; of lines, keys of those that are JSON.
        """
        bad = BadRows()
        paths = STDIN if paths is None else paths
        for table, fields in self._requested([paths] if isinstance(paths, str) else paths):
            require_columns(table, echo)
            for part in requests(table, fields, REQUESTS, bad, echo):
                tolerate(bad, self._options)
                yield part

    def _requested(self, paths: list[str]) -> Iterator[tuple[Table, dict[str, Field]]]:
        """The tables to predict from, each with the fields to read of it."""
        image = self._column("image")
        file = {FILE: Field(FILE, required=False)} if image else {}
        files: list[str] = []
        for path in paths:
            folder = image is not None and Path(path).expanduser().is_dir()
            files += _pictures(path) if folder else [path] if path == STDIN else expand(path)
        for path in files:  # before the first is answered; pictures are told of one by one
            if path != STDIN and not (image and _shows(path)):
                check_file(path, path)
        options = self._options
        for are_pictures, group in groupby(files, lambda path: bool(image) and _shows(path)):
            names = list(group)
            if are_pictures and image:
                cells = {FILE: list(map(readable, names)), image: names}
                pictures = PicturesTable(names[0], names, cells)
                yield pictures, self._present([pictures], require_labels=False) | file
                continue
            for name in names:
                if holds_lines(name, options.format):
                    fields = {key: f for key, f in self._fields.items() if f.kind != "label"}
                    yield self._lines(name, fields), fields | file
                else:
                    table = self._prepared(open_table(name, options))
                    yield table, self._present([table], require_labels=False)

    def _column(self, kind: str) -> str | None:
        """The column of the first field of a kind."""
        return next((field.column for field in self._fields.values() if field.kind == kind), None)

    def _named(
        self,
        paths: str | list[str] | None,
        split: str,
        key: str | None,
        known: Collection[str] | None,
    ) -> Records | StreamedRecords | None:
        """Validation or test data, if any is named, with no labels but those known."""
        if not paths:
            return None
        tables = self._open(paths, split)
        records = self._read(tables)
        if key is not None and known is not None:
            self._check_labels(records, tables, key, known)
        return records

    def _open(self, paths: str | list[str], split: str) -> list[Table]:
        """The tables that some paths mean; `split` is the one that `tfds:NAME` does."""
        tables = open_tables(self._options, paths, split, self._sample, self._table)
        return [self._prepared(table) for table in tables]

    def _prepared(self, table: Table) -> Table:
        """A table as it is read; subclasses may wrap it."""
        return table

    def _lines(self, path: str, fields: dict[str, Field]) -> Table:
        """A table of lines, each a record of these fields."""
        return LinesTable(path, fields)

    def _table(self, path: str, options: Tables, name: str) -> Table:
        """The table in a file, or in a folder of class folders if the task has pictures."""
        image, label = self._column("image"), self._column("label")
        if image and label and Path(path).is_dir():
            return FolderTable(path, name, image, label)
        if image and options.format == "auto" and _shows(path):
            raise DataError(
                f"{path} is a single picture; name a folder that has a folder of pictures for each "
                "class, or a table of pictures."
            )
        return open_table(path, options, name)

    def _read(
        self, tables: Sequence[Table], require_labels: bool = True
    ) -> Records | StreamedRecords:
        """All good rows of the tables, in memory or streamed by their size."""
        fields = self._present(tables, require_labels)
        source = describe(tables)
        size = sum(table.size() + picture_bytes(table, fields) for table in tables)
        fits = size <= self._options.memory_limit_mb * 2**20
        bad = BadRows()
        records = (load if fits else stream)(tables, fields, source, bad)
        tolerate(bad, self._options)
        if not len(records):
            skipped = f" but {bad.count} bad rows that were skipped" if bad.count else ""
            raise DataError(f"{source} has no records{skipped}; give a file that has some.")
        return records

    def _present(self, tables: Sequence[Table], require_labels: bool) -> dict[str, Field]:
        """The fields whose columns every table has; the required ones must be among them."""
        fields = dict(self._fields)
        if not require_labels:
            for key, field in fields.items():
                fields[key] = replace(field, required=field.required and field.kind != "label")
        for table in tables:
            columns = table.columns()
            for key, field in list(fields.items()):
                if not has_column(table, columns, field):
                    del fields[key]
        return fields

    def _classes(self, train: Records | StreamedRecords, key: str) -> list[str]:
        """The labels of the training data, of which there must be two."""
        labels = train.labels(key)[1]
        if len(labels) < 2:
            field = self._fields[key]
            option = f" ({field.option})" if field.option else ""
            raise DataError(
                f"{train.source}: every record has the label '{clip(labels[0])}' in column "
                f"'{field.column}'{option}; give records of two labels at least."
            )
        return labels

    def _check_labels(
        self,
        records: Records | StreamedRecords,
        tables: Sequence[Table],
        key: str,
        known: Collection[str],
    ) -> None:
        """Raises the first label that isn't known, with its row."""
        names = {*known, *map(tidy, known)}
        unknown = {
            label: n for label, n in label_counts(records, key).items() if label not in names
        }
        if not unknown:
            return
        fields = {k: f for k, f in self._present(tables, False).items() if f.kind != "image"}
        for part in scan(tables, fields, CHUNK, BadRows()):
            for row, label in zip(part.rows, part.records.columns[key], strict=True):
                if label in unknown:
                    raise DataError(
                        f"{part.table.where(row)}: label '{clip(label)}' is not in the "
                        f"training data ({sum(unknown.values())} records have "
                        f"{len(unknown)} such labels; training has {_listed(known)}); correct "
                        "them, leave them out, or add training records of them."
                    )


def _shows(path: str) -> bool:
    """Whether a file is a picture, by its ending or, where no format is known by that, by what it
    begins with."""
    if is_picture(path) or is_other_picture(path):
        return True
    if path == STDIN or known_format(path) is not None or not Path(path).is_file():
        return False
    from data.images.pictures import begins_like_a_picture

    with Path(path).open("rb") as file:
        return begins_like_a_picture(file.read(16))


def _pictures(folder: str) -> list[str]:
    """The pictures anywhere in a folder, of which there must be some; also those that have to be
    converted, as nobody would see which of them lack an answer."""
    found = pictures_in(str(Path(folder).expanduser()))
    files = sorted(found.files + found.others)
    if not files:
        raise DataError(f"{folder} has no pictures ({', '.join(EXTENSIONS)}); name another folder.")
    return files


def _listed(labels: Collection[str]) -> str:
    """The first few labels, for a message."""
    first = ", ".join(clip(label) for label in list(labels)[:5])
    return first + (f" and {len(labels) - 5} more" if len(labels) > 5 else "")
