"""Text classification through its public door: the command line, the run folder, the SavedModel."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from data.preprocessing import Preprocessor
from tasks.engine.command.cli import main
from tasks.engine.exporting.export_check import inspect
from tasks.engine.exporting.stock_ops import STOCK_SERVER
from tasks.engine.lock import LOCK, locked
from tasks.text_classification import TextClassification
from tests.serving.served import check_answers, check_card, check_guards, check_signatures, serving
from zoo.saving import load_model

WORDS = {"good": "great fine lovely nice", "bad": "awful poor nasty broken", "odd": "weird strange"}
SMALL = "--model.size tiny --model.dropout 0 --train.epochs 3 --train.learning_rate 2e-3".split()


def run(*arguments: object) -> int:
    """The exit code of a command."""
    try:
        main(TextClassification, [str(argument) for argument in arguments])
    except SystemExit as end:
        return end.code
    raise AssertionError("main returned")


def write_reviews(path: Path, count: int, seed: int = 0) -> Path:
    """Reviews whose label is told by one of a few words."""
    random = np.random.default_rng(seed)
    rows = []
    for index in range(count):
        label = list(WORDS)[index % 3]
        filler = random.choice("the a this shop item box it was so very".split(), 2 + index % 7)
        word = random.choice(WORDS[label].split())
        rows.append({"text": " ".join([*filler, word]), "label": label})
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> SimpleNamespace:
    """One training run with everything: data, one bad row of it, run folder, export."""
    folder = tmp_path_factory.mktemp("trained")
    train = write_reviews(folder / "train.csv", 120)
    train.write_text(train.read_text() + ",good\n")
    test = write_reviews(folder / "test.csv", 30, seed=1)
    options = ["--data.train", train, "--data.test", test, *SMALL, "--run.dir", folder / "run"]
    options += ["--train.epochs", 12, "--train.learning_rate", 4e-3, "--train.batch_size", 16]
    options += ["--data.on_bad_row", "skip"]
    options += ["--export.dir", folder / "served" / "reviews"]
    assert run("train", *options) == 0
    return SimpleNamespace(
        folder=folder / "run",
        options=options,
        test=test,
        version=folder / "served" / "reviews" / "1",
        metrics=json.loads((folder / "run" / "metrics.json").read_text()),
    )


def test_training_learns_what_the_words_tell(trained):
    assert trained.metrics["test"]["accuracy"] > 0.9


def test_bad_rows_are_skipped_and_counted_when_asked(trained):
    assert trained.metrics["train"]["skipped"] == 1


def test_metrics_hold_what_scripts_rely_on(trained):
    metrics = trained.metrics
    assert metrics["task"] == "text_classification"
    model = keras.models.load_model(trained.folder / "checkpoints" / "best.keras", compile=False)
    assert metrics["parameters"] == model.count_params()
    assert metrics["train"]["seconds"] > 0
    assert metrics["train"]["examples_per_second"] > 0
    assert metrics["environment"]["tensorflow"] == tf.__version__
    for split in ("validation", "test"):
        expected = {"accuracy", "macro_f1", "weighted_f1", "expected_calibration_error", "loss"}
        assert expected <= metrics[split].keys()
        assert metrics[split]["per_class"].keys() == WORDS.keys()
        assert metrics[split]["data"]["texts cut"] == 0
    assert metrics["data"].keys() == {"classes", "texts cut", "share of unknown tokens"}


def test_the_run_folder_has_its_parts(trained):
    parts = "config.yaml metrics.json report.md logs checkpoints/best.keras checkpoints/last.keras"
    for part in [*parts.split(), "assets/vocabulary.txt", "assets/labels.txt"]:
        assert (trained.folder / part).exists(), part
    assert not list(trained.folder.rglob(".*")), "temporary files are left"


def test_the_report_shows_pictures_that_exist(trained):
    report = (trained.folder / "report.md").read_text()
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", report)
    assert len(pictures) >= 3
    for picture in pictures:
        assert (trained.folder / picture).read_bytes().startswith(b"\x89PNG")


def test_tensorboard_has_scalars_for_train_and_validation(trained):
    for split in ("train", "validation"):
        events = EventAccumulator(str(trained.folder / "logs" / split)).Reload()
        tags = events.Tags()["tensors"] + events.Tags()["scalars"]
        assert "epoch_loss" in tags and "epoch_accuracy" in tags


def test_tensorboard_shows_the_pictures_of_the_report(trained):
    events = EventAccumulator(str(trained.folder / "logs" / "test")).Reload()
    pictures = set(events.PluginTagToContent("images"))
    assert pictures == {"confusion_matrix", "calibration", "per_class"}


def predictions(capsys, *arguments) -> list[dict]:
    capsys.readouterr()
    assert run("predict", *arguments) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_predict_answers_each_record_on_a_line(trained, capsys):
    rows = predictions(capsys, "--run.dir", trained.folder, "--input", trained.test)
    assert len(rows) == 30
    assert rows[0].keys() == {"label", "score", "probabilities"}
    assert rows[0]["score"] == max(rows[0]["probabilities"])


def test_predict_reads_text_lines_from_standard_input(trained, capsys, monkeypatch):
    stdin = SimpleNamespace(buffer=io.BytesIO(b"it was lovely\n"), isatty=lambda: False)
    monkeypatch.setattr(sys, "stdin", stdin)
    rows = predictions(capsys, "--run.dir", trained.folder)
    assert [row["label"] for row in rows] == ["good"]


def test_predict_and_the_served_model_give_the_same_answer(trained, capsys):
    texts = pd.read_csv(trained.test).text
    served = tf.saved_model.load(str(trained.version)).signatures["serving_default"]
    answers = served(text=tf.constant(texts))
    rows = predictions(capsys, "--run.dir", trained.folder, "--input", trained.test)
    assert [row["label"].encode() for row in rows] == answers["label"].numpy().tolist()
    probabilities = np.array([row["probabilities"] for row in rows])
    np.testing.assert_allclose(probabilities, answers["probabilities"], rtol=1e-5)


def test_the_server_answers_as_predict_does_and_as_the_card_says(trained, capsys):
    texts = pd.read_csv(trained.test).text.to_numpy(object)
    rows = predictions(capsys, "--run.dir", trained.folder, "--input", trained.test)
    with serving(trained.version) as server:
        check_answers(server, trained.version, {"text": texts}, rows)
        check_signatures(server, trained.version)
        check_card(server, trained.version)


def test_an_answer_depends_on_neither_batch_nor_padding(trained):
    served = tf.saved_model.load(str(trained.version)).signatures["serving_default"]
    texts = ["it was lovely", "so very very awful " * 9, "strange"]
    together = served(text=tf.constant(texts))["probabilities"].numpy()
    for text, row in zip(texts, together, strict=True):
        alone = served(text=tf.constant([text]))["probabilities"].numpy()[0]
        np.testing.assert_allclose(alone, row, atol=1e-6)


def test_evaluate_judges_other_data(trained, tmp_path, capsys):
    folder = shutil.copytree(trained.folder, tmp_path / "run")
    other = write_reviews(tmp_path / "other.csv", 20, seed=5)
    with other.open("a") as file:
        file.write(f"{'fine ' * 200},good\n")
    assert run("evaluate", "--run.dir", folder, "--data.test", other) == 0
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["test"]["examples"] == 21
    assert metrics["test"]["data"]["texts cut"] == 1
    said = capsys.readouterr().out
    assert "test" in said and "texts cut 1" in said
    assert "- test: texts cut: 1" in (folder / "report.md").read_text()


def test_export_makes_the_next_version(trained):
    folder = trained.version.parent
    before = {path.name for path in folder.iterdir() if path.name.isdigit()}
    assert run("export", "--run.dir", trained.folder, "--export.dir", folder) == 0
    after = {path.name for path in folder.iterdir() if path.name.isdigit()}
    assert after - before == {str(max(map(int, before)) + 1)}


@pytest.mark.parametrize("how", ["by its options", "by its config"])
def test_a_finished_run_given_again_does_not_train_again(trained, without_the_rest, how):
    last = trained.folder / "checkpoints" / "last.keras"
    before = last.stat().st_mtime_ns
    config = ["--config", trained.folder / "config.yaml"]
    with without_the_rest():
        assert run("train", *(trained.options if how == "by its options" else config)) == 0
    assert last.stat().st_mtime_ns == before


def test_data_that_changed_since_are_refused_and_it_is_said_which(trained, capsys):
    before = trained.test.read_text()
    trained.test.write_text(before.replace("odd", "bad"))
    assert run("train", *trained.options) == 2
    said = capsys.readouterr().err
    trained.test.write_text(before)
    assert "its data changed since it began: the test data, " in said
    assert "has 30 records as before, but others; " in said and "evaluate --run.dir" in said


def test_a_run_that_another_process_trains_is_left_to_it(trained, capsys):
    with locked(trained.folder):
        assert run("train", *trained.options) == 2
    assert f"already training (process {os.getpid()} on " in capsys.readouterr().err
    assert not (trained.folder / LOCK).exists()


@pytest.mark.usefixtures("only_training")
def test_a_run_starts_from_anothers_weights_with_a_new_head_for_other_classes(
    trained, tmp_path, capsys
):
    data = write_reviews(tmp_path / "data.csv", 30)
    data.write_text(data.read_text().replace(",odd", ",strange"))
    options = ["--data.train", data, "--train.start_from", trained.folder, "--train.epochs", 1]
    options += ["--train.learning_rate", 1e-9, "--run.dir", tmp_path / "run"]
    assert run("train", *options) == 0
    assert "with a new head, as the 3 classes are others" in capsys.readouterr().out
    assert (tmp_path / "run/assets/labels.txt").read_text() == "bad\ngood\nstrange\n"
    vocabulary = "assets/vocabulary.txt"
    assert (tmp_path / "run" / vocabulary).read_text() == (trained.folder / vocabulary).read_text()
    mine, theirs = (
        load_model(f / "checkpoints/best.keras") for f in (tmp_path / "run", trained.folder)
    )
    for one, other in zip(mine.weights, theirs.weights, strict=True):
        alike = np.allclose(one, other, atol=1e-6)
        assert alike != ("classifier" in one.path), one.path
    assert run("train", *options[:-1], tmp_path / "other", "--model.size", "mini") == 2
    assert "its model is another one (" in capsys.readouterr().err


def test_the_same_folder_with_other_options_is_refused_and_says_what_differs(trained, capsys):
    assert run("train", *trained.options, "--train.batch_size", 8) == 2
    assert "train.batch_size is 8, was 16" in capsys.readouterr().err


def test_a_run_of_another_task_is_refused(trained, tmp_path, capsys):
    config = yaml.safe_load((trained.folder / "config.yaml").read_text())
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump({**config, "task": "images"}))
    assert run("train", *trained.options, "--run.dir", folder) == 2
    assert "a run of the task images, not of text_classification" in capsys.readouterr().err
    for verb in ("evaluate", "predict", "export"):
        assert run(verb, "--run.dir", folder) == 2
        assert "a run of the task images" in capsys.readouterr().err


def test_the_config_of_a_run_is_accepted_by_every_verb(trained, capsys):
    options = ["--config", trained.folder / "config.yaml", "--run.dir", trained.folder]
    assert run("evaluate", *options) == 0
    assert run("predict", *options, "--input", trained.test) == 0


def train_options(folder: Path, *more: object) -> list[object]:
    data = write_reviews(folder / "reviews.csv", 60)
    return ["--data.train", data, *SMALL, "--train.deterministic", "true", *more]


def weights(folder: Path) -> list[np.ndarray]:
    return keras.models.load_model(folder / "checkpoints" / "last.keras").get_weights()


def history(folder: Path) -> list[dict]:
    timings = ("seconds", "input_seconds", "examples_per_second")
    epochs = json.loads((folder / "checkpoints" / "history.json").read_text())
    return [{k: v for k, v in epoch.items() if k not in timings} for epoch in epochs]


def test_pairs_of_texts_are_classified_and_served(tmp_path):
    rows = [
        {"first": f"{a} thing", "second": f"{b} thing", "same": a == b}
        for a in ("red", "blue", "green", "grey")
        for b in ("red", "blue", "green", "grey")
    ]
    data = tmp_path / "pairs.jsonl"
    data.write_text("\n".join(json.dumps(row) for row in rows))
    columns = "--data.text_column first --data.pair_column second --data.label_column same".split()
    options = [*columns, *SMALL, "--train.epochs", 1, "--data.validation_fraction", 0]
    options += ["--run.dir", tmp_path / "run", "--export.dir", tmp_path / "served"]
    assert run("train", "--data.train", data, *options) == 0
    check_guards(tmp_path / "served" / "1")
    served = tf.saved_model.load(str(tmp_path / "served" / "1")).signatures["serving_default"]
    answer = served(text=tf.constant(["red thing"]), text_pair=tf.constant(["blue thing"]))
    assert answer["label"].numpy()[0].lower() in (b"true", b"false")


def multilingual_preset(folder: Path) -> Path:
    """A tiny BERT with XLM-R's tokenizer and an added token, as a folder of Hugging Face's."""
    from io import BytesIO

    import sentencepiece

    shutil.copytree(Path(__file__).parents[1] / "zoo" / "golden" / "tiny_bert_hf", folder)
    for name in ("vocab.txt", "tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    pieces = BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["很好 อร่อย good", "不好 แย่ bad"] * 9), model_writer=pieces,
        vocab_size=30, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    (folder / "sentencepiece.bpe.model").write_bytes(pieces.getvalue())
    (folder / "added_tokens.json").write_text('{"[E1]": 79}')
    (folder / "special_tokens_map.json").write_text('{"additional_special_tokens": ["[E1]"]}')
    return folder


def test_a_multilingual_preset_is_trained_and_served_with_its_own_tokenizer(tmp_path, capsys):
    preset = multilingual_preset(tmp_path / "preset")
    texts = ["很好\uff01", "อร่อย good", "[E1] 不好", "แย่ bad </s> [e1]"]
    data = tmp_path / "reviews.csv"
    data.write_text(
        "text,label\n" + "".join(f"{text},{i % 2}\n" for i, text in enumerate(texts * 5))
    )
    options = ["--model.preset", preset, "--model.max_length", 24, "--model.special_tokens", "true"]
    options += ["--train.epochs", 1, "--data.validation_fraction", 0, "--run.dir", tmp_path / "run"]
    exported = tmp_path / "served"
    assert run("train", "--data.train", data, *options, "--export.dir", exported) == 0
    lines = tmp_path / "texts.txt"
    lines.write_text("\n".join(texts))
    rows = predictions(capsys, "--run.dir", tmp_path / "run", "--input", lines)
    served = tf.saved_model.load(str(exported / "1")).signatures["serving_default"]
    answers = served(text=tf.constant(texts))["probabilities"].numpy()
    np.testing.assert_allclose([row["probabilities"] for row in rows], answers, rtol=1e-4)
    assert inspect(exported, STOCK_SERVER, ["serve"]).loads
    ids = Preprocessor.load(tmp_path / "run" / "assets").encode({"text": tf.constant(texts)})[
        "text"
    ]
    assert 79 in ids[2].numpy() and 79 not in ids[3].numpy() and 2 in ids[3].numpy()


@pytest.mark.usefixtures("only_training")
def test_streamed_runs_go_on_after_a_stop_with_every_training_option_at_once(
    tmp_path, stopping, capsys
):
    options = train_options(
        tmp_path,
        *("--data.memory_limit_mb", 0, "--train.epochs", 2, "--model.dropout", 0.1),
        *("--train.accumulate", 2, "--train.label_smoothing", 0.1, "--train.ema", 0.9),
        *("--train.class_weights", "balanced", "--train.schedule", "cosine"),
        *("--train.precision", "mixed_bfloat16", "--train.patience", 5),
    )
    assert run("train", *options, "--run.dir", tmp_path / "whole") == 0
    assert "54 train, 6 validation" in capsys.readouterr().out
    with stopping():
        assert run("train", *options, "--run.dir", tmp_path / "stopped") == 130
    assert run("train", *options, "--run.dir", tmp_path / "stopped") == 0
    assert history(tmp_path / "stopped") == history(tmp_path / "whole")
    for one, other in zip(weights(tmp_path / "whole"), weights(tmp_path / "stopped"), strict=True):
        np.testing.assert_array_equal(one, other)


def test_help_is_answered_without_tensorflow(tmp_path):
    code = "import sys, runpy; sys.argv[1:] = ['train', '--help']\n" + (
        "try: runpy.run_module('tasks.text_classification', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "assert 'tensorflow' not in sys.modules and 'pandas' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "--data.train" in done.stdout


def test_a_command_says_nothing_on_standard_error(trained):
    command = [sys.executable, "-m", "tasks.text_classification", "predict"]
    command += ["--run.dir", str(trained.folder)]
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        command, input="so nasty\n", capture_output=True, text=True, timeout=120, env=environment
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["label"] == "bad"


@pytest.mark.parametrize(
    ("contents", "options", "message"),
    [
        ("body,label\na,b\n", "", "no column 'text'; the columns are: body, label"),
        ("", "", "reviews.csv"),
        ("text,label\n", "", "no records"),
        ("text,label\na,x\nb,x\n", "", "reviews.csv"),
        ("text,label\na,x\nb,x\nc,y\n", "", "reviews.csv"),
        (b"text,label\na,x\n\xff\xfe,y\n", "", "row 3"),
        ('text,label\n"a,x\nb,y\n', "", "reviews.csv"),
        ("text,label\na,x\n,y\n", "", "row 3"),
        ("text,label\na,x\nb,y\n", "--train.epochs 0", "must be at least 1"),
        ("text,label\na,x\nb,y\n", "--train.profile x", "two steps"),
        ("text,label\na,x\nb,y\n", "--train.profile 20,10", "two steps"),
        ("text,label\na,x\nb,y\n", "--train.seed -1", "from 0"),
        ("text,label\na,x\nb,y\n", "--export.dir gs://b/m", "remote storage is not written to"),
        ("text,label\na,x\nb,y\n", "--data.shuffle_buffer 0", "at least 1"),
        ("text,label\na,x\nb,y\n", "--model.vocabulary v.txt", "give a size"),
        ("text,label\na,x\nb,y\n", "--data.test sample", "held out by itself"),
        ("text,label\na,x\nb,y\n", "--model.size huge", "not one of tiny"),
        ("text,label\na,x\nb,y\n", "--model.preset nowhere/at/all", "nowhere/at/all"),
        ("text,label\na,x\nb,y\n", "--model.preset minilm --model.size tiny", "give one"),
        ("text,label\na,x\nb,y\n", "--train.strategy default --train.replicas 2", "mirrored"),
    ],
)
def test_bad_input_gets_one_line_and_exit_code_2(tmp_path, capsys, contents, options, message):
    data = tmp_path / "reviews.csv"
    if "preset" in options and "size" not in options:
        contents = "text,label\n" + "a,x\nb,y\n" * 20
    data.write_bytes(contents if isinstance(contents, bytes) else contents.encode())
    folder = tmp_path / "run"
    size = [] if "--model" in options else ["--model.size", "tiny"]
    arguments = ["--data.train", data, *size, *options.split(), "--run.dir", folder]
    assert run("train", *arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error
    assert not folder.exists(), "something was half-written"


@pytest.mark.parametrize("verb", ["evaluate", "predict", "export"])
def test_verbs_that_need_a_run_say_so(tmp_path, capsys, verb):
    assert run(verb) == 2
    assert "--run.dir" in capsys.readouterr().err
    assert run(verb, "--run.dir", tmp_path) == 2
    assert "not a run folder" in capsys.readouterr().err


def test_a_label_that_training_lacks_is_named(tmp_path, capsys):
    train = write_reviews(tmp_path / "train.csv", 30)
    (tmp_path / "test.csv").write_text("text,label\nhm,unheard\n")
    assert run("train", "--data.train", train, "--data.test", tmp_path / "test.csv", *SMALL) == 2
    assert "unheard" in capsys.readouterr().err
