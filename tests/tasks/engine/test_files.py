"""Files are whole or not there, whatever goes wrong while they are written."""

import pytest

from tasks.engine.files import atomic_folder, atomic_path, atomic_write, remove_remains


def test_a_file_appears_when_it_is_complete(tmp_path):
    path = tmp_path / "new" / "file.txt"
    with atomic_write(path) as file:
        file.write("whole")
        assert not path.exists()
    assert path.read_text() == "whole"


@pytest.mark.parametrize("writer", [atomic_write, atomic_path, atomic_folder])
def test_a_failure_leaves_the_old_and_no_remains(tmp_path, writer):
    path = tmp_path / "thing.keras"
    if writer is not atomic_folder:
        path.write_text("old")
    with pytest.raises(RuntimeError), writer(path) as target:
        if writer is atomic_path:
            target.write_text("half")
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == (["thing.keras"] if path.exists() else [])
    assert writer is atomic_folder or path.read_text() == "old"


def test_a_temporary_folder_is_not_named_like_a_version(tmp_path):
    with atomic_folder(tmp_path / "1") as folder:
        (folder / "model").write_text("x")
        assert not folder.name.isdigit()
    assert (tmp_path / "1" / "model").read_text() == "x"
    assert (tmp_path / "1").stat().st_mode & 0o055, "others can read it"


@pytest.mark.parametrize("writer", [atomic_write, atomic_path])
def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path, writer):
    folder = tmp_path / "logs"
    names = (".gitignore", ".nfs0000000012ab", "events.1.v2", ".git/a.b")
    others = [folder / name for name in names]
    for path in others:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("kept")
    killed = []  # held, so that nothing ends them
    for name in ("metrics.json", "events.out.tfevents.12.host.3.v2", "best.keras", "plain"):
        writing = writer(folder / name)
        target = writing.__enter__()
        if writer is atomic_path:
            target.write_text("half")
        killed.append(writing)
    assert len([path for path in folder.iterdir() if path.is_file()]) == 3 + 4
    remove_remains(tmp_path)
    assert all(path.exists() for path in others)
    assert sorted(path for path in folder.rglob("*") if path.is_file()) == sorted(others)
