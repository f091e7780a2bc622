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
_DATE, _BOOL = "tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:bool"
_TRUTH = re.compile("^(?:true|True|TRUE|false|False|FALSE)$")  # to YAML 1.1 also yes, no, on, off


class _Loader(yaml.SafeLoader):
    """Numbers such as 1e-5 are read as numbers; dates, and words such as no, which is Norwegian, as
    text, which options that are true or false take as well."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_DATE, _BOOL)]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        """Refuses a name that stands twice, of which one would be passed over."""
        start, end = node.start_mark, node.end_mark
        # Others than those within it were merged into it (`<<`), to be overridden.
        names = [
            key.value for key, _ in node.value if start.index <= key.start_mark.index < end.index
        ]
        for name in names:
            if isinstance(name, str) and names.count(name) > 1:
                raise ValueError(f"{name!r} stands twice in the section at line {start.line + 1}")
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Texts that look like a number or a date to anyone are put in quotes."""


for _kind in (_Loader, _Dumper):
    _kind.add_implicit_resolver(_FLOAT, _POWERS, list("-+.0123456789"))
_Loader.add_implicit_resolver(_BOOL, _TRUTH, list("tTfF"))


def write_yaml(options: Any, file: IO[str] | None = None) -> str | None:
    """Writes options into a file, or returns them as text."""
    return yaml.dump(options, file, _Dumper, sort_keys=False, allow_unicode=True)


def read_yaml(path: Path) -> dict[str, Any]:
    """What a config file says, by section; sections in which nothing is said are left out.

    Raises:
        UsageError: it can't be read, or has no sections.
    """
    try:
        options = yaml.load(path.read_text("utf-8"), _Loader)
        json.dumps(options)  # which neither takes bytes and sets, nor what is within itself
    except OSError as error:
        raise UsageError(f"{path}: can't be read: {error.strerror}; check the path") from None
    except (TypeError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: can't be read: {one_line(error)}; mend the file") from None
    if options is None:
        return {}
    if not isinstance(options, dict):
        raise UsageError(
            f"{path}: has no sections such as 'train:'; write one option a line in them"
        )
    return {name: part for name, part in options.items() if part is not None}


def as_argument(value: Any) -> str:
    """Options, or the value of one, as an argument that jsonargparse reads, as YAML."""
    text = json.dumps(value, ensure_ascii=False)
    return yaml.reader.Reader.NON_PRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
