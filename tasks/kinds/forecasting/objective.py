"""What forecasters optimise."""

from data.series.preprocessor import ForecastPreprocessor
from tasks.engine.task import Objective
from tasks.kinds.forecasting.assessment import ForecastAssessment
from zoo.losses import ForecastLoss, ScaledError


def forecast_objective(preprocessor: ForecastPreprocessor) -> Objective:
    """The mean and quantiles of what comes; best checkpoint by the error of the mean."""
    deviation, quantiles = preprocessor.target_deviation.tolist(), preprocessor.quantiles
    return Objective(
        loss=ForecastLoss(deviation, quantiles),
        metrics=[ScaledError(deviation, "squared"), ScaledError(deviation, "absolute")],
        assessment=ForecastAssessment(preprocessor, quantiles),
        monitor="scaled_mse",
        mode="min",
    )
