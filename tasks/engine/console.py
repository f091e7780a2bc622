"""What a command says while it works, on standard output."""

from collections.abc import Mapping
from typing import Any

from data.splits import Splits
from data.survey import WARNING


def say(what: str, text: str) -> None:
    print(f"{what:<11} {text}", flush=True)


def describe(splits: Splits) -> str:
    parts = [("train", splits.train), ("validation", splits.validation), ("test", splits.test)]
    text = ", ".join(f"{len(records):,} {name}" for name, records in parts if records is not None)
    skipped = sum(records.skipped for _, records in parts if records is not None)
    return text + (f" ({skipped:,} bad rows skipped)" if skipped else "")


def say_facts(facts: Mapping[str, Any]) -> None:
    """Says what is worth saying of some data, and what is wrong with it."""
    said = [f"{name} {value}" for name, value in facts.items() if value and name != WARNING]
    if said:
        say("", ", ".join(said))
    if warning := facts.get(WARNING):
        say("warning", warning)


def headline(metrics: dict[str, Any]) -> str:
    numbers = ((name, value) for name, value in metrics.items() if isinstance(value, float))
    return ", ".join(f"{name} {value:.4f}" for name, value in numbers)


def compared(baselines: Mapping[str, Mapping[str, float]], monitor: str) -> str:
    values = (f"{name.replace('_', ' ')} {own[monitor]:.4f}" for name, own in baselines.items())
    return f"baselines' {monitor}: {', '.join(values)}"
