"""Losses and metrics against Keras' own, on class ids and on shares."""

import keras
import numpy as np
import pytest

from zoo.losses import ClassAccuracy, SmoothedCrossentropy

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
