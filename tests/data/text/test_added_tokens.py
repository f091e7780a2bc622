"""Added tokens: the ids that Hugging Face's tokenizers give, with every flag and in every place."""

from dataclasses import asdict
from pathlib import Path

import pytest
import tensorflow as tf
import tokenizers

from data.preprocessing import Preprocessor
from data.text.added_tokens import AddedToken
from data.text.wordpiece import BertPreprocessor, read_vocabulary

GOLDEN = Path(__file__).parents[2] / "zoo" / "golden"
VOCABULARY = read_vocabulary(GOLDEN / "uncased.txt")
ADDED = [
    tokenizers.AddedToken("covid-19", normalized=True),
    tokenizers.AddedToken("[E1]", normalized=False, special=True),
    tokenizers.AddedToken("[/E1]", normalized=False, special=True),
    tokenizers.AddedToken("Ünder", normalized=True),
    tokenizers.AddedToken("ab", normalized=True, single_word=True),
    tokenizers.AddedToken("AB c", normalized=False, single_word=True),
    tokenizers.AddedToken("<x>", normalized=False, lstrip=True, rstrip=True),
    tokenizers.AddedToken("the card", normalized=True),
    tokenizers.AddedToken("the", normalized=False),
    tokenizers.AddedToken("东京", normalized=True),
]
TEXTS = [
    "not COVID-19 and covid-19 again",
    "xcovid-19y covid-1",
    "[E1] card [/E1] [e1][E1][E1]card",
    "under ÜNDER u\u0308nder plunder",
    "ab AB cab abc ab_ _ab ab. [E1]ab ab[E1] abab ab-ab ab",
    "AB c AB cd xAB c ab c AB cAB c",
    "a <x> b<x>c <x>",
    "the card THE\tCARD theThe the\ncards the  card",
    "东京 我东京的 东 京",
    "",
    " ",
    "a \U000f0000 b \U0010fffd \ue000 [E1\U000f0001]",
    "[SEP] [MASK] [UNK] card",
]


@pytest.fixture(scope="module")
def original() -> tokenizers.Tokenizer:
    tokenizer = tokenizers.Tokenizer(
        tokenizers.models.WordPiece(
            {token: position for position, token in enumerate(VOCABULARY)}, unk_token="[UNK]"
        )
    )
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"])
    tokenizer.add_tokens(ADDED)
    return tokenizer


@pytest.fixture(scope="module")
def ours(original) -> BertPreprocessor:
    tokens = [
        AddedToken(
            token.content,
            original.token_to_id(token.content),
            normalized=token.normalized,
            single_word=token.single_word,
        )
        for token in ADDED
    ]
    added = [asdict(token) for token in tokens]
    return BertPreprocessor(VOCABULARY, ["x"], added_tokens=added, special_tokens=True)


@pytest.mark.parametrize("text", TEXTS)
def test_the_ids_are_hugging_faces(original, ours, text):
    found = ours.encode({"text": tf.constant([text])})["text"][0].numpy().tolist()
    assert found == original.encode(text, add_special_tokens=False).ids


def test_texts_of_a_batch_do_not_touch(original, ours):
    found = ours.encode({"text": tf.constant(["ab", "ab", "", "ab c"])})["text"].to_list()
    assert found == [original.encode(text).ids for text in ("ab", "ab", "", "ab c")]


def test_they_are_there_after_saving_and_loading(ours, tmp_path):
    ours.save(tmp_path)
    again = Preprocessor.load(tmp_path)
    assert again.state() == ours.state()
    expected = ours({"text": tf.constant(TEXTS)})["token_ids"].numpy().tolist()
    assert again({"text": tf.constant(TEXTS)})["token_ids"].numpy().tolist() == expected


def test_special_tokens_in_a_text_are_plain_text_unless_asked_for():
    text = {"text": tf.constant(["card [SEP] card"])}
    plain, asked = (
        BertPreprocessor(VOCABULARY, ["x"], special_tokens=special)(text)["token_ids"][0].numpy()
        for special in (False, True)
    )
    card, end = VOCABULARY.index("card"), VOCABULARY.index("[SEP]")
    assert asked.tolist()[1:] == [card, end, card, end]
    assert plain.tolist().count(end) == 1
