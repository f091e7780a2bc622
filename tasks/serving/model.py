"""One version of a SavedModel, loaded as the stock server loads it: into a session of its own."""

import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2, saved_model_pb2

from tasks.engine.quiet import quiet_tensorflow
from tasks.protocol.errors import Code, ServingError

# Each set of feeds and fetches is a pruned graph that the session keeps. Clients choose fetches
# with output filters, so there can be many; beyond this, the oldest is let go.
_MOST_CALLABLES = 256


class Model:
    """A loaded graph, its signatures, and how to run it from any thread.

    Args:
        folder: The version's folder.
        tags: Of the graph to load: ["serve"].
        config: The session's.

    Raises:
        ServingError: it can't be loaded.
    """

    def __init__(
        self, folder: Path, tags: Sequence[str], config: config_pb2.ConfigProto | None = None
    ) -> None:
        _register_ops(folder)
        self._session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
        try:
            with quiet_tensorflow():
                graph = tf.compat.v1.saved_model.load(self._session, list(tags), str(folder))
        except Exception as error:  # parsing and building a graph raise whatever they like
            self._session.close()
            raise _as_serving_error(error) from None
        signatures = dict(graph.signature_def)
        # TensorFlow's own, which runs initializers; the stock server does not show it either.
        signatures.pop("__saved_model_init_op", None)
        self.signatures: Mapping[str, meta_graph_pb2.SignatureDef] = signatures
        self._callables: dict[tuple[tuple[str, ...], tuple[str, ...]], Any] = {}
        self._running = 0
        self._changed = threading.Condition()

    def run(self, feeds: Mapping[str, np.ndarray], fetches: Sequence[str]) -> list[np.ndarray]:
        """The tensors named by `fetches`, given those named by `feeds`; blocks meanwhile.

        Raises:
            ServingError: what the graph says.
        """
        with self._changed:
            self._running += 1
        try:
            return self._callable(tuple(feeds), tuple(fetches))(*feeds.values())
        except Exception as error:
            raise _as_serving_error(error) from None
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def close(self) -> None:
        """Gives back the memory, once nothing runs any more.

        A run can outlast its request: whoever gave up on it does not stop the graph.
        """
        with self._changed:
            self._changed.wait_for(lambda: not self._running)
        self._callables.clear()
        self._session.close()

    def _callable(self, feeds: tuple[str, ...], fetches: tuple[str, ...]) -> Any:
        key = (feeds, fetches)
        found = self._callables.get(key)
        if found is None:
            options = config_pb2.CallableOptions(feed=feeds, fetch=fetches)
            found = self._session._make_callable_from_options(options)
            with self._changed:
                if len(self._callables) >= _MOST_CALLABLES:
                    self._callables.pop(next(iter(self._callables)))
                self._callables[key] = found
        return found


def _register_ops(folder: Path) -> None:
    """Loads tensorflow_text, which takes a second, only for a graph that has its ops.

    The stock server has them linked in; a process has them once it has imported the package.
    """
    try:
        content = (folder / "saved_model.pb").read_bytes()
        proto = saved_model_pb2.SavedModel.FromString(content)
    except Exception:
        return  # the loader says what is wrong, and reads text format, too
    from tensorflow.python.framework import op_def_registry

    for meta_graph in proto.meta_graphs:
        graph = meta_graph.graph_def
        own = {function.signature.name for function in graph.library.function}
        nodes = [graph.node, *(function.node_def for function in graph.library.function)]
        ops = {node.op for part in nodes for node in part} - own
        if any(op_def_registry.get(op) is None for op in ops):
            import tensorflow_text  # noqa: F401

            return


def _as_serving_error(error: Exception) -> ServingError:
    """What TensorFlow raised, as the status that the stock server would answer."""
    if isinstance(error, ServingError):
        return error
    message = str(getattr(error, "message", error) or type(error).__name__)
    # Where in somebody's Python a node was made is no business of a client.
    message = re.split(r"\n*(?:Detected at node|Traceback|Defined at)", message)[0].strip()
    if isinstance(error, tf.errors.OpError):
        return ServingError(Code(error.error_code), message)
    wrong = isinstance(error, TypeError | ValueError)
    return ServingError(Code.INVALID_ARGUMENT if wrong else Code.INTERNAL, message)
