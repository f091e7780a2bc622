#!/usr/bin/env bash
# jsonargparse 4.53.0 with PyYAML 6.0.4: a text such as 1e3 is printed as what is read as a number.
# Expected: that what --print_config prints can be given to --config, as the documentation has it
#   (`--print_config > config.yaml`, then `--config config.yaml`).
# Seen: PyYAML writes the text 1e3 without quotes, as YAML 1.1 lets it. By jsonargparse's rule for
#   reading, which is documented, it is the number 1000.0, and refused where a text is asked for.
# Why it matters: a class or a column whose name looks so can't be had from a saved config.
# Here: tasks/engine/config_file.py quotes what either of them takes for a number.
set -euo pipefail
. "$(dirname "$0")/environment" jsonargparse==4.53.0 PyYAML==6.0.4

"$PYTHON" - <<'PY'
import sys
from contextlib import redirect_stdout, suppress
from pathlib import Path

import yaml
from jsonargparse import ArgumentError, ArgumentParser

parser = ArgumentParser(exit_on_error=False)
parser.add_argument("--config", action="config")
parser.add_argument("--column", type=str)


def from_printed(column: str) -> str:
    """What is read from the file that is printed for it."""
    with open("config.yaml", "w") as file, redirect_stdout(file), suppress(SystemExit):
        parser.parse_args([f"--column={column}", "--print_config"])
    try:
        return repr(parser.parse_args(["--config=config.yaml"]).column)
    except ArgumentError as error:
        return " ".join(str(error).split())


seen = {}
for column in ("x3", "123", "1e3"):
    seen[column] = from_printed(column)
    text = Path("config.yaml").read_text().strip()
    print(f"{column!r} printed as `{text}`; by PyYAML {yaml.safe_load(text)}")
    print(f"    by jsonargparse: {seen[column]}")
holds = seen["x3"] == "'x3'" and seen["123"] == "'123'" and "Got value: 1000.0" in seen["1e3"]
print("as noted" if holds else "the behaviour has changed")
sys.exit(not holds)
PY
