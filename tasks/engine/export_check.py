"""Whether the stock TensorFlow Serving image would load a SavedModel, and answer with it.

    problems = check(Path("saved_models/banking77/1"))      # [] if it would

Two proofs. `graph_problems` reads the file: ops, XLA, types, assets. `replay_problems` loads the
model as the server does, into a session on the graph tagged `serve`, and sends it the requests of
its warmup file.
"""

import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow.types.experimental import ConcreteFunction

from tasks.engine.stock_ops import STOCK_SERVER, stock_ops
from tasks.engine.warmup import WARMUP_LIMIT, Arrays, input_specs, read_warmup

# What REST can write as JSON: it answers anything else, half precision above all, with an error.
_SERVABLE_TYPES = {tf.string, tf.bool, tf.float32, tf.float64}
_SERVABLE_TYPES |= {tf.int8, tf.int16, tf.int32, tf.int64}
_SERVABLE_TYPES |= {tf.uint8, tf.uint16, tf.uint32, tf.uint64}


def check(saved_model: Path, server: str = STOCK_SERVER) -> list[str]:
    """What would keep the stock server from loading any SavedModel, in words; empty if nothing."""
    return graph_problems(saved_model, server) or replay_problems(saved_model)


def graph_problems(saved_model: Path, server: str = STOCK_SERVER) -> list[str]:
    """What can be told without loading the model: missing ops, XLA, types, assets."""
    proto = saved_model_pb2.SavedModel.FromString((saved_model / "saved_model.pb").read_bytes())
    problems: list[str] = []
    for meta_graph in proto.meta_graphs:
        problems += _op_problems(meta_graph.graph_def, server)
        problems += _xla_problems(meta_graph.graph_def)
        problems += _type_problems(meta_graph.signature_def)
        problems += [
            f"the asset {asset.filename} is missing"
            for asset in meta_graph.asset_file_def
            if not (saved_model / "assets" / asset.filename).is_file()
        ]
    return problems


def replay_problems(
    saved_model: Path,
    expected: Mapping[str, ConcreteFunction] | None = None,
    tolerance: float = 1e-4,
) -> list[str]:
    """What goes wrong when the model is loaded and sent the requests of its warmup file.

    Args:
        saved_model: The version's folder.
        expected: If given, the functions by signature name that each answer is compared with.
        tolerance: How far floats may be off, relative and absolute; the rest must be equal.
    """
    try:
        requests = list(read_warmup(saved_model))
    except (tf.errors.OpError, DecodeError) as error:
        return [f"the warmup file cannot be read: {_line(error)}"]
    if len(requests) > WARMUP_LIMIT:
        return [f"{len(requests)} warmup requests; the server takes at most {WARMUP_LIMIT}"]
    problems = []
    with closing(tf.compat.v1.Session(graph=tf.Graph())) as session:
        try:
            with quiet_tensorflow():
                meta_graph = tf.compat.v1.saved_model.load(session, ["serve"], str(saved_model))
        except (tf.errors.OpError, OSError, RuntimeError, ValueError) as error:
            return [f"it cannot be loaded: {_line(error)}"]
        for name, arguments in requests:
            try:
                signature = meta_graph.signature_def[name]
                _answer(session, signature, arguments)
                # Compared is the second answer: ops that draw random numbers from a seed, such
                # as a dropout left on, would give here and there the same first one.
                answers = _answer(session, signature, arguments)
            except (tf.errors.OpError, KeyError, ValueError) as error:
                problems.append(f"a warmup request to {name} fails: {_line(error)}")
                continue
            if expected is not None:
                problems += _disagreements(name, expected[name], arguments, answers, tolerance)
    return list(dict.fromkeys(problems))


@contextmanager
def quiet_tensorflow() -> Iterator[None]:
    """Keeps back what TensorFlow logs about saving and loading, which nobody can act on."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _op_problems(graph: Any, server: str) -> list[str]:
    own_functions = {function.signature.name for function in graph.library.function}
    unknown = {node.op for node in _nodes(graph)} - stock_ops(server) - own_functions
    return [f"TensorFlow Serving {server} has no op {op}" for op in sorted(unknown)]


def _xla_problems(graph: Any) -> list[str]:
    """`jit_compile=True` marks the function, and each node that calls it."""
    marked = {f.signature.name for f in graph.library.function if f.attr["_XlaMustCompile"].b}
    marked = marked or {node.name for node in _nodes(graph) if node.attr["_XlaMustCompile"].b}
    return [f"{name} asks for XLA, which the server has switched off" for name in sorted(marked)]


def _type_problems(signatures: Mapping[str, Any]) -> Iterator[str]:
    for signature, definition in signatures.items():
        if signature.startswith("__saved_model_"):  # TensorFlow's own: the initializer
            continue
        for kind, tensors in (("input", definition.inputs), ("output", definition.outputs)):
            for name, tensor in tensors.items():
                dtype = tf.as_dtype(tensor.dtype)
                if dtype not in _SERVABLE_TYPES:
                    yield f"{kind} {name} of {signature} is {dtype.name}, which REST cannot carry"


def _nodes(graph: Any) -> Iterator[Any]:
    yield from graph.node
    for function in graph.library.function:
        yield from function.node_def


def _answer(session: tf.compat.v1.Session, signature: Any, arguments: Arrays) -> Arrays:
    outputs = {name: tensor.name for name, tensor in signature.outputs.items()}
    feeds = {signature.inputs[name].name: value for name, value in arguments.items()}
    return session.run(outputs, feeds)


def _disagreements(
    signature: str,
    function: ConcreteFunction,
    arguments: Arrays,
    answers: Arrays,
    tolerance: float,
) -> Iterator[str]:
    specs = input_specs(function)
    tensors = {name: tf.constant(value, specs[name].dtype) for name, value in arguments.items()}
    for name, value in function(**tensors).items():
        # Of a ranking, near ties may change places: their scores are compared, in order.
        ranking = name in ("labels", "classes")
        expected, actual = value.numpy(), answers[name]
        if ranking:
            expected, actual = np.sort(expected), np.sort(actual)
        if not _same(expected, actual, tolerance):
            yield f"output {name} of {signature}, reloaded, differs from the model in memory"


def _same(expected: np.ndarray, actual: np.ndarray, tolerance: float) -> bool:
    expected, actual = np.asarray(expected), np.asarray(actual)
    if expected.shape != actual.shape or expected.dtype != actual.dtype:
        return False
    if expected.dtype.kind == "f":
        return np.allclose(actual, expected, rtol=tolerance, atol=tolerance, equal_nan=True)
    return np.array_equal(expected, actual)


def _line(error: Exception) -> str:
    """What a failed operation said, without where in the graph it stood."""
    message = getattr(error, "message", str(error)).strip()
    said = re.search(r"^(.+)\n\s*\[\[\{\{", message, re.MULTILINE)
    return said[1].strip() if said else (message or type(error).__name__).splitlines()[0]
