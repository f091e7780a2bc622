"""`python -m tasks.serve`: how it starts, what it tells, and how it ends."""

import asyncio
import gzip
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from tasks.serve import main
from tasks.serving.options import Options
from tasks.serving.server import serve
from tests.serving import tiny
from tests.serving.harness import free_port, running
from tests.serving.tiny import eventually

ROOT = Path(__file__).parents[2]
PREDICT = "/v1/models/m:predict"


def status(port, path):
    """What REST answers, 0 where nobody listens."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code
    except OSError:
        return 0


def health(port, service=""):
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        request = health_pb2.HealthCheckRequest(service=service)
        answer = health_pb2_grpc.HealthStub(channel).Check(request, timeout=10)
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


def predict_request(signature, values, dtype=tf.float32):
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = "m", signature
    request.inputs["x"].CopyFrom(tf.make_tensor_proto(values, dtype))
    return request


def config(file, *models, **settings):
    """Writes a model config file, whole at once."""
    more = " ".join(f"{name} {{ {text} }}" for name, text in settings.items())
    configs = [
        f'config {{ name: "{folder.name}" base_path: "{folder}" model_platform: "tensorflow" '
        f"{more} }}"
        for folder in models
    ]
    fresh = file.with_suffix(".new")
    fresh.write_text(f"model_config_list {{ {' '.join(configs)} }}")
    fresh.rename(file)
    return str(file)


def publish_hooked(folder, number):
    """Publishes a version whose warmup is a request to `hooked`."""
    version = tiny.publish(folder, f"incoming-hooked-{number}")
    log = PredictionLog()
    log.predict_log.request.CopyFrom(predict_request("hooked", [5.0]))
    (version / "assets.extra").mkdir()
    with tf.io.TFRecordWriter(str(version / "assets.extra/tf_serving_warmup_requests")) as writer:
        writer.write(log.SerializeToString())
    version.rename(folder / str(number))


@pytest.fixture
def hook(monkeypatch):
    """Holds up what the signature `hooked` does; the value of `begun` is set once it is there."""
    gate, begun = threading.Event(), threading.Event()

    def wait(rows):
        begun.set()
        assert gate.wait(20)
        return rows

    monkeypatch.setattr(tiny, "hook", wait)
    wait.gate, wait.begun = gate, begun
    yield wait
    gate.set()


@pytest.fixture(scope="module", autouse=True)
def processes(tmp_path_factory):
    """One that serves, one that waits for a model, and one that tells its flags.

    They start while other tests run.
    """
    folder = tmp_path_factory.mktemp("served")
    tiny.publish(folder / "saved_models/m", 1)
    (folder / "empty").mkdir()
    config(folder / "models.config", Path("/models/m"))
    ports = [free_port() for _ in range(4)]

    def start(*arguments):
        return subprocess.Popen(
            [sys.executable, "-m", "tasks.serve", *arguments],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def serving(models, grpc_port, rest_port):
        process = start(models, f"--port={grpc_port}", f"--rest_api_port={rest_port}")
        return process, grpc_port, rest_port

    started = {
        "serving": serving("--model_config_file=models.config", *ports[:2]),
        "waiting": serving("--model_base_path=empty", *ports[2:]),
        "help": (start("--help"),),
    }
    yield started
    for process, *_ in started.values():
        process.kill()
        process.communicate()


class TestServer:
    """In this process."""

    @pytest.mark.parametrize(
        ("mistake", "part"),
        [
            (
                "--model_base_path={}/garbage",
                "1 model(s) did not become available: {{{name: default version: 1} due to",
            ),
            ("--model_config_file={}/wrong.config", "wrong.config:2:12 : "),
        ],
    )
    def test_a_mistake_ends_it_with_two_and_one_line(self, tmp_path, capsys, mistake, part):
        tiny.publish_garbage(tmp_path / "garbage", 1)
        (tmp_path / "wrong.config").write_text("model_config_list {\n  config { nmae: 'x' }\n}")
        ports = f"--port={free_port()}", f"--rest_api_port={free_port()}"
        with pytest.raises(SystemExit) as ended:
            main([mistake.format(tmp_path), *ports])
        out, error = capsys.readouterr()
        assert (ended.value.code, out) == (2, "")
        assert len(error.splitlines()) == 1
        assert error.startswith("error: ")
        assert part in error
        assert str(tmp_path / "garbage") not in error

    def test_its_health_is_what_readyz_says(self, tmp_path):
        version = tiny.publish(tmp_path, 1)
        with running(model_base_path=str(tmp_path)) as server:
            assert health(server.grpc_port) == "SERVING"
            shutil.rmtree(version)
            eventually(lambda: health(server.grpc_port) == "NOT_SERVING", 20)
            assert status(server.rest_port, "/readyz") == 503

    def test_a_watch_of_its_health_does_not_hold_up_its_end(self, tmp_path):
        tiny.publish(tmp_path, 1)
        with running(model_base_path=str(tmp_path), drain_seconds=30) as server:
            channel = grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}")
            stub = health_pb2_grpc.HealthStub(channel)
            watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=20)
            assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
            unknown = stub.Watch(health_pb2.HealthCheckRequest(service="x"), timeout=20)
            assert next(unknown).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
            with pytest.raises(grpc.RpcError) as raised:
                health(server.grpc_port, "x")
            assert raised.value.code() == grpc.StatusCode.NOT_FOUND
            start = time.monotonic()
        assert time.monotonic() - start < 5
        assert [answer.status for answer in watch] == [health_pb2.HealthCheckResponse.NOT_SERVING]
        assert not list(unknown)
        channel.close()

    def test_only_health_and_metrics_answer_before_the_models_do(self, tmp_path):
        monitoring = tmp_path / "monitoring.config"
        monitoring.write_text("prometheus_config { enable: true }")
        model = tmp_path / "m"
        model.mkdir()

        async def main():
            port, grpc_port = free_port(), free_port()
            options = Options(
                port=grpc_port, rest_api_port=port, model_name="m", model_base_path=str(model),
                file_system_poll_wait_seconds=0.05, monitoring_config_file=str(monitoring),
            )  # fmt: skip
            until = asyncio.get_running_loop().create_future()
            server = asyncio.create_task(serve(options, until))

            async def answers(path):
                return await asyncio.to_thread(status, port, path)

            while not await answers("/healthz"):
                await asyncio.sleep(0.01)
            paths = (
                "/v1/models/m",
                "/v1/models/m/metadata",
                "/v1/models",
                "/v1/models/m/versions/1",
            )
            assert [await answers(path) for path in paths] == [503] * 4
            assert [await answers(path) for path in ("/", "/playground/models")] == [503] * 2
            assert await answers("/monitoring/prometheus/metrics") == 200
            assert await asyncio.to_thread(health, grpc_port) == "NOT_SERVING"
            async with grpc.aio.insecure_channel(f"127.0.0.1:{grpc_port}") as channel:
                asked = get_model_status_pb2.GetModelStatusRequest()
                asked.model_spec.name = "m"
                models = model_service_pb2_grpc.ModelServiceStub(channel)
                predictions = prediction_service_pb2_grpc.PredictionServiceStub(channel)
                request = predict_request("serving_default", [1.0])
                for call in (models.GetModelStatus(asked), predictions.Predict(request)):
                    with pytest.raises(grpc.RpcError) as raised:
                        await call
                    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE
                await asyncio.to_thread(tiny.publish, model, 1)
                while await answers("/v1/models/m") != 200:
                    await asyncio.sleep(0.01)
                [found] = (await models.GetModelStatus(asked)).model_version_status
                assert (found.version, found.state) == (1, found.AVAILABLE)
                assert (await predictions.Predict(request)).outputs["y"].float_val == [2.0]
            until.set_result(0)
            await server

        asyncio.run(main())

    def test_it_may_end_while_it_loads(self, tmp_path):
        async def main():
            port = free_port()
            options = Options(
                port=free_port(), rest_api_port=port, model_base_path=str(tmp_path), drain_seconds=1
            )
            until = asyncio.get_running_loop().create_future()
            server = asyncio.create_task(serve(options, until))
            while not await asyncio.to_thread(status, port, "/healthz"):
                await asyncio.sleep(0.01)
            assert await asyncio.to_thread(status, port, "/readyz") == 503
            until.set_result(7)
            assert await asyncio.wait_for(server, 10) == 7

        asyncio.run(main())

    def test_its_threads_end_with_it(self, tmp_path):
        tiny.publish(tmp_path, 1)
        file = config(tmp_path / "models.config", tmp_path)
        before = set(threading.enumerate())
        with running(
            model_config_file=file, model_config_file_poll_wait_seconds=1, enable_batching=True
        ):
            assert set(threading.enumerate()) - before
        own = ("poll", "models file", "load", "model_server_batch_threads", "unload")
        eventually(
            lambda: (
                not [
                    thread.name
                    for thread in set(threading.enumerate()) - before
                    if thread.name.startswith(own)
                ]
            )
        )

    def test_a_request_that_takes_too_long_is_a_504(self, tmp_path, hook):
        tiny.publish(tmp_path, 1)
        with running(
            model_name="m", model_base_path=str(tmp_path), rest_api_timeout_in_ms=200
        ) as server:
            answer = server.post(PREDICT, {"signature_name": "hooked", "instances": [1]})
            assert (answer.status, answer.error) == (504, "Timed out waiting for notification")
            # Under load, others may take longer than so little time, too.
            expected = {"predictions": [2.0]}
            eventually(lambda: server.post(PREDICT, {"instances": [1]}).json == expected)
            hook.gate.set()

    def test_a_call_that_takes_too_long_is_deadline_exceeded(self, tmp_path, hook):
        tiny.publish(tmp_path, 1)
        with running(model_name="m", model_base_path=str(tmp_path)) as server:
            with pytest.raises(grpc.RpcError) as raised:
                server.prediction.Predict(predict_request("hooked", [1.0]), timeout=0.3)
            assert raised.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            answer = server.prediction.Predict(predict_request("", [1.0]), timeout=20)
            assert answer.outputs["y"].float_val == [2]
            hook.gate.set()

    def test_a_version_outlives_requests_that_were_given_up(self, tmp_path, hook):
        """A graph still runs whose client has gone: its session is closed after it."""
        tiny.publish(tmp_path, 1)
        with running(
            model_name="m", model_base_path=str(tmp_path), rest_api_timeout_in_ms=200
        ) as server:
            body = {"signature_name": "hooked", "instances": [1]}
            assert server.post(PREDICT, body).status == 504
            tiny.publish(tmp_path, 2)

            def states():
                answer = server.get("/v1/models/m").json["model_version_status"]
                return {version["version"]: version["state"] for version in answer}

            eventually(lambda: states() == {"1": "UNLOADING", "2": "AVAILABLE"})
            time.sleep(0.05)
            assert states()["1"] == "UNLOADING"
            hook.gate.set()
            eventually(lambda: states() == {"1": "END", "2": "AVAILABLE"})

    def test_a_long_body_is_a_413_packed_or_not(self, tmp_path):
        tiny.publish(tmp_path, 1)
        with running(
            model_name="m", model_base_path=str(tmp_path), rest_api_max_request_bytes=1000
        ) as server:
            body = b'{"instances": [1]' + b" " * 20_000_000 + b"}"
            assert server.post(PREDICT, b'{"instances": [1]' + b" " * 900 + b"}").status == 200
            for answer in (
                server.post(PREDICT, b" " * 1001),
                server.post(PREDICT, gzip.compress(body), Content_Encoding="gzip"),
            ):
                assert answer.status == 413
                assert "1000 bytes" in answer.error
            packed = gzip.compress(b'{"instances": [1]}')
            assert server.post(PREDICT, packed, Content_Encoding="gzip").status == 200

    def test_a_new_version_is_warmed_up_before_it_serves(self, tmp_path, hook):
        tiny.publish(tmp_path / "m", 1)
        with running(model_name="m", model_base_path=str(tmp_path / "m")) as server:
            publish_hooked(tmp_path / "m", 2)
            assert hook.begun.wait(10)
            statuses = server.get("/v1/models/m").json["model_version_status"]
            assert [status["state"] for status in statuses] == ["LOADING", "AVAILABLE"]
            assert server.get("/readyz").status == 200
            hook.gate.set()
            eventually(lambda: server.get("/v1/models/m/versions/2:predict").status != 404)
            eventually(
                lambda: (
                    server.prediction.Predict(predict_request("", [1.0])).model_spec.version.value
                    == 2
                )
            )

    def test_a_version_that_fails_to_warm_up_leaves_the_old_serving(self, tmp_path):
        tiny.publish(tmp_path / "m", 1)
        cold = tiny.publish(tmp_path, 2)
        (cold / "assets.extra").mkdir()
        (cold / "assets.extra/tf_serving_warmup_requests").mkdir()
        with running(
            model_name="m", model_base_path=str(tmp_path / "m"), max_num_load_retries=0
        ) as server:
            cold.rename(tmp_path / "m/2")

            def newest():
                return server.get("/v1/models/m").json["model_version_status"][0]

            eventually(lambda: newest()["state"] == "END")
            assert newest()["version"] == "2"
            assert newest()["status"]["error_code"] == "DATA_LOSS"
            message = newest()["status"]["error_message"]
            assert message.startswith("the warmup file cannot be read: m/2/assets.extra/")
            assert str(tmp_path) not in message
            assert server.post(PREDICT, {"instances": [1]}).status == 200


class TestConfigPolling:
    @pytest.fixture
    def edited(self, tmp_path):
        """A server of `m`, whose file is read again and again; and the file."""
        tiny.publish(tmp_path / "m", 1)
        file = tmp_path / "models.config"
        config(file, tmp_path / "m")
        with running(
            model_config_file=str(file), model_config_file_poll_wait_seconds=0.05
        ) as server:
            yield server, file

    def test_an_edited_file_is_taken(self, edited, tmp_path):
        server, file = edited
        tiny.publish(tmp_path / "n", 1)
        config(file, tmp_path / "n")
        eventually(lambda: server.post("/v1/models/n:predict", {"instances": [1]}).status == 200)
        eventually(lambda: server.post(PREDICT, {"instances": [1]}).status == 404)

    def test_an_edit_does_not_wait_for_the_models_of_the_last_one(self, edited, tmp_path, hook):
        server, file = edited
        publish_hooked(tmp_path / "slow", 1)
        config(file, tmp_path / "m", tmp_path / "slow")
        assert hook.begun.wait(10)
        assert server.get("/readyz").status == 200
        config(file, tmp_path / "m", version_labels='key: "new" value: 1')
        eventually(
            lambda: server.post("/v1/models/m/labels/new:predict", {"instances": [1]}).status == 200
        )

    def test_a_broken_edit_is_logged_once_and_not_taken(self, edited, tmp_path, caplog):
        server, file = edited
        good = file.read_text()
        file.write_text("model_config_list {\n config }")
        eventually(lambda: "not taken" in caplog.text)
        time.sleep(0.2)
        assert caplog.text.count("not taken") == 1
        assert f"{file}:2:" in caplog.text
        assert server.post(PREDICT, {"instances": [1]}).status == 200
        file.write_text(good)
        time.sleep(0.1)
        file.unlink()
        eventually(lambda: "No such file" in caplog.text)
        assert server.get("/readyz").status == 200

    def test_a_label_is_taken_once_its_version_is_there(self, edited, tmp_path, caplog):
        """As in the stock server, a reading that failed is made again."""
        server, file = edited
        config(file, tmp_path / "m", version_labels='key: "new" value: 2')
        eventually(lambda: "not currently available for inference" in caplog.text)
        assert server.post("/v1/models/m/labels/new:predict", {"instances": [1]}).status == 400
        tiny.publish(tmp_path / "m", 2)
        eventually(
            lambda: server.post("/v1/models/m/labels/new:predict", {"instances": [1]}).status == 200
        )

    def test_an_edit_made_while_models_load_is_not_missed(self, tmp_path, hook):
        tiny.publish(tmp_path / "n", 1)
        publish_hooked(tmp_path / "m", 1)
        file = tmp_path / "models.config"
        config(file, tmp_path / "m")

        def edit():
            assert hook.begun.wait(20)
            config(file, tmp_path / "m", tmp_path / "n")
            hook.gate.set()

        with (
            ThreadPoolExecutor(1) as pool,
            running(
                model_config_file=pool.submit(edit) and str(file),
                model_config_file_poll_wait_seconds=0.05,
            ) as server,
        ):
            eventually(lambda: server.get("/v1/models/n").status == 200)


class TestCommand:
    """In processes of their own."""

    def test_help_lists_the_flags(self, processes):
        (process,) = processes["help"]
        out, error = process.communicate(timeout=60)
        assert (process.returncode, error) == (0, "")
        assert "--model_base_path" in out

    def test_it_is_up_but_not_ready_while_there_is_no_model(self, processes):
        process, grpc_port, rest_port = processes["waiting"]
        eventually(lambda: status(rest_port, "/healthz") == 200, 60)
        assert status(rest_port, "/readyz") == 503
        assert health(grpc_port) == "NOT_SERVING"
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=30)
        assert process.returncode == 130
        assert "Traceback" not in error

    def test_on_sigterm_a_request_under_way_gets_its_answer(self, processes):
        process, grpc_port, rest_port = processes["serving"]
        eventually(lambda: status(rest_port, "/readyz") == 200, 60)
        for service in ("", "tensorflow.serving.PredictionService"):
            assert health(grpc_port, service) == "SERVING"
        with (
            grpc.insecure_channel(f"127.0.0.1:{grpc_port}") as channel,
            ThreadPoolExecutor(2) as pool,
        ):
            call = channel.unary_unary(
                "/tensorflow.serving.PredictionService/Predict",
                predict_pb2.PredictRequest.SerializeToString,
                predict_pb2.PredictResponse.FromString,
            )
            start = time.monotonic()
            call(predict_request("slow", [20_000], tf.int32), timeout=30)
            steps = round(20_000 / (time.monotonic() - start))  # of a second
            request = predict_request("slow", [steps], tf.int32)
            body = f'{{"signature_name": "slow", "instances": [{steps}]}}'.encode()
            url = f"http://127.0.0.1:{rest_port}{PREDICT}"
            answers = [
                pool.submit(call, request, timeout=30),
                pool.submit(lambda: urllib.request.urlopen(url, body, timeout=30).read()),
            ]
            time.sleep(0.2)
            process.send_signal(signal.SIGTERM)
            assert answers[0].result().outputs["y"].int_val == [steps]
            assert json.loads(answers[1].result()) == {"predictions": [steps]}
        _, error = process.communicate(timeout=30)
        assert process.returncode == 0
        assert "m: /models/m is looked for at" in error
        assert "SIGTERM: draining" in error
        assert "Traceback" not in error
