"""How forecasts are judged, drawn and logged.

    assessment = ForecastAssessment(preprocessor, quantiles=[0.1, 0.9])
    assessment.metrics(truth, outputs, windows, {})["scaled_mse"]

`truth` is float (windows, horizon, targets), `outputs` (windows, horizon, targets, 1 + quantiles):
the mean and the quantiles; both in raw units.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure

from data.forecasting import ForecastPreprocessor
from data.stamps import stamp_text
from data.windows import Windows
from tasks.engine import markdown
from tasks.engine.errors import UsageError
from tasks.engine.forecasting_pictures import (
    coverage_picture,
    error_by_step_picture,
    forecasts_picture,
)

Outputs = Mapping[str, np.ndarray]


class ForecastAssessment:
    """Judges forecasts against what came, and against simpler ones.

    Args:
        preprocessor: what the targets are called, and their scale in the training data.
        quantiles: those that the outputs have beside the mean.
    """

    mistakes_title = "Largest errors"

    def __init__(self, preprocessor: ForecastPreprocessor, quantiles: Sequence[float]) -> None:
        self.preprocessor = preprocessor
        self.quantiles = np.array(quantiles, np.float64)

    def metrics(
        self, truth: np.ndarray, outputs: np.ndarray, records: Windows, baselines: Outputs
    ) -> dict[str, Any]:
        """Errors over all, by target, by step, and of the baselines.

        Returns:
            `scaled_mse`, `scaled_mae` and `scaled_rmse`, of targets in units of their deviation in
            the training data, as papers report them; `mase` (Hyndman & Koehler 2006) and `smape`
            (from 0 to 2; Makridakis 1993), means over the targets; with quantiles, `quantile_loss`
            (pinball, scaled, mean over the quantiles) and `coverage`, the share of what came that
            is between the lowest and the highest. Then `per_target`: `mse`, `mae` and `rmse` in raw
            units, `mase`, `smape`, `coverage`; `by_step`: lists of the first ones, a number a step
            of the horizon; `baselines`: the same first ones of `naive`, `seasonal_naive` and
            trained ones, by name.
        Raises:
            UsageError: an output is not a finite number, because training diverged.
        """
        if not np.isfinite(outputs).all():
            raise UsageError(
                "the model's outputs are not finite numbers, so training has diverged; lower "
                "--train.learning_rate or clip gradients"
            )
        overall = _means(self._errors(truth, outputs), (0, 1, 2))
        return overall | {
            "per_target": self._per_target(truth, outputs),
            "by_step": {
                name: _rounded(values)
                for name, values in _by_axis(self._errors(truth, outputs), (0, 2)).items()
            },
            "baselines": {
                name: _means(self._errors(truth, forecast), (0, 1, 2))
                for name, forecast in self._baselines(records, baselines).items()
            },
        }

    def pictures(
        self, truth: np.ndarray, outputs: np.ndarray, records: Windows, baselines: Outputs
    ) -> dict[str, Figure]:
        """Forecasts over what came, errors by step beside the baselines', and how often what came
        is below each quantile."""
        all_outputs = {"the model": outputs, **self._baselines(records, baselines)}
        errors = {
            name: _by_axis(self._errors(truth, forecast), (0, 2))["scaled_mse"]
            for name, forecast in all_outputs.items()
        }
        pictures = {
            "forecasts": self._forecasts(truth, outputs, records),
            "error_by_step": error_by_step_picture(errors),
        }
        if len(self.quantiles):
            below = (truth[..., np.newaxis] <= outputs[..., 1:]).mean(axis=(0, 1))
            names = self.preprocessor.columns.targets
            pictures["quantiles"] = coverage_picture(self.quantiles, below, names)
        return pictures

    def mistakes(
        self, truth: np.ndarray, outputs: np.ndarray, records: Windows, limit: int = 20
    ) -> list[dict[str, Any]]:
        """The targets of windows with the largest errors, largest first.

        Returns:
            Dicts of `series` (if there are several), `from`, the first step's time, `target`,
            `scaled_mse`, and the means of what was `forecast` and of what `came`.
        """
        errors = self._errors(truth, outputs)["scaled_mse"].mean(axis=1)  # (windows, targets)
        # Windows overlap, so that the worst ones are nearly the same: one a horizon is enough.
        spread = np.arange(0, len(errors), max(1, min(records.horizon, len(errors) // limit)))
        worst = np.argsort(-errors[spread], axis=None, kind="stable")[:limit]
        rows = []
        for window, target in zip(*np.unravel_index(worst, errors[spread].shape), strict=True):
            window = int(spread[window])
            name = records.series.names[records.owners[window]]
            times = records.series.frequency.shift(records.last_times()[window], 1)
            rows.append(
                ({"series": name} if name else {})
                | {
                    "from": stamp_text(int(times)),
                    "target": self.preprocessor.columns.targets[target],
                    "scaled_mse": float(errors[window, target]),
                    "forecast": float(outputs[window, :, target, 0].mean()),
                    "came": float(truth[window, :, target].mean()),
                }
            )
        return rows

    def summaries(
        self, truth: np.ndarray, outputs: np.ndarray, records: Windows, step: int
    ) -> None:
        """Writes a scalar for each step of the horizon, and the largest errors."""
        by_step = _by_axis(self._errors(truth, outputs), (0, 2))["scaled_mse"]
        for horizon, value in enumerate(by_step, 1):
            tf.summary.scalar("scaled_mse_by_step", value, step=horizon)
        worst = self.mistakes(truth, outputs, records)
        header = list(worst[0])
        rows = ([row[key] for key in header] for row in worst)
        tf.summary.text("largest_errors", markdown.table(header, rows), step)

    def _errors(self, truth: np.ndarray, outputs: np.ndarray) -> dict[str, np.ndarray]:
        """What the metrics are means of, each (windows, horizon, targets)."""
        truth, outputs = truth.astype(np.float64), outputs.astype(np.float64)
        forecast = outputs[..., 0]
        error = truth - forecast
        scaled = error / self.preprocessor.target_deviation
        size = np.abs(truth) + np.abs(forecast)
        errors = {
            "scaled_mse": scaled**2,
            "scaled_mae": np.abs(scaled),
            "mase": np.abs(error) / self.preprocessor.seasonal_error,
            "smape": np.divide(2 * np.abs(error), size, out=np.zeros_like(size), where=size > 0),
        }
        if len(self.quantiles) and outputs.shape[-1] > 1:
            over = (truth[..., np.newaxis] - outputs[..., 1:]) / (
                self.preprocessor.target_deviation[:, np.newaxis]
            )
            pinball = np.maximum(self.quantiles * over, (self.quantiles - 1) * over)
            errors["quantile_loss"] = pinball.mean(axis=-1)
        if len(self.quantiles) > 1 and outputs.shape[-1] > 2:
            within = (truth >= outputs[..., 1]) & (truth <= outputs[..., -1])
            errors["coverage"] = within.astype(np.float64)
        return errors

    def _per_target(self, truth: np.ndarray, outputs: np.ndarray) -> dict[str, dict[str, float]]:
        deviation = self.preprocessor.target_deviation.astype(np.float64)
        means = _by_axis(self._errors(truth, outputs), (0, 1))
        mse = means.pop("scaled_mse") * deviation**2
        raw = {"mse": mse, "mae": means.pop("scaled_mae") * deviation, "rmse": np.sqrt(mse)}
        for name in means.keys() & {"scaled_rmse", "quantile_loss"}:
            del means[name]
        return {
            name: {key: float(values[index]) for key, values in (raw | means).items()}
            for index, name in enumerate(self.preprocessor.columns.targets)
        }

    def _baselines(self, records: Windows, trained: Outputs) -> dict[str, np.ndarray]:
        """Forecasts to compare with, each (windows, horizon, targets, any)."""
        simple = {"naive": records.naive()}
        if records.season > 1:
            simple["seasonal_naive"] = records.seasonal_naive()
        return {name: values[..., np.newaxis] for name, values in simple.items()} | dict(trained)

    def _forecasts(self, truth: np.ndarray, outputs: np.ndarray, records: Windows) -> Figure:
        """The windows at a quarter, a half and three quarters of the data, of four targets."""
        shown = np.unique((len(truth) * np.array([0.25, 0.5, 0.75])).astype(int))
        before = records.take(shown)
        history = before.targets(-min(records.window, 3 * records.horizon), 0)
        targets = self.preprocessor.columns.targets[:4]
        starts = [stamp_text(time) for time in before.last_times().tolist()]
        names = [records.series.names[owner] for owner in before.owners]
        titles = [f"{name} {start}".strip() for name, start in zip(names, starts, strict=True)]
        return forecasts_picture(
            history, truth[shown], outputs[shown], titles, targets, self.quantiles
        )


def _means(errors: Mapping[str, np.ndarray], axes: tuple[int, ...]) -> dict[str, float]:
    return {name: float(value) for name, value in _by_axis(errors, axes).items()}


def _by_axis(errors: Mapping[str, np.ndarray], axes: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Means over some axes, with the root of the mean squared error after it."""
    means = {name: np.mean(values, axis=axes) for name, values in errors.items()}
    mse = means.pop("scaled_mse")
    mae = means.pop("scaled_mae")
    return {"scaled_mse": mse, "scaled_mae": mae, "scaled_rmse": np.sqrt(mse)} | means


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), 6) for value in values]
