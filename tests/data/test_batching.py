"""Batches: every record once an epoch, alike in length, in an order that can be begun anywhere."""

from functools import partial
from itertools import chain, pairwise

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from data.batching import (
    FILLING,
    EncodedRecords,
    Share,
    epoch_order,
    streamed_evaluation,
    streamed_training,
    token_bounds,
    token_order,
)
from data.errors import DataError
from data.preprocessing import Preprocessor
from data.records import Records
from data.text.wordpiece import BertPreprocessor

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


class Numbers(Preprocessor):
    """A record's number as a picture of that shade: all are of one shape, as a cache wants them."""

    def encode(self, record):
        shade = tf.cast(record["number"], tf.uint8)[:, tf.newaxis, tf.newaxis]
        half = tf.cast(record["number"], tf.float32) / 2
        return {"picture": tf.tile(shade, [1, 2, 3]), "half": half}

    def collate(self, encoded, length=None):
        return {"picture": tf.cast(encoded["picture"], tf.float32), "half": encoded["half"]}

    def targets(self, columns):
        return (columns["number"] % 7).astype("int32")


def numbers(count: int, size: int, cache=None) -> EncodedRecords:
    """Records 0 to `count` - 1 in chunks of `size`."""
    chunks = ({"number": part} for part in np.split(np.arange(count), range(size, count, size)))
    return EncodedRecords(chunks, Numbers(), cache)


def values(dataset: tf.data.Dataset, batches: int) -> list[list[np.ndarray]]:
    return [[part.numpy() for part in tf.nest.flatten(batch)] for batch in dataset.take(batches)]


def assert_same(left: list[list[np.ndarray]], right: list[list[np.ndarray]]) -> None:
    for mine, theirs in zip(left, right, strict=True):
        for one, other in zip(mine, theirs, strict=True):
            assert one.dtype == other.dtype
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("size", [1, 7, 100])
def test_records_are_the_same_however_they_are_cut_into_chunks(size):
    whole, parts = numbers(30, 30), numbers(30, size)
    assert len(parts) == 30
    assert_same(values(parts.training(8, seed=3), 8), values(whole.training(8, seed=3), 8))


def test_more_records_than_are_encoded_at_once_keep_their_order():
    encoded = EncodedRecords([records(2500).columns], preprocessor())
    dataset, order = encoded.evaluation(500)
    words = np.concatenate([inputs["token_ids"][:, 1].numpy() for inputs, _ in dataset]) - 4
    assert sorted(order) == list(range(2500))
    assert words.tolist() == [row % 40 for row in order]


@pytest.mark.parametrize("size", [1, 7, 100])
def test_a_cache_on_disk_gives_the_batches_that_memory_does(size, tmp_path):
    memory, disk = numbers(30, 30), numbers(30, size, tmp_path / "new" / "cache")
    assert_same(values(disk.training(8, seed=3), 12), values(memory.training(8, seed=3), 12))
    (mine, my_order), (theirs, their_order) = (some.evaluation(8) for some in (disk, memory))
    assert_same(values(mine, 4), values(theirs, 4))
    np.testing.assert_array_equal(my_order, their_order)
    assert mine.element_spec == theirs.element_spec
    assert {path.name for path in (tmp_path / "new" / "cache").iterdir()} == {"picture", "half"}


def test_a_cache_is_written_anew(tmp_path):
    numbers(30, 7, tmp_path)
    again = numbers(5, 2, tmp_path)
    dataset, _ = again.evaluation(8)
    ((half, picture, targets),) = values(dataset, 2)
    np.testing.assert_array_equal(half, np.arange(5) / 2)
    np.testing.assert_array_equal(picture[:, 0, 0], np.arange(5))
    np.testing.assert_array_equal(targets, np.arange(5))


def what_it_got(inputs, targets, rows, epoch, seed):
    """An augmentation that puts what it got into the batch."""
    return {**inputs, "rows": rows, "epoch": epoch, "seed": seed}, targets


def got(name: str, batches: int, seed=5, **options) -> list:
    dataset = numbers(30, 7).training(8, seed, augmentation=what_it_got, **options)
    return [inputs[name].numpy().tolist() for inputs, _ in dataset.take(batches)]


def test_an_augmentation_gets_the_rows_that_are_in_the_batch():
    dataset = numbers(30, 7).training(8, seed=5, augmentation=what_it_got)
    assert dataset.element_spec[0]["rows"].dtype == tf.int64
    for inputs, targets in dataset.take(8):
        np.testing.assert_array_equal(inputs["rows"], inputs["picture"][:, 0, 0])
        np.testing.assert_array_equal(targets, inputs["rows"] % 7)


def test_an_augmentation_gets_the_epoch():
    assert got("epoch", 12) == [0] * 4 + [1] * 4 + [2] * 4


def test_an_augmentation_gets_a_seed_of_its_own_for_each_batch_of_each_epoch_and_training():
    seeds = got("seed", 12, seed=5) + got("seed", 12, seed=6)
    assert len({tuple(seed) for seed in seeds}) == 24
    assert got("seed", 12, seed=5) == seeds[:12]


def test_augmented_training_begun_at_epoch_1_goes_on_as_if_it_had_come_to_it():
    def changed(inputs, targets, rows, epoch, seed):
        noise = tf.random.stateless_uniform(tf.shape(inputs["half"]), seed)
        turn = tf.cast((rows + epoch) % 2, tf.float32)
        return {**inputs, "half": inputs["half"] + noise + 100 * turn}, targets

    whole = values(numbers(30, 7).training(8, 5, augmentation=changed), 12)
    resumed = numbers(30, 7).training(8, 5, first_epoch=1, augmentation=changed)
    assert_same(values(resumed, 8), whole[4:])


def test_an_augmentation_may_change_targets_and_evaluation_has_none():
    def negative(inputs, targets, rows, epoch, seed):
        return inputs, -targets

    encoded = numbers(30, 7)
    for inputs, targets in encoded.training(8, 5, augmentation=negative).take(4):
        np.testing.assert_array_equal(targets, -(inputs["picture"][:, 0, 0].numpy() % 7))
    for inputs, targets in encoded.evaluation(8)[0]:
        np.testing.assert_array_equal(targets, inputs["picture"][:, 0, 0].numpy() % 7)


class Pairs(Preprocessor):
    """Sources and targets of given lengths: as many times the record's number."""

    def encode(self, record):
        number = record["number"]
        return {
            name: tf.RaggedTensor.from_row_lengths(tf.repeat(number, record[name]), record[name])
            for name in ("source", "target")
        } | {"weight": tf.cast(number, tf.float32)}

    def lengths(self, encoded):
        both = [encoded[name].row_lengths() for name in ("source", "target")]
        return tf.cast(tf.stack(both, axis=1), tf.int32)

    def collate(self, encoded, length=None):
        return {name: encoded[name].to_tensor(-1) for name in ("source", "target")}

    def batch(self, encoded, targets, length=None):
        return self.collate(encoded), targets, encoded["weight"]

    def targets(self, columns):
        return columns["number"] % 7


def pairs(lengths: list[tuple[int, int]]) -> EncodedRecords:
    """A record for each pair of lengths, of source and target, numbered from 0."""
    source, target = np.array(lengths, np.int64).T
    columns = {"number": np.arange(len(lengths)), "source": source, "target": target}
    return EncodedRecords([columns], Pairs())


def numbers_in(dataset: tf.data.Dataset, batches: int) -> list[list[int]]:
    return [inputs["source"][:, 0].numpy().tolist() for inputs, *_ in dataset.take(batches)]


def like_texts(count: int) -> list[tuple[int, int]]:
    random = np.random.default_rng(0)
    sources = random.poisson(14, count) + 1
    return [(s, t) for s, t in zip(sources, sources + random.integers(-2, 3, count), strict=True)]


LENGTHS = st.lists(st.integers(1, 50), min_size=1, max_size=200)


@settings(deadline=None, max_examples=100)
@given(LENGTHS, st.integers(1, 400), st.integers(0, 2**32 - 1))
def test_batches_of_tokens_hold_every_record_once_an_epoch_and_keep_to_the_budget(
    lengths, batch_tokens, seed
):
    lengths = np.array(lengths)
    bounds = token_bounds(lengths, batch_tokens)
    sizes = []
    for epoch in (0, 5):
        order, spans = (
            part.numpy() for part in token_order(lengths, tf.constant(bounds), seed, epoch)
        )
        batches = [order[begin:end] for begin, end in spans]
        assert sorted(np.concatenate(batches)) == list(range(len(lengths)))
        for batch in batches:
            assert len(batch) >= 1
            assert len(batch) == 1 or len(batch) * lengths[batch].max() <= batch_tokens
        sizes.append(sorted(len(batch) * lengths[batch].max() for batch in batches))
    assert sizes[0] == sizes[1]


@settings(deadline=None, max_examples=100)
@given(LENGTHS, st.integers(1, 400))
def test_batches_of_tokens_are_as_large_as_can_be_in_eights(lengths, batch_tokens):
    bounds = token_bounds(np.array(lengths), batch_tokens)
    by_length = np.sort(lengths)
    for begin, end in pairwise(bounds[:-1]):
        rows = end - begin
        assert rows <= 8 or rows % 8 == 0
        more = rows + (1 if rows < 8 else 8)
        if begin + more <= len(lengths):
            assert more * by_length[begin + more - 1] > batch_tokens


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 40), st.integers(1, 4), st.integers(1, 3))
def test_shares_of_a_batch_are_equally_long_and_have_each_row_once(rows, workers, each):
    seen: list[int] = []
    for worker in range(workers):
        share = Share(workers * each, worker * each, each)
        cut = share.cut(tf.range(rows)).numpy()
        weights = share.weights(tf.constant(rows)).numpy()
        assert cut.shape == weights.shape == (each, -(-rows // (workers * each)))
        seen += cut[weights != FILLING].tolist()
    assert seen == list(range(rows))


@pytest.mark.parametrize("first_batch", [0, 3])
@pytest.mark.parametrize("tokens", [None, 100])
def test_shares_of_an_epoch_make_up_its_batches(tokens, first_batch):
    encoded = pairs(like_texts(61))
    steps = encoded.steps(8, batch_tokens=tokens) - first_batch
    whole = encoded.training(8, 0, batch_tokens=tokens).skip(first_batch)
    how = {"batch_tokens": tokens, "first_batch": first_batch}
    halves = [encoded.training(8, 0, share=Share(2, half, 1), **how) for half in (0, 1)]
    batches = numbers_in(whole, steps)
    parts = []
    for half in halves:
        rows = numbers_in(half, steps)
        weights = [weights.numpy() for *_, weights in half.take(steps)]
        parts.append([list(np.array(r)[w != FILLING]) for r, w in zip(rows, weights, strict=True)])
    assert [one + two for one, two in zip(*parts, strict=True)] == [list(b) for b in batches]


@pytest.mark.parametrize("way", ["training", "evaluation", "streamed training", "streamed"])
@pytest.mark.parametrize("parts", [1, 2])
def test_batches_may_have_one_shape_that_is_known_before(way, parts):
    share = Share(parts, 0, parts, rows=8)
    encoded = EncodedRecords([records(13).columns], preprocessor(), length=128)
    chunks = partial(records(13).chunks, 7)
    dataset = {
        "training": lambda: encoded.training(8, 0, share=share),
        "evaluation": lambda: encoded.evaluation(8, share)[0],
        "streamed training": lambda: streamed_training(
            chunks, preprocessor(), 8, 0, 20, share=share, length=128
        ),
        "streamed": lambda: streamed_evaluation(chunks, preprocessor(), 8, share, 128),
    }[way]()
    inputs, targets, weights = dataset.element_spec
    assert {spec.shape.as_list()[0] for spec in (*inputs.values(), targets, weights)} == {
        8 // parts
    }
    assert inputs["token_ids"].shape == (8 // parts, 128)
    seen = [
        (words, filling)
        for inputs, _, filling in dataset.take(2 * parts)
        for words, filling in zip(inputs["token_ids"][:, 1].numpy(), filling.numpy(), strict=True)
    ]
    assert sorted(word for word, weight in seen if weight != FILLING) == list(range(4, 17))
    assert len(seen) == 16


def test_batches_of_tokens_waste_little_on_padding():
    lengths = like_texts(4000)
    encoded = pairs(lengths)
    steps = encoded.steps(32, batch_tokens=1024)
    real = padded = np.zeros(2)
    for inputs, *_ in encoded.training(32, seed=0, batch_tokens=1024).take(steps):
        parts = [inputs[name].numpy() for name in ("source", "target")]
        padded = padded + [part.size for part in parts]
        real = real + [np.count_nonzero(part >= 0) for part in parts]
    assert real.tolist() == np.sum(lengths, axis=0).tolist()
    assert (real > 0.9 * padded).all()


def test_batches_of_tokens_bring_other_records_together_each_epoch_in_another_order():
    encoded = pairs(like_texts(600))
    steps = encoded.steps(32, batch_tokens=256)
    batches = numbers_in(encoded.training(32, seed=1, batch_tokens=256), 2 * steps)
    epochs = [batches[:steps], batches[steps:]]
    assert [sorted(chain(*epoch)) for epoch in epochs] == [list(range(600))] * 2
    together = [{frozenset(batch) for batch in epoch} for epoch in epochs]
    assert len(together[0] & together[1]) < steps / 4
    lengths = [[len(batch) for batch in epoch] for epoch in epochs]
    assert sorted(lengths[0]) == sorted(lengths[1]) and lengths[0] != lengths[1]


def test_batches_of_tokens_begun_at_an_epoch_go_on_as_if_they_had_come_to_it():
    encoded = pairs(like_texts(300))
    steps = encoded.steps(32, batch_tokens=200)
    whole = numbers_in(encoded.training(32, 5, batch_tokens=200), 3 * steps)
    late = encoded.training(32, 5, first_epoch=2, batch_tokens=200)
    assert numbers_in(late, steps) == whole[2 * steps :]
    assert numbers_in(encoded.training(32, 6, batch_tokens=200), steps) != whole[:steps]


def test_a_record_longer_than_the_budget_is_a_batch_by_itself():
    encoded = pairs([(3, 50), (60, 2), (4, 4), (4, 5)])
    assert encoded.steps(8, batch_tokens=10) == 3
    batches = numbers_in(encoded.training(8, 0, batch_tokens=10), 3)
    assert sorted(sorted(batch) for batch in batches) == [[0], [1], [2, 3]]


def test_texts_of_one_length_each_have_batches_of_tokens_too():
    encoded = EncodedRecords([records(60).columns], preprocessor())
    steps = encoded.steps(8, batch_tokens=64)
    batches = list(encoded.training(8, 0, batch_tokens=64).take(steps))
    assert sum(len(targets) for _, targets in batches) == 60
    assert all(tf.size(inputs["token_ids"]) <= 64 for inputs, _ in batches)


def test_batches_of_tokens_need_lengths():
    for batches in (numbers(30, 7), numbers(30, 30)):
        assert batches.steps(8) == 4
        with pytest.raises(DataError, match=r"--train.batch_tokens 64: .* --train.batch_size"):
            batches.steps(8, batch_tokens=64)
        with pytest.raises(DataError, match=r"--train.batch_tokens 64"):
            batches.training(8, 0, batch_tokens=64)


def test_batches_of_tokens_are_without_autotuning():
    dataset = pairs([(1, 2)] * 9).training(8, 0, batch_tokens=64)
    assert dataset.options().autotune.enabled is False
    assert dataset.element_spec[0]["source"].shape.as_list() == [None, None]


@pytest.mark.parametrize("batch_tokens", [None, 100])
def test_targets_and_weights_stay_with_their_records_also_when_augmented(batch_tokens):
    encoded = pairs(like_texts(100))

    def marked(inputs, targets, rows, epoch, seed):
        return {**inputs, "rows": rows}, targets + 100

    dataset = encoded.training(8, 0, augmentation=marked, batch_tokens=batch_tokens)
    for inputs, targets, weights in dataset.take(encoded.steps(8, batch_tokens)):
        rows = inputs["rows"].numpy()
        np.testing.assert_array_equal(rows, inputs["target"][:, 0])
        np.testing.assert_array_equal(targets, rows % 7 + 100)
        np.testing.assert_array_equal(weights, rows)


def test_records_of_two_lengths_share_a_batch_by_the_longer():
    lengths = np.array(like_texts(2000))
    order = epoch_order(tf.constant(lengths), 32, 0, 0).numpy()
    batches = np.split(order, range(32, 2000, 32))
    padded = sum(len(batch) * lengths[batch].max(axis=0) for batch in batches)
    assert sorted(order) == list(range(2000))
    assert (padded < 1.15 * lengths.sum(axis=0)).all()


def test_evaluation_of_two_lengths_goes_by_the_source_s_then_the_target_s():
    lengths = like_texts(50)
    dataset, order = pairs(lengths).evaluation(8)
    assert list(chain(*numbers_in(dataset, 7))) == order.tolist()
    assert [lengths[row] for row in order] == sorted(lengths)


def test_streamed_batches_have_weights_too():
    whole = Records({"number": np.arange(30), "source": np.full(30, 2), "target": np.full(30, 3)})
    for dataset in (
        streamed_training(lambda: whole.chunks(7), Pairs(), 8, 0, 10).take(4),
        streamed_evaluation(lambda: whole.chunks(7), Pairs(), 8),
    ):
        found = [weights.numpy().tolist() for _, _, weights in dataset]
        assert sorted(chain(*found)) == list(range(30))
