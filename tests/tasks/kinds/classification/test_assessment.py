import warnings

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import f1_score
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from data.records import Records
from tasks.engine.errors import UsageError
from tasks.engine.showing.figures import label_style, png, short
from tasks.kinds.classification.assessment import (
    ClassificationAssessment,
    expected_calibration_error,
)

PNG = b"\x89PNG"


def confident(predicted, labels, score=5.0):
    """Logits that clearly predict these classes."""
    return score * np.eye(labels)[predicted]


def random_answers(examples, labels, seed=0):
    generator = np.random.default_rng(seed)
    truth = generator.integers(0, labels, examples)
    return truth, generator.normal(size=(examples, labels)) + 2 * np.eye(labels)[truth]


def test_metrics_are_the_ones_worked_out_by_hand():
    truth = np.array([0, 0, 1, 1])
    found = ClassificationAssessment(["no", "yes"]).metrics(truth, np.log([[0.9, 0.1]] * 4))
    assert found["accuracy"] == 0.5
    assert found["loss"] == pytest.approx(-np.log([0.9, 0.9, 0.1, 0.1]).mean())
    assert found["macro_f1"] == pytest.approx((2 / 3 + 0) / 2)
    assert found["expected_calibration_error"] == pytest.approx(0.4)
    assert found["per_class"]["no"] == {
        "precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "support": 2
    }  # fmt: skip
    assert "top_3_accuracy" not in found


def test_top_k_is_reported_only_where_it_says_something():
    truth, logits = random_answers(50, 5)
    found = ClassificationAssessment(list("abcde")).metrics(truth, logits)
    assert found["accuracy"] < found["top_3_accuracy"] < 1
    assert "top_5_accuracy" not in found


def test_half_precision_logits_and_extreme_ones_are_judged():
    truth = np.array([0, 1])
    logits = np.array([[6e4, -6e4], [6e4, -6e4]], np.float16)
    assert np.isfinite(ClassificationAssessment(["a", "b"]).metrics(truth, logits)["loss"])


def test_labels_absent_from_the_data_do_not_change_the_metrics():
    truth, predicted = np.array([0, 0, 1, 1]), np.array([0, 0, 1, 0])
    few = ClassificationAssessment(["a", "b"]).metrics(truth, confident(predicted, 2))
    many = ClassificationAssessment(["a", "b", "c", "d"]).metrics(truth, confident(predicted, 4))
    assert many["macro_f1"] == few["macro_f1"] == f1_score(truth, predicted, average="macro")
    assert many["per_class"]["c"] == {"precision": None, "recall": None, "f1": None, "support": 0}


def test_predicting_an_absent_label_is_a_miss_of_the_true_one():
    found = ClassificationAssessment(["a", "b", "c"]).metrics(
        np.array([0, 0, 1, 1]), confident([0, 0, 1, 2], 3)
    )
    assert found["macro_f1"] == pytest.approx((1 + 2 / 3) / 2)


def test_a_diverged_model_is_said_to_have_diverged():
    with pytest.raises(UsageError, match="diverged"):
        ClassificationAssessment(["a", "b"]).metrics(np.array([0]), np.array([[np.nan, 0.0]]))


def test_calibration_error_of_certain_answers_is_the_share_of_wrong_ones():
    certain = np.array([[1.0, 0.0]] * 4)
    assert expected_calibration_error(np.array([0, 0, 0, 1]), certain) == pytest.approx(0.25)


@pytest.mark.parametrize(
    "labels",
    [
        ["negative", "positive"],
        [f"a class of number {index} with a name that is long" for index in range(77)],
        ["cost $5 or $6", "中文", "a|b\nc", "", "\U000f0000"],
    ],
    ids=["two", "many", "odd"],
)
def test_pictures_of_any_labels_draw_without_a_warning(labels):
    truth, logits = random_answers(60, len(labels))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figures = ClassificationAssessment(labels).pictures(truth, logits)
        assert set(figures) == {"confusion_matrix", "calibration", "per_class"}
        assert all(png(figure).startswith(PNG) for figure in figures.values())


def test_a_large_confusion_matrix_lists_the_most_frequent_confusion():
    truth = np.repeat(np.arange(30), 3)
    predicted = np.where(truth == 4, 9, truth)
    names = [f"class {index}" for index in range(30)]
    figure = ClassificationAssessment(names).pictures(truth, confident(predicted, 30))[
        "confusion_matrix"
    ]
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert texts == ["  3 of 3", "class 4 → class 9"]


def test_a_perfect_classifier_has_pictures_and_no_mistakes():
    truth = np.arange(25)
    assessment, logits = ClassificationAssessment([str(i) for i in truth]), confident(truth, 25)
    assert png(assessment.pictures(truth, logits)["confusion_matrix"]).startswith(PNG)
    assert assessment.mistakes(truth, logits, Records({"text": truth.astype(object)})) == []


def test_letters_no_font_has_become_the_labels_number():
    assert label_style(["plain", "\U000f0000"])[0] == ["plain", "#1"]


def test_long_labels_keep_their_distinguishing_ends():
    assert short("balance_not_updated_after_bank_transfer", 20) == "balance_not_u…nsfer"
    assert len(short("中" * 40, 20)) <= 11


def test_mistakes_are_the_surest_first_with_their_records():
    records = Records(
        {
            "text": np.array(["right", "unsure", "sure"], object),
            "image": np.array([b"\xff\xd8", b"\xff\xd8", b"text"], object),
            "label": np.array(["a", "b", "b"], object),
        }
    )
    logits = np.array([[3.0, 0.0], [0.1, 0.0], [4.0, 0.0]])
    found = ClassificationAssessment(["a", "b"]).mistakes(np.array([0, 1, 1]), logits, records)
    assert [row["text"] for row in found] == ["sure", "unsure"]
    assert found[0] == {
        "truth": "b", "prediction": "a", "score": 0.982, "text": "sure", "image": "text"
    }  # fmt: skip
    assert "image" not in found[1]


def test_mistakes_are_found_in_later_chunks():
    class Chunked(Records):
        def chunks(self, size=2):
            return super().chunks(2)

    records = Chunked({"text": np.array(list("abcdefg"), object)})
    truth = np.array([0, 0, 0, 0, 0, 1, 0])
    found = ClassificationAssessment(["x", "y"]).mistakes(truth, confident([0] * 7, 2), records)
    assert [row["text"] for row in found] == ["f"]


def test_summaries_reach_tensorboard(tmp_path):
    truth, logits = random_answers(30, 3)
    records = Records({"text": np.array([f"text | {i}" for i in range(30)], object)})
    with tf.summary.create_file_writer(str(tmp_path)).as_default():
        ClassificationAssessment(["a", "b", "c"]).summaries(truth, logits, records, step=2)
    events = EventAccumulator(str(tmp_path)).Reload()
    curves = set(events.PluginTagToContent("pr_curves"))
    assert curves == {f"per_class/{label}/pr_curves" for label in "abc"}
    [samples] = events.Tensors("samples")
    assert samples.step == 2
    text = tf.make_ndarray(samples.tensor_proto).item().decode()
    assert text.startswith("| truth | prediction | score | text |")
    assert "text &#124; 29" in text
