"""Tokenizers in Hugging Face's folders: read with all that changes tokens, or refused in words."""

import json
import shutil
from io import BytesIO
from pathlib import Path

import pytest
import sentencepiece

from zoo.errors import PresetError
from zoo.presets import load_vocabulary
from zoo.tokenizers import AddedToken, Subwords, Vocabulary

TINY = Path(__file__).parent / "golden" / "tiny_bert_hf"
TEXTS = [
    "the cat sat on the mat",
    "der Hund läuft schnell",
    "\uff46\uff55\uff4c\uff4c width \uff11\uff12\uff13",
    "Привет",
] * 20
PIECES = 36


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A copy of the tiny BERT, of 80 tokens, with room for ten more in its embeddings' count."""
    folder = Path(shutil.copytree(TINY, tmp_path / "tiny"))
    edit(folder / "config.json", vocab_size=90)
    return folder


@pytest.fixture(scope="module")
def pieces() -> bytes:
    """A SentencePiece model as XLM-R's: <unk>, <s>, </s>, then pieces."""
    model = BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS), model_writer=model, vocab_size=PIECES, minloglevel=2
    )
    return model.getvalue()


@pytest.fixture
def xlm_r(tiny: Path, pieces: bytes) -> Path:
    """The same with XLM-R's tokenizer, as its authors left it."""
    for name in ("vocab.txt", "tokenizer.json", "tokenizer_config.json"):
        (tiny / name).unlink()
    (tiny / "sentencepiece.bpe.model").write_bytes(pieces)
    return tiny


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}), "utf-8")


def added(position: int, content: str, special: bool = False, **flags) -> dict:
    return {"id": position, "content": content, "special": special, **flags}


EXPECTED = (
    AddedToken("covid-19", 80),
    AddedToken("[E1]", 81, normalized=False),
    AddedToken("ab", 82, single_word=True),
)


def test_added_tokens_are_read_from_tokenizer_json(tiny):
    tokens = json.loads((tiny / "tokenizer.json").read_text("utf-8"))["added_tokens"]
    tokens += [added(80, "covid-19", normalized=True), added(81, "[E1]", True, normalized=False)]
    tokens += [added(82, "ab", normalized=True, single_word=True)]
    edit(tiny / "tokenizer.json", added_tokens=tokens)
    vocabulary = load_vocabulary(str(tiny))
    assert vocabulary.added == EXPECTED and len(vocabulary.tokens) == 80


def test_added_tokens_are_read_from_where_older_versions_have_them(tiny):
    (tiny / "tokenizer.json").unlink()
    (tiny / "added_tokens.json").write_text('{"[E1]": 81, "covid-19": 80, "[MASK]": 4}')
    (tiny / "special_tokens_map.json").write_text('{"additional_special_tokens": ["[E1]"]}')
    assert load_vocabulary(str(tiny)).added == EXPECTED[:2]
    decoder = {"82": {"content": "ab", "normalized": True, "single_word": True}}
    edit(tiny / "tokenizer_config.json", added_tokens_decoder=decoder)
    assert load_vocabulary(str(tiny)).added == EXPECTED


def test_an_added_token_without_a_row_in_the_embeddings_is_refused(tiny):
    (tiny / "added_tokens.json").write_text('{"[E1]": 90}')
    refused(tiny, "the added token [E1] has the id 90, but config.json says 90 tokens")


def refused(folder: Path, words: str) -> None:
    with pytest.raises(PresetError) as caught:
        load_vocabulary(str(folder))
    assert words in str(caught.value) and str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "changes", "words"),
    [
        ("config", {"tokenizer_class": "BertJapaneseTokenizer"}, "is a BertJapaneseTokenizer"),
        ("tokenizer_config", {"tokenizer_class": "BertJapaneseTokenizer"}, "BertJapanese"),
        ("tokenizer_config", {"tokenizer_class": "KoBertTokenizer"}, "is a KoBertTokenizer"),
        ("tokenizer_config", {"word_tokenizer_type": "mecab"}, "word_tokenizer_type mecab"),
        ("tokenizer_config", {"subword_tokenizer_type": "character"}, "type character"),
        ("tokenizer_config", {"never_split": ["[رابط]"]}, "has [رابط] under never_split"),
        ("tokenizer_config", {"tokenize_chinese_chars": False}, "keeps Chinese characters"),
        (
            "tokenizer_config",
            {"tokenizer_class": None, "auto_map": {"AutoTokenizer": []}},
            "auto_map",
        ),
        ("tokenizer", {"post_processor": {"type": "TemplateProcessing"}}, "files are damaged"),
        ("tokenizer", {"normalizer": None}, "the normalizer null, not BertNormalizer"),
        ("tokenizer", {"normalizer": {"type": "NFKC"}}, "the normalizer NFKC"),
        ("tokenizer", {"pre_tokenizer": {"type": "Whitespace"}}, "the pre_tokenizer Whitespace"),
        (
            "tokenizer",
            {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [{}, {}]}},
            "the pre_tokenizer Sequence",
        ),
        ("tokenizer", {"model": {"type": "BPE"}}, "is of type BPE"),
        (
            "tokenizer",
            {"model": {"type": "WordPiece", "continuing_subword_prefix": "@@"}},
            "continuing_subword_prefix '@@'",
        ),
        (
            "tokenizer",
            {"normalizer": {"type": "BertNormalizer", "clean_text": False}},
            "keeps control characters",
        ),
    ],
)
def test_a_tokenizer_that_a_graph_cannot_do_is_refused(tiny, file, changes, words):
    if file == "config":
        edit(tiny / "tokenizer_config.json", tokenizer_class=None)
    edit(tiny / f"{file}.json", **changes)
    refused(tiny, words)


def test_words_that_are_never_split_may_be_added_tokens(tiny):
    (tiny / "added_tokens.json").write_text('{"[link]": 80}')
    edit(tiny / "tokenizer_config.json", never_split=["[link]", "[SEP]"])
    assert load_vocabulary(str(tiny)).added == (AddedToken("[link]", 80),)


def test_case_is_what_tokenizer_json_says_where_the_class_says_nothing(tiny):
    edit(tiny / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    edit(tiny / "tokenizer_config.json", do_lower_case=False)
    assert load_vocabulary(str(tiny)).lowercase


def test_ids_without_a_token_keep_their_place(tiny):
    (tiny / "vocab.txt").unlink()
    model = json.loads((tiny / "tokenizer.json").read_text("utf-8"))["model"]
    model["vocab"]["late"] = 85
    edit(tiny / "tokenizer.json", model=model)
    vocabulary = load_vocabulary(str(tiny))
    assert isinstance(vocabulary, Vocabulary)
    assert vocabulary.tokens[85] == "late" and len(set(vocabulary.tokens)) == 86


def test_xlm_rs_pieces_are_where_fairseq_put_them(xlm_r, pieces):
    vocabulary = load_vocabulary(str(xlm_r))
    original = sentencepiece.SentencePieceProcessor(model_proto=pieces)
    assert isinstance(vocabulary, Subwords)
    assert vocabulary.tokens[:4] == ("<s>", "<pad>", "</s>", "<unk>")
    assert vocabulary.tokens[-1] == "<mask>" and len(vocabulary.tokens) == PIECES + 2
    assert list(vocabulary.tokens[4:-1]) == original.id_to_piece([*range(3, PIECES)])


def test_a_piece_model_that_is_not_xlm_rs_is_refused(xlm_r):
    (xlm_r / "sentencepiece.bpe.model").write_bytes(b"\x00\x01")
    refused(xlm_r, "can't read sentencepiece.bpe.model")
    (xlm_r / "tokenizer_config.json").write_text('{"tokenizer_class": "XLMRobertaTokenizer"}')
    (xlm_r / "sentencepiece.bpe.model").rename(xlm_r / "vocab.txt")
    refused(xlm_r, "there is neither tokenizer.json nor sentencepiece.bpe.model")


def test_a_unigram_tokenizer_counts_before_a_vocabulary_made_of_it(tiny):
    vocab = [["<s>", 0], ["<pad>", 0], ["</s>", 0], ["<unk>", 0], ["▁a", -1.0]]
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always"}
    edit(
        tiny / "tokenizer.json",
        model={"type": "Unigram", "unk_id": 3, "vocab": vocab},
        normalizer=None,
        pre_tokenizer=metaspace,
        post_processor={"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0]},
    )
    edit(tiny / "tokenizer_config.json", pad_token="<pad>")
    found = load_vocabulary(str(tiny))
    assert isinstance(found, Subwords)
    assert (found.tokens[4], found.separators, found.second_segment) == ("▁a", 2, 0)
    edit(tiny / "tokenizer.json", pre_tokenizer={**metaspace, "prepend_scheme": "first"})
    refused(tiny, "the pre_tokenizer Metaspace, not XLM-R's")
    edit(tiny / "tokenizer.json", pre_tokenizer=metaspace, normalizer={"type": "Lowercase"})
    refused(tiny, "the normalizer Lowercase")
