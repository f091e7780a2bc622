"""Sequences: texts as tokens and tables as numbers, the same however they are reached."""

import json
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from data.batching import EncodedRecords, streamed_evaluation
from data.errors import DataError
from data.options import Tables
from data.preprocessing import Preprocessor, raw_tensors
from data.records import Records
from data.series.sequence_tables import SequenceSource, to_sequence
from data.text.sequences import (
    NumberPreprocessor,
    TokenPreprocessor,
    common_level,
    learn_tokens,
    split_text,
)

NAN = float("nan")

PAD, UNK = 0, 1
WORDS = ["[PAD]", "[UNK]", "wo", "n't", "it's", ",", "good", "é"]


def texts(*cells: str) -> Records:
    return Records({"text": np.array(cells, object), "label": np.array(["x"] * len(cells), object)})


def words(**options) -> TokenPreprocessor:
    return TokenPreprocessor(WORDS, ["no", "yes"], **options)


def ids(text: str) -> list[int]:
    return [WORDS.index(token) for token in text.split()]


def cut(text: str, tokens="word", lowercase=False) -> list[str]:
    split = split_text(tf.constant([text]), tokens, lowercase)
    return [token.decode() for token in split.to_list()[0]]


def test_words_become_ids_and_are_padded_to_the_longest():
    inputs = words()({"text": tf.constant(["They wo n't, GOOD!", "it's É"])})
    unknown = [UNK, *ids("wo n't , good"), UNK]
    assert inputs["token_ids"].numpy().tolist() == [unknown, [*ids("it's é"), 0, 0, 0, 0]]
    assert inputs["padding_mask"].numpy().tolist() == [[1] * 6, [1, 1, 0, 0, 0, 0]]
    assert {tensor.dtype for tensor in inputs.values()} == {tf.int32}


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("they wo n't sit", "they wo n't sit"),
        ("don't, we'll 've 's", "don't , we'll 've 's"),
        ("don\u2019t 'quoted'", "don\u2019t ' quoted '"),
        ("a_b 3.14 (x)", "a_b 3 . 14 ( x )"),
        ("tabs\tand\u00a0other\u2028blanks\u200b", "tabs and other blanks"),
        ("你好 नमस्ते 👍🏽", "你好 नमस्ते 👍 🏽"),
        ("", ""),
        (" \n ", ""),
    ],
)
def test_texts_are_cut_into_words_and_marks(text, tokens):
    assert cut(text) == tokens.split()


ASSIGNED = st.characters(exclude_categories=["Cs", "Cn"], exclude_characters="\0")
PIECES = st.sampled_from(["n't", "'s", "'", "\u2019ve", " ", "\t", "a", "Bc", "é", ".", "_", "9"])
TEXTS = st.lists(st.one_of(PIECES, st.text(ASSIGNED, max_size=3)), max_size=12).map("".join)


def words_by_hand(text: str) -> list[str]:
    """What `split_text` does, one character after another."""
    tokens, at = [], 0
    while at < len(text):
        start = at
        while at < len(text) and is_letter(text[at]):
            at += 1
            if (
                at + 1 < len(text)
                and text[at] in "'\u2019"
                and is_letter(text[at + 1])
                and start < at
            ):
                at += 1
        if at == start:
            at += 1
            if text[start] in "'\u2019":
                at += clitic(text[at:])
            elif unicodedata.category(text[start])[0] not in "PS":
                continue
        tokens.append(text[start:at])
    return tokens


def is_letter(character: str) -> bool:
    return character == "_" or unicodedata.category(character)[0] in "LMN"


def clitic(rest: str) -> int:
    """How many of the letters after an apostrophe belong to it: one or two, if no more follow."""
    for length in (2, 1):
        letters, after = rest[:length], rest[length : length + 1]
        if len(letters) == length and all(unicodedata.category(c)[0] == "L" for c in letters):
            ascii_word = [
                bool(c) and c.isascii() and (c.isalnum() or c == "_") for c in (letters[-1], after)
            ]
            if ascii_word[0] != ascii_word[1]:
                return length
    return 0


@settings(deadline=None, max_examples=200)
@given(TEXTS)
def test_words_in_the_graph_are_those_of_a_plain_loop(text):
    assert cut(text) == words_by_hand(text)


@settings(deadline=None, max_examples=50)
@given(TEXTS, st.integers(1, 8))
def test_characters_and_bytes_in_the_graph_are_those_of_python(text, max_length):
    record = {"text": tf.constant([text, "longer than that"])}
    vocabulary = learn_tokens(texts(text + "abc"), "character", 1000, lowercase=False)
    for tokens, expected in [
        ("character", [vocabulary.index(character) for character in text]),
        ("byte", [byte + 2 for byte in text.encode()]),
    ]:
        known = learn_tokens(texts("abc"), "byte", 1) if tokens == "byte" else vocabulary
        preprocessor = TokenPreprocessor(
            known, ["x"], tokens=tokens, lowercase=False, max_length=max_length
        )
        row = preprocessor(record)["token_ids"][0].numpy().tolist()
        kept = expected[:max_length]
        assert row == kept + [PAD] * (len(row) - len(kept))


@pytest.mark.parametrize("tokens", ["word", "character", "byte", "wordpiece"])
def test_a_text_of_no_tokens_is_padding_alone(tokens):
    learned = learn_tokens(texts("hello there world"), tokens, 100)
    preprocessor = TokenPreprocessor(learned, ["x"], tokens=tokens)
    for record in (["", "hello"], [""], [" ", ""] if tokens in ("word", "wordpiece") else [""]):
        inputs = preprocessor({"text": tf.constant(record)})
        assert inputs["padding_mask"][0].numpy().sum() == 0
        assert inputs["token_ids"].shape[1] >= 1 and not inputs["token_ids"][0].numpy().any()


def test_word_pieces_of_a_long_word_are_known_whatever_its_script():
    known = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "อ", "##อ"]
    preprocessor = TokenPreprocessor(known, ["x"], tokens="wordpiece")
    inputs = preprocessor({"text": tf.constant(["อ" * 60])})
    assert inputs["token_ids"].numpy().tolist() == [[4, *[5] * 59]]


@pytest.mark.parametrize("tokens", ["word", "character", "byte", "wordpiece"])
def test_tokens_are_the_same_after_saving_loading_and_exporting(tmp_path, tokens):
    records = texts("Good times, bad times", "you know\nI've had my share")
    preprocessor = TokenPreprocessor(
        learn_tokens(records, tokens, 100), ["a", "b"], tokens=tokens, max_length=9
    )
    preprocessor.save(tmp_path / "assets")
    again = Preprocessor.load(tmp_path / "assets")
    assert again.state() == preprocessor.state()
    record = {"text": tf.constant(["times\nyou had", b"\xff\xfe good", ""])}
    expected = preprocessor(record)

    module = tf.Module()
    module.preprocessor = again  # what tracks the table of the vocabulary
    serve = tf.function(lambda text: again({"text": text}))
    signature = serve.get_concrete_function(tf.TensorSpec([None], tf.string, "text"))
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=signature)
    served = tf.saved_model.load(str(tmp_path / "saved")).signatures["serving_default"]
    for name, tensor in served(text=record["text"]).items():
        np.testing.assert_array_equal(tensor, expected[name])


def test_a_vocabulary_has_the_most_frequent_tokens_first():
    records = texts("b a b", "c b A", "d")
    assert learn_tokens(records, "word", 100) == ["[PAD]", "[UNK]", "b", "a", "c", "d"]
    assert learn_tokens(records, "word", 4) == ["[PAD]", "[UNK]", "b", "a"]
    assert learn_tokens(records, "word", 100, lowercase=False)[3:] == ["A", "a", "c", "d"]
    assert learn_tokens(records, "character", 4) == ["[PAD]", "[UNK]", " ", "b"]
    assert len(learn_tokens(records, "byte", 4)) == 258
    assert learn_tokens(records, "wordpiece", 100)[:2] == ["[PAD]", "[UNK]"]


def test_lengths_are_those_of_the_collated_rows_and_may_be_asked_for():
    preprocessor = words(max_length=3)
    encoded = preprocessor.encode({"text": tf.constant(["good good good good", "", "wo n't"])})
    mask = preprocessor.collate(encoded)["padding_mask"].numpy()
    assert preprocessor.lengths(encoded).numpy().tolist() == mask.sum(axis=1).tolist() == [3, 0, 2]
    assert preprocessor.collate(encoded, length=5)["token_ids"].shape == (3, 5)


def sequences(*lengths: int, features=2) -> list[np.ndarray]:
    random = np.random.RandomState(0)
    return [random.randn(length, features).astype("float32") for length in lengths]


def test_numbers_are_padded_and_what_is_nan_at_the_end_is_padding():
    one, two = sequences(3, 1)
    one[1] = np.nan  # within a sequence, it is a step of which nothing is known
    columns = {"values": np.fromiter([one, two], object, 2)}
    inputs = NumberPreprocessor(["x"], features=2)(raw_tensors(columns))
    assert inputs["padding_mask"].numpy().tolist() == [[1, 1, 1], [1, 0, 0]]
    np.testing.assert_array_equal(inputs["values"][0], one)
    np.testing.assert_array_equal(inputs["values"][1], np.pad(two, [(0, 2), (0, 0)]))


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=5),
    st.integers(1, 3),
    st.integers(1, 5),
    st.integers(0, 3),
)
def test_more_padding_changes_nothing(lengths, features, max_length, more):
    preprocessor = NumberPreprocessor(["x"], features=features, max_length=max_length)
    rows = sequences(*lengths, features=features)
    values = raw_tensors({"values": np.fromiter(rows, object, len(rows))})["values"]
    inputs = preprocessor({"values": values})
    assert inputs["padding_mask"].numpy().sum(axis=1).tolist() == [
        min(length, max_length) for length in lengths
    ]
    padding = [[0, 0], [0, more], [0, 0]]
    padded = preprocessor({"values": tf.pad(values, padding, constant_values=np.nan)})
    for name, tensor in inputs.items():
        np.testing.assert_array_equal(padded[name], tensor)
    for row, own in zip(rows, inputs["values"].numpy(), strict=True):
        kept = row[:max_length]
        np.testing.assert_array_equal(own[: len(kept)], kept)
        assert not own[len(kept) :].any()


WIDE = [
    {"x": [1, 2, 3], "y": [4, 5, 6.5], "label": "a"},
    {"x": [7], "y": [8], "label": "b"},
]
EXPECTED = [[[1, 4], [2, 5], [3, 6.5]], [[7, 8]]]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The working folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(name: str, rows: list[dict] | str) -> str:
    path = Path(name)
    if isinstance(rows, str):
        path.write_text(rows)
    elif name.endswith(".parquet"):
        pd.DataFrame(rows).to_parquet(path)
    elif name.endswith(".csv"):
        pd.DataFrame(rows).to_csv(path, index=False)
    else:
        path.write_text("\n".join(map(json.dumps, rows)))
    return name


def read(path: str, features="x y", id=None, time=None, **options) -> Records:
    source = SequenceSource(Tables(**options), features.split(), "label", id, time)
    return source.read(path)


def values_of(records) -> list:
    return [values.tolist() for chunk in records.chunks() for values in chunk.columns["values"]]


def message(path: str, *arguments, **options) -> str:
    with pytest.raises(DataError) as caught:
        read(path, *arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("limit", [1024, 0])
@pytest.mark.parametrize("name", ["w.jsonl", "w.parquet", "w.csv"])
def test_a_row_is_a_sequence_of_a_feature_a_column(folder, name, limit):
    rows = WIDE
    if name == "w.csv":
        rows = [{**row, "x": " ".join(map(str, row["x"])), "y": str(row["y"])} for row in WIDE]
    records = read(write(name, rows), memory_limit_mb=limit)
    assert values_of(records) == EXPECTED
    assert next(records.chunks()).columns["label"].tolist() == ["a", "b"]
    assert next(records.chunks()).columns["values"][0].dtype == np.float32


@pytest.mark.parametrize("name", ["w.jsonl", "w.parquet"])
def test_a_cell_may_hold_all_features_of_each_step(folder, name):
    rows = [{"v": steps, "label": "a"} for steps in EXPECTED]
    assert values_of(read(write(name, rows), "v")) == EXPECTED


STEPS = "walk,t,x,y,label\nw2,1,7,8,b\nw1,10,3,6.5,a\nw1,9,2,5,a\nw1,8,1,4,a\n"


@pytest.mark.parametrize("limit", [1024, 0])
def test_a_row_may_be_a_step_of_a_sequence(folder, limit):
    path = write("long.csv", STEPS)
    ordered = read(path, id="walk", time="t", memory_limit_mb=limit)
    assert values_of(ordered) == EXPECTED[::-1]  # 8, 9, 10: by number, not as text
    assert values_of(read(path, id="walk"))[1] == EXPECTED[0][::-1]
    assert next(ordered.chunks()).columns["label"].tolist() == ["b", "a"]
    texts = (
        STEPS.replace("1,10", "1,2020-03").replace("1,9", "1,2020-02").replace("1,8", "1,2020-01")
    )
    assert values_of(read(write("dates.csv", texts), id="walk", time="t")) == EXPECTED[::-1]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("1 2.5,3", [[1], [2.5], [3]]),
        (" 1, 2 ", [[1], [2]]),
        ("[1, 2]", [[1], [2]]),
        ("[[1, 2], [3, 4]]", [[1, 2], [3, 4]]),
        (5, [[5]]),
        ([True, 2], [[1], [2]]),
        (None, "is empty"),
        (float("nan"), "is empty"),
        ("", "is empty"),
        ([], "is empty"),
        ("1 b 3", "has 'b' at step 2, not a number"),
        ("1_0", "has '1_0' at step 1, not a number"),
        ("[1, ", "is '[1,', not a list of numbers in JSON"),
        ("1 -inf", "has -inf at step 2, not a finite number"),
        ([[1, 2], [3, float("inf")]], "has 3.0, inf at step 2, not a finite number"),
        ([1e39], "has 1e+39 at step 1, not a finite number"),
        ([{"a": 1}, None], "is [{'a': 1}, None], not a list of numbers"),
        (["1"], "is ['1'], not a list of numbers"),
        ([[1], [2, 3]], "has steps of unequal numbers of features"),
        ([[[1]]], "is [[[1]]], not a list of numbers"),
        ({"a": 1}, "is {'a': 1}, not a list of numbers"),
    ],
    ids=str,
)
def test_cells_become_arrays_or_what_is_wrong_with_them(cell, expected):
    found = to_sequence(cell)
    assert (found if isinstance(found, str) else found.tolist()) == expected


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        ({"x": [1, 2], "y": [1]}, "column 'y' has 1 steps where 'x' has 2"),
        ({"x": [1, "b"], "y": [1, 2]}, "column 'x' is [1, 'b'], not a list of numbers"),
        ({"x": [1, 2], "y": None}, "column 'y' is empty"),
        ({"x": [1], "y": [[1, 2]]}, "column 'y' has 2 numbers a step, not one"),
    ],
)
def test_a_bad_sequence_is_named_or_left_out(folder, bad, problem):
    path = write("w.jsonl", [WIDE[0], {**bad, "label": "a"}, WIDE[1]])
    assert message(path).startswith(f"w.jsonl, row 2: {problem}; mend the data")
    records = read(path, on_bad_row="skip")
    assert values_of(records) == EXPECTED and records.skipped == 1
    streamed = read(path, on_bad_row="skip", memory_limit_mb=0)
    assert values_of(streamed) == EXPECTED and streamed.skipped == 1


def test_a_sequence_with_other_features_than_the_rest_is_bad(folder):
    path = write("w.jsonl", [{"v": [[1, 2]], "label": "a"}, {"v": [1, 2], "label": "b"}])
    problem = "w.jsonl, row 2: column 'v' has 1 numbers a step where others have 2"
    assert message(path, "v").startswith(problem)
    source = SequenceSource(Tables(), ["v"], "label")
    with pytest.raises(
        DataError, match="row 1: column 'v' has 2 numbers a step where others have 3"
    ):
        source.read(path, NumberPreprocessor(["a", "b"], features=3))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("w1,9,b,5,a", "column 'x' is 'b', not a finite number"),
        ("w1,9,inf,1,a", "column 'x' is 'inf', not a finite number"),
        ("w1,9,2,5,b", "column 'label' is 'b' where the sequence 'w1' has 'a' before"),
        ("w1,,2,5,a", "column 't' is empty"),
    ],
)
def test_a_sequence_with_a_bad_step_is_named_by_it_or_left_out(folder, line, problem):
    path = write("long.csv", STEPS.replace("w1,9,2,5,a", line))
    options = {"id": "walk", "time": "t"}
    assert message(path, **options).startswith(f"long.csv, row 4: {problem}; mend the data")
    records = read(path, on_bad_row="skip", **options)
    assert values_of(records) == EXPECTED[1:] and records.skipped == 1


@pytest.mark.parametrize("line", [",9,2,5,a", "w1,9,2,5"])
def test_a_step_of_no_sequence_is_bad_by_itself(folder, line):
    path = write("long.csv", STEPS.replace("w1,9,2,5,a", line))
    assert message(path, id="walk").startswith("long.csv, row 4: ")
    records = read(path, id="walk", time="t", on_bad_row="skip")
    assert values_of(records) == [EXPECTED[1], EXPECTED[0][::2]] and records.skipped == 1


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"features": "x z"}, "no column 'z'"),
        ({"id": "who"}, "no column 'who'; the columns are: walk, t, x, y, label. Name yours with "),
        ({"id": "walk", "time": "when"}, "no column 'when'"),
        ({"time": "t"}, "--data.time_column t: name the sequences' --data.id_column, too"),
        ({"features": ""}, "--data.feature_columns is empty"),
        ({"features": "x x"}, "the column 'x' is named for two things"),
    ],
)
def test_columns_that_are_not_there_are_named(folder, options, problem):
    assert problem in message(write("long.csv", STEPS), **options)


def test_requests_are_read_from_tables_and_from_lines(folder):
    lines = '{"x": [1, 2], "y": "3 4"}\n{"values": [[1, 3], [2, 4]]}\n1 2\t3 4\n'
    source = SequenceSource(Tables(), ["x", "y"], "label")
    (records,) = source.requests(write("lines.txt", lines))
    assert values_of(records) == [[[1, 3], [2, 4]]] * 3
    (records,) = source.requests(write("w.jsonl", [{k: r[k] for k in "xy"} for r in WIDE]))
    assert values_of(records) == EXPECTED
    steps = "\n".join(line.rpartition(",")[0] for line in STEPS.splitlines())
    long = SequenceSource(Tables(), ["x", "y"], "label", "walk", "t")
    (records,) = long.requests(write("long.csv", steps))
    assert values_of(records) == EXPECTED[::-1]


ENDED = [[[1, 4], [NAN, 5], [3, NAN]], [[7, 8]]]  # as a model reads UNEQUAL
UNEQUAL = [
    {"x": [1, NAN, 3, NAN], "y": [4, 5, None, None], "label": "a"},
    {"x": [7, NAN], "y": [8, NAN], "label": "b"},
]


@pytest.mark.parametrize("limit", [1024, 0])
@pytest.mark.parametrize("name", ["w.jsonl", "w.parquet", "w.csv"])
def test_missing_numbers_are_nan_and_steps_of_nothing_else_end_a_sequence(folder, name, limit):
    rows = UNEQUAL
    if name == "w.csv":
        text = {"x": "1 nan 3 nan", "y": "[4, 5, NaN, null]", "label": "a"}
        rows = [text, {"x": "7 NaN", "y": "8,nan", "label": "b"}]
    path = write(name, rows)
    records = read(path, memory_limit_mb=limit)
    np.testing.assert_equal(values_of(records), ENDED)
    assert next(records.chunks()).columns["values"][0].dtype == np.float32
    (requests,) = SequenceSource(Tables(), ["x", "y"], "label").requests(path)
    np.testing.assert_equal(values_of(requests), ENDED)


@pytest.mark.parametrize("name", ["long.csv", "long.parquet", "long.jsonl"])
def test_a_step_may_lack_numbers_as_pandas_writes_them(folder, name):
    steps = {"walk": ["w"] * 4, "x": [1, NAN, 3, NAN], "y": [4, 5, NAN, NAN], "label": ["a"] * 4}
    frame = pd.DataFrame(steps)
    records = read(write(name, frame.astype(object).to_dict("records")), id="walk")
    np.testing.assert_equal(values_of(records), ENDED[:1])
    tally = NumberPreprocessor(["a"], features=2).tally(records.columns)
    assert tally == {"sequences cut": 0, "numbers missing": 2}


def test_requests_may_have_missing_numbers_as_the_served_model_takes_them(folder):
    path = write("r.txt", '{"values": [[1], [2], [NaN]]}\n{"values": [[1], [null], [3]]}\n')
    (requests,) = SequenceSource(Tables(), ["x"], "label").requests(path)
    np.testing.assert_equal(values_of(requests), [[[1], [2]], [[1], [NAN], [3]]])
    path = write("none.jsonl", [{"x": [NAN, None], "label": "a"}, {"x": [1], "label": "b"}])
    assert "row 1: a sequence without a number" in message(path, "x")


@pytest.mark.parametrize("limit", [1024, 0])
def test_a_step_may_have_a_missing_number_that_is_written(folder, limit):
    rows = [("w", 1, NAN, 4), ("w", 2, 5, 6), ("w", 3, NAN, NAN)]
    frame = pd.DataFrame(rows, columns=["walk", "t", "x", "y"]).assign(label=["a", "a ", "a"])
    frame.to_csv("long.csv", index=False, na_rep="NaN")
    records = read("long.csv", id="walk", time="t", memory_limit_mb=limit)
    np.testing.assert_equal(values_of(records), [[[NAN, 4], [5, 6]]])


@pytest.mark.parametrize("limit", [1024, 0])
@pytest.mark.parametrize("id", [None, "walk"])
def test_numbers_lose_what_they_have_in_common_before_they_are_float32(folder, limit, id):
    sequences = [(20_000_000 + np.arange(i % 3, 8 + i)).tolist() for i in range(20)]
    if id:
        lines = [f"{i},{x},{'ab'[i % 2]}" for i, own in enumerate(sequences) for x in own]
        path = write("long.csv", "\n".join(["walk,x,label", *lines]))
    else:
        path = write("w.jsonl", [{"x": x, "label": "ab"[i % 2]} for i, x in enumerate(sequences)])
    options = Tables(train=path, memory_limit_mb=limit)
    records = SequenceSource(options, ["x"], "label", id).splits(1).train
    assert records.facts["float32 of requests rounds"] == "x by up to 1"
    preprocessor = NumberPreprocessor(["a", "b"], features=1, level=common_level(records))
    chunk = next(records.chunks()).columns["values"][:1]
    inputs = preprocessor(raw_tensors({"values": chunk}))["values"].numpy()
    assert inputs.dtype == np.float32 and np.unique(np.diff(inputs[0, :, 0])).tolist() == [1]
    preprocessor.save(Path("assets"))
    source = SequenceSource(options, ["x"], "label", id)
    again = source.read(path, Preprocessor.load(Path("assets")))
    assert next(again.chunks()).columns["values"][0].dtype == np.float64
    assert next(source.requests(path)).columns["values"][0].dtype == np.float32


@pytest.mark.parametrize("limit", [1024, 0])
def test_plain_numbers_are_float32(folder, limit):
    rows = [{"x": [i + 0.1, 2], "label": "ab"[i % 2]} for i in range(20)]
    options = Tables(train=write("w.jsonl", rows), memory_limit_mb=limit)
    train = SequenceSource(options, ["x"], "label").splits(1).train
    assert next(train.chunks()).columns["values"][0].dtype == np.float32
    assert train.facts.keys() == {"classes"} and common_level(train) == []


def test_bad_sequences_are_among_the_requests_with_their_ids_and_why(folder):
    def asked(source, path, echo=()):
        parts = list(source.requests(path, echo=echo))
        assert sum(map(len, parts)) == sum(one.problem is None for p in parts for one in p.asked)
        return [one for part in parts for one in part.asked]

    answering = Tables(on_bad_row="answer")
    source = SequenceSource(answering, ["x", "y"], "label")
    lines = '1 2\t3 4\n\n{"x": [1], "y": [2, 3], "who": 5}\n{"x": [1]}\n'
    found = asked(source, write("lines.txt", lines), ["who"])
    assert [one.problem and one.problem.partition(" (")[0] for one in found] == [
        None, "column 'x' is empty",
        "column 'y' has 2 steps where 'x' has 1", "column 'y' is empty",
    ]  # fmt: skip
    assert [one.echoed["who"] for one in found] == [None, None, 5, None]
    long = SequenceSource(answering, ["x", "y"], "label", "walk", "t")
    path = write("long.csv", STEPS.replace("w1,9,2,5,a", "w1,9,oh,5,a"))
    found = asked(long, path, ["t"])
    assert [one.echoed["id"] for one in found] == ["w2", "w1"]
    assert [one.problem for one in found] == [
        None, "long.csv, row 4: column 'x' is 'oh', not a finite number"
    ]  # fmt: skip
    assert [one.row for one in found] == [2, 3]


def test_streamed_batches_hold_what_those_in_memory_do(folder):
    rows = sequences(*[1 + index % 7 for index in range(40)])
    labels = np.array(["a", "b"] * 20, object)
    records = Records({"values": np.fromiter(rows, object, 40), "label": labels})
    preprocessor = NumberPreprocessor(["a", "b"], features=2)
    streamed = streamed_evaluation(lambda: records.chunks(9), preprocessor, 16)
    whole, order = EncodedRecords([records.columns], preprocessor).evaluation(16)
    found = {}
    for number, dataset in enumerate((streamed, whole)):
        rows = [
            (values[: mask.sum()].tolist(), int(target))
            for inputs, targets in dataset.as_numpy_iterator()
            for values, mask, target in zip(
                inputs["values"], inputs["padding_mask"], targets, strict=True
            )
        ]
        found[number] = rows if number == 0 else [rows[i] for i in np.argsort(order)]
    assert found[0] == found[1]
