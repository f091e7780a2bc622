"""Losses and metrics against Keras' own, on class ids and on shares."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from zoo import losses
from zoo.losses import (
    ClassAccuracy,
    ForecastLoss,
    Perplexity,
    ScaledError,
    SmoothedCrossentropy,
    TokenCrossentropy,
)

IDS = np.array([0, 2, 1, 2], np.int32)
SHARES = np.eye(3, dtype="float32")[IDS]
MIXED = np.array([[0.7, 0.3, 0], [0, 0.4, 0.6], [0, 1, 0], [0.2, 0.1, 0.7]], "float32")
LOGITS = np.random.RandomState(0).randn(4, 3).astype("float32")


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_ids_and_shares_of_one_class_have_the_loss_that_keras_has(smoothing):
    plain = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
    ours, expected = SmoothedCrossentropy(smoothing), plain(SHARES, LOGITS)
    np.testing.assert_allclose(ours(IDS, LOGITS), expected, rtol=1e-6)
    np.testing.assert_allclose(ours(SHARES, LOGITS), expected, rtol=1e-6)
    np.testing.assert_allclose(ours(MIXED, LOGITS), plain(MIXED, LOGITS), rtol=1e-6)


def test_accuracy_counts_the_largest_logits_that_are_right():
    right = (LOGITS.argmax(-1) == IDS).mean()
    for truth in (IDS, SHARES, MIXED):
        metric = ClassAccuracy()
        metric.update_state(truth, LOGITS)
        assert float(metric.result()) == pytest.approx(right)


def test_accuracy_takes_sequences_and_weights():
    metric = ClassAccuracy()
    metric.update_state(IDS.reshape(2, 2), LOGITS.reshape(2, 2, 3), np.array([[1, 0], [0, 0.0]]))
    assert float(metric.result()) == float(LOGITS[0].argmax() == 0)


def test_both_are_restored_from_their_configs():
    for thing in (ClassAccuracy("hits"), SmoothedCrossentropy(0.1)):
        again = type(thing).from_config(thing.get_config())
        assert again.get_config() == thing.get_config()


# Tokens of padded sequences

TOKENS = np.array([[3, 1, 4, 1], [2, 6, 0, 0], [5, 0, 0, 0], [1, 2, 3, 0]], np.int32)
IS_TOKEN = TOKENS != 0
TOKEN_LOGITS = 3 * np.random.RandomState(3).randn(4, 4, 7).astype("float32")


def value_and_gradient(loss, truth, logits, *weights) -> tuple[np.ndarray, np.ndarray]:
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        value = loss(truth, logits, *weights)
    return value.numpy(), tape.gradient(value, logits).numpy()


def mean_of_tokens(smoothing: float):
    """The loss by the plain formula."""
    each = SmoothedCrossentropy(smoothing, reduction=None)
    return lambda truth, logits: tf.reduce_mean(each(truth, logits)[truth != 0])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("accelerated", [False, True])
def test_the_loss_of_tokens_is_the_mean_over_those_that_are_no_padding(
    monkeypatch, smoothing, accelerated
):
    monkeypatch.setattr(losses, "accelerated", lambda: accelerated)
    value, gradient = value_and_gradient(TokenCrossentropy(smoothing), TOKENS, TOKEN_LOGITS)
    expected = value_and_gradient(mean_of_tokens(smoothing), TOKENS, TOKEN_LOGITS)
    np.testing.assert_allclose(value, expected[0], rtol=1e-6)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-5, atol=1e-8)
    assert (gradient[~IS_TOKEN] == 0).all()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_tokens_that_were_thought_impossible_have_their_loss_too(smoothing):
    value, gradient = value_and_gradient(TokenCrossentropy(smoothing), TOKENS, 100 * TOKEN_LOGITS)
    expected = value_and_gradient(mean_of_tokens(smoothing), TOKENS, 100 * TOKEN_LOGITS)
    assert value > 100
    np.testing.assert_allclose(value, expected[0], rtol=1e-6)
    np.testing.assert_allclose(gradient, expected[1], rtol=1e-5, atol=1e-8)


def test_a_batch_of_nothing_but_padding_has_a_loss_of_zero_and_no_gradient():
    value, gradient = value_and_gradient(TokenCrossentropy(0.1), 0 * TOKENS, TOKEN_LOGITS)
    assert value == 0 and (gradient == 0).all()


def test_logits_that_are_no_numbers_have_no_loss_that_is_one():
    logits = np.where(TOKENS[..., np.newaxis] == 6, np.nan, TOKEN_LOGITS)
    assert np.isnan(TokenCrossentropy()(TOKENS, logits))


def test_half_precision_logits_have_the_loss_that_they_have_as_float32():
    half = tf.cast(TOKEN_LOGITS, tf.bfloat16)
    value, gradient = value_and_gradient(TokenCrossentropy(0.1), TOKENS, half)
    expected = value_and_gradient(TokenCrossentropy(0.1), TOKENS, tf.cast(half, tf.float32))
    assert value == expected[0]
    np.testing.assert_array_equal(gradient, tf.cast(expected[1], tf.bfloat16))


def test_weights_of_records_weigh_their_tokens():
    weights = np.array([1, 0, 2, 0.5], np.float32)
    value, _ = value_and_gradient(TokenCrossentropy(), TOKENS, TOKEN_LOGITS, weights)
    each = SmoothedCrossentropy(reduction=None)(TOKENS, TOKEN_LOGITS).numpy()
    expected = (each * weights[:, np.newaxis])[IS_TOKEN].sum() / IS_TOKEN.sum()
    assert value == pytest.approx(expected, rel=1e-6)


def test_replicas_with_unlike_many_tokens_train_as_one():
    def trained(strategy: tf.distribute.Strategy) -> tuple[dict[str, float], np.ndarray]:
        with strategy.scope():
            model = keras.Sequential([keras.layers.Dense(7, kernel_initializer="ones")])
            loss, metrics = TokenCrossentropy(0.1), [Perplexity()]
            model.compile(keras.optimizers.SGD(1.0), loss=loss, metrics=metrics)
            data = tf.data.Dataset.from_tensor_slices((TOKEN_LOGITS, TOKENS)).batch(4)
            first = model.fit(data, shuffle=False, verbose=0).history
            then = model.evaluate(data, verbose=0)
        return [*first["loss"], *first["perplexity"], *then], model.layers[0].kernel.numpy()

    # The second replica has four of the ten tokens.
    one = tf.distribute.get_strategy()
    for ours, expected in zip(
        trained(tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])), trained(one), strict=True
    ):
        np.testing.assert_allclose(ours, expected, rtol=1e-5)


@pytest.mark.parametrize("weights", [None, np.array([1, 0, 2, 0.5], np.float32)])
def test_the_average_of_cross_entropies_is_the_loss_on_each_replica(weights):
    loss = TokenCrossentropy()
    each = SmoothedCrossentropy(reduction=None)(TOKENS, TOKEN_LOGITS)

    def both(part):
        some = weights if weights is None else tf.gather(weights, part)
        tokens = tf.gather(TOKENS, part)
        average = loss.average(tf.gather(each, part), tokens, some)
        return average, loss(tokens, tf.gather(TOKEN_LOGITS, part), some)

    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    halves = strategy.experimental_distribute_values_from_function(
        lambda context: tf.range(2) + 2 * context.replica_id_in_sync_group
    )
    for ours, expected in (both(tf.range(4)), tf.function(strategy.run)(both, (halves,))):
        of_replicas = strategy.experimental_local_results
        np.testing.assert_allclose(of_replicas(ours), of_replicas(expected), rtol=1e-6)


def test_perplexity_is_of_all_tokens_of_all_batches():
    metric = Perplexity()
    for part in (slice(0, 1), slice(1, 4)):  # batches with unlike many tokens
        metric.update_state(TOKENS[part], TOKEN_LOGITS[part])
    expected = np.exp(mean_of_tokens(0.0)(TOKENS, TOKEN_LOGITS))
    assert float(metric.result()) == pytest.approx(expected, rel=1e-5)


def test_perplexity_takes_weights_of_records():
    metric = Perplexity()
    metric.update_state(TOKENS, TOKEN_LOGITS, np.array([0, 1, 0, 0]))
    expected = np.exp(mean_of_tokens(0.0)(TOKENS[1:2], TOKEN_LOGITS[1:2]))
    assert float(metric.result()) == pytest.approx(expected, rel=1e-5)


def test_losses_of_tokens_are_restored_from_their_configs():
    for thing in (TokenCrossentropy(0.1), Perplexity("other")):
        again = type(thing).from_config(thing.get_config())
        assert again.get_config() == thing.get_config()


# Forecasts

TRUTH = np.random.RandomState(1).randn(5, 3, 2).astype("float32")
FORECASTS = np.random.RandomState(2).randn(5, 3, 2, 3).astype("float32")
DEVIATION, QUANTILES = [2.0, 0.5], [0.1, 0.9]


def with_gaps() -> np.ndarray:
    truth = TRUTH.copy()
    truth[0] = truth[1, 1, 0] = truth[3, :, 1] = np.nan
    return truth


def losses_of(truth: np.ndarray) -> np.ndarray:
    """Each target's loss, by the formulas."""
    over = (truth[..., np.newaxis] - FORECASTS) / np.array(DEVIATION)[:, np.newaxis]
    share = np.array(QUANTILES)
    pinball = np.maximum(share * over[..., 1:], (share - 1) * over[..., 1:])
    return over[..., 0] ** 2 + pinball.mean(axis=-1)


@pytest.mark.parametrize("truth", [TRUTH, with_gaps()], ids=["whole", "gaps"])
def test_losses_and_errors_of_forecasts_are_means_over_what_was_measured(truth):
    loss = ForecastLoss(DEVIATION, QUANTILES)(truth, FORECASTS)
    np.testing.assert_allclose(loss, np.nanmean(losses_of(truth)), rtol=1e-5)
    scaled = (truth - FORECASTS[..., 0]) / DEVIATION
    for kind, expected in (("squared", scaled**2), ("absolute", np.abs(scaled))):
        metric = ScaledError(DEVIATION, kind)
        for part in (slice(0, 2), slice(2, 5)):  # batches with unlike many gaps
            metric.update_state(truth[part], FORECASTS[part])
        np.testing.assert_allclose(metric.result(), np.nanmean(expected), rtol=1e-5)


def test_errors_of_forecasts_take_weights_of_records():
    metric = ScaledError(DEVIATION)
    metric.update_state(with_gaps(), FORECASTS, np.array([1, 0, 1, 0, 0.0]))
    expected = ((with_gaps() - FORECASTS[..., 0]) / DEVIATION)[[0, 2]] ** 2
    np.testing.assert_allclose(metric.result(), np.nanmean(expected), rtol=1e-5)


def test_what_was_not_measured_has_no_gradient_and_nothing_at_all_a_loss_of_zero():
    for truth in (with_gaps(), np.full_like(TRUTH, np.nan)):
        forecasts = tf.constant(FORECASTS)
        with tf.GradientTape() as tape:
            tape.watch(forecasts)
            loss = ForecastLoss(DEVIATION, QUANTILES)(truth, forecasts)
        gradient = tape.gradient(loss, forecasts).numpy()
        assert np.isfinite(loss) and np.isfinite(gradient).all()
        assert (gradient[np.isnan(truth)] == 0).all()
        assert (gradient[~np.isnan(truth)] != 0).all()
    assert float(loss) == 0


def test_losses_of_forecasts_are_restored_from_their_configs():
    for thing in (ForecastLoss(DEVIATION, QUANTILES), ScaledError(DEVIATION, "absolute")):
        again = type(thing).from_config(thing.get_config())
        assert again.get_config() == thing.get_config()
