"""One figure of an export or of the server that serves it, measured in this process.

    python -m benchmarks.ours.serving in_process --model saved_models/banking77/1 --texts FILE
    python -m benchmarks.ours.serving requests --model saved_models/banking77/1 --texts FILE FOLDER
    python -m benchmarks.ours.serving half_plus_two FOLDER

The first loads the SavedModel and calls its `serving_default` on strings, as a Python program
would; the others make what the benchmark sends and serves.
"""

import argparse
import base64
import itertools
import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from tasks.engine.quiet import quiet_imports

with quiet_imports():
    import tensorflow as tf
    import tensorflow_text  # noqa: F401
    from tensorflow_serving.apis import predict_pb2


def main() -> None:
    """Does what the arguments name, and prints its figures as JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(required=True)
    measure = commands.add_parser("in_process")
    measure.add_argument("--rows", type=int, default=1)
    measure.add_argument("--threads", type=int, default=1)
    measure.add_argument("--seconds", type=float, default=10.0)
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
    print(json.dumps(arguments.do(arguments)), flush=True)


def in_process(arguments: argparse.Namespace) -> dict[str, Any]:
    """Rows a second of calls from some threads, and the milliseconds of a call."""
    function = tf.saved_model.load(str(arguments.model)).signatures["serving_default"]
    name = next(iter(function.structured_input_signature[1]))
    texts, rows = _texts(arguments), arguments.rows
    batches = [tf.constant(texts[at : at + rows]) for at in range(0, len(texts) - rows + 1, rows)]
    for batch in batches[:20]:
        function(**{name: batch})
    seconds: list[float] = []
    end = time.perf_counter() + arguments.seconds

    def work(first: int) -> None:
        for batch in itertools.islice(itertools.cycle(batches), first, None):
            start = time.perf_counter()
            if start >= end:
                return
            outputs = function(**{name: batch})
            for output in outputs.values():
                output.numpy()
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
        "rows_per_second": round(len(seconds) * rows / took, 1),
        "milliseconds": round(float(np.median(seconds)) * 1e3, 3),
    }


def write_requests(arguments: argparse.Namespace) -> dict[str, Any]:
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
    return {"requests": len(texts)}


def half_plus_two(arguments: argparse.Namespace) -> dict[str, Any]:
    """Exports y = x / 2 + 2, with half a million variables more for a memory leak to show."""
    module = tf.Module()
    module.half, module.two = tf.Variable(0.5), tf.Variable(2.0)
    module.ballast = tf.Variable(tf.random.normal([1000, 500]))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
    def serve(x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": x * module.half + module.two + 0.0 * module.ballast[0, 0]}

    tf.saved_model.save(module, str(arguments.folder), signatures=serve)
    return {"folder": str(arguments.folder)}


def _texts(arguments: argparse.Namespace) -> list[str]:
    import pandas as pd

    return pd.read_csv(arguments.texts)[arguments.column].astype(str).tolist()[:640]


if __name__ == "__main__":
    main()
