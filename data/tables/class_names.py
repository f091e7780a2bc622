"""The names of classes that Hugging Face's Parquet files keep beside the numbers in their columns.

named = class_names(schema.metadata)
named.get("label", list)([0, 1, None])      # numbers whose text is "cat" and "dog", and None
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

Convert = Callable[[Any], Any]


class ClassNumber(int):
    """A class's number, whose text is the class's name."""

    name: str

    def __new__(cls, number: int, name: str) -> "ClassNumber":
        made = super().__new__(cls, number)
        made.name = name
        return made

    def __str__(self) -> str:
        return self.name


def class_names(metadata: Mapping[bytes, bytes] | None) -> dict[str, Convert]:
    """What gives the cells of some columns their names, by column.

    Args:
        metadata: that of a Parquet file's schema, in which Hugging Face's `datasets` says what the
            columns hold.
    """
    try:
        said = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        found = {column: _converter(feature) for column, feature in said.items()}
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}  # whoever wrote the file has another use for the key
    return {column: convert for column, convert in found.items() if convert}


def _converter(feature: Any) -> Convert | None:
    """What gives the values of a feature their names, if some of them are classes."""
    if isinstance(feature, list):  # as lists were written at first
        return _each(_converter(feature[0]))
    kind = feature.get("_type")
    if kind == "ClassLabel":
        numbers = [ClassNumber(number, str(name)) for number, name in enumerate(feature["names"])]
        return lambda value: _named(value, numbers)
    if kind and isinstance(feature.get("feature"), dict | list):  # a list, of any kind and length
        inner = feature["feature"]
        if isinstance(inner, dict) and "_type" not in inner:  # of structs, as a struct of lists
            return _parts({name: _each(_converter(part)) for name, part in inner.items()})
        return _each(_converter(inner))
    if kind is None:
        return _parts({name: _converter(part) for name, part in feature.items()})
    return None


def _named(value: Any, numbers: list[ClassNumber]) -> Any:
    """A class's number with its name; None for -1, which stands for no class."""
    if isinstance(value, float) and value.is_integer():  # as integers beside nulls become
        value = int(value)
    if not isinstance(value, int) or value >= len(numbers):
        return value
    return numbers[value] if value >= 0 else None


def _each(convert: Convert | None) -> Convert | None:
    if convert is None:
        return None
    return lambda values: [convert(value) for value in values] if values is not None else None


def _parts(converters: dict[str, Convert | None]) -> Convert | None:
    some = {name: convert for name, convert in converters.items() if convert}
    if not some:
        return None

    def convert_parts(value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return value | {name: some[name](value[name]) for name in some if name in value}

    return convert_parts
