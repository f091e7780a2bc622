"""`python -m tasks.launch`: a command started once for each worker of a rehearsal."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# What most workers begin with: INDEX is the worker's own.
PRELUDE = """
import json, os, signal, sys, time
INDEX = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
def say(text): print(text, flush=True)
"""

# What a worker does when a signal comes.
SAVES = """
def end(number, frame):
    say(f"saved after {signal.Signals(number).name}")
    sys.exit(130)
for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, end)
"""
STAYS = """
for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, lambda *_: say("no"))
"""

# Then it waits for one.
WAITS = """
say(f"pid {os.getpid()}")
time.sleep(30)
"""


def fails_beside(program, folder):
    """Worker 0 does what the program says and waits; then worker 1 fails with exit code 3."""
    ready = str(folder / "ready")
    return f"""
if INDEX == 1:
    while not os.path.exists({ready!r}): time.sleep(0.01)
    sys.exit(3)
{program}
open({ready!r}, "w").close()
time.sleep(30)"""


def start(program, *options, environment=None):
    command = [sys.executable, "-m", "tasks.launch", *options, "--"]
    return subprocess.Popen(
        [*command, sys.executable, "-c", PRELUDE + program],
        env=(environment or dict(os.environ)) | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def launch(program, *options, environment=None):
    """Exit code, lines of stdout, and lines of stderr."""
    with start(program, *options, environment=environment) as process:
        out, err = process.communicate(timeout=20)
    return process.returncode, out.splitlines(), err.splitlines()


def refused(*arguments):
    """What is said to a command that can't be carried out."""
    command = [sys.executable, "-m", "tasks.launch", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    return line


@contextmanager
def running(program, *options, workers=2):
    """A launcher whose workers have all told their pids, and the pids."""
    process = start(program, "--workers", str(workers), *options)
    try:
        yield process, [int(process.stdout.readline().split()[-1]) for _ in range(workers)]
    finally:
        process.kill()
        process.communicate()


def alive(pid):
    with suppress(FileNotFoundError):
        return ") Z" not in Path(f"/proc/{pid}/stat").read_text()
    return False


class TestWorkers:
    def test_each_is_told_who_it_is_and_who_the_others_are(self):
        code, out, err = launch('say(os.environ["TF_CONFIG"])', "--workers", "3")
        assert (code, err) == (0, [])
        told = dict(line.split("] ", 1) for line in out)
        assert told.keys() == {"[worker 0", "[worker 1", "[worker 2"}
        configs = [json.loads(told[name]) for name in sorted(told)]
        assert [c["task"] for c in configs] == [{"type": "worker", "index": i} for i in range(3)]
        (cluster,) = {json.dumps(c["cluster"]) for c in configs}
        addresses = json.loads(cluster)["worker"]
        assert len(set(addresses)) == 3
        assert all(address.startswith("127.0.0.1:") for address in addresses)

    def test_nothing_else_in_their_environment_differs(self):
        environment = {"PATH": os.environ["PATH"], "TF_CONFIG": "an old one", "KEPT": "as it was"}
        program = 'say(json.dumps({k: v for k, v in os.environ.items() if k != "LC_CTYPE"}))'
        _, out, _ = launch(program, "--workers", "1", environment=environment)
        seen = json.loads(out[0].removeprefix("[worker 0] "))
        assert json.loads(seen.pop("TF_CONFIG"))["task"]["index"] == 0
        environment.pop("TF_CONFIG")
        assert seen == environment | {"PYTHONPATH": str(ROOT)}

    def test_what_they_write_is_passed_on_with_their_names(self):
        program = 'say(f"out {INDEX}\\n  indented"); print("err", INDEX, file=sys.stderr)'
        code, out, err = launch(program)
        assert code == 0
        for index in range(2):
            own = [line for line in out if line.startswith(f"[worker {index}] ")]
            assert own == [f"[worker {index}] out {index}", f"[worker {index}]   indented"]
        assert sorted(err) == ["[worker 0] err 0", "[worker 1] err 1"]

    def test_lines_come_while_the_worker_runs(self):
        with running(SAVES + WAITS) as (process, pids):
            assert process.poll() is None
            assert all(alive(pid) for pid in pids)

    def test_a_progress_bar_becomes_lines_and_odd_bytes_are_replaced(self):
        program = r'os.write(1, b"1/2\r2/2\r\nodd \xff\nno end")'
        _, out, _ = launch(program, "--workers", "1")
        assert out == [f"[worker 0] {text}" for text in ("1/2", "2/2", "odd \ufffd", "no end")]

    def test_it_is_quick_for_it_does_without_tensorflow(self):
        program = "import sys, tasks.launch; print(len({'tensorflow', 'keras'} & set(sys.modules)))"
        done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True)
        assert done.stdout == b"0\n"


class TestFailure:
    def test_the_exit_code_is_that_of_the_first_that_failed(self):
        code, _, err = launch("time.sleep(0.3 * INDEX); sys.exit([4, 5][INDEX])")
        said = "error: worker 0 ended with exit code 4; the others have 60 s to stop"
        assert (code, err) == (4, [said])

    def test_the_last_to_run_leaves_nobody_to_wait_for(self):
        code, _, err = launch("time.sleep(0.3 * INDEX); sys.exit([0, 5][INDEX])")
        assert (code, err) == (5, ["error: worker 1 ended with exit code 5"])

    def test_its_own_words_come_before_the_error(self):
        _, _, err = launch('sys.exit("no such file")', "--workers", "1")
        assert err == ["[worker 0] no such file", "error: worker 0 ended with exit code 1"]

    def test_one_is_killed_and_the_others_end_by_themselves(self):
        program = """
if INDEX == 1: os.kill(os.getpid(), signal.SIGKILL)
time.sleep(0.5)
say("worker 1 is gone")
sys.exit(1)"""
        code, out, err = launch(program)
        assert (code, out) == (137, ["[worker 0] worker 1 is gone"])
        assert err == ["error: worker 1 was killed by SIGKILL; the others have 60 s to stop"]

    def test_others_that_do_not_end_by_themselves_get_sigterm(self, tmp_path):
        began = time.monotonic()
        code, out, _ = launch(fails_beside(SAVES, tmp_path), "--grace", "1")
        assert 1 < time.monotonic() - began < 10
        assert (code, out[-1]) == (3, "[worker 0] saved after SIGTERM")

    def test_others_that_ignore_sigterm_are_killed(self, tmp_path):
        worker = [sys.executable, "-c", PRELUDE + fails_beside(STAYS, tmp_path)]
        program = f"""
from tasks import launch
launch._LAST_WARNING = 0.5
launch.main(["--grace", "0", "--", *{worker}])"""
        done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True)
        assert done.returncode == 3
        assert done.stdout.endswith(b"[worker 0] no\n")


class TestSignals:
    @pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
    def test_workers_are_told_and_waited_for(self, name):
        with running(SAVES + WAITS) as (process, pids):
            process.send_signal(getattr(signal, name))
            out, err = process.communicate(timeout=10)
            assert (process.returncode, err) == (130, "")
            saved = [f"[worker {index}] saved after {name}" for index in range(2)]
            assert sorted(out.splitlines()) == saved
            assert not any(alive(pid) for pid in pids)

    def test_a_terminal_signals_the_launcher_only(self):
        with running(SAVES + WAITS) as (process, pids):
            assert [os.getsid(pid) for pid in pids] == pids
            assert os.getsid(process.pid) not in pids

    def test_after_an_interruption_there_is_no_hurry(self):
        slowly = SAVES.replace("    say(", "    time.sleep(INDEX)\n    say(")
        with running(slowly + WAITS, "--grace", "0") as (process, _):
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=10)
            assert out.splitlines()[-1] == "[worker 1] saved after SIGINT"

    def test_the_second_kills(self):
        with running(STAYS + WAITS) as (process, pids):
            process.send_signal(signal.SIGINT)
            said = {process.stdout.readline() for _ in range(2)}
            assert said == {"[worker 0] no\n", "[worker 1] no\n"}
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 130
            assert not any(alive(pid) for pid in pids)

    @pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells of a parent's death")
    def test_workers_do_not_outlive_a_launcher_that_is_killed(self):
        with running(STAYS + WAITS) as (process, pids):
            process.kill()
            process.wait()
            end = time.monotonic() + 5
            while any(alive(pid) for pid in pids):
                assert time.monotonic() < end
                time.sleep(0.01)


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ((), "no command; give it after --"),
            (("--workers", "2", "--"), "no command; give it after --"),
            (("--workers", "0", "--", "true"), "--workers 0: it takes one at least"),
            (("--workers", "two", "--", "true"), "argument --workers: invalid int value: 'two'"),
            (("--grace", "-1", "--", "true"), "--grace -1: not a number of seconds"),
            (("true",), "no option true; the command to run comes after --"),
            (("--", "no-such-program"), "no-such-program: No such file or directory"),
            (("--", str(ROOT)), f"{ROOT}: Permission denied"),
        ],
    )
    def test_a_mistake_is_told_in_one_line(self, arguments, said):
        assert refused(*arguments).startswith(f"error: {said}")

    def test_help_shows_an_example(self):
        command = [sys.executable, "-m", "tasks.launch", "--help"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0
        assert "tasks.launch --workers 2 -- python -m tasks.text_classification" in done.stdout
        assert "--grace SECONDS" in done.stdout


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="not Linux")
def test_each_worker_may_have_processors_of_its_own():
    there = sorted(os.sched_getaffinity(0))
    code, out, err = launch("say(sorted(os.sched_getaffinity(0)))", "--workers", "2", "--pin")
    if len(there) == 1:
        assert code == 2 and "too few for 2 workers" in err[0]
        return
    shares = [json.loads(line.split("] ", 1)[1]) for line in out]
    assert [len(share) for share in shares] == [len(there) // 2] * 2
    assert not set(shares[0]) & set(shares[1])


def test_more_workers_than_processors_can_have_none_of_their_own():
    assert refused("--workers", "500", "--pin", "--", "true").startswith("error: --pin: ")
