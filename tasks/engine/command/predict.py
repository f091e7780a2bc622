"""The verb `predict`: answers raw records, as the exported model would."""

import csv
import json
import os
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

from data.preprocessing import Preprocessor, raw_tensors
from tasks.engine.exporting.answers import rows_of
from tasks.engine.files import atomic_write
from tasks.engine.options import Config
from tasks.engine.run import Run
from tasks.engine.task import Task
from tasks.engine.trained import signatures_of


def do(task: Task, config: Config, options: Any) -> None:
    """Answers raw records, as the exported model would: one JSON object a line, or a table."""
    paths, output = options.input, options.output
    run = Run.existing(config.run.dir)
    preprocessor = Preprocessor.load(run.assets)
    answers = _answers(task, config, run, preprocessor, paths)
    if output is None:
        try:
            for answer in answers:
                print(_json_line(answer), flush=True)
        except BrokenPipeError:
            # Whoever read the answers has had enough; Python would fail to flush the rest at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return
    with atomic_write(Path(output)) as file:
        if not output.endswith(".csv"):
            file.writelines(_json_line(answer) + "\n" for answer in answers)
            return
        rows = [row for answer in answers for row in task.rows(answer, preprocessor)]
        table = csv.DictWriter(file, dict.fromkeys(chain.from_iterable(rows)), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def _answers(
    task: Task, config: Config, run: Run, preprocessor: Preprocessor, paths: list[str] | None
) -> Iterator[dict[str, Any]]:
    """Each record's answer, after what it repeats of the record."""
    serve = signatures_of(task, run, config).functions(["serving_default"])["serving_default"]
    names = serve.structured_input_signature[1]
    for records in task.source(config.data, config.model).requests(paths, preprocessor):
        columns = records.columns
        inputs = raw_tensors({name: columns[name] for name in names})
        echoed = [name for name in task.echoed if name in columns and name not in names]
        for index, answer in enumerate(rows_of(serve(**inputs))):
            yield {name: columns[name][index] for name in echoed if columns[name][index]} | answer


def _json_line(answer: dict[str, Any]) -> str:
    return json.dumps(answer, ensure_ascii=False)
