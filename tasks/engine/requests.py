"""A few raw records that a run keeps, as TF Serving's JSON has them.

They are real requests, to prove exports by and to show.
"""

import base64
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from data.splits import Splits
from tasks.engine.files import atomic_write
from tasks.engine.run import Run

_ANSWERS = ("label", "target", "reference", "weight")  # columns that requests have not


def write_requests(run: Run, splits: Splits, count: int = 32) -> None:
    """Keeps a few raw records, as TF Serving's JSON has them: real requests to prove exports by."""
    records = splits.test or splits.validation or splits.train
    names = [name for name in next(records.chunks(1)).columns if name not in _ANSWERS]
    chunk = next(records.chunks(count))
    with atomic_write(run.assets / "requests.jsonl") as file:
        for row in zip(*(chunk.columns[name] for name in names), strict=True):
            record = dict(zip(names, map(_json_cell, row), strict=True))
            file.write(json.dumps(record, ensure_ascii=False) + "\n")


def read_requests(run: Run, specs: Mapping[str, tf.TensorSpec]) -> list[dict[str, np.ndarray]]:
    """The kept records, with the inputs that a signature has, each as a batch of one."""
    lines = (run.assets / "requests.jsonl").read_text("utf-8").split("\n")[:-1]
    return [
        {
            name: _request_cell(cell, specs[name])
            for name, cell in json.loads(line).items()
            if name in specs
        }
        for line in lines
    ]


def _json_cell(cell: Any) -> Any:
    if isinstance(cell, bytes):
        return {"b64": base64.b64encode(cell).decode()}
    return cell.tolist() if isinstance(cell, np.ndarray | np.generic) else cell


def _request_cell(cell: Any, spec: tf.TensorSpec) -> np.ndarray:
    if isinstance(cell, dict):
        cell = base64.b64decode(cell["b64"])
    return np.array([cell], object if spec.dtype == tf.string else spec.dtype.as_numpy_dtype)
