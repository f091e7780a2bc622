# ruff: noqa: RUF001 (letters that look like others are meant)
"""Subwords: texts to ids and back, whatever is in them; learned the same each time."""

import json

import numpy as np
import pytest
import sentencepiece
import tensorflow as tf
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from data.batching import EncodedRecords, streamed_evaluation, streamed_training
from data.errors import DataError
from data.preprocessing import Preprocessor
from data.records import Records
from data.text.subwords import (
    END,
    PAD,
    START,
    UNKNOWN,
    TranslationPreprocessor,
    learn_subwords,
    normalized,
)

NAMES = "Anna Ben Clara Dora Emil Fritz Gerda Hugo".split()
ENGLISH = [f"{name} sees the {thing}." for name in NAMES for thing in ("tree", "red house", "sea")]
GERMAN = [f"{name} sieht {thing}." for name in NAMES for thing in ("den Baum", "Rot", "das Öl")]
JOINT = learn_subwords(ENGLISH + GERMAN, 294)
SOURCE = learn_subwords(ENGLISH, 32, byte_fallback=False)
TARGET = learn_subwords(GERMAN, 330, kind="bpe")


def joint(**options) -> TranslationPreprocessor:
    return TranslationPreprocessor(JOINT, **options)


def separate(**options) -> TranslationPreprocessor:
    return TranslationPreprocessor(SOURCE, TARGET, **options)


def records(count: int = len(ENGLISH), **more: np.ndarray) -> Records:
    columns = {"text": np.array(ENGLISH, object), "reference": np.array(GERMAN, object), **more}
    return Records(columns).take(slice(count))


def encoded(preprocessor: TranslationPreprocessor, **columns: list) -> dict[str, list]:
    record = {name: tf.constant(values) for name, values in columns.items()}
    ids = preprocessor.encode(record)
    return {
        name: part.numpy().tolist() if name == "weight" else part.to_list()
        for name, part in ids.items()
    }


def there_and_back(preprocessor: TranslationPreprocessor, *texts: str | bytes) -> list[str]:
    ids = preprocessor.encode({"text": tf.constant(texts), "reference": tf.constant(texts)})
    ids = ids["target_ids"]
    back = preprocessor.detokenize(ids.to_tensor(), tf.cast(ids.row_lengths(), tf.int32))
    return [text.decode("utf-8") for text in back.numpy()]


def test_a_model_begins_with_padding_unknown_start_and_end():
    for preprocessor in (joint(), separate()):
        for vocabulary in (preprocessor.source_vocabulary, preprocessor.target_vocabulary):
            specials = [vocabulary[index] for index in (PAD, UNKNOWN, START, END)]
            assert specials == ["<pad>", "<unk>", "<s>", "</s>"]
    assert "<0xFF>" in joint().source_vocabulary
    assert "<0xFF>" not in separate().source_vocabulary


def test_sizes_are_what_was_asked_for():
    assert joint().sizes == {"source_vocabulary_size": 294, "target_vocabulary_size": None}
    assert joint().source_vocabulary_size == joint().target_vocabulary_size == 294
    assert separate().sizes == {"source_vocabulary_size": 32, "target_vocabulary_size": 330}
    assert joint().joint and not separate().joint


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_the_same_texts_give_the_same_model(kind):
    first, second = (learn_subwords(iter(GERMAN), 289, kind=kind) for _ in range(2))
    assert first == second


def test_user_symbols_are_pieces_of_their_own():
    model = learn_subwords(ENGLISH, 290, user_symbols=["<2de>", "<2fr>"])
    preprocessor = TranslationPreprocessor(model)
    assert preprocessor.pieces("<2de>Ben")[1:2] == ["<2de>"]
    assert there_and_back(preprocessor, "<2fr> the sea") == ["<2fr> the sea"]


def test_symbols_are_lower_cased_as_texts_are_and_taken_once():
    model = learn_subwords(ENGLISH, 284, user_symbols=["<BT>", "", "<bt>", " "], lowercase=True)
    preprocessor = TranslationPreprocessor(model, lowercase=True)
    assert preprocessor.source_vocabulary.count("<bt>") == 1
    assert "<bt>" in preprocessor.pieces("<BT> Ben")


@pytest.mark.parametrize("symbol", ["<unk>", "<0x41>"])
def test_a_symbol_that_every_vocabulary_has_is_refused(symbol):
    with pytest.raises(DataError, match=f"the symbol {symbol} is one that .*back_translation_tag$"):
        learn_subwords(ENGLISH, 290, user_symbols=[symbol])


def test_learning_can_lower_case():
    pieces = TranslationPreprocessor(learn_subwords(GERMAN, 283, lowercase=True)).source_vocabulary
    assert not any(piece != piece.lower() for piece in pieces[260:])


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("identity", "  10 m² … ①\u200c e\u0301  ｘ\n\t\u2581"),
        ("nfc", "10 m² … ①\u200c \xe9 ｘ\n\t\u2581"),
        ("nfkc", "10 m2 ... 1\u200c \xe9 x\n\t\u2581"),
        ("nmt_nfkc", "10 m2 ... 1 \xe9 x \u2581"),
    ],
)
def test_texts_are_normalized_as_asked_in_learning_and_in_the_graph(rule, expected):
    text = "  10 m² … ①\u200c e\u0301  ｘ\n\t\u2581"
    assert list(normalized([text, "a b"], rule)) == [expected, "a b"]
    assert there_and_back(joint(target_normalization=rule), text) == [expected]
    both = joint(source_normalization=rule)
    assert both.pieces(text) == both.pieces(expected)
    assert there_and_back(both, text) == there_and_back(joint(), text)  # the target's own rule


@pytest.mark.parametrize(
    "text",
    [
        "狗看见房子，你呢？",
        "หมาทำบ้านและจำคุณได้ไหม",
        "Der Hund sieht 10 m² … und du?",
        "①번 ㈜한국",
        "می\u200cخواهم క్\u200cష 👩\u200d👧",
        "eins\nzwei\r\n\tdrei",
        "Prix\u202f: 5\xa0€ !",
        "\uf900 \u0958 ﬁ ½",
        "▁▂▃▄▅",
        "  <s> <0x41>  ",
    ],
)
def test_what_is_learned_can_be_written_by_one_vocabulary_or_two(text):
    model = learn_subwords([*GERMAN, text], 315, kind="bpe")
    rules = {"source_normalization": "nfkc", "target_normalization": "identity"}
    for models in ((model,), (SOURCE, model)):
        assert there_and_back(TranslationPreprocessor(*models, **rules), text) == [text]


def test_without_bytes_tabs_and_line_breaks_are_pieces_of_their_own():
    preprocessor = TranslationPreprocessor(SOURCE, target_normalization="identity")
    assert there_and_back(preprocessor, "Anna\n\tBen") == ["Anna\n\tBen"]


def test_line_breaks_and_tabs_part_what_is_learned_from_and_lose_none_of_it():
    text = "Zeile mit Xylophon\tund\nQuitte"
    model = learn_subwords([*GERMAN, *[text] * 9], 330, kind="bpe")
    vocabulary = TranslationPreprocessor(model).source_vocabulary
    assert {"X", "Q"} <= set("".join(vocabulary[260:]))
    assert not any("\n" in piece or "\t" in piece for piece in vocabulary)


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_a_vocabulary_that_the_data_cannot_fill_is_refused_with_what_it_can(kind):
    with pytest.raises(DataError, match=r"_size 9000: the data can fill ") as one:
        learn_subwords(GERMAN, 9000, kind=kind)
    most = int(str(one.value).split("fill ")[1].split()[0])
    learn_subwords(GERMAN, most, kind=kind)
    with pytest.raises(DataError, match=f"can fill {most} pieces; give {most} at most"):
        learn_subwords(GERMAN, most + 1, kind=kind)


def test_a_vocabulary_too_small_for_the_characters_is_refused_with_the_least():
    with pytest.raises(DataError, match=r"--model.vocabulary_size 100: .* alone are ") as error:
        learn_subwords(GERMAN, 100)
    least = int(str(error.value).split("alone are ")[1].split(";")[0])
    learn_subwords(GERMAN, least)


@pytest.mark.parametrize("texts", [[], ["", "  "]])
def test_no_text_is_refused(texts):
    with pytest.raises(DataError, match="no text to learn a vocabulary from"):
        learn_subwords(texts, 300)


def test_what_goes_wrong_with_reading_is_said_as_it_is():
    def reading():
        yield from GERMAN
        raise DataError("pairs.tsv, row 3: no target")

    with pytest.raises(DataError, match=r"^pairs.tsv, row 3: no target$"):
        learn_subwords(reading(), 300)


def test_long_texts_are_learned_from():
    model = learn_subwords([*["Ben saw it."] * 9, "Nadel" + " Nadel" * 3000], 273)
    assert {"N", "l"} <= set(TranslationPreprocessor(model).source_vocabulary)


def test_records_become_pieces_with_an_end():
    preprocessor = joint()
    found = encoded(preprocessor, text=[ENGLISH[0], ""], reference=[GERMAN[0], "x"], weight=[1, 2])
    processor = sentencepiece.SentencePieceProcessor(model_proto=JOINT)
    assert found == {
        "source_ids": [[*processor.encode(ENGLISH[0]), END], [END]],
        "target_ids": [[*processor.encode(GERMAN[0]), END], [*processor.encode("x"), END]],
        "weight": [1.0, 2.0],
    }
    assert set(encoded(preprocessor, text=["a"])) == {"source_ids"}


def test_each_side_has_its_own_vocabulary():
    found = encoded(separate(), text=["Anna sees"], reference=["Anna sieht"])
    for ids, model, text in (
        ("source_ids", SOURCE, "Anna sees"),
        ("target_ids", TARGET, "Anna sieht"),
    ):
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        assert found[ids] == [[*processor.encode(text), END]]


def test_long_texts_are_cut_and_still_have_an_end():
    whole = encoded(joint(), text=[ENGLISH[0]], reference=[GERMAN[0]])
    cut = encoded(
        joint(max_source_length=3, max_target_length=1),
        text=[ENGLISH[0], ""],
        reference=[GERMAN[0], ""],
    )
    assert cut["source_ids"] == [[*whole["source_ids"][0][:2], END], [END]]
    assert cut["target_ids"] == [[END], [END]]


def test_texts_that_grow_as_they_are_normalized_are_counted_as_cut():
    preprocessor = joint(max_source_length=20, source_normalization="nfkc")
    columns = {"text": np.array(["\ufdfa", "Anna", "Anna " * 30], object)}
    assert preprocessor.too_long(columns).tolist() == [True, False, True]


def test_lengths_are_the_source_s_and_with_references_the_target_s_too():
    preprocessor = joint()
    sources = preprocessor.encode({"text": tf.constant(["", "Anna"])})
    assert preprocessor.lengths(sources).numpy().tolist() == [
        1,
        len(sources["source_ids"][1]),
    ]
    both = preprocessor.encode(
        {"text": tf.constant(["", "Anna"]), "reference": tf.constant(["a", ""])}
    )
    lengths = preprocessor.lengths(both)
    assert lengths.dtype == tf.int32
    assert lengths.numpy()[:, 1].tolist() == [len(both["target_ids"][0]), 1]


@pytest.mark.parametrize("length", [None, 40])
def test_a_batch_has_targets_to_foresee_one_step_ahead(length):
    preprocessor = joint()
    record = {name: tf.constant(column) for name, column in records(9).columns.items()}
    ids = preprocessor.encode(record)
    inputs = preprocessor.collate(ids, length)
    assert {part.dtype for part in inputs.values()} == {tf.int32}
    for row, source, target in zip(
        range(9), ids["source_ids"].to_list(), ids["target_ids"].to_list(), strict=True
    ):
        given = inputs["source_ids"][row].numpy().tolist()
        assert given == source + [PAD] * (len(given) - len(source))
        given = inputs["target_ids"][row].numpy().tolist()
        assert given == [START, *target[:-1]] + [PAD] * (len(given) - len(target))
        assert length is None or len(given) == length


def test_batches_have_labels_and_weights_where_records_have_them():
    preprocessor = joint()
    weight = np.arange(len(ENGLISH), dtype=np.float32)
    for more in ({}, {"weight": weight}):
        dataset, order = EncodedRecords([records(**more).columns], preprocessor).evaluation(8)
        row = 0
        for inputs, labels, *weights in dataset:
            assert labels.dtype == tf.int32 and labels.shape == inputs["target_ids"].shape
            foreseen = np.where(inputs["target_ids"][:, 1:] == PAD, PAD, labels[:, :-1])
            np.testing.assert_array_equal(inputs["target_ids"][:, 1:], foreseen)
            ends = tf.cast(tf.math.count_nonzero(labels, axis=1), tf.int32)
            assert (tf.gather(labels, ends - 1, batch_dims=1) == END).numpy().all()
            picked = order[row : row + len(labels)]
            texts = preprocessor.detokenize(labels, ends).numpy()
            assert [text.decode() for text in texts] == [GERMAN[index] for index in picked]
            assert [w.numpy().tolist() for w in weights] == [weight[picked].tolist()] * len(more)
            row += len(labels)
        assert row == len(ENGLISH)


def test_streamed_batches_are_like_those_in_memory():
    preprocessor, weight = joint(), np.ones(len(ENGLISH), np.float32)
    whole = records(weight=weight)
    datasets = [
        streamed_evaluation(lambda: whole.chunks(5), preprocessor, 8),
        streamed_training(lambda: whole.chunks(5), preprocessor, 8, seed=0, shuffle_buffer=10),
        EncodedRecords([whole.columns], preprocessor).training(8, seed=0),
        EncodedRecords([whole.columns], preprocessor).training(8, seed=0, batch_tokens=200),
    ]
    assert len({str(dataset.element_spec) for dataset in datasets}) == 1
    for dataset in datasets:
        for inputs, labels, weights in dataset.take(3):
            assert inputs["target_ids"].shape == labels.shape
            assert len(inputs["source_ids"]) == len(labels) == len(weights)


def test_targets_are_the_references():
    assert joint().targets(records(2).columns).tolist() == GERMAN[:2]
    with pytest.raises(DataError, match="no references"):
        joint().targets({"text": np.array(["a"], object)})


SOME = ["Anna", " ", "\t", "  ", "\u3000", "🙂", "👩\u200d👧", "漢字", "é", "e\u0301", "ﬁ", "Öl"]
SOME += ["<s>", "</s>", "<pad>", "<unk>", "<0x41>"]
CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\ufdd0")
TEXTS = st.lists(st.one_of(st.sampled_from(SOME), st.text(CHARACTERS, max_size=4)), max_size=8)


@settings(deadline=None, max_examples=100)
@given(TEXTS.map("".join), st.sampled_from([JOINT, TARGET]))
@example("Anna 🙂 漢字 <pad> \ufffd \x00", JOINT)
@example("  ▁\n\t\r\u2585 ② ， ำ \u200c\u200d ", TARGET)
def test_any_target_comes_back_as_it_was(text, model):
    assert there_and_back(PREPROCESSORS[model], text) == [text]


@settings(deadline=None, max_examples=30)
@given(TEXTS.map("".join), st.sampled_from(["nfc", "nfkc", "nmt_nfkc"]))
def test_any_text_is_read_as_what_it_was_normalized_to(text, rule):
    preprocessor = NORMALIZING[rule]
    pieces = preprocessor.pieces(text)
    (normal,) = normalized([text.strip(" \t\n\v\f\r")], rule)
    assert pieces == PREPROCESSORS[JOINT].pieces(normal)


IDENTITY = {"source_normalization": "identity", "target_normalization": "identity"}
PREPROCESSORS = {model: TranslationPreprocessor(model, **IDENTITY) for model in (JOINT, TARGET)}
NORMALIZING = {rule: joint(source_normalization=rule) for rule in ("nfc", "nfkc", "nmt_nfkc")}


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.integers(0, 329), min_size=1, max_size=12), min_size=1, max_size=4))
def test_any_ids_are_a_text_of_utf8_without_special_pieces(rows):
    ids = tf.ragged.constant(rows, dtype=tf.int32)
    lengths = tf.constant([len(row) for row in rows])
    for text in PREPROCESSORS[TARGET].detokenize(ids.to_tensor(default_value=7), lengths).numpy():
        whole = text.decode("utf-8")
        json.dumps(whole)
        assert not any(special in whole for special in ("<pad>", "<s>", "</s>", "\u2581"))


def test_bytes_that_are_no_utf8_become_replacement_characters():
    preprocessor, bad = joint(), (b"\xff\xfeAnna\xc3", b"\xed\xa0\x80")
    replaced = ["\ufffd\ufffdAnna\ufffd", "\ufffd\ufffd\ufffd"]
    assert there_and_back(preprocessor, *bad) == replaced
    assert there_and_back(joint(lowercase=True), *bad) == [text.lower() for text in replaced]
    first = preprocessor.source_vocabulary.index("<0xE6>")
    ids = tf.constant([[first, first + 1, END]])
    assert preprocessor.detokenize(ids, tf.constant([3])).numpy()[0].decode() == "\ufffd\ufffd"


def test_only_the_ids_that_count_are_detokenized():
    preprocessor = joint()
    ids = preprocessor.encode({"text": tf.constant(["Anna sees"])})["source_ids"].to_tensor()
    padded = tf.concat([[[START]], ids, [[PAD, 290, 291]]], axis=1)
    answer = preprocessor.detokenize(padded, tf.constant([1 + ids.shape[1] + 1]))
    assert answer.numpy().tolist() == [b"Anna sees"]
    assert preprocessor.detokenize(padded, tf.constant([0])).numpy().tolist() == [b""]


def test_lower_casing_knows_more_than_ascii():
    assert there_and_back(joint(lowercase=True), "ÖL Anna ÉΣ") == ["öl anna éς"]


def test_pieces_can_be_read():
    pieces = joint().pieces("Anna 🙂")
    assert pieces[-5:] == ["<0xF0>", "<0x9F>", "<0x99>", "<0x82>", "</s>"]
    assert "".join(pieces[:-5]).replace("\u2581", " ").strip() == "Anna"
    assert separate().pieces("Anna sieht", "target")[-1] == "</s>"
    assert "<unk>" in separate().pieces("漢")


@pytest.mark.parametrize("made", [joint, separate])
def test_a_saved_preprocessor_is_loaded_as_it_was(tmp_path, made):
    preprocessor = made(max_source_length=20, max_target_length=30, lowercase=True, **RULES)
    preprocessor.save(tmp_path)
    again = Preprocessor.load(tmp_path)
    assert isinstance(again, TranslationPreprocessor)
    assert again.state() == preprocessor.state() and again.sizes == preprocessor.sizes
    names = {path.name for path in tmp_path.iterdir()} - {"preprocessor.json"}
    if preprocessor.joint:
        assert names == {"source.model", "vocabulary.txt"}
        lines = (tmp_path / "vocabulary.txt").read_text("utf-8").split("\n")
        assert lines[:4] == ["<pad>", "<unk>", "<s>", "</s>"] and len(lines) == 295
    else:
        models = {"source.model", "target.model"}
        assert names == {*models, "source_vocabulary.txt", "target_vocabulary.txt"}
    sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "source.model"))


def test_models_with_other_special_ids_and_what_is_no_model_are_refused(tmp_path):
    (tmp_path / "texts").write_text("\n".join(ENGLISH))
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "texts"),
        model_prefix=str(tmp_path / "other"),
        vocab_size=32,
        minloglevel=2,
    )
    with pytest.raises(DataError, match=r"has the ids \(-1, 0, 1, 2\)"):
        TranslationPreprocessor((tmp_path / "other.model").read_bytes())
    with pytest.raises(DataError, match="not a SentencePiece model"):
        TranslationPreprocessor(b"no model")


RULES = {"source_normalization": "nfc", "target_normalization": "identity"}


class Echo(tf.Module):
    """What a translator without a net would be: it answers with its text."""

    def __init__(self, preprocessor: TranslationPreprocessor) -> None:
        super().__init__()
        self.preprocessor = preprocessor

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
    def serve(self, text):
        ids = self.preprocessor({"text": text})["source_ids"]
        lengths = tf.math.count_nonzero(ids, axis=1, dtype=tf.int32)
        return {"text": self.preprocessor.detokenize(ids, lengths), "ids": ids}


def test_a_saved_model_reads_and_writes_texts_with_stock_ops_alone(tmp_path):
    tf.saved_model.save(Echo(joint(lowercase=True, **RULES)), str(tmp_path / "saved"))
    serve = tf.saved_model.load(str(tmp_path / "saved")).signatures["serving_default"]
    texts = ["ANNA sees 🙂 漢字", "", b"\xff\xfe", "  the  sea "]
    answer = serve(text=tf.constant(texts))
    assert [text.decode() for text in answer["text"].numpy()] == [
        "anna sees 🙂 漢字",
        "",
        "\ufffd\ufffd",
        "the sea",
    ]
    here = joint(lowercase=True, **RULES)({"text": tf.constant(texts)})["source_ids"]
    np.testing.assert_array_equal(answer["ids"], here)
    saved = SavedModel.FromString((tmp_path / "saved" / "saved_model.pb").read_bytes())
    library = saved.meta_graphs[0].graph_def.library.function
    ops = {node.op for function in library for node in function.node_def}
    assert {op for op in ops if "entence" in op or ">" in op or "UTF8" in op} == {
        "NormalizeUTF8",
        "SentencepieceOp",
        "SentencepieceTokenizeOp",
        "SentencepieceDetokenizeOp",
    }


def test_a_preprocessor_saved_before_there_were_models_is_loaded(tmp_path):
    description = {
        "class": "data.text.sequences:TokenPreprocessor",
        "arguments": {"max_length": 9},
        "word_lists": ["labels", "vocabulary"],
    }
    (tmp_path / "preprocessor.json").write_text(json.dumps(description))
    (tmp_path / "labels.txt").write_text("no\nyes\n")
    (tmp_path / "vocabulary.txt").write_text("[PAD]\n[UNK]\na\n")
    assert Preprocessor.load(tmp_path).max_length == 9
