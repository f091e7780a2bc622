"""Trainings that end sooner than they would, for tests of what a training leaves by then."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from tasks.engine.training import part
from tasks.engine.training.checkpoints import Checkpoints

Context = Callable[[], AbstractContextManager[None]]


@pytest.fixture(scope="session")
def without_the_rest() -> Context:
    """A context that leaves out what comes after training: evaluation, report and export."""

    @contextmanager
    def ends() -> Iterator[None]:
        fit = part.fit

        def fit_and_end(*arguments, **options):
            fit(*arguments, **options)
            raise SystemExit(0)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(part, "fit", fit_and_end)
            yield

    return ends


@pytest.fixture
def only_training(without_the_rest: Context) -> Iterator[None]:
    """That context for the whole of a test."""
    with without_the_rest():
        yield


@pytest.fixture(scope="session")
def stopping() -> Context:
    """A context in which trainings are stopped as by ^C, when their second epoch has been trained
    and is not yet saved."""

    @contextmanager
    def stops() -> Iterator[None]:
        keep = Checkpoints.on_epoch_end

        def stop(self, epoch, logs=None):
            if epoch == 1:
                raise KeyboardInterrupt
            keep(self, epoch, logs)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Checkpoints, "on_epoch_end", stop)
            yield

    return stops
