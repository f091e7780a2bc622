"""What a user's paths mean, and what all tables that are read share: names, columns, bad rows."""

import glob
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path

from data.cells import exact, tidy
from data.errors import DataError
from data.options import Tables
from data.tables.fields import Field
from data.tables.formats import open_table
from data.tables.lines import LinesTable
from data.tables.reading import BadRows
from data.tables.separated import CsvTable
from data.tables.table import Table, WrappedTable
from data.tables.tfds import PREFIX, TfdsTable

SAMPLE = "sample"
_QUOTES = "'\""


def _open_file(path: str, options: Tables, name: str) -> Table:
    return open_table(path, options, name)


def open_tables(
    options: Tables,
    paths: str | list[str],
    split: str,
    sample: str | None,
    open_file: Callable[[str, Tables, str], Table] = _open_file,
) -> list[Table]:
    """The tables that some paths mean.

    Args:
        options: say the files' format.
        paths: paths, globs, `tfds:NAME[/SPLIT]` or `sample`; one text may have several, with
            commas between them.
        split: "train", "validation" or "test"; the one that `tfds:NAME` means.
        sample: the path of the file that `sample` means, if there is one.
        open_file: opens a file by its path, the options, and the name it has in messages.
    """
    tables: list[Table] = []
    for path in named_paths(paths):
        if path.startswith(PREFIX):
            tables.append(TfdsTable(path, split))
        elif path == SAMPLE:
            if split != "train":
                raise DataError(
                    "sample is training data, of which a test part is held out by itself; "
                    f"name a file with --data.{split}, or leave it out."
                )
            if sample is None:
                raise DataError("This task has no sample; name data with --data.train FILE.")
            tables.append(open_file(sample, Tables(), SAMPLE))
        else:
            tables += [open_file(file, options, file) for file in expand(path)]
    return tables


def named_paths(paths: str | list[str]) -> list[str]:
    """The paths that an option names: a text is split at its commas, unless it is a path that has
    some."""
    if not isinstance(paths, str):
        return paths
    if "," not in paths or Path(paths).expanduser().exists():
        return [paths]
    return [path for part in paths.split(",") if (path := part.strip())]


def tolerate(bad: BadRows, options: Tables) -> None:
    """Raises the first bad row, unless the user chose to skip such rows."""
    if bad.count and options.on_bad_row == "error":
        more = bad.count - 1
        others = f", and {more} more bad row{'s' * (more > 1)}" if more else ""
        raise DataError(
            f"{bad.first}{others}; mend the data, or leave such rows out with "
            "--data.on_bad_row skip."
        )


def has_column(table: Table, columns: list[str], field: Field) -> bool:
    """Whether a table has a field's column, once; raises if it doesn't but must."""
    file = _unwrapped(table)
    count = columns.count(field.column)
    if not count and isinstance(file, CsvTable):
        count = columns.count(tidy(field.column))
    if count > 1:
        raise DataError(
            f"{table.name}: {count} columns are named '{field.column}'; give each a name of its "
            "own."
        )
    if count == 0 and field.required:
        names = ", ".join(map(exact, columns))
        close = get_close_matches(field.column, columns, 1)
        meant = f" (did you mean '{exact(close[0]).strip(_QUOTES)}'?)" if close else ""
        hint = f" Name yours with {field.option}." if field.option else ""
        if isinstance(file, CsvTable):
            hint += file.hint(columns)
        raise DataError(
            f"{table.name}: no column '{field.column}'{meant}; the columns are: {names}.{hint}"
        )
    return count == 1


def require_columns(table: Table, echo: Sequence[str]) -> None:
    """Raises unless a table has all columns that answers are to repeat; lines may, if JSON."""
    if echo and not isinstance(_unwrapped(table), LinesTable):
        columns = table.columns()
        for column in echo:
            has_column(table, columns, Field(column, option="--echo"))


def _unwrapped(table: Table) -> Table:
    """The table itself, or the one that it reads in its own way."""
    return table.table if isinstance(table, WrappedTable) else table


def describe(tables: Sequence[Table]) -> str:
    """What messages call some tables together."""
    more = len(tables) - 1
    return tables[0].name + (f" and {more} more file{'s' * (more > 1)}" if more else "")


def expand(pattern: str) -> list[str]:
    """The files that a path or a glob means, sorted."""
    path = str(Path(pattern).expanduser())
    if Path(path).exists() or not glob.has_magic(path):
        return [path]
    # Unlike pathlib's, this glob leaves out hidden files, which are often another program's.
    matches = glob.glob(path, recursive=True)  # noqa: PTH207
    files = sorted(match for match in matches if Path(match).is_file())
    if not files:
        raise DataError(f"{path} matches no file; check the glob (relative to {Path.cwd()}).")
    return files
