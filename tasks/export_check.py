"""Will the stock TensorFlow Serving image load this SavedModel? Any SavedModel, of any origin.

    python -m tasks.export_check saved_models/banking77
    python -m tasks.export_check some/model/1 other/model/7 --json

A FOLDER holds saved_model.pb, or numbered versions, of which the latest is checked. Exit code 0 if
the server would load and answer with every one of them, 2 if not.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from tasks.engine.errors import UsageError
from tasks.engine.exporting.stock_ops import STOCK_SERVER, known_servers
from tasks.engine.quiet import quiet_imports

if TYPE_CHECKING:
    from tasks.engine.exporting.export_check import Finding, Report


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Checks the folders that the arguments name, and exits with the code that says the outcome."""
    try:
        _run(_parser().parse_args(arguments))
    except UsageError as error:
        print(f"error: {_line(str(error))}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read our output is gone
        sys.exit(1)
    sys.exit(0)


def _run(options: argparse.Namespace) -> None:
    if options.server not in known_servers():
        known = ", ".join(known_servers())
        raise UsageError(f"--server {options.server}: its ops are not known; known are {known}")
    tags = [tag.strip() for tag in options.tags.split(",") if tag.strip()]
    if not tags:
        raise UsageError("--tags needs one or more, with commas between")
    with quiet_imports():
        from tasks.engine.exporting.export_check import inspect
    failed: list[Report] = []
    for folder in options.folders:
        report = inspect(Path(folder), options.server, tags)
        print_report = _print_json if options.json else _print_table
        print_report(report)
        failed += [] if report.answers else [report]
    if failed:
        more = f" ({len(failed)} of {len(options.folders)} folders fail)" if failed[1:] else ""
        raise UsageError(f"{failed[0].folder}: {failed[0].problems[0]}{more}")


class _Parser(argparse.ArgumentParser):
    """Mistakes become one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; --help lists the options")


def _parser() -> _Parser:
    parser = _Parser(
        prog="python -m tasks.export_check",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="a version, or a model")
    parser.add_argument(
        "--server",
        default=STOCK_SERVER,
        help=f"the version of TensorFlow Serving: {', '.join(known_servers())}",
    )
    parser.add_argument(
        "--tags",
        default="serve",
        help="the tags of the graph to load, with commas between (default: %(default)s)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object a folder instead of a table"
    )
    return parser


def _print_json(report: "Report") -> None:
    fields = {
        "folder": str(report.folder),
        "server": report.server,
        "loads": report.loads,
        "answers": report.answers,
        "problems": report.problems,
        "notes": report.notes,
    }
    print(json.dumps(fields), flush=True)


def _print_table(report: "Report") -> None:
    """A table on a terminal; elsewhere the same as plain lines, for logs and grep."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    would = "would load it" if report.loads else "would NOT load it"
    if report.loads and not report.answers:
        would += ", but could NOT answer all requests"
    title = _line(f"{report.folder}: TensorFlow Serving {report.server} {would}")
    console = Console()
    if not console.is_terminal:
        print(title)
        for finding in report.findings:
            first, *more = _found(finding) or [""]
            print(f"  {finding.check:<12}{_state(finding):<13}{first}".rstrip())
            for said in more:
                print(f"{'':<27}{said}")
        print(flush=True)
        return
    table = Table(title=Text(title), title_justify="left", box=box.SIMPLE_HEAD)
    for heading in ("check", "result", "found"):
        table.add_column(heading)
    colors = {"ok": "green", "fails": "red", "not checked": "yellow"}
    for finding in report.findings:
        state = _state(finding)
        found = Text("\n".join(_found(finding)))
        table.add_row(finding.check, Text(state, style=colors[state]), found)
    console.print(table)


def _state(finding: "Finding") -> str:
    if finding.problems:
        return "fails"
    return "ok" if finding.checked else "not checked"


def _found(finding: "Finding") -> list[str]:
    return [_line(said) for said in (*finding.problems, *finding.notes)]


def _line(text: str) -> str:
    """The text as one line that any terminal can print, though names in it may hold anything."""
    visible = "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
    return visible.encode(errors="backslashreplace").decode()


if __name__ == "__main__":
    main()
