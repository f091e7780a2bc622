"""How the predictions of any classifier are judged, drawn and logged: texts, images, sequences.

    assessment = ClassificationAssessment(labels)
    assessment.metrics(truth, logits)["macro_f1"]

`truth` is `[n]`, the index of each example's label; `logits` is `[n, number of labels]`. A label
that the data at hand does not contain counts nowhere: macro_f1 averages the labels that occur
among the true ones, and pictures leave out labels neither true nor predicted. An example wrongly
given an absent label is still a miss of its true label.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from scipy.special import softmax
from sklearn import metrics as scores
from tensorboard.plugins.pr_curve import summary as pr_curve

from data.records import Records, cell_text
from tasks.engine.errors import UsageError
from tasks.engine.showing import markdown
from tasks.engine.showing.figures import label_style, short
from tasks.kinds.classification.figures import (
    Calibration,
    calibration_picture,
    confusion_picture,
    per_class_picture,
)

_LABEL_KEY = "label"  # the record's key for what the truth already says
_PR_CURVES = 100


class ClassificationAssessment:
    """Judges the logits of a classifier whose outputs are `labels`, in that order."""

    mistakes_title = "Most confident mistakes"

    def __init__(self, labels: Sequence[str]):
        self.labels = list(labels)

    def metrics(
        self,
        truth: np.ndarray,
        outputs: np.ndarray,
        records: Records | None = None,
        baselines: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, Any]:
        """Loss, accuracies, F1, calibration, and a table by class.

        Returns:
            `loss` (cross entropy, nats), `accuracy`, `top_3_accuracy` and `top_5_accuracy` (where
            there are more classes than that), `macro_f1`, `weighted_f1`,
            `expected_calibration_error`, and `per_class`: precision, recall, f1 and support by
            label; the first three are None for a label that the truth does not contain.
        Raises:
            UsageError: an output is not a finite number, because training diverged.
        """
        probabilities = _softmax(outputs)
        predicted = probabilities.argmax(-1)
        classes = np.arange(len(self.labels))
        result: dict[str, Any] = {
            "loss": scores.log_loss(truth, probabilities, labels=classes),
            "accuracy": scores.accuracy_score(truth, predicted),
        }
        for k in (3, 5):
            if k < len(classes):
                result[f"top_{k}_accuracy"] = scores.top_k_accuracy_score(
                    truth, probabilities, k=k, labels=classes
                )
        for average in ("macro", "weighted"):
            result[f"{average}_f1"] = scores.f1_score(
                truth, predicted, labels=np.unique(truth), average=average, zero_division=0
            )
        result["expected_calibration_error"] = expected_calibration_error(truth, probabilities)
        result = {name: float(value) for name, value in result.items()}
        return result | {"per_class": self._per_class(truth, predicted)}

    def pictures(
        self,
        truth: np.ndarray,
        outputs: np.ndarray,
        records: Records | None = None,
        baselines: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, Figure]:
        """The confusion matrix, the reliability diagram, and the classes with the lowest F1.

        Raises:
            UsageError: an output is not a finite number.
        """
        probabilities = _softmax(outputs)
        predicted = probabilities.argmax(-1)
        drawn, style = label_style([short(label) for label in self.labels])
        occurring = np.union1d(truth, predicted)
        counts = scores.confusion_matrix(truth, predicted, labels=occurring)
        per_class = list(self._per_class(truth, predicted).values())
        return {
            "confusion_matrix": confusion_picture(counts, [drawn[i] for i in occurring], style),
            "calibration": calibration_picture(_calibration(truth, probabilities, bins=15)),
            "per_class": per_class_picture(per_class, drawn, style),
        }

    def mistakes(
        self, truth: np.ndarray, outputs: np.ndarray, records: Records, limit: int = 20
    ) -> list[dict[str, Any]]:
        """The wrong predictions with the highest scores, highest first, with their records.

        Returns:
            Dicts of `truth`, `prediction`, `score` (the predicted label's probability), and the
            record's columns as text; bytes that are not text are left out.
        """
        probabilities = _softmax(outputs)
        predicted = probabilities.argmax(-1)
        surest = np.argsort(-probabilities.max(-1), kind="stable")
        wrong = surest[predicted[surest] != truth[surest]][:limit]
        return self._described(wrong, truth, probabilities, records)

    def summaries(
        self, truth: np.ndarray, outputs: np.ndarray, records: Records, step: int
    ) -> None:
        """Writes a precision-recall curve for each class, and sample predictions.

        They go to the default `tf.summary` writer. The samples are the same records at each step,
        spread evenly over the data; curves are of the 100 most frequent classes at most.
        """
        probabilities = _softmax(outputs)
        counts = np.bincount(truth, minlength=len(self.labels))
        for index in np.argsort(-counts, kind="stable")[:_PR_CURVES]:
            if counts[index]:
                curve = pr_curve.pb(
                    f"per_class/{self.labels[index]}",
                    labels=truth == index,
                    predictions=probabilities[:, index].astype(np.float32),
                    display_name=self.labels[index],
                )
                tf.summary.experimental.write_raw_pb(curve.SerializeToString(), step)
        spread = np.unique(np.linspace(0, len(truth) - 1, 20).astype(int))
        samples = self._described(spread, truth, probabilities, records)
        tf.summary.text("samples", _as_table(samples), step)
        mistakes = self.mistakes(truth, outputs, records)
        if mistakes:
            tf.summary.text("most_confident_mistakes", _as_table(mistakes), step)

    def _per_class(self, truth: np.ndarray, predicted: np.ndarray) -> dict[str, dict[str, Any]]:
        columns = scores.precision_recall_fscore_support(
            truth, predicted, labels=np.arange(len(self.labels)), zero_division=0
        )
        table = {}
        for label, precision, recall, f1, support in zip(self.labels, *columns, strict=True):
            values = (float(precision), float(recall), float(f1)) if support else (None,) * 3
            named = dict(zip(("precision", "recall", "f1"), values, strict=True))
            table[label] = named | {"support": int(support)}
        return table

    def _described(
        self,
        indices: np.ndarray,
        truth: np.ndarray,
        probabilities: np.ndarray,
        records: Records,
    ) -> list[dict[str, Any]]:
        texts = _texts_at(records, indices)
        return [
            {
                "truth": self.labels[truth[index]],
                "prediction": self.labels[probabilities[index].argmax()],
                "score": round(float(probabilities[index].max()), 4),
            }
            | texts[index]
            for index in indices.tolist()
        ]


def expected_calibration_error(
    truth: np.ndarray, probabilities: np.ndarray, bins: int = 15
) -> float:
    """How far confidence is from accuracy, 0 to 1: Guo et al. 2017, equation 3.

    Args:
        truth: `[n]` indices of the true labels.
        probabilities: `[n, labels]`.
        bins: number of equally wide intervals of confidence.
    """
    return _calibration(truth, probabilities, bins).error


def _calibration(truth: np.ndarray, probabilities: np.ndarray, bins: int) -> Calibration:
    confidence = probabilities.max(-1)
    right = probabilities.argmax(-1) == truth
    # Each interval includes its upper end, so that a certain answer is in the last one.
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    count = np.bincount(place, minlength=bins)
    divisor = np.maximum(count, 1)
    return Calibration(
        count=count,
        confidence=np.bincount(place, confidence, bins) / divisor,
        accuracy=np.bincount(place, right, bins) / divisor,
    )


def _softmax(logits: np.ndarray) -> np.ndarray:
    logits = np.asarray(logits, np.float64)
    if not np.isfinite(logits).all():
        raise UsageError(
            "the model's outputs are not finite numbers, so training has diverged; "
            "lower --train.learning_rate or clip gradients"
        )
    return softmax(logits, axis=-1)


def _texts_at(records: Records, indices: np.ndarray) -> dict[int, dict[str, str]]:
    """The records at these positions, as texts; reads streamed records no further than needed."""
    texts: dict[int, dict[str, str]] = {}
    wanted, start = np.sort(indices), 0
    for chunk in records.chunks():
        if len(texts) == len(wanted):
            break
        for index in wanted[(wanted >= start) & (wanted < start + len(chunk))]:
            row = {key: column[index - start] for key, column in chunk.columns.items()}
            texts[int(index)] = _as_texts(row)
        start += len(chunk)
    return texts


def _as_texts(row: Mapping[str, Any]) -> dict[str, str]:
    texts = {}
    for key, value in row.items():
        if key == _LABEL_KEY:
            continue
        try:
            texts[key] = value.decode() if isinstance(value, bytes) else cell_text(value)
        except UnicodeDecodeError:
            continue
    return texts


def _as_table(rows: Sequence[Mapping[str, Any]]) -> str:
    header = list(dict.fromkeys(key for row in rows for key in row))
    return markdown.table(header, ([row.get(key, "") for key in header] for row in rows))
