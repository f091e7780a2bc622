"""The translator: by the textbook, trained without logits, decoded step by step, saved, loaded."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from zoo.configs import Decoding, TranslatorConfig
from zoo.errors import PresetError
from zoo.layers import fused
from zoo.layers.decoding import BeamSearch, Greedy, Sampling
from zoo.layers.vocabulary import token_nats
from zoo.losses import Perplexity, TokenCrossentropy
from zoo.saving import load_model
from zoo.translator import Translator, translator

SOURCE_TOKENS, TARGET_TOKENS, START, END = 13, 11, 2, 3
LAYERS, WIDTH, INNER, HEADS = 2, 12, 10, 2
NETS = [
    {"positions": positions, "activation": activation}
    for positions in ("sinusoidal", "rotary")
    for activation in ("relu", "gelu", "swiglu")
]
DROPOUT = {"dropout": 0.3, "attention_dropout": 0.2, "activation_dropout": 0.1}


def numbers(*shape, seed=0) -> np.ndarray:
    return np.random.RandomState(seed).randn(*shape).astype("float32")


def net(separate=False, tokens=SOURCE_TOKENS, **options) -> Translator:
    """A small net with all weights away from their initial values, without dropout."""
    keras.utils.set_random_seed(0)
    sizes = {"encoder_layers": LAYERS, "decoder_layers": LAYERS}
    sizes |= {"width": WIDTH, "inner": INNER, "heads": HEADS, "dropout": 0.0}
    model = Translator(tokens, TARGET_TOKENS if separate else None, **(sizes | options))
    for index, weight in enumerate(model.trainable_weights):
        weight.assign(weight + 0.3 * numbers(*weight.shape, seed=index))
    return model


def sentences(lengths=(5, 1, 7, 3), tokens=SOURCE_TOKENS, seed=0) -> list[list[int]]:
    random = np.random.RandomState(seed)
    return [random.randint(4, tokens, length).tolist() for length in lengths]


def padded(rows: list[list[int]], extra: int = 0) -> np.ndarray:
    ids = np.zeros((len(rows), max(map(len, rows)) + extra), np.int32)
    for row, tokens in enumerate(rows):
        ids[row, : len(tokens)] = tokens
    return ids


SOURCES = [[*tokens, END] for tokens in sentences()]
TARGETS = [[START, *tokens] for tokens in sentences((2, 6, 4, 1), TARGET_TOKENS, seed=1)]
INPUTS = {"source_ids": padded(SOURCES), "target_ids": padded(TARGETS)}
LABELS = padded([[*tokens[1:], END] for tokens in TARGETS])
REAL = LABELS > 0


# The textbook, one sentence at a time


def normal(x, weights, name):
    scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return scaled * weights[f"{name}/gamma"] + weights[f"{name}/beta"]


def dense(x, weights, name):
    return x @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]


def softmax(scores):
    shares = np.exp(scores - scores.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def turned(x):
    """Rotary positions: pairs of numbers are complex ones, turned by their position."""
    head = x.shape[1]
    rates = 10_000.0 ** (-np.arange(0, head, 2) / head)
    turn = np.exp(1j * np.arange(len(x))[:, np.newaxis] * rates)
    both = (x[:, : head // 2] + 1j * x[:, head // 2 :]) * turn
    return np.concatenate([both.real, both.imag], axis=1)


def attention(query, key, value, causal=False, rotary=False):
    """What all heads make of it, and the mean of their weights."""
    mixed, shares = [], []
    for q, k, v in zip(*(np.split(x, HEADS, axis=1) for x in (query, key, value)), strict=True):
        if rotary:
            q, k = turned(q), turned(k)
        scores = q @ k.T / np.sqrt(q.shape[1])
        if causal:
            scores[np.triu_indices(len(q), 1)] = -np.inf
        shares.append(softmax(scores))
        mixed.append(shares[-1] @ v)
    return np.concatenate(mixed, axis=1), np.mean(shares, axis=0)


def feed_forward(x, weights, name, activation):
    x = dense(x, weights, f"{name}/inner")
    if activation == "relu":
        x = np.maximum(x, 0)
    elif activation == "gelu":
        x = 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    else:
        gate, value = np.split(x, 2, axis=1)
        x = gate / (1 + np.exp(-gate)) * value
    return dense(x, weights, f"{name}/outer")


def embedded(tokens, table, rotary):
    x = table[tokens] * np.sqrt(WIDTH)
    if rotary:
        return x
    rates = 10_000.0 ** (-np.arange(0, WIDTH, 2) / WIDTH)
    angles = np.arange(len(tokens))[:, np.newaxis] * rates
    return x + np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def weights_of(model) -> dict[str, np.ndarray]:
    return {weight.path: np.array(weight, np.float64) for weight in model.trainable_weights}


def textbook(weights, source, target, positions="sinusoidal", activation="relu"):
    """The logits of one sentence, and the last layer's attention to the source."""
    rotary = positions == "rotary"
    table = weights["source_embedding/embeddings"]
    vectors = weights.get("target_embedding/embeddings", table)
    x = embedded(source, table, rotary)
    for name in (f"encoder_{i}" for i in range(LAYERS)):
        y = dense(normal(x, weights, f"{name}/attention_norm"), weights, f"{name}/project")
        y, _ = attention(*np.split(y, 3, axis=1), rotary=rotary)
        x = x + dense(y, weights, f"{name}/attended")
        y = normal(x, weights, f"{name}/inner_norm")
        x = x + feed_forward(y, weights, name, activation)
    memory = normal(x, weights, "encoder_norm")
    x = embedded(target, vectors, rotary)
    for name in (f"decoder_{i}" for i in range(LAYERS)):
        y = dense(normal(x, weights, f"{name}/attention_norm"), weights, f"{name}/project")
        y, _ = attention(*np.split(y, 3, axis=1), causal=True, rotary=rotary)
        x = x + dense(y, weights, f"{name}/attended")
        y = dense(normal(x, weights, f"{name}/source_norm"), weights, f"{name}/source_query")
        key, value = np.split(dense(memory, weights, f"{name}/source_memory"), 2, axis=1)
        y, shares = attention(y, key, value)
        x = x + dense(y, weights, f"{name}/source_attended")
        y = normal(x, weights, f"{name}/inner_norm")
        x = x + feed_forward(y, weights, name, activation)
    return normal(x, weights, "decoder_norm") @ vectors.T, shares


def textbook_loss(weights, smoothing, of_records, **options) -> float:
    """The mean over tokens of the label-smoothed cross-entropy, by the formula."""
    losses = []
    for source, target, labels, weight in zip(SOURCES, TARGETS, LABELS, of_records, strict=True):
        logits, _ = textbook(weights, source, target, **options)
        log_probs = np.log(softmax(logits))
        true = log_probs[np.arange(len(target)), labels[: len(target)]]
        losses.extend(weight * -((1 - smoothing) * true + smoothing * log_probs.mean(axis=1)))
    return float(np.mean(losses))


# The forward pass


@pytest.mark.parametrize("separate", [False, True], ids=["joint", "separate"])
@pytest.mark.parametrize("options", NETS, ids=str)
def test_logits_and_attention_are_those_of_the_textbook(options, separate):
    model = net(separate, **options)
    logits, attention = model(INPUTS).numpy(), model.attention(INPUTS).numpy()
    assert logits.dtype == attention.dtype == np.float32
    for row, (source, target) in enumerate(zip(SOURCES, TARGETS, strict=True)):
        expected, shares = textbook(weights_of(model), source, target, **options)
        np.testing.assert_allclose(logits[row, : len(target)], expected, atol=1e-4)
        found = attention[row, : len(target)]
        np.testing.assert_allclose(found[:, : len(source)], shares, atol=1e-5)
        assert (found[:, len(source) :] == 0).all()


@pytest.mark.parametrize("options", NETS[::3], ids=str)
def test_padding_changes_no_answer(options):
    model = net(**options)
    logits = model(INPUTS).numpy()
    wide = {"source_ids": padded(SOURCES, extra=4), "target_ids": padded(TARGETS, extra=3)}
    again = model(wide).numpy()[:, : logits.shape[1]]
    np.testing.assert_allclose(again[REAL], logits[REAL], atol=1e-5)
    for row, (source, target) in enumerate(zip(SOURCES, TARGETS, strict=True)):
        alone = model({"source_ids": padded([source]), "target_ids": padded([target])})
        np.testing.assert_allclose(alone[0], logits[row, : len(target)], atol=1e-5)


@pytest.mark.parametrize("options", NETS[::3], ids=str)
def test_no_position_sees_later_tokens_and_each_sees_the_earlier_ones(options):
    model = net(**options)
    logits = model(INPUTS).numpy()[1]
    for place in range(1, len(TARGETS[1])):
        other = [*TARGETS[1][:place], 3 + TARGETS[1][place] % 7, *TARGETS[1][place + 1 :]]
        targets = [TARGETS[0], other, *TARGETS[2:]]
        changed = model(INPUTS | {"target_ids": padded(targets)}).numpy()[1]
        np.testing.assert_array_equal(changed[:place], logits[:place])
        assert (np.abs(changed - logits)[place:].max(axis=1) > 1e-3).all()


@pytest.mark.parametrize("options", NETS[::3], ids=str)
def test_the_order_of_the_source_matters(options):
    model = net(**options)
    mirrored = [[*tokens[-2::-1], END] for tokens in SOURCES]
    change = model(INPUTS | {"source_ids": padded(mirrored)}).numpy() - model(INPUTS)
    changed = np.abs(change).max(axis=(1, 2)) > 1e-3
    assert changed.tolist() == [len(tokens) > 2 for tokens in SOURCES]


def test_half_precision_is_near_the_whole_one():
    logits = net()(INPUTS).numpy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    half = net()(INPUTS)
    assert half.dtype == tf.float32
    assert 1e-4 < np.abs(half - logits)[REAL].max() < 0.05 * np.abs(logits).max()


def test_the_cross_entropy_of_a_reference_is_that_of_the_logits_and_0_on_padding():
    model = net(separate=True)
    log_probs = np.log(softmax(model(INPUTS).numpy()))
    expected = -np.take_along_axis(log_probs, LABELS[..., np.newaxis], axis=2)[..., 0] * REAL
    np.testing.assert_allclose(model.nats(INPUTS, LABELS), expected, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_token_nats_are_the_plain_cross_entropy_with_its_gradients(smoothing, dtype):
    rows, table = tf.cast(numbers(50, 8, seed=1), dtype), tf.constant(numbers(21, 8, seed=2))
    tokens = np.random.RandomState(3).randint(0, 21, 50).astype("int32")
    upstream = numbers(50, seed=4)

    def plain(rows, table):
        logits = tf.matmul(rows, table, transpose_b=True)
        return keras.losses.categorical_crossentropy(
            tf.one_hot(tokens, 21), logits, from_logits=True, label_smoothing=smoothing
        )

    def fast(rows, table):
        return token_nats(tf.cast(rows, dtype), table, tokens, smoothing)

    found, expected = (
        value_and_gradients(function, [tf.cast(rows, "float32"), table], upstream)
        for function in (fast, plain)
    )
    for one, other in zip(found, expected, strict=True):
        tolerance = 1e-5 if dtype == "float32" else 0.02
        np.testing.assert_allclose(one, other, atol=tolerance * np.abs(other).max())


def value_and_gradients(function, tensors, upstream):
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = function(*tensors)
    return [value, *tape.gradient(value, tensors, upstream)]


# Training


def compiled(loss, rate=1.0, **options) -> Translator:
    model = net(**options)
    metrics = [Perplexity()]
    model.compile(keras.optimizers.SGD(rate), loss, metrics=metrics, jit_compile=False)
    return model


def plain_loss(smoothing: float):
    """The mean over tokens, by what Keras has."""
    each = keras.losses.CategoricalCrossentropy(True, smoothing, reduction=None)

    def loss(y_true, y_pred):
        real = tf.cast(y_true > 0, tf.float32)
        losses = each(tf.one_hot(tf.cast(y_true, tf.int32), y_pred.shape[-1]), y_pred) * real
        return losses * (tf.cast(tf.size(real), tf.float32) / tf.reduce_sum(real))

    return loss


OF_RECORDS = np.array([1, 0, 2, 0.5], "float32")


@pytest.mark.parametrize("of_records", [None, OF_RECORDS], ids=["alike", "weighted"])
@pytest.mark.parametrize(
    ("smoothing", "options"),
    [(0.1, DROPOUT), (0.0, {"separate": True}), (0.1, NETS[4]), (0.2, NETS[5] | DROPOUT)],
)
def test_fit_takes_the_loss_and_the_step_that_keras_takes(smoothing, options, of_records):
    ours = compiled(TokenCrossentropy(smoothing), **options)
    theirs = compiled(plain_loss(smoothing), **options)
    # Keras would take weights of records for those of positions.
    columns = None if of_records is None else of_records[:, np.newaxis]
    losses = [
        model.fit(INPUTS, LABELS, sample_weight=weights, verbose=0).history["loss"]
        for model, weights in ((ours, of_records), (theirs, columns))
    ]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    for one, other in zip(ours.trainable_weights, theirs.trainable_weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5, err_msg=one.path)


@pytest.mark.parametrize("options", [NETS[0], NETS[4], NETS[5]], ids=str)
def test_the_step_is_the_slope_of_the_textbook_loss(options):
    model = compiled(TokenCrossentropy(0.1), separate=True, **options)
    before = weights_of(model)
    history = model.fit(INPUTS, LABELS, sample_weight=OF_RECORDS, verbose=0).history
    assert history["loss"] == [pytest.approx(textbook_loss(before, 0.1, OF_RECORDS, **options))]
    after = weights_of(model)
    for name, value in before.items():
        along = 1e-5 * numbers(*value.shape, seed=7)
        ends = (before | {name: value + step} for step in (along, -along))
        up, down = (textbook_loss(weights, 0.1, OF_RECORDS, **options) for weights in ends)
        slope = ((value - after[name]) * along).sum() / 1e-5
        assert slope == pytest.approx((up - down) / 2e-5, rel=1e-3, abs=1e-4), name


def test_metrics_are_of_validation_alone_and_right():
    model = compiled(TokenCrossentropy(0.1), rate=0.01)
    # In two batches, with unlike many tokens.
    data = tf.data.Dataset.from_tensor_slices((INPUTS, LABELS)).batch(3)
    history = model.fit(data, validation_data=data, epochs=2, verbose=0).history
    assert history.keys() == {"loss", "val_loss", "val_perplexity"}
    nats = model.nats(INPUTS, LABELS).numpy()
    assert history["val_perplexity"][-1] == pytest.approx(np.exp(nats[REAL].mean()), rel=1e-5)
    assert history["val_perplexity"][-1] < history["val_perplexity"][0]
    found = model.evaluate(data, verbose=0, return_dict=True)
    assert found["perplexity"] == history["val_perplexity"][-1]


def test_the_loss_of_validation_is_without_dropout():
    model = compiled(TokenCrossentropy(0.1), rate=1e-9, **DROPOUT)
    history = model.fit(INPUTS, LABELS, validation_data=(INPUTS, LABELS), verbose=0).history
    expected = textbook_loss(weights_of(model), 0.1, np.ones(4))
    assert history["val_loss"] == [pytest.approx(expected, rel=1e-5)]
    assert abs(history["loss"][0] - expected) > 0.01


def test_replicas_train_as_one():
    def trained(strategy: tf.distribute.Strategy) -> list[np.ndarray]:
        with strategy.scope():
            model = compiled(TokenCrossentropy(0.1))
            data = tf.data.Dataset.from_tensor_slices((INPUTS, LABELS)).batch(4)
            history = model.fit(data, shuffle=False, verbose=0).history
            return [np.array(history["loss"]), *map(np.array, model.trainable_weights)]

    both = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    one = tf.distribute.get_strategy()
    for ours, expected in zip(trained(both), trained(one), strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-5)


# Dropout


def test_each_kind_of_dropout_drops_its_share_anew_at_each_place_and_step(monkeypatch):
    draws = []
    factors = fused.dropout_factors

    def noted(shape, rate, *others):
        draws.append((rate, factors(shape, rate, *others).numpy()))
        return tf.constant(draws[-1][1])

    monkeypatch.setattr(fused, "dropout_factors", noted)
    model = net(width=32, inner=64, dropout=0.4, attention_dropout=0.25, activation_dropout=0.1)
    inputs = {name: np.tile(ids, (16, 1)) for name, ids in INPUTS.items()}
    for _ in range(2):
        model(inputs, training=True)
    counts = {rate: sum(rate == other for other, _ in draws) for rate, _ in draws}
    # Of each step both embeddings, two parts an encoder layer and three a decoder layer.
    assert counts == {0.4: 2 * (2 + 5 * LAYERS), 0.25: 2 * 3 * LAYERS, 0.1: 2 * 2 * LAYERS}
    for rate, values in draws:
        dropped = (values == 0).mean()
        assert dropped == pytest.approx(rate, abs=4 * np.sqrt(0.25 / values.size) + 1 / 256)
        np.testing.assert_allclose(values[values > 0], 1 / (1 - rate), rtol=0.01)
    assert len({(values == 0).ravel()[:200].tobytes() for _, values in draws}) == len(draws)


@pytest.mark.parametrize("kind", DROPOUT)
def test_what_is_dropped_is_another_at_each_step_and_seed_and_nothing_in_inference(kind):
    model, without = net(**{kind: 0.5}), net()
    np.testing.assert_array_equal(model(INPUTS), without(INPUTS))
    np.testing.assert_allclose(without(INPUTS, training=True), without(INPUTS), atol=1e-5)
    first, second = (model(INPUTS, training=True).numpy() for _ in range(2))
    assert np.abs(first - second)[REAL].max() > 0.01
    same = net(**{kind: 0.5})
    np.testing.assert_allclose(same(INPUTS, training=True), first, atol=1e-6)
    keras.utils.set_random_seed(1)
    other = Translator.from_config(model.get_config())
    other.set_weights(model.get_weights())
    assert np.abs(other(INPUTS, training=True) - first)[REAL].max() > 0.01


# Decoding


LIMITS = np.array([6, 1, 8, 4], "int32")


def decoded(decoder, strategy, sources=INPUTS["source_ids"], limits=LIMITS, **options):
    """Answers as a served graph gives them, whose shapes are not known beforehand."""
    signature = [tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int32)]
    call = tf.function(
        lambda ids, limits: decoder(ids, limits, strategy, start=START, end=END, **options),
        signature,
        autograph=False,
    )
    found = call(sources, limits)
    return type(found)(*(tensor.numpy() for tensor in found))


def answers_of(found) -> list[list[list[int]]]:
    """The tokens of each row's answers."""
    return [
        [tokens[:length].tolist() for tokens, length in zip(*row, strict=True)]
        for row in zip(found.tokens, found.lengths, strict=True)
    ]


def log_probs_of(model, sources, answers) -> np.ndarray:
    """What the full model finds answers to be, (rows, answers)."""
    flat = [tokens for row in answers for tokens in row]
    ids = np.repeat(sources, len(answers[0]), axis=0)
    inputs = {"source_ids": ids, "target_ids": padded([[START, *tokens] for tokens in flat])}
    nats = model.nats(inputs, padded([[*tokens, END] for tokens in flat])).numpy()
    return -nats.sum(axis=1).reshape(len(answers), -1)


DECODED = [
    {},
    {"separate": True, "positions": "rotary", "activation": "gelu"},
    {"activation": "swiglu", "heads": 1, "decoder_layers": 1},
    {"positions": "rotary", "activation": "swiglu", "heads": 3},
]


@pytest.mark.parametrize("options", DECODED, ids=str)
def test_greedy_answers_are_the_full_models_likeliest_tokens(options):
    model = net(**options)
    found = decoded(model.for_serving(), Sampling(Greedy()))
    answers = answers_of(found)
    expected = log_probs_of(model, INPUTS["source_ids"], answers)
    np.testing.assert_allclose(found.log_probs, expected, atol=1e-4)
    for row, [tokens] in enumerate(answers):
        targets = np.array([[START, *tokens]], "int32")
        inputs = {"source_ids": INPUTS["source_ids"][row : row + 1], "target_ids": targets}
        likeliest = model(inputs).numpy()[0].argmax(axis=1).tolist()
        if len(tokens) + 1 == LIMITS[row]:  # where only the end was allowed
            likeliest[-1] = END
        assert [*tokens, END] == likeliest
    assert found.lengths.max() > 3


@pytest.mark.parametrize("options", DECODED, ids=str)
def test_the_answers_of_a_beam_search_have_the_full_models_probabilities(options):
    model = net(**options)
    found = decoded(model.for_serving(), BeamSearch(4, 3, length_penalty=1.0))
    answers = answers_of(found)
    expected = log_probs_of(model, INPUTS["source_ids"], answers)
    known = found.scores > -np.inf
    assert known.sum(axis=1).tolist() == [3, 1, 3, 3]
    np.testing.assert_allclose(found.log_probs[known], expected[known], atol=1e-4)
    penalty = ((5 + found.lengths + 1) / 6)[known]
    np.testing.assert_allclose(found.scores[known], expected[known] / penalty, atol=1e-4)
    assert all(len(set(map(tuple, row))) == 3 for row in np.delete(answers_of_array(answers), 1))
    assert found.lengths.max() > 2


def answers_of_array(answers) -> np.ndarray:
    rows = np.empty(len(answers), object)
    rows[:] = answers
    return rows
