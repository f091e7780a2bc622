"""What Prometheus reads."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest
import tensorflow as tf
from prometheus_client.parser import text_string_to_metric_families
from tensorflow.python.eager import monitoring
from tensorflow_serving.apis import predict_pb2

from tasks.serving import metrics
from tasks.serving.metrics import Counter, Histogram, forget, model_label, prometheus_page
from tests.serving import tiny
from tests.serving.harness import running

PAGE = "/monitoring/prometheus/metrics"


@pytest.fixture
def page(monkeypatch):
    """A page of the metrics that a test makes itself, read as Prometheus reads it."""
    monkeypatch.setattr(metrics, "_METRICS", [])
    return lambda: parsed(prometheus_page())


def parsed(text):
    """Values by name and labels. The parser adds `_total` to a counter's name: not so the page."""
    return {
        (
            sample.name if f"\n{sample.name}{{" in text else sample.name.removesuffix("_total"),
            *sorted(sample.labels.items()),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class TestPage:
    def test_a_counter_counts_by_labels(self, page):
        counter = Counter(":a:count", "who", "what")
        assert page() == {}
        counter.add("x", "y")
        counter.add("x", "y", count=2)
        counter.add("x", "z")
        assert page() == {
            (":a:count", ("what", "y"), ("who", "x")): 3,
            (":a:count", ("what", "z"), ("who", "x")): 1,
        }

    def test_labels_hold_any_text(self, page):
        counter = Counter(":a:count", "who")
        for text in ('"', "\\", "\n", "a b", "ß", "}", ",", ""):
            counter.add(text)
            assert page()[(":a:count", ("who", text))] == 1

    def test_a_bucket_holds_what_is_at_most_its_limit(self, page):
        histogram = Histogram(":a:size", "who", buckets=(1, 2, 3))
        for value in (0.5, 1, 1.5, 4, 100):
            histogram.observe(value, "x")
        counts = {labels["le"]: value for labels, value in buckets(":a:size")}
        assert counts == {"1": 2, "2": 3, "4": 4, "+Inf": 5}
        assert page()[(":a:size_sum", ("who", "x"))] == 107
        assert page()[(":a:size_count", ("who", "x"))] == 5

    def test_limits_are_those_of_tensorflow(self, page):
        sampler = monitoring.Sampler("/a", monitoring.ExponentialBuckets(10, 1.8, 33), "")
        sampler.get_cell().add(1.0)
        *limits, beyond = sampler.get_cell().value().bucket_limit
        Histogram(":a", "who", buckets=(10, 1.8, 33)).observe(1, "x")
        ours = [labels["le"] for labels, _ in buckets(":a")]
        assert ours == [f"{limit:.6g}" for limit in limits] + ["+Inf"]
        assert ours[-2] == "1.47476e+09" and beyond == sys.float_info.max

    def test_threads_count_together(self, page):
        counter, histogram = Counter(":a:count", "who"), Histogram(":b", "who", buckets=(1, 2, 4))

        def count(_):
            for _ in range(1000):
                counter.add("x")
                histogram.observe(1, "x")

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(count, range(4)))
        assert page()[(":a:count", ("who", "x"))] == 4000
        assert page()[(":b_count", ("who", "x"))] == 4000

    def test_models_that_clients_make_up_are_counted_together(self, page):
        counter = Counter(":a:count", "model_name")
        for name in ("real", "x1", "x2", "", "real"):
            counter.add(model_label(name, ["real"]))
        assert page() == {
            (":a:count", ("model_name", "real")): 2,
            (":a:count", ("model_name", "others")): 3,
        }

    def test_a_version_that_is_gone_is_forgotten(self, page):
        counter = Counter(":a:count", "model_path", "status")
        histogram = Histogram(":b", "model_path", buckets=(1, 2, 3))
        other = Counter(":c", "who")
        for number in (1, 2):
            for status in ("fail", "success"):
                counter.add(f"/m/{number}", status)
            histogram.observe(1, f"/m/{number}")
        other.add("/m/1")
        forget(Path("/m/1"))
        forget(Path("/m/3"))
        labels = {label for _, *labels in page() for label in labels}
        assert {("model_path", "/m/2"), ("who", "/m/1")} <= labels
        assert ("model_path", "/m/1") not in labels


def buckets(name):
    for family in text_string_to_metric_families(prometheus_page()):
        for sample in family.samples:
            if sample.name == f"{name}_bucket":
                yield sample.labels, sample.value


@pytest.fixture
def serve(tmp_path):
    """Serves the tiny model, with this in the monitoring config."""
    tiny.publish(tmp_path / "m", 1)

    def run(monitoring, **options):
        file = tmp_path / "monitoring.config"
        file.write_text(monitoring)
        return running(
            model_name="m",
            model_base_path=str(tmp_path / "m"),
            monitoring_config_file=str(file),
            **options,
        )

    return run


class TestServer:
    def test_there_is_no_page_by_default(self, serve):
        with serve("prometheus_config { enable: false }") as server:
            assert server.get(PAGE).status == 404

    def test_the_page_may_be_elsewhere(self, serve):
        with serve('prometheus_config { enable: true path: "/metrics" }') as server:
            assert server.get("/metrics").status == 200
            assert server.get(PAGE).status == 404

    def test_requests_are_counted_under_the_stock_servers_names(self, serve, tmp_path):
        with serve("prometheus_config { enable: true }", enable_batching=True) as server:

            def count(name, **labels):
                return parsed(server.get(PAGE).body.decode()).get(
                    (name, *sorted(labels.items())), 0
                )

            names = {
                "ok": (":tensorflow:serving:request_count", {"model_name": "m", "status": "OK"}),
                "bad": (
                    ":tensorflow:serving:request_count",
                    {"model_name": "m", "status": "INVALID_ARGUMENT"},
                ),
                "rest": (
                    ":tensorflow:serving:request_latency_count",
                    {"model_name": "m", "API": "predict", "entrypoint": "REST"},
                ),
                "grpc": (
                    ":tensorflow:serving:request_latency_count",
                    {"model_name": "m", "API": "Predict", "entrypoint": "GRPC"},
                ),
                "runtime": (
                    ":tensorflow:serving:runtime_latency_count",
                    {"model_name": "m", "API": "Predict", "runtime": "TF1"},
                ),
                "rows": (
                    ":tensorflow:serving:batching_session:processed_batch_size_sum",
                    {"thread_pool_name": "model_server_batch_threads"},
                ),
                "queued": (
                    ":tensorflow:serving:batching_session:queuing_latency_count",
                    {"thread_pool_name": "model_server_batch_threads"},
                ),
            }

            def counts():
                return {key: count(name, **labels) for key, (name, labels) in names.items()}

            before = counts()
            assert server.post("/v1/models/m:predict", {"instances": [1, 2, 3]}).status == 200
            assert server.post("/v1/models/m:predict", {"instances": ["x"]}).status == 400
            request = predict_pb2.PredictRequest()
            request.model_spec.name = "m"
            request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0]))
            server.prediction.Predict(request, timeout=20)
            del request.inputs["x"]
            with pytest.raises(grpc.RpcError):
                server.prediction.Predict(request, timeout=20)
            after = counts()
            folder = str(tmp_path / "m/1")
            path = ":tensorflow:cc:saved_model:load_attempt_count"
            assert count(path, model_path=folder, status="success") == 1
            assert count(":tensorflow:cc:saved_model:load_latency", model_path=folder) > 0
            answer = server.get(PAGE)
            assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        assert {key: after[key] - before[key] for key in names} == {
            "ok": 2,
            "bad": 2,
            "rest": 1,
            "grpc": 1,
            "runtime": 2,
            "rows": 4,
            "queued": 2,
        }
