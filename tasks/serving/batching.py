"""Puts requests together into batches, as TensorFlow Serving's BatchingSession does.

A request joins the open batch of its signature if it fits, else a new one is opened. A batch is run
when it is full, or when its first request has waited `batch_timeout_micros` and one of the
`num_batch_threads` is free. It is filled up to the next of `allowed_batch_sizes` by repeating a
row, and what comes out of such rows is cut off.
"""

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tasks.protocol.errors import Code, ServingError, invalid_argument
from tasks.protocol.tensors import Arrays
from tasks.serving.configs import Batching
from tasks.serving.metrics import BATCH_SIZE, QUEUING_LATENCY
from tasks.serving.model import Model


@dataclass(eq=False)
class _Task:
    feeds: Arrays
    rows: int
    future: "asyncio.Future[list[np.ndarray]]"
    deadline: float  # of time.monotonic
    queued: float = field(default_factory=time.monotonic)


@dataclass(eq=False)
class _Batch:
    tasks: list[_Task] = field(default_factory=list)
    rows: int = 0

    def add(self, task: _Task) -> None:
        self.tasks.append(task)
        self.rows += task.rows


@dataclass(frozen=True)
class _Signature:
    """What can be run together: the same tensors of the same model, whose rows are alike."""

    model: Model
    feeds: tuple[str, ...]
    fetches: tuple[str, ...]
    rows: tuple[tuple[np.dtype, object], ...]
    """Of each tensor, its type, and its dimensions but the first; with padding, how many."""

    @property
    def tensors(self) -> tuple[Model, tuple[str, ...], tuple[str, ...]]:
        """What is run, whatever the rows are like."""
        return self.model, self.feeds, self.fetches


class Batcher:
    """Queues, one a signature, and the threads that run what is in them.

    Args:
        parameters: How to batch.
    """

    def __init__(self, parameters: Batching) -> None:
        self._parameters = parameters
        self._queues: dict[_Signature, deque[_Batch]] = {}
        self._changed = threading.Condition()
        self._closed = False
        for number in range(parameters.num_batch_threads):
            name = f"{parameters.thread_pool_name}_{number}"
            threading.Thread(target=self._work, name=name, daemon=True).start()

    async def run(
        self, model: Model, feeds: Arrays, fetches: Sequence[str], deadline: float
    ) -> list[np.ndarray]:
        """The tensors named by `fetches`, given those in `feeds`, from a run with others'.

        Raises:
            ServingError: the inputs can't be batched, the queue is full, or what the graph says.
        """
        rows = _rows(feeds)
        limit = self._parameters.max_batch_size
        if rows > limit:
            raise invalid_argument(
                f"Task size {rows} is larger than maximum input batch size {limit}"
            )
        pads = self._parameters.pad_variable_length_inputs
        alike = [(a.dtype, a.ndim if pads else a.shape[1:]) for a in feeds.values()]
        signature = _Signature(model, tuple(feeds), tuple(fetches), tuple(alike))
        step = self._parameters.largest
        parts = [
            {name: array[start : start + step] for name, array in feeds.items()}
            for start in range(0, rows, step)
        ]
        futures = self._submit(signature, parts if rows > step else [feeds], deadline)
        if len(futures) == 1:
            return await futures[0]
        answers = await asyncio.gather(*futures)
        return [np.concatenate(pieces) for pieces in zip(*answers, strict=True)]

    def close(self) -> None:
        """Ends the threads once the queues are empty."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _submit(
        self, signature: _Signature, parts: list[Arrays], deadline: float
    ) -> list["asyncio.Future[list[np.ndarray]]"]:
        loop = asyncio.get_running_loop()
        tasks = [_Task(part, _rows(part), loop.create_future(), deadline) for part in parts]
        with self._changed:
            queue = self._queues.get(signature) or deque()
            alike = (q for s, q in self._queues.items() if s.tensors == signature.tensors)
            room = self._parameters.max_enqueued_batches - sum(map(len, alike))
            open_rows = queue[-1].rows if queue else self._parameters.largest
            opened = 0
            for task in tasks:
                open_rows += task.rows
                if open_rows > self._parameters.largest:
                    opened, open_rows = opened + 1, task.rows
            if opened > max(room, 0):
                raise ServingError(
                    Code.UNAVAILABLE,
                    "The batch scheduling queue to which this task was submitted is full",
                )
            for task in tasks:
                if not queue or queue[-1].rows + task.rows > self._parameters.largest:
                    queue.append(_Batch())
                queue[-1].add(task)
            self._queues[signature] = queue
            self._changed.notify()
        return [task.future for task in tasks]

    def _work(self) -> None:
        while self._run_next():
            pass

    def _run_next(self) -> bool:
        # In a function, so that a thread that waits holds on to no model and no answers.
        taken = self._take()
        if taken is not None:
            _run(*taken, self._parameters)
        return taken is not None

    def _take(self) -> tuple[_Signature, _Batch] | None:
        """Waits for a batch that is due, and takes it out of its queue; None to end."""
        timeout = self._parameters.batch_timeout_micros / 1e6
        with self._changed:
            while True:
                wait = None
                for signature, queue in self._queues.items():
                    batch = queue[0]
                    full = len(queue) > 1 or batch.rows >= self._parameters.largest
                    left = batch.tasks[0].queued + timeout - time.monotonic()
                    if full or left <= 0:
                        queue.popleft()
                        # The signatures take turns: one that was served goes to the end.
                        self._queues.pop(signature)
                        if queue:
                            self._queues[signature] = queue
                        if self._queues:
                            self._changed.notify()  # another thread watches what is left
                        return signature, batch
                    wait = left if wait is None else min(wait, left)
                if wait is None and self._closed:
                    return None
                self._changed.wait(wait)


def _run(signature: _Signature, batch: _Batch, parameters: Batching) -> None:
    """Runs a batch, and hands each task its rows, or all of them the error."""
    now = time.monotonic()
    for task in batch.tasks:
        QUEUING_LATENCY.observe((now - task.queued) * 1e6, parameters.thread_pool_name)
    tasks = [task for task in batch.tasks if not task.future.cancelled()]
    results: list[list[np.ndarray] | ServingError]
    try:
        if all(task.deadline <= now for task in tasks):
            raise ServingError(
                Code.RESOURCE_EXHAUSTED, "Run() timeout exceeded while waiting in batching queue"
            )
        feeds, rows = _merge([task.feeds for task in tasks], parameters)
        BATCH_SIZE.observe(rows, parameters.thread_pool_name)
        outputs = signature.model.run(feeds, signature.fetches)
        results = list(_split(outputs, [task.rows for task in tasks], rows))
    except ServingError as error:
        results = [error] * len(tasks)
    except Exception as error:  # whatever it is, nobody may be left waiting
        results = [ServingError(Code.INTERNAL, type(error).__name__)] * len(tasks)
    if tasks:
        futures = [task.future for task in tasks]
        with contextlib.suppress(RuntimeError):  # the loop has ended, and so has who asked
            futures[0].get_loop().call_soon_threadsafe(_deliver, futures, results)


def _deliver(
    futures: "list[asyncio.Future[list[np.ndarray]]]",
    results: list[list[np.ndarray] | ServingError],
) -> None:
    for future, result in zip(futures, results, strict=True):
        if future.done():
            continue
        if isinstance(result, ServingError):
            future.set_exception(result)
        else:
            future.set_result(result)


def _merge(tasks: list[Arrays], parameters: Batching) -> tuple[Arrays, int]:
    """The tasks' tensors one below the other, filled up to an allowed size; and their rows."""
    rows = sum(len(next(iter(feeds.values()))) for feeds in tasks)
    size = next((size for size in parameters.allowed_batch_sizes if size >= rows), rows)
    merged = {}
    for name in tasks[0]:
        arrays = [feeds[name] for feeds in tasks]
        if parameters.pad_variable_length_inputs:
            arrays = _padded(arrays)
        if size > rows:
            # A row that was sent is one that the model can take, whatever it demands of rows.
            row = next((array[:1] for array in arrays if len(array)), None)
            if row is None:
                return {name: tasks[0][name] for name in tasks[0]}, 0
            arrays.append(np.repeat(row, size - rows, axis=0))
        merged[name] = arrays[0] if len(arrays) == 1 else np.concatenate(arrays)
    return merged, size


def _padded(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """The arrays with equal dimensions but the first.

    As in the stock server, an array is filled up with its own first element. Of token ids that is a
    token, not padding: a model that takes strings has no need of this.
    """
    shape = np.max([array.shape[1:] for array in arrays], axis=0)
    padded = []
    for array in arrays:
        if array.shape[1:] != tuple(shape):
            if not array.size:
                raise invalid_argument("Got empty tensor in batch of non-empty tensors.")
            filled = np.empty((len(array), *shape), array.dtype)
            filled[...] = array.flat[0]
            filled[tuple(map(slice, array.shape))] = array
            array = filled
        padded.append(array)
    return padded


def _split(outputs: list[np.ndarray], counts: Sequence[int], rows: int) -> list[list[np.ndarray]]:
    """Each task's rows of the outputs."""
    for output in outputs:
        if np.ndim(output) == 0:  # of a string that is alone, the session gives bytes
            raise ServingError(Code.FAILED_PRECONDITION, "Batched output tensor has 0 dimensions")
        if len(output) != rows:
            raise ServingError(
                Code.FAILED_PRECONDITION,
                "Batched output tensor's 0th dimension does not equal the sum of the 0th dimension "
                "sizes of the input tensors",
            )
    pieces, start = [], 0
    for count in counts:
        pieces.append([output[start : start + count] for output in outputs])
        start += count
    return pieces


def _rows(feeds: Mapping[str, np.ndarray]) -> int:
    if not feeds:
        raise invalid_argument("Batching Run() must have at least one input tensor")
    if any(array.ndim == 0 for array in feeds.values()):
        raise invalid_argument("Batching Run() input tensors must have at least one dimension")
    sizes = {len(array) for array in feeds.values()}
    if len(sizes) > 1:
        raise invalid_argument("Batching Run() input tensors must have equal 0th-dimension size")
    return sizes.pop()
