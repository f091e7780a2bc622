"""The BERT preprocessor: raw strings in, token ids out, the same however it is reached."""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from data.errors import DataError
from data.preprocessing import Preprocessor
from data.records import Records
from data.text.wordpiece import BertPreprocessor, learn_vocabulary, read_vocabulary

VOCABULARY = "[PAD] [UNK] [CLS] [SEP] [MASK] a b c d e hello world ##ly 你 好 ! ,".split()
PAD, CLS, SEP = 0, 2, 3


def ids(text: str) -> list[int]:
    return [VOCABULARY.index(token) for token in text.split()]


def singles(**options) -> BertPreprocessor:
    return BertPreprocessor(VOCABULARY, ["no", "yes"], **options)


def pairs(**options) -> BertPreprocessor:
    return BertPreprocessor(VOCABULARY, ["no", "yes"], pair=True, **options)


def test_a_text_stands_between_cls_and_sep_and_is_padded_to_the_longest():
    inputs = singles()({"text": tf.constant(["Hello, worldly 你好!", "a"])})
    longest = ids("[CLS] hello , world ##ly 你 好 ! [SEP]")
    assert inputs["token_ids"].numpy().tolist() == [longest, [CLS, *ids("a"), SEP] + [PAD] * 6]
    assert inputs["padding_mask"].numpy().sum(axis=1).tolist() == [9, 3]
    assert not inputs["segment_ids"].numpy().any()
    assert {tensor.dtype for tensor in inputs.values()} == {tf.int32}


def test_a_long_text_is_cut_but_keeps_its_sep():
    inputs = singles(max_length=4)({"text": tf.constant(["a b c d e"])})
    assert inputs["token_ids"].numpy().tolist() == [ids("[CLS] a b [SEP]")]


def test_an_empty_text_is_just_the_special_tokens():
    assert singles()({"text": tf.constant([""])})["token_ids"].numpy().tolist() == [[CLS, SEP]]


def test_a_pair_loses_tokens_from_the_longer_text_first():
    inputs = pairs(max_length=8)(
        {
            "text": tf.constant(["a b c d e", "a", "a b c d"]),
            "text_pair": tf.constant(["c d", "b c d e a b", "e d c b"]),
        }
    )
    assert inputs["token_ids"].numpy().tolist() == [
        ids("[CLS] a b c [SEP] c d [SEP]"),
        ids("[CLS] a [SEP] b c d e [SEP]"),
        ids("[CLS] a b c [SEP] e d [SEP]"),
    ]
    assert inputs["segment_ids"].numpy().tolist() == [
        [0, 0, 0, 0, 0, 1, 1, 1],
        [0, 0, 0, 1, 1, 1, 1, 1],
        [0, 0, 0, 0, 0, 1, 1, 1],
    ]


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(*[st.lists(st.sampled_from("abcde"), max_size=9).map(" ".join)] * 2),
        min_size=1,
        max_size=5,
    ),
    st.integers(5, 16),
)
def test_pairs_are_built_as_a_plain_loop_would(records, max_length):
    first, second = (list(texts) for texts in zip(*records, strict=True))
    inputs = pairs(max_length=max_length)(
        {"text": tf.constant(first), "text_pair": tf.constant(second)}
    )
    for row, (left, right) in enumerate(records):
        left, right = ids(left), ids(right)
        while len(left) + len(right) > max_length - 3:
            (left if len(left) > len(right) else right).pop()
        tokens = [CLS, *left, SEP, *right, SEP]
        segments = [0] * (len(left) + 2) + [1] * (len(right) + 1)
        width = inputs["token_ids"].shape[1]
        padding = [0] * (width - len(tokens))
        assert inputs["token_ids"][row].numpy().tolist() == tokens + padding
        assert inputs["segment_ids"][row].numpy().tolist() == segments + padding
        assert inputs["padding_mask"][row].numpy().tolist() == [1] * len(tokens) + padding


def test_case_and_accents_are_kept_for_a_cased_vocabulary():
    vocabulary = [*VOCABULARY, "Hello", "é"]
    text = {"text": tf.constant(["Hello é"])}
    cased = BertPreprocessor(vocabulary, ["x"], lowercase=False)(text)["token_ids"]
    uncased = BertPreprocessor(vocabulary, ["x"], lowercase=True)(text)["token_ids"]
    assert cased.numpy().tolist() == [[CLS, len(VOCABULARY), len(VOCABULARY) + 1, SEP]]
    assert uncased.numpy().tolist() == [[CLS, *ids("hello e"), SEP]]


GOLDEN = Path(__file__).parents[2] / "zoo" / "golden"
CASES = json.loads((GOLDEN / "tokenizer_golden.json").read_text("utf-8"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['vocabulary']}-{case['text']}")
def test_tokens_are_those_of_the_original_bert_tokenizer(case):
    preprocessor = BertPreprocessor(
        read_vocabulary(GOLDEN / f"{case['vocabulary']}.txt"),
        ["x"],
        lowercase=case["lowercase"],
        max_length=case["max_length"] or 128,
        pair=case["text_pair"] is not None,
    )
    record = {"text": tf.constant([case["text"]])}
    if case["text_pair"] is not None:
        record["text_pair"] = tf.constant([case["text_pair"]])
    inputs = preprocessor(record)
    assert inputs["token_ids"].numpy().tolist() == [case["token_ids"]]
    assert inputs["segment_ids"].numpy().tolist() == [case["segment_ids"]]


def test_static_shapes_are_padded_to_the_length_asked_for():
    preprocessor = singles()
    encoded = preprocessor.encode({"text": tf.constant(["a b", "c"])})
    assert preprocessor.collate(encoded, length=7)["token_ids"].shape == (2, 7)


def test_lengths_are_those_of_the_collated_rows():
    record = {"text": tf.constant(["a b", "", "c"]), "text_pair": tf.constant(["a", "b", "c d e"])}
    preprocessor = pairs(max_length=6)
    encoded = preprocessor.encode(record)
    mask = preprocessor.collate(encoded)["padding_mask"].numpy()
    assert preprocessor.lengths(encoded).numpy().tolist() == mask.sum(axis=1).tolist()


def test_it_is_the_same_after_saving_and_loading(tmp_path):
    labels = ["two\nlines", "back\\slash", " spaces ", "naïve", "\\n", "a\u2028b", "c\rd"]
    preprocessor = BertPreprocessor(VOCABULARY, labels, lowercase=False, max_length=9, pair=True)
    preprocessor.save(tmp_path)
    again = Preprocessor.load(tmp_path)
    assert again.state() == preprocessor.state()
    assert again.targets({"label": np.array(["naïve"], object)}).tolist() == [3]


def test_an_unknown_label_is_an_error_that_names_it():
    with pytest.raises(DataError, match="'maybe' is not one that the model knows"):
        singles().targets({"label": np.array(["no", "maybe"], object)})


def test_a_vocabulary_can_be_learned_from_the_records_and_has_the_special_tokens(tmp_path):
    records = Records({"text": np.array(["hello world", "hello there"] * 30, object)})
    vocabulary = learn_vocabulary(records, size=100)
    assert vocabulary[:4] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]"] and "hello" in vocabulary
    assert learn_vocabulary(records, size=100) == vocabulary
    (tmp_path / "vocabulary.txt").write_text("\n".join(vocabulary))
    assert read_vocabulary(tmp_path / "vocabulary.txt") == vocabulary


def test_a_vocabulary_file_without_special_tokens_is_refused(tmp_path):
    (tmp_path / "vocabulary.txt").write_text("[PAD]\n[UNK]\nhello\n")
    with pytest.raises(DataError, match=r"lacks the tokens \[CLS\] \[SEP\]"):
        read_vocabulary(tmp_path / "vocabulary.txt")


@pytest.mark.parametrize("letter", ["x", "ж", "อ", "\U00010330"])
def test_a_word_of_a_hundred_characters_is_cut_and_a_longer_one_is_unknown(letter):
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", letter, f"##{letter}", ",", "你"]
    text = f"{letter * 100}, {letter * 101}你{letter * 99},{letter * 101}"
    ours = BertPreprocessor(vocabulary, ["x"], max_length=512)
    found = ours({"text": tf.constant([text])})["token_ids"][0].numpy().tolist()
    assert found == [CLS, 4, *[5] * 99, 6, 1, 7, 4, *[5] * 98, 6, 1, SEP]


def test_a_text_has_the_same_tokens_beside_one_with_a_long_word():
    texts = ["hello, worldly 你好!", "a" * 101, "b" * 100]
    ours = singles(max_length=512)
    alone = [ours.encode({"text": tf.constant([text])})["text"].to_list()[0] for text in texts]
    assert ours.encode({"text": tf.constant(texts)})["text"].to_list() == alone
    assert alone[1] == [VOCABULARY.index("[UNK]")]


def test_of_a_token_that_is_there_twice_the_last_one_counts(tmp_path):
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\na\nb\na\n\n\n[SEP]\n##c\n")
    vocabulary = read_vocabulary(tmp_path / "vocab.txt")
    inputs = BertPreprocessor(vocabulary, ["x"])({"text": tf.constant(["a b ac"])})
    assert inputs["token_ids"].numpy().tolist() == [[2, 6, 5, 6, 10, 9]]


def test_a_token_with_white_space_in_it_is_never_found():
    inputs = BertPreprocessor([*VOCABULARY, "a b", "c\u00a0d"], ["x"])(
        {"text": tf.constant(["a b c\u00a0d"])}
    )
    assert inputs["token_ids"].numpy().tolist() == [ids("[CLS] a b c d [SEP]")]


@pytest.mark.parametrize("lowercase", [True, False])
def test_bytes_that_are_not_utf8_do_no_harm(lowercase):
    inputs = singles(lowercase=lowercase)({"text": tf.constant([b"a \xff\xfe b", b"\x80", b"a"])})
    assert inputs["token_ids"].numpy()[2, 1] == VOCABULARY.index("a")
