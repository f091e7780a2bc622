"""One server for the suite, with all its models."""

from collections.abc import Iterator

import pytest

from tests.serving.conformance.models import write_models
from tests.serving.harness import Running, running


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("conformance")
    config = folder / "models.config"
    config.write_text(write_models(folder), "utf-8")
    # At the start, no version is available for a label to point to.
    with running(
        model_config_file=str(config), allow_version_labels_for_unavailable_models=True
    ) as server:
        yield server
