"""What translators optimise."""

from tasks.engine.options import Train
from tasks.engine.task import Objective
from tasks.kinds.translation.assessment import TranslationAssessment
from zoo.losses import Perplexity, TokenCrossentropy


def translation_objective(train: Train) -> Objective:
    """The next token of a text: cross-entropy on logits, best checkpoint by perplexity."""
    return Objective(
        loss=TokenCrossentropy(train.label_smoothing),
        metrics=[Perplexity()],
        assessment=TranslationAssessment(),
        monitor="perplexity",
        mode="min",
    )
