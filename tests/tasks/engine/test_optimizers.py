"""AdamW against Keras' own, the sparse update, and the schedules."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tasks.engine.optimizers import AdamW, schedule

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
        {"global_clipnorm": 1.0, "gradient_accumulation_steps": 2, "use_ema": True},
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


def test_cosine_decays_slowly_at_first():
    linear, cosine = (schedule(kind, 1.0, 0, 8)(1) for kind in ("linear", "cosine"))
    assert cosine > linear


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="linear, cosine or constant"):
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
            model.compile(AdamW(0.1, global_clipnorm=1.0), "mse", jit_compile=False)
        x, y = np.array([[0, 1], [1, 2], [2, 1], [5, 1]]), np.arange(4.0)
        model.fit(tf.data.Dataset.from_tensor_slices((x, y)).batch(4), epochs=3, verbose=0)
        return model.get_weights()

    two = trained_table(two_replicas())
    one = trained_table(tf.distribute.get_strategy())
    for left, right in zip(two, one, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4)


def two_replicas():
    # The default, collective ops, can't tell two strategies of one process apart.
    reduction = tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], cross_device_ops=reduction)
