import pytest

from tasks.engine.run import Run
from tasks.engine.showing import markdown
from tasks.engine.showing.figures import new_figure
from tasks.engine.showing.report import write_report

HISTORY = [
    {"epoch": 1, "loss": 1.0, "val_loss": 1.1, "accuracy": 0.5, "learning_rate": 1e-5},
    {"epoch": 2, "loss": 0.5, "val_loss": 0.9, "accuracy": 0.8, "learning_rate": 1e-6},
]


def classes(count):
    return {
        f"class {index}": {"precision": 0.5, "recall": 0.5, "f1": index / count, "support": 3}
        for index in range(count)
    }


def metrics(count=3):
    return {
        "task": "text_classification",
        "parameters": 22_713_216,
        "train": {"seconds": 152.44, "examples": 9000, "skipped": 2},
        "validation": {"accuracy": 0.91, "loss": 0.4, "examples": 1000, "skipped": 0},
        "test": {"accuracy": 0.93125, "loss": 0.3, "examples": 3080, "per_class": classes(count)},
        "environment": {"python": "3.12", "devices": ["CPU", "GPU"]},
    }


CONFIG = {"task": "text_classification", "data": {"train": ["a.csv", "b.csv"], "test": "t.csv"}}


def written(tmp_path, **changes):
    parts = {
        "metrics": metrics(),
        "history": HISTORY,
        "pictures": {"confusion_matrix": new_figure(2, 2), "per_class": new_figure(2, 2)},
        "mistakes": [{"truth": "a", "prediction": "b", "score": 0.97, "text": "x | y\n<b>z"}],
        "config": CONFIG,
    }
    return write_report(Run(tmp_path), **parts | changes).read_text("utf-8")


def test_the_report_shows_metrics_data_and_the_way_to_repeat_it(tmp_path):
    report = written(tmp_path)
    assert "On the test data: accuracy **0.9313**, loss **0.3000**." in report
    assert "| accuracy | 0.9100 | 0.9313 |" in report
    assert "- parameters: 22,713,216" in report
    assert "| train | a.csv, b.csv | 9,000 | 2 |" in report
    assert "| validation | held out of train | 1,000 | 0 |" in report
    assert f"python -m tasks.text_classification train --config {tmp_path}/config.yaml" in report
    assert "- devices: CPU, GPU" in report


def test_the_command_that_repeats_a_run_can_be_given_to_a_shell(tmp_path):
    report = written(tmp_path / "my run", pictures={}, mistakes=[], history=[])
    assert f"train --config '{tmp_path}/my run/config.yaml' --run.dir NEW" in report


def test_every_picture_the_report_links_to_is_beside_it(tmp_path):
    report = written(tmp_path)
    for name in ("history", "confusion_matrix", "per_class"):
        assert f"](pictures/{name}.png)" in report
        assert (tmp_path / "pictures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_mistakes_text_cannot_break_its_table(tmp_path):
    assert "| a | b | 0.9700 | x &#124; y &#60;b&#62;z |\n" in written(tmp_path)


def test_many_classes_are_folded_and_sorted_by_f1(tmp_path):
    assert "<details><summary>" not in written(tmp_path).split("## To repeat it")[0]
    report = written(tmp_path, metrics=metrics(16))
    assert "<details><summary>16 classes, lowest F1 first</summary>" in report
    assert report.index("| class 0 |") < report.index("| class 1 |") < report.index("| class 15 |")


def test_a_class_that_the_data_lacks_has_empty_cells_and_comes_last(tmp_path):
    numbers = metrics()
    absent = {"precision": None, "recall": None, "f1": None, "support": 0}
    numbers["test"]["per_class"] = {"absent": absent, **classes(2)}
    assert "| class 1 | 0.5000 | 0.5000 | 0.5000 | 3 |\n| absent |  |  |  | 0 |" in written(
        tmp_path, metrics=numbers
    )


def test_a_run_that_only_validated_has_a_report(tmp_path):
    numbers = {"task": "forecasting", "validation": {"mae": 0.00002}}
    report = written(tmp_path, metrics=numbers, history=[], pictures={}, mistakes=[], config={})
    assert "| mae | 2e-05 |" in report
    assert "## By class" not in report
    assert "## Most confident mistakes" not in report


@pytest.mark.parametrize("text", ["*a*", "_a_", "`a`", "[a](b)", "<b>", "a|b", "~~a~~", "$a$"])
def test_markdown_shows_special_characters_as_they_are(text):
    assert not set("*`[]<>|~$") & set(markdown.escape(text))


def test_names_with_underscores_stay_as_they_are():
    assert markdown.escape("card_arrival & more\t\x00!") == "card_arrival & more !"


def test_long_texts_are_cut():
    assert markdown.escape("a" * 500, limit=10) == "a" * 9 + "…"
