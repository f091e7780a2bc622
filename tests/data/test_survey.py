"""What is said of a data set's records: how many are cut, and how much of them is unknown."""

import numpy as np
import pytest

from data.records import Records, StreamedRecords
from data.survey import WARNING, survey
from data.tables.fields import Field
from data.tables.reading import BadRows, load, stream
from data.text.sequences import NumberPreprocessor, TokenPreprocessor, learn_tokens
from data.text.subwords import TranslationPreprocessor, learn_subwords
from data.text.wordpiece import SPECIAL_TOKENS, BertPreprocessor

ENGLISH = ["a warm and funny film", "a waste of time", "warm"]
CHINESE = [
    "这家餐厅很喜欢昨天刚试过,good",
    "服务员态度太差了不会再来,bad",
    "味道非常好下次还要再来,good",
]


def texts(*cells: str) -> Records:
    return Records({"text": np.array(cells, object)})


def streamed(records: Records) -> StreamedRecords:
    return StreamedRecords(records.chunks, {}, np.ones(len(records), bool))


def words(records: Records, **options) -> TokenPreprocessor:
    tokens = options.get("tokens", "word")
    return TokenPreprocessor(learn_tokens(records, tokens, 100), ["a"], **options)


@pytest.mark.parametrize("kind", [lambda records: records, streamed])
def test_texts_that_are_cut_are_counted_in_memory_and_streamed(kind):
    records = texts(*ENGLISH)
    assert survey(words(records, max_length=4), kind(records))["texts cut"] == 1
    assert survey(words(records, max_length=5), kind(records))["texts cut"] == 0
    vocabulary = [*SPECIAL_TOKENS, *"a warm and funny film waste of time".split()]
    assert survey(BertPreprocessor(vocabulary, ["a"], max_length=6), kind(records)) == {
        "texts cut": 1,
        "share of unknown tokens": 0.0,
    }


def test_a_pair_that_is_cut_on_either_side_is_one():
    vocabulary = [*SPECIAL_TOKENS, "a"]
    preprocessor = BertPreprocessor(vocabulary, ["x"], max_length=6, pair=True)
    columns = {"text": ["a", "a a", "a"], "text_pair": ["a a a a", "a", "a"]}
    records = Records({name: np.array(cells, object) for name, cells in columns.items()})
    assert survey(preprocessor, records)["texts cut"] == 1


def test_sequences_of_numbers_that_are_cut_are_counted():
    steps = [np.zeros((length, 1), np.float32) for length in (3, 4, 5)]
    records = Records({"values": np.fromiter(steps, object, 3)})
    preprocessor = NumberPreprocessor(["a"], features=1, max_length=4)
    assert survey(preprocessor, records) == {"sequences cut": 1}


def test_pairs_and_texts_to_translate_that_are_cut_are_counted():
    model = learn_subwords(ENGLISH * 3, 280)
    preprocessor = TranslationPreprocessor(model, max_source_length=6, max_target_length=6)
    records = texts("a", "x" * 20)
    assert survey(preprocessor, records) == {"texts cut": 1}
    pairs = Records(records.columns | {"reference": np.array(["x" * 20, "a"], object)})
    assert survey(preprocessor, pairs) == {"pairs truncated": 2}


def test_chinese_read_as_words_is_warned_of_and_as_characters_is_not():
    records = texts(*CHINESE)
    assert "--model.tokens character" in survey(words(records), records)[WARNING]
    assert WARNING not in survey(words(records, tokens="character"), records)
    english = texts(*ENGLISH, "the 这家餐厅很喜欢昨天刚试过 place")
    assert WARNING not in survey(words(english), english)


def test_texts_that_the_vocabulary_does_not_know_are_warned_of():
    other = texts("nichts davon ist bekannt")
    found = survey(words(texts(*ENGLISH)), other)
    assert found["share of unknown tokens"] == 1.0
    assert found[WARNING].startswith("100% of the tokens are not in the vocabulary")
    vocabulary = [*SPECIAL_TOKENS, *"a b c".split()]
    found = survey(BertPreprocessor(vocabulary, ["a"]), texts(*CHINESE))
    assert "--model.preset" in found[WARNING]


@pytest.mark.parametrize("kind", [lambda records: records, streamed])
def test_of_many_records_some_are_looked_at_and_that_is_said(kind, monkeypatch):
    monkeypatch.setattr(TokenPreprocessor, "surveyed", 4)
    records = texts(*["a b c"] * 10)
    found = survey(words(records, max_length=2), kind(records))
    assert (found["texts cut"], found["records looked at"]) == (4, 4)


def test_records_of_which_nothing_is_told_are_not_read():
    class Unread(StreamedRecords):
        def chunks(self, size=0):
            raise AssertionError

    preprocessor = NumberPreprocessor(["a"], features=1)
    preprocessor.surveyed = 0
    assert survey(preprocessor, Unread(iter, {}, np.ones(3, bool))) == {}


def test_what_tables_leave_out_is_a_fact_of_the_records(tmp_path):
    class Table:
        name, folder, facts = "t", tmp_path, {"files that are no pictures": 2}

        def chunks(self, columns, size):
            return iter(())

    fields = {"text": Field("text")}
    for read in (load, stream):
        records = read([Table(), Table()], fields, "t", BadRows())
        assert records.facts == {"files that are no pictures": 4}
        assert records.take(np.array([], int)).facts == records.facts
        assert records.counting_no_skipped().facts == {}
