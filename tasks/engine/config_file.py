"""Config files: options by section as YAML, such that what was written is what is read.

YAML 1.1, as PyYAML has it, takes 1e3 for text and 2020-01-01 for a date; its successor 1e3 for a
number. Here what is written means the same to both, and what people write is read as they mean it.
"""

import json
import re
from pathlib import Path
from typing import IO, Any

import yaml

from tasks.engine.errors import UsageError, one_line

_FLOAT = "tag:yaml.org,2002:float"
_POWERS = re.compile(r"^[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$")  # what YAML 1.1 wants a sign in
_DATE = "tag:yaml.org,2002:timestamp"


class _Loader(yaml.SafeLoader):
    """Numbers such as 1e-5 are read as numbers, and dates as text."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _DATE]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class _Dumper(yaml.SafeDumper):
    """Texts that look like a number or a date to anyone are put in quotes."""


for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(_FLOAT, _POWERS, list("-+.0123456789"))


def write_yaml(options: Any, file: IO[str] | None = None) -> str | None:
    """Writes options into a file, or returns them as text."""
    return yaml.dump(options, file, _Dumper, sort_keys=False, allow_unicode=True)


def read_yaml(path: Path) -> dict[str, Any]:
    """What a config file says, by section.

    Raises:
        UsageError: it can't be read, or has no sections.
    """
    try:
        options = yaml.load(path.read_text("utf-8"), _Loader)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: can't be read: {one_line(error)}") from None
    if options is None:
        return {}
    if not isinstance(options, dict):
        raise UsageError(
            f"{path}: has no sections such as 'train:'; write one option a line in them"
        )
    return options


def as_argument(value: Any) -> str:
    """Options, or the value of one, as an argument that jsonargparse reads, as YAML."""
    text = json.dumps(value, ensure_ascii=False)
    return yaml.reader.Reader.NON_PRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
