"""The run folder: claimed by one run, resumed by the same, refused to any other."""

import pytest

from tasks.engine.errors import UsageError
from tasks.engine.files import atomic_write
from tasks.engine.run import Run, flat

OPTIONS = {"task": "words", "train": {"epochs": 3, "profile": None}, "run": {"dir": "here"}}


@pytest.fixture
def run(tmp_path) -> Run:
    run = Run(tmp_path / "run")
    run.begin(OPTIONS)
    return run


def test_a_new_folder_is_free(tmp_path):
    assert not Run(tmp_path / "run").resumable(OPTIONS)


def test_the_same_options_resume(run):
    assert run.resumable(OPTIONS)
    assert run.options() == {name: OPTIONS[name] for name in ("task", "train")}


def test_options_that_change_nothing_may_differ(run):
    changed = {**OPTIONS, "train": {"epochs": 3, "profile": "2,3"}, "run": {"dir": "./here"}}
    assert run.resumable({**changed, "decode": {"beam_width": 2}})


def test_options_newer_than_the_run_count_as_their_defaults(run):
    defaults = {"train": {"epochs": 5, "momentum": 0.9}}
    newer = {**OPTIONS, "train": {**OPTIONS["train"], "momentum": 0.9}}
    assert run.resumable(newer, defaults)
    newer["train"]["momentum"] = 0.8
    with pytest.raises(UsageError, match=r"options: train\.momentum is 0\.8, was 0\.9;"):
        run.resumable(newer, defaults)


def test_other_options_are_refused_one_by_one(run):
    with pytest.raises(UsageError, match=r"train\.epochs is 4, was 3"):
        run.resumable({**OPTIONS, "train": {"epochs": 4, "profile": None}})


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(UsageError, match="not empty and not a run"):
        Run(tmp_path).resumable(OPTIONS)


def test_a_folder_where_a_run_was_killed_before_it_had_a_config_is_free(tmp_path):
    with atomic_write(tmp_path / "config.yaml"):
        remains = next(tmp_path.iterdir())
    (tmp_path / "config.yaml").rename(remains)
    assert not Run(tmp_path).resumable(OPTIONS)


def test_a_damaged_config_is_an_error_in_one_line(run):
    run.config_file.write_text("a: [")
    with pytest.raises(UsageError, match="can't be read") as error:
        run.resumable(OPTIONS)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_not_a_run_is_said_to_be_none(tmp_path):
    with pytest.raises(UsageError, match=r"no config\.yaml"):
        Run.existing(str(tmp_path))


def test_nested_options_flatten_to_dotted_ones():
    assert flat({"a": {"b": 1, "c": {"d": 2}}, "e": 3}) == {"a.b": 1, "a.c.d": 2, "e": 3}
