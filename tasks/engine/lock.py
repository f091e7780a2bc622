"""One process at a time in a folder: a lock that ends with its process, however that ends.

with locked(Path("runs/reviews")):
    ...
"""

import errno
import fcntl
import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from tasks.engine.errors import UsageError

LOCK = ".lock"  # the file's name

# What file systems say that know no locks.
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF}


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a folder, which is made if it isn't there, and removed if it is empty in the end.

    On a file system that knows no locks nothing is held, which is said.

    Raises:
        UsageError: another process holds it; the message says which, and on which machine.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    with _held(folder / LOCK):
        try:
            yield
        finally:
            # While it is held: who has opened it by now sees that it is not the one in the folder.
            (folder / LOCK).unlink(missing_ok=True)
            with suppress(OSError):  # what is there is the run
                for path in made:
                    path.rmdir()


def _held(path: Path) -> IO[str]:
    """The file, locked and with this process in it."""
    while True:
        file = path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise UsageError(
                f"{path.parent}: already training ({holder}); wait for its end, or name another "
                "--run.dir"
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            print(
                f"warning: {path.parent}: can't be locked ({error.strerror}); mind that no other "
                "process trains there",
                file=sys.stderr,
            )
        if _is_at(file, path):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
            file.flush()
            return file
        file.close()  # its last holder has just removed it


def _is_at(file: IO[str], path: Path) -> bool:
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    return False
