"""AdamW and SGD against Keras' own, the sparse update, lookahead, and the schedules."""

from dataclasses import replace
from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf

from tasks.engine.errors import UsageError
from tasks.engine.options import Train
from tasks.engine.task import Objective
from tasks.engine.training.fit import compile_model
from tasks.engine.training.optimizers import SGD, AdamW, Muon, make_optimizer, schedule
from tasks.engine.training.steps import take_steps

SHAPES = {"kernel": (4, 3), "bias": (3,)}


def trained(optimizer, steps=6, scale=1.0):
    """Two variables after some steps with gradients that both optimizers see alike."""
    random = np.random.RandomState(0)
    variables = [
        keras.Variable(random.randn(*shape), dtype="float32", name=name)
        for name, shape in SHAPES.items()
    ]
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    optimizer.build(variables)

    @tf.function
    def step(*gradients):
        optimizer.apply(list(gradients), variables)

    for _ in range(steps):
        step(*[tf.constant(scale * random.randn(*v.shape), tf.float32) for v in variables])
    optimizer.finalize_variable_values(variables)
    return [v.numpy() for v in variables]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weight_decay": 0.3},
        {"beta_1": 0.5, "beta_2": 0.9, "epsilon": 1e-3},
        {"gradient_accumulation_steps": 3},
        {"use_ema": True, "ema_momentum": 0.5},
        {"global_clipnorm": 1.0},
        {"global_clipnorm": 1e6},
        {"clipnorm": 0.5},
        {"clipvalue": 0.5},
        {"global_clipnorm": 1.0, "gradient_accumulation_steps": 2},
    ],
    ids=str,
)
def test_the_numbers_are_those_of_keras(options):
    rate = schedule("linear", 0.1, 2, 10)
    ours, plain = trained(AdamW(rate, **options)), trained(keras.optimizers.AdamW(rate, **options))
    for mine, theirs in zip(ours, plain, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)


def test_a_gradient_that_is_not_finite_shows():
    values = trained(AdamW(0.1, global_clipnorm=1.0), steps=1, scale=np.inf)
    assert np.isnan(values[0]).all()


@pytest.mark.parametrize("clip", [None, 3.0])
def test_duplicate_rows_of_a_sparse_gradient_add_up(clip):
    ours = AdamW(0.1, weight_decay=0.0, global_clipnorm=clip)
    plain = keras.optimizers.AdamW(0.1, weight_decay=0.0, global_clipnorm=clip)
    table, dense = (keras.Variable(np.ones((5, 2)), dtype="float32") for _ in range(2))
    for scale in (1.0, 0.3):  # above and below the norm to clip at
        slices = rows([3, 1, 3], scale * np.array([[1.0, 2], [3, 4], [5, -6]]))
        ours.apply([slices], [table])
        plain.apply([tf.convert_to_tensor(slices)], [dense])
    np.testing.assert_allclose(table, dense, rtol=1e-5)


def test_rows_without_a_gradient_rest():
    table = keras.Variable(np.ones((5, 2)), dtype="float32")
    optimizer = AdamW(0.1, weight_decay=0.0)
    optimizer.apply([rows([3], np.ones((1, 2)))], [table])
    before = table.numpy()
    optimizer.apply([rows([1], np.ones((1, 2)))], [table])
    assert (table.numpy() != before).any(axis=1).tolist() == [False, True, False, False, False]


def rows(indices, values):
    values = tf.constant(values, tf.float32)
    return tf.IndexedSlices(values, tf.constant(indices), (5, 2))


def test_its_state_can_be_saved_and_read_by_either():
    def built(kind):
        optimizer, variable = kind(0.1), keras.Variable(np.ones((2, 2)), name="kernel")
        optimizer.apply([tf.ones((2, 2))], [variable])
        return optimizer

    ours, plain = built(AdamW), built(keras.optimizers.AdamW)
    assert [v.shape for v in ours.variables] == [v.shape for v in plain.variables]
    store = {}
    ours.save_own_variables(store)
    plain.load_own_variables(store)
    np.testing.assert_allclose(plain.variables[2], ours.variables[2])


def test_its_config_comes_back_with_the_schedule():
    optimizer = AdamW(schedule("cosine", 0.5, 2, 10), weight_decay=0.1, global_clipnorm=2.0)
    copy = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(copy) is AdamW
    assert copy.get_config() == optimizer.get_config()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("linear", [0.5, 1.0, 1.0, 0.5, 0.0, 0.0]),
        ("cosine", [0.5, 1.0, 1.0, 0.5, 0.0, 0.0]),
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_a_schedule_warms_up_then_decays(kind, expected):
    rate = schedule(kind, 1.0, warmup_steps=2, total_steps=10)
    np.testing.assert_allclose([rate(step) for step in (0, 1, 2, 6, 10, 12)], expected, atol=1e-6)


def test_inverse_sqrt_is_the_formula_of_its_paper():
    steps = np.array([1, 2, 4, 16, 400])
    rate = schedule("inverse_sqrt", 1.0, warmup_steps=4, total_steps=10)
    expected = 4**0.5 * np.minimum(steps**-0.5, steps * 4**-1.5)  # whose highest is 1
    np.testing.assert_allclose([rate(step - 1) for step in steps], expected, rtol=1e-6)


def test_inverse_sqrt_without_warmup_is_refused():
    with pytest.raises(UsageError, match=r"--train.warmup 0: .* such as 0.05"):
        Train(schedule="inverse_sqrt", warmup=0.0)


def test_cosine_decays_slowly_at_first():
    linear, cosine = (schedule(kind, 1.0, 0, 8)(1) for kind in ("linear", "cosine"))
    assert cosine > linear


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="one of linear, cosine, "):
        schedule("step", 1.0, 0, 10)


def test_two_replicas_update_as_one():
    if len(tf.config.list_logical_devices("CPU")) < 2:
        pytest.skip("one logical device")

    def trained_table(strategy):
        with strategy.scope():
            inputs = keras.Input((2,), dtype="int32")
            vectors = keras.layers.Embedding(6, 4, embeddings_initializer="ones")(inputs)
            outputs = keras.layers.Dense(1, kernel_initializer="ones")(keras.ops.mean(vectors, 1))
            model = keras.Model(inputs, outputs)
            optimizer = AdamW(0.1, global_clipnorm=1.0)
            model.compile(optimizer, keras.losses.MeanSquaredError(), jit_compile=False)
            take_steps(model)
        x, y = np.array([[0, 1], [1, 2], [2, 1], [5, 1]]), np.arange(4.0)
        model.fit(tf.data.Dataset.from_tensor_slices((x, y)).batch(4), epochs=3, verbose=0)
        return model.get_weights()

    two = trained_table(two_replicas())
    one = trained_table(tf.distribute.get_strategy())
    for left, right in zip(two, one, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4)


def exact(rate=0.1, **options):
    return SGD(rate, **options), keras.optimizers.SGD(rate, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"momentum": 0.9, "nesterov": True},
        {"momentum": 0.5, "nesterov": False},
        {"momentum": 0.0, "nesterov": False},
        {"momentum": 0.85, "nesterov": True, "weight_decay": 0.3},
        {"momentum": 0.9, "nesterov": True, "global_clipnorm": 1.0},
        {"momentum": 0.9, "nesterov": True, "clipvalue": 0.5},
        {"momentum": 0.9, "nesterov": True, "gradient_accumulation_steps": 3},
        {"momentum": 0.9, "nesterov": True, "use_ema": True, "ema_momentum": 0.5},
    ],
    ids=str,
)
def test_sgds_numbers_are_those_of_keras(options):
    ours, plain = (trained(some) for some in exact(schedule("linear", 0.1, 2, 10), **options))
    for mine, theirs in zip(ours, plain, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)


def test_sgd_takes_sparse_gradients_as_dense_ones():
    tables = [keras.Variable(np.ones((5, 2)), dtype="float32") for _ in range(2)]
    for optimizer, table in zip(exact(momentum=0.9, nesterov=True), tables, strict=True):
        for _ in range(3):
            slices = rows([3, 1, 3], np.array([[1.0, 2], [3, 4], [5, -6]]))
            optimizer.apply([slices], [table])
    np.testing.assert_allclose(*tables, rtol=1e-5)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_bias_scale_multiplies_the_rate_of_variables_of_one_axis_only(momentum):
    options = {"momentum": momentum, "nesterov": momentum > 0}
    scaled = trained(SGD(0.1, **options, bias_scale=8.0))
    plain = trained(keras.optimizers.SGD(0.1, **options))
    faster = trained(keras.optimizers.SGD(0.8, **options))
    np.testing.assert_allclose(scaled[0], plain[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(scaled[1], faster[1], rtol=1e-5, atol=1e-6)


def test_bias_scale_leaves_decay_as_it_is():
    random = np.random.RandomState(0)
    start, gradient = random.randn(2, 3).astype("float32")
    bias = keras.Variable(start, name="bias")
    SGD(0.1, 0.0, False, bias_scale=8.0, weight_decay=0.3).apply([tf.constant(gradient)], [bias])
    np.testing.assert_allclose(bias, start * (1 - 0.1 * 0.3) - 0.8 * gradient, rtol=1e-5)


def looked_ahead(steps, lookahead, total, rate=0.1, momentum=0.9):
    """The two variables of `trained` in numpy, by the papers' formulas."""
    random = np.random.RandomState(0)
    fast = [random.randn(*shape) for shape in SHAPES.values()]
    slow, velocity = [x.copy() for x in fast], [0 * x for x in fast]
    for step in range(1, steps + 1):
        gradients = [random.randn(*x.shape) for x in fast]
        velocity = [momentum * v - rate * g for v, g in zip(velocity, gradients, strict=True)]
        steps_taken = zip(fast, velocity, gradients, strict=True)
        fast = [x + momentum * v - rate * g for x, v, g in steps_taken]
        kept = 1 if step == total else 0.95**lookahead * (step / total) ** 3
        if step % lookahead == 0 or step == total:
            fast = [kept * s + (1 - kept) * x for s, x in zip(slow, fast, strict=True)]
            slow = [x.copy() for x in fast]
    return fast, slow


@pytest.mark.parametrize("steps", [1, 4, 5, 7, 10, 11, 12])
def test_lookahead_goes_part_of_the_way_back_every_so_many_steps(steps):
    optimizer = SGD(0.1, 0.9, lookahead=5, total_steps=12)
    fast, _ = looked_ahead(steps, 5, 12)
    for mine, expected in zip(trained(optimizer, steps), fast, strict=True):
        np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-5)


def test_lookaheads_last_step_leaves_the_slow_weights():
    before, after = (
        trained(SGD(0.1, 0.9, lookahead=5, total_steps=12), steps) for steps in (10, 12)
    )
    for slow, last in zip(before, after, strict=True):
        np.testing.assert_allclose(last, slow, rtol=1e-6)


@pytest.mark.parametrize("replicas", [1, 2])
def test_lookahead_in_fit_is_that_of_steps_one_by_one(replicas):
    """`fit` builds the optimizer while it traces a step, which must not become part of it."""
    x, y = np.random.RandomState(0).randn(4, 3).astype("float32"), np.arange(4.0)
    strategy = two_replicas() if replicas == 2 else tf.distribute.get_strategy()
    with strategy.scope():
        inputs = keras.Input((3,))
        model = keras.Model(inputs, keras.layers.Dense(1, kernel_initializer="ones")(inputs))
        optimizer = SGD(0.01, 0.9, lookahead=3, total_steps=8)
        model.compile(optimizer, keras.losses.MeanSquaredError(), jit_compile=False)
        take_steps(model)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(4)
    model.fit(data, epochs=7, verbose=0)

    kernel, bias = (keras.Variable(v, dtype="float32") for v in (np.ones((3, 1)), np.zeros(1)))
    plain = SGD(0.01, 0.9, lookahead=3, total_steps=8)
    plain.build([kernel, bias])
    for _ in range(7):
        with tf.GradientTape() as tape:
            outputs = tf.matmul(x, kernel.value) + bias.value
            loss = tf.reduce_mean(tf.square(outputs[:, 0] - y))
        plain.apply(tape.gradient(loss, [kernel.value, bias.value]), [kernel, bias])
    np.testing.assert_allclose(model.get_weights()[0], kernel, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model.get_weights()[1], bias, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("stopped", [3, 5, 9])
@pytest.mark.parametrize("lookahead", [0, 4])
def test_sgd_goes_on_from_its_saved_state_as_if_it_had_not_stopped(lookahead, stopped):
    random = np.random.RandomState(0)
    start, gradients = random.randn(4, 3), random.randn(11, 4, 3).astype("float32")

    def begun(value):
        variable = keras.Variable(value, dtype="float32", name="kernel")
        rate = schedule("triangular", 0.1, 3, 11)
        optimizer = SGD(rate, weight_decay=0.1, lookahead=lookahead, total_steps=11)
        optimizer.build([variable])
        return variable, optimizer

    whole, optimizer = begun(start)
    store = {}
    for step, gradient in enumerate(gradients):
        if step == stopped:
            optimizer.save_own_variables(store)
            store = {name: np.array(value) for name, value in store.items()}
            value = whole.numpy()
        optimizer.apply([tf.constant(gradient)], [whole])
    resumed, optimizer = begun(value)
    optimizer.load_own_variables(store)
    for gradient in gradients[stopped:]:
        optimizer.apply([tf.constant(gradient)], [resumed])
    np.testing.assert_allclose(resumed, whole, rtol=1e-6)
    assert not np.allclose(whole, value)


def test_sgds_state_without_lookahead_is_that_of_keras():
    variable = keras.Variable(np.ones((2, 2)), name="kernel")
    ours, plain = exact(momentum=0.9)
    store = {}
    for optimizer in (ours, plain):
        optimizer.build([variable])
    ours.apply([tf.ones((2, 2))], [variable])
    ours.save_own_variables(store)
    plain.load_own_variables(store)
    np.testing.assert_allclose(plain.variables[-1], ours.variables[-1])


def test_sgds_config_comes_back():
    optimizer = SGD(
        schedule("triangular", 0.5, 2, 10), 0.8, bias_scale=64.0, lookahead=5, total_steps=10
    )
    copy = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert type(copy) is SGD
    assert copy.get_config() == optimizer.get_config()
    assert (copy.bias_scale, copy.lookahead, copy.total_steps) == (64.0, 5, 10)


def test_triangular_rises_from_a_fifth_and_falls_to_seven_hundredths():
    rate = schedule("triangular", 2.0, warmup_steps=4, total_steps=14)
    steps = (0, 1, 3, 4, 9, 14, 20)
    expected = [2 * share for share in (0.4, 0.6, 1.0, 1.0, (1 + 0.07) / 2, 0.07, 0.07)]
    np.testing.assert_allclose([rate(step) for step in steps], expected, rtol=1e-5)


def test_options_make_the_optimizer_they_name():
    sgd = make_optimizer(
        Train(
            optimizer="sgd",
            learning_rate=0.5,
            schedule="triangular",
            warmup=0.2,
            momentum=0.8,
            bias_scale=64.0,
            lookahead=5,
            weight_decay=0.1,
            clip_norm=None,
            ema=0.9,
        ),
        steps=40,
    )
    assert type(sgd) is SGD
    assert (sgd.momentum, sgd.nesterov, sgd.bias_scale) == (0.8, True, 64.0)
    assert (sgd.lookahead, sgd.total_steps, sgd.weight_decay) == (5, 40, 0.1)
    assert (sgd.global_clipnorm, sgd.gradient_accumulation_steps) == (None, None)
    assert (sgd.use_ema, sgd.ema_momentum) == (True, 0.9)
    rate = schedule("triangular", 0.5, 8, 40).get_config()
    assert sgd._learning_rate.get_config() == rate
    adamw, muon = (
        make_optimizer(Train(optimizer=name, adam_beta_2=0.98), 40) for name in ("adamw", "muon")
    )
    assert adamw.beta_2 == 0.98
    assert type(adamw) is AdamW
    assert type(muon) is Muon
    for optimizer in (adamw, muon):
        assert (optimizer.weight_decay, optimizer.global_clipnorm) == (0.01, 1.0)
        assert not optimizer.use_ema and optimizer.gradient_accumulation_steps is None


def test_accumulated_gradients_are_refused_with_lookahead():
    with pytest.raises(UsageError, match=r"--train\.accumulate 2 can.t be had with"):
        Train(optimizer="sgd", accumulate=2, lookahead=5)
    assert make_optimizer(Train(optimizer="sgd", accumulate=2), 4).gradient_accumulation_steps == 2


def gathered(kind, steps, epoch, batches, **options):
    """A weight after batches of gradients 1, 2, 3, ..., and the average, if one is kept."""
    optimizer = kind(0.1, gradient_accumulation_steps=steps, epoch_steps=epoch, **options)
    weight = keras.Variable(np.zeros(1), dtype="float32", name="bias")
    optimizer.build([weight])
    step = tf.function(lambda gradient: optimizer.apply([gradient], [weight]))
    found = []
    for batch in range(batches):
        step(tf.constant([batch + 1.0]))
        found.append(weight.numpy()[0])
    average = optimizer._model_variables_moving_average[0] if optimizer.use_ema else None
    return found, average, optimizer


def test_gradients_that_are_left_at_an_epochs_end_are_an_update_by_their_mean():
    plain = partial(SGD, momentum=0.0, nesterov=False)
    weights, _, optimizer = gathered(plain, steps=3, epoch=5, batches=10)
    first, second, third, fourth = 2.0, 4.5, 7.0, 9.5  # the means of 1 2 3, 4 5, 6 7 8, 9 10
    changes = [0, 0, first, 0, second, 0, 0, third, 0, fourth]
    np.testing.assert_allclose(weights, -0.1 * np.cumsum(changes), rtol=1e-5)
    assert int(optimizer.iterations) == 4


def test_a_window_longer_than_an_epoch_is_the_epoch():
    for kind in (partial(SGD, momentum=0.0, nesterov=False), AdamW, Muon):
        weights, _, optimizer = gathered(kind, steps=8, epoch=5, batches=10)
        assert len(set(weights[:4])) == len(set(weights[4:9])) == 1
        assert weights[0] == 0 and weights[4] < 0 and weights[9] < weights[4]
        assert int(optimizer.iterations) == 2


def test_adams_time_is_that_of_updates():
    """As of a training with batches as large."""
    found, _, _ = gathered(AdamW, steps=2, epoch=3, batches=6)
    weight = keras.Variable(np.zeros(1), dtype="float32", name="bias")
    plain = keras.optimizers.AdamW(0.1)
    for gradient in (1.5, 3.0, 4.5, 6.0):
        plain.apply([tf.constant([gradient])], [weight])
    np.testing.assert_allclose(found[-1], weight.numpy()[0], rtol=1e-5)


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant"])
@pytest.mark.parametrize("accumulate", [2, 3, 8])
def test_learning_rates_are_those_of_a_training_with_batches_as_large(kind, accumulate):
    options = Train(schedule=kind, warmup=0.3, optimizer="sgd", momentum=0.0, weight_decay=0.0)
    gathering = make_optimizer(replace(options, accumulate=accumulate), 10, 5)
    large = make_optimizer(options, 2 * -(-5 // accumulate))
    found = []
    for optimizer in (gathering, large):
        weight = keras.Variable(np.zeros(1), dtype="float32", name="bias")
        for _ in range(10 if optimizer is gathering else 2 * -(-5 // accumulate)):
            optimizer.apply([tf.constant([1.0])], [weight])
        found.append(weight.numpy()[0])
    np.testing.assert_allclose(*found, rtol=1e-5)
    assert found[0] < -options.learning_rate / 2  # neither is a single update at no rate at all


def test_averages_of_weights_move_once_an_update():
    options = {"use_ema": True, "ema_momentum": 0.5}
    plain = partial(SGD, momentum=0.0, nesterov=False)
    weights, average, _ = gathered(plain, steps=2, epoch=4, batches=8, **options)
    expected = weights[1]
    for weight in weights[3::2]:
        expected = 0.5 * expected + 0.5 * weight
    np.testing.assert_allclose(average.numpy()[0], expected, rtol=1e-5)


@pytest.mark.parametrize("stopped", [1, 5, 7])
def test_what_was_gathered_goes_on_from_its_saved_state_bit_by_bit(stopped):
    gradients = np.random.RandomState(0).randn(10, 3).astype("float32")

    def begun(value):
        variable = keras.Variable(value, dtype="float32", name="bias")
        options = {"gradient_accumulation_steps": 3, "epoch_steps": 5, "use_ema": True}
        optimizer = AdamW(schedule("linear", 0.1, 2, 10), **options)
        optimizer.build([variable])
        return variable, optimizer

    whole, optimizer = begun(np.ones(3))
    store: dict = {}
    for batch, gradient in enumerate(gradients):
        if batch == stopped:
            optimizer.save_own_variables(store)
            store = {name: np.array(value) for name, value in store.items()}
            value = whole.numpy()
        optimizer.apply([tf.constant(gradient)], [whole])
    resumed, other = begun(value)
    other.load_own_variables(store)
    for gradient in gradients[stopped:]:
        other.apply([tf.constant(gradient)], [resumed])
    for one, two in zip([whole, *optimizer.variables], [resumed, *other.variables], strict=True):
        np.testing.assert_array_equal(one.numpy(), two.numpy())


def test_what_was_left_out_of_an_epoch_moves_no_later_windows():
    plain = partial(SGD, momentum=0.0, nesterov=False)
    _, _, optimizer = gathered(plain, steps=3, epoch=5, batches=4)
    weight = optimizer._trainable_variables[0]
    before = weight.numpy()[0]
    optimizer.begin_epoch(1)
    for gradient in (1.0, 2.0, 3.0):
        optimizer.apply([tf.constant([gradient])], [weight])
    np.testing.assert_allclose(weight.numpy()[0], before - 0.1 * 2.0, rtol=1e-5)


def test_muon_takes_a_convolution_as_a_matrix_and_leaves_the_rest_as_keras_does():
    shapes = {"kernel": (3, 3, 4, 8), "matrix": (36, 8), "classifier": (8, 2), "beta": (8,)}
    random = np.random.RandomState(0)
    start = {name: random.randn(*shape).astype("float32") for name, shape in shapes.items()}
    start["matrix"] = start["kernel"].reshape(36, 8)
    results = []
    for kind in (Muon, keras.optimizers.Muon):
        variables = [keras.Variable(value, name=name) for name, value in start.items()]
        optimizer = kind(0.01, weight_decay=0.1, exclude_layers=["classifier"])
        steps = np.random.RandomState(1)
        for _ in range(4):
            grads = {name: steps.randn(*shape).astype("float32") for name, shape in shapes.items()}
            grads["matrix"] = grads["kernel"].reshape(36, 8)
            optimizer.apply(list(map(tf.constant, grads.values())), variables)
        results.append(dict(zip(shapes, (v.numpy() for v in variables), strict=True)))
    ours, keras_own = results
    np.testing.assert_allclose(ours["kernel"].reshape(36, 8), ours["matrix"], rtol=1e-5)
    for name in ("matrix", "classifier", "beta"):
        np.testing.assert_allclose(ours[name], keras_own[name], rtol=1e-5)


def two_replicas():
    # The default, collective ops, can't tell two strategies of one process apart.
    reduction = tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], cross_device_ops=reduction)


@pytest.mark.parametrize("biases", [False, True])
def test_biases_decay_only_where_they_are_asked_to(biases):
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, bias_initializer="ones")])
    train = Train(optimizer="sgd", schedule="constant", warmup=0.0, decay_biases=biases)
    objective = Objective(keras.losses.MeanSquaredError(), [], assessment=None)
    compile_model(model, objective, train, steps_per_epoch=1)
    kernel, bias = (variable.numpy() for variable in model.trainable_variables)
    model.optimizer.apply([tf.zeros((4, 3)), tf.zeros(3)], model.trainable_variables)
    after = [variable.numpy() for variable in model.trainable_variables]
    assert (np.abs(after[0]) < np.abs(kernel)).all()
    assert ((after[1] < bias) == biases).all()
