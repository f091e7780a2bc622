"""Recurrent layers and the sequence classifier: like Keras' own, under masks, saved and loaded."""

import sys
from collections import Counter

import keras
import numpy as np
import pytest
import tensorflow as tf

from zoo.configs import SequenceClassifierConfig
from zoo.errors import PresetError
from zoo.layers import recurrent
from zoo.layers.recurrent import LSTM
from zoo.lstm import Pooling, StepNormalization, WordDropout, sequence_classifier
from zoo.saving import load_model

BATCH, STEPS, FEATURES, UNITS = 5, 7, 3, 4
LENGTHS = [7, 1, 0, 4, 6]
MASK = np.arange(STEPS) < np.array(LENGTHS)[:, np.newaxis]


def numbers(*shape, seed=0) -> np.ndarray:
    return np.random.RandomState(seed).randn(*shape).astype("float32")


def layer(kind, bidirectional=False, **options) -> keras.layers.Layer:
    """A layer with all weights away from their initial values."""
    options = {"return_sequences": True, "name": "lstm"} | options
    made = kind(UNITS, **options)
    made = keras.layers.Bidirectional(made) if bidirectional else made
    made.build((None, STEPS, FEATURES))
    for index, weight in enumerate(made.trainable_weights):
        weight.assign(0.5 * numbers(*weight.shape, seed=index + 10))
    return made


def answers(layer, x, mask=None, real=None) -> tuple[np.ndarray, list[np.ndarray]]:
    """What a layer gives where steps are real, and the gradients of a mixed sum of that."""
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = tf.cast(layer(x, mask=mask, training=True), tf.float32)
        y = y if real is None else tf.where(real[..., np.newaxis], y, 0.0)
        loss = tf.reduce_sum(y * numbers(*y.shape, seed=1))
    gradients = tape.gradient(loss, [x, *(weight.value for weight in layer.trainable_weights)])
    return y.numpy(), [gradient.numpy() for gradient in gradients]


def assert_like_keras(ours, x, mask=None, real=None, tolerance=1e-5, **options):
    theirs = layer(keras.layers.LSTM, **options)
    expected, expected_gradients = answers(theirs, x, mask, real)
    actual, gradients = answers(ours, x, mask, real)
    np.testing.assert_allclose(actual, expected, atol=tolerance)
    for one, other in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(one, other, atol=tolerance * max(1, np.abs(other).max()))


def ops_of(layer, training: bool) -> Counter[str]:
    traced = tf.function(lambda x: layer(x, training=training), autograph=False)
    graph = traced.get_concrete_function(tf.TensorSpec([None, STEPS, FEATURES])).graph
    definition = graph.as_graph_def()
    nodes = [*definition.node, *(n for f in definition.library.function for n in f.node_def)]
    return Counter(node.op for node in nodes)


@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize("backwards", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_the_lstm_has_the_outputs_and_gradients_of_keras(sequences, backwards, masked):
    options = {"return_sequences": sequences, "go_backwards": backwards}
    mask = tf.constant(MASK) if masked else None
    real = None
    if masked and sequences:  # what Keras has beyond a sequence's end, ours makes zero
        real = MASK[:, ::-1] if backwards else MASK
    ours = layer(LSTM, **options)
    assert_like_keras(ours, numbers(BATCH, STEPS, FEATURES), mask, real, **options)


def test_outputs_beyond_a_sequence_are_zero():
    outputs = layer(LSTM)(numbers(BATCH, STEPS, FEATURES), mask=tf.constant(MASK)).numpy()
    assert not outputs[~MASK].any() and outputs[MASK].all()


@pytest.mark.parametrize("sequences", [True, False])
def test_a_bidirectional_lstm_has_the_outputs_and_gradients_of_keras(sequences):
    options = {"return_sequences": sequences, "bidirectional": True}
    real = MASK if sequences else None
    ours = layer(LSTM, **options)
    x = numbers(BATCH, STEPS, FEATURES)
    assert_like_keras(ours, x, tf.constant(MASK), real, **options)
    assert "BlockLSTMV2" in ops_of(ours, True)


def test_half_precision_is_near_the_whole_one():
    ours = layer(LSTM, dtype="mixed_bfloat16")
    x = numbers(BATCH, STEPS, FEATURES)
    assert ours(x).dtype == tf.bfloat16
    assert_like_keras(ours, x, tf.constant(MASK), MASK, tolerance=0.02)
    with pytest.raises(AssertionError):
        assert_like_keras(ours, x, tf.constant(MASK), MASK, tolerance=1e-4)


@pytest.mark.parametrize("batch", [8, 5, 2, 1])
@pytest.mark.parametrize("masked", [True, False])
def test_a_batch_in_parts_trains_as_a_whole_one_does(monkeypatch, batch, masked):
    monkeypatch.setattr(tf.config.threading, "get_inter_op_parallelism_threads", lambda: 3)
    monkeypatch.setattr(tf.config.threading, "get_intra_op_parallelism_threads", lambda: 1)
    mask = np.arange(STEPS) < np.arange(batch)[:, np.newaxis] if masked else None
    x = numbers(batch, STEPS, FEATURES)
    assert_like_keras(layer(LSTM), x, None if mask is None else tf.constant(mask), mask)
    assert "BlockLSTMV2" in ops_of(layer(LSTM), True)


def test_a_batch_is_cut_in_parts_only_in_training(monkeypatch):
    monkeypatch.setattr(tf.config.threading, "get_inter_op_parallelism_threads", lambda: 3)
    monkeypatch.setattr(tf.config.threading, "get_intra_op_parallelism_threads", lambda: 1)

    assert ops_of(layer(LSTM), True)["BlockLSTMV2"] == 3
    assert ops_of(layer(LSTM), False)["BlockLSTMV2"] == 1


@pytest.mark.parametrize(
    "options",
    [
        {"recurrent_dropout": 0.5},
        {"activation": "relu"},
        {"recurrent_activation": "hard_sigmoid"},
        {"use_bias": False},
        {"unroll": True},
    ],
)
def test_what_the_fast_op_can_not_do_is_done_by_keras(options):
    assert "BlockLSTMV2" in ops_of(layer(LSTM), True)
    assert "BlockLSTMV2" not in ops_of(layer(LSTM, **options), True)


def test_dropout_is_left_to_keras_in_training_alone():
    ours = layer(LSTM, dropout=0.5)
    assert "BlockLSTMV2" not in ops_of(ours, True)
    assert "BlockLSTMV2" in ops_of(ours, False)


def test_an_initial_state_is_left_to_keras():
    state = [numbers(BATCH, UNITS, seed=5), numbers(BATCH, UNITS, seed=6)]
    x = numbers(BATCH, STEPS, FEATURES)
    ours, theirs = (layer(kind)(x, initial_state=state) for kind in (LSTM, keras.layers.LSTM))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("how", ["mean", "max", "attention"])
def test_pooling_looks_at_real_steps_alone(how):
    pooling = Pooling(how)
    x = numbers(BATCH, STEPS, FEATURES) - 3  # below the zeros that padding could let in
    pooled = pooling(x, tf.constant(MASK)).numpy()
    garbage = np.where(MASK[..., np.newaxis], x, 99).astype("float32")
    np.testing.assert_allclose(pooling(garbage, tf.constant(MASK)), pooled, rtol=1e-6)
    for row, length in enumerate(LENGTHS):
        steps = x[row, :length]
        if not length:
            expected = np.zeros(FEATURES)
        elif how == "attention":
            projected = np.tanh(steps @ pooling.projection.kernel + pooling.projection.bias)
            scores = np.exp(projected @ pooling.score.kernel)
            expected = (scores / scores.sum() * steps).sum(axis=0)
        else:
            expected = {"mean": np.mean, "max": np.max}[how](steps, axis=0)
        np.testing.assert_allclose(pooled[row], expected, rtol=1e-5)


def test_word_dropout_makes_that_share_of_the_tokens_unknown_in_training():
    ids = np.where(np.arange(100) < 80, 7, 0) * np.ones((200, 1), int)
    dropout = WordDropout(0.3, unknown=1, seed=0)
    dropped = dropout(tf.constant(ids), training=True).numpy()
    assert set(np.unique(dropped)) == {0, 1, 7} and (dropped[:, 80:] == 0).all()
    assert (dropped[:, :80] == 1).mean() == pytest.approx(0.3, abs=0.02)
    np.testing.assert_array_equal(dropout(tf.constant(ids)), ids)


def test_numbers_are_normalised_by_their_real_steps():
    x = 100 * numbers(BATCH, STEPS, 2) + 5
    x[..., 1] = 3  # a feature that never changes
    x[0, 0, 0] = np.nan
    normalization = StepNormalization()
    np.testing.assert_array_equal(normalization(x)[1], x[1])  # nothing is known yet
    normalization.adapt(tf.constant(np.where(MASK[..., np.newaxis], x, 1e6)), MASK.astype("int32"))
    scaled = normalization(x).numpy()
    known = np.delete(scaled[MASK][:, 0], 0)
    assert known.mean() == pytest.approx(0, abs=1e-5) and known.std() == pytest.approx(1, abs=1e-5)
    assert scaled[0, 0, 0] == 0 and not scaled[..., 1].any()


def inputs_of(kind: str, lengths=LENGTHS, steps=STEPS, seed=0) -> dict[str, np.ndarray]:
    mask = (np.arange(steps) < np.array(lengths)[:, np.newaxis]).astype("int32")
    if kind == "tokens":
        ids = np.random.RandomState(seed).randint(2, 20, (len(lengths), STEPS))
        return {"token_ids": np.pad(ids, [(0, 0), (0, steps - STEPS)]) * mask, "padding_mask": mask}
    values = np.pad(numbers(len(lengths), STEPS, FEATURES), [(0, 0), (0, steps - STEPS), (0, 0)])
    return {"values": values * mask[..., np.newaxis], "padding_mask": mask}


def classifier(kind: str, **options):
    """A small net with all weights away from their initial values."""
    keras.utils.set_random_seed(0)
    config = SequenceClassifierConfig(**({"units": UNITS, "embedding": 6} | options))
    sizes = {"vocabulary_size": 20} if kind == "tokens" else {"features": FEATURES}
    model = sequence_classifier(config, 3, **sizes)
    for index, weight in enumerate(model.trainable_weights):
        weight.assign(0.5 * numbers(*weight.shape, seed=index))
    return model


NETS = [
    {},
    {"layers": 3, "residual": True, "layer_norm": True, "pooling": "attention"},
    {"pooling": "last", "bidirectional": False},
    {"pooling": "last", "layers": 2},
    {"cell": "gru", "pooling": "mean"},
    {"cell": "gru", "pooling": "last", "bidirectional": False, "recurrent_dropout": 0.2},
]


@pytest.mark.parametrize("kind", ["tokens", "values"])
@pytest.mark.parametrize("options", NETS, ids=str)
def test_padding_changes_no_answer(kind, options):
    model = classifier(kind, **options)
    logits = model(inputs_of(kind)).numpy()
    np.testing.assert_allclose(model(inputs_of(kind, steps=STEPS + 4)), logits, atol=1e-5)
    assert np.isfinite(logits).all() and logits.shape == (BATCH, 3)
    alone = {name: tensor[3:4, : LENGTHS[3]] for name, tensor in inputs_of(kind).items()}
    np.testing.assert_allclose(model(alone)[0], logits[3], atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "options"), zip(["tokens", "values"] * 3, NETS, strict=True), ids=str
)
def test_a_classifier_is_the_same_after_saving_and_loading(tmp_path, kind, options):
    model = classifier(kind, **options)
    model.adapt(inputs_of(kind, seed=3))
    model.save(tmp_path / "model.keras")
    again = load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(again(inputs_of(kind)), model(inputs_of(kind)), atol=1e-6)
    np.testing.assert_allclose(
        again.features(inputs_of(kind)), model.features(inputs_of(kind)), atol=1e-6
    )


@pytest.mark.parametrize("options", [{}, {"cell": "gru"}], ids=str)
def test_a_classifier_learns_by_fit(options):
    model = classifier("tokens", units=16, word_dropout=0.1, **options)
    ids = np.random.RandomState(0).randint(2, 20, (64, STEPS))
    label = (ids == 5).any(axis=1).astype("int32")
    inputs = {"token_ids": ids, "padding_mask": np.ones_like(ids)}
    model.compile(
        keras.optimizers.Adam(0.02),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,  # as in a training
    )
    history = model.fit(inputs, label, epochs=10, batch_size=16, verbose=0).history["loss"]
    assert history[-1] < 0.5 * history[0]


def test_logits_are_whole_numbers_of_precision_under_half_precision():
    keras.config.set_dtype_policy("mixed_bfloat16")
    assert classifier("tokens")(inputs_of("tokens")).dtype == tf.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"units": 0}, "units 0: must be at least 1"),
        ({"layers": 0}, "layers 0: must be at least 1"),
        ({"dropout": 1.0}, "dropout 1.0: must be from 0 to below 1"),
        ({"word_dropout": -0.1}, "word_dropout -0.1: must be from 0 to below 1"),
        ({"max_length": 0}, "max_length 0: must be at least 1"),
    ],
)
def test_a_config_that_can_not_be_is_refused(options, message):
    with pytest.raises(PresetError, match=message):
        SequenceClassifierConfig(**options)


@pytest.mark.parametrize("kind", [recurrent.LSTM, recurrent.GRU])
def test_a_model_saved_beside_a_gpu_has_no_op_that_only_gpus_have(kind, monkeypatch):
    monkeypatch.setattr(recurrent, "has", lambda device: device == "GPU")
    keras_rnn = sys.modules["keras.src.backend.tensorflow.rnn"]  # `rnn` there is a function, too
    monkeypatch.setattr(keras_rnn, "_is_gpu_available", lambda: True)
    layer = kind(4)
    layer.build((None, 5, 3))

    def ops(training: bool) -> set[str]:
        call = tf.function(lambda x: layer(x, training=training), autograph=False)
        graph = call.get_concrete_function(tf.TensorSpec([None, 5, 3])).graph.as_graph_def()
        nodes = [*graph.node, *(node for part in graph.library.function for node in part.node_def)]
        return {node.op for node in nodes}

    assert any("Cudnn" in op for op in ops(training=True))
    assert not any("Cudnn" in op for op in ops(training=False))
