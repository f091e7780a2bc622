"""What classifiers optimise, whatever they read."""

from collections.abc import Sequence

from tasks.engine.options import Train
from tasks.engine.task import Objective
from tasks.kinds.classification.assessment import ClassificationAssessment
from zoo.losses import ClassAccuracy, SmoothedCrossentropy


def classification_objective(labels: Sequence[str], train: Train) -> Objective:
    """One label an example: cross-entropy on logits, best checkpoint by accuracy."""
    return Objective(
        loss=SmoothedCrossentropy(train.label_smoothing),
        metrics=[ClassAccuracy()],
        assessment=ClassificationAssessment(labels),
    )
