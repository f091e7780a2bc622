"""Translation through its public door: the command line, the run folder, the SavedModel."""

import contextlib
import io
import json
import re
import shutil
import sys
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tasks.engine.command.cli import main
from tasks.engine.exporting.export_check import check
from tasks.translation import Translation
from tests.serving.served import check_answers, check_signatures, serving

SMALL = "--model.width 32 --model.inner 64 --model.heads 2 --model.encoder_layers 1".split()
SMALL += "--model.decoder_layers 1 --model.vocabulary_size 330 --train.batch_tokens 512".split()
SMALL += "--train.learning_rate 1e-2 --decode.beam_width 1 --decode.n_best 1".split()


def run(*arguments: object) -> int:
    """The exit code of a command."""
    try:
        main(Translation, [str(argument) for argument in arguments])
    except SystemExit as end:
        return end.code
    raise AssertionError("main returned")


def pairs(count: int, start: int = 0) -> list[tuple[str, str]]:
    """Sentences of a language with another order and other words, always the same ones."""
    subjects = [("The dog", "Der Hund"), ("A child", "Ein Kind"), ("My aunt", "Meine Tante")]
    subjects += [("Anna", "Anna"), ("The old king", "Der alte König")]
    verbs = [("sees", "sieht"), ("has seen", "sah"), ("likes", "mag"), ("paints", "malt")]
    objects = [("a bird", "einen Vogel"), ("two trees", "zwei Bäume"), ("me", "mich")]
    objects += [("the sea", "das Meer"), ("green apples", "grüne Äpfel")]
    ends = [(".", "."), ("?", "?"), (" today.", " heute.")]
    made = [
        (f"{subject[0]} {verb[0]} {thing[0]}{end[0]}", f"{verb[1]} {thing[1]} {subject[1]}{end[1]}")
        for subject, verb, thing, end in product(subjects, verbs, objects, ends)
    ]
    order = np.random.RandomState(0).permutation(len(made))[start : start + count]
    return [made[index] for index in order]


def write_pairs(folder: Path, name: str, count: int, start: int = 0) -> list[Path]:
    """Two text files, of which each line of one translates the same line of the other."""
    files = [folder / f"{name}.{language}" for language in ("en", "de")]
    for path, texts in zip(files, zip(*pairs(count, start), strict=True), strict=True):
        path.write_text("".join(f"{text}\n" for text in texts), "utf-8")
    return files


def lines(path: Path) -> list[str]:
    return path.read_text("utf-8").splitlines()


def metrics_of(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def predictions(capsys, *arguments: object) -> list[dict]:
    capsys.readouterr()
    assert run("predict", *arguments) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def signatures(version: Path) -> dict:
    return tf.saved_model.load(str(version)).signatures


def texts(answer: dict[str, tf.Tensor], name: str = "translation") -> list:
    """Strings, or lists of them, of what a signature answers."""
    return np.char.decode(answer[name].numpy().astype(bytes), "utf-8").tolist()


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> SimpleNamespace:
    """One training run with everything: data, run folder, export."""
    folder = tmp_path_factory.mktemp("translation")
    train = write_pairs(folder, "train", 150)
    test = write_pairs(folder, "test", 30, start=150)
    options = ["--data.train", *train, "--data.test", *test, *SMALL]
    options += "--train.epochs 20 --train.batch_tokens 256 --model.dropout 0.1".split()
    options += "--decode.beam_width 3 --decode.n_best 2".split()
    options += ["--run.dir", folder / "run", "--export.dir", folder / "served" / "model"]
    assert run("train", *options) == 0
    version = folder / "served" / "model" / "1"
    return SimpleNamespace(
        folder=folder / "run",
        options=options,
        test=test,
        sources=lines(test[0]),
        version=version,
        served=signatures(version),
        metrics=metrics_of(folder / "run"),
    )


# Training


def test_training_learns_words_and_their_order(trained):
    assert trained.metrics["test"]["bleu"] > 50
    assert trained.metrics["test"]["perplexity"] < 2


def test_metrics_hold_what_scripts_rely_on(trained):
    metrics = trained.metrics
    assert metrics["task"] == "translation"
    model = keras.models.load_model(trained.folder / "checkpoints" / "best.keras", compile=False)
    assert metrics["parameters"] == model.count_params()
    assert metrics["data"]["pairs read"] == 150
    for split, count in (("validation", 15), ("test", 30)):
        found = metrics[split]
        assert found["examples"] == count
        scores = ("bleu", "bleu_lowercase", "chrf", "perplexity", "length_ratio")
        assert all(np.isfinite(found[name]) for name in scores)
        assert found["signatures"]["bleu"].startswith("nrefs:1|case:mixed|eff:no|tok:13a")
        assert found["signatures"].keys() == {"bleu", "bleu_lowercase", "chrf"}


def test_the_run_folder_has_its_parts(trained):
    parts = "config.yaml metrics.json report.md logs checkpoints/best.keras assets/vocabulary.txt"
    for part in parts.split():
        assert (trained.folder / part).exists(), part
    assert not list(trained.folder.rglob(".*")), "temporary files are left"


def test_the_report_has_the_scores_and_pictures_that_exist(trained):
    report = (trained.folder / "report.md").read_text()
    assert f"BLEU **{trained.metrics['test']['bleu']:.4f}**" in report
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", report)
    assert {"history", "bleu_by_source_length"} <= {Path(picture).stem for picture in pictures}
    for picture in pictures:
        assert (trained.folder / picture).read_bytes().startswith(b"\x89PNG")


def test_each_epoch_is_in_the_history_and_in_tensorboard(trained):
    history = json.loads((trained.folder / "checkpoints" / "history.json").read_text())
    assert [epoch["epoch"] for epoch in history] == list(range(1, 21))
    assert {"loss", "val_loss", "val_perplexity"} <= history[0].keys()
    assert history[-1]["val_perplexity"] < 0.1 * history[0]["val_perplexity"]
    for split in ("train", "validation"):
        tags = EventAccumulator(str(trained.folder / "logs" / split)).Reload().Tags()
        assert "epoch_loss" in {*tags["tensors"], *tags["scalars"]}


@pytest.mark.usefixtures("only_training")
def test_a_finished_run_given_again_does_not_train_again(trained):
    last = trained.folder / "checkpoints" / "last.keras"
    before = last.stat().st_mtime_ns
    options = trained.options[: trained.options.index("--export.dir")]
    assert run("train", *options) == 0
    assert last.stat().st_mtime_ns == before


def test_evaluate_judges_other_data(trained, tmp_path):
    copied = shutil.copytree(trained.folder, tmp_path / "copied")
    before = metrics_of(copied)
    other = write_pairs(tmp_path, "other", 20, start=200)
    assert run("evaluate", "--run.dir", copied, "--data.test", *other) == 0
    metrics = metrics_of(copied)
    assert metrics["test"]["examples"] == 20 and metrics["test"]["bleu"] > 50
    assert metrics["validation"] == before["validation"]


def weights(folder: Path, name: str) -> list[np.ndarray]:
    return keras.models.load_model(folder / "checkpoints" / name, compile=False).get_weights()


@pytest.mark.usefixtures("only_training")
def test_a_run_stopped_after_an_epoch_goes_on_as_if_nothing_had_happened(tmp_path, stopping):
    options = ["--data.train", *write_pairs(tmp_path, "train", 60), *SMALL]
    options += ["--model.attention_dropout", 0.1, "--train.epochs", 2, "--train.average_epochs", 2]
    options += ["--train.deterministic", "true", "--data.validation_fraction", 0]
    assert run("train", *options, "--run.dir", tmp_path / "whole") == 0
    with stopping():
        assert run("train", *options, "--run.dir", tmp_path / "stopped") == 130
    assert run("train", *options, "--run.dir", tmp_path / "stopped") == 0
    for name in ("last.keras", "best.keras"):
        both = (weights(tmp_path / folder, name) for folder in ("whole", "stopped"))
        for one, other in zip(*both, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> Path:
    """The folder of a run on tables and back-translated pairs, of another vocabulary and net, and
    of its export."""
    folder = tmp_path_factory.mktemp("other")
    parts = {"train": (90, 0), "made": (30, 90), "validation": (9, 120), "test": (12, 129)}
    frames = {
        name: pd.DataFrame(pairs(*part), columns=["english", "german"])
        for name, part in parts.items()
    }
    frames["train"].assign(other=1).to_csv(folder / "train.csv", index=False)
    frames["made"].to_json(folder / "made.jsonl", orient="records", lines=True)
    frames["validation"].to_csv(folder / "validation.tsv", sep="\t", index=False)
    frames["test"].to_parquet(folder / "test.parquet")
    options = ["--data.train", folder / "train.csv", "--data.test", folder / "test.parquet"]
    options += ["--data.validation", folder / "validation.tsv"]
    options += ["--data.back_translated", folder / "made.jsonl"]
    options += "--data.source_column english --data.target_column german".split()
    options += ["--data.back_translation_weight", 0.5, "--train.epochs", 1]
    options += "--model.joint false --model.subwords bpe --model.lowercase true".split()
    options += "--model.positions rotary --model.activation swiglu".split()
    options += ["--run.dir", folder / "run", "--export.dir", folder / "served"]
    assert run("train", *SMALL, *options) == 0
    return folder


def test_tables_and_back_translated_pairs_are_trained_on_by_their_columns(other):
    metrics = metrics_of(other / "run")
    counts = [metrics[split]["examples"] for split in ("train", "validation", "test")]
    assert counts == [90 + 30, 9, 12]
    assert metrics["data"]["back-translated pairs"] == 30
    vocabularies = [lines(path) for path in (other / "run" / "assets").glob("*vocabulary.txt")]
    assert len(vocabularies) == 2 and all("<bt>" in tokens for tokens in vocabularies)


def test_other_vocabularies_and_nets_are_exported(other, tmp_path, capsys):
    some = ["Anna LIKES me.", "anna likes ME."]
    (tmp_path / "some.txt").write_text("\n".join(some))
    rows = predictions(capsys, "--run.dir", other / "run", "--input", tmp_path / "some.txt")
    assert rows[0] == rows[1]
    answers = signatures(other / "served" / "1")["serving_default"](text=tf.constant(some))
    assert [row["translation"] for row in rows] == texts(answers)


def test_the_phrase_book_is_translated_to_chinese(tmp_path):
    options = "--data.train sample --data.sample_target zh --train.epochs 1".split()
    options += "--model.vocabulary_size 1600 --train.batch_tokens 4096".split()
    assert run("train", *SMALL, *options, "--run.dir", tmp_path / "run") == 0
    metrics = metrics_of(tmp_path / "run")
    assert metrics["test"]["signatures"]["bleu"].split("|")[3] == "tok:zh"
    assert metrics["train"]["examples"] > 5000 and metrics["test"]["perplexity"] < 1600
    assert "，" in lines(tmp_path / "run" / "assets" / "vocabulary.txt")  # noqa: RUF001


# Answers


ODD = [
    "", "The dog sees me.", "   ", "\U0001f600", "漢字 Anna", "The dog sees me.", "x" * 500,
]  # fmt: skip


@pytest.fixture(scope="module")
def rows(trained) -> list[dict]:
    """What `predict` answers to the test data."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        assert run("predict", "--run.dir", trained.folder, "--input", trained.test[0]) == 0
    return [json.loads(line) for line in printed.getvalue().splitlines()]


def test_predict_and_the_served_model_give_the_same_answer(trained, rows):
    answers = trained.served["serving_default"](text=tf.constant(trained.sources))
    assert [row["translation"] for row in rows] == texts(answers)
    np.testing.assert_allclose([row["score"] for row in rows], answers["score"], atol=1e-5)
    assert rows[0].keys() == {"translation", "score"}


def test_the_server_answers_as_predict_does(trained, rows):
    with serving(trained.version) as server:
        check_answers(server, trained.version, {"text": np.array(trained.sources, object)}, rows)
        check_signatures(server, trained.version)


def test_predict_answers_each_line_whatever_is_in_it(trained, tmp_path, capsys, monkeypatch):
    content = "".join(f"{text}\n" for text in ODD).encode()
    (tmp_path / "odd.txt").write_bytes(content)
    rows = predictions(capsys, "--run.dir", trained.folder, "--input", tmp_path / "odd.txt")
    found = [row["translation"] for row in rows]
    assert len(found) == len(ODD)
    assert found[0] == found[2] == "" and found[1] == found[5] != ""
    stdin = SimpleNamespace(buffer=io.BytesIO(content), isatty=lambda: False)
    monkeypatch.setattr(sys, "stdin", stdin)
    assert predictions(capsys, "--run.dir", trained.folder) == rows


def test_the_greedy_signature_is_a_beam_of_one(trained, capsys):
    options = ["--input", trained.test[0], "--decode.beam_width", 1]
    rows = predictions(capsys, "--run.dir", trained.folder, *options)
    answers = trained.served["greedy"](text=tf.constant(trained.sources))
    assert [row["translation"] for row in rows] == texts(answers)
    np.testing.assert_allclose([row["score"] for row in rows], answers["score"], atol=1e-5)


def test_a_wider_search_finds_something_else_where_the_model_is_in_doubt(trained):
    words = np.array(" ".join(trained.sources).split())
    texts_in_disorder = [
        " ".join(np.random.RandomState(seed).choice(words, 2 + seed % 9)) for seed in range(60)
    ]
    greedy, best = (
        trained.served[name](text=tf.constant(texts_in_disorder))
        for name in ("greedy", "serving_default")
    )
    assert texts(greedy) != texts(best)
    assert best["score"].numpy().mean() > greedy["score"].numpy().mean()


def test_the_first_of_the_best_is_the_answer(trained):
    best = trained.served["nbest"](text=tf.constant(trained.sources))
    one = trained.served["serving_default"](text=tf.constant(trained.sources))
    scores = best["scores"].numpy()
    assert scores.shape == (30, 2) and (scores[:, 0] > scores[:, 1]).all()
    found = texts(best, "translations")
    # The second best may be worth another search that ends later, and finds a better first.
    same = [first == other for (first, _), other in zip(found, texts(one), strict=True)]
    assert np.mean(same) > 0.9
    assert all(first != second for first, second in found)


@pytest.mark.parametrize("name", ["serving_default", "greedy", "nbest"])
def test_a_text_alone_gets_the_answer_that_it_gets_among_others(trained, name):
    some = [*ODD, *trained.sources[:5]]
    together = trained.served[name](text=tf.constant(some))
    for index, text in enumerate(some):
        alone = trained.served[name](text=tf.constant([text]))
        for key, values in alone.items():
            ours, theirs = values.numpy()[0], together[key].numpy()[index]
            if values.dtype == tf.string:
                np.testing.assert_array_equal(ours, theirs)
            else:
                np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_no_texts_at_all_have_no_answers(trained):
    for name in ("serving_default", "greedy", "nbest"):
        for values in trained.served[name](text=tf.constant([], tf.string)).values():
            assert len(values) == 0


def test_bytes_that_are_no_text_are_answered(trained):
    answer = trained.served["serving_default"](text=tf.constant([b"\xff\xfe dog", b"\x00"]))
    assert np.isfinite(answer["score"]).all() and len(texts(answer)) == 2


def test_the_export_is_one_that_the_stock_server_loads(trained):
    assert check(trained.version) == []
    assert (trained.version / "assets.extra" / "tf_serving_warmup_requests").exists()
    assert (trained.version / "assets" / "vocabulary.txt").exists()


def test_a_translation_goes_on_after_its_prefix(trained):
    sources = trained.sources[:6]
    usual = trained.served["serving_default"](text=tf.constant(sources))
    prefixes = ["", "mag", "sieht zwei", "", "malt das Meer Der", "sah"]
    answer = trained.served["prefixed"](text=tf.constant(sources), prefix=tf.constant(prefixes))
    for found, prefix, other in zip(texts(answer), prefixes, texts(usual), strict=True):
        assert found.startswith(prefix)
        assert prefix or found == other


def test_samples_are_of_the_row_alone_and_without_temperature_the_likeliest(trained):
    def sample(sources, temperature, seed):
        count = len(sources)
        return trained.served["sample"](
            text=tf.constant(sources),
            temperature=tf.fill([count], temperature),
            top_k=tf.zeros([count], tf.int32),
            top_p=tf.ones([count]),
            seed=tf.fill([count], tf.constant(seed, tf.int64)),
        )

    greedy = trained.served["greedy"](text=tf.constant(trained.sources))
    assert texts(sample(trained.sources, 0.0, 0)) == texts(greedy)
    drawn = texts(sample(trained.sources, 2.0, 0))
    assert texts(sample(trained.sources, 2.0, 0)) == drawn
    assert texts(sample(trained.sources[3:4], 2.0, 0)) == drawn[3:4]
    assert texts(sample(trained.sources, 2.0, 1)) != drawn != texts(greedy)


def search(trained, **options) -> list[str]:
    """Answers by other options than those of the export."""
    usual = {"beam_width": 3, "length_penalty": 1.0, "coverage_penalty": 0.0}
    usual |= {"repetition_penalty": 1.0, "max_ratio": 1.5, "max_extra": 8}
    options = {key: tf.constant(value) for key, value in (usual | options).items()}
    return texts(trained.served["search"](text=tf.constant(trained.sources), **options))


def test_a_search_takes_its_options_from_the_request(trained):
    usual = trained.served["serving_default"](text=tf.constant(trained.sources))
    assert search(trained) == texts(usual)
    greedy = trained.served["greedy"](text=tf.constant(trained.sources))
    assert search(trained, beam_width=1) == texts(greedy)
    assert search(trained, max_ratio=0.0, max_extra=1) == [""] * 30


ENOUGH = [{"max_ratio": 1e9}, {"max_ratio": float("inf")}, {"max_extra": 2**31 - 1}]


@pytest.mark.parametrize("options", ENOUGH, ids=str)
def test_an_answer_as_long_as_you_like_is_no_shorter_than_another(trained, options):
    assert search(trained, **options) == search(trained, max_ratio=10.0)


def test_decode_options_bound_the_length_of_answers(trained, capsys):
    arguments = ["--run.dir", trained.folder, "--input", trained.test[0], "--decode.max_ratio", 0]
    rows = predictions(capsys, *arguments, "--decode.beam_width", 1, "--decode.max_extra", 4)
    whole = texts(trained.served["greedy"](text=tf.constant(trained.sources)))
    for row, other in zip(rows, whole, strict=True):
        assert other.startswith(row["translation"]) and len(row["translation"]) < len(other)
    rows = predictions(capsys, *arguments, "--decode.beam_width", 1, "--decode.max_extra", 10**9)
    assert [row["translation"] for row in rows] == whole


def test_answers_may_be_drawn_at_random(trained, capsys):
    arguments = ["--run.dir", trained.folder, "--input", trained.test[0]]
    arguments += ["--decode.temperature", 1.5, "--decode.seed"]
    drawn, again, other = (predictions(capsys, *arguments, seed) for seed in (0, 0, 1))
    assert drawn == again
    assert np.mean([one != two for one, two in zip(drawn, other, strict=True)]) > 0.5


# Mistakes


def test_unequal_files_are_refused_with_both_counts(tmp_path, capsys):
    source, target = write_pairs(tmp_path, "train", 20)
    target.write_text("\n".join(lines(target)[:17]) + "\n", "utf-8")
    error = refusal(tmp_path, capsys, "--data.train", source, target)
    assert "train.en has 20 lines" in error and "train.de has 17" in error


def refusal(tmp_path, capsys, *arguments: object) -> str:
    """The one line that a bad `train` says, which leaves nothing behind."""
    folder = tmp_path / "run"
    assert run("train", *arguments, "--run.dir", folder) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert not folder.exists(), "something was half-written"
    return error


def test_a_file_alone_is_refused(tmp_path, capsys):
    source, _ = write_pairs(tmp_path, "train", 20)
    assert "name the source file and the target file" in refusal(
        tmp_path, capsys, "--data.train", source
    )


def test_a_file_that_is_not_utf_8_is_refused_by_its_row(tmp_path, capsys):
    source, target = write_pairs(tmp_path, "train", 20)
    target.write_bytes(target.read_bytes().replace("ü".encode(), b"\xfc"))
    error = refusal(tmp_path, capsys, "--data.train", source, target)
    assert "train.de" in error and "UTF-8" in error and "row " in error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--model.vocabulary_size 5000", "--model.vocabulary_size 5000: the data can fill"),
        ("--model.vocabulary_size 100", "vocabulary_size 100: must be at least 300"),
        ("--model.width 0", "width 0: must be at least 1"),
        ("--model.width 30 --model.heads 4", "the width must be an even multiple of the heads"),
        ("--decode.beam_width 0", "beam_width 0: must be from 1 to 1000"),
        ("--decode.top_p 2", "top_p 2.0: must be above 0, to 1"),
        ("--train.batch_tokens 0", "--train.batch_tokens 0: must be at least 1"),
        ("--data.max_ratio 0.5", "--data.max_ratio 0.5: must be at least 1, or 0"),
        ("--data.source_column target", "are both 'target'"),
    ],
)
def test_bad_options_get_one_line_and_exit_code_2(tmp_path, capsys, options, message):
    files = write_pairs(tmp_path, "train", 40)
    assert message in refusal(tmp_path, capsys, "--data.train", *files, *options.split())


def test_a_table_without_the_column_is_refused_with_those_that_it_has(tmp_path, capsys):
    pd.DataFrame(pairs(20), columns=["en", "de"]).to_csv(tmp_path / "a.csv", index=False)
    options = ["--data.train", tmp_path / "a.csv", "--data.source_column", "en"]
    error = refusal(tmp_path, capsys, *options)
    assert "no column 'target'" in error and "en, de" in error and "--data.target_column" in error
