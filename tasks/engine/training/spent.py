"""What the time of a training went into, and what would save some."""

from collections.abc import Mapping, Sequence

from data.records import StreamedRecords

MUCH_INPUT = 0.15  # of the time: from here on, something should be done about it
MUCH_REDUCTION = 0.3

_PARTS = {
    "input_seconds": "waiting for input",
    "all_reduce_seconds": "adding up gradients over replicas",
}


def spent(history: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The seconds of all epochs' training steps, `seconds`, and those of their parts that were
    measured: `input_seconds`, `all_reduce_seconds`."""
    names = [name for name in ("seconds", *_PARTS) if any(name in epoch for epoch in history)]
    return {name: sum(epoch.get(name, 0.0) for epoch in history) for name in names}


def described(seconds: Mapping[str, float]) -> str:
    """One line of what `spent` found: `12.3 s of training steps: 95% computing, ...`."""
    shares = _shares(seconds)
    parts = [f"{1 - sum(shares.values()):.0%} computing"]
    parts += [f"{share:.0%} {_PARTS[name]}" for name, share in shares.items()]
    return f"{seconds.get('seconds', 0.0):.1f} s of training steps: {', '.join(parts)}"


def advice(seconds: Mapping[str, float], records: object) -> str | None:
    """What to do where too much time was not spent on computing; None where little was.

    Args:
        seconds: what `spent` found.
        records: the training data.
    """
    shares = _shares(seconds)
    if shares.get("input_seconds", 0.0) > MUCH_INPUT:
        if isinstance(records, StreamedRecords):
            return (
                "the input is the bottleneck: records are read and encoded anew in each epoch, as "
                "they are larger than --data.memory_limit_mb; raise it if memory allows, or give "
                "more processor cores"
            )
        return (
            "the input is the bottleneck: give more processor cores, change the records less at "
            "random, or store them smaller"
        )
    if shares.get("all_reduce_seconds", 0.0) > MUCH_REDUCTION:
        return (
            "replicas wait for each other and for the network: a larger --train.batch_size gives "
            "each more to compute between two sums; or take fewer replicas"
        )
    return None


def _shares(seconds: Mapping[str, float]) -> dict[str, float]:
    whole = max(seconds.get("seconds", 0.0), 1e-9)
    return {name: seconds[name] / whole for name in _PARTS if name in seconds}
