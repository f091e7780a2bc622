"""Whether an export that is served answers as the `predict` verb does.

with serving(version) as server:
    check_answers(server, version, {"text": texts}, rows)
    check_signatures(server, version)
    check_card(server, version)
"""

import base64
import contextlib
import io
import json
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    predict_pb2,
)

from tasks.engine.exporting.warmup import read_warmup
from tests.serving.harness import Running, running

SECONDS = 60


@contextmanager
def serving(version: Path) -> Iterator[Running]:
    """A server of the model that an exported version is of, under its folder's name."""
    with running(model_name=version.parent.name, model_base_path=str(version.parent)) as server:
        yield server


def check_answers(
    server: Running,
    version: Path,
    request: Mapping[str, np.ndarray],
    rows: Sequence[Mapping[str, Any]],
) -> None:
    """Asks by REST in both formats and by gRPC.

    Args:
        server: Serves the version's model.
        version: The exported version's folder.
        request: Raw records, an array an input.
        rows: What `predict` answered to each record.
    """
    cells = {name: _cells(name, np.asarray(value)) for name, value in request.items()}
    instances = [dict(zip(cells, row, strict=True)) for row in zip(*cells.values(), strict=True)]
    path = f"/v1/models/{version.parent.name}:predict"

    by_rows = server.post(path, {"instances": instances})
    assert by_rows.status == 200, by_rows.body
    found = by_rows.json["predictions"]
    assert len(found) == len(rows)
    _assert_same({name: [row[name] for row in found] for name in found[0]}, rows)

    by_columns = server.post(path, {"inputs": cells})
    assert by_columns.status == 200, by_columns.body
    _assert_same(by_columns.json["outputs"], rows)

    _assert_same(_predict(server, version.parent.name, "", request), rows)


def check_signatures(server: Running, version: Path) -> None:
    """Sends each signature its own warmup requests by gRPC, once it is seen to be guarded."""
    check_guards(version)
    name = version.parent.name
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = name
    packed = server.prediction.GetModelMetadata(request, SECONDS).metadata["signature_def"]
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert packed.Unpack(signatures)
    asked = set()
    for signature, arrays in read_warmup(version):
        batch = max(len(array) for array in arrays.values() if array.ndim)
        if signature in asked and batch > 8:
            continue  # the server warmed itself up with it
        outputs = _predict(server, name, signature, arrays)
        assert outputs.keys() == set(signatures.signature_def[signature].outputs)
        for output, values in outputs.items():
            assert len(values) == batch, (signature, output)
            assert values.dtype.kind != "f" or np.isfinite(values).all(), (signature, output)
        if signature == "classify":
            _check_classify(server, name, arrays["inputs"], outputs)
        asked.add(signature)
    assert asked == set(signatures.signature_def)


def check_guards(version: Path) -> None:
    """Nothing sees an input before its shape is checked. Read in the file, as kernels that are
    given what they don't expect may end the process."""
    content = (version / "saved_model.pb").read_bytes()
    [meta_graph] = saved_model_pb2.SavedModel.FromString(content).meta_graphs
    graph = meta_graph.graph_def
    functions = {function.signature.name: function for function in graph.library.function}

    def readers(nodes: Any, tensor: str) -> Iterator[str]:
        """The ops that read a tensor, here or in the functions that it is given to."""
        for node in nodes:
            for place, source in enumerate(node.input):
                if source.split(":")[0] != tensor:
                    continue
                if node.op in ("PartitionedCall", "StatefulPartitionedCall"):
                    function = functions[node.attr["f"].func.name]
                    inner = function.signature.input_arg[place].name
                    yield from readers(function.node_def, inner)
                else:
                    yield node.op

    for name, signature in meta_graph.signature_def.items():
        for alias, tensor in signature.inputs.items():
            found = set(readers(graph.node, tensor.name.split(":")[0]))
            assert found == {"EnsureShape"}, (name, alias)


def check_card(server: Running, version: Path) -> None:
    """Runs the model card's command line, and its Python lines, against the server."""
    card = (version / "model_card.md").read_text("utf-8")
    [line] = re.findall(r"```sh\n(.*?)\n```", card, re.DOTALL)
    [program] = re.findall(r"```python\n(.*?)\n```", card, re.DOTALL)
    program = program.replace("localhost:8500", f"127.0.0.1:{server.grpc_port}")
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(program, names)
    outputs = {name: tf.make_ndarray(value) for name, value in names["answer"].outputs.items()}
    assert outputs and all(repr(name) in printed.getvalue() for name in outputs)
    if not shutil.which("curl"):
        return
    line = line.replace("localhost:8501", f"127.0.0.1:{server.rest_port}")
    line = line.replace("curl ", "curl --silent --show-error --fail --noproxy '*' ")
    done = subprocess.run(["sh", "-c", line], capture_output=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    [row] = json.loads(done.stdout)["predictions"]
    _assert_same(outputs, [row if isinstance(row, dict) else {next(iter(outputs)): row}])


def _predict(
    server: Running, name: str, signature: str, arrays: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = signature
    for key, value in arrays.items():
        request.inputs[key].CopyFrom(tf.make_tensor_proto(value))
    answer = server.prediction.Predict(request, SECONDS)
    return {key: tf.make_ndarray(value) for key, value in answer.outputs.items()}


def _check_classify(
    server: Running, name: str, examples: np.ndarray, outputs: Mapping[str, np.ndarray]
) -> None:
    request = classification_pb2.ClassificationRequest()
    request.model_spec.name = name
    request.model_spec.signature_name = "classify"
    request.input.example_list.examples.extend(map(tf.train.Example.FromString, examples))
    answer = server.prediction.Classify(request, SECONDS).result.classifications
    labels = [[each.label.encode() for each in row.classes] for row in answer]
    np.testing.assert_array_equal(labels, outputs["classes"])
    scores = [[each.score for each in row.classes] for row in answer]
    np.testing.assert_allclose(scores, outputs["scores"], atol=1e-4)


def _cells(name: str, values: np.ndarray) -> list[Any]:
    """An input's values as JSON has them."""
    return _json_value(name.endswith("_bytes"), values.tolist())


def _json_value(binary: bool, value: Any) -> Any:
    if isinstance(value, list):
        return [_json_value(binary, inner) for inner in value]
    if isinstance(value, bytes):
        return {"b64": base64.b64encode(value).decode()} if binary else value.decode()
    return value


def _assert_same(outputs: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> None:
    """Compares outputs with rows, which may have more in them: what they repeat of a record."""
    assert outputs and outputs.keys() <= rows[0].keys()
    for name, values in outputs.items():
        found, expected = np.array(values), np.array([row[name] for row in rows])
        if expected.dtype.kind in "fiu":
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4, err_msg=name)
        else:
            texts = [tf.compat.as_text(text) for text in found.ravel().tolist()]
            assert texts == expected.ravel().tolist(), name
