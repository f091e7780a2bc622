"""Counters and histograms under the stock server's names, as a page for Prometheus.

    REQUESTS.add("reviews", "OK")
    page = prometheus_page()

Prometheus' own client for Python can't write these: it ends the name of a counter with `_total`.
"""

import threading
from bisect import bisect_left
from collections.abc import Collection
from itertools import accumulate

# Of a metric, sets of labels' values that are counted apart. Some are what clients send.
_MOST_CELLS = 10_000


class Counter:
    """A count by labels.

    Args:
        name: As Prometheus has it: `:tensorflow:serving:request_count`.
        labels: The labels' names.
    """

    def __init__(self, name: str, *labels: str) -> None:
        self._name, self._labels = name, labels
        self._counts: dict[tuple[str, ...], int] = {}
        self._lock = threading.Lock()
        _METRICS.append(self)

    def add(self, *values: str, count: int = 1) -> None:
        """Counts on, under these values of the labels."""
        with self._lock:
            values = _bounded(values, self._counts)
            self._counts[values] = self._counts.get(values, 0) + count

    def lines(self) -> list[str]:
        """The metric in Prometheus' text format."""
        with self._lock:
            counts = sorted(self._counts.items())
        lines = [f"{self._name}{{{_pairs(self._labels, v)}}} {count}" for v, count in counts]
        return [f"# TYPE {self._name} counter", *lines] if lines else []


class Histogram:
    """How often values fell into buckets, by labels.

    Args:
        name: As Prometheus has it.
        labels: The labels' names.
        buckets: The first limit, the factor from one to the next, and their number; the last
            bucket has no limit.
    """

    def __init__(self, name: str, *labels: str, buckets: tuple[float, float, int]) -> None:
        self._name, self._labels = name, labels
        first, factor, count = buckets
        self._limits = [first * factor**power for power in range(count - 1)]
        self._cells: dict[tuple[str, ...], tuple[list[int], list[float]]] = {}
        self._lock = threading.Lock()
        _METRICS.append(self)

    def observe(self, value: float, *values: str) -> None:
        """Counts a value, under these values of the labels."""
        with self._lock:
            values = _bounded(values, self._cells)
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


def _bounded(values: tuple[str, ...], cells: Collection[tuple[str, ...]]) -> tuple[str, ...]:
    """The values, or, where there are too many already, what stands for all others."""
    if values in cells or len(cells) < _MOST_CELLS:
        return values
    return ("others",) * len(values)


def _pairs(labels: tuple[str, ...], values: tuple[str, ...]) -> str:
    escapes = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n"})
    return ",".join(
        f'{label}="{value.translate(escapes)}"' for label, value in zip(labels, values, strict=True)
    )


_METRICS: list[Counter | Histogram] = []
_MICROSECONDS = (10, 1.8, 33)  # to about twenty minutes

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
    ":tensorflow:serving:request_example_counts", "model", buckets=(1, 2, 16)
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
    buckets=(1, 2, 16),
)
LOAD_ATTEMPTS = Counter(":tensorflow:cc:saved_model:load_attempt_count", "model_path", "status")
LOAD_LATENCY = Counter(":tensorflow:cc:saved_model:load_latency", "model_path")
WARMUP_LATENCY = Histogram(
    ":tensorflow:serving:model_warmup_latency", "model_path", "status", buckets=_MICROSECONDS
)
