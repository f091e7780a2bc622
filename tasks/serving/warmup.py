"""Sends a version the requests in its warmup file, so that no client's request is the first."""

import time
from pathlib import Path

from tasks.engine.exporting.warmup_replay import WarmupError, read_logs
from tasks.protocol.errors import Code, ServingError
from tasks.protocol.signatures import logged_calls
from tasks.serving.metrics import WARMUP_LATENCY
from tasks.serving.model import Model


def warm_up(model: Model, folder: Path, iterations: int = 1) -> int:
    """Replays each record of the file, if there is one; returns how many there were.

    Raises:
        ServingError: a record can't be read, or its request fails: then the version isn't served.
    """
    start = time.monotonic()
    try:
        records = read_logs(folder)
        for record in records:
            for _ in range(iterations):
                for call, answer in logged_calls(model.signatures, record):
                    answer(call.outputs(model.run(call.feeds, call.tensors)))
    except WarmupError as error:
        _observe(start, folder, "DATA_LOSS")
        raise ServingError(Code.DATA_LOSS, str(error)) from None
    except ServingError as error:
        _observe(start, folder, error.code.name)
        raise ServingError(error.code, f"a warmup request fails: {error.message}") from None
    if records:
        _observe(start, folder, "OK")
    return len(records)


def _observe(start: float, folder: Path, status: str) -> None:
    WARMUP_LATENCY.observe((time.monotonic() - start) * 1e6, str(folder), status)
