"""What a user copies to serve with: the files of deploy/, and the commands of docs/serving.md."""

import http.server
import json
import re
import shlex
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from tasks.engine.errors import UsageError
from tasks.serving.options import Options, parse
from tasks.serving.protos import BatchingParameters, MonitoringConfig

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
GUIDE = (ROOT / "docs/serving.md").read_text("utf-8")

# Flags of tensorflow_model_server 2.20.
STOCK_FLAGS = set(
    """
    port grpc_socket_path rest_api_port rest_api_num_threads rest_api_timeout_in_ms
    rest_api_enable_cors_support enable_batching allow_version_labels_for_unavailable_models
    batching_parameters_file model_config_file model_config_file_poll_wait_seconds model_name
    model_base_path num_load_threads num_unload_threads max_num_load_retries
    load_retry_interval_micros file_system_poll_wait_seconds flush_filesystem_caches
    tensorflow_session_parallelism tensorflow_intra_op_parallelism
    tensorflow_inter_op_parallelism ssl_config_file platform_config_file
    per_process_gpu_memory_fraction saved_model_tags grpc_channel_arguments grpc_max_threads
    enable_model_warmup num_request_iterations_for_warmup version monitoring_config_file
    remove_unused_fields_from_bundle_metagraph prefer_tflite_model
    enable_signature_method_name_check xla_cpu_compilation_enabled enable_profiler
    thread_pool_factory_config_file mixed_precision num_tflite_pools
    num_tflite_interpreters_per_pool skip_initialize_tpu enable_grpc_healthcheck_service
    enable_serialization_as_tensor_content enable_per_model_batching_parameters
    tensorflow_session_config_file use_alts_credentials xla_gpu_compilation_enabled
    """.split()
)
OWN_FLAGS = {"host", "base_path_prefix_map", "rest_api_max_request_bytes", "drain_seconds"}


def text(name):
    return (DEPLOY / name).read_text("utf-8")


def compose():
    return yaml.safe_load(text("compose.yaml"))


def manifests():
    return {doc["kind"]: doc for doc in yaml.safe_load_all(text("kubernetes.yaml"))}


def pod():
    return manifests()["Deployment"]["spec"]["template"]["spec"]


def models(config):
    return text_format.Parse(config, model_server_config_pb2.ModelServerConfig())


def commented_blocks(config):
    """The `config { ... }` blocks that stand in comments, without the `# `."""
    blocks, depth = [], 0
    for line in config.splitlines():
        code = re.sub(r"^\s*# ?", "", line)
        if depth or re.match(r"\s*#\s*config \{", line):
            assert line.lstrip().startswith("#"), f"a comment's block is not closed: {line}"
            blocks = blocks if depth else [*blocks, ""]
            blocks[-1] += f"{code}\n"
            depth += code.count("{") - code.count("}")
    return blocks


def fences(language=""):
    blocks = re.findall(r"^ *```(\w*)\n(.*?)^ *```$", GUIDE, re.M | re.S)
    return [block for of, block in blocks if of == language]


def shell_lines():
    return [
        line.strip()
        for block in fences()
        for line in block.replace("\\\n", " ").splitlines()
        if line.strip()
    ]


class TestConfigs:
    def test_one_model_is_served_and_the_others_are_comments(self):
        served = models(text("models.config")).model_config_list.config
        assert [model.name for model in served] == ["text_classification"]
        assert len(commented_blocks(text("models.config"))) == 2

    def test_models_parse_with_the_commented_ones_too(self):
        blocks = commented_blocks(text("models.config"))
        everything = text("models.config").rstrip().removesuffix("}") + "".join(blocks) + "}"
        served = models(everything).model_config_list.config
        assert [m.name for m in served] == ["text_classification", "banking77", "translation"]
        for model in served:
            assert model.base_path == f"/models/{model.name}"
            assert model.model_platform == "tensorflow"
            loaded = model.model_version_policy.specific.versions
            assert set(model.version_labels.values()) <= set(loaded)

    def test_batching(self):
        batching = text_format.Parse(text("batching.config"), BatchingParameters())
        sizes = list(batching.allowed_batch_sizes)
        assert sizes == sorted(set(sizes))
        largest = batching.max_execution_batch_size.value
        assert batching.enable_large_batch_splitting.value
        assert sizes[-1] == largest <= batching.max_batch_size.value
        assert batching.max_enqueued_batches.value * largest >= batching.max_batch_size.value
        assert not batching.pad_variable_length_inputs

    def test_prometheus_asks_where_the_metrics_are(self):
        config = text_format.Parse(text("monitoring.config"), MonitoringConfig()).prometheus_config
        assert config.enable
        (job,) = yaml.safe_load(text("prometheus.yml"))["scrape_configs"]
        assert job["metrics_path"] == config.path == "/monitoring/prometheus/metrics"
        annotations = manifests()["Deployment"]["spec"]["template"]["metadata"]["annotations"]
        assert annotations["prometheus.io/path"] == config.path
        (target,) = job["static_configs"][0]["targets"]
        assert target == "serving:8501" and "serving" in compose()["services"]


class TestCompose:
    def test_follows_the_compose_specification(self):
        jsonschema.validate(compose(), get_builtin_schema("vendor.compose-spec"))

    def test_ports_are_on_loopback(self):
        services = compose()["services"].values()
        ports = [port for service in services for port in service["ports"]]
        assert all(port.startswith("127.0.0.1:") for port in ports)
        assert {"127.0.0.1:8500:8500", "127.0.0.1:8501:8501"} <= set(ports)

    def test_what_is_mounted_exists_and_is_read_only(self):
        declared = compose()["volumes"]
        for service in compose()["services"].values():
            for volume in service["volumes"]:
                if isinstance(volume, str):
                    assert volume.split(":")[0] in declared
                else:
                    assert (DEPLOY / volume["source"]).is_dir() and volume["read_only"]

    def test_health_is_asked_by_a_script_that_is_mounted(self):
        assert compose()["services"]["serving"]["healthcheck"]["test"][-1] == "/config/ready.sh"


class TestKubernetes:
    @pytest.mark.parametrize("version", ["1.25", "1.37"])
    def test_manifests_are_valid(self, version):
        for manifest in yaml.safe_load_all(text("kubernetes.yaml")):
            kubernetes_validate.validate(manifest, version, strict=True)

    def test_the_config_map_has_this_folders_files(self):
        data = manifests()["ConfigMap"]["data"]
        assert data.keys() == {"models.config", "batching.config", "monitoring.config", "ready.sh"}
        for name, content in data.items():
            assert content == text(name), f"deploy/kubernetes.yaml has another {name}"

    def test_names_refer_to_what_there_is(self):
        docs = manifests()
        name, labels = "serving", {"app.kubernetes.io/name": "serving"}
        assert docs["Deployment"]["metadata"]["name"] == name
        assert docs["Deployment"]["spec"]["template"]["metadata"]["labels"] == labels
        assert docs["Deployment"]["spec"]["selector"]["matchLabels"] == labels
        assert docs["Service"]["spec"]["selector"] == labels
        assert docs["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"] == labels
        assert docs["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]["name"] == name
        volumes = {volume["name"]: volume for volume in pod()["volumes"]}
        assert {m["name"] for m in pod()["containers"][0]["volumeMounts"]} == volumes.keys()
        claim = volumes["models"]["persistentVolumeClaim"]["claimName"]
        assert claim == docs["PersistentVolumeClaim"]["metadata"]["name"]
        assert volumes["config"]["configMap"]["name"] == docs["ConfigMap"]["metadata"]["name"]
        ports = {port["name"]: port["containerPort"] for port in pod()["containers"][0]["ports"]}
        assert ports == {"grpc": 8500, "rest": 8501}
        assert {p["targetPort"]: p["port"] for p in docs["Service"]["spec"]["ports"]} == ports

    def test_a_pod_lives_longer_than_its_last_request(self):
        container = pod()["containers"][0]
        sleep = int(container["lifecycle"]["preStop"]["exec"]["command"][-1])
        connections = re.search(r"max_connection_age_ms=(\d+)", " ".join(container["args"]))
        # gRPC spreads the age by a tenth.
        longest = 1.1 * int(connections[1]) / 1000 + Options.rest_api_timeout_in_ms / 1000
        assert longest < sleep < pod()["terminationGracePeriodSeconds"]

    def test_the_server_is_killed_no_sooner_than_it_gives_up_loading(self):
        startup = pod()["containers"][0]["startupProbe"]
        retries = Options.max_num_load_retries * Options.load_retry_interval_micros / 1e6
        assert startup["periodSeconds"] * startup["failureThreshold"] > retries

    def test_nothing_runs_as_root(self):
        assert pod()["securityContext"]["runAsNonRoot"]
        security = pod()["containers"][0]["securityContext"]
        assert security["readOnlyRootFilesystem"] and not security["allowPrivilegeEscalation"]


class TestBoth:
    def test_flags_are_the_stock_servers_and_the_local_server_takes_them(self):
        arguments = compose()["services"]["serving"]["command"]
        assert [a for a in pod()["containers"][0]["args"] if "grpc_channel" not in a] == arguments
        for argument in pod()["containers"][0]["args"]:
            name, _, value = argument.removeprefix("--").partition("=")
            assert name in STOCK_FLAGS
            if value.startswith("/config/"):
                assert (DEPLOY / value.removeprefix("/config/")).is_file()
        assert parse(pod()["containers"][0]["args"]).enable_batching

    @pytest.mark.parametrize("name", sorted(STOCK_FLAGS))
    def test_the_local_server_knows_each_flag_of_the_stock_server(self, name):
        try:
            parse([f"--{name}"])
        except UsageError as mistake:
            assert "no flag" not in str(mistake)
        except SystemExit as ended:
            assert name == "version" and ended.code == 0

    def test_threads_are_those_of_the_limit(self):
        batching = text_format.Parse(text("batching.config"), BatchingParameters())
        threads = str(batching.num_batch_threads.value)
        limits = compose()["services"]["serving"]["deploy"]["resources"]["limits"]
        assert threads == limits["cpus"] == pod()["containers"][0]["resources"]["limits"]["cpu"]
        options = parse(compose()["services"]["serving"]["command"])
        assert options.tensorflow_session_parallelism == int(threads)
        assert options.rest_api_num_threads > batching.max_execution_batch_size.value

    def test_the_image_is_the_one_that_exports_are_checked_against(self):
        from tasks.engine.exporting.stock_ops import STOCK_SERVER

        tags = re.findall(r"tensorflow/serving:([\w.-]+)", text("compose.yaml"))
        tags += re.findall(r"tensorflow/serving:([\w.-]+)", text("kubernetes.yaml") + GUIDE)
        assert len(tags) == 3 and len(set(tags)) == 1
        assert tags[0].startswith(f"{STOCK_SERVER}.")


@contextmanager
def server(states):
    """A server that answers with the states of models, as the stock one writes them."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            state = states.get(self.path.removeprefix("/v1/models/"))
            self.send_response(200 if state else 404)
            self.end_headers()
            version = {"version": "1", "state": state, "status": {"error_code": "OK"}}
            answer = {"model_version_status": [version]} if state else {"error": "Could not find"}
            self.wfile.write(json.dumps(answer, indent=1).encode())

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield running.server_port
        running.shutdown()


class TestReady:
    def ready(self, folder, port, *arguments):
        script = folder / "ready.sh"
        script.write_text(text("ready.sh"), "utf-8")
        (folder / "models.config").write_text(
            """config { name: "a" base_path: "/models/a"
            version_labels { key: "stable" value: 1 } } config{name:'b' base_path:'/b'}
            # config { name: "commented" }
            config { base_path: "/c"  # name: "old"
              name
              : "c" }""",
            "utf-8",
        )
        command = ["bash", script, *arguments]
        environment = {"PATH": "/usr/bin:/bin", "REST_API_PORT": str(port)}
        return subprocess.run(command, env=environment, stdout=subprocess.DEVNULL).returncode == 0

    @pytest.mark.parametrize(
        ("states", "each", "one"),
        [
            (dict.fromkeys("abc", "AVAILABLE"), True, True),
            ({"a": "AVAILABLE", "b": "LOADING", "c": "AVAILABLE"}, False, True),
            ({"a": "AVAILABLE", "b": "AVAILABLE"}, False, True),
            ({"c": "AVAILABLE"}, False, True),
            ({"a": "END"}, False, False),
            ({}, False, False),
        ],
    )
    def test_says_whether_each_or_one_is_available(self, tmp_path, states, each, one):
        with server(states) as port:
            assert self.ready(tmp_path, port) is each
            assert self.ready(tmp_path, port, "any") is one

    def test_no_server_is_not_ready(self, tmp_path):
        assert not self.ready(tmp_path, 1)
        assert not self.ready(tmp_path, 1, "any")


class TestGuide:
    def test_flags_exist(self):
        flags = set(re.findall(r"(?<![\w-])--([a-z_]+)(?![\w.-])", GUIDE))
        flags -= {"help", "for"}  # kubectl wait --for
        assert "enable_batching" in flags
        assert flags <= STOCK_FLAGS | OWN_FLAGS
        assert set(Options.__dataclass_fields__) >= OWN_FLAGS

    def test_commands_of_the_local_server_are_understood(self):
        commands = [line for line in shell_lines() if line.startswith("python -m tasks.serve")]
        assert len(commands) == 2
        for command in commands:
            parse(shlex.split(command)[3:])

    def test_bodies_of_requests_are_json(self):
        words = [shlex.split(line) for line in shell_lines() if line.startswith("curl ")]
        bodies = [json.loads(word[word.index("-d") + 1]) for word in words if "-d" in word]
        assert len(bodies) == 3
        assert all(("instances" in body) != ("inputs" in body) for body in bodies)

    def test_python_compiles(self):
        (program,) = fences("python")
        compile(program, "docs/serving.md", "exec")

    def test_the_pod_that_copies_is_valid(self):
        (manifest,) = re.findall(r"<<'EOF'\n(.*?)^EOF$", GUIDE, re.M | re.S)
        kubernetes_validate.validate(yaml.safe_load(manifest), "1.37", strict=True)

    def test_each_step_of_the_canary_labels_what_it_loads(self):
        steps = [block for block in fences() if "version_labels" in block]
        assert len(steps) == 4
        loaded_before = set()
        for step in steps:
            model = text_format.Parse(step, model_server_config_pb2.ModelConfig())
            loaded = set(model.model_version_policy.specific.versions)
            labelled = set(model.version_labels.values())
            assert labelled <= loaded
            assert not loaded_before or labelled <= loaded_before
            loaded_before = loaded

    def test_metrics_are_those_that_the_local_server_has(self):
        source = (ROOT / "tasks/serving/metrics.py").read_text("utf-8")
        names = re.findall(r":tensorflow:[\w:]+", GUIDE)
        assert names
        for name in names:
            assert f'"{re.sub("_(bucket|sum|count)$", "", name)}' in source

    def test_files_and_headings_that_it_names_exist(self):
        for path in re.findall(r"`(deploy/[\w.-]+)`", GUIDE + text("README.md")):
            assert (ROOT / path).is_file()
        headings = re.findall(r"^#+ (.+)$", GUIDE, re.M)
        anchors = {heading.lower().replace(" ", "-") for heading in headings}
        assert set(re.findall(r"\]\(#([\w-]+)\)", GUIDE)) <= anchors

    def test_the_folders_page_lists_its_files(self):
        listed = set(re.findall(r"^\| `([\w.-]+)`", text("README.md"), re.M))
        assert listed == {path.name for path in DEPLOY.iterdir()} - {"README.md"}
