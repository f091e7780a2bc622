"""What tasks of one kind optimise: written once, shared by text, image and sequence classifiers."""

from collections.abc import Sequence

from tasks.engine.classification import ClassificationAssessment
from tasks.engine.options import Train
from tasks.engine.task import Objective
from zoo.losses import ClassAccuracy, SmoothedCrossentropy


def classification_objective(labels: Sequence[str], train: Train) -> Objective:
    """One label an example: cross-entropy on logits, best checkpoint by accuracy."""
    return Objective(
        loss=SmoothedCrossentropy(train.label_smoothing),
        metrics=[ClassAccuracy()],
        assessment=ClassificationAssessment(labels),
    )
