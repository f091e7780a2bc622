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


DATA = {
    "training": {"source": "a.csv", "records": 90, "checksum": "1"},
    "validation": {"source": "a.csv", "records": 10, "checksum": "1"},
    "test": {"source": "b.csv", "records": 20, "checksum": "2"},
}


def changed(**parts):
    return {name: part | parts.get(name, {}) for name, part in DATA.items()}


def test_a_run_of_before_data_were_kept_goes_on(run):
    run.require_data(DATA)


def test_the_same_data_go_on(run):
    run.write_data(DATA)
    run.require_data(DATA)
    run.require_data({"training": DATA["training"]})


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        (
            {
                "training": {"records": 180, "checksum": "3"},
                "validation": {"records": 20, "checksum": "3"},
            },
            r"since it began: the training data, a\.csv, has 180 records, had 90; bring back what "
            r"was, or train in a new --run\.dir, .* --train\.start_from '\S+/my run'$",
        ),
        (
            {"training": {"checksum": "3"}},
            r"the training data, a\.csv, has 90 records as before, but others; ",
        ),
        (
            {"validation": {"source": "c.csv and 1 more file", "checksum": "3"}},
            r"the validation data, c\.csv and 1 more file of 10 records, was a\.csv of 10; ",
        ),
        (
            {"test": {"checksum": "3"}},
            r"the test data, .* judge it on this with evaluate --run\.dir '\S+/my run' --data\.",
        ),
    ],
    ids=["held out", "as many", "source", "test"],
)
def test_data_that_changed_are_refused_and_it_is_said_which(tmp_path, parts, said):
    run = Run(tmp_path / "my run")
    run.write_data(DATA)
    with pytest.raises(UsageError, match=said):
        run.require_data(changed(**parts))


CONSTANT = {"task": "words", "train": {"epochs": 3, "schedule": "constant", "warmup": 0.0}}


@pytest.mark.parametrize(
    ("options", "ok"),
    [
        ({"epochs": 5}, True),
        ({"epochs": 2}, False),
        ({"epochs": 5, "warmup": 0.1}, False),
        ({"epochs": 5, "schedule": "linear"}, False),
        ({"epochs": 5, "average": "last"}, False),
        ({"epochs": 5, "lookahead": 5}, False),
    ],
)
def test_more_epochs_go_on_where_the_first_ones_would_have_been_the_same(tmp_path, options, ok):
    run = Run(tmp_path / "run")
    longer = {**CONSTANT, "train": CONSTANT["train"] | options}
    run.begin({**longer, "train": longer["train"] | {"epochs": 3}})
    if ok:
        assert run.resumable(longer)
        return
    with pytest.raises(UsageError, match=r"train\.epochs is \d, was 3; ") as error:
        run.resumable(longer)
    assert ("--train.start_from" in str(error.value)) == (options["epochs"] > 3)


def test_one_value_and_a_list_of_it_are_the_same_option(run):
    run.begin({**OPTIONS, "data": {"train": "a.csv", "targets": "x,y"}})
    assert run.resumable({**OPTIONS, "data": {"train": ["a.csv"], "targets": ["x", "y"]}})
