"""How forecasts are judged: against plain formulas, scikit-learn, and forecasts that need no model.

Two targets of two series with a season of three, in units that differ.
"""

import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import mean_absolute_error, mean_pinball_loss, mean_squared_error
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from data.series.frequency import DAY, Frequency
from data.series.preprocessor import fit_forecast_preprocessor
from data.series.sections import Columns, SeriesSet, whole
from data.series.windows import Windows
from tasks.engine.errors import UsageError
from tasks.engine.showing.figures import png
from tasks.kinds.forecasting.assessment import ForecastAssessment

PNG = b"\x89PNG"
HORIZON, QUANTILES = 4, [0.1, 0.5, 0.8]


def windows_of(names: tuple[str, ...] = ("a", "b"), season: int = 3) -> Windows:
    """All windows of some series of 30 days each."""
    rows = 30 * len(names)
    random = np.random.RandomState(0)
    wave = np.sin(np.arange(rows) * 2 * np.pi / 3)[:, np.newaxis]
    series = SeriesSet(
        values=((wave + random.randn(rows, 2)) * [1, 50] + [0, 400]).astype(np.float32),
        measured=np.ones((rows, 2), bool),
        times=np.tile(np.arange(30) * DAY, len(names)),
        bounds=np.arange(len(names) + 1) * 30,
        names=list(names),
        columns=Columns(("x", "much")),
        static=np.empty((len(names), 0), object),
        frequency=Frequency(DAY),
        source="a.csv",
        missing={},
    )
    return Windows.of(whole(series), window=6, horizon=HORIZON, season=season)


def assessment_of(windows: Windows, quantiles: list[float] = QUANTILES) -> ForecastAssessment:
    preprocessor = fit_forecast_preprocessor(
        windows.section, windows.window, windows.horizon, windows.season
    )
    return ForecastAssessment(preprocessor, quantiles)


def answers(windows: Windows, quantiles: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """What came, and forecasts that are a little off, with quantiles that rise around them."""
    truth = windows.targets(0, HORIZON)
    random = np.random.RandomState(1)
    unit = np.array([1, 50])[:, np.newaxis]
    mean = truth[..., np.newaxis] + 0.6 * unit * random.randn(*truth.shape, 1)
    spread = np.sort(random.randn(*truth.shape, quantiles), axis=-1)
    return truth, np.concatenate([mean, mean + unit * spread], axis=-1).astype(np.float32)


def judged(quantiles: list[float] = QUANTILES) -> tuple[dict, Windows, np.ndarray, np.ndarray]:
    windows = windows_of()
    truth, outputs = answers(windows, len(quantiles))
    found = assessment_of(windows, quantiles).metrics(truth, outputs, windows, {})
    return found, windows, truth, outputs


# Metrics


def test_errors_are_those_of_scikit_learn_in_deviations():
    found, windows, truth, outputs = judged()
    deviation = windows.series.values.std(axis=0)
    one, other = (np.ravel(values / deviation) for values in (truth, outputs[..., 0]))
    assert found["scaled_mse"] == pytest.approx(mean_squared_error(one, other), rel=1e-5)
    assert found["scaled_mae"] == pytest.approx(mean_absolute_error(one, other), rel=1e-5)
    assert found["scaled_rmse"] == pytest.approx(mean_squared_error(one, other) ** 0.5, rel=1e-5)


def test_mase_divides_by_each_series_error_of_a_season_before_and_smape_by_the_sizes():
    found, windows, truth, outputs = judged()
    values = windows.series.values.astype(float)
    before = np.stack(
        [np.abs(part[3:] - part[:-3]).mean(axis=0) for part in (values[:30], values[30:])]
    )
    size = np.abs(truth - outputs[..., 0])
    mase = (size / before[windows.owners][:, np.newaxis]).mean()
    smape = (2 * size / (np.abs(truth) + np.abs(outputs[..., 0]))).mean()
    assert found["mase"] == pytest.approx(mase, rel=1e-5)
    assert found["smape"] == pytest.approx(smape, rel=1e-5)


def test_metrics_are_the_ones_worked_out_by_hand():
    windows = windows_of(("a",), season=1).take([0])
    assessment = assessment_of(windows, [0.1, 0.9])
    assessment.preprocessor.deviation = np.array([2.0, 1.0], np.float32)
    assessment.preprocessor.series_errors = {"a": [4.0, 1.0]}
    truth = np.zeros((1, 1, 2), np.float32)
    truth[0, 0, 0] = 4
    outputs = np.array([[[[2, 1, 3.0], [0, 0, 0]]]], np.float32)
    windows = Windows(windows.section, 6, 1, 1, windows.origins)
    found = assessment.metrics(truth, outputs, windows, {})
    assert found["scaled_mse"] == 0.5
    assert found["mase"] == 0.25
    assert found["smape"] == pytest.approx((2 * 2 / 6 + 0) / 2)
    assert found["quantile_loss"] == pytest.approx(((0.1 * 1.5 + 0.9 * 0.5) / 2 + 0) / 2)
    assert found["coverage"] == 0.5
    assert found["per_target"]["x"] == {
        "mse": 4.0, "mae": 2.0, "rmse": 2.0, "mase": 0.5, "smape": pytest.approx(2 / 3),
        "coverage": 0.0,
    }  # fmt: skip


def test_the_quantile_loss_is_the_scaled_pinball_loss_and_coverage_the_share_within():
    found, windows, truth, outputs = judged()
    deviation = windows.series.values.std(axis=0)
    expected = np.mean(
        [
            mean_pinball_loss(
                np.ravel(truth / deviation), np.ravel(outputs[..., 1 + i] / deviation), alpha=level
            )
            for i, level in enumerate(QUANTILES)
        ]
    )
    assert found["quantile_loss"] == pytest.approx(expected, rel=1e-5)
    within = (outputs[..., 1] <= truth) & (truth <= outputs[..., 3])
    assert 0 < found["coverage"] == within.mean() < 1


@pytest.mark.parametrize(
    ("quantiles", "there"),
    [([], set()), ([0.5], {"quantile_loss"}), ([0.1, 0.9], {"quantile_loss", "coverage"})],
)
def test_what_needs_quantiles_is_left_out_without_them(quantiles, there):
    found = judged(quantiles)[0]
    for numbers in (found, found["by_step"]):
        assert numbers.keys() & {"quantile_loss", "coverage"} == there


def test_by_step_and_by_target_are_the_same_numbers_of_a_part():
    found, windows, truth, outputs = judged()
    deviation = windows.series.values.std(axis=0)
    squared = ((truth - outputs[..., 0]) / deviation) ** 2
    assert len(found["by_step"]["scaled_mse"]) == HORIZON
    np.testing.assert_allclose(found["by_step"]["scaled_mse"], squared.mean(axis=(0, 2)), atol=1e-5)
    np.testing.assert_allclose(
        found["by_step"]["scaled_rmse"], squared.mean(axis=(0, 2)) ** 0.5, atol=1e-5
    )
    assert np.mean(found["by_step"]["coverage"]) == pytest.approx(found["coverage"], abs=1e-5)
    for index, name in enumerate(("x", "much")):
        one, other = truth[..., index].ravel(), outputs[..., index, 0].ravel()
        mse = mean_squared_error(one, other)
        own = found["per_target"][name]
        assert own["mse"] == pytest.approx(mse, rel=1e-5)
        assert own["rmse"] == pytest.approx(mse**0.5, rel=1e-5)
        assert own["mae"] == pytest.approx(mean_absolute_error(one, other), rel=1e-5)
    for name in ("mase", "smape", "coverage"):
        both = [own[name] for own in found["per_target"].values()]
        assert np.mean(both) == pytest.approx(found[name])


def test_baselines_are_naive_ones_and_those_that_were_trained():
    windows = windows_of()
    truth, outputs = answers(windows)
    found = assessment_of(windows).metrics(truth, outputs, windows, {"linear": outputs})
    baselines = found["baselines"]
    assert list(baselines) == ["naive", "seasonal_naive", "linear"]
    overall = {name: value for name, value in found.items() if isinstance(value, float)}
    assert baselines["linear"] == overall
    deviation = windows.series.values.std(axis=0)
    for name, forecast in (
        ("naive", windows.naive()),
        ("seasonal_naive", windows.seasonal_naive()),
    ):
        expected = (((truth - forecast) / deviation) ** 2).mean()
        assert baselines[name]["scaled_mse"] == pytest.approx(expected, rel=1e-5)
        assert baselines[name].keys() == overall.keys() - {"quantile_loss", "coverage"}


def test_without_a_season_there_is_no_seasonal_baseline():
    windows = windows_of(season=1)
    found = assessment_of(windows).metrics(*answers(windows), windows, {})
    assert list(found["baselines"]) == ["naive"]


def test_a_perfect_forecast_of_zeros_has_no_error():
    windows = windows_of()
    nothing = np.zeros((len(windows), HORIZON, 2), np.float32)
    outputs = np.zeros((len(windows), HORIZON, 2, 4), np.float32)
    found = assessment_of(windows).metrics(nothing, outputs, windows, {})
    assert found["smape"] == found["mase"] == found["scaled_mse"] == 0
    assert found["coverage"] == 1


def test_series_that_training_did_not_have_are_scaled_by_the_error_over_all():
    found, windows, truth, outputs = judged()
    assessment = assessment_of(windows)
    new = replace(windows.series, names=["c", "d"])
    others = replace(windows, section=replace(windows.section, series=new))
    mase = assessment.metrics(truth, outputs, others, {})["mase"]
    size = np.abs(truth - outputs[..., 0])
    assert mase == pytest.approx((size / assessment.preprocessor.seasonal_error).mean(), rel=1e-5)
    assert mase != found["mase"]


# What was not measured


def test_errors_are_of_what_was_measured():
    windows = windows_of()
    truth, outputs = answers(windows)
    whole = assessment_of(windows)
    part = truth.copy()
    part[10:] = np.nan
    found = whole.metrics(part, outputs, windows, {"linear": outputs})
    first = windows.take(slice(0, 10))
    expected = whole.metrics(truth[:10], outputs[:10], first, {"linear": outputs[:10]})
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if isinstance(value, float):
            assert found[name] == pytest.approx(value), name
    assert found["baselines"]["naive"] == pytest.approx(expected["baselines"]["naive"])
    assert found["by_step"]["coverage"] == pytest.approx(expected["by_step"]["coverage"])


def test_a_target_and_a_step_that_were_never_measured_have_no_numbers(tmp_path):
    windows = windows_of()
    truth, outputs = answers(windows)
    truth[..., 1] = truth[:, 2] = np.nan
    assessment = assessment_of(windows)
    found = assessment.metrics(truth, outputs, windows, {})
    json.dumps(found, allow_nan=False)
    assert set(found["per_target"]["much"].values()) == {None}
    assert [value is None for value in found["by_step"]["scaled_mse"]] == [0, 0, 1, 0]
    rows = assessment.mistakes(truth, outputs, windows)
    assert {row["target"] for row in rows} == {"x"}
    json.dumps(rows, allow_nan=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for figure in assessment.pictures(truth, outputs, windows, {}).values():
            assert png(figure).startswith(PNG)
    with tf.summary.create_file_writer(str(tmp_path)).as_default():
        assessment.summaries(truth, outputs, windows, step=5)
    events = EventAccumulator(str(tmp_path)).Reload()
    assert [event.step for event in events.Tensors("scaled_mse_by_step")] == [1, 2, 4]


def test_a_diverged_model_is_said_to_have_diverged():
    windows = windows_of()
    for wrong in (np.nan, np.inf):
        truth, outputs = answers(windows)
        outputs[3, 1, 1, 2] = wrong
        with pytest.raises(UsageError, match=r"diverged; lower --train\.learning_rate"):
            assessment_of(windows).metrics(truth, outputs, windows, {})


# Mistakes


def test_mistakes_are_the_largest_errors_of_targets_first():
    windows = windows_of()
    truth, outputs = answers(windows)
    outputs[8, :, 0, 0] += 100  # of the first series, which has 21 windows
    outputs[32, :, 1, 0] -= 2000
    rows = assessment_of(windows).mistakes(truth, outputs, windows, limit=10)
    assert len(rows) == 10
    errors = [row["scaled_mse"] for row in rows]
    assert errors == sorted(errors, reverse=True)
    assert [(row["series"], row["target"]) for row in rows[:2]] == [("a", "x"), ("b", "much")]
    first = rows[0]
    assert first["from"] == "1970-01-15"
    assert first["came"] == pytest.approx(truth[8, :, 0].mean(), rel=1e-5)
    assert first["forecast"] == pytest.approx(outputs[8, :, 0, 0].mean(), rel=1e-5)
    deviation = windows.series.values[:, 0].std()
    expected = (((truth - outputs[..., 0])[8, :, 0] / deviation) ** 2).mean()
    assert first["scaled_mse"] == pytest.approx(expected, rel=1e-5)


def test_mistakes_of_a_single_series_do_not_name_it():
    windows = windows_of(("",)).take(slice(0, 1))
    rows = assessment_of(windows).mistakes(*answers(windows), windows)
    assert len(rows) == 2
    assert "series" not in rows[0]


# Pictures


def texts_of(figure) -> list[str]:
    """Titles, axes' and lines' names of a figure."""
    found = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    for axes in figure.axes:
        found += [axes.get_title(loc=loc) for loc in ("left", "center")]
        found += [axes.get_xlabel(), axes.get_ylabel()]
        if axes.get_legend():
            found += [text.get_text() for text in axes.get_legend().get_texts()]
    return found


@pytest.mark.parametrize("quantiles", [[], [0.5], QUANTILES], ids=len)
@pytest.mark.parametrize("count", [1, 42])
def test_pictures_of_any_quantiles_and_windows_draw_without_a_warning(quantiles, count):
    windows = windows_of().take(slice(0, count))
    truth, outputs = answers(windows, len(quantiles))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures = assessment_of(windows, quantiles).pictures(
            truth, outputs, windows, {"linear": outputs}
        )
        assert figures.keys() == {"forecasts", "error_by_step"} | (
            {"quantiles"} if quantiles else set()
        )
        assert all(png(figure).startswith(PNG) for figure in figures.values())


def test_pictures_show_three_windows_the_bands_and_a_line_for_each_baseline():
    windows = windows_of()
    truth, outputs = answers(windows)
    figures = assessment_of(windows).pictures(truth, outputs, windows, {"linear": outputs})
    assert len(figures["forecasts"].axes) == 2 * 3
    assert {"0.1 to 0.8", "came", "forecast", "x", "much"} <= set(texts_of(figures["forecasts"]))
    assert any("a 1970-01-" in text for text in texts_of(figures["forecasts"]))
    lines = {"the model", "naive", "seasonal naive", "linear"}
    assert lines <= set(texts_of(figures["error_by_step"]))


def test_the_quantile_picture_has_the_share_of_what_came_below_each():
    windows = windows_of()
    truth, outputs = answers(windows)
    figure = assessment_of(windows).pictures(truth, outputs, windows, {})["quantiles"]
    drawn = figure.axes[0].get_lines()[-1].get_xydata()
    below = (truth[..., np.newaxis] <= outputs[..., 1:]).mean(axis=(0, 1, 2))
    np.testing.assert_allclose(drawn, np.stack([QUANTILES, below], axis=1), rtol=1e-6)


def test_errors_by_step_and_mistakes_reach_tensorboard(tmp_path):
    windows = windows_of()
    truth, outputs = answers(windows)
    assessment = assessment_of(windows)
    with tf.summary.create_file_writer(str(tmp_path)).as_default():
        assessment.summaries(truth, outputs, windows, step=5)
    events = EventAccumulator(str(tmp_path)).Reload()
    by_step = events.Tensors("scaled_mse_by_step")
    assert [event.step for event in by_step] == [1, 2, 3, 4]
    found = [float(tf.make_ndarray(event.tensor_proto)) for event in by_step]
    expected = assessment.metrics(truth, outputs, windows, {})["by_step"]["scaled_mse"]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    [text] = events.Tensors("largest_errors")
    assert "| series | from | target |" in tf.make_ndarray(text.tensor_proto).item().decode()
