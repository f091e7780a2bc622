"""XLM-R's pieces: the ids of Hugging Face's tokenizers and of SentencePiece, the original."""

from io import BytesIO

import pytest
import sentencepiece
import tensorflow as tf
import tokenizers
from sentencepiece import sentencepiece_model_pb2

from data.preprocessing import Preprocessor
from data.text.unigram import UnigramPreprocessor

LEARNED = [
    "the cat sat on the mat in the house",
    "der Hund läuft schnell in das Haus",
    "这家餐厅很好吃\uff0c我很喜欢",
    "ร้านนี้อร่อยมาก ทำอาหารดี",
    "Мы идём домой вечером",
] * 20
TEXTS = [
    "the cat and der Hund",
    "  The \t cat\n",
    "这家餐厅\uff0c很好\uff01",
    "ร้านนี้ทำอร่อยมาก",
    "\uff54\uff48\uff45 ①² … ﬁ Å e\u0301",
    "餐厅\u200b餐厅\u00a0很\u3000好 Мы идём вечером",
    "🙂 ж [E1] the [/E1]cat[E1]",
    "",
    " ",
    "▁the _ ▁",
    "covid-19 \uff43ovid-19 COVID-19 acovid-19b",
]


@pytest.fixture(scope="module")
def model():
    """A SentencePiece model of XLM-R's kind, in the order of its weights."""
    written = BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(LEARNED), model_writer=written, vocab_size=65, minloglevel=2,
        unk_id=3, bos_id=0, eos_id=2, pad_id=1,
    )  # fmt: skip
    return sentencepiece_model_pb2.ModelProto.FromString(written.getvalue())


@pytest.fixture(scope="module")
def original(model) -> tokenizers.Tokenizer:
    """What transformers makes of it."""
    pieces = [(piece.piece, piece.score) for piece in model.pieces]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.Unigram(pieces, unk_id=3))
    rules = model.normalizer_spec.precompiled_charsmap
    tokenizer.normalizer = tokenizers.normalizers.Precompiled(rules)
    split = tokenizers.pre_tokenizers
    tokenizer.pre_tokenizer = split.Sequence([split.WhitespaceSplit(), split.Metaspace()])
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", 0), ("</s>", 2)],
    )
    tokenizer.add_tokens([tokenizers.AddedToken("covid-19", normalized=True)])
    tokenizer.add_special_tokens(["[E1]", "[/E1]"])
    return tokenizer


def preprocessor(model, original, **options) -> UnigramPreprocessor:
    added = [
        {"content": token, "id": original.token_to_id(token), "normalized": token == "covid-19"}
        for token in ("covid-19", "[E1]", "[/E1]")
    ]
    return UnigramPreprocessor(model.SerializeToString(), ["x"], added_tokens=added, **options)


def test_the_ids_are_hugging_faces(model, original):
    inputs = preprocessor(model, original)({"text": tf.constant(TEXTS)})
    for row, mask, text in zip(inputs["token_ids"], inputs["padding_mask"], TEXTS, strict=True):
        assert row[mask == 1].numpy().tolist() == original.encode(text).ids, text


def test_without_added_tokens_the_pieces_are_those_of_sentencepiece(model):
    proto = model.SerializeToString()
    ours = UnigramPreprocessor(proto, ["x"]).encode({"text": tf.constant(TEXTS)})["text"]
    assert ours.to_list() == sentencepiece.SentencePieceProcessor(model_proto=proto).encode(TEXTS)


def test_a_pair_is_put_together_and_cut_as_hugging_face_does(model, original):
    ours = preprocessor(model, original, pair=True, max_length=16)
    original.enable_truncation(16, strategy="longest_first")
    texts = {"text": ["the cat", "the cat sat on the mat"], "text_pair": ["der Hund läuft"] * 2}
    record = {name: tf.constant(column) for name, column in texts.items()}
    inputs = ours(record)
    expected = [original.encode(*pair) for pair in zip(*texts.values(), strict=True)]
    original.no_truncation()
    lengths = inputs["padding_mask"].numpy().sum(axis=1)
    assert lengths.tolist() == ours.lengths(ours.encode(record)).numpy().tolist()
    for row, length, encoding in zip(inputs["token_ids"].numpy(), lengths, expected, strict=True):
        assert row[:length].tolist() == encoding.ids
        assert (row[length:] == 1).all()
    assert not inputs["segment_ids"].numpy().any()


def test_special_tokens_in_a_text_are_plain_text_unless_asked_for(model, original):
    text = {"text": tf.constant(["the </s> cat"])}
    plain, asked = (
        preprocessor(model, original, special_tokens=special)(text)["token_ids"][0].numpy().tolist()
        for special in (False, True)
    )
    assert plain.count(2) == 1 and asked.count(2) == 2


def test_it_is_the_same_after_saving_and_loading(model, original, tmp_path):
    ours = preprocessor(model, original, pair=True, max_length=9)
    ours.save(tmp_path)
    assert Preprocessor.load(tmp_path).state() == ours.state()
