"""The steps of `fit`: the numbers of one replica on several, and losses that are looked at."""

import time
from functools import cache, partial

import keras
import numpy as np
import pytest
import tensorflow as tf

from data.batching import FILLING, Share
from tasks.engine import keras_replicas
from tasks.engine.distribution import distributed
from tasks.engine.errors import RunError
from tasks.engine.training import steps as steps_module
from tasks.engine.training.ballot import Ballot
from tasks.engine.training.optimizers import SGD, AdamW, Muon
from tasks.engine.training.steps import Steps, take_steps
from zoo.losses import ClassAccuracy, SmoothedCrossentropy


@pytest.fixture(autouse=True)
def mended():
    keras_replicas.mend()


@cache
def replicas(count: int) -> tf.distribute.Strategy:
    if count == 1:
        return tf.distribute.get_strategy()
    devices = [device.name for device in tf.config.list_logical_devices("CPU")[:count]]
    return tf.distribute.MirroredStrategy(
        devices, cross_device_ops=tf.distribute.ReductionToOneDevice()
    )


def rows(count: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    inputs = draw.normal(size=(count, 4)).astype("float32")
    return inputs, (inputs.sum(axis=1) > 0).astype("int32")


def batches(count: int, size: int, weights: np.ndarray | None = None):
    """What makes a share of endless batches of the rows, and their number."""
    data = rows(count) if weights is None else (*rows(count), weights.astype("float32"))
    whole = tf.data.Dataset.from_tensor_slices(data).batch(size)

    def of(share: Share) -> tf.data.Dataset:
        def parts(inputs, targets, *own):
            weights = share.weights(tf.size(targets), *own)
            cut = share.cut(inputs), share.cut(targets), weights
            return tf.data.Dataset.from_tensor_slices(cut)

        return (whole if share == Share() else whole.flat_map(parts)).repeat()

    return of, -(-count // size)


def made(strategy, optimizer="sgd", precision="float32") -> keras.Model:
    """A model that takes the steps; on one replica without a graph, which takes longer to trace."""
    keras.utils.set_random_seed(3)
    with strategy.scope():
        policy = {"dtype": precision}
        layers = [keras.layers.Input((4,)), keras.layers.Dense(8, "relu", **policy)]
        model = keras.Sequential([*layers, keras.layers.Dense(2, **policy)])
        optimizer = optimizer() if callable(optimizer) else optimizer
        model.compile(
            optimizer,
            SmoothedCrossentropy(),
            weighted_metrics=[ClassAccuracy()],
            jit_compile=False,  # as in a training
            run_eagerly=strategy.num_replicas_in_sync == 1,
        )
        take_steps(model)
    return model


def fitted(
    model: keras.Model,
    count: int,
    size: int,
    weights=None,
    epochs: int = 3,
    callbacks=(),
    validated: bool = True,
) -> dict[str, list[float]]:
    of, steps = batches(count, size, weights)
    with model.distribute_strategy.scope():
        judged = {"validation_data": distributed(of), "validation_steps": steps}
        return model.fit(
            distributed(of),
            steps_per_epoch=steps,
            epochs=epochs,
            callbacks=list(callbacks),
            verbose=0,
            **(judged if validated else {}),
        ).history


@pytest.fixture(scope="module")
def alone_and_two() -> list[tuple[keras.Model, list[np.ndarray]]]:
    """A model of one replica and one of two, traced once for all data, and their first weights."""
    models = [made(replicas(count)) for count in (1, 2)]
    return [(model, model.get_weights()) for model in models]


def anew(alone_and_two, *data, **options) -> list[dict[str, list[float]]]:
    """What both models' trainings from their first weights measure."""
    for model, weights in alone_and_two:
        model.set_weights(weights)
    return [fitted(model, *data, **options) for model, _ in alone_and_two]


@pytest.mark.parametrize(("count", "size"), [(12, 4), (13, 4), (7, 3), (1, 4), (5, 5)])
def test_two_replicas_have_the_numbers_of_one(alone_and_two, count, size):
    one, two = anew(alone_and_two, count, size)
    assert one.keys() == two.keys() == {"loss", "accuracy", "val_loss", "val_accuracy"}
    for name in one:
        np.testing.assert_allclose(one[name], two[name], rtol=1e-5, err_msg=name)


SUMMING = {"gradient_accumulation_steps": 3, "epoch_steps": 4}
CLIPPED = {"global_clipnorm": 0.1, "weight_decay": 0.1}


@pytest.mark.parametrize(
    ("optimizer", "precision"),
    [
        (partial(AdamW, 0.01, **CLIPPED, use_ema=True, ema_momentum=0.9), "float32"),
        (partial(AdamW, 0.01, **CLIPPED, **SUMMING, use_ema=True, ema_momentum=0.5), "float32"),
        (partial(SGD, 0.1, clipnorm=0.1, **SUMMING), "float32"),
        (partial(SGD, 0.1, lookahead=2, total_steps=12), "float32"),
        (partial(Muon, 0.01, global_clipnorm=0.1, **SUMMING), "float32"),
        (partial(AdamW, 0.01, **CLIPPED), "mixed_float16"),
        (partial(AdamW, 0.01, **CLIPPED, **SUMMING), "mixed_float16"),
    ],
)
def test_two_replicas_update_as_one_does(optimizer, precision):
    # Only an average has other weights in validation than the step made, which are compared.
    averages = "use_ema" in optimizer.keywords
    histories, weights = [], []
    for count in (1, 2):
        model = made(replicas(count), optimizer, precision)
        average = [keras.callbacks.SwapEMAWeights()] if averages else []
        more = {"callbacks": average, "epochs": 4, "validated": averages}
        histories.append(fitted(model, 13, 4, **more))
        weights.append(model.get_weights())
    one, two = histories
    rough = 1e-5 if precision == "float32" else 1e-2
    for name in {"loss", "val_loss"} & one.keys():
        np.testing.assert_allclose(one[name], two[name], rtol=rough, err_msg=name)
    assert one["loss"][0] > 1.02 * one["loss"][-1]
    for mine, theirs in zip(*weights, strict=True):
        np.testing.assert_allclose(mine, theirs, atol=rough)


def test_weights_of_records_are_for_the_loss_alone(alone_and_two):
    weights = np.where(np.arange(13) % 3 == 0, 0.0, 2.0)
    plain, _ = anew(alone_and_two, 13, 4, epochs=1)
    one, two = anew(alone_and_two, 13, 4, weights)
    for name in one:
        np.testing.assert_allclose(one[name], two[name], rtol=1e-5, err_msg=name)
    assert one["loss"][0] != pytest.approx(plain["loss"][0])
    inputs, targets = rows(13)
    model, _ = alone_and_two[0]
    hits = model.predict(inputs, verbose=0).argmax(axis=-1) == targets
    judged = model.evaluate(batches(13, 4, weights)[0](Share()), steps=4, verbose=0)
    assert judged[1] == pytest.approx(hits.mean())


def test_rows_that_fill_up_are_marked():
    weights = Share(4, 0, 4).weights(tf.constant(5), tf.constant([0.5, 1, 2, 3, 4]))
    np.testing.assert_array_equal(weights, [[0.5, 1], [2, 3], [4, FILLING], [FILLING, FILLING]])


def test_replicas_drop_different_values():
    seeds = []
    strategy = replicas(2)
    with strategy.scope():
        model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dropout(0.5, seed=5)])
        model.compile("sgd", "mse")
        take_steps(model)

        @tf.function
        def drop():
            return strategy.run(lambda: model(tf.ones([64, 4]), training=True))

        parts = strategy.experimental_local_results(drop())
    seeds = [part.numpy() for part in parts]
    assert (seeds[0] != seeds[1]).any()
    keras.utils.set_random_seed(0)
    alone = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dropout(0.5, seed=5)])
    np.testing.assert_array_equal(seeds[0], alone(tf.ones([64, 4]), training=True))


class TestLossesThatAreNoNumbers:
    def model(self, bad: int = 2) -> tuple[keras.Model, tf.data.Dataset]:
        inputs, targets = rows(20)
        inputs[4 * bad + 1, 0] = np.nan
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(2)])
        metrics = {"weighted_metrics": [ClassAccuracy()], "jit_compile": False}
        model.compile("sgd", SmoothedCrossentropy(), **metrics)
        take_steps(model)
        return model, tf.data.Dataset.from_tensor_slices((inputs, targets)).batch(4).repeat()

    def test_training_ends_and_keeps_the_batch(self, tmp_path):
        model, data = self.model()
        steps = Steps(model, bad_batches=tmp_path)
        expected = (
            r"not a finite number at batch 3 of epoch 1, which is in .*batch-3-of-epoch-1.npz"
        )
        with pytest.raises(RunError, match=expected):
            model.fit(data, steps_per_epoch=5, verbose=0, callbacks=[steps])
        with np.load(tmp_path / "batch-3-of-epoch-1.npz") as kept:
            assert np.isnan(kept["inputs/0"][1, 0])
            assert kept["targets/0"].shape == (4,)

    def test_or_goes_on_after_going_back(self, capsys):
        model, data = self.model()
        backs = []
        well = []
        watch = keras.callbacks.LambdaCallback(
            on_train_batch_begin=lambda batch, logs: well.append(
                [variable.numpy() for variable in (*model.variables, *model.metrics_variables)]
            )
        )

        def roll_back(epoch, counted):
            backs.append(epoch)
            everything = (*model.variables, *model.metrics_variables)
            for variable, value in zip(everything, well[-1], strict=True):
                variable.assign(value)
            return True

        steps = Steps(model, roll_back=roll_back)
        history = model.fit(
            data, steps_per_epoch=5, epochs=2, verbose=0, callbacks=[steps, watch]
        ).history
        assert backs == [0, 1]
        assert np.isfinite(history["loss"]).all()
        assert "back to the last saved weights" in capsys.readouterr().err

    def test_but_not_for_ever(self):
        model, data = self.model()
        steps = Steps(model, roll_back=lambda epoch, counted: True)
        model.layers[0].kernel.assign(np.full((4, 2), np.nan))
        with pytest.raises(RunError, match="not a finite number"):
            model.fit(data, steps_per_epoch=5, verbose=0, callbacks=[steps])

    def test_nor_from_an_epoch_of_which_nothing_is_left(self):
        model, data = self.model(bad=4)
        steps = Steps(model, roll_back=lambda epoch, counted: False)
        with pytest.raises(RunError, match="nothing is left of this epoch"):
            model.fit(data, steps_per_epoch=5, verbose=0, callbacks=[steps])

    def test_what_the_last_step_of_an_epoch_spoils_is_seen(self):
        model, data = self.model(bad=4)
        steps = Steps(model)
        spoil = keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: (
                batch == 3 and model.layers[0].kernel.assign(np.full((4, 2), np.inf))
            )
        )
        with pytest.raises(RunError, match="the weights are not finite after batch 4 of epoch 1"):
            model.fit(data, steps_per_epoch=4, verbose=0, callbacks=[spoil, steps])


def test_batches_that_were_done_before_are_left_out():
    model, data = TestLossesThatAreNoNumbers().model(bad=0)
    Steps(model, done=3)
    seen = []
    watch = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(logs))
    model.fit(data.skip(1), steps_per_epoch=5, verbose=0, callbacks=[watch])
    assert [bool(logs) for logs in seen] == [False] * 3 + [True] * 2


@pytest.mark.parametrize("count", [1, 2])
def test_seconds_are_of_this_process_mean_replica(count, monkeypatch):
    # Another test may have asked for determinism, which can't be taken back.
    monkeypatch.setattr(steps_module, "is_op_determinism_enabled", lambda: False)
    monkeypatch.setattr(tf, "timestamp", lambda: tf.py_function(time.time, [], tf.float64))
    of, steps_of = batches(12, 4)
    strategy = replicas(count)
    with strategy.scope():
        model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(2)])
        model.compile("sgd", SmoothedCrossentropy(), jit_compile=False)
        take_steps(model)
        steps = Steps(model)
        begin = time.perf_counter()
        model.fit(distributed(of), steps_per_epoch=steps_of, verbose=0, callbacks=[steps])
        took = time.perf_counter() - begin
        if count == 2:
            before = steps.clocks()["all_reduce_seconds"]
            assert 0 < before < took
            strategy.run(lambda: steps._clock.assign_add(5.0))
            assert steps.clocks()["all_reduce_seconds"] == pytest.approx(before + 5)
    assert 0 < steps.clocks()["input_seconds"] < took
    assert ("all_reduce_seconds" in steps.clocks()) is (count == 2)


def test_wishes_are_counted_once():
    ballot = Ballot()
    assert ballot.count() == (False, False)
    ballot.ask_to_save()
    assert ballot.count() == (True, False)
    assert ballot.count() == (False, False)
    ballot.ask_to_stop()
    assert ballot.asked_to_stop
    assert ballot.count() == (False, True)
