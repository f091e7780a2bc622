"""Bad input: whatever is sent, the server answers soon, with an error that tells nothing of itself.

All inputs go to one server in this process, which has to answer a good request afterwards, and must
not have kept much memory.
"""

import gc
import http.client
import json
import re
import socket
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import psutil
import pytest
import tensorflow as tf
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)
from tensorflow_serving.config import model_server_config_pb2

from tasks.protocol.errors import ServingError
from tasks.serving.configs import check_models
from tests.serving.harness import Running, running

SECONDS = 5
MOST_GROWTH = 200e6  # bytes

# How many inputs each test tries, of which `fuzz` makes sure: more than 10,000 together.
INPUTS = {
    "random bodies": 700,
    "mutated bodies": 2000,
    "structured bodies": 1200,
    "deep bodies": 20,
    "requests": 1100,
    "packed bodies": 300,
    "raw sockets": 400,
    "random messages": 700,
    "mutated messages": 1600,
    "tensors": 1200,
    "examples": 600,
    "specs": 600,
    "configs": 500,
}


def fuzz(name: str, inputs: st.SearchStrategy[Any], check: Callable[[Any], None]) -> None:
    """Checks as many inputs as `INPUTS` says, the same ones each time."""
    tried = 0

    @settings(
        max_examples=INPUTS[name],
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs)
    def attempt(value: Any) -> None:
        nonlocal tried
        tried += 1
        check(value)

    attempt()
    assert tried >= INPUTS[name]


# The server


TYPES = (tf.float64, tf.int32, tf.int64, tf.uint8, tf.bool, tf.half)


class Floats(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, "x")])
    def serve(self, x):
        return {"y": x * 0.5 + 2}

    @tf.function(input_signature=[tf.TensorSpec(None, dtype, dtype.name) for dtype in TYPES])
    def types(self, float64, int32, int64, uint8, bool, float16):
        return {"a": float64 + 1, "b": int32 + 1, "c": int64 + 1, "d": uint8 + 1, "e": ~bool}


class Texts(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
    def serve(self, text):
        return {"upper": tf.strings.upper(text), "as_bytes": tf.strings.upper(text)}


class Pair(tf.Module):
    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.float32, "a"),
            tf.TensorSpec([None, None], tf.int64, "b"),
        ]
    )
    def serve(self, a, b):
        return {"sum": a + tf.cast(tf.reduce_sum(b, 1), tf.float32)}


class Examples(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
    def classify(self, inputs):
        value = self.value(inputs)
        labels = tf.tile([["low", "high"]], [tf.size(inputs), 1])
        return {"classes": labels, "scores": tf.concat([1 - value, value], 1)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
    def regress(self, inputs):
        return {"outputs": self.value(inputs)}

    def value(self, inputs):
        features = {"x": tf.io.FixedLenFeature([1], tf.float32)}
        return tf.io.parse_example(inputs, features)["x"]


def write_models(folder: Path) -> str:
    """A config of four models."""
    floats, texts, pair, examples = Floats(), Texts(), Pair(), Examples()
    models = {
        "floats": (floats, {"serving_default": floats.serve, "types": floats.types}),
        "texts": (texts, {"serving_default": texts.serve}),
        "pair": (pair, {"serving_default": pair.serve}),
        "examples": (
            examples,
            {"serving_default": examples.classify, "regress": examples.regress},
        ),
    }
    config = model_server_config_pb2.ModelServerConfig()
    for name, (module, signatures) in models.items():
        tf.saved_model.save(module, str(folder / name / "1"), signatures)
        config.model_config_list.config.add(
            name=name, base_path=str(folder / name), model_platform="tensorflow"
        )
    return str(config)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The server; at last it answers as before, and has kept nothing."""
    folder = tmp_path_factory.mktemp("fuzzed")
    (folder / "models.config").write_text(write_models(folder))
    with running(model_config_file=str(folder / "models.config")) as found:
        assert_well(found)
        before = memory()
        yield found
        assert_well(found)
        assert memory() - before < MOST_GROWTH


def memory() -> int:
    gc.collect()
    return psutil.Process().memory_info().rss


def assert_well(server: Running) -> None:
    answers = {
        "floats": ({"instances": [[1, 2]]}, {"predictions": [[2.5, 3.0]]}),
        "texts": ({"inputs": ["é"]}, {"outputs": {"upper": ["é"], "as_bytes": [{"b64": "w6k="}]}}),
        "pair": ({"instances": [{"a": 1.5, "b": [1, 2]}]}, {"predictions": [4.5]}),
    }
    for name, (body, expected) in answers.items():
        assert server.post(f"/v1/models/{name}:predict", body).json == expected
    body = {"examples": [{"x": 0.25}]}
    assert server.post("/v1/models/examples:classify", body).json == {
        "results": [[["low", 0.75], ["high", 0.25]]]
    }


# What no answer may be

SECRETS = [str(Path(__file__).parents[2]), sys.prefix, f"{tempfile.gettempdir()}/"]
SECRETS += ["Traceback", 'File "', "<class", "site-packages"]
_SECRET = re.compile("|".join(map(re.escape, SECRETS)).encode())
_FINE = {501, 503, *range(200, 300), *range(400, 500)}


def assert_fine(path: str, status: int, body: bytes) -> None:
    assert status in _FINE, (status, body)
    assert not _SECRET.search(body), body
    if path[:4].lower() == "/v1/":
        answer = json.loads(body.decode("utf-8", "surrogateescape"))
        if status >= 400:
            assert answer.keys() == {"error"} and isinstance(answer["error"], str)


class Rest:
    """A connection that is kept."""

    def __init__(self, port: int) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)

    def ask(self, method: str, path: str, body: bytes | None, headers: dict[str, str]) -> int:
        try:
            self.connection.request(method, path, body, headers)
            # On the loop of the tests' server, headers wait for their acknowledgement: give it.
            self.connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            with self.connection.getresponse() as answer:
                content = answer.read()
        except BaseException:
            self.connection.close()
            raise
        if method == "OPTIONS" and path[:4].lower() == "/v1/":
            assert answer.status in (200, 400) and not content  # of a preflight
        elif method != "HEAD":
            assert_fine(path, answer.status, content)
        return answer.status

    def post(self, path: str, body: bytes) -> int:
        return self.ask("POST", path, body, {})


@pytest.fixture
def rest(server):
    kept = Rest(server.rest_port)
    yield kept
    kept.connection.close()


@pytest.fixture
def send(server):
    """Sends a gRPC method bytes, whatever they are."""
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        calls = {path: channel.unary_unary(path, None, None) for path in METHODS}

        def call(path: str, content: bytes) -> grpc.StatusCode:
            try:
                calls[path](content, timeout=SECONDS)
                return grpc.StatusCode.OK
            except grpc.RpcError as error:
                assert error.code() not in _BAD, (path, error.code(), error.details())
                details = error.details().encode("utf-8", "surrogateescape")
                assert not _SECRET.search(details), details
                return error.code()

        yield call


_BAD = {
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.CANCELLED,
}

# Bytes, and what is done to them

NESTED = 30_000
_PIECES = st.one_of(
    st.binary(min_size=1, max_size=6),
    st.sampled_from(
        [
            *(b"[", b"]", b"{", b"}", b'"', b",", b":", b"\\", b"0", b"-", b".", b"e", b"\0"),
            *(b"null", b"true", b"NaN", b"-Infinity", b"1e999", b"-0.0", b"1e-999", b"9" * 400),
            *(b"1.5", b"18446744073709551616", b"-9223372036854775809", b"9" * 5000),
            *(b'"\\ud800"', b'"\\udc00\\ud800"', b'"\\u0000"', b"\xff\xfe", b"\xed\xa0\x80"),
            *(b'"instances":', b'"inputs":', b'"signature_name":', b'"examples":', b'"b64":'),
            *(b'{"b64": "!"}', b'{"b64": 1}', b'{"b64": "aGk=", "b64": "aGk="}', b"[[[[]]]]"),
            *(b'"a":1,', b'"x":[],', b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\x0a\x7f"),
        ]
    ),
)
_EDITS = st.lists(
    st.tuples(st.integers(0, 4), st.floats(0, 1), st.floats(0, 0.3), _PIECES),
    min_size=1,
    max_size=4,
)


def edited(content: bytes, edits: list[tuple[int, float, float, bytes]]) -> bytes:
    for kind, at, length, piece in edits:
        start = round(at * len(content))
        end = start + round(length * len(content))
        if kind == 0:
            content = content[:start] + content[end:]
        elif kind == 1:
            content = content[:start] + piece + content[start:]
        elif kind == 2:
            content = content[:start] + piece + content[start + len(piece) :]
        elif kind == 3:
            content = content[:end] + content[start:]
        else:
            content = content[:start]
    return content


def mutated(bases: list[Any]) -> st.SearchStrategy[tuple[Any, bytes]]:
    """Targets, and good bytes for one of them that were changed."""
    targets = [target for target, _ in bases]
    return st.tuples(
        st.integers(0, len(bases) - 1), st.none() | st.sampled_from(targets), _EDITS
    ).map(lambda drawn: (drawn[1] or bases[drawn[0]][0], edited(bases[drawn[0]][1], drawn[2])))


# REST

_BODIES = [
    ("/v1/models/floats:predict", {"instances": [[1, 2], [3.5, -4e3]]}),
    ("/v1/models/floats:predict", {"signature_name": "serving_default", "inputs": [[1, 2]]}),
    ("/v1/models/floats:predict", {"inputs": {"x": [[1.0, 2.0]]}}),
    (
        "/v1/models/floats:predict",
        {
            "signature_name": "types",
            "inputs": {
                "float64": [1.5],
                "int32": [[-1]],
                "int64": 7,
                "uint8": [255],
                "bool": [True, False],
                "float16": [],
            },
        },
    ),
    ("/v1/models/texts:predict", {"instances": ["a", {"b64": "aGVsbG8="}, "\u00e9\U0001f600"]}),
    ("/v1/models/texts/versions/1:predict", {"instances": [{"text": "one"}, {"text": "two"}]}),
    ("/v1/models/pair:predict", {"instances": [{"a": 1, "b": [2, 3]}, {"a": 4, "b": [5, 6]}]}),
    ("/v1/models/pair:predict", {"inputs": {"a": [1.5, 2], "b": [[1], [2]]}}),
    ("/v1/models/examples:classify", {"examples": [{"x": 0.5}, {"x": [1.5], "y": ["a", "b"]}]}),
    (
        "/v1/models/examples:regress",
        {"signature_name": "regress", "context": {"z": 1}, "examples": [{"x": 2.5}]},
    ),
]
BODIES = [(path, json.dumps(body).encode()) for path, body in _BODIES]
BODIES += [(path, json.dumps(body, ensure_ascii=False).encode()) for path, body in _BODIES[4:6]]
POSTS = st.sampled_from(sorted({path for path, _ in BODIES}))


def test_the_bodies_that_are_changed_are_good_ones(rest):
    for path, body in BODIES:
        assert rest.post(path, body) == 200, body


def test_random_bodies(rest):
    inputs = st.tuples(POSTS, st.binary(max_size=60) | st.text(max_size=30).map(str.encode))
    fuzz("random bodies", inputs, lambda drawn: rest.post(*drawn))


def test_mutated_bodies(rest):
    fuzz("mutated bodies", mutated(BODIES), lambda drawn: rest.post(*drawn))


_NAMES = st.sampled_from(["x", "a", "b", "text", "b64", "instances", "inputs", "\0", "\u00e9", ""])
_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70) | st.integers(-2, 300),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from([{"b64": "aGk="}, {"b64": "aGk"}, {"b64": "\ud800"}, {"b64": None}]),
)
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(_NAMES, inner, max_size=3)
        | inner.map(lambda value: [value, value])
        | inner.map(lambda value: {"a": value, "b": value})
    ),
    max_leaves=6,
)
_SIGNATURE_NAMES = st.sampled_from(["serving_default", "types", "regress", "", "none", None, 1, []])
_DOCUMENTS = st.one_of(
    st.builds(lambda value: {"instances": value}, st.lists(_VALUES, max_size=3) | _VALUES),
    st.builds(lambda value: {"inputs": value}, _VALUES),
    st.builds(
        lambda examples, context: {"examples": examples} | context,
        st.lists(st.dictionaries(_NAMES, _VALUES, max_size=3) | _VALUES, max_size=3) | _VALUES,
        st.fixed_dictionaries({}, optional={"context": _VALUES}),
    ),
    st.builds(
        lambda name, value: {"signature_name": name, "inputs": value, "instances": value},
        _SIGNATURE_NAMES,
        _VALUES,
    ),
    st.fixed_dictionaries(
        {"signature_name": _SIGNATURE_NAMES},
        optional={"instances": _VALUES, "inputs": _VALUES, "examples": _VALUES},
    ),
    _VALUES,
)


def test_structured_bodies(rest):
    inputs = st.tuples(POSTS, _DOCUMENTS)
    fuzz(
        "structured bodies",
        inputs,
        lambda drawn: rest.post(drawn[0], json.dumps(drawn[1]).encode()),
    )


def test_deep_and_long_bodies(rest):
    opened = st.sampled_from([b"[", b'{"a":', b'{"b64":', b'[{"x":', b"[[1],", b"-", b"[1e5,"])
    places = [b'{"instances":%s', b'{"inputs":%s', b'{"examples":[{"x":%s', b"%s", b'{"q":%s']
    closed = st.sampled_from([b"", b"0", b"0" + b"]" * NESTED + b"}", b"0" + b"}" * NESTED + b"}"])
    inputs = st.tuples(POSTS, st.sampled_from(places), opened, closed)
    fuzz(
        "deep bodies",
        inputs,
        lambda drawn: rest.post(drawn[0], drawn[1] % (drawn[2] * NESTED) + drawn[3]),
    )


_PARTS = st.sampled_from(
    [
        *("/", "/v1", "/v1/", "/V1/Models", "/models", "/floats", "/texts", "/none", "/versions"),
        *("/1", "/0", "/-1", "/99999999999999999999", "/" + "9" * 5000, "/labels", "/stable"),
        *(":predict", ":CLASSIFY", ":regress", ":", "/metadata", "/metadata/", "%00", "%", "%zz"),
        *("%ff%fe", "%2e%2e", "/..", "//", "?a=b", "#", ";", "/healthz", "/readyz", "/playground"),
        *("/playground/models", "/monitoring/prometheus/metrics", "*", "%F0%9F%98%80", "@", "~"),
    ]
)
_METHODS = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "TRACE", "PROPFIND"]
_HEADERS = st.dictionaries(
    st.sampled_from(
        [
            *("Content-Encoding", "Content-Type", "Accept", "Accept-Encoding", "Origin", "Host"),
            *("Range", "If-None-Match", "X-Forwarded-For", "Cookie", "Upgrade", "Connection"),
        ]
    ),
    st.sampled_from(["", "gzip", "identity", "br", "gzip, gzip", "\xff", "*/*", "x" * 3000, "a,b"])
    | st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=8),
    max_size=3,
)


def test_requests_with_random_methods_paths_and_headers(rest):
    paths = st.lists(_PARTS, min_size=1, max_size=6).map("".join) | st.text(
        st.characters(min_codepoint=33, max_codepoint=126), max_size=20
    ).map(lambda text: f"/v1/{text}")
    paths = paths.map(lambda path: path if path.startswith("/") else f"/{path}")
    bodies = st.sampled_from([None, b"", b"{}", BODIES[0][1], b"\x1f\x8b\x08"])
    inputs = st.tuples(st.sampled_from(_METHODS), paths, bodies, _HEADERS)
    fuzz("requests", inputs, lambda drawn: rest.ask(*drawn))


def test_packed_bodies_that_are_cut_or_changed(rest):
    import gzip

    packed = [(path, gzip.compress(body, mtime=0)) for path, body in BODIES[:3]]
    packed.append((BODIES[0][0], gzip.compress(b" " * 3_000_000, mtime=0)))
    header = {"Content-Encoding": "gzip"}
    fuzz("packed bodies", mutated(packed), lambda drawn: rest.ask("POST", *drawn, header))


_STARTS = [
    b"POST /v1/models/floats:predict HTTP/1.1\r\nHost: a\r\n",
    b"GET /v1/models/floats HTTP/1.1\r\nHost: a\r\n",
    b"POST /v1/models/floats:predict HTTP/1.0\r\n",
    b"POST /v1/models/examples:classify HTTP/1.1\r\n",
    b"CONNECT a:1 HTTP/1.1\r\n",
    b"GET http://a/v1/models/floats HTTP/1.1\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
]
_LINES = [
    *(b"Content-Length: 29\r\n", b"Content-Length: -1\r\n", b"Content-Length: 5\r\n"),
    *(
        b"Content-Length: 99999999999999999999\r\n",
        b"Content-Length: a\r\n",
        b"Content-Length:\r\n",
    ),
    *(b"Content-Length: 1000000000000\r\n", b"Transfer-Encoding: chunked\r\n", b"X: \0\r\n"),
    *(b"Transfer-Encoding: gzip, chunked\r\n", b"Expect: 100-continue\r\n", b"no colon\r\n"),
    *(b"Upgrade: websocket\r\nConnection: Upgrade\r\n", b"Upgrade: h2c\r\nConnection: Upgrade\r\n"),
    *(b"Content-Encoding: gzip\r\n", b"Connection: close\r\n", b" folded\r\n", b"\xff: \xff\r\n"),
    *(b"X: " + b"x" * 70_000 + b"\r\n", b"X: y\n", b"\r"),
]
_ENDS = [
    *(b"", b"\r\n", b'\r\n{"instances": [[1.0, 2.0]]}  ', b'\r\n5\r\n{"ins\r\n', b"\r\nzz\r\n"),
    *(b"\r\n5\r\nhello\r\n0\r\n\r\n", b"\r\nfffffffffffffffff\r\n", b"\r\n-1\r\n", b"\r\n0\r\n"),
    *(b"\r\n1;" + b"x" * 9000 + b"\r\n", b"\r\n5\r\nhelloXX", b"\r\n\x1f\x8b\x08\0\0"),
]


def test_raw_sockets_that_break_http(server):
    def check(drawn: tuple[bytes, list[bytes], bytes, bool]) -> None:
        start, lines, end, waits = drawn
        with socket.create_connection(("127.0.0.1", server.rest_port), SECONDS) as connection:
            try:
                connection.sendall(start + b"".join(lines) + end)
                if not waits:
                    return
                connection.shutdown(socket.SHUT_WR)  # so that the server waits for nothing more
                answer = b""
                while chunk := connection.recv(65536):
                    answer += chunk
            except ConnectionError:
                return  # closed before all was read
        assert not _SECRET.search(answer), answer
        for status in re.findall(rb"^HTTP/1.1 (\d+)", answer, re.MULTILINE):
            assert int(status) in {*_FINE, 100}, answer

    lines = st.lists(st.sampled_from(_LINES), max_size=3)
    inputs = st.tuples(st.sampled_from(_STARTS), lines, st.sampled_from(_ENDS), st.booleans())
    fuzz("raw sockets", inputs, check)


# gRPC

_PREDICTION = "/tensorflow.serving.PredictionService/"
_MODEL = "/tensorflow.serving.ModelService/"
RELOAD = _MODEL + "HandleReloadConfigRequest"


def good_messages() -> list[tuple[str, bytes]]:
    """For each method, requests that it answers."""
    messages: list[tuple[str, Any]] = []
    for name, inputs in [
        ("floats", {"x": tf.constant([[1.0, 2.0]])}),
        ("texts", {"text": tf.constant(["a", "b\xff"])}),
        ("pair", {"a": tf.constant([1.0, 2.0]), "b": tf.constant([[1], [2]], tf.int64)}),
    ]:
        predict = predict_pb2.PredictRequest()
        predict.model_spec.name = name
        predict.model_spec.signature_name = "serving_default"
        for key, value in inputs.items():
            predict.inputs[key].CopyFrom(tf.make_tensor_proto(value))
        messages.append((_PREDICTION + "Predict", predict))
    example = tf.train.Example()
    example.features.feature["x"].float_list.value.append(0.5)
    for method, kind in [
        ("Classify", classification_pb2.ClassificationRequest),
        ("Regress", regression_pb2.RegressionRequest),
    ]:
        request = kind()
        request.model_spec.name = "examples"
        request.model_spec.signature_name = "regress" if method == "Regress" else ""
        request.input.example_list.examples.extend([example, example])
        messages.append((_PREDICTION + method, request))
    several = inference_pb2.MultiInferenceRequest()
    for method, signature in [("classify", "serving_default"), ("regress", "regress")]:
        task = several.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name = "examples"
        task.model_spec.signature_name = signature
    # Each signature has an input of its own, so two at once are refused.
    del several.tasks[1]
    several.input.example_list_with_context.context.CopyFrom(example)
    several.input.example_list_with_context.examples.extend([example])
    messages.append((_PREDICTION + "MultiInference", several))
    metadata = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    metadata.model_spec.name = "pair"
    messages.append((_PREDICTION + "GetModelMetadata", metadata))
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "pair"
    status.model_spec.version.value = 1
    messages.append((_MODEL + "GetModelStatus", status))
    return [(path, message.SerializeToString()) for path, message in messages]


MESSAGES = good_messages()
METHODS = sorted({path for path, _ in MESSAGES} | {RELOAD})


def is_harmless(path: str, content: bytes) -> bool:
    """Whether this is no config that the server would take, and serve other models then."""
    if path != RELOAD:
        return True
    try:
        request = model_management_pb2.ReloadConfigRequest.FromString(content)
        if request.config.WhichOneof("config") == "model_config_list":
            check_models(request.config.model_config_list, None)
            return False
    except (DecodeError, ServingError):
        pass
    return True


def sent(send: Callable[[str, bytes], Any]) -> Callable[[tuple[str, bytes]], None]:
    return lambda drawn: send(*drawn) if is_harmless(*drawn) else None


def test_the_messages_that_are_changed_are_good_ones(send):
    for path, content in MESSAGES:
        assert send(path, content) == grpc.StatusCode.OK, path


def test_random_messages(send):
    inputs = st.tuples(st.sampled_from(METHODS), st.binary(max_size=40))
    fuzz("random messages", inputs, sent(send))


def test_mutated_messages(send):
    reload = model_management_pb2.ReloadConfigRequest()
    reload.config.model_config_list.config.add(name="floats", base_path="x")
    bases = [*MESSAGES, (RELOAD, reload.SerializeToString())]
    fuzz("mutated messages", mutated(bases), sent(send))


_SIZES = st.sampled_from(
    [
        0,
        0,
        1,
        1,
        2,
        2,
        2,
        3,
        -1,
        2**16,
        2**22,
        2**26,
        2**28,
        2**31,
        2**40,
        2**62,
        2**63 - 1,
        -(2**63),
    ]
)
_DTYPES = st.sampled_from([1, 1, 7, 7, 9, 9, *range(32), 101, 120, 121, 999, -1])


@st.composite
def tensors(draw: Any) -> tensor_pb2.TensorProto:
    """Tensors whose type, shape and values need not go together."""
    proto = tensor_pb2.TensorProto(dtype=draw(_DTYPES))
    for size in draw(st.lists(_SIZES, max_size=3)):
        proto.tensor_shape.dim.add(size=size)
    count = draw(st.integers(0, 5))
    field = draw(
        st.sampled_from([None, "float_val", "float_val", "int64_val", "string_val", *_VALS])
    )
    if field in ("string_val",):
        proto.string_val.extend([draw(st.sampled_from([b"", b"a\xff", b"long" * 2000]))] * count)
    elif field in ("resource_handle_val", "variant_val"):
        for _ in range(count):
            getattr(proto, field).add()
    elif field:
        getattr(proto, field).extend([draw(st.integers(0, 2**31 - 1))] * count)
    if draw(st.integers(0, 3)) == 0:
        proto.tensor_content = draw(st.binary(max_size=24))
    if draw(st.integers(0, 15)) == 0:
        proto.tensor_shape.unknown_rank = True
    if draw(st.integers(0, 15)) == 0:
        count, size = draw(st.sampled_from([(300, 1), (5000, 2**62)]))
        for _ in range(count):
            proto.tensor_shape.dim.add(size=size)
    proto.version_number = draw(st.sampled_from([0, 0, 1, -1]))
    return proto


_VALS = ["double_val", "int_val", "bool_val", "half_val", "uint32_val", "uint64_val"]
_VALS += ["scomplex_val", "dcomplex_val", "resource_handle_val", "variant_val"]


def test_tensors_that_contradict_themselves(send):
    def check(drawn: tuple[str, list[tensor_pb2.TensorProto]]) -> None:
        name, protos = drawn
        request = predict_pb2.PredictRequest()
        request.model_spec.name, *aliases = name.split()
        if len(aliases) > 2:
            request.model_spec.signature_name = "types"
        for index, alias in enumerate(aliases):
            request.inputs[alias].CopyFrom(protos[index % len(protos)])
        send(_PREDICTION + "Predict", request.SerializeToString())

    asked = ["floats x", "floats x", "texts text", "pair a b", "examples inputs", "floats x y"]
    asked.append("floats float64 int32 int64 uint8 bool float16")
    inputs = st.tuples(st.sampled_from(asked), st.lists(tensors(), min_size=1, max_size=2))
    fuzz("tensors", inputs, check)


_FEATURES = st.dictionaries(
    st.sampled_from(["x", "x", "y", ""]),
    st.one_of(
        st.lists(st.floats(width=32), max_size=3).map(
            lambda values: tf.train.Feature(float_list=tf.train.FloatList(value=values))
        ),
        st.lists(st.integers(-(2**63), 2**63 - 1), max_size=2).map(
            lambda values: tf.train.Feature(int64_list=tf.train.Int64List(value=values))
        ),
        st.lists(st.binary(max_size=4), max_size=2).map(
            lambda values: tf.train.Feature(bytes_list=tf.train.BytesList(value=values))
        ),
        st.just(tf.train.Feature()),
    ),
    max_size=2,
).map(lambda features: tf.train.Example(features=tf.train.Features(feature=features)))


def test_examples_of_other_features(send):
    def check(drawn: tuple[str, str, str, list[tf.train.Example], bool]) -> None:
        method, name, signature, examples, in_context = drawn
        kinds = {
            "Classify": classification_pb2.ClassificationRequest,
            "Regress": regression_pb2.RegressionRequest,
            "MultiInference": inference_pb2.MultiInferenceRequest,
        }
        request = kinds[method]()
        if method == "MultiInference":
            for task in signature.split() or [""]:
                made = request.tasks.add(method_name=f"tensorflow/serving/{task}")
                made.model_spec.name = name
                made.model_spec.signature_name = task
        else:
            request.model_spec.name = name
            request.model_spec.signature_name = signature
        if in_context:
            request.input.example_list_with_context.examples.extend(examples[1:])
            for example in examples[:1]:
                request.input.example_list_with_context.context.CopyFrom(example)
        else:
            request.input.example_list.examples.extend(examples)
        send(_PREDICTION + method, request.SerializeToString())

    inputs = st.tuples(
        st.sampled_from(["Classify", "Regress", "MultiInference"]),
        st.sampled_from(["examples", "examples", "examples", "floats", "pair", "none", ""]),
        st.sampled_from(["", "regress", "regress", "classify", "regress regress", "none"]),
        st.lists(_FEATURES, max_size=3),
        st.booleans(),
    )
    fuzz("examples", inputs, check)


def test_specs_of_other_models_and_versions(send):
    def check(drawn: tuple[str, SimpleNamespace, list[str]]) -> None:
        method, spec, fields = drawn
        kinds = {
            "GetModelStatus": get_model_status_pb2.GetModelStatusRequest,
            "GetModelMetadata": get_model_metadata_pb2.GetModelMetadataRequest,
            "Predict": predict_pb2.PredictRequest,
        }
        request = kinds[method]()
        request.model_spec.name = spec.name
        request.model_spec.signature_name = spec.signature
        if isinstance(spec.version, int):
            request.model_spec.version.value = spec.version
        elif spec.version is not None:
            request.model_spec.version_label = spec.version
        if method == "GetModelMetadata":
            request.metadata_field.extend(fields)
        elif method == "Predict":
            request.output_filter.extend(fields)
            request.inputs["x"].CopyFrom(tf.make_tensor_proto([[1.0, 2.0]]))
        path = _MODEL if method == "GetModelStatus" else _PREDICTION
        send(path + method, request.SerializeToString())

    specs = st.builds(
        SimpleNamespace,
        name=st.sampled_from(["floats", "floats", "pair"]) | st.text(max_size=5),
        signature=st.sampled_from(["", "serving_default", "types", "\0"]) | st.text(max_size=3),
        version=st.none() | st.just(1) | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=3),
    )
    fields = st.lists(st.sampled_from(["signature_def", "y", "x", ""]), max_size=3)
    methods = st.sampled_from(["GetModelStatus", "GetModelMetadata", "Predict"])
    fuzz("specs", st.tuples(methods, specs, fields), check)


@st.composite
def configs(draw: Any) -> model_server_config_pb2.ModelServerConfig:
    """Configs with at least one mistake, mostly."""
    config = model_server_config_pb2.ModelServerConfig()
    if draw(st.integers(0, 7)) == 0:
        config.custom_model_config.type_url = draw(st.text(max_size=5))
        return config
    for _ in range(draw(st.integers(0, 3))):
        model = config.model_config_list.config.add()
        model.name = draw(st.sampled_from(["floats", "pair", "new", "", "a/b", "\0"]))
        model.base_path = draw(st.sampled_from(["", "x", "../x", "s3://x", "file:///x", "\0"]))
        model.model_platform = draw(st.sampled_from(["", "tensorflow", "caffe", "\u00e9"]))
        model.model_type = draw(st.sampled_from([0, 0, 1, 2, 77]))
        if draw(st.booleans()):
            numbers = draw(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=2))
            model.model_version_policy.specific.versions.extend(numbers)
        elif draw(st.booleans()):
            model.model_version_policy.latest.num_versions = draw(st.integers(0, 2**32 - 1))
        for label in draw(st.lists(st.text(max_size=3), max_size=2)):
            model.version_labels[label] = draw(st.integers(-(2**63), 2**63 - 1))
    return config


def test_configs_that_no_server_takes(send):
    def check(config: model_server_config_pb2.ModelServerConfig) -> None:
        request = model_management_pb2.ReloadConfigRequest(config=config).SerializeToString()
        if is_harmless(RELOAD, request):
            assert send(RELOAD, request) != grpc.StatusCode.OK

    fuzz("configs", configs(), check)
