"""The data options that every task which reads tables has; importable without TensorFlow."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from data.errors import DataError

_COLOURS: dict[str, tuple[int, int, int] | None] = {
    "white": (255, 255, 255),
    "black": (0, 0, 0),
    "none": None,
}
SAMPLES = Path(__file__).parent / "samples"


@dataclass(frozen=True)
class Tables:
    """The data: files of records, one record a row."""

    train: list[str] | str | None = None
    """Training data: a path, several (with blanks or commas between them), a glob,
    `tfds:NAME[/SPLIT]`, or `sample`. CSV, TSV,
    JSONL (.json, .jsonl), Parquet and TFRecord of tf.train.Example (.tfrecord, .tfrecords, .tfrec,
    also in shards like train.tfrecord-00000-of-00004), by the file's ending; all but Parquet also
    as .gz. Files of more than `memory_limit_mb` together are streamed: CSV, TSV and JSONL in chunks
    of rows, Parquet in record batches, shuffled through a buffer of `shuffle_buffer` records."""

    validation: list[str] | str | None = None
    """Data that picks the best checkpoint; held out of the training data when not given."""

    test: list[str] | str | None = None
    """Data that judges the final model."""

    validation_fraction: float = 0.1
    """Share of the training data held out for validation when none is named, 0 to 0.5; the classes
    keep their shares."""

    format: Literal["auto", "csv", "tsv", "jsonl", "parquet", "tfrecord"] = "auto"
    """The files' format, whatever their endings; auto goes by these."""

    header: bool = True
    """Whether CSV and TSV files start with a row of column names. Without, columns are named by
    number: 0, 1, 2, ..."""

    separator: str = "auto"
    """What is between two cells of CSV and TSV files: a character such as ";", or tab. auto is a
    tab in TSV; in CSV what a first line like `sep=;` says, else a comma, or, where the rows are of
    several cells by only one of these, a semicolon, a tab or a bar."""

    quoting: Literal["auto", "csv", "none"] = "auto"
    """Whether cells of CSV and TSV files may be in quotes, and then hold separators and line
    breaks: csv, as RFC 4180 has it; none reads quotes as they are. auto is csv, but where tabs are
    between cells none, unless the first rows can only be quoted ("a ""word"" in quotes")."""

    on_bad_row: Literal["error", "skip", "answer"] = "error"
    """What to do with a row that has a null or empty field, too many or too few fields, wrong
    quotes, or is not JSON: stop and say which, or skip it and count it; predict alone may `answer`
    it, with nulls and what is wrong with it, and does so by default."""

    memory_limit_mb: int = 1024
    """Files larger than this together, in MiB, are streamed instead of read into memory; 0 streams
    all. A .gz counts for four times its size."""

    shuffle_buffer: int = 100_000
    """Records that a streamed training set is shuffled through."""

    def _require(self, name: str, holds: bool, what: str) -> None:
        if not holds:
            raise DataError(f"--data.{name} {getattr(self, name)}: must be {what}")


@dataclass(frozen=True)
class Pictures(Tables):
    """The data: pictures and their labels, from a folder of class folders or from a table.

    `--data.train` may be a folder, photos/CLASS/*.jpg: the folders in it are named like the classes
    and hold their pictures, at any depth, also behind links; other files in them are counted. Or a
    table with a picture in each row: CSV, TSV, JSONL or Parquet with the paths of picture files,
    absolute or relative to the table's folder; Parquet as Hugging Face has it, with the pictures
    inside; TFRecord of tf.train.Example; `tfds:NAME`.
    """

    image_column: str = "image"
    """The column, or the feature of a TFRecord, of the picture: the path of a file, or the bytes of
    a JPEG, PNG, GIF, BMP or WebP file. A folder of class folders needs no columns."""

    label_column: str = "label"
    """The column, or the feature of a TFRecord, of the label; labels may be words or numbers. In a
    folder of class folders the label is the folder's name."""

    max_pixels: int = 2**26
    """Pixels (width times height) that a picture may have at most. One with more is a bad row, and
    is not decoded: a small file can unfold to more than the memory holds."""

    background: str = "white"
    """The colour that transparent pictures are laid on: white, black, or #rrggbb; `none` drops the
    transparency, and shows whatever colours lie under it."""

    range_16bit: str = "auto"
    """Of pictures of 16 bits, the values that become black and white, as 8 bits are kept: `auto`,
    the range of the training pictures but for the outermost 0.1 %; `full`, 0 to 65535; or two
    numbers, such as 1000,1200."""

    def __post_init__(self) -> None:
        colour = self.background.lower()
        is_colour = colour in _COLOURS or bool(re.fullmatch("#[0-9a-f]{6}", colour))
        self._require("background", is_colour, "white, black, none, or #rrggbb")
        numbers = re.fullmatch(r"([0-9]{1,5}),\s*([0-9]{1,5})", self.range_16bit)
        is_range = numbers is not None and int(numbers[1]) < int(numbers[2]) <= 65535
        self._require(
            "range_16bit",
            is_range or self.range_16bit in ("auto", "full"),
            "auto, full, or two numbers up to 65535, such as 1000,1200",
        )

    @property
    def ground(self) -> tuple[int, int, int] | None:
        """The background's red, green and blue, up to 255."""
        colour = self.background.lower()
        if colour in _COLOURS:
            return _COLOURS[colour]
        red, green, blue = bytes.fromhex(colour[1:])
        return red, green, blue

    @property
    def levels(self) -> tuple[float, float] | Literal["auto"] | None:
        """The values of 16 bits that become black and white; None for the upper 8 bits."""
        if self.range_16bit == "auto":
            return "auto"
        if self.range_16bit == "full":
            return None
        low, high = map(float, self.range_16bit.split(","))
        return low, high


@dataclass(frozen=True)
class TimeSeries(Tables):
    """The data: time series, a time step a row; in a long table, of several series.

    Rows may be in any order and in several files. They are sorted by time and put on a regular grid
    of time steps. All series are held in memory, whatever `memory_limit_mb` and `shuffle_buffer`.
    """

    validation_fraction: float = 0.1
    """Share of the training data's time held out for validation when none is named, 0 to 0.5: what
    comes just before the test part."""

    on_bad_row: Literal["error", "skip", "answer"] = "error"
    """What to do with a row whose time stamp, series or number can't be read, or that has too many
    or too few fields: stop and say which, or leave it out, which makes a gap, and count it;
    predict alone may `answer` series that can't be forecast with what is wrong with them, leaving
    out such rows, and does so by default."""

    time_column: str = "time"
    """The column of the time stamps: ISO 8601 ("2016-07-01 00:00:00", "2016-07", "2016"; without a
    zone they are UTC), quarters ("2016-Q3") and weeks ("2016-W26"), Parquet's timestamps, or
    numbers, of which --data.time_unit tells more."""

    time_unit: Literal["auto", "index", "s", "ms", "us", "ns", "date", "excel"] = "auto"
    """What numbers in the time column are: a plain index, which goes on; seconds, milliseconds,
    microseconds or nanoseconds since 1970; dates by their digits (2016, 201607, 20160701,
    201607011305); or days as Excel counts them. auto tells by how large they are; whole numbers
    below 1e8 that are no dates are an index. A trained model keeps it."""

    time_zone: str | None = None
    """The zone of time stamps that name none, such as Europe/Berlin: steps of days, weeks and
    months are then of its days, the time of day is its own, and answers have it. Time stamps of
    Parquet may name theirs; else they are UTC. A trained model keeps it."""

    targets: list[str] | str | None = None
    """The columns to forecast: several, or one text with commas: "OT,HUFL". All columns of numbers
    that no other option names when not given."""

    series_column: str | None = None
    """The column that says which series a row belongs to; a single series when not given."""

    covariates: list[str] | str | None = None
    """Columns of numbers that help to forecast and are known up to now only, such as weather."""

    known: list[str] | str | None = None
    """Columns of numbers that are known in the future too, such as holidays or planned prices."""

    static: list[str] | str | None = None
    """Columns of numbers or words that stay the same in a series, such as a shop's region."""

    frequency: str = "auto"
    """How far apart time steps are, as pandas names it: "h", "15min", "D", "W", "MS" (months), "QS"
    (quarters), "YS" (years), "B" (Monday to Friday), and 1 for an index; auto takes the most common
    difference, and refuses data with a second one in more than a tenth of the steps."""

    fill: Literal["error", "forward", "interpolate", "zero"] = "forward"
    """What to do about time steps that are absent and cells that are empty, NaN or infinite: stop
    and say which, take the value before (at the start, the first), draw a line between the values
    around, or take 0, as where nothing was sold. All that is filled is counted, and looked back on,
    but never, other than zeros, a value to be forecast: losses are of what was measured. As
    lines are drawn towards what comes, with interpolate a history whose last step was filled is
    neither trained on nor judged. Rows after the last one with a target are the future, not a
    gap."""

    split: Literal["fractions", "ett_hour", "ett_minute"] = "fractions"
    """What is held out: the latest `validation_fraction` and `test_fraction` of the time, or what
    the ETT benchmark does: after 12 months of 30 days 4 for validation and 4 for test, of data by
    the hour or by 15 minutes; the rest is left out (Zhou et al. 2021, arXiv 2012.07436)."""

    test_fraction: float = 0.2
    """Share of the training data's time held out for test when no test data is named, 0 to 0.5: the
    latest part."""

    season: int | None = None
    """Time steps in a season, for the seasonal-naive baseline and MASE; by default those of a day
    (24 for hours), of a week for days, of a year for weeks (52), months (12) and quarters (4)."""

    backtest_folds: int = 0
    """Parts that the test part is cut into, each forecast by a model trained on all before it, of
    which the last `validation_fraction` is held out for validation; 0 to 50, 0 for no such
    backtest."""

    def __post_init__(self) -> None:
        for name in ("validation_fraction", "test_fraction"):
            self._require(name, 0 <= getattr(self, name) <= 0.5, "from 0 to 0.5")
        if self.time_zone is not None:
            _check_zone(self.time_zone)
        self._require("season", self.season is None or self.season >= 1, "at least 1")
        self._require("backtest_folds", 0 <= self.backtest_folds <= 50, "from 0 to 50")
        options: dict[str, str] = {}
        for option in ("time_column", "series_column", "targets", "covariates", "known", "static"):
            for column in self.names(option):
                if column in options:
                    raise DataError(
                        f"--data.{option} names the column '{column}', as --data.{options[column]} "
                        "does; name each column once."
                    )
                options[column] = option

    def names(self, option: str) -> list[str]:
        """The columns that an option names: a text is split at its commas."""
        value = getattr(self, option)
        if isinstance(value, str) and not option.endswith("_column"):
            value = [name.strip() for name in value.split(",")]
        return [name for name in ([value] if isinstance(value, str) else value or []) if name]


def _check_zone(name: str) -> None:
    """Raises unless there is such a time zone."""
    from difflib import get_close_matches
    from zoneinfo import ZoneInfo, available_timezones

    try:
        ZoneInfo(name)
    except (ValueError, OSError, KeyError):  # as for "../x", a folder, and what is not there
        cities = {zone.rpartition("/")[2].lower(): zone for zone in sorted(available_timezones())}
        close = get_close_matches(name.rpartition("/")[2].lower().replace(" ", "_"), cities, 1)
        hint = f"did you mean {cities[close[0]]}?" if close else "name one such as Europe/Berlin."
        raise DataError(f"--data.time_zone {name!r} is no time zone; {hint}") from None


@dataclass(frozen=True)
class ParallelTexts(Tables):
    """The data: texts in one language, each with its translation into another.

    Two text files of as many lines, of which line N of the second is the translation of line N of
    the first; or tables with a column for each language; or translation memories. All pairs are
    held in memory, whatever `memory_limit_mb` and `shuffle_buffer`. White space around texts is
    stripped.
    """

    train: list[str] | str | None = None
    """Training data: two text files, the source first (train.en train.de), plain or .gz, and as
    many more such pairs as you like; CSV, TSV, JSONL or Parquet tables with the columns
    `source_column` and `target_column`; translation memories (.tmx, .tmx.gz); `tfds:NAME[/SPLIT]`;
    or `sample`, a phrase book that a small grammar writes. Globs too: the files that two globs
    match are paired in the order of their names. A pair with an empty side is left out."""

    validation: list[str] | str | None = None
    """Data that picks the best checkpoint, named like the training data; held out of it when not
    given. Only pairs with an empty side are left out."""

    test: list[str] | str | None = None
    """Data that judges the final model, named like the training data. Only pairs with an empty side
    are left out. Pairs that the training data has too are counted, for they flatter the score."""

    validation_fraction: float = 0.1
    """Share of the training pairs held out for validation when none is named, 0 to 0.5: never of
    the back-translated ones. Training pairs equal to one held out, and back-translated ones with
    its translation, are left out and counted."""

    on_bad_row: Literal["error", "skip", "answer"] = "error"
    """What to do with a pair that is not UTF-8, or a row of a table that has too many or too few
    fields, or is not JSON: stop and say which, or leave it out and count it; predict alone may
    `answer` it, with nulls and what is wrong with it, and does so by default."""

    source_column: str = "source"
    """The column of the texts to translate, in tables; the feature, in tfds. Also a key of the
    objects in a column, as in {"translation": {"en": ..., "de": ...}}: en, or translation.en; there
    the source language does, too."""

    target_column: str = "target"
    """The column of their translations, in tables; the feature, in tfds; a key, likewise."""

    source_language: str | None = None
    """The language to translate from, in translation memories: its code, such as "en", which is
    "en-US" too. May be left out where a file has two languages: it is then the one that the file
    says it was translated from."""

    target_language: str | None = None
    """The language to translate into, in translation memories, likewise; by it, too, BLEU's
    tokenizer is chosen."""

    bleu_tokenizer: Literal["auto", "13a", "intl", "zh", "ja-mecab", "ko-mecab", "char", "none"] = (
        "auto"
    )
    """What makes the tokens that BLEU counts, by sacreBLEU's names. auto goes by the target
    language, or the references' script without it: zh for Chinese, ja-mecab and ko-mecab for
    Japanese and Korean if what they need is installed, char for Japanese without it and for Thai,
    Lao, Khmer, Burmese and Tibetan, which have no blanks between words, else 13a."""

    max_ratio: float = 4.0
    """Training pairs are left out where one side is more than this many times as long as the other,
    as they are seldom translations. Lengths are in characters, and what one language is longer by
    over the whole data is allowed for, so that 4 means the same for German and for Chinese. At
    least 1; 0 keeps all pairs."""

    max_characters: int = 2000
    """Training pairs with a longer side than this are left out: mostly texts that were not split
    into sentences. 0 keeps all pairs."""

    too_long: Literal["truncate", "drop"] = "truncate"
    """What to do with training pairs of which a side has more subwords than `--model.max_length`:
    cut that side, or leave them out. They are counted."""

    deduplicate: bool = True
    """Whether to leave out training pairs that occurred before. The same text with another
    translation is another pair."""

    back_translated: list[str] | str | None = None
    """More training pairs, named like the training data, whose sources a machine made by
    translating texts of the target language: the cheapest way to more data, as texts of one
    language are easy to come by (Sennrich et al. 2016, arXiv 1511.06709)."""

    back_translation_tag: str = "<bt>"
    """What is put in front of the sources of back-translated pairs, which tells the model not to
    learn from them what people's sources look like (Caswell et al. 2019, arXiv 1906.06442). Empty
    for no tag."""

    back_translation_weight: float = 1.0
    """How much a back-translated pair counts in the loss, where another counts 1."""

    sample_target: Literal["de", "zh"] = "de"
    """The language that the sample translates English into: German or Chinese."""

    def __post_init__(self) -> None:
        self._require("validation_fraction", 0 <= self.validation_fraction <= 0.5, "from 0 to 0.5")
        self._require("max_ratio", self.max_ratio == 0 or self.max_ratio >= 1, "at least 1, or 0")
        self._require("max_characters", self.max_characters >= 0, "at least 0")
        self._require("back_translation_weight", self.back_translation_weight > 0, "above 0")
        if self.source_column == self.target_column:
            raise DataError(
                f"--data.source_column and --data.target_column are both '{self.source_column}'; "
                "name two columns."
            )
