"""What tasks of one kind optimise: written once, shared by text, image and sequence classifiers."""

from collections.abc import Sequence

from data.forecasting import ForecastPreprocessor
from tasks.engine.classification import ClassificationAssessment
from tasks.engine.forecasting import ForecastAssessment
from tasks.engine.options import Train
from tasks.engine.task import Objective
from tasks.engine.translation import TranslationAssessment
from zoo.losses import (
    ClassAccuracy,
    ForecastLoss,
    Perplexity,
    ScaledError,
    SmoothedCrossentropy,
    TokenCrossentropy,
)


def classification_objective(labels: Sequence[str], train: Train) -> Objective:
    """One label an example: cross-entropy on logits, best checkpoint by accuracy."""
    return Objective(
        loss=SmoothedCrossentropy(train.label_smoothing),
        metrics=[ClassAccuracy()],
        assessment=ClassificationAssessment(labels),
    )


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


def translation_objective(train: Train) -> Objective:
    """The next token of a text: cross-entropy on logits, best checkpoint by perplexity."""
    return Objective(
        loss=TokenCrossentropy(train.label_smoothing),
        metrics=[Perplexity()],
        assessment=TranslationAssessment(),
        monitor="perplexity",
        mode="min",
    )
