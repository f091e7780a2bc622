"""What may import what: the arrows of docs/architecture.md, held against the source."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
KINDS = ("classification", "forecasting", "translation")
FRAME = [f"tasks/engine/{room}" for room in ("showing", "training", "exporting", "judging")]

# Room -> what it may import beside itself. A file is in the room with the longest name it begins
# with: `tasks/engine` is the ground floor of the frame, `tasks` the task files.
MAY_IMPORT: dict[str, list[str]] = {
    "zoo": [],
    "data": [],
    "data/images": ["data"],
    "data/samples": ["data"],
    "data/tables": ["data", "data/images"],
    "data/text": ["data", "data/tables", "data/samples"],
    "data/series": ["data", "data/tables"],
    "tasks/protocol": [],
    "tasks/engine": ["zoo", "data"],
    "tasks/engine/showing": ["data", "tasks/engine"],
    "tasks/engine/training": ["zoo", "data", "tasks/engine", "tasks/engine/showing"],
    "tasks/engine/exporting": ["tasks/engine", "tasks/engine/showing", "tasks/protocol"],
    "tasks/engine/judging": ["data", "tasks/engine", *FRAME[:2]],
    "tasks/engine/command": ["zoo", "data", "tasks/engine", *FRAME],
    **{f"tasks/kinds/{kind}": ["zoo", "data*", "tasks/engine", *FRAME] for kind in KINDS},
    "tasks/serving": ["tasks/protocol", "tasks/engine", "tasks/engine/exporting"],
    "tasks": ["zoo", "data*", "tasks/kinds*", "tasks/engine*", "tasks/serving"],
}


def files() -> Iterator[Path]:
    for package in ("zoo", "data", "tasks"):
        yield from sorted((ROOT / package).rglob("*.py"))


def room(path: str) -> str:
    return max((name for name in MAY_IMPORT if f"{path}/".startswith(f"{name}/")), key=len)


def imported(file: Path) -> set[str]:
    """The project's files that a file imports, anywhere in it but for types alone."""
    found = set()
    tree = ast.parse(file.read_text("utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        modules = []
        if isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module, *(f"{node.module}.{name.name}" for name in node.names)]
        elif isinstance(node, ast.Import):
            modules = [name.name for name in node.names]
        for module in modules:
            path = Path(*module.split("."))
            if (ROOT / path.with_suffix(".py")).is_file():
                found.add(path.with_suffix(".py").as_posix())
    return found


IMPORTS = {file.relative_to(ROOT).as_posix(): imported(file) for file in files()}


@pytest.mark.parametrize("name", MAY_IMPORT)
def test_a_room_imports_only_what_it_may(name):
    allowed = [name, *MAY_IMPORT[name]]
    wrong = [
        f"{file} imports {other}"
        for file, others in IMPORTS.items()
        for other in sorted(others)
        if room(file) == name
        and not any(
            room(other).startswith(a[:-1]) if a.endswith("*") else room(other) == a for a in allowed
        )
    ]
    assert not wrong


def test_every_room_has_files():
    assert {room(file) for file in IMPORTS} == MAY_IMPORT.keys()


def test_no_files_import_each_other_in_a_circle():
    done: set[str] = set()

    def follow(file: str, way: tuple[str, ...]) -> None:
        assert file not in way, " -> ".join((*way[way.index(file) :], file))
        if file not in done:
            for other in sorted(IMPORTS[file]):
                follow(other, (*way, file))
            done.add(file)

    for file in IMPORTS:
        follow(file, ())
