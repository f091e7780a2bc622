"""The verbs of a task's command line; what each does is in the file of its name.

A verb's file has `do(task, config, options)`, and is imported only once its command is understood.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Verb:
    """What a verb is for, and which options it takes."""

    does: str
    """What `--help` says of it."""

    sections: tuple[str, ...]
    """Whose options it has: `--data.*`, `--model.*`, ..."""


VERBS = {
    "train": Verb(
        "train (or resume), evaluate, and export when --export.dir is given",
        ("data", "model", "train", "run", "export", "decode"),
    ),
    "evaluate": Verb("judge a trained run on other test data", ("data", "run", "decode")),
    "predict": Verb(
        "answer raw records, one JSON object a line, or as a table with --output",
        ("data", "run", "decode"),
    ),
    "export": Verb(
        "write a trained run as a SavedModel for TensorFlow Serving", ("run", "export", "decode")
    ),
}
