"""Batches: every record once an epoch, alike in length, in an order that can be begun anywhere."""

from itertools import chain

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from data.batching import EncodedRecords, epoch_order, streamed_evaluation, streamed_training
from data.records import Records
from data.text import BertPreprocessor

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *(f"w{index}" for index in range(40))]


def preprocessor() -> BertPreprocessor:
    return BertPreprocessor(VOCABULARY, ["0", "1"])


def records(count: int) -> Records:
    """Text i starts with the word i and is 1 to 5 words long; its label is its parity."""
    texts = [" ".join([f"w{i % 40}"] + ["w0"] * (i * 7 % 5)) for i in range(count)]
    labels = [str(i % 2) for i in range(count)]
    return Records({"text": np.array(texts, object), "label": np.array(labels, object)})


def first_words(dataset: tf.data.Dataset, batches: int) -> list[list[int]]:
    return [inputs["token_ids"][:, 1].numpy().tolist() for inputs, _ in dataset.take(batches)]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(0, 50), min_size=1, max_size=300), st.integers(1, 40), st.integers(0, 9)
)
def test_an_epoch_is_a_permutation_of_the_records(lengths, batch_size, seed):
    order = epoch_order(tf.constant(lengths), batch_size, seed, epoch=3).numpy()
    assert sorted(order) == list(range(len(lengths)))


def test_epochs_differ_and_can_be_repeated():
    lengths = tf.range(200) % 7
    orders = [epoch_order(lengths, 8, 1, epoch).numpy().tolist() for epoch in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1]


def test_batches_hold_records_of_like_length():
    lengths = np.random.default_rng(0).integers(5, 60, size=2000)
    order = epoch_order(tf.constant(lengths), 32, 0, 0).numpy()
    padded = sum(len(b) * lengths[b].max() for b in np.split(order, range(32, 2000, 32)))
    assert padded < 1.06 * lengths.sum()
    # and batches of one length do not all come in a row
    means = [lengths[b].mean() for b in np.split(order, range(32, 2000, 32))]
    assert np.abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.5


def test_training_sees_every_record_once_an_epoch_with_its_own_target():
    dataset = EncodedRecords([records(30).columns], preprocessor()).training(8, seed=0)
    batches = list(dataset.take(4))
    words = np.concatenate([inputs["token_ids"][:, 1].numpy() for inputs, _ in batches]) - 4
    targets = np.concatenate([target.numpy() for _, target in batches])
    assert sorted(words) == list(range(30))
    assert (targets == words % 2).all()


def test_training_begun_at_an_epoch_goes_on_as_if_it_had_run_up_to_it():
    encoded = EncodedRecords([records(30).columns], preprocessor())
    whole = first_words(encoded.training(8, seed=5), 12)
    assert first_words(encoded.training(8, seed=5, first_epoch=2), 4) == whole[8:]


def test_evaluation_sees_every_record_once_and_says_which():
    dataset, order = EncodedRecords([records(30).columns], preprocessor()).evaluation(8)
    words = np.concatenate([inputs["token_ids"][:, 1].numpy() for inputs, _ in dataset]) - 4
    assert words.tolist() == order.tolist()
    assert sorted(order) == list(range(30))


@pytest.mark.parametrize("buffer", [4, 1000])
def test_streamed_training_sees_every_record_once_an_epoch_in_another_order(buffer):
    dataset = streamed_training(lambda: records(30).chunks(7), preprocessor(), 8, 0, buffer)
    words = first_words(dataset, 8)
    epochs = [list(chain(*words[:4])), list(chain(*words[4:]))]
    assert [sorted(epoch) for epoch in epochs] == [list(range(4, 34))] * 2
    assert epochs[0] != epochs[1]


def test_streamed_evaluation_keeps_the_order():
    dataset = streamed_evaluation(lambda: records(30).chunks(7), preprocessor(), 8)
    assert list(chain(*first_words(dataset, 4))) == list(range(4, 34))


def test_autotuning_is_off_so_that_dropping_an_iterator_never_waits():
    encoded = EncodedRecords([records(30).columns], preprocessor())
    for dataset in (encoded.training(8, 0), encoded.evaluation(8)[0]):
        assert dataset.options().autotune.enabled is False
