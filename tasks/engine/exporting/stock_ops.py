"""The ops that a stock TensorFlow Serving image knows.

    "FastBertNormalize" in stock_ops()          # True: linked into the server
    "EagerPyFunc" in stock_ops()                # False: needs Python

One server version is two files in `tasks/engine/exporting/stock/`: `tf_serving_VERSION.txt` names
what the server links in besides core TensorFlow (kept by hand, from the server's build file), and
`tensorflow_VERSION.txt` the core ops (generated). Both are committed, so the answer depends neither
on the TensorFlow installed here, which may be newer than the server's, nor on the op libraries that
this process happens to have loaded. To add a version, install that TensorFlow and write its ops:

    python -m tasks.engine.exporting.stock_ops > tasks/engine/exporting/stock/tensorflow_2.20.txt
"""

import re
from functools import cache
from pathlib import Path

STOCK_SERVER = "2.20"
_FOLDER = Path(__file__).parent / "stock"


@cache
def stock_ops(server: str = STOCK_SERVER) -> frozenset[str]:
    """The names of all ops in TensorFlow Serving `server`, for instance "2.20".

    Raises:
        FileNotFoundError: this project has no list for that version.
    """
    core = (_FOLDER / f"tensorflow_{server}.txt").read_text(encoding="utf-8").splitlines()
    names = {line for line in core if line and not line.startswith("#")}
    return frozenset(names.union(*linked_ops(server).values()))


@cache
def linked_ops(server: str = STOCK_SERVER) -> dict[str, frozenset[str]]:
    """The ops that the server has beyond core TensorFlow, by the library they come from."""
    libraries: dict[str, set[str]] = {}
    library = ""
    path = _FOLDER / f"tf_serving_{server}.txt"
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            library = line.removeprefix("#").strip()
        elif line:
            libraries.setdefault(library, set()).add(line)
    return {library: frozenset(names) for library, names in libraries.items()}


def known_servers() -> list[str]:
    """The versions of the server that this project has lists for, the oldest first."""
    found = (path.stem.removeprefix("tf_serving_") for path in _FOLDER.glob("tf_serving_*.txt"))
    return sorted(found, key=lambda version: [int(part) for part in version.split(".")])


# Ops of the Python package alone: callbacks into Python, TensorFlow's own tests, and op libraries
# (RPC, TensorFlow Lite's audio frontend, user_ops) that no server links.
_PYTHON_ONLY = re.compile(
    "PyFunc|EagerPyFunc|PyFuncStateless|Rpc.*|AudioMicrofrontend|Fact"
    "|ConstructionFails|DevicePlacementOp|DtypeWithDefaultOp|GetDeadline|GraphDefVersion"
    "|IsResourceHandleRefCounting|IsTensorFloat32Enabled|KernelLabel|KernelLabelRequired"
    "|MakeWeakResourceHandle|Old|Resource(Create|Initialized|Using)Op|Sleep(Identity)?Op"
    "|StubResourceHandleOp|TestAttr"
)
# Without a kernel for the CPU, yet found in models that are served from one: rewritten before it
# runs, or the branch for GPUs that is not taken.
_WITHOUT_KERNEL = re.compile("AccumulateNV2|CudnnRNN.*")
# XLA is off in the server, and names with an underscore never reach a saved graph.
_NEVER_SAVED = re.compile("Xla.*|_.*")


def _core_ops() -> list[str]:
    """What a server would have of the ops that are registered; for a fresh process only."""
    from tensorflow.core.framework import op_def_pb2
    from tensorflow.python.client import pywrap_tf_session
    from tensorflow.python.framework import kernels

    serialized = pywrap_tf_session.TF_GetBuffer(pywrap_tf_session.TF_GetAllOpList())
    registered = {op.name for op in op_def_pb2.OpList.FromString(serialized).op}
    runnable = {
        kernel.op
        for kernel in kernels.get_all_registered_kernels().kernel
        if kernel.device_type in ("CPU", "DEFAULT")
    }
    return sorted(
        name
        for name in registered
        if (name in runnable or _WITHOUT_KERNEL.fullmatch(name))
        and not _PYTHON_ONLY.fullmatch(name)
        and not _NEVER_SAVED.fullmatch(name)
    )


if __name__ == "__main__":
    import tensorflow as tf

    print(
        f"# Core ops of TensorFlow {tf.__version__}, written by "
        "python -m tasks.engine.exporting.stock_ops."
    )
    print(*_core_ops(), sep="\n")
