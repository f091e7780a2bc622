"""The flags of `python -m tasks.serve`: those of `tensorflow_model_server`, and a few of our own.

Importable without TensorFlow, so that help and mistakes are answered at once.
"""

import argparse
import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import docstring_parser

from tasks.engine.errors import UsageError
from tasks.engine.exporting.stock_ops import STOCK_SERVER


@dataclass(frozen=True)
class Options:
    """What the server was told to do. Names and defaults are the stock server's flags'."""

    port: int = 8500
    """gRPC listens here."""

    rest_api_port: int = 8501
    """REST and the playground listen here; 0 for neither. (Stock: 0, and 8501 in its image.)"""

    host: str = "127.0.0.1"
    """Address to listen on. Not the stock server's: that listens on all, 0.0.0.0."""

    grpc_socket_path: str = ""
    """If given, gRPC also listens on this UNIX socket."""

    model_name: str = "default"
    """The model's name in requests; not looked at with --model_config_file."""

    model_base_path: str = ""
    """The model's folder, in which versions are folders named by integers."""

    model_config_file: str = ""
    """A ModelServerConfig in text format: several models, version policies, labels."""

    model_config_file_poll_wait_seconds: int = 0
    """Seconds between readings of --model_config_file; 0 for reading it once."""

    base_path_prefix_map: str = ""
    """OLD=NEW: base paths that begin with OLD are looked for under NEW, so that a file written for
    a container is good on a laptop, too. By default /models=saved_models, where there is no folder
    /models. Not the stock server's."""

    file_system_poll_wait_seconds: float = 1.0
    """Seconds between looks for new versions; 0 for one look."""

    enable_batching: bool = False
    """Put requests together into batches."""

    batching_parameters_file: str = ""
    """BatchingParameters in text format; needs --enable_batching."""

    monitoring_config_file: str = ""
    """A MonitoringConfig in text format: Prometheus metrics on the REST port."""

    allow_version_labels_for_unavailable_models: bool = False
    """Let a new label point to a version that isn't loaded yet."""

    rest_api_timeout_in_ms: int = 30_000
    """Milliseconds after which a REST request is given up."""

    rest_api_num_threads: int = 0
    """Requests that run at once without batching, REST and gRPC together; 0 for four a core."""

    rest_api_enable_cors_support: bool = False
    """Let pages of other sites call the REST API."""

    rest_api_max_request_bytes: int = 256 * 1024 * 1024
    """REST bodies longer than this, packed or unpacked, get a 413. Not the stock server's."""

    grpc_channel_arguments: str = ""
    """Of the gRPC server, comma-separated: grpc.max_connection_age_ms=2000."""

    num_load_threads: int = 1
    """Versions that are loaded at once."""

    max_num_load_retries: int = 5
    """Times that a version which can't be loaded is tried again."""

    load_retry_interval_micros: int = 60_000_000
    """Microseconds between such tries."""

    enable_model_warmup: bool = True
    """Send a version its own warmup requests before clients may."""

    num_request_iterations_for_warmup: int = 1
    """How often each warmup request is sent."""

    saved_model_tags: str = "serve"
    """Comma-separated tags of the graph to load."""

    enable_signature_method_name_check: bool = False
    """Refuse Classify and Regress on signatures whose method name is another."""

    tensorflow_session_parallelism: int = 0
    """Threads of a session, within ops and between them; 0 for one a core."""

    tensorflow_intra_op_parallelism: int = 0
    """Threads within ops."""

    tensorflow_inter_op_parallelism: int = 0
    """Threads between ops."""

    per_process_gpu_memory_fraction: float = 0.0
    """Share of a GPU's memory to take at once, 0 to 1; 0 for TensorFlow's own way."""

    drain_seconds: float = 30.0
    """On SIGTERM, seconds that requests under way may still take. Not the stock server's."""

    def __post_init__(self) -> None:
        if not (self.model_base_path or self.model_config_file):
            raise UsageError(
                "neither of --model_base_path and --model_config_file; give one, such as "
                "--model_name reviews --model_base_path saved_models/reviews"
            )
        if self.port == 0:
            raise UsageError("--port 0: gRPC can't be switched off here; give it a port")
        for name, port in (("port", self.port), ("rest_api_port", self.rest_api_port)):
            lowest = 1 if name == "port" else 0
            if not lowest <= port <= 65535:
                raise UsageError(f"--{name} {port}: must be from {lowest} to 65535")
        if self.port == self.rest_api_port:
            raise UsageError(f"--rest_api_port {self.port}: gRPC has this port; give another")
        if not (self.model_name or self.model_config_file):
            raise UsageError("--model_name is empty; give the name that requests have in their URL")
        if self.batching_parameters_file and not self.enable_batching:
            raise UsageError("--batching_parameters_file without --enable_batching; add it")
        if self.file_system_poll_wait_seconds < 0:
            raise UsageError(
                f"--file_system_poll_wait_seconds {self.file_system_poll_wait_seconds:g}: never to "
                "look can't be had here; give 0 for one look"
            )
        for name in ("num_load_threads", "num_request_iterations_for_warmup"):
            _require(name, getattr(self, name), 1)
        _require("rest_api_max_request_bytes", self.rest_api_max_request_bytes, 1)
        for name in (
            "rest_api_timeout_in_ms",
            "rest_api_num_threads",
            "max_num_load_retries",
            "load_retry_interval_micros",
            "model_config_file_poll_wait_seconds",
            "file_system_poll_wait_seconds",
            "drain_seconds",
        ):
            _require(name, getattr(self, name), 0)
        if not 0 <= self.per_process_gpu_memory_fraction <= 1:
            fraction = self.per_process_gpu_memory_fraction
            raise UsageError(f"--per_process_gpu_memory_fraction {fraction}: must be from 0 to 1")
        self.prefix_map()
        self.channel_arguments()

    def prefix_map(self) -> tuple[str, str] | None:
        """What base paths begin with, and what stands for it; None to leave them."""
        if self.base_path_prefix_map:
            old, separator, new = self.base_path_prefix_map.partition("=")
            if not (old and separator and new):
                raise UsageError(
                    f"--base_path_prefix_map {self.base_path_prefix_map}: give OLD=NEW, such as "
                    "/models=saved_models"
                )
            return old.rstrip("/"), str(Path(new).absolute())
        if not Path("/models").is_dir() and Path("saved_models").is_dir():
            return "/models", str(Path("saved_models").absolute())
        return None

    def channel_arguments(self) -> list[tuple[str, int | str]]:
        """Of the gRPC server: names and values."""
        arguments: list[tuple[str, int | str]] = []
        for argument in filter(None, self.grpc_channel_arguments.split(",")):
            name, separator, value = argument.partition("=")
            if not separator:
                raise UsageError(f"--grpc_channel_arguments {argument}: give NAME=VALUE")
            # Beyond 32 bits it is text, as in the stock server.
            number = re.fullmatch(r"-?[0-9]{1,10}", value) and -(2**31) <= int(value) < 2**31
            arguments.append((name, int(value) if number else value))
        return arguments


# Flags of the stock server that change nothing here: what they tune isn't there, or is always on.
_WITHOUT_EFFECT = (
    "flush_filesystem_caches", "num_unload_threads", "grpc_max_threads",
    "remove_unused_fields_from_bundle_metagraph", "xla_cpu_compilation_enabled",
    "xla_gpu_compilation_enabled", "enable_profiler", "num_tflite_pools",
    "num_tflite_interpreters_per_pool", "skip_initialize_tpu", "enable_grpc_healthcheck_service",
)  # fmt: skip
# And such as can't be had here, with what to do instead; whoever gives one must know.
_STOCK = "serve with the stock server for it"
_REFUSED = {
    "ssl_config_file": "put a proxy with TLS before it",
    "use_alts_credentials": "put a proxy with TLS before it",
    "platform_config_file": _STOCK,
    "thread_pool_factory_config_file": _STOCK,
    "tensorflow_session_config_file": "give --tensorflow_session_parallelism and its siblings",
    "enable_per_model_batching_parameters": "--batching_parameters_file holds for all models",
    "enable_serialization_as_tensor_content": "answers have their values in typed fields",
    "prefer_tflite_model": _STOCK,
    "mixed_precision": "export the model in the precision that it is to compute in",
}


def parse(arguments: Sequence[str]) -> Options:
    """The options that the arguments spell.

    Raises:
        UsageError: a flag that there isn't, or a value that it can't have.
        SystemExit: --help or --version was given, and answered.
    """
    parser = _Parser(
        prog="python -m tasks.serve",
        allow_abbrev=False,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        description="Serves SavedModels as TensorFlow Serving does: the same flags, ports, REST "
        "paths, protos, statuses and messages, and a playground at http://localhost:8501/.",
        epilog="Flags of the stock server without effect here: "
        + ", ".join(f"--{name}" for name in _WITHOUT_EFFECT)
        + ". Refused: "
        + ", ".join(f"--{name}" for name in _REFUSED)
        + ".",
    )
    helps = {
        parameter.arg_name: " ".join((parameter.description or "").split()).replace("%", "%%")
        for parameter in docstring_parser.parse_from_object(Options).params
    }
    switch: dict[str, Any] = {
        "type": _boolean,
        "nargs": "?",
        "const": True,
        "metavar": "true|false",
    }
    for field in fields(Options):
        kind: Any = field.type
        options: dict[str, Any] = {"default": field.default, "help": helps[field.name]}
        if kind is bool:
            options |= switch
        else:
            options |= {"type": kind, "metavar": {int: "N", float: "X", str: "TEXT"}[kind]}
        parser.add_argument(f"--{field.name}", **options)
    parser.add_argument("--version", default=False, help="Print versions, and end.", **switch)
    for name in (*_WITHOUT_EFFECT, *_REFUSED):
        parser.add_argument(f"--{name}", nargs="?", const="true", help=argparse.SUPPRESS)
    given = vars(parser.parse_args(list(arguments)))
    if given.pop("version"):
        print(f"TensorFlow ModelServer: {STOCK_SERVER}, as {parser.prog} answers")
        print(f"TensorFlow Library: {version('tensorflow')}")
        raise SystemExit(0)
    for name, instead in _REFUSED.items():
        if given.pop(name) not in (None, "", "false", "0"):
            raise UsageError(f"--{name} can't be had here; {instead}")
    return Options(**{name: v for name, v in given.items() if name not in _WITHOUT_EFFECT})


class _Parser(argparse.ArgumentParser):
    """Mistakes become one line."""

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ").split()
        if message.startswith("unrecognized"):
            known = [option for action in self._actions for option in action.option_strings]
            close = difflib.get_close_matches(unknown[0].split("=")[0], known, 1)
            hint = f"did you mean {close[0]}?" if close else "--help lists the flags"
            raise UsageError(f"no flag {unknown[0]}; {hint}")
        raise UsageError(f"{message.removeprefix('argument ')}; --help lists the flags")


def _boolean(text: str) -> bool:
    if text.lower() not in ("true", "false", "1", "0"):
        raise argparse.ArgumentTypeError(f"{text} is neither true nor false")
    return text.lower() in ("true", "1")


def _require(name: str, value: float, least: int) -> None:
    if not least <= value < math.inf:
        raise UsageError(f"--{name} {value}: must be a number of at least {least}")
