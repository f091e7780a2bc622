"""Measuring in turns: a process that is ready, and measures once each time that it is asked to."""

import sys
from collections.abc import Iterator

TURNS = "measure once for each line of the standard input"


def turns(asked: bool) -> Iterator[None]:
    """One turn, or, if asked for, one for each line of the standard input."""
    if not asked:
        yield
        return
    for _ in iter(sys.stdin.readline, ""):
        yield
