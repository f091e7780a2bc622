"""Counters and histograms under the stock server's names, as a page for Prometheus.

    REQUESTS.add(model_label("reviews", served), "OK")
    page = prometheus_page()

Prometheus' own client for Python can't write these: it ends the name of a counter with `_total`.
"""

import threading
from abc import ABC, abstractmethod
from bisect import bisect_left
from collections.abc import Container
from itertools import accumulate
from pathlib import Path
from typing import Generic, TypeVar

# What stands for all names that clients make up.
_OTHERS = "others"

_Cell = TypeVar("_Cell")


class _Metric(ABC, Generic[_Cell]):
    """What there is to know of each set of labels' values."""

    def __init__(self, name: str, labels: tuple[str, ...]) -> None:
        self._name, self._labels = name, labels
        self._cells: dict[tuple[str, ...], _Cell] = {}
        self._lock = threading.Lock()
        _METRICS.append(self)

    @abstractmethod
    def lines(self) -> list[str]:
        """The metric in Prometheus' text format."""

    def forget(self, label: str, value: str) -> None:
        """Drops what was counted under this value of a label, if the metric has such a label."""
        if label in self._labels:
            place = self._labels.index(label)
            with self._lock:
                for values in [values for values in self._cells if values[place] == value]:
                    del self._cells[values]


class Counter(_Metric[int]):
    """A count by labels.

    Args:
        name: As Prometheus has it: `:tensorflow:serving:request_count`.
        labels: The labels' names.
    """

    def __init__(self, name: str, *labels: str) -> None:
        super().__init__(name, labels)

    def add(self, *values: str, count: int = 1) -> None:
        """Counts on, under these values of the labels."""
        with self._lock:
            self._cells[values] = self._cells.get(values, 0) + count

    def lines(self) -> list[str]:
        """The metric in Prometheus' text format."""
        with self._lock:
            counts = sorted(self._cells.items())
        lines = [f"{self._name}{{{_pairs(self._labels, v)}}} {count}" for v, count in counts]
        return [f"# TYPE {self._name} counter", *lines] if lines else []


class Histogram(_Metric[tuple[list[int], list[float]]]):
    """How often values fell into buckets, by labels.

    Args:
        name: As Prometheus has it.
        labels: The labels' names.
        buckets: The first limit, the factor from one to the next, and the number of limits, as
            TensorFlow's `Exponential` has them. One more bucket is for what is beyond the last.
    """

    def __init__(self, name: str, *labels: str, buckets: tuple[float, float, int]) -> None:
        super().__init__(name, labels)
        first, factor, count = buckets
        self._limits = [first * factor**power for power in range(count)]

    def observe(self, value: float, *values: str) -> None:
        """Counts a value, under these values of the labels."""
        with self._lock:
            if values not in self._cells:
                self._cells[values] = ([0] * (len(self._limits) + 1), [0.0])
            counts, total = self._cells[values]
            counts[bisect_left(self._limits, value)] += 1
            total[0] += value

    def lines(self) -> list[str]:
        """The metric in Prometheus' text format; a bucket holds those before it, too."""
        with self._lock:
            cells = sorted(
                (v, list(counts), total[0]) for v, (counts, total) in self._cells.items()
            )
        lines = []
        for values, counts, total in cells:
            pairs = _pairs(self._labels, values)
            limits = [f"{limit:.6g}" for limit in self._limits] + ["+Inf"]
            lines += [
                f'{self._name}_bucket{{{pairs},le="{limit}"}} {count}'
                for limit, count in zip(limits, accumulate(counts), strict=True)
            ]
            lines.append(f"{self._name}_sum{{{pairs}}} {total:.17g}")
            lines.append(f"{self._name}_count{{{pairs}}} {sum(counts)}")
        return [f"# TYPE {self._name} histogram", *lines] if lines else []


def prometheus_page() -> str:
    """All metrics that have a value, in Prometheus' text format 0.0.4."""
    return "\n".join(line for metric in _METRICS for line in metric.lines()) + "\n"


def model_label(name: str, served: Container[str]) -> str:
    """What a request for this model is counted under: names that clients make up are one."""
    return name if name in served else _OTHERS


def forget(folder: Path) -> None:
    """Drops what was counted of loading the version in this folder: it is gone for good."""
    for metric in _METRICS:
        metric.forget("model_path", str(folder))


def _pairs(labels: tuple[str, ...], values: tuple[str, ...]) -> str:
    escapes = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
    return ",".join(
        f'{label}="{value.translate(escapes)}"' for label, value in zip(labels, values, strict=True)
    )


_METRICS: list[_Metric] = []
_MICROSECONDS = (10, 1.8, 33)  # to about twenty-five minutes

REQUESTS = Counter(":tensorflow:serving:request_count", "model_name", "status")
REQUEST_LATENCY = Histogram(
    ":tensorflow:serving:request_latency",
    "model_name", "API", "entrypoint",
    buckets=_MICROSECONDS,
)  # fmt: skip
RUNTIME_LATENCY = Histogram(
    ":tensorflow:serving:runtime_latency", "model_name", "API", "runtime", buckets=_MICROSECONDS
)
EXAMPLE_COUNTS = Histogram(
    ":tensorflow:serving:request_example_counts", "model", buckets=(1, 2, 15)
)
EXAMPLE_TOTAL = Counter(":tensorflow:serving:request_example_count_total", "model")
QUEUING_LATENCY = Histogram(
    ":tensorflow:serving:batching_session:queuing_latency",
    "thread_pool_name",
    buckets=(100, 1.2, 52),
)
BATCH_SIZE = Histogram(
    ":tensorflow:serving:batching_session:processed_batch_size",
    "thread_pool_name",
    buckets=(1, 2, 15),
)
LOAD_ATTEMPTS = Counter(":tensorflow:cc:saved_model:load_attempt_count", "model_path", "status")
LOAD_LATENCY = Counter(":tensorflow:cc:saved_model:load_latency", "model_path")
WARMUP_LATENCY = Histogram(
    ":tensorflow:serving:model_warmup_latency", "model_path", "status", buckets=_MICROSECONDS
)
