"""The server's three config files, read from text format and checked.

models = read_models(options)                      # a ModelConfigList
batching = batching_parameters(options)            # defaults filled in, or None
path = metrics_path(options)                       # of Prometheus' page, or None
"""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from google.protobuf import text_format
from google.protobuf.message import Message
from tensorflow_serving.config import model_server_config_pb2

from tasks.engine.errors import UsageError
from tasks.protocol.errors import Code, ServingError, invalid_argument
from tasks.serving.options import Options
from tasks.serving.protos import BatchingParameters, MonitoringConfig

METRICS_PATH = "/monitoring/prometheus/metrics"

_Proto = TypeVar("_Proto", bound=Message)


@dataclass(frozen=True)
class Batching:
    """How requests are put together; defaults are the stock server's."""

    max_batch_size: int = 1000
    """Rows."""

    batch_timeout_micros: int = 0
    """How long the first request of a batch waits for more, where a thread is free."""

    max_enqueued_batches: int = 10
    """Batches that may wait, of each signature."""

    num_batch_threads: int = os.cpu_count() or 1
    """Batches that run at once, of all models together."""

    thread_pool_name: str = "model_server_batch_threads"

    allowed_batch_sizes: tuple[int, ...] = ()
    """Sizes that batches are filled up to."""

    pad_variable_length_inputs: bool = False
    """Fill up the other dimensions, too: with a tensor's own first element."""

    enable_large_batch_splitting: bool = False
    """Cut requests of more rows than fit."""

    max_execution_batch_size: int | None = None
    """Rows that run at once, if splitting; by default max_batch_size."""

    @property
    def largest(self) -> int:
        """Rows of the largest batch that is run."""
        split = self.enable_large_batch_splitting and self.max_execution_batch_size
        return split or self.max_batch_size


def read_models(options: Options) -> model_server_config_pb2.ModelConfigList:
    """The models to serve, as the command line or the file has them.

    Raises:
        UsageError: the file is not there, not text format, or not a list of models.
    """
    if options.model_config_file:
        file = options.model_config_file
        config = _read(file, model_server_config_pb2.ModelServerConfig())
        if config.WhichOneof("config") != "model_config_list":
            raise UsageError(f"{file}: no models; begin with model_config_list {{ config {{ ...")
        return config.model_config_list
    models = model_server_config_pb2.ModelConfigList()
    models.config.add(
        name=options.model_name,
        base_path=_absolute(options.model_base_path),
        model_platform="tensorflow",
    )
    return models


def check_models(
    models: model_server_config_pb2.ModelConfigList, mapping: tuple[str, str] | None
) -> dict[str, Path]:
    """The folder of each model by its name.

    Raises:
        ServingError: as the stock server says it.
    """
    folders: dict[str, Path] = {}
    for model in models.config:
        if model.name in folders:
            raise invalid_argument(
                f"Illegal to list model {model.name} multiple times in config list"
            )
        if not (Path(model.base_path).is_absolute() or _scheme(model.base_path)):
            raise invalid_argument(
                f"Expected model {model.name} to have an absolute path or URI; got "
                f"base_path()={model.base_path}"
            )
        if model.model_type and model.model_platform:
            raise invalid_argument(
                "Illegal setting both ModelServerConfig::model_type (deprecated) and "
                "ModelServerConfig::model_platform."
            )
        if not model.model_type and not model.model_platform:
            raise invalid_argument(
                "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
                "ModelServerConfig::model_platform."
            )
        if model.model_type not in (0, model_server_config_pb2.TENSORFLOW):
            raise invalid_argument(
                f"ModelServerConfig::model_type choice {model.model_type} not supported."
            )
        if model.model_platform not in ("", "tensorflow"):
            raise invalid_argument(
                f"Model {model.name} requests unsupported platform {model.model_platform}"
            )
        if model.HasField("logging_config"):
            raise invalid_argument(
                "No request-logger-creator provided. Neither the stock server nor this one logs "
                f"requests: leave logging_config of {model.name} out"
            )
        folders[model.name] = _folder(model.name, model.base_path, mapping)
    return folders


def batching_parameters(options: Options) -> Batching | None:
    """How to batch; None for not at all.

    Raises:
        UsageError: the file is not there, or contradicts itself.
    """
    if not options.enable_batching:
        return None
    file = options.batching_parameters_file
    if not file:
        return Batching()
    proto = _read(file, BatchingParameters())
    given: dict[str, Any] = {
        field.name: value.value if isinstance(value, Message) else value
        for field, value in proto.ListFields()
    }
    batching = Batching(**given | {"allowed_batch_sizes": tuple(proto.allowed_batch_sizes)})
    for name in (
        "max_batch_size",
        "num_batch_threads",
        "max_enqueued_batches",
        "max_execution_batch_size",
    ):
        value = getattr(batching, name)
        if value is not None and value < 1:
            raise UsageError(f"{file}: {name} {value}: must be at least 1")
    if batching.largest > batching.max_batch_size:
        raise UsageError(
            f"{file}: max_execution_batch_size {batching.largest} is larger than max_batch_size "
            f"{batching.max_batch_size}"
        )
    if batching.batch_timeout_micros < 0:
        raise UsageError(f"{file}: batch_timeout_micros is below 0")
    _check_sizes(file, batching.allowed_batch_sizes, batching.largest)
    return batching


def metrics_path(options: Options) -> str | None:
    """The path of Prometheus' page; None for none.

    Raises:
        UsageError: the file is not there, or not a MonitoringConfig.
    """
    if not options.monitoring_config_file:
        return None
    file = options.monitoring_config_file
    prometheus = _read(file, MonitoringConfig()).prometheus_config
    path = prometheus.path or METRICS_PATH
    if not path.startswith("/"):
        raise UsageError(f"{file}: path {path}: must begin with /")
    return path if prometheus.enable else None


def _check_sizes(file: str, sizes: Sequence[int], largest: int) -> None:
    if any(later <= earlier for earlier, later in pairwise(sizes)):
        raise UsageError(f"{file}: allowed_batch_sizes entries must be monotonically increasing")
    if sizes and sizes[-1] != largest:
        raise UsageError(
            f"{file}: Last entry in allowed_batch_sizes must match max_batch_size; last entry was "
            f"{sizes[-1]}; expected {largest}"
        )


def _folder(name: str, base_path: str, mapping: tuple[str, str] | None) -> Path:
    if mapping and (base_path == mapping[0] or base_path.startswith(mapping[0] + "/")):
        return Path(mapping[1] + base_path[len(mapping[0]) :])
    scheme = _scheme(base_path)
    if scheme not in ("", "file"):
        stock = "takes gs:// as it is" if scheme == "gs" else "takes gs:// alone"
        raise ServingError(
            Code.UNIMPLEMENTED,
            f"Model {name}: {base_path} is remote storage, which can't be had here; copy the model "
            "into a folder, or name one that it is mounted at with --base_path_prefix_map "
            f"{scheme}://...=DIR. The stock image {stock}",
        )
    return Path(base_path.removeprefix("file://"))


def _absolute(base_path: str) -> str:
    return base_path if _scheme(base_path) else str(Path(base_path).absolute())


def _scheme(base_path: str) -> str:
    """Of a URI, such as gs; of a path nothing."""
    scheme, separator, _ = base_path.partition("://")
    return scheme.lower() if separator and re.fullmatch(r"[A-Za-z][\w.+-]*", scheme) else ""


def _read(file: str, proto: _Proto) -> _Proto:
    if _scheme(file):
        raise UsageError(f"{file}: an address can't be read here; copy the file to this machine")
    try:
        return text_format.Parse(Path(file).read_text("utf-8"), proto)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None
    except (text_format.ParseError, UnicodeDecodeError) as error:
        name = proto.DESCRIPTOR.name
        raise UsageError(f"{file}:{error}: not a {name} in protobuf's text format") from None
