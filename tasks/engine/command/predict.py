"""The verb `predict`: answers raw records, as the exported model would.

A record that can't be answered is answered in its place, with nulls and what is wrong with it.
"""

import csv
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import tensorflow as tf

from data.errors import DataError
from data.preprocessing import Preprocessor, raw_tensors, reason_of
from data.records import Asked, Requests
from data.survey import facts_of
from tasks.engine.errors import UsageError
from tasks.engine.exporting.answers import plain_value, rows_of
from tasks.engine.files import atomic_write
from tasks.engine.options import Config
from tasks.engine.run import Run
from tasks.engine.task import Task
from tasks.engine.trained import signatures_of

ERROR, PLACE = "error", ("input", "row")  # what answers may have beside the model's outputs


class Answer(NamedTuple):
    """What becomes of a record."""

    repeated: dict[str, Any]
    """What is repeated of it."""

    values: dict[str, Any]
    """What the model answers; nothing if it can't."""

    problem: str | None = None
    """Why it can't, in words."""


def do(task: Task, config: Config, options: Any) -> None:
    """Answers raw records, as the exported model would: one JSON object a line, or a table."""
    if options.output and Path(options.output).is_dir():
        raise UsageError(f"--output {options.output}: is a folder; name a file in it")
    run = Run.existing(config.run.dir)
    preprocessor = Preprocessor.load(run.assets)
    signatures = signatures_of(task, run, config, here=True)
    serve = signatures.functions(["serving_default"])["serving_default"]
    outputs = serve.structured_outputs
    names, singles = list(outputs), [name for name in outputs if outputs[name].shape.rank == 1]
    echo = {c: f"input_{c}" if c in (*names, ERROR, *PLACE) else c for c in options.echo or []}
    source = task.source(config.data, config.model)
    parts = source.requests(options.input, preprocessor, list(echo))
    told = _Told(config.data.on_bad_row, preprocessor)
    answers = _answers(parts, serve, task.echoed, echo, options.row, told)
    if options.output and options.output.endswith(".csv"):
        with atomic_write(Path(options.output)) as file:
            _write_table(file, answers, singles, lambda answer: task.rows(answer, preprocessor))
    else:
        _write_lines(answers, names, options.output)
    told.say()


def _answers(
    parts: Iterator[Requests],
    serve: Any,
    echoed: Sequence[str],
    echo: Mapping[str, str],
    place: bool,
    told: "_Told",
) -> Iterator[Answer]:
    """What becomes of each record, in order.

    Args:
        echoed: what is repeated of records that have it.
        echo: what else is repeated, and under which names.
        place: whether to tell the rows.
    """
    names = serve.structured_input_signature[1]
    for part in parts:
        inputs = {name: part.columns[name] for name in names} if len(part) else {}
        found = iter(_answered(serve, inputs) if len(part) else [])
        others = [name for name in echoed if name in part.columns and name not in names]
        row = 0
        for asked in part.asked:
            values: dict[str, Any] | str = asked.problem or next(found)
            known = dict(asked.echoed)
            if asked.problem is None:
                known |= {name: part.columns[name][row] for name in others}
                row += 1
            repeated = _place(asked) if place else {}
            repeated |= {name: known[name] for name in echoed if known.get(name)}
            repeated |= {name: plain_value(known[column]) for column, name in echo.items()}
            problem = values if isinstance(values, str) else None
            if problem is None or told.is_answered(asked, problem):
                yield Answer(repeated, {} if isinstance(values, str) else values, problem)
        told.add(part, inputs)


def _answered(serve: Any, inputs: Mapping[str, np.ndarray]) -> list[dict[str, Any] | str]:
    """The answer to each record, or why TensorFlow refuses it; the others of a batch with one that
    is refused are answered without it."""
    try:
        return list(rows_of(serve(**raw_tensors(inputs))))
    except tf.errors.InvalidArgumentError as error:
        count = len(next(iter(inputs.values())))
        if count == 1:
            return [reason_of(error)]
        halves = (slice(None, count // 2), slice(count // 2, None))
        each = ({name: cells[half] for name, cells in inputs.items()} for half in halves)
        return list(chain.from_iterable(_answered(serve, half) for half in each))


def _place(asked: Asked) -> dict[str, Any]:
    """What the row is called, and which one it is, if it is one."""
    place = dict(zip(PLACE, (asked.source, asked.row), strict=True))
    return {name: value for name, value in place.items() if value is not None}


def _write_lines(answers: Iterator[Answer], names: list[str], output: str | None) -> None:
    """Writes answers, whose outputs have these names, to standard output or into a file."""
    if output is not None:
        with atomic_write(Path(output)) as file:
            file.writelines(_line(answer, names) + "\n" for answer in answers)
        return
    try:
        for answer in answers:
            print(_line(answer, names), flush=True)
    except BrokenPipeError:
        # Whoever read the answers has had enough; Python would fail to flush the rest at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _line(answer: Answer, names: list[str]) -> str:
    """An answer as JSON; with nulls, and why, where there is none."""
    values = dict.fromkeys(names) | {ERROR: answer.problem} if answer.problem else answer.values
    return json.dumps(answer.repeated | values, ensure_ascii=False, default=str)


def _write_table(
    file: IO[str],
    answers: Iterator[Answer],
    singles: list[str],
    rows_of_answer: Callable[[dict[str, Any]], list[dict[str, Any]]],
) -> None:
    """Writes a table with a column of errors if there are any; where nothing was answered, with
    those of outputs that are one value a record."""
    rows, errors = [], False
    columns: dict[str, None] = {}
    for answer in answers:
        if answer.problem:
            rows.append(answer.repeated | {ERROR: answer.problem})
            errors = True
            continue
        for row in rows_of_answer(answer.repeated | answer.values):
            rows.append(answer.repeated | row)
            columns |= dict.fromkeys(rows[-1])
    repeated = dict.fromkeys(name for row in rows for name in row if name != ERROR)
    columns = columns | repeated if columns else repeated | dict.fromkeys(singles)
    names = [*columns, *([ERROR] if errors else [])]
    table = csv.DictWriter(file, names, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)


class _Told:
    """What a person is told at the end: what was not answered, and what was not read whole."""

    def __init__(self, on_bad_row: str, preprocessor: Preprocessor) -> None:
        self._on_bad_row = on_bad_row
        self._preprocessor = preprocessor
        self._count = self._bad = 0
        self._first = ""
        self._tally: Counter[str] = Counter()
        self._facts: dict[str, Any] = {}

    def is_answered(self, asked: Asked, problem: str) -> bool:
        """Takes a record that can't be answered; whether it is answered all the same, by why.

        Raises:
            DataError: there is to be none.
        """
        where = problem if problem.startswith(asked.where) else f"{asked.where}: {problem}"
        if self._on_bad_row == "error":
            raise DataError(
                f"{where}; mend the data, or leave such rows out with --data.on_bad_row skip."
            )
        self._first = self._first or where
        self._bad += 1
        return self._on_bad_row != "skip"

    def add(self, part: Requests, inputs: Mapping[str, np.ndarray]) -> None:
        """Takes records once they are answered."""
        self._count += len(part.asked)
        self._facts |= part.facts
        if len(part) and self._preprocessor.surveyed != 0:
            self._tally.update(self._preprocessor.tally(inputs))

    def say(self) -> None:
        """A line for each thing, on standard error."""
        said = [f"{name} {count}" for name, count in self._facts.items() if count]
        if self._bad:
            what = "left out" if self._on_bad_row == "skip" else "could not be answered"
            verb = "were " if self._on_bad_row == "skip" else ""
            said.append(
                f"{self._bad} of {self._count} records {verb}{what}; the first: {self._first}"
            )
        answered = self._count - self._bad
        facts = facts_of(self._tally)
        for name, count in facts.items():
            what = name.removesuffix(" cut")
            if count and name != what:
                said.append(
                    f"{count} of {answered} {what} were cut to the greatest length, which is "
                    "--model.max_length of the training"
                )
        if warning := self._preprocessor.warning(facts, answered):
            said.append(f"warning: {warning}")
        for line in said:
            print(line, file=sys.stderr)
