"""Memory that is freed and soon needed again."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> None:
    """Asks glibc to keep large freed blocks instead of returning them to the kernel.

    A training step frees and takes back hundreds of MiB. By default each block is unmapped and
    faulted in again, page by page under one lock: with MiniLM 140,000 page faults a step, which
    took two thirds of its time on two cores. The price is that memory once used stays with the
    process. Does nothing where the C library is another one.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
