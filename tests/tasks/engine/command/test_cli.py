"""The command line: what options become before a verb gets them."""

import shlex
import shutil

import pytest

from data.tables.opening import named_paths
from tasks.engine.command import evaluate, export, predict, train
from tasks.engine.command.cli import main
from tasks.engine.run import Run
from tasks.forecasting import Forecasting
from tasks.translation import Translation


@pytest.mark.parametrize(
    ("options", "size", "tokens"),
    [
        ("", 32, 4096),
        ("--train.batch_size 8", 8, None),
        ("--train.batch_size 32", 32, None),
        ("--train.batch_size 8 --train.batch_tokens 512", 8, 512),
        ("--config config.yaml", 16, None),
    ],
)
def test_a_recipes_batches_of_tokens_give_way_to_a_batch_size(
    tmp_path, monkeypatch, options, size, tokens
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("train:\n  batch_size: 16\n")
    asked = []
    monkeypatch.setattr(train, "do", lambda task, config, options: asked.append(config))
    with pytest.raises(SystemExit) as end:
        main(Translation, ["train", "--data.train", "sample", *options.split()])
    assert end.value.code == 0
    assert (asked[0].train.batch_size, asked[0].train.batch_tokens) == (size, tokens)
    assert asked[0].train.adam_beta_2 == 0.98
    assert asked[0].defaults["train"]["batch_tokens"] is None
    assert asked[0].defaults["model"]["user_symbols"] == []


def test_translations_have_no_classes_to_weigh(tmp_path, capsys):
    options = ["--data.train", "sample", "--run.dir", str(tmp_path / "run")]
    with pytest.raises(SystemExit) as end:
        main(Translation, ["train", *options, "--train.class_weights", "balanced"])
    assert end.value.code == 2
    assert "balanced: translations have no classes; leave it out" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["data.train", "run.dir", "export.dir"])
def test_names_that_no_log_could_hold_are_refused(option, capsys):
    with pytest.raises(SystemExit) as end:
        main(Translation, ["train", "--data.train", "sample", f"--{option}", "th\udce9"])
    assert end.value.code == 2
    assert capsys.readouterr().err == (
        f"error: --{option} th\\xe9: the name is not UTF-8; rename the file or folder\n"
    )


def understood(monkeypatch, task, *arguments: str):
    """The config that a command is understood as."""
    asked = []
    for verb in (train, evaluate, predict, export):
        monkeypatch.setattr(verb, "do", lambda task, config, options: asked.append(config))
    with pytest.raises(SystemExit) as end:
        main(task, [*arguments])
    assert end.value.code == 0
    return asked[0]


CONFIG = "data:\n  train: old.csv\n  targets: y\ntrain:\n  epochs: 3\n  learning_rate: 1e-5\n"


@pytest.mark.parametrize(
    "arguments",
    [
        "train --train.epochs 1 --data.train new.csv --config config.yaml",
        "train --config config.yaml --train.epochs 1 --data.train new.csv",
        "train --train.epochs 1 --config=config.yaml --data.train=new.csv",
    ],
)
def test_options_override_a_config_file_wherever_they_stand(tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(CONFIG)
    config = understood(monkeypatch, Forecasting, *arguments.split())
    assert (config.train.epochs, config.train.learning_rate) == (1, 1e-5)
    assert (config.data.train, config.data.targets) == ("new.csv", "y")


def test_of_two_config_files_the_second_overrides_and_a_first_run_takes_either(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(CONFIG)
    (tmp_path / "more.yaml").write_text("train:\n  epochs: 4\n")
    files = ["--config=config.yaml", "--config", "more.yaml"]
    config = understood(monkeypatch, Forecasting, *files)
    assert (config.train.epochs, config.data.train) == (4, "old.csv")


@pytest.mark.parametrize("verb", ["evaluate", "predict", "export"])
@pytest.mark.parametrize("form", ["--config={}", "--config {}"])
def test_every_verb_takes_a_runs_config(tmp_path, monkeypatch, verb, form):
    config = understood(monkeypatch, Forecasting, "train", "--data.train", "a.csv")
    run = Run(tmp_path / "run")
    run.begin(config.plain)
    given = ["--run.dir", str(run.folder), *form.format(run.config_file).split()]
    if verb == "evaluate":
        given = ["--data.test", "new.csv", *given]
    config = understood(monkeypatch, Forecasting, verb, *given)
    assert verb != "evaluate" or config.data.test == "new.csv"


@pytest.mark.parametrize(
    ("option", "name", "value"),
    [
        ("--model.quantiles 0.5", "quantiles", [0.5]),
        ("--model.quantiles 0.1,0.5,0.9", "quantiles", [0.1, 0.5, 0.9]),
        ("--model.quantiles=0.1, 0.9", "quantiles", [0.1, 0.9]),
        ("--model.quantiles 0.1 0.9", "quantiles", [0.1, 0.9]),
        ("--model.quantiles [0.1,0.9]", "quantiles", [0.1, 0.9]),
        ("--data.train=a.csv b.csv", "train", ["a.csv", "b.csv"]),
        ("--data.targets x y", "targets", ["x", "y"]),
    ],
)
def test_options_of_several_values_take_one_or_more_with_blanks_or_commas(
    monkeypatch, option, name, value
):
    options = ["--data.train", "a.csv", *option.split(" ")]
    config = understood(monkeypatch, Forecasting, "train", *options)
    assert getattr(config.data, name, None) == value or getattr(config.model, name) == value


def test_files_are_named_with_commas_too_unless_a_file_is_called_so(tmp_path):
    both = tmp_path / "a,b.csv"
    assert named_paths(str(both)) == [f"{tmp_path}/a", "b.csv"]
    both.touch()
    assert named_paths(str(both)) == [str(both)]
    assert named_paths("a.csv, b.csv") == ["a.csv", "b.csv"]


@pytest.mark.parametrize("value", ["few", "0.1,few", "0.1 few"])
def test_what_an_option_takes_is_said_in_words(capsys, value):
    with pytest.raises(SystemExit):
        main(Forecasting, ["train", "--model.quantiles", *value.split()])
    said = capsys.readouterr().err
    assert "few: not numbers, such as 0.1 0.9" in said or "few']: not numbers, such as" in said
    assert "list[" not in said


@pytest.mark.parametrize(
    "odd",
    [
        ("1e3", "on", "2020-01-01", "007"),
        ("a: b", "null", "x #y", "é 表"),
        ("=", "1:30", "{a: 1}", " runs/*.csv"),
        ("1e-5", "[a", "c:\\data", "\x7f\t😀"),
    ],
)
def test_a_runs_config_is_read_back_as_it_was_given(tmp_path, monkeypatch, odd):
    names = ("time_column", "series_column", "known", "test")
    given = [f"--data.{name}={text}" for name, text in zip(names, odd, strict=True)]
    config = understood(monkeypatch, Forecasting, "train", "--data.train", "a", *given)
    assert config.data.time_column == odd[0]
    run = Run(tmp_path / "run")
    run.begin(config.plain)
    again = understood(monkeypatch, Forecasting, "train", "--config", str(run.config_file))
    assert again.plain == config.plain
    assert run.resumable(again.plain)


def test_lines_that_are_printed_can_be_given_to_a_shell(tmp_path):
    here, docker = map(shlex.split, export.serving_lines(tmp_path / "my model's"))
    assert here[-3:] == ["my model's", "--model_base_path", f"{tmp_path}/my model's"]
    assert f"{tmp_path}/my model's:/models/my model's" in docker
    assert "MODEL_NAME=my model's" in docker


def test_a_run_that_starts_from_another_has_its_model_options(tmp_path, monkeypatch, capsys):
    first, second = Run(tmp_path / "first"), Run(tmp_path / "second")
    given = ["train", "--data.train", "a.csv"]
    options = ["--model.window", "7", "--model.quantiles", "0.5"]
    first.begin(understood(monkeypatch, Forecasting, *given, *options).plain)
    given += ["--train.start_from", str(first.folder), "--run.dir", str(second.folder)]
    config = understood(monkeypatch, Forecasting, *given)
    assert (config.model.window, config.model.quantiles) == (7, [0.5])
    assert understood(monkeypatch, Forecasting, *given, "--model.window", "8").model.window == 8
    second.begin(config.plain)
    shutil.rmtree(first.folder)
    assert understood(monkeypatch, Forecasting, *given).plain == config.plain
    with pytest.raises(SystemExit):
        main(Forecasting, [*given[:-1], "third"])
    assert f"{first.folder}: not a run folder" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["evaluate", "predict", "export"])
def test_a_config_file_may_name_the_run(tmp_path, monkeypatch, verb):
    asked = understood(monkeypatch, Forecasting, "train", "--data.train", "a.csv")
    Run(tmp_path / "run").begin(asked.plain)
    (tmp_path / "mine.yaml").write_text(f"run:\n  dir: {tmp_path / 'run'}\n")
    config = understood(monkeypatch, Forecasting, verb, "--config", str(tmp_path / "mine.yaml"))
    assert (config.run.dir, config.data.train) == (str(tmp_path / "run"), "a.csv")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("train: 3", "train is 3, no section"),
        ("task: translation", "is for the task translation, not forecasting"),
        ("train: {schedule: off}", "--train.schedule off: not one of linear, "),
    ],
)
def test_mistakes_in_a_config_file_are_said_once_and_in_words(tmp_path, capsys, content, reason):
    (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(SystemExit) as end:
        main(Forecasting, ["train", f"--config={tmp_path / 'mine.yaml'}", "--data.train", "a.csv"])
    said = capsys.readouterr().err
    assert (end.value.code, said.count("\n"), said.count("--help")) == (2, 1, "--train" in reason)
    assert reason in said and "Parser key" not in said
