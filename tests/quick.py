"""The tests of what a change touches, in about two minutes; `make test-quick` runs it.

    python -m tests.quick              # what differs from main; with nothing changed, some of all
    python -m tests.quick zoo/lstm.py  # as if these files had changed

Chosen are changed tests, those that mirror a changed file (`zoo/lstm.py`:
`tests/zoo/test_lstm.py`), and those that import it themselves. Whole trainings are left to `make
test`, but for a run of an earlier version that has to go on.
"""

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.test_architecture import IMPORTS, imported

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests"
# What takes minutes: whole trainings by command, several processes, browsers, thousands of inputs.
LONG = {
    *TESTS.glob("tasks/test_*.py"),
    TESTS / "serving/test_fuzz.py",
    TESTS / "serving/test_playground.py",
    TESTS / "zoo/test_translator.py",
}
SMOKE = [
    "tests/test_architecture.py",
    "tests/golden/test_golden_runs.py::test_a_stopped_run_goes_on_and_answers_as_it_would_have"
    "[sequence_classification]",
]
SOME_OF_ALL = [
    *("tests/data", "tests/tasks/engine/command", "tests/tasks/engine/exporting"),
    *("tests/serving/conformance", "tests/zoo/test_lstm.py", "tests/zoo/test_tables.py"),
]


def changed() -> list[str]:
    """The files that differ from where this branch left main, or are not in git yet."""

    def names(*command: str) -> list[str]:
        done = subprocess.run(["git", *command], cwd=ROOT, capture_output=True, text=True)
        return [name for name in done.stdout.replace("\n", "\0").split("\0") if name]

    base = names("merge-base", "HEAD", "main")[:1] or ["HEAD"]
    new = names("ls-files", "--others", "--exclude-standard", "-z")
    return sorted({*names("diff", "--name-only", "-z", *base), *new})


def tests_of(files: Iterable[str]) -> list[str]:
    """The tests, as paths from the project's folder, that a change of some files touches."""
    sources = {file for file in files if file in IMPORTS}
    chosen = {TESTS / Path(file).parent / f"test_{Path(file).name}" for file in sources}
    for test in TESTS.rglob("test_*.py"):
        if test.relative_to(ROOT).as_posix() in files or imported(test) & sources:
            chosen.add(test)
    own = {ROOT / file for file in files}  # a long test that was changed itself is run
    kept = (test for test in chosen if test.is_file() and (test not in LONG or test in own))
    return sorted(test.relative_to(ROOT).as_posix() for test in kept)


def main() -> int:
    files = sys.argv[1:] or changed()
    tests = tests_of(files) if files else SOME_OF_ALL
    print(f"{len(files)} files changed; tests:", *(tests or ["a smoke only"]), sep="\n  ")
    return pytest.main(["-n", "2", "--dist", "loadfile", "--maxfail", "5", *SMOKE, *tests])


if __name__ == "__main__":
    sys.exit(main())
