"""The command line: what options become before a verb gets them."""

import pytest

from tasks.engine.command import train
from tasks.engine.command.cli import main
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
