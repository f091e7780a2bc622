"""States of a training: whole or known to be damaged, and the last few of them are kept."""

import errno
import os

import keras
import numpy as np
import pytest

from tasks.engine.errors import UsageError
from tasks.engine.training import states
from tasks.engine.training.states import Progress, States, variables_of


def compiled(seed: int = 0, width: int = 3) -> keras.Model:
    keras.utils.set_random_seed(seed)
    model = keras.Sequential([keras.layers.Input((width,)), keras.layers.Dense(2)])
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    return model


def saved(folder, *progresses: Progress, model: keras.Model | None = None) -> States:
    kept = States(folder)
    for progress in progresses:
        kept.save(progress, model or compiled(), wait=True)
    return kept


def damage(path, what: bytes = b'"epoch"') -> None:
    """Changes one bit of some of a file's content."""
    content = bytearray(path.read_bytes())
    content[content.index(what)] ^= 1
    path.write_bytes(content)


def test_a_model_is_given_back_what_it_was(tmp_path):
    model = compiled(1)
    model.fit(np.ones((8, 3)), np.ones((8, 2)), verbose=0)
    history = [{"epoch": 1, "loss": 0.5}]
    saved(tmp_path, Progress(1, 7, history, {"seconds": 2.5}), model=model)
    state = States(tmp_path).newest()
    assert state.progress == Progress(1, 7, history, {"seconds": 2.5})
    other = compiled(2)
    other.evaluate(np.ones((8, 3)), np.ones((8, 2)), verbose=0)  # which makes the metrics
    States(tmp_path).restore(state, other)
    for one, two in zip(variables_of(model), variables_of(other), strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())


def test_what_was_trained_since_is_not_in_a_state_that_is_written_later(tmp_path):
    model, kept = compiled(), States(tmp_path)
    before = model.layers[0].kernel.numpy().copy()
    kept.save(Progress(0, 1), model)
    model.layers[0].kernel.assign(np.zeros((3, 2)))
    kept.settle()
    np.testing.assert_array_equal(States(tmp_path).newest().values[0], before)


def test_a_state_whose_weights_are_not_finite_is_not_kept(tmp_path):
    model = compiled()
    kept = saved(tmp_path, Progress(0, 1), model=model)
    model.layers[0].kernel.assign(np.full((3, 2), np.inf))
    kept.save(Progress(0, 2), model, wait=True)
    assert [path.name for path in kept.files()] == [Progress(0, 1).name]


def test_what_is_counted_may_stay_as_it_is(tmp_path):
    model = compiled()
    state = saved(tmp_path, Progress(0, 1), model=model).newest()
    model.fit(np.ones((8, 3)), np.ones((8, 2)), verbose=0)
    kept = States(tmp_path, holds=True)
    kept.restore(state, model, metrics=False)
    np.testing.assert_array_equal(model.layers[0].kernel.numpy(), state.values[0])
    assert kept.latest is state and model.get_metrics_result()["loss"] > 0
    kept.restore(state, model)
    assert model.get_metrics_result()["loss"] == 0
    kept.hold(Progress(1, 0), model)
    assert kept.latest.progress == Progress(1, 0)


def test_another_model_is_refused(tmp_path):
    saved(tmp_path, Progress(0, 1))
    bigger = keras.Sequential([keras.layers.Input((3,)), *[keras.layers.Dense(2)] * 1])
    bigger.add(keras.layers.Dense(1))
    bigger.compile("adam", "mse")
    with pytest.raises(ValueError, match="variables instead of"):
        States(tmp_path).restore(States(tmp_path).newest(), bigger)


def test_the_last_three_are_kept_and_the_newest_is_taken(tmp_path):
    progresses = [Progress(0, 5), Progress(0, 10), Progress(1, 0), Progress(1, 5), Progress(10, 0)]
    kept = saved(tmp_path, *progresses)
    assert [path.name for path in kept.files()] == [p.name for p in progresses[:1:-1]]
    assert States(tmp_path).newest().progress == Progress(10, 0)


def test_states_of_a_future_that_did_not_come_to_pass_are_removed(tmp_path):
    kept = saved(tmp_path, Progress(0, 5), Progress(2, 0), Progress(0, 10))
    assert [path.name for path in kept.files()] == [Progress(0, 10).name, Progress(0, 5).name]


@pytest.mark.parametrize("what", ["a value", '"batch"', "about.npy", "700, 2"])
def test_a_damaged_state_gives_way_to_the_one_before(tmp_path, capsys, what):
    model = compiled(width=700)  # more than is read at once: what is cut off is not missed
    kept = saved(tmp_path, Progress(0, 5), Progress(0, 10), model=model)
    value = model.layers[0].kernel.numpy().tobytes()
    damage(kept.files()[0], value if what == "a value" else what.encode())
    assert States(tmp_path).newest().progress == Progress(0, 5)
    said = capsys.readouterr().err
    assert "00000-000000010.npz: damaged" in said
    assert "going on from the one before" in said


@pytest.mark.parametrize("left", [0, 100, -200])
def test_a_cut_off_state_gives_way_too(tmp_path, left):
    kept = saved(tmp_path, Progress(0, 5), Progress(0, 10))
    newest = kept.files()[0]
    newest.write_bytes(newest.read_bytes()[:left])
    assert States(tmp_path).newest().progress == Progress(0, 5)


def test_nothing_but_damaged_states_is_an_error_that_says_how_to_mend_it(tmp_path):
    kept = saved(tmp_path / "states", Progress(0, 5))
    damage(kept.files()[0])
    with pytest.raises(UsageError, match=rf"damaged .*; delete {tmp_path} to train anew"):
        States(tmp_path / "states").newest()


def test_a_full_disk_leaves_the_states_before(tmp_path, monkeypatch):
    kept = saved(tmp_path, Progress(0, 5))

    def full(path, **arrays):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(states.np, "savez", full)
    with pytest.raises(OSError, match="No space left"):
        kept.save(Progress(0, 10), compiled(), wait=True)
    assert [path.name for path in tmp_path.iterdir()] == [Progress(0, 5).name]
    assert States(tmp_path).newest().progress == Progress(0, 5)


def test_a_worker_that_is_not_to_write_does_not(tmp_path):
    States(tmp_path / "states", writes=False).save(Progress(0, 5), compiled(), wait=True)
    assert not (tmp_path / "states").exists()
