"""What a served forecaster is sent and answers, of models whose weights are those of the start."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from data.options import TimeSeries
from data.preprocessing import Preprocessor
from data.series.windows import Windows, WindowSource
from tasks.forecasting import Forecasting
from tasks.kinds.forecasting.signatures import ForecasterSignatures
from zoo.configs import ForecasterConfig

SMALL = ForecasterConfig(window=4, horizon=3, layers=0)


@pytest.fixture
def begun(tmp_path, monkeypatch):
    """Makes the windows, preprocessor, model and served function of a table."""
    monkeypatch.chdir(tmp_path)

    def begin(columns: dict, config: ForecasterConfig = SMALL, **options):
        pd.DataFrame(columns).to_csv("a.csv", index=False)
        data = TimeSeries(train="a.csv", **options)
        train = WindowSource(data, config.window, config.horizon).splits(0).train
        task = Forecasting()
        fitted = task.preprocessor(config, train, data)
        fitted.save(Path("saved"))
        preprocessor = Preprocessor.load(Path("saved"))  # as all but training have it
        model = task.model(config, preprocessor)
        serve = ForecasterSignatures(model, preprocessor).functions()["serving_default"]
        return train, preprocessor, model, serve

    return begin


def request(windows: Windows, names) -> dict[str, tf.Tensor]:
    records = windows.records()
    return {name: tf.constant(records[name]) for name in names}


def days(count: int, first: str = "2020-01-01") -> list[str]:
    return pd.date_range(first, periods=count).strftime("%Y-%m-%d").tolist()


@pytest.mark.parametrize(("start", "step"), [(10**12, 1000), (1.7e9, 10), (20_000_001, 1)])
def test_a_level_that_float32_rounds_is_taken_off_first_and_given_back(begun, start, step):
    steps = np.arange(200)
    cells = {"time": days(200), "x": start + step * steps, "c": start + steps % 7}
    windows, preprocessor, _, serve = begun(cells, targets="x", covariates="c")
    series = windows.series
    assert (np.diff(series.values[:, 0]) == step).all()
    naive = (windows.truth() - windows.naive()) / preprocessor.target_deviation
    inside = steps[: round(200 * 0.7)]
    assert np.square(naive).mean() == pytest.approx((1 + 4 + 9) / 3 / inside.var(), rel=1e-4)
    inputs, _ = windows.batches(preprocessor).collate(tf.range(2, dtype=tf.int64))
    np.testing.assert_array_equal(np.diff(inputs["history"][..., 0]), np.full((2, 3), step))
    record = request(windows, serve.structured_input_signature[1])
    assert record["history"].dtype == tf.float32
    answer = serve(**record)["forecast"].numpy()
    np.testing.assert_allclose(answer[:, 0, 0], start + step * (3 + windows.rows(0, 1)[:, 0]), 1e-5)
    assert f"x by up to {np.spacing(np.float32(start)) / 2:,g}" in str(windows.facts)


def test_numbers_that_float32_holds_are_left_as_they_are(begun):
    windows, preprocessor, *_ = begun({"time": days(50), "x": 1000.0 + np.arange(50)})
    assert windows.series.level == [0] and not preprocessor.level.any()
    assert windows.facts == {"frequency": "D", "season": 7}


def test_static_numbers_are_scaled_before_they_are_rounded(begun):
    rows = {"time": days(40) * 2, "id": ["a"] * 40 + ["b"] * 40, "x": [*range(40)] * 2}
    rows["size"] = [10**12] * 40 + [10**12 + 2] * 40
    _, preprocessor, *_ = begun(rows, series_column="id", static="size", targets="x")
    cells = tf.constant([["1000000000000"], ["1000000000002"]])
    assert preprocessor.encode_static(cells).numpy().tolist() == [[-1], [1]]


@pytest.mark.parametrize("level", [0, 10**9])
def test_forecasts_that_cant_be_negative_are_not(begun, level):
    sold = np.arange(60)[::-1] + level
    config = ForecasterConfig(window=4, horizon=3, layers=0, non_negative=True)
    _, preprocessor, model, serve = begun({"time": days(60), "x": sold}, config)
    assert preprocessor.level.any() == (level > 0)
    history = tf.constant([[[-5.0]] * 4, [[7.0 + level]] * 4])
    answer = serve(history=history, time=tf.constant(["2020-03-01"] * 2))
    assert answer["forecast"].numpy()[0].tolist() == [[0]] * 3
    assert answer["quantiles"].numpy().min() == 0
    assert answer["forecast"].numpy()[1].min() >= level
    past = preprocessor({"history": history, "time": tf.constant(["2020-03-01"] * 2)})
    assert model(past, training=True).numpy()[0, :, 0, 0].max() < -level  # so that it can be mended
