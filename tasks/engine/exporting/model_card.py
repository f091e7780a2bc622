"""The model card: what a stranger needs before they trust or call an exported model."""

import base64
import json
import shlex
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import numpy as np
from tensorflow.types.experimental import ConcreteFunction

from tasks.engine.config_file import write_yaml
from tasks.engine.exporting.warmup import input_specs
from tasks.engine.showing.markdown import escape, table

_SPLITS = ("train", "validation", "test")

# Bytes of a picture, or whatever isn't text, that an example has in it; of longer ones, it reads a
# file.
_LONGEST = 1000
_LONG = "<base64 of a file>"


def model_card(
    *,
    name: str,
    task: str,
    metrics: Mapping[str, Any],
    config: Mapping[str, Any],
    functions: Mapping[str, ConcreteFunction],
    request: Mapping[str, np.ndarray],
    base: str | None = None,
) -> str:
    """A model card in Markdown.

    Args:
        name: The model's name in the server: the folder's name under saved_models/.
        task: What it does: "text_classification".
        metrics: What metrics.json holds: `parameters`, and by split counts and metrics.
        config: The run's config by section, as config.yaml has it.
        functions: The exported functions by signature name.
        request: A real raw request to `serving_default`; its first row becomes the example.
        base: What training started from: "the preset minilm"; by default what `model.preset` says.
    """
    base = base or config.get("model", {}).get("preset")
    sections = [
        f"# {escape(name)}",
        f"A model for {task.replace('_', ' ')} with {metrics.get('parameters', 0):,} parameters"
        + (f", trained from {escape(base)}." if base else "."),
        "## Data and metrics",
        _data(metrics, config.get("data", {})),
        _metrics(metrics),
        "## Use",
        _use(name, request),
        _signatures(functions),
        "## Intended use and limits",
        _limits(metrics),
        "## Config",
        f"```yaml\n{write_yaml(dict(config))}```",
    ]
    return "\n\n".join(section.strip() for section in sections if section) + "\n"


def curl_line(name: str, request: Mapping[str, np.ndarray], host: str = "localhost:8501") -> str:
    """A line for a POSIX shell that sends the first row of a raw request to the REST API.

    Where a value is a long file, the line reads it from one named `file`.
    """
    row = {key: _json_value(key, np.asarray(value)[0]) for key, value in request.items()}
    body = json.dumps({"instances": [row]}, ensure_ascii=False)
    url = f"http://{host}/v1/models/{quote(name, safe='')}:predict"
    if _LONG not in body:
        return f"curl -d {shlex.quote(body)} {url}"
    parts = [f"printf %s {shlex.quote(part)}" for part in body.split(_LONG)]
    return f"({'; base64 -w0 file; '.join(parts)}) | curl -d @- {url}"


def python_lines(name: str, request: Mapping[str, np.ndarray], host: str = "localhost:8500") -> str:
    """A Python program that sends the first row of a raw request through gRPC."""
    inputs = "\n".join(
        f"request.inputs[{key!r}].CopyFrom(tf.make_tensor_proto({_literal(np.asarray(value)[:1])}))"
        for key, value in request.items()
    )
    return f"""\
import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

server = prediction_service_pb2_grpc.PredictionServiceStub(grpc.insecure_channel({host!r}))
request = predict_pb2.PredictRequest()
request.model_spec.name = {name!r}
{inputs}
answer = server.Predict(request, 10)  # waits at most 10 seconds
print({{name: tf.make_ndarray(value) for name, value in answer.outputs.items()}})"""


def _use(name: str, request: Mapping[str, np.ndarray]) -> str:
    return f"""\
Send raw input: all that the model needs done to it is in the graph. To a TensorFlow Serving with
its REST API on port 8501, or gRPC on 8500 (`pip install tensorflow-serving-api`):

```sh
{curl_line(name, request)}
```

```python
{python_lines(name, request)}
```"""


def _json_value(name: str, value: Any) -> Any:
    """A value as REST takes it: text as a string, other bytes as base64, numbers as they are."""
    if isinstance(value, bytes):
        text = None if name.endswith("_bytes") else _text(value)
        if text is None and len(value) > _LONGEST:
            return {"b64": _LONG}
        return {"b64": base64.b64encode(value).decode("ascii")} if text is None else text
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _literal(batch: np.ndarray) -> str:
    if batch.dtype.kind not in "OSU":
        return f"{batch.tolist()!r}, {batch.dtype.name!r}"
    cell = batch.tolist()[0]
    if isinstance(cell, bytes):
        text = _text(cell)
        if text is None and len(cell) > _LONGEST:
            return "[open('file', 'rb').read()]"
        cell = cell if text is None else text
    return repr([cell])


def _text(value: bytes) -> str | None:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _data(metrics: Mapping[str, Any], data: Mapping[str, Any]) -> str:
    rows = []
    for split in _SPLITS:
        examples = metrics.get(split, {}).get("examples")
        source = data.get(split) or (examples and "held out") or ""
        names = source if isinstance(source, str) else ", ".join(map(str, source))
        if names or examples:
            rows.append([split, names, "" if examples is None else f"{examples:,}"])
    return table(["split", "from", "examples"], rows, numbers=["examples"]) if rows else ""


def _metrics(metrics: Mapping[str, Any]) -> str:
    """One row a metric, one column a split."""
    splits = [split for split in ("validation", "test") if metrics.get(split)]
    names = dict.fromkeys(
        name
        for split in splits
        for name, value in metrics[split].items()
        if isinstance(value, float)
    )
    rows = [[name, *(_number(metrics[split].get(name)) for split in splits)] for name in names]
    return table(["metric", *splits], rows, numbers=splits) if rows else ""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _signatures(functions: Mapping[str, ConcreteFunction]) -> str:
    rows = []
    for signature, function in functions.items():
        for way, tensors in (
            ("in", input_specs(function)),
            ("out", function.structured_outputs),
        ):
            rows += [
                [signature, way, name, tensor.dtype.name, _shape(tensor.shape)]
                for name, tensor in tensors.items()
            ]
    return table(["signature", "", "name", "dtype", "shape"], rows)


def _shape(shape: Any) -> str:
    if shape.rank is None:
        return "any"
    return ", ".join("batch" if size is None else str(size) for size in shape) or "one"


def _limits(metrics: Mapping[str, Any]) -> str:
    limits = [
        "It is meant for records like those it was trained on. The metrics say how it does on the "
        "data named above, and nothing of other sources, languages or times: judge it on your own "
        "data before you rely on it.",
        "It repeats what its data and starting weights hold, their biases included. It was not "
        "audited for fairness; do not let it decide alone about people.",
        "The warmup requests and the example above are real records of the data.",
    ]
    classes = metrics.get("test", metrics.get("validation", {})).get("per_class")
    if classes:
        limits.insert(
            1,
            f"It always answers with one of its {len(classes)} classes (`assets/labels.txt`), also "
            "where none fits, and a score is only as honest as the calibration error says.",
        )
    return "\n".join(f"- {limit}" for limit in limits)
