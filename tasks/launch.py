"""Rehearses a training on several machines on this one: starts a command once for each worker.

    python -m tasks.launch --workers 2 -- python -m tasks.text_classification train \\
        --data.train sample --run.dir runs/rehearsal

Each worker finds in TF_CONFIG who the others are and which one it is, as it would on a machine of
its own. What it writes is passed on, each line with the worker's name before it. ^C and SIGTERM are
passed on to all workers, so that they save their state and end; the second time they are killed.

The exit code is 0 if all workers ended well, 130 if they were interrupted, else that of the first
that failed, or 128 + N if signal N killed it. The same command goes on where a run was stopped.
"""

import argparse
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import IO, BinaryIO, NoReturn

from tasks.engine.errors import UsageError, one_line

_LAST_WARNING = 10  # seconds from SIGTERM to SIGKILL


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the workers that the arguments ask for, and exits with their code."""
    try:
        options, command = _parse(list(sys.argv[1:] if arguments is None else arguments))
        code = launch(command, options.workers, options.grace, options.pin)
    except UsageError as error:
        print(f"error: {one_line(error)}", file=sys.stderr)
        code = 2
    sys.exit(code)


def launch(command: Sequence[str], count: int, grace: float, pin: bool = False) -> int:
    """Runs a command as so many workers until all have ended; returns the exit code for that.

    Args:
        grace: seconds that the others have once a worker has failed, before they are ended.
        pin: whether each worker gets processors of its own.
    Raises:
        UsageError: the command can't be started, or there are too few processors.
    """
    events: SimpleQueue[_Worker | int] = SimpleQueue()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: events.put(number))
    addresses = _free_addresses(count)
    shares = _shares_of_processors(count) if pin else [None] * count
    workers = [_Worker(command, addresses, index, shares[index]) for index in range(count)]
    for worker in workers:
        worker.pass_on(events.put)

    running = set(workers)
    first_code = 0  # of what went wrong first
    interrupted = False
    due: list[tuple[float, int]] = []  # when to send which signal to all
    while running:
        try:
            event = events.get(timeout=max(0, due[0][0] - time.monotonic()) if due else None)
        except Empty:
            _send(running, due.pop(0)[1])
            continue
        if isinstance(event, int):
            _send(running, signal.SIGKILL if interrupted else event)
            interrupted = True
            first_code = first_code or 130
            continue
        running.remove(event)
        if event.code and not first_code:
            first_code = event.code
            rest = f"; the others have {grace:g} s to stop" if running else ""
            print(f"error: {event.end}{rest}", file=sys.stderr, flush=True)
        if event.code not in (0, 130) and not due:  # in an interruption, too, it may hold up others
            term = time.monotonic() + grace
            due = [(term, signal.SIGTERM), (term + _LAST_WARNING, signal.SIGKILL)]
    return first_code if any(worker.code for worker in workers) else 0


class _Worker:
    """One of the processes, in a session of its own, so that a terminal's ^C comes to it once."""

    def __init__(
        self,
        command: Sequence[str],
        addresses: Sequence[str],
        index: int,
        processors: Sequence[int] | None = None,
    ) -> None:
        task = {"type": "worker", "index": index}
        config = {"cluster": {"worker": addresses}, "task": task}
        self.name = f"worker {index}"
        try:
            self.process = subprocess.Popen(
                command,
                env=os.environ | {"TF_CONFIG": json.dumps(config)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
                preexec_fn=_prepare(processors),
            )
        except OSError as error:
            raise UsageError(f"{command[0]}: {error.strerror}; it can't be started") from None

    def pass_on(self, ended: Callable[["_Worker"], None]) -> None:
        """Passes on what the process writes, and at last tells that it has ended."""

        def copy(source: IO[str], target: BinaryIO) -> None:
            # Universal newlines: a progress bar's \r ends a line, too. If nobody reads what is
            # passed on, the worker learns it by its own broken pipe.
            with source, suppress(BrokenPipeError):
                for line in source:
                    text = line.removesuffix("\n")
                    target.write(f"[{self.name}] {text}\n".encode())
                    target.flush()

        def wait() -> None:
            self.process.wait()
            for thread in copies:
                thread.join(timeout=1)  # a child that was left behind may hold the pipe open
            ended(self)

        assert self.process.stdout and self.process.stderr
        copies = [
            Thread(target=copy, args=(self.process.stdout, sys.stdout.buffer), daemon=True),
            Thread(target=copy, args=(self.process.stderr, sys.stderr.buffer), daemon=True),
        ]
        for thread in (*copies, Thread(target=wait, daemon=True)):
            thread.start()

    @property
    def code(self) -> int:
        """The exit code of a process that has ended, as a shell has it."""
        code = self.process.returncode
        return code if code >= 0 else 128 - code

    @property
    def end(self) -> str:
        """How the process ended, in words."""
        code = self.process.returncode
        if code >= 0:
            return f"{self.name} ended with exit code {code}"
        return f"{self.name} was killed by {signal.Signals(-code).name}"


def _send(workers: set[_Worker], number: int) -> None:
    for worker in workers:
        with suppress(ProcessLookupError):  # it has just ended
            os.killpg(worker.process.pid, number)


def _prepare(processors: Sequence[int] | None) -> Callable[[], None] | None:
    """What a worker does first, on Linux: keeps to its processors, and sees to it that it does not
    outlive a launcher that is killed."""
    if not sys.platform.startswith("linux"):
        return None
    prctl, set_parent_death_signal = ctypes.CDLL(None).prctl, 1
    launcher = os.getpid()

    def prepare() -> None:
        prctl(set_parent_death_signal, signal.SIGKILL)
        if os.getppid() != launcher:  # it was killed a moment ago
            os._exit(1)
        if processors:
            os.sched_setaffinity(0, processors)

    return prepare


def _shares_of_processors(count: int) -> list[list[int]]:
    """The processors that this process may use, dealt out."""
    if not hasattr(os, "sched_getaffinity"):
        raise UsageError("--pin: this system can't bind processes to processors; leave it out")
    there = sorted(os.sched_getaffinity(0))
    each = len(there) // count
    if not each:
        raise UsageError(f"--pin: {len(there)} processors are too few for {count} workers")
    return [there[index * each : (index + 1) * each] for index in range(count)]


def _free_addresses(count: int) -> list[str]:
    """Addresses on this machine where nobody listens."""
    with ExitStack() as held:  # all at once, so that they differ
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for bound in sockets:
            bound.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{bound.getsockname()[1]}" for bound in sockets]


class _Parser(argparse.ArgumentParser):
    """Mistakes become one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; --help shows an example")


def _parse(arguments: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The options, and the command after `--`."""
    parser = _Parser(
        prog="python -m tasks.launch",
        usage="%(prog)s [--workers N] [--pin] [--grace SECONDS] -- COMMAND ...",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--workers", type=int, default=2, metavar="N", help="how many to start (default: 2)"
    )
    parser.add_argument(
        "--pin",
        action="store_true",
        help="give each worker an equal share of the processors to itself, as machines would have; "
        "else all workers take turns on all of them",
    )
    parser.add_argument(
        "--grace",
        type=float,
        default=60.0,
        metavar="SECONDS",
        help="once a worker has failed, how long the others have to end by themselves before they "
        f"get SIGTERM, and SIGKILL {_LAST_WARNING} s later (default: 60)",
    )
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options, unknown = parser.parse_known_args(arguments[:end])
    command = arguments[end + 1 :]
    if unknown:
        parser.error(f"no option {unknown[0]}; the command to run comes after --")
    if options.workers < 1:
        parser.error(f"--workers {options.workers}: it takes one at least")
    if not 0 <= options.grace < float("inf"):
        parser.error(f"--grace {options.grace:g}: not a number of seconds")
    if not command:
        parser.error("no command; give it after --")
    return options, command


if __name__ == "__main__":
    main()
