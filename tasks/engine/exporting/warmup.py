"""The warmup file of a SavedModel: requests that a server sends itself before it takes any.

It is a TFRecord of PredictionLogs in `assets.extra/`. One record that fails keeps the whole model
from loading, so what is written is also read and replayed here, by `export_check`.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.types.experimental import ConcreteFunction
from tensorflow_serving.apis import prediction_log_pb2

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
WARMUP_LIMIT = 1000  # records; the server refuses a longer file
WARMUP_BATCH_SIZES = (1, 8, 32)

Arrays = dict[str, np.ndarray]


def write_warmup(
    saved_model: Path,
    model: str,
    signatures: Mapping[str, ConcreteFunction],
    requests: Sequence[Mapping[str, np.ndarray]],
) -> None:
    """Writes requests of several batch sizes to every signature, the default signature first.

    Args:
        saved_model: The version's folder.
        model: The model's name in the server.
        signatures: The functions to warm up by name, `serving_default` among them.
        requests: Raw requests to `serving_default`. Their rows are put together and, repeated or
            cut, make up each batch. A signature whose only input is `inputs` gets the rows as
            serialized `tf.train.Example`s; one that takes others, of a known shape, gets zeros
            and empty texts.

    Raises:
        ValueError: a signature has an input that requests lack, of an unknown shape.
    """
    path = saved_model / WARMUP_FILE
    path.parent.mkdir(exist_ok=True)
    raw = input_specs(signatures["serving_default"])
    batches = [
        {name: value[np.arange(size) % len(value)] for name, value in rows.items()}
        for rows in _joined(requests, raw)
        for size in WARMUP_BATCH_SIZES
    ]
    with tf.io.TFRecordWriter(str(path)) as writer:
        for name in sorted(signatures, key=lambda name: name != "serving_default"):
            specs = input_specs(signatures[name])
            for batch in batches:
                writer.write(_prediction_log(model, name, specs, batch).SerializeToString())


def read_warmup(saved_model: Path) -> Iterator[tuple[str, Arrays]]:
    """The signature and arguments of each Predict request in the warmup file, if there is one."""
    path = saved_model / WARMUP_FILE
    if not path.exists():
        return
    for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        if log.HasField("predict_log"):
            request = log.predict_log.request
            signature = request.model_spec.signature_name or "serving_default"
            yield signature, {name: tf.make_ndarray(t) for name, t in request.inputs.items()}


def input_specs(function: ConcreteFunction) -> dict[str, tf.TensorSpec]:
    """The inputs of a signature by name."""
    positional, named = function.structured_input_signature
    return {spec.name: spec for spec in positional} | named


def _prediction_log(
    model: str, signature: str, specs: Mapping[str, tf.TensorSpec], request: Arrays
) -> prediction_log_pb2.PredictionLog:
    if specs.keys() == {"inputs"} and "inputs" not in request:
        request = {"inputs": np.array(list(_examples(request)), dtype=object)}
    rows = len(next(iter(request.values())))
    other = {name: spec for name, spec in specs.items() if name not in request}
    if any(None in spec.shape[1:] for spec in other.values()):
        raise ValueError(f"the requests lack inputs of {signature}: {', '.join(specs)}")
    zeros = {
        name: np.full(
            [rows, *spec.shape[1:]] if spec.shape.rank else [],
            "" if spec.dtype == tf.string else 0,
        )
        for name, spec in other.items()
    }
    request = {**request, **zeros}
    log = prediction_log_pb2.PredictionLog()
    predict = log.predict_log.request
    predict.model_spec.name = model
    predict.model_spec.signature_name = signature
    for name, spec in specs.items():
        predict.inputs[name].CopyFrom(tf.make_tensor_proto(request[name], spec.dtype))
    return log


def _examples(request: Arrays) -> Iterator[bytes]:
    """Each row of a request as a serialized tf.train.Example with the inputs as features."""
    for row in zip(*request.values(), strict=True):
        example = tf.train.Example()
        for name, value in zip(request, row, strict=True):
            # As objects: NumPy's own strings lose the zeros that a file may end with.
            kind = object if isinstance(value, str | bytes) else None
            feature, values = example.features.feature[name], np.asarray(value, kind).ravel()
            if values.dtype.kind in "OSU":
                feature.bytes_list.value.extend(tf.compat.as_bytes(v) for v in values.tolist())
            elif values.dtype.kind in "iub":
                feature.int64_list.value.extend(values.tolist())
            else:
                feature.float_list.value.extend(values.tolist())
        yield example.SerializeToString()


def _joined(
    requests: Sequence[Mapping[str, np.ndarray]], specs: Mapping[str, tf.TensorSpec]
) -> list[Arrays]:
    """The rows of all requests as one, or, of those whose rows differ in shape, as several."""
    groups: dict[tuple, list[Arrays]] = {}
    for request in requests:
        if request.keys() != specs.keys():
            raise ValueError(f"a request has {', '.join(request)} for {', '.join(specs)}")
        arrays = {
            name: np.asarray(request[name], object if dtype == tf.string else dtype.as_numpy_dtype)
            for name, dtype in ((name, spec.dtype) for name, spec in specs.items())
        }
        groups.setdefault(tuple(a.shape[1:] for a in arrays.values()), []).append(arrays)
    return [
        {name: np.concatenate([arrays[name] for arrays in group]) for name in specs}
        for group in groups.values()
    ]
