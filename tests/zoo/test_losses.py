"""Losses and metrics against Keras' own, on class ids and on shares."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from zoo.losses import ClassAccuracy, ForecastLoss, ScaledError, SmoothedCrossentropy

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
