"""Parallel texts: what is read, what is not learned from, and what is said about bad data."""

import gzip
import io
import json
import sys
import tempfile
from importlib import import_module
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from data.errors import DataError
from data.options import ParallelTexts
from data.text.parallel import ParallelSource

PAIRS = [("Good morning", "Guten Morgen"), ("Thank you", "Vielen Dank"), ("See you", "Bis bald")]


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes a file into the working folder, as text or bytes."""
    monkeypatch.chdir(tmp_path)

    def write_file(name: str, content: str | bytes) -> str:
        content = content.encode() if isinstance(content, str) else content
        Path(name).write_bytes(content)
        return name

    return write_file


def source(**options) -> ParallelSource:
    return ParallelSource(ParallelTexts(**options))


def pairs(records) -> list[tuple[str, str]]:
    return list(zip(records.columns["text"], records.columns["reference"], strict=True))


def trained_on(*train, **options):
    """The training part of text files, with nothing held out."""
    return source(train=list(train), validation_fraction=0, **options).splits(1).train


def message(*paths: str, **options) -> str:
    """What reading training data says is wrong, in one line."""
    with pytest.raises(DataError) as caught:
        trained_on(*paths, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def write_pairs(write, table=PAIRS, name: str = "a") -> list[str]:
    sides = zip(*table, strict=True)
    return [
        write(f"{name}.{language}", "".join(f"{text}\n" for text in side))
        for language, side in zip(("en", "de"), sides, strict=True)
    ]


def sentences(count: int, start: int = 0) -> list[tuple[str, str]]:
    return [(f"sentence number {i}", f"Satz Nummer {i:5}") for i in range(start, start + count)]


def tmx(*units: dict[str, str], header: str = "", doctype: str = "") -> str:
    bodies = (
        "<tu>"
        + "".join(f'<tuv xml:lang="{code}"><seg>{text}</seg></tuv>' for code, text in unit.items())
        + "</tu>"
        for unit in units
    )
    return f'{doctype}<tmx version="1.4"><header {header}/><body>{"".join(bodies)}</body></tmx>'


# What is read


def test_line_n_of_one_file_is_the_translation_of_line_n_of_the_other(write):
    assert pairs(source().read(write_pairs(write))) == PAIRS


def test_several_pairs_of_files_are_read_in_order(write):
    first, second = write_pairs(write), write_pairs(write, sentences(2), "b")
    assert pairs(source().read([*first, *second])) == PAIRS + sentences(2)


def test_globs_are_paired_in_the_order_of_names(write):
    write_pairs(write, PAIRS[1:], "part-2")
    write_pairs(write, PAIRS[:1], "part-1")
    assert pairs(source().read(["part-*.en", "part-*.de"])) == PAIRS
    write("part-3.en", "More\n")
    assert "3 source files (part-1.en, ...) but 2" in message("part-*.en", "part-*.de")


def test_text_files_may_be_packed_have_a_byte_order_mark_and_end_their_lines_like_windows(write):
    write("a.en.gz", gzip.compress(b"\xef\xbb\xbfone\r\ntwo"))
    write("a.de.txt", "eins\r\n zwei \r\n")
    assert pairs(source().read(["a.en.gz", "a.de.txt"])) == [("one", "eins"), ("two", "zwei")]


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n"), max_size=12).map(
    str.strip
)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(TEXTS, TEXTS), min_size=1))
def test_any_text_survives_as_lines_end_at_line_feeds_alone(table):
    table = [("x\u2028y\x85z\x0b\x0cw\x1cv\ra", "é"), *table]
    with tempfile.TemporaryDirectory() as folder:
        paths = [f"{folder}/{side}" for side in ("source", "target")]
        for path, side in zip(paths, zip(*table, strict=True), strict=True):
            Path(path).write_bytes("".join(f"{text}\n" for text in side).encode())
        records = source().read(paths)
        assert pairs(records) == [pair for pair in table if all(pair)]
        assert records.skipped == sum(not all(pair) for pair in table)
        asked = [text for part in source().requests(paths[0]) for text in part.columns["text"]]
        assert asked == [text for text, _ in table]


def test_tables_have_a_column_for_each_language(write):
    rows = [{"en": en, "de": de} for en, de in PAIRS]
    write("a.tsv", "en\tde\n" + "".join(f"{en}\t{de}\n" for en, de in PAIRS))
    write("a.jsonl", "\n".join(map(json.dumps, rows)))
    parquet.write_table(pyarrow.Table.from_pylist(rows), "a.parquet")
    columns = {"source_column": "en", "target_column": "de"}
    for path in ("a.tsv", "a.jsonl", "a.parquet"):
        assert pairs(source(**columns).read(path)) == PAIRS
    assert "no column 'source'; the columns are: en, de. Name yours with --data.source_column" in (
        message("a.tsv")
    )


@pytest.mark.parametrize(
    "options",
    [
        {"source_column": "en", "target_column": "de"},
        {"source_column": "translation.en", "target_column": "translation.de"},
        {"source_language": "en", "target_language": "de"},
    ],
)
def test_texts_may_be_in_objects_as_hugging_face_has_them(write, options):
    rows = [{"id": 1, "translation": {"en": en, "de": de}} for en, de in PAIRS]
    lines = [json.dumps(row) for row in [*rows, {"translation": {"en": "alone"}}, {"id": 2}]]
    write("a.jsonl", "\n".join(lines))
    parquet.write_table(pyarrow.Table.from_pylist(rows), "a.parquet")
    for path in ("a.jsonl", "a.parquet"):
        assert pairs(source(**options).read(path)) == PAIRS
        asked = [text for part in source(**options).requests(path) for text in part.columns["text"]]
        assert asked[: len(PAIRS)] == [en for en, _ in PAIRS]


def test_what_objects_hold_is_listed_and_must_not_be_in_two(write):
    cells = {"name": "x", "translation": {"en": "a", "de": "b"}, "other": {"de": "c", "fr": "d"}}
    write("a.jsonl", json.dumps(cells))
    problem = message("a.jsonl")
    assert "the columns are: name, translation.en, translation.de, other.de, other.fr." in problem
    with pytest.raises(DataError, match=r"'de' may be translation.de or other.de; name the whole"):
        source(source_column="en", target_column="de").read("a.jsonl")


def test_text_files_tables_and_memories_can_be_mixed(write):
    files = write_pairs(write)
    write("b.csv", "source,target\none,eins\n")
    write("c.tmx", tmx({"en": "two", "de": "zwei"}))
    found = pairs(source().read(["b.csv", *files, "c.tmx"]))
    assert found == [("one", "eins"), *PAIRS, ("two", "zwei")]


def test_a_held_out_part_is_named_or_taken_from_the_training_data(write):
    files = write_pairs(write, sentences(50))
    splits, again, other = (source(train=files).splits(seed) for seed in (1, 1, 2))
    assert (len(splits.train), len(splits.validation), splits.test) == (45, 5, None)
    assert pairs(splits.validation) == pairs(again.validation) != pairs(other.validation)
    assert not set(pairs(splits.train)) & set(pairs(splits.validation))
    named = source(train=files, validation=write_pairs(write, name="v"), test=files).splits(1)
    assert (len(named.train), len(named.validation), len(named.test)) == (50, 3, 50)


def test_the_sample_has_parts_of_its_own(write):
    splits = source(train="sample", sample_target="zh").splits(1)
    parts = [set(pairs(part)) for part in (splits.train, splits.validation, splits.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) > 6000
    assert ("The bill, please.", "请结账。") in parts[0]
    assert splits.train.facts == {"pairs read": len(splits.train)}
    assert len(source().read("sample")) == len(splits.test)
    files = write_pairs(write)
    assert pairs(source(train="sample", test=files).splits(1).test) == PAIRS


# Translation memories


def test_formatting_codes_are_left_out_of_memories_but_not_what_is_highlighted(write):
    text = (
        'Press <bpt i="1">&lt;b&gt;<sub>x</sub></bpt><hi>OK</hi><ept i="1"/> &amp; go<ph>{}</ph>.'
    )
    path = write("a.tmx", tmx({"en": text, "de": "OK"}))
    assert pairs(source().read(path)) == [("Press OK & go.", "OK")]


@pytest.mark.parametrize(
    ("segment", "text"),
    [
        ('First line<ph x="1">&lt;br/&gt;</ph>Second line', "First line Second line"),
        ("See<ph>[tab]</ph>note <ph/><ph/>2", "See note 2"),
        ("हिन्दी<it pos='begin'/>पाठ.<ut>{br}</ut>Now", "हिन्दी पाठ. Now"),
        ("one<ph><sub>Figure</sub></ph>two<sub>three</sub>four", "one two four"),
        ("one<x/>two (<ph/>three<ph/>), <ph/>l'<ph/>eau<ph/>", "one two (three), l'eau"),
        ("half-<bpt i='1'/>w<hi>o</hi>rd<ept i='1'/>s", "half-words"),
    ],
)
def test_a_blank_parts_words_where_a_code_stood_by_itself(write, segment, text):
    path = write("a.tmx", tmx({"en": segment, "de": "OK"}))
    assert pairs(source().read(path)) == [(text, "OK")]


def test_a_memory_of_two_languages_says_itself_which_is_the_source(write):
    unit = {"de-DE": "zwei", "en-GB": "two"}
    for header, expected in (
        ('srclang="EN-gb"', ("two", "zwei")),
        ('srclang="*all*"', ("zwei", "two")),
    ):
        path = write("a.tmx", tmx(unit, {"en-US": "one", "de": "eins"}, header=header))
        assert pairs(source().read(path))[0] == expected
    assert pairs(source(target_language="DE").read(path))[0] == ("two", "zwei")
    assert pairs(source(source_language="de").read(path))[1] == ("eins", "one")


def test_a_memory_of_more_languages_needs_two_named(write):
    write("a.tmx", tmx({"en": "one", "de": "eins", "fr": "un"}, {"en": "two", "fr": "deux"}))
    assert "a.tmx has texts in: en, de, fr; name two languages" in message("a.tmx")
    named = source(source_language="fr", target_language="de").read("a.tmx")
    assert (pairs(named), named.skipped) == ([("un", "eins")], 1)
    assert "a.tmx has no texts in 'it'; its languages are: en, de, fr. Name one with" in message(
        "a.tmx", source_language="en", target_language="it"
    )


def test_memories_may_be_packed_or_in_another_encoding(write):
    text = tmx({"en": "a café", "de": "ein Café"})
    write("a.tmx.gz", gzip.compress(text.encode()))
    write("b.tmx", f'<?xml version="1.0" encoding="UTF-16"?>{text}'.encode("utf-16"))
    for path in ("a.tmx.gz", "b.tmx"):
        assert pairs(source().read(path)) == [("a café", "ein Café")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_refused_in_any_encoding(write, encoding):
    start = f'<?xml version="1.0" encoding="{encoding}"?>'
    doctype = start + '<!DOCTYPE tmx [<!ENTITY lol "ha ha">]>'
    write("a.tmx", tmx({"en": "&lol;", "de": "x"}, doctype=doctype).encode(encoding))
    assert "a.tmx, line 1: the entity 'lol', which is not read" in message("a.tmx")
    outer = start + '<!DOCTYPE tmx SYSTEM "tmx14.dtd">'
    write("b.tmx", tmx({"en": "one", "de": "eins"}, doctype=outer).encode(encoding))
    assert pairs(source().read("b.tmx")) == [("one", "eins")]
    write("c.tmx", tmx({"en": "caf&eacute;", "de": "x"}, doctype=outer).encode(encoding))
    assert "c.tmx, line 1: the entity 'eacute'" in message("c.tmx")


def test_broken_memories_are_named(write):
    assert message(write("a.tmx", "<tmx>\n<body></tmx>")).startswith(
        "a.tmx, line 2: not well-formed XML (mismatched tag)"
    )
    assert "b.tmx is XML but not TMX: its root is <xliff>" in message(write("b.tmx", "<xliff/>"))
    assert "c.tmx: its encoding can't be read" in message(
        write("c.tmx", '<?xml version="1.0" encoding="big5"?><tmx/>')
    )
    assert "d.tmx has texts in: no language" in message(write("d.tmx", tmx()))


# What is not learned from


def test_pairs_that_harm_training_are_left_out_and_counted(write):
    table = [
        *sentences(20),
        *sentences(2),
        ("", "nichts"),
        ("nothing", " "),
        ("long " * 30, "lang " * 30),
        ("Yes", "Ja, aber nur unter gewissen Umständen"),
    ]
    files = write_pairs(write, table)
    train = trained_on(*files, max_characters=100)
    assert pairs(train) == sentences(20)
    assert train.facts == {
        "pairs read": 26,
        "pairs with an empty side": 2,
        "pairs too long": 1,
        "pairs of unlike length": 1,
        "repeated pairs": 2,
    }
    everything = trained_on(*files, max_ratio=0, max_characters=0, deduplicate=False)
    assert len(everything) == 24


def test_length_is_judged_by_how_much_longer_one_language_is(write):
    table = [("a sentence of some length in English" + "!" * i, "很短的一句话") for i in range(20)]
    assert len(trained_on(*write_pairs(write, table), max_ratio=2)) == 20
    assert len(trained_on(*write_pairs(write, [*table, ("Oh", "很短的一句话")]), max_ratio=2)) == 20


def test_what_is_judged_keeps_all_pairs_but_those_with_an_empty_side(write):
    table = [*PAIRS, *PAIRS, ("Yes", "Ja, aber nur unter gewissen Umständen"), ("", "x")]
    files = write_pairs(write, table)
    records = source(max_characters=1).read(files)
    assert (pairs(records), records.skipped) == (table[:-1], 1)


def test_test_pairs_that_are_trained_on_are_counted(write):
    files = write_pairs(write, sentences(30))
    leaked = write_pairs(write, [*sentences(3, 28), ("sentence number 1", "etwas anderes")], "t")
    train = source(train=files, validation_fraction=0, test=leaked).splits(1).train
    assert train.facts == {"pairs read": 30, "test pairs in the training data": 2}


def test_back_translated_pairs_are_tagged_weighed_and_never_held_out(write):
    files = write_pairs(write, sentences(20))
    made = write_pairs(write, sentences(12, start=18), "made")
    splits = source(
        train=files,
        back_translated=made,
        back_translation_weight=0.5,
        test=write_pairs(write, sentences(1, 25), "t"),
    ).splits(1)
    train, validation = splits.train, splits.validation
    assert train.columns["text"][-1] == "<bt> sentence number 29"
    assert train.columns["weight"].dtype == np.float32
    assert train.columns["weight"].tolist() == [1.0] * 18 + [0.5] * 10
    assert list(validation.columns) == ["text", "reference"]
    assert set(pairs(validation)) < set(sentences(20))
    assert train.facts == {
        "pairs read": 32,
        "repeated pairs": 2,
        "back-translated pairs": 10,
        "test pairs in the training data": 1,
    }


def test_training_pairs_that_give_held_out_ones_away_are_left_out(write):
    table = sentences(20)
    files = write_pairs(write, [*table, *table])
    made = write_pairs(
        write, [(f"machine {i}", target) for i, (_, target) in enumerate(table)], "m"
    )
    splits = source(
        train=files, back_translated=made, back_translation_tag="", deduplicate=False
    ).splits(1)
    train, validation = pairs(splits.train), pairs(splits.validation)
    assert len(validation) == 4 and not set(train) & set(validation)
    references = {reference for _, reference in validation}
    assert not references & {reference for _, reference in train}
    assert ("machine 19", table[19][1]) in train or table[19][1] in references
    left_out = "training pairs left out as they are in the validation data"
    assert splits.train.facts[left_out] == 60 - len(train) - len(validation)


def test_all_pairs_alike_leave_none_to_train_on(write):
    files = write_pairs(write, PAIRS[:1] * 10)
    with pytest.raises(DataError, match=r"no pair is left to train on .*in the validation data"):
        source(train=files, deduplicate=False).splits(1)


def test_data_of_which_nothing_is_left_says_what_left_it_out(write):
    said = message(*write_pairs(write, [*PAIRS, ("", "x")]), max_characters=3)
    assert (
        "no pair is left to train on (4 pairs read, 1 pairs with an empty side, 3 pairs too" in said
    )
    assert "every pair has an empty side" in read_message(write_pairs(write, [("", "x")]))


def read_message(paths) -> str:
    with pytest.raises(DataError) as caught:
        source().read(paths)
    return str(caught.value)


# What is said about bad data


def test_files_of_unequal_lines_are_refused_with_their_counts(write):
    write("a.en", "one\ntwo\nthree\nfour\n")
    write("a.de", "eins\nzwei\n")
    assert "a.en has 4 lines but a.de has 2; each line" in message("a.en", "a.de")
    assert "a.de has 2 lines but a.en has 4; each line" in message("a.de", "a.en")


def test_a_text_file_without_its_translations_is_refused(write):
    files = write_pairs(write)
    write("b.csv", "source,target\none,eins\n")
    expected = "a.en is a text file without another of its translations; name the source file and"
    for paths in (["a.en"], ["a.en", "b.csv", "a.de"], [*files, "a.en"], ["a.en", "sample"]):
        assert expected in message(*paths)
    assert "--data.test SOURCE TARGET" in read_message("a.en")
    assert "* matches text files and tables, such as a.de and b.csv" in message("*")


def test_text_that_is_not_utf8_is_located_or_skipped(write):
    write("a.en", "one\ntwo\ncafé\n")
    write("a.de", b"eins\nzw\xf6lf\nCaf\xe9\n")
    said = message("a.en", "a.de")
    assert said.startswith("a.en and a.de, row 2: in a.de, byte 0xf6 is not UTF-8; save the file")
    assert ", and 1 more bad row; mend the data" in said
    records = trained_on("a.en", "a.de", on_bad_row="skip")
    assert (pairs(records), records.skipped) == ([("one", "eins")], 2)


def test_missing_empty_and_broken_files_are_named(write):
    write("a.en", "one\n")
    write("empty", "")
    write("blank.gz", gzip.compress(b""))
    write("b.gz", gzip.compress(b"eins\n" * 999)[:-9])
    assert message("a.en", "a.de").startswith("a.de does not exist")
    assert message("a.en", "empty").startswith("empty is an empty file")
    assert "blank.gz and blank.gz has no pairs" in message("blank.gz", "blank.gz")
    write("c.en", "one\n" * 999)
    assert message("c.en", "b.gz").startswith("b.gz is not a whole gzip file")
    assert message("b.gz", "c.en").startswith("b.gz is not a whole gzip file")


def test_options_that_make_no_sense_are_refused():
    for options, said in (
        ({"max_ratio": 0.5}, "--data.max_ratio 0.5: must be at least 1, or 0"),
        ({"max_characters": -1}, "--data.max_characters"),
        ({"validation_fraction": 0.7}, "--data.validation_fraction 0.7: must be from 0 to 0.5"),
        ({"back_translation_weight": 0}, "--data.back_translation_weight 0: must be above 0"),
        ({"source_column": "target"}, "are both 'target'; name two columns"),
    ):
        with pytest.raises(DataError, match=said):
            source(**options)
    with pytest.raises(DataError, match=r"--data.train SOURCE TARGET"):
        source().splits(1)


# Texts to translate


def asked(paths, **options) -> list[str]:
    return [text for part in source(**options).requests(paths) for text in part.columns["text"]]


def test_requests_are_answered_line_by_line_also_where_lines_are_empty(write):
    write("a.en", "\none\n\n  \n two\t2 \n\n")
    assert asked("a.en") == ["", "one", "", "", "two\t2", ""]
    write("a.gz", gzip.compress(b"one\n\ntwo"))
    assert asked(["a.gz", "a.gz"]) == ["one", "", "two"] * 2


def test_requests_may_be_json_objects_but_braces_are_text_too(write):
    lines = '{"text": "one"}\n{"en": "two"}\n{"text": null}\n{name} has left.\n{"text"\n'
    expected = ["one", "two", "", "{name} has left.", '{"text"']
    assert asked(write("a.txt", lines), source_column="en") == expected
    write("b.txt", '{"txt": "one"}\n')
    with pytest.raises(DataError, match="a JSON object without 'text'; its keys are: txt"):
        asked("b.txt")


def test_requests_from_tables_and_memories_are_their_source_column(write):
    assert asked(write("a.csv", 'source,more\none,1\n"",2\n')) == ["one", ""]
    assert asked(write("a.jsonl", '{"source": "one"}\n{"more": 1}\n')) == ["one", ""]
    assert asked(write("a.tmx", tmx({"en": "one", "de": "eins"}))) == ["one"]
    with pytest.raises(DataError, match=r"Name yours with --data.source_column"):
        asked(write("b.csv", "text\none\n"))


def test_requests_come_as_lines_come_on_standard_input(monkeypatch):
    class Slow(io.RawIOBase):
        left = [b"one\n", b"\ntw", b"o\n"]

        def readable(self):
            return True

        def readinto(self, buffer):
            line = self.left.pop(0) if self.left else b""
            buffer[: len(line)] = line
            return len(line)

    slow = Slow()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BufferedReader(slow)))
    requests = source().requests(None)
    assert next(requests).columns["text"].tolist() == ["one"]
    assert len(slow.left) == 2
    assert [text for part in requests for text in part.columns["text"]] == ["", "two"]


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60), st.sampled_from(["a.tmx", "a.en", "a.tsv"]))
def test_any_bytes_are_read_or_refused_in_one_line(content, name):
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/{name}"
        Path(path).write_bytes(content)
        for read in (lambda: source().read([path] * (1 + (name == "a.en"))), lambda: asked(path)):
            try:
                read()
            except DataError as error:
                assert "\n" not in str(error)


def test_tfds_is_read_by_its_features(tmp_path):
    tfds = pytest.importorskip("tensorflow_datasets")
    tensorflow = pytest.importorskip("tensorflow")
    tables = {
        split: {"en": [en for en, _ in part], "de": [de for _, de in part]}
        for split, part in (("train", PAIRS), ("test", sentences(2)))
    }
    tfds.dataset_builders.store_as_tfds_dataset(
        name="tiny_pairs",
        version="1.0.0",
        data_dir=tmp_path,
        split_datasets={
            split: tensorflow.data.Dataset.from_tensor_slices(table)
            for split, table in tables.items()
        },
        features=tfds.features.Translation(languages=["en", "de"]),
        disable_shuffling=True,
    )
    tfds.core.add_data_dir(tmp_path)
    options = {"source_column": "en", "target_column": "de", "validation_fraction": 0}
    try:
        splits = source(train="tfds:tiny_pairs", test="tfds:tiny_pairs", **options).splits(1)
    finally:
        import_module("tensorflow_datasets.core.utils.file_utils").clear_registered_data_dirs()
    assert (pairs(splits.train), pairs(splits.test)) == (PAIRS, sentences(2))
