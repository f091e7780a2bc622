"""The flags and the config files: what is taken, and what whoever is mistaken is told."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import tensorflow as tf
from tensorflow_serving.apis.prediction_log_pb2 import PredictionLog

from tasks import serve
from tasks.engine.errors import UsageError
from tasks.engine.exporting.stock_ops import STOCK_SERVER
from tasks.protocol.errors import ServingError
from tasks.serving.configs import (
    METRICS_PATH,
    Batching,
    batching_parameters,
    check_models,
    metrics_path,
    read_models,
)
from tasks.serving.options import Options, parse
from tests.serving import tiny
from tests.serving.harness import running

MODEL = ("--model_base_path", "/nowhere")


def mistake(*arguments):
    with pytest.raises(UsageError) as raised:
        parse(arguments)
    return str(raised.value)


def refusal(**options):
    """What the server says that does not start."""
    with pytest.raises(UsageError) as raised, running(**options):
        pass
    return " ".join(str(raised.value).split())


class TestFlags:
    def test_help_and_mistakes_come_without_tensorflow(self):
        code = (
            "import sys; from tasks.serving.options import parse\n"
            "try: parse(['--help'])\n"
            "except SystemExit: print('tensorflow' in sys.modules, 'numpy' in sys.modules)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
        )
        assert "--model_base_path" in done.stdout
        assert done.stdout.endswith("False False\n")

    @pytest.mark.parametrize(
        ("given", "expected"),
        [
            ([], False),
            (["--enable_batching"], True),
            (["--enable_batching=true"], True),
            (["--enable_batching=1"], True),
            (["--enable_batching=false"], False),
            (["--enable_batching", "false"], False),
        ],
    )
    def test_a_switch_is_given_bare_or_with_a_value(self, given, expected):
        assert parse([*MODEL, *given]).enable_batching is expected

    def test_a_switch_takes_no_other_value(self):
        assert "maybe is neither true nor false" in mistake(*MODEL, "--enable_batching=maybe")

    def test_an_unknown_flag_gets_a_hint(self):
        assert mistake(*MODEL, "--rest_api_prot=1") == (
            "no flag --rest_api_prot=1; did you mean --rest_api_port?"
        )
        assert mistake(*MODEL, "--qqq") == "no flag --qqq; --help lists the flags"

    def test_a_flag_is_not_shortened(self):
        assert "--model_base" in mistake("--model_base", "/nowhere")

    def test_a_number_that_is_none_is_named(self):
        assert "--port: invalid int value: 'x'" in mistake(*MODEL, "--port", "x")

    @pytest.mark.parametrize("flag", ["--version", "--version=true"])
    def test_versions_are_printed(self, capsys, flag):
        with pytest.raises(SystemExit) as ended:
            parse([flag])
        assert not ended.value.code
        assert capsys.readouterr().out == (
            f"TensorFlow ModelServer: {STOCK_SERVER}, as python -m tasks.serve answers\n"
            f"TensorFlow Library: {tf.__version__}\n"
        )

    @pytest.mark.parametrize("flag", ["--flush_filesystem_caches", "--grpc_max_threads=4"])
    def test_a_flag_without_effect_is_taken(self, flag):
        assert parse([*MODEL, flag]) == parse(MODEL)

    @pytest.mark.parametrize(
        ("flag", "instead"),
        [
            ("--ssl_config_file=x", "put a proxy with TLS before it"),
            ("--prefer_tflite_model", "serve with the stock server for it"),
            ("--mixed_precision=bfloat16", "export the model in the precision"),
        ],
    )
    def test_a_flag_that_cannot_be_had_is_refused(self, flag, instead):
        told = mistake(*MODEL, flag)
        assert told.startswith(f"{flag.split('=')[0]} can't be had here; {instead}")

    def test_a_file_of_models_goes_before_a_model_as_the_stock_image_gives_both(self, tmp_path):
        file = tmp_path / "models.config"
        file.write_text('model_config_list { config { name: "other" base_path: "/there" } }')
        models = read_models(parse([*MODEL, f"--model_config_file={file}"]))
        assert [model.name for model in models.config] == ["other"]

    def test_a_refused_flag_may_say_what_holds_anyway(self):
        assert parse([*MODEL, "--prefer_tflite_model=false"]) == parse(MODEL)

    @pytest.mark.parametrize(
        ("given", "part"),
        [
            ([], "neither of --model_base_path and --model_config_file"),
            ([*MODEL, "--port=0"], "--port 0: gRPC can't be switched off here; give it a port"),
            ([*MODEL, "--port=-1"], "--port -1: must be from 1 to 65535"),
            ([*MODEL, "--rest_api_port=65536"], "--rest_api_port 65536: must be from 0"),
            ([*MODEL, "--port=8501"], "gRPC has this port"),
            ([*MODEL, "--batching_parameters_file=x"], "without --enable_batching; add it"),
            ([*MODEL, "--num_load_threads=0"], "--num_load_threads 0"),
            ([*MODEL, "--rest_api_timeout_in_ms=-1"], "--rest_api_timeout_in_ms -1"),
            ([*MODEL, "--drain_seconds=nan"], "--drain_seconds nan"),
            ([*MODEL, "--drain_seconds=inf"], "--drain_seconds inf"),
            ([*MODEL, "--file_system_poll_wait_seconds=-1"], "give 0 for one look"),
            ([*MODEL, "--per_process_gpu_memory_fraction=2"], "must be from 0 to 1"),
            ([*MODEL, "--base_path_prefix_map=/models"], "give OLD=NEW"),
            ([*MODEL, "--grpc_channel_arguments=x"], "give NAME=VALUE"),
            ([*MODEL, "--model_name="], "--model_name is empty"),
        ],
    )
    def test_a_mistake_is_told_with_its_mend(self, given, part):
        assert part in mistake(*given)

    def test_the_command_ends_with_two_and_one_line(self, capsys):
        with pytest.raises(SystemExit) as ended:
            serve.main(["--model_base_path", "x", "--prot", "1"])
        assert ended.value.code == 2
        error = capsys.readouterr().err
        assert error == "error: no flag --prot; did you mean --port?\n"

    def test_channel_arguments_are_numbers_or_text(self):
        options = parse([*MODEL, "--grpc_channel_arguments=grpc.max_connection_age_ms=20,a.b=c"])
        assert options.channel_arguments() == [("grpc.max_connection_age_ms", 20), ("a.b", "c")]

    @pytest.mark.parametrize(
        ("value", "is_"),
        [
            ("-1", -1),
            ("--5", "--5"),
            ("²", "²"),
            ("", ""),
            ("-", "-"),
            ("9999999999", "9999999999"),
        ],
    )
    def test_only_what_is_a_number_becomes_one(self, value, is_):
        options = parse([*MODEL, f"--grpc_channel_arguments=a={value}"])
        assert options.channel_arguments() == [("a", is_)]

    def test_base_paths_are_looked_for_elsewhere(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        options = Options(model_config_file="x", base_path_prefix_map="/models/=here")
        assert options.prefix_map() == ("/models", str(tmp_path / "here"))
        assert Options(model_config_file="x").prefix_map() is None
        (tmp_path / "saved_models").mkdir()
        assert Options(model_config_file="x").prefix_map() == (
            "/models",
            str(tmp_path / "saved_models"),
        )


class TestModelConfig:
    def models(self, tmp_path, text):
        file = tmp_path / "models.config"
        file.write_text(text)
        return read_models(Options(model_config_file=str(file)))

    def test_only_whole_names_are_mapped(self, tmp_path):
        text = "".join(
            f'config {{ name: "{name}" base_path: "{path}" model_platform: "tensorflow" }}'
            for name, path in (("a", "/models/a"), ("b", "/modelsother/b"), ("c", "/models"))
        )
        models = self.models(tmp_path, f"model_config_list {{ {text} }}")
        folders = check_models(models, ("/models", "/data"))
        assert list(map(str, folders.values())) == ["/data/a", "/modelsother/b", "/data"]

    @pytest.mark.parametrize(
        ("text", "part"),
        [
            ('model_config_list {\n  config {\n    nmae: "a"\n  }\n}', "models.config:3:5 : "),
            ("model_config_list {", "models.config:1:"),
            ("", "models.config: no models; begin with model_config_list"),
            ("custom_model_config {}", "no models"),
        ],
    )
    def test_a_syntax_error_is_told_with_its_line(self, tmp_path, text, part):
        with pytest.raises(UsageError) as raised:
            self.models(tmp_path, text)
        assert part in str(raised.value)

    def test_a_missing_file_is_told(self):
        with pytest.raises(UsageError, match=r"^/nowhere/m\.config: No such file or directory$"):
            read_models(Options(model_config_file="/nowhere/m.config"))

    def test_bytes_that_are_no_text_are_told(self, tmp_path):
        file = tmp_path / "models.config"
        file.write_bytes(b"\xff\xfe")
        with pytest.raises(UsageError, match="not a ModelServerConfig in protobuf's text format"):
            read_models(Options(model_config_file=str(file)))

    @pytest.mark.parametrize(
        ("text", "part"),
        [
            ('name: "a" base_path: "x" model_platform: "tensorflow"', "to have an absolute path"),
            ('name: "a" base_path: "/x"', "setting neither"),
            ('name: "a" base_path: "/x" model_platform: "torch"', "unsupported platform torch"),
            (
                'name: "a" base_path: "/x" model_platform: "tensorflow" model_type: TENSORFLOW',
                "setting both",
            ),
            (
                'name: "a" base_path: "/x" model_platform: "tensorflow" '
                "logging_config { sampling_config { sampling_rate: 1 } }",
                "No request-logger-creator provided.",
            ),
            (
                'name: "a" base_path: "/x" model_platform: "tensorflow" logging_config {}',
                "No request-logger-creator provided.",
            ),
        ],
    )
    def test_a_wrong_model_is_refused_as_the_stock_server_does(self, tmp_path, text, part):
        models = self.models(tmp_path, f"model_config_list {{ config {{ {text} }} }}")
        with pytest.raises(ServingError) as raised:
            check_models(models, None)
        assert part in raised.value.message

    @pytest.mark.parametrize("scheme", ["gs", "s3", "hdfs", "abfs+x", "https"])
    def test_remote_storage_is_refused_by_its_address(self, scheme):
        models = read_models(Options(model_name="a", model_base_path=f"{scheme}://bucket/a"))
        with pytest.raises(ServingError) as raised:
            check_models(models, None)
        assert raised.value.message.startswith(
            f"Model a: {scheme}://bucket/a is remote storage, which can't be had here; copy"
        )
        assert "The stock image takes gs://" in raised.value.message

    def test_an_address_may_stand_for_a_folder(self):
        mounted = Options(
            model_base_path="gs://bucket/a", base_path_prefix_map="gs://bucket=/mnt/bucket"
        )
        models = read_models(mounted)
        assert check_models(models, mounted.prefix_map()) == {"default": Path("/mnt/bucket/a")}
        local = read_models(Options(model_base_path="file:///models/a"))
        assert check_models(local, None) == {"default": Path("/models/a")}

    def test_a_model_is_listed_once(self, tmp_path):
        config = 'config { name: "a" base_path: "/x" model_platform: "tensorflow" }'
        models = self.models(tmp_path, f"model_config_list {{ {config} {config} }}")
        with pytest.raises(ServingError, match="Illegal to list model a multiple times"):
            check_models(models, None)


class TestBatchingFile:
    def batching(self, tmp_path, text):
        file = tmp_path / "batching.config"
        file.write_text(text)
        return batching_parameters(
            Options(model_base_path="x", enable_batching=True, batching_parameters_file=str(file))
        )

    def test_without_a_file_defaults_hold(self):
        assert batching_parameters(Options(model_base_path="x")) is None
        assert batching_parameters(Options(model_base_path="x", enable_batching=True)) == Batching()

    def test_a_file_says_what_differs(self, tmp_path):
        text = """
            max_batch_size { value: 8 } batch_timeout_micros { value: 500 }
            num_batch_threads { value: 3 } allowed_batch_sizes: 2 allowed_batch_sizes: 4
            enable_large_batch_splitting { value: true } max_execution_batch_size { value: 4 }
        """
        assert self.batching(tmp_path, text) == Batching(
            max_batch_size=8,
            batch_timeout_micros=500,
            num_batch_threads=3,
            allowed_batch_sizes=(2, 4),
            enable_large_batch_splitting=True,
            max_execution_batch_size=4,
        )

    @pytest.mark.parametrize(
        ("text", "part"),
        [
            ("max_batch_size: 3", "batching.config:1:"),
            ("max_batch_size { value: 0 }", "max_batch_size 0: must be at least 1"),
            ("num_batch_threads { value: 0 }", "num_batch_threads 0: must be at least 1"),
            ("batch_timeout_micros { value: -1 }", "batch_timeout_micros is below 0"),
            ("max_execution_batch_size { value: -1 }", "max_execution_batch_size -1"),
            (
                "max_batch_size { value: 4 } enable_large_batch_splitting { value: true } "
                "max_execution_batch_size { value: 8 }",
                "max_execution_batch_size 8 is larger than max_batch_size 4",
            ),
            (
                "max_batch_size { value: 8 } allowed_batch_sizes: 4 allowed_batch_sizes: 2",
                "must be monotonically increasing",
            ),
            (
                "max_batch_size { value: 8 } allowed_batch_sizes: 4",
                "must match max_batch_size; last entry was 4; expected 8",
            ),
        ],
    )
    def test_a_file_that_contradicts_itself_is_refused(self, tmp_path, text, part):
        with pytest.raises(UsageError) as raised:
            self.batching(tmp_path, text)
        assert part in str(raised.value)


class TestMonitoringFile:
    def path(self, tmp_path, text):
        file = tmp_path / "monitoring.config"
        file.write_text(text)
        return metrics_path(Options(model_base_path="x", monitoring_config_file=str(file)))

    def test_metrics_are_off_until_enabled(self, tmp_path):
        assert metrics_path(Options(model_base_path="x")) is None
        assert self.path(tmp_path, "prometheus_config { enable: false }") is None
        assert self.path(tmp_path, "prometheus_config { enable: true }") == METRICS_PATH

    def test_a_path_begins_with_a_slash(self, tmp_path):
        text = 'prometheus_config { enable: true path: "%s" }'
        assert self.path(tmp_path, text % "/metrics") == "/metrics"
        with pytest.raises(UsageError, match="path metrics: must begin with /"):
            self.path(tmp_path, text % "metrics")


class TestStart:
    """Mistakes that show when the server starts: it does not."""

    def test_a_missing_folder_is_told(self, tmp_path):
        told = refusal(model_name="m", model_base_path=str(tmp_path / "none"))
        assert f"Could not find base path {tmp_path}/none for servable m" in told

    def test_a_folder_that_can_not_be_looked_at_is_told(self, tmp_path):
        told = refusal(model_name="m", model_base_path=str(tmp_path / ("long" * 100)))
        assert told.endswith("of m can't be read: File name too long")

    def test_a_version_given_for_a_model_is_told(self, tmp_path):
        folder = tiny.publish(tmp_path, 1)
        told = refusal(model_name="m", model_base_path=str(folder))
        assert "is a version; give the folder that holds it" in told

    def test_a_model_that_cannot_be_loaded_is_told(self, tmp_path):
        tiny.publish_garbage(tmp_path, 3)
        told = refusal(model_name="m", model_base_path=str(tmp_path))
        assert told.startswith("1 model(s) did not become available: {{{name: m version: 3} due to")
        assert str(tmp_path) not in told

    @pytest.mark.parametrize(
        ("records", "part"),
        [
            (None, "DATA_LOSS: the warmup file cannot be read: "),
            ([b"no log"], "the warmup file cannot be read: record 1 is no PredictionLog"),
            ([PredictionLog(session_run_log={}).SerializeToString()], "Unsupported log_type"),
            (
                [PredictionLog(predict_log={}).SerializeToString()],
                "INVALID_ARGUMENT: a warmup request fails: ",
            ),
            ([b""] * 1001, "more than 1000 warmup requests, the most that a server takes"),
        ],
    )
    def test_a_warmup_record_that_fails_is_told(self, tmp_path, records, part):
        file = tiny.publish(tmp_path, 1) / "assets.extra/tf_serving_warmup_requests"
        file.parent.mkdir()
        if records is None:
            file.write_bytes(b"bytes that are no records")
        else:
            with tf.io.TFRecordWriter(str(file)) as writer:
                for record in records:
                    writer.write(record)
        told = refusal(model_name="m", model_base_path=str(tmp_path))
        assert "name: m version: 1} due to error: " in told
        assert part in told

    def test_without_warmup_its_file_is_not_read(self, tmp_path):
        file = tiny.publish(tmp_path, 1) / "assets.extra/tf_serving_warmup_requests"
        file.parent.mkdir()
        file.write_bytes(b"bytes that are no records")
        with running(model_base_path=str(tmp_path), enable_model_warmup=False) as server:
            assert server.get("/readyz").status == 200

    def test_a_port_that_is_taken_is_told(self, tmp_path):
        tiny.publish(tmp_path, 1)
        with running(model_base_path=str(tmp_path)) as first:
            rest, grpc = first.rest_port, first.grpc_port
            told = refusal(model_base_path=str(tmp_path), rest_api_port=rest)
            assert told.startswith(f"--rest_api_port {rest}: Address already in use")
            assert told.endswith("; give another port")
            told = refusal(model_base_path=str(tmp_path), port=grpc)
            assert told.startswith(f"--port {grpc}: 127.0.0.1:{grpc} can't be had")
            assert first.get("/readyz").status == 200

    def test_a_socket_that_cannot_be_had_is_told(self, tmp_path):
        tiny.publish(tmp_path, 1)
        socket = tmp_path / "none" / "socket"
        told = refusal(model_base_path=str(tmp_path), grpc_socket_path=str(socket))
        assert f"unix:{socket} can't be had" in told

    @pytest.mark.skipif(os.getuid() == 0, reason="root may read anything")
    def test_a_folder_that_cannot_be_read_is_told(self, tmp_path):
        version = tiny.publish(tmp_path, 1)
        (version / "saved_model.pb").chmod(0)
        assert "did not become available" in refusal(model_base_path=str(tmp_path))
