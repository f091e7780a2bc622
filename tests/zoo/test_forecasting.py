"""The forecaster: DLinear and recurrent layers side by side, quantiles, norms, loss and metrics."""

from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.stats import norm
from sklearn.metrics import mean_pinball_loss

from zoo.configs import ForecasterConfig
from zoo.errors import PresetError
from zoo.forecasting import KERNEL, forecaster
from zoo.losses import ForecastLoss, ScaledError
from zoo.saving import load_model

WINDOW, HORIZON, TARGETS, BATCH = 30, 4, 2, 3
FEATURES = {"step_features": 3, "static_features": 2}
both_ways = pytest.mark.parametrize("separate", [True, False], ids=["separate", "together"])


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.RandomState(seed).randn(*shape).astype("float32")


def build(
    columns: int = TARGETS,
    mean: list[float] | None = None,
    deviation: list[float] | None = None,
    random: bool = True,
    features: dict[str, int] | None = None,
    **options: Any,
) -> keras.Model:
    """A small forecaster; `random` moves all weights away from where they start."""
    keras.utils.set_random_seed(0)
    small = {"window": WINDOW, "horizon": HORIZON, "units": 5, "dropout": 0.0}
    config = ForecasterConfig(**small | options)
    scale = (mean or [0.0] * columns, deviation or [1.0] * columns)
    model = forecaster(config, TARGETS, *scale, **features or {})
    if random:
        for index, weight in enumerate(model.trainable_weights):
            weight.assign_add(0.3 * numbers(*weight.shape, seed=index))
    return model


def inputs(columns: int = TARGETS, features: bool = False) -> dict[str, np.ndarray]:
    made = {"history": numbers(BATCH, WINDOW, columns)}
    if features:
        made["past"] = numbers(BATCH, WINDOW, FEATURES["step_features"], seed=1)
        made["future"] = numbers(BATCH, HORIZON, FEATURES["step_features"], seed=2)
        made["static"] = numbers(BATCH, FEATURES["static_features"], seed=3)
    return made


def answer(model: keras.Model, record: dict[str, np.ndarray]) -> np.ndarray:
    return model(record, training=False).numpy()


def dlinear(model: keras.Model, history: np.ndarray) -> np.ndarray:
    """What Zeng et al. 2023 compute, by loops."""
    out = np.zeros((len(history), HORIZON, TARGETS))
    half = KERNEL // 2
    for row in range(len(history)):
        for target in range(TARGETS):
            own = history[row, :, target].astype(np.float64)
            padded = np.concatenate([[own[0]] * half, own, [own[-1]] * half])
            trend = np.array([padded[i : i + KERNEL].mean() for i in range(WINDOW)])
            for name, part in (("trend", trend), ("remainder", own - trend)):
                kernel, bias = model.get_layer(f"{name}_linear").get_weights()
                out[row, :, target] += part @ kernel + bias
    return out


# The linear part


def test_without_recurrent_layers_it_is_dlinear():
    model = build(layers=0, quantiles=[])
    assert model.count_params() == 2 * (WINDOW + 1) * HORIZON
    record = inputs()
    found = answer(model, record)
    assert found.shape == (BATCH, HORIZON, TARGETS, 1)
    np.testing.assert_allclose(found[..., 0], dlinear(model, record["history"]), atol=1e-4)


def test_a_linear_forecast_starts_as_the_mean_of_the_window():
    record = inputs()
    found = answer(build(layers=0, quantiles=[], random=False), record)[..., 0]
    mean = record["history"].mean(axis=1, keepdims=True)
    np.testing.assert_allclose(found, np.repeat(mean, HORIZON, axis=1), atol=1e-5)


def test_covariates_do_not_enter_the_linear_forecast():
    model = build(columns=3, layers=0, quantiles=[])
    record = inputs(columns=3)
    changed = {"history": record["history"] + np.array([0, 0, 9], np.float32)}
    np.testing.assert_array_equal(answer(model, record), answer(model, changed))


@both_ways
@pytest.mark.parametrize("features", [False, True], ids=["alone", "with features"])
def test_at_first_the_forecast_is_its_linear_part(separate, features):
    options = {"random": False, "quantiles": []}
    kinds = FEATURES if features else {}
    whole = build(separate=separate, features=kinds, **options)
    linear = build(layers=0, features=kinds, **options)
    record = inputs(features=features)
    np.testing.assert_allclose(answer(whole, record), answer(linear, record), atol=1e-6)


@both_ways
@pytest.mark.parametrize("features", [False, True], ids=["alone", "with features"])
def test_the_forecast_is_the_sum_of_both_parts(separate, features):
    model = build(separate=separate, features=FEATURES if features else {})
    record = inputs(features=features)
    name = "join_targets" if separate else "recurrent"
    parts = keras.Model(model.inputs, [model.get_layer(n).output for n in ("linear", name)])
    linear, recurrent = parts([record[tensor.name] for tensor in model.inputs])
    assert np.abs(recurrent).min(axis=(0, 1)).max() > 0.01
    np.testing.assert_allclose(answer(model, record)[..., 0], linear + recurrent, atol=1e-5)


# The recurrent part


def test_targets_that_are_read_separately_share_weights_and_do_not_see_each_other():
    model = build(linear=False, separate=True)
    offsets = model.get_layer("quantiles").offsets  # which targets do not share
    offsets.assign(tf.zeros_like(offsets))
    record = inputs()
    found = answer(model, record)
    swapped = answer(model, {"history": record["history"][..., ::-1]})
    np.testing.assert_allclose(swapped, found[:, :, ::-1], atol=1e-6)
    changed = record["history"] + np.array([0, 1], np.float32) * numbers(WINDOW, 1, seed=5)
    np.testing.assert_array_equal(answer(model, {"history": changed})[:, :, 0], found[:, :, 0])


def test_targets_that_are_read_together_see_each_other():
    model = build(linear=False, separate=False, quantiles=[])
    record = inputs()
    changed = record["history"] + np.array([0, 1], np.float32) * numbers(WINDOW, 1, seed=5)
    difference = answer(model, {"history": changed})[:, :, 0] - answer(model, record)[:, :, 0]
    assert np.abs(difference).max() > 1e-3


@both_ways
@pytest.mark.parametrize("name", ["past", "future", "static", "history"])
def test_every_input_is_looked_at_and_every_row_at_its_own_only(separate, name):
    model = build(columns=3, features=FEATURES, linear=False, separate=separate)
    record = {key: tf.constant(value) for key, value in inputs(3, features=True).items()}
    with tf.GradientTape() as tape:
        tape.watch(record[name])
        outputs = tf.reduce_sum(model(record, training=False)[1, :, 0, 0])
    gradient = tape.gradient(outputs, record[name]).numpy()
    used = np.abs(gradient[1]).reshape(-1, gradient.shape[-1]).max(axis=0)
    if name == "history" and separate:
        assert used[0] > 1e-6 and used[1] == 0 and used[2] > 1e-6
    else:
        assert (used > 1e-6).all()
    assert not gradient[[0, 2]].any()


def test_only_the_latest_steps_are_read_where_that_is_asked_for():
    model = build(linear=False, recurrent_steps=7)
    record = inputs()
    far, near = (record["history"].copy() for _ in range(2))
    far[:, :-7] += 1
    near[:, -7] += 1
    np.testing.assert_array_equal(answer(model, {"history": far}), answer(model, record))
    assert np.abs(answer(model, {"history": near}) - answer(model, record)).max() > 1e-4


def test_the_recurrent_part_does_not_see_the_level_of_the_targets():
    model = build(linear=False)
    record = inputs()
    raised = {"history": record["history"] + 8}
    np.testing.assert_allclose(answer(model, raised), answer(model, record), atol=1e-4)


# Raw units


@both_ways
@pytest.mark.parametrize("linear", [True, False], ids=["linear", "recurrent"])
def test_history_and_forecast_are_in_raw_units(linear, separate):
    options = {"columns": 3, "linear": linear, "separate": separate}
    mean, deviation = [20.0, -5.0, 7.0], [3.0, 0.5, 10.0]
    raw = build(mean=mean, deviation=deviation, **options)
    scaled = build(**options)
    record = inputs(columns=3)
    found = answer(raw, {"history": record["history"] * deviation + mean})
    expected = answer(scaled, record) * np.array(deviation[:2])[:, None]
    np.testing.assert_allclose(found, expected + np.array(mean[:2])[:, None], atol=2e-4)


@both_ways
@pytest.mark.parametrize("linear", [True, False], ids=["linear", "recurrent"])
def test_with_a_reversible_norm_a_moved_and_stretched_history_moves_the_forecast_alike(
    linear, separate
):
    model = build(linear=linear, separate=separate, reversible_norm=True)
    record = inputs()
    stretch, move = np.array([3.0, 0.7]), np.array([50.0, -2.0])
    found = answer(model, {"history": record["history"] * stretch + move})
    expected = answer(model, record) * stretch[:, None] + move[:, None]
    np.testing.assert_allclose(found, expected, atol=2e-3)


def test_with_a_reversible_norm_a_constant_history_has_a_finite_forecast():
    model = build(reversible_norm=True)
    found = answer(model, {"history": np.full((1, WINDOW, TARGETS), 9.0, np.float32)})
    np.testing.assert_allclose(found, 9, atol=0.1)


# Quantiles


@both_ways
def test_quantiles_rise(separate):
    model = build(quantiles=[0.1, 0.5, 0.9], separate=separate)
    offsets = model.get_layer("quantiles").offsets
    offsets.assign(5 * numbers(*offsets.shape))  # they cross
    assert (np.diff(offsets, axis=-1) < 0).any()
    found = answer(model, inputs())
    assert found.shape == (BATCH, HORIZON, TARGETS, 4)
    assert (np.diff(found[..., 1:], axis=-1) >= 0).all()


def test_quantiles_start_as_those_of_half_a_deviation_around_the_mean():
    levels = [0.1, 0.5, 0.9]
    model = build(quantiles=levels, deviation=[2.0, 6.0], random=False)
    found = answer(model, inputs())
    expected = 0.5 * norm.ppf(levels) * np.array([[2.0], [6.0]])
    np.testing.assert_allclose(
        found[..., 1:] - found[..., :1],
        np.broadcast_to(expected, (BATCH, HORIZON, 2, 3)),
        atol=1e-5,
    )


@both_ways
def test_each_target_and_step_has_the_offset_of_its_own(separate):
    model = build(quantiles=[0.5], separate=separate)
    layer = model.get_layer("quantiles")
    layer.by_state.assign(tf.zeros_like(layer.by_state))
    found = answer(model, inputs())
    expected = np.broadcast_to(layer.offsets.numpy()[..., 0], (BATCH, HORIZON, TARGETS))
    np.testing.assert_allclose(found[..., 1] - found[..., 0], expected, atol=1e-5)


@both_ways
def test_the_mean_gets_no_gradient_from_the_quantiles(separate):
    model = build(quantiles=[0.2, 0.9], separate=separate)
    with tf.GradientTape(persistent=True) as tape:
        outputs = model(inputs(), training=True)
        mean, quantiles = tf.reduce_sum(outputs[..., 0]), tf.reduce_sum(outputs[..., 1:])
    none = tf.UnconnectedGradients.ZERO
    layer = model.get_layer("quantiles")
    for name in ("trend_linear", "remainder_linear", "head"):
        kernel = model.get_layer(name).kernel.value
        assert not tape.gradient(quantiles, kernel, unconnected_gradients=none).numpy().any()
        assert tape.gradient(mean, kernel).numpy().any()
    for weight in (layer.offsets.value, layer.by_state.value):
        assert tape.gradient(quantiles, weight).numpy().any()
        assert not tape.gradient(mean, weight, unconnected_gradients=none).numpy().any()


# Saving, precision, config


@pytest.mark.parametrize(
    "options",
    [
        {"reversible_norm": True},
        {"separate": False, "cell": "gru", "layers": 2, "bidirectional": True},
        {"layers": 0, "quantiles": []},
        {"linear": False, "recurrent_steps": 5, "pooling": "attention", "dropout": 0.2},
    ],
    ids=["norm", "together", "linear", "recurrent"],
)
def test_a_model_that_was_saved_and_loaded_answers_the_same(tmp_path, options):
    scale = {"mean": [1.0, 2.0, 3.0], "deviation": [2.0, 3.0, 4.0]}
    model = build(columns=3, features=FEATURES, **scale, **options)
    model.save(tmp_path / "model.keras")
    record = inputs(3, features=True)
    loaded = load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(answer(loaded, record), answer(model, record))


def test_in_mixed_precision_only_the_recurrent_part_is_rounded():
    options = {"mean": [300.0, -2.0], "deviation": [1.0, 1.0], "random": False}
    raw = {"history": inputs()["history"] + np.array([300, -2], np.float32)}
    exact = answer(build(layers=0, **options), raw)
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = build(**options)
    assert model.get_layer("recurrent1").compute_dtype == "bfloat16"
    found = answer(model, raw)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, exact, atol=1e-4)


def test_in_mixed_precision_a_trained_model_answers_much_as_in_full():
    exact = answer(build(features=FEATURES), inputs(features=True))
    keras.config.set_dtype_policy("mixed_bfloat16")
    found = answer(build(features=FEATURES), inputs(features=True))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, exact, atol=0.1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window 0: must be at least 1"),
        ({"horizon": 0}, "horizon 0: must be at least 1"),
        ({"layers": 0, "linear": False}, "layers 0 and linear false"),
        ({"quantiles": [0.9, 0.1]}, "must rise"),
        ({"quantiles": [0.5, 0.5]}, "must rise"),
        ({"quantiles": [0.0, 0.5]}, "between 0 and 1"),
        ({"window": 9, "recurrent_steps": 10}, "must be from 1 to the window, 9"),
    ],
)
def test_a_config_that_makes_no_model_is_refused(options, message):
    with pytest.raises(PresetError, match=message):
        ForecasterConfig(**options)


# Loss and metrics


def forecasts() -> tuple[np.ndarray, np.ndarray]:
    """Truth, and means with two quantiles."""
    return numbers(5, HORIZON, TARGETS), numbers(5, HORIZON, TARGETS, 3, seed=1)


def test_the_loss_is_the_scaled_squared_error_and_the_mean_pinball_loss_beside_it():
    truth, outputs = forecasts()
    deviation = np.array([2.0, 0.5])
    squared = (((truth - outputs[..., 0]) / deviation) ** 2).mean()
    pinball = [
        mean_pinball_loss(np.ravel(truth / deviation), np.ravel(own / deviation), alpha=level)
        for own, level in ((outputs[..., 1], 0.2), (outputs[..., 2], 0.9))
    ]
    loss = ForecastLoss(deviation, [0.2, 0.9])
    np.testing.assert_allclose(loss(truth, outputs), squared + np.mean(pinball), rtol=1e-5)
    alone = ForecastLoss(deviation)(truth, outputs[..., :1])
    np.testing.assert_allclose(alone, squared, rtol=1e-5)
    assert loss.call(truth, outputs).shape == (5, HORIZON)


def test_the_scaled_errors_are_those_of_the_mean_in_deviations():
    truth, outputs = forecasts()
    deviation = np.array([2.0, 0.5])
    scaled = (truth - outputs[..., 0]) / deviation
    for kind, expected in (("squared", scaled**2), ("absolute", np.abs(scaled))):
        metric = ScaledError(deviation, kind)
        metric.update_state(truth[:2], outputs[:2])
        metric.update_state(truth[2:], outputs[2:])
        np.testing.assert_allclose(metric.result(), expected.mean(), rtol=1e-5)
    assert ScaledError([1.0]).name == "scaled_mse"
    assert ScaledError([1.0], "absolute").name == "scaled_mae"


def test_loss_and_metric_are_restored_from_their_configs():
    for thing in (ForecastLoss([2.0], [0.1]), ScaledError([2.0], "absolute", name="error")):
        again = type(thing).from_config(thing.get_config())
        assert again.get_config() == thing.get_config()
        assert (again.deviation, again.name) == ([2.0], thing.name)
