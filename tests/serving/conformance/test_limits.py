"""What is too long, too slow, or cut short: it is refused in time, counted, and holds up nobody."""

import gzip
import re
import socket
import threading
import time
from collections.abc import Iterator

import grpc
import pytest

from tasks.serving import service
from tasks.serving.metrics import prometheus_page
from tests.serving import tiny
from tests.serving.conformance.cases import assert_refuses, predict, spec, tensor
from tests.serving.harness import Running, running

PREDICT = "/v1/models/limited:predict"
BODY = b'{"instances": [1]}'
MOST = 100_000
TIMEOUT = 0.4


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("limited")
    tiny.publish(folder, 1)
    with running(
        model_name="limited",
        model_base_path=str(folder),
        rest_api_max_request_bytes=MOST,
        rest_api_timeout_in_ms=round(1000 * TIMEOUT),
    ) as server:
        yield server


@pytest.fixture
def waiting(monkeypatch):
    """What the signature `hooked` waits for."""
    gate = threading.Event()
    monkeypatch.setattr(tiny, "hook", lambda rows: rows if gate.wait(10) else None)
    yield gate
    gate.set()


@pytest.fixture
def counted():
    """How many requests have ended so since the test began."""

    def count(status: str) -> int:
        labels = f'{{model_name="limited",status="{status}"}}'
        found = re.findall(
            f"^:tensorflow:serving:request_count{labels} (.*)$", prometheus_page(), re.M
        )
        return sum(map(int, found))

    before = {status.name: count(status.name) for status in grpc.StatusCode}
    return lambda status: count(status) - before[status]


def hooked(server: Running):
    request = service.predict_pb2.PredictRequest(model_spec=spec("limited", signature="hooked"))
    request.inputs["x"].CopyFrom(tensor([1.0]))
    return server.prediction.Predict.future(request, timeout=TIMEOUT)


# REST


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        (gzip.compress(BODY) + BODY, 400, "The gzip body goes on after its end"),
        (gzip.compress(BODY) + bytes(MOST), 413, "The body is longer than the 100000 bytes"),
        (gzip.compress(BODY + bytes(MOST)), 413, "The body is longer than the 100000 bytes"),
        (gzip.compress(BODY)[:-1], 400, "The gzip body is cut off"),
        (BODY, 400, "The body is not gzip, as Content-Encoding says"),
    ],
    ids=["goes on", "goes on for long", "unpacks to too much", "is cut off", "is no gzip"],
)
def test_a_packed_body_that_is_refused(limited, counted, body, status, message):
    answer = limited.post(PREDICT, body, Content_Encoding="gzip")
    assert answer.status == status and answer.error.startswith(message)
    assert counted("RESOURCE_EXHAUSTED" if status == 413 else "INVALID_ARGUMENT") == 1


def test_a_body_that_takes_too_long_is_a_504_and_the_connection_ends(limited, counted):
    start = time.monotonic()
    with sending(limited, BODY[:5]) as connection:
        answer = b""
        while chunk := connection.recv(4096):
            answer += chunk
    assert TIMEOUT <= time.monotonic() - start < 5
    assert answer.startswith(b"HTTP/1.1 504 ") and b"Timed out waiting" in answer
    assert counted("DEADLINE_EXCEEDED") == 1


def test_the_time_for_the_body_is_taken_off_that_for_the_graph(limited, waiting):
    start = time.monotonic()
    body = b'{"signature_name": "hooked", "instances": [1]}'
    with sending(limited, body[:5], len(body)) as connection:
        time.sleep(0.75 * TIMEOUT)
        connection.sendall(body[5:])
        assert connection.recv(4096).startswith(b"HTTP/1.1 504 ")
    assert time.monotonic() - start < 1.6 * TIMEOUT


def test_a_client_that_goes_away_is_counted(limited, counted):
    sending(limited, BODY[:5]).close()
    tiny.eventually(lambda: counted("CANCELLED") == 1)


def sending(server: Running, body: bytes, length: int = 100) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.rest_port), 10)
    head = f"POST {PREDICT} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/playground/models"])
def test_our_own_paths_are_for_reading(limited, path):
    assert limited.get(path).status == 200
    assert_refuses(limited.post(path, b""), 404, "Not found")


def test_a_websocket_is_refused_without_a_word_in_the_log(limited, caplog):
    lines = "GET / HTTP/1.1", "Host: a", "Upgrade: websocket", "Connection: Upgrade"
    key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"
    with socket.create_connection(("127.0.0.1", limited.rest_port), 10) as connection:
        connection.sendall("\r\n".join([*lines, *key, "", ""]).encode())
        assert not connection.recv(4096).startswith((b"HTTP/1.1 101 ", b"HTTP/1.1 5"))
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


# gRPC


def test_calls_that_are_too_late_or_given_up_are_counted(limited, counted, waiting):
    late, given_up = hooked(limited), hooked(limited)
    time.sleep(TIMEOUT / 4)
    given_up.cancel()
    assert late.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    tiny.eventually(lambda: (counted("CANCELLED"), counted("DEADLINE_EXCEEDED")) == (1, 1))


def test_calls_that_fail_for_no_known_reason_are_counted(limited, counted, monkeypatch):
    monkeypatch.setattr(service, "to_proto", None)
    with pytest.raises(grpc.RpcError) as raised:
        predict(limited, spec("limited"), x=tensor([1.0]))
    assert raised.value.code() == grpc.StatusCode.INTERNAL
    assert counted("INTERNAL") == 1


def test_many_values_are_converted_beside_the_loop(limited, monkeypatch):
    threads = []
    for module, name in ((service.sig, "to_array"), (service, "to_proto")):
        function = getattr(module, name)

        def convert(*arguments, function=function):
            threads.append(threading.current_thread().name)
            return function(*arguments)

        monkeypatch.setattr(module, name, convert)
    predict(limited, spec("limited"), x=tensor([1.0]))
    few = set(threads)
    threads.clear()
    predict(limited, spec("limited"), x=tensor([1.0] * 10_000))
    assert len(few) == 1 and len(threads) == 2 and not few & set(threads)
