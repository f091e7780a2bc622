"""HandleReloadConfigRequest: models come and go, versions and labels change."""

import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import text_format
from tensorflow_serving.apis import get_model_status_pb2, model_management_pb2
from tensorflow_serving.config import model_server_config_pb2

from tests.serving.conformance.cases import arrays, fails, predict, spec, table, tensor
from tests.serving.conformance.models import write_half
from tests.serving.harness import Running, running

INVALID, PRECONDITION = "INVALID_ARGUMENT", "FAILED_PRECONDITION"
END = get_model_status_pb2.ModelVersionStatus.END
AVAILABLE = get_model_status_pb2.ModelVersionStatus.AVAILABLE

ALL = "model_version_policy { all {} }"
ONLY_1 = "model_version_policy { specific { versions: 1 } }"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds the model `half` in three versions, and one that can't be loaded."""
    made = tmp_path_factory.mktemp("reload")
    write_half(made / "half", {1: 1.0, 2: 2.0, 3: 3.0})
    (made / "broken" / "1").mkdir(parents=True)
    (made / "broken" / "1" / "saved_model.pb").write_bytes(b"no proto")
    return made


@contextmanager
def serving(folder: Path, *models: str, **options: Any) -> Iterator[Running]:
    file = folder / "models.config"
    file.write_text(f"model_config_list {{ {' '.join(models)} }}", "utf-8")
    with running(model_config_file=str(file), max_num_load_retries=0, **options) as server:
        yield server


def model(folder: Path, more: str = "", name: str = "half", base: str = "half") -> str:
    path = folder / base
    return f"config {{ name: '{name}' base_path: '{path}' model_platform: 'tensorflow' {more} }}"


def label(name: str, version: int) -> str:
    return f"version_labels {{ key: '{name}' value: {version} }}"


def reload(server: Running, *models: str) -> model_management_pb2.ReloadConfigResponse:
    text = f"model_config_list {{ {' '.join(models)} }}"
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    request = model_management_pb2.ReloadConfigRequest(config=config)
    return server.models.HandleReloadConfigRequest(request, timeout=60)


def constant(server: Running, name: str = "half", version: int | None = None, label: str = ""):
    """The constant of the version that answers; None if none does."""
    try:
        response = predict(server, spec(name, version, label), x=tensor([0.0]))
    except grpc.RpcError:
        return None
    return arrays(response)["y"].item()


def states(server: Running, name: str = "half") -> dict[int, int]:
    request = get_model_status_pb2.GetModelStatusRequest(model_spec=spec(name))
    found = server.models.GetModelStatus(request, timeout=60).model_version_status
    return {each.version: each.state for each in found}


def becomes(get: Any, expected: Any) -> None:
    """Waits until a call gives what it should."""
    until = time.monotonic() + 20
    while (last := get()) != expected:
        assert time.monotonic() < until, last
        time.sleep(0.01)


def test_a_new_model_answers_when_the_call_returns(folder):
    with serving(folder, model(folder)) as server:
        response = reload(server, model(folder), model(folder, name="new"))
        assert (response.status.error_code, response.status.error_message) == (0, "")
        assert constant(server, "new") == constant(server) == 3.0


def test_a_model_that_is_left_out_goes_and_its_status_stays(folder):
    with serving(folder, model(folder), model(folder, name="old")) as server:
        reload(server, model(folder))
        becomes(lambda: constant(server, "old"), None)
        becomes(lambda: states(server, "old"), {3: END})
        with fails("NOT_FOUND", "Servable not found for request: Latest(old)"):
            predict(server, spec("old"), x=tensor([0.0]))
        assert constant(server) == 3.0


def test_an_empty_list_takes_all_models_away(folder):
    with serving(folder, model(folder)) as server:
        reload(server)
        becomes(lambda: constant(server), None)
        reload(server, model(folder))
        assert constant(server) == 3.0


@dataclass(frozen=True)
class Policy:
    id: str
    policy: str
    versions: set[int]


POLICIES = [
    Policy("the latest", "", {3}),
    Policy("latest 2", "latest { num_versions: 2 }", {2, 3}),
    Policy("latest of more than there are", "latest { num_versions: 9 }", {1, 2, 3}),
    Policy("all", "all {}", {1, 2, 3}),
    Policy("specific", "specific { versions: 1 versions: 3 }", {1, 3}),
    Policy("specific and missing", "specific { versions: 2 versions: 9 }", {2}),
]


@table(POLICIES)
def test_a_policy_chooses_the_versions(folder, case):
    with serving(folder, model(folder, ONLY_1)) as server:
        reload(server, model(folder, f"model_version_policy {{ {case.policy} }}"))
        becomes(lambda: {n for n, s in states(server).items() if s == AVAILABLE}, case.versions)
        assert constant(server) == max(case.versions)
        assert constant(server, version=min(case.versions)) == min(case.versions)


def test_labels_are_set_moved_and_removed(folder):
    with serving(folder, model(folder, ALL)) as server:
        becomes(lambda: len(states(server)), 3)
        becomes(lambda: set(states(server).values()), {AVAILABLE})
        reload(server, model(folder, ALL + label("stable", 1) + label("canary", 2)))
        assert (constant(server, label="stable"), constant(server, label="canary")) == (1, 2)
        reload(server, model(folder, ALL + label("stable", 2) + label("canary", 3)))
        assert (constant(server, label="stable"), constant(server, label="canary")) == (2, 3)
        answer = server.post("/v1/models/half/labels/stable:predict", {"instances": [0]})
        assert answer.json == {"predictions": [2.0]}
        reload(server, model(folder, ALL + label("canary", 3)))
        assert (constant(server, label="stable"), constant(server, label="canary")) == (None, 3)


def test_a_new_version_is_found_and_takes_over(folder, tmp_path):
    shutil.copytree(folder / "half" / "1", tmp_path / "half" / "1")
    with serving(tmp_path, model(tmp_path)) as server:
        assert constant(server) == 1.0
        shutil.copytree(folder / "half" / "2", tmp_path / "2")
        (tmp_path / "2").rename(tmp_path / "half" / "2")
        becomes(lambda: constant(server), 2.0)
        becomes(lambda: states(server), {2: AVAILABLE, 1: END})


@dataclass(frozen=True)
class Bad:
    id: str
    models: str
    code: str
    message: str | re.Pattern[str]


PLATFORM = "model_platform: 'tensorflow'"
UNAVAILABLE = (
    "Request to assign label to version {} of model {}, which is not currently available for "
    "inference"
)
NEITHER = (
    "Illegal setting neither ModelServerConfig::model_type (deprecated) nor "
    "ModelServerConfig::model_platform."
)
BOTH = (
    "Illegal setting both ModelServerConfig::model_type (deprecated) and "
    "ModelServerConfig::model_platform."
)
BAD = [
    Bad(
        "one name twice",
        "HALF HALF",
        INVALID,
        "Illegal to list model half multiple times in config list",
    ),
    Bad(
        "a relative path",
        f"HALF config {{ name: 'a' base_path: 'b/c' {PLATFORM} }}",
        INVALID,
        "Expected model a to have an absolute path or URI; got base_path()=b/c",
    ),
    Bad(
        "no path",
        f"HALF config {{ name: 'a' {PLATFORM} }}",
        INVALID,
        "Expected model a to have an absolute path or URI; got base_path()=",
    ),
    Bad(
        "an unknown platform",
        "HALF config { name: 'a' base_path: '/a' model_platform: 'torch' }",
        INVALID,
        "Model a requests unsupported platform torch",
    ),
    Bad("no platform", "HALF config { name: 'a' base_path: '/a' }", INVALID, NEITHER),
    Bad(
        "a platform and a type",
        f"HALF config {{ name: 'a' base_path: '/a' model_type: TENSORFLOW {PLATFORM} }}",
        INVALID,
        BOTH,
    ),
    Bad("a label to no version", "LABEL_9", PRECONDITION, UNAVAILABLE.format(9, "half")),
    Bad(
        "a label to a version that is not loaded",
        "LABEL_1",
        PRECONDITION,
        UNAVAILABLE.format(1, "half"),
    ),
    Bad(
        "a label of a model that is new",
        "HALF LABELLED",
        PRECONDITION,
        UNAVAILABLE.format(3, "labelled"),
    ),
    Bad(
        "a model that can't be loaded",
        "HALF BROKEN",
        "UNKNOWN",
        re.compile(
            r"^1 model\(s\) did not become available: "
            r"\{\{\{name: broken version: 1\} due to error: [A-Z_]+: .+\}, \}$"
        ),
    ),
]


@table(BAD)
def test_a_bad_config_is_refused_and_the_models_stay(folder, case):
    words = {
        "HALF": model(folder),
        "LABEL_9": model(folder, label("a", 9)),
        "LABEL_1": model(folder, label("a", 1)),
        "LABELLED": model(folder, label("a", 3), name="labelled"),
        "BROKEN": model(folder, name="broken", base="broken"),
    }
    config = re.sub(r"\b[A-Z_]+(\d\b)?", lambda m: words.get(m[0], m[0]), case.models)
    with serving(folder, model(folder)) as server:
        with fails(case.code, case.message):
            reload(server, config)
        assert constant(server) == 3.0


def test_a_config_that_is_no_list_is_refused(folder):
    message = (
        "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList "
        "is currently supported"
    )
    custom = model_server_config_pb2.ModelServerConfig()
    custom.custom_model_config.SetInParent()
    with serving(folder, model(folder)) as server:
        for config in (None, model_server_config_pb2.ModelServerConfig(), custom):
            request = model_management_pb2.ReloadConfigRequest(config=config)
            with fails(INVALID, message):
                server.models.HandleReloadConfigRequest(request, timeout=60)
        assert constant(server) == 3.0


def test_new_labels_may_be_allowed_for_versions_that_are_not_loaded(folder):
    allowed = {"allow_version_labels_for_unavailable_models": True}
    with serving(folder, model(folder), **allowed) as server:
        reload(server, model(folder, label("a", 3) + label("b", 9)))
        assert (constant(server, label="a"), constant(server, label="b")) == (3, None)
        with fails(PRECONDITION, UNAVAILABLE.format(9, "half")):
            reload(server, model(folder, label("a", 9)))
        assert constant(server, label="a") == 3
