"""Config files: what is written is what is read, by this program and by what else reads YAML."""

import datetime

import pytest
import yaml

from tasks.engine.config_file import read_yaml, write_yaml
from tasks.engine.errors import UsageError

ODD = [
    *("1e3", "1e-5", "-2.E+4", "1.5", "1_000", "007", "0x1f", "1:30", ".inf", "nan", "."),
    *("null", "~", "None", "true", "on", "No", "2020-01-01", "2020-01-01 10:00:00", "=", "<<"),
    *("", " a", "a ", "a: b", "a #b", "a,b", "[a]", "{a: 1}", "- a", "? a", "'a'", '"a"', "a:"),
    *(
        "!a",
        "&a",
        "*a",
        "%a",
        "@a",
        "`a`",
        "|",
        ">",
        "\\n",
        "a\nb",
        "a\tb",
        "\x7f",
        "é",
        "表",
        "😀",
    ),
    *("runs/my run", "c:\\data\\x.csv", "x/*.csv", "x-[0-9].csv", "tfds:a/b:1.0.0"),
]
NUMBERS = [1e-5, 1e22, -0.0, 0.1, 1e16, float("inf"), 3, 10**18, True, None, [0.1, 1e-7], [], {}]


@pytest.mark.parametrize("read", [None, yaml.safe_load], ids=["here", "PyYAML"])
def test_any_value_is_read_as_it_was_written(tmp_path, read):
    options = {"data": {str(number): value for number, value in enumerate(ODD + NUMBERS)}}
    options["data"] |= {text: text for text in ODD}
    with (tmp_path / "config.yaml").open("w") as file:
        write_yaml(options, file)
    path = tmp_path / "config.yaml"
    assert (read(path.read_text()) if read else read_yaml(path)) == options


def test_numbers_and_dates_that_people_write_are_what_they_mean(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("a: 1e-5\nb: 1E3\nc: 2020-01-01\nd: .5e1\n")
    assert read_yaml(path) == {"a": 1e-5, "b": 1000.0, "c": "2020-01-01", "d": 5.0}
    assert yaml.safe_load(path.read_text())["c"] == datetime.date(2020, 1, 1)  # not ours


def test_a_file_without_sections_is_refused(tmp_path):
    (tmp_path / "config.yaml").write_text("- train\n")
    with pytest.raises(UsageError, match="has no sections such as 'train:'"):
        read_yaml(tmp_path / "config.yaml")


def test_words_that_yaml_takes_for_truth_are_words(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("language: no\nheader: off\nrow: true\nlowercase: False\n")
    options = read_yaml(path)
    assert options == {"language": "no", "header": "off", "row": True, "lowercase": False}


def test_sections_that_say_nothing_are_left_out(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("train:\n#  epochs: 3\nmodel:\n  units: 4\n")
    assert read_yaml(path) == {"model": {"units": 4}}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("train:\n  epochs: 3\n  seed: 1\n  epochs: 4\n", "'epochs' stands twice .* at line 2"),
        ("train: &here [*here]\n", "Circular reference"),
        ("train: {seed: !!binary aGk=}\n", "bytes is not JSON"),
        ("train: [1", "expected ',' or ']'"),
    ],
)
def test_files_that_no_config_can_be_are_one_line(tmp_path, content, reason):
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(UsageError, match=rf"config\.yaml: can't be read: .*{reason}"):
        read_yaml(tmp_path / "config.yaml")


def test_what_a_section_takes_from_another_it_may_override(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("a: &a {x: 1, y: 1}\nb:\n  <<: *a\n  x: 2\n")
    assert read_yaml(path)["b"] == {"x": 2, "y": 1}
