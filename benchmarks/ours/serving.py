"""One figure of an export or of the server that serves it, measured in this process.

    python -m benchmarks.ours.serving in_process --model saved_models/banking77/1 --texts FILE
    python -m benchmarks.ours.serving requests --model saved_models/banking77/1 --texts FILE FOLDER
    python -m benchmarks.ours.serving half_plus_two FOLDER

The first loads the SavedModel and calls its `serving_default` on strings: as a Python program
would, and as the server does. The others make what the benchmark sends and serves.
"""

import argparse
import base64
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.ours.turns import TURNS, turns
from tasks.engine.quiet import quiet_imports

with quiet_imports():
    import tensorflow as tf
    import tensorflow_text  # noqa: F401
    from tensorflow_serving.apis import predict_pb2

    from tasks.serving.model import Model


def main() -> None:
    """Does what the arguments name, and prints its figures as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(required=True)
    measure = commands.add_parser("in_process")
    measure.add_argument("--rows", type=int, default=1)
    measure.add_argument("--threads", type=int, default=1)
    measure.add_argument("--seconds", type=float, default=10.0)
    measure.add_argument("--turns", action="store_true", help=TURNS)
    measure.set_defaults(do=in_process)
    make = commands.add_parser("requests")
    make.add_argument("--name", default="benchmark", help="the model's name in the server")
    make.add_argument("folder", type=Path)
    make.set_defaults(do=write_requests)
    for command in (measure, make):
        command.add_argument("--model", type=Path, required=True, help="a version's folder")
        command.add_argument("--texts", type=Path, required=True, help="a CSV file")
        command.add_argument("--column", default="text")
    small = commands.add_parser("half_plus_two")
    small.add_argument("folder", type=Path)
    small.set_defaults(do=half_plus_two)
    arguments = parser.parse_args()
    for figures in arguments.do(arguments):
        print(json.dumps(figures), flush=True)


def in_process(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Rows a second of calls from some threads, and the milliseconds of a call, each the better
    of a signature's and a session's."""
    texts, rows = _texts(arguments), arguments.rows
    batches = [
        np.array([text.encode() for text in texts[at : at + rows]], object)
        for at in range(0, len(texts) - rows + 1, rows)
    ]
    calls = {"signature": _signature(arguments.model), "session": _session(arguments.model)}
    for call in calls.values():
        for batch in batches[:20]:
            call(batch)
    for _ in turns(arguments.turns):
        ways = {name: _timed(call, batches, arguments) for name, call in calls.items()}
        yield {
            "rows_per_second": max(way["rows_per_second"] for way in ways.values()),
            "milliseconds": min(way["milliseconds"] for way in ways.values()),
            "ways": ways,
        }


def _signature(model: Path) -> Callable[[np.ndarray], Any]:
    """A call as a Python program makes it."""
    function = tf.saved_model.load(str(model)).signatures["serving_default"]
    name = next(iter(function.structured_input_signature[1]))

    def call(batch: np.ndarray) -> list[np.ndarray]:
        return [output.numpy() for output in function(**{name: tf.constant(batch)}).values()]

    return call


def _session(model: Path) -> Callable[[np.ndarray], Any]:
    """A call as the server makes it."""
    loaded = Model(model, ["serve"])
    signature = loaded.signatures["serving_default"]
    (fed,) = (tensor.name for tensor in signature.inputs.values())
    fetched = [tensor.name for tensor in signature.outputs.values()]
    return lambda batch: loaded.run({fed: batch}, fetched)


def _timed(
    call: Callable[[np.ndarray], Any], batches: list[np.ndarray], arguments: argparse.Namespace
) -> dict[str, float]:
    seconds: list[float] = []
    end = time.perf_counter() + arguments.seconds

    def work(first: int) -> None:
        for batch in itertools.islice(itertools.cycle(batches), first, None):
            start = time.perf_counter()
            if start >= end:
                return
            call(batch)
            seconds.append(time.perf_counter() - start)

    workers = [
        threading.Thread(target=work, args=(7 * number,)) for number in range(arguments.threads)
    ]
    start = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    took = time.perf_counter() - start
    return {
        "rows_per_second": round(len(seconds) * arguments.rows / took, 1),
        "milliseconds": round(float(np.median(seconds)) * 1e3, 3),
    }


def write_requests(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Writes requests of one text each, for gRPC and for REST: base64, one a line."""
    texts = _texts(arguments)
    function = tf.saved_model.load(str(arguments.model)).signatures["serving_default"]
    name = next(iter(function.structured_input_signature[1]))
    grpc, rest = [], []
    for text in texts:
        request = predict_pb2.PredictRequest()
        request.model_spec.name = arguments.name
        request.inputs[name].CopyFrom(tf.make_tensor_proto([text]))
        grpc.append(request.SerializeToString())
        rest.append(json.dumps({"instances": [text]}).encode())
    for way, requests in (("grpc", grpc), ("rest", rest)):
        lines = "\n".join(base64.b64encode(request).decode() for request in requests)
        (arguments.folder / way).write_text(lines + "\n")
    return [{"requests": len(texts)}]


def half_plus_two(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Exports y = x / 2 + 2, with half a million variables more for a memory leak to show."""
    module = tf.Module()
    module.half, module.two = tf.Variable(0.5), tf.Variable(2.0)
    module.ballast = tf.Variable(tf.random.normal([1000, 500]))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def serve(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x * module.half + module.two + 0.0 * module.ballast[0, 0]}

    tf.saved_model.save(module, str(arguments.folder), signatures=serve)
    return [{"folder": str(arguments.folder)}]


def _texts(arguments: argparse.Namespace) -> list[str]:
    import pandas as pd

    return pd.read_csv(arguments.texts)[arguments.column].astype(str).tolist()[:640]


if __name__ == "__main__":
    main()
