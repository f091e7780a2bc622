"""The lock of a folder: one process at a time, however the one before ended."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from tasks.engine import lock
from tasks.engine.errors import UsageError
from tasks.engine.lock import LOCK, locked

HOLDING = """
import sys, time
from pathlib import Path
from tasks.engine.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_told_of_the_first_whose_end_by_a_kill_is_enough(tmp_path):
    folder = tmp_path / "run"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, folder], stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout.readline() == "held\n"
        message = rf"run: already training \(process {first.pid} on \S+\); wait .* --run\.dir"
        with pytest.raises(UsageError, match=message), locked(folder):
            pass
        first.send_signal(signal.SIGKILL)
        first.wait()
        assert (folder / LOCK).exists()
        with locked(folder):
            assert (folder / LOCK).read_text().startswith(f"process {os.getpid()} on ")
    assert not (folder / LOCK).exists()


def test_a_folder_that_was_made_for_nothing_is_gone_and_one_with_something_stays(tmp_path):
    with pytest.raises(ValueError, match="bad data"), locked(tmp_path / "runs" / "a"):
        raise ValueError("bad data")
    assert not list(tmp_path.iterdir())
    with locked(tmp_path / "runs" / "a"):
        (tmp_path / "runs" / "a" / "config.yaml").touch()
    assert [path.name for path in (tmp_path / "runs" / "a").iterdir()] == ["config.yaml"]
    (tmp_path / "empty").mkdir()
    with locked(tmp_path / "empty"):
        pass
    assert (tmp_path / "empty").is_dir()


def test_where_there_are_no_locks_training_goes_on_and_says_so(tmp_path, monkeypatch, capsys):
    def refuse(file, how):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(lock.fcntl, "flock", refuse)
    with locked(tmp_path / "run"):
        assert "mind that no other process trains there" in capsys.readouterr().err
