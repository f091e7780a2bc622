"""The translator: by the textbook, trained without logits, decoded step by step, saved, loaded."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo.translator
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
SHALLOW = {"encoder_layers": 1, "decoder_layers": 1}


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
    return {weight.path: weight.numpy().astype("float64") for weight in model.trainable_weights}


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


@pytest.mark.parametrize("options", NETS, ids=str)
def test_logits_and_attention_are_those_of_the_textbook(options):
    model = net(separate=options["positions"] == "rotary", **options)
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
        return token_nats(tf.cast(rows, dtype), table, tokens, smoothing)[0]

    found, expected = (
        value_and_gradients(function, [tf.cast(rows, "float32"), table], upstream)
        for function in (fast, plain)
    )
    tolerance = 1e-5 if dtype == "float32" else 0.02
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=tolerance * np.abs(other).max())


def test_token_nats_are_told_without_smoothing_too():
    rows, table = numbers(50, 8, seed=1), tf.constant(numbers(21, 8, seed=2))
    tokens = np.random.RandomState(3).randint(0, 21, 50).astype("int32")
    known = [token_nats(rows, table, tokens, smoothing)[1] for smoothing in (0.0, 0.2)]
    np.testing.assert_array_equal(*known)
    np.testing.assert_array_equal(known[0], token_nats(rows, table, tokens)[0])


def value_and_gradients(function, tensors, upstream):
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = function(*tensors)
    return [value, *tape.gradient(value, tensors, upstream)]


# Training


def compiled(loss, rate=1.0, eager=True, **options) -> Translator:
    """Eager unless a test is of many steps: to trace one takes longer than to run a few."""
    model, metrics = net(**options), [Perplexity()]
    optimizer, how = keras.optimizers.SGD(rate), {"run_eagerly": eager, "jit_compile": False}
    model.compile(optimizer, loss, metrics=metrics, **how)
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


@pytest.mark.parametrize(
    ("smoothing", "of_records", "options"),
    [
        (0.1, None, DROPOUT),
        (0.0, OF_RECORDS, {"separate": True}),
        (0.0, None, NETS[4]),
        (0.2, OF_RECORDS, NETS[5] | DROPOUT),
    ],
)
def test_fit_takes_the_loss_and_the_step_that_keras_takes(smoothing, of_records, options):
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


def test_perplexity_is_right_in_training_and_validation():
    model = compiled(TokenCrossentropy(0.1), rate=0.01, **SHALLOW)
    before = model.nats(INPUTS, LABELS).numpy()
    data = tf.data.Dataset.from_tensor_slices((INPUTS, LABELS))
    # In two batches, with unlike many tokens.
    validation = data.batch(3)
    history = model.fit(data.batch(4), validation_data=validation, epochs=2, verbose=0).history
    assert history.keys() == {"loss", "perplexity", "val_loss", "val_perplexity"}
    assert history["perplexity"][0] == pytest.approx(np.exp(before[REAL].mean()), rel=1e-5)
    after = model.nats(INPUTS, LABELS).numpy()
    assert history["val_perplexity"][-1] == pytest.approx(np.exp(after[REAL].mean()), rel=1e-5)
    assert history["val_perplexity"][-1] < history["val_perplexity"][0] < history["perplexity"][0]
    found = model.evaluate(validation, verbose=0, return_dict=True)
    assert found["perplexity"] == history["val_perplexity"][-1]


def test_perplexity_in_training_counts_records_by_their_weights():
    model = compiled(TokenCrossentropy(0.1))
    nats = model.nats(INPUTS, LABELS).numpy()
    history = model.fit(INPUTS, LABELS, sample_weight=OF_RECORDS, verbose=0).history
    each = np.repeat(OF_RECORDS, REAL.sum(axis=1))
    expected = np.exp(np.average(nats[REAL], weights=each))
    assert history["perplexity"] == [pytest.approx(expected, rel=1e-5)]


@pytest.mark.parametrize("batch", [4, 3, 1])
def test_a_batch_in_parts_trains_as_a_whole_one_does(monkeypatch, batch):
    inputs = {name: ids[:batch] for name, ids in INPUTS.items()}
    weights, histories, afters = OF_RECORDS[:batch], [], []
    for count in (1, 3):
        monkeypatch.setattr(zoo.translator, "side_by_side", lambda count=count: count)
        model = compiled(TokenCrossentropy(0.1), **SHALLOW)
        history = model.fit(inputs, LABELS[:batch], sample_weight=weights, verbose=0).history
        histories.append([history[name][0] for name in ("loss", "perplexity")])
        afters.append(weights_of(model))
    np.testing.assert_allclose(*histories, rtol=1e-5)
    for name, one in afters[0].items():
        np.testing.assert_allclose(one, afters[1][name], atol=1e-5, err_msg=name)


def test_the_loss_of_validation_is_without_dropout():
    model = compiled(TokenCrossentropy(0.1), rate=1e-9, **DROPOUT)
    history = model.fit(INPUTS, LABELS, validation_data=(INPUTS, LABELS), verbose=0).history
    expected = textbook_loss(weights_of(model), 0.1, np.ones(4))
    assert history["val_loss"] == [pytest.approx(expected, rel=1e-5)]
    assert abs(history["loss"][0] - expected) > 0.01


def test_replicas_train_as_one():
    def trained(strategy: tf.distribute.Strategy) -> list[np.ndarray]:
        with strategy.scope():
            eager = strategy.num_replicas_in_sync == 1
            model = compiled(TokenCrossentropy(0.1), eager=eager, **SHALLOW)
            data = tf.data.Dataset.from_tensor_slices((INPUTS, LABELS)).batch(4)
            history = model.fit(data, verbose=0).history
            return [np.array(history["loss"]), *weights_of(model).values()]

    both = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    one = tf.distribute.get_strategy()
    for ours, expected in zip(trained(both), trained(one), strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-5)


# Dropout


def test_each_kind_of_dropout_drops_its_share_anew_at_each_place_and_step(monkeypatch):
    draws = []
    factors = fused.dropout_factors

    def noted(shape, rate, *others):
        draws.append((rate, factors(shape, rate, *others)))
        return draws[-1][1]

    monkeypatch.setattr(fused, "dropout_factors", noted)
    model = net(width=32, inner=64, dropout=0.4, attention_dropout=0.25, activation_dropout=0.1)
    inputs = {name: np.tile(ids, (16, 1)) for name, ids in INPUTS.items()}
    for _ in range(2):
        model(inputs, training=True)
    rates = [rate for rate, _ in draws]
    # Of each step both embeddings, two parts an encoder layer and three a decoder layer.
    assert rates.count(0.4) == 2 * (2 + 2 * LAYERS + 3 * LAYERS)
    assert rates.count(0.25) == 2 * (LAYERS + 2 * LAYERS)
    assert rates.count(0.1) == 2 * (LAYERS + LAYERS)
    for rate, values in draws:
        values = values.numpy()
        tolerance = 4 * np.sqrt(rate * (1 - rate) / values.size) + 1 / 256
        assert (values == 0).mean() == pytest.approx(rate, abs=tolerance)
        np.testing.assert_allclose(values[values > 0], 1 / (1 - rate), rtol=0.01)


def test_no_dropout_mask_is_used_twice(monkeypatch):
    masks = []
    factors = fused.dropout_factors

    def noted(*arguments):
        masks.append(factors(*arguments))
        return masks[-1]

    monkeypatch.setattr(fused, "dropout_factors", noted)
    model = net(dropout=0.5)
    for _ in range(3):
        model(INPUTS, training=True)
    starts = {mask.numpy().ravel()[:200].tobytes() for mask in masks}
    assert len(starts) == len(masks) > 30


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


def decoding(decoder, strategy, **options):
    """The answers of a served graph, whose shapes are not known beforehand."""
    signature = [tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int32)]
    call = tf.function(
        lambda ids, limits: decoder(ids, limits, strategy, start=START, end=END, **options),
        signature,
        autograph=False,
    )

    def answer(sources=INPUTS["source_ids"], limits=LIMITS):
        found = call(sources, limits)
        return type(found)(*(tensor.numpy() for tensor in found))

    return answer


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
    {"activation": "swiglu", "heads": 1},
    {"separate": True, "positions": "rotary", "activation": "gelu", "heads": 3},
]


@pytest.mark.parametrize("options", DECODED, ids=str)
def test_greedy_answers_are_the_full_models_likeliest_tokens(options):
    model = net(**options)
    found = decoding(model.for_serving(), Sampling(Greedy()))()
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
    found = decoding(model.for_serving(), BeamSearch(4, 3, 1.0, coverage_penalty=0.5))()
    answers = answers_of(found)
    known = found.scores > -np.inf
    assert known.sum(axis=1).tolist() == [3, 1, 3, 3]  # a limit of 1 allows but one
    expected = log_probs_of(model, INPUTS["source_ids"], answers)
    np.testing.assert_allclose(found.log_probs[known], expected[known], atol=1e-4)
    scores = expected / ((5 + found.lengths + 1) / 6) + 0.5 * coverage_of(model, answers)
    np.testing.assert_allclose(found.scores[known], scores[known], atol=1e-4)
    assert all(len(set(map(tuple, answers[row]))) == 3 for row in (0, 2, 3))
    assert found.lengths.max() > 2


def coverage_of(model, answers) -> np.ndarray:
    """The logarithm of how much of each source an answer attended to, summed over the source."""
    found = np.zeros((len(answers), len(answers[0])))
    for row, column in np.ndindex(found.shape):
        target = [[START, *answers[row][column]]]
        inputs = {"source_ids": padded([SOURCES[row]]), "target_ids": padded(target)}
        shares = model.attention(inputs).numpy()[0].sum(axis=0)
        found[row, column] = np.log(np.minimum(shares, 1)).sum()
    return found


@pytest.fixture(scope="module")
def answer():
    """A beam search for the two best, traced once."""
    keras.config.set_dtype_policy("float32")
    return decoding(net(positions="rotary", **SHALLOW).for_serving(), BeamSearch(3, 2, 1.0))


def test_an_answer_depends_on_neither_batch_nor_padding(answer):
    together = answer()
    wide = answer(padded(SOURCES, extra=3))
    np.testing.assert_allclose(wide.scores, together.scores, atol=1e-5)
    assert answers_of(wide) == answers_of(together)
    many = answer(np.tile(INPUTS["source_ids"], (40, 1)), np.tile(LIMITS, 40))
    np.testing.assert_allclose(many.scores, np.tile(together.scores, (40, 1)), atol=1e-5)
    assert answers_of(many) == 40 * answers_of(together)
    for row, source in enumerate(SOURCES):
        alone = answer(padded([source]), LIMITS[row : row + 1])
        np.testing.assert_allclose(alone.scores, together.scores[row : row + 1], atol=1e-5)
        assert answers_of(alone) == answers_of(together)[row : row + 1]


def test_tokens_that_are_never_to_be_written_have_no_share():
    model = net(**SHALLOW)
    likeliest = model(INPUTS).numpy()[:, 0].argmax(axis=1).tolist()  # after the start
    never = sorted({0, 1, START, *likeliest} - {END})
    assert len(never) > 3
    for strategy in (Sampling(Greedy()), BeamSearch(3, length_penalty=2.0)):
        found = decoding(model.for_serving(never), strategy)()
        for row, [tokens] in enumerate(answers_of(found)):
            assert not set(tokens) & set(never)
            target = padded([[START, *tokens]])
            logits = model({"source_ids": padded([SOURCES[row]]), "target_ids": target}).numpy()[0]
            logits[:, never] = -np.inf
            shares = softmax(logits)[np.arange(len(tokens) + 1), [*tokens, END]]
            assert found.log_probs[row, 0] == pytest.approx(np.log(shares).sum(), abs=1e-4)


def test_no_sources_have_no_answers(answer):
    assert answer(np.zeros((0, 0), "int32"), np.zeros(0, "int32")).scores.shape == (0, 2)


@pytest.mark.parametrize("strategy", [Sampling(Greedy()), BeamSearch(3)], ids=["greedy", "beam"])
def test_answers_begin_with_a_prefix_and_have_the_full_models_probabilities(strategy):
    model = net(**SHALLOW)
    firsts = np.array([[7, 5], [4, -1], [-1, -1], [6, 6]], "int32")
    found = decoding(model.for_serving(), strategy, prefix=firsts)(limits=np.full(4, 7, "int32"))
    answers = answers_of(found)
    for [tokens], first in zip(answers, ([7, 5], [4], [], [6, 6]), strict=True):
        assert tokens[: len(first)] == first
    expected = log_probs_of(model, INPUTS["source_ids"], answers)
    np.testing.assert_allclose(found.log_probs, expected, atol=1e-4)


def test_a_decoder_follows_training_when_it_is_told_to():
    model = compiled(TokenCrossentropy(), rate=0.5, **SHALLOW)
    decoder = model.for_serving()
    answer = decoding(decoder, Sampling(Greedy()))
    before = answer()
    model.fit(INPUTS, LABELS, verbose=0)
    decoder.update()
    after = answer()
    assert np.abs(after.log_probs - before.log_probs).max() > 0.1
    expected = log_probs_of(model, INPUTS["source_ids"], answers_of(after))
    np.testing.assert_allclose(after.log_probs, expected, atol=1e-4)


def test_a_tiny_net_learns_in_half_precision_to_turn_the_order_round():
    keras.config.set_dtype_policy("mixed_bfloat16")
    keras.utils.set_random_seed(0)
    lengths = np.random.RandomState(0).randint(1, 6, 1124)
    rows = sentences(lengths, 10)
    sources = padded([[*tokens, END] for tokens in rows])
    targets = padded([[START, *tokens[::-1]] for tokens in rows])
    labels = padded([[*tokens[::-1], END] for tokens in rows])
    model = Translator(10, **SHALLOW, width=32, inner=64, heads=2, dropout=0.0, positions="rotary")
    rate = keras.optimizers.schedules.CosineDecay(0.01, 16 * 16)
    optimizer = keras.optimizers.Adam(rate, beta_2=0.98)
    model.compile(optimizer, TokenCrossentropy(0.1), jit_compile=False)
    inputs = {"source_ids": sources[100:], "target_ids": targets[100:]}
    losses = model.fit(inputs, labels[100:], 64, epochs=16, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]
    new = decoding(model.for_serving(), Sampling(Greedy()))(sources[:100], lengths[:100] + 4)
    pairs = zip(answers_of(new), rows[:100], strict=True)
    assert np.mean([answers == [tokens[::-1]] for answers, tokens in pairs]) >= 0.9


# Saving, sizes, options


@pytest.mark.parametrize(
    ("options", "policy"),
    [(DECODED[0], "float32"), (DECODED[1], "mixed_bfloat16")],
    ids=["float32", "mixed_bfloat16"],
)
def test_a_translator_is_the_same_after_saving_and_loading(tmp_path, options, policy):
    keras.config.set_dtype_policy(policy)
    model = net(**options, **DROPOUT)
    model.save(tmp_path / "model.keras")
    keras.config.set_dtype_policy("float32")
    again, whole = load_model(tmp_path / "model.keras"), net(**options, **DROPOUT)
    assert {**again.get_config(), "dtype": 0} == {**model.get_config(), "dtype": 0}
    np.testing.assert_allclose(again(INPUTS), whole(INPUTS), atol=1e-6)


def test_a_loaded_translator_gives_the_answers_that_the_saved_one_finds_as_likely(tmp_path):
    model = net(separate=True, **SHALLOW)
    model.save(tmp_path / "model.keras")
    again = load_model(tmp_path / "model.keras")
    found = decoding(again.for_serving(), Sampling(Greedy()))()
    expected = log_probs_of(model, INPUTS["source_ids"], answers_of(found))
    np.testing.assert_allclose(found.log_probs, expected, atol=1e-4)


def test_the_smallest_translator_has_as_many_parameters_as_is_said():
    config = TranslatorConfig(size="tiny")
    assert translator(config, 9000).count_params() == 2_477_568
    assert translator(config, 9000, 9000).count_params() == 2_477_568 + 9000 * 128


def test_a_size_is_layers_and_widths_of_which_each_can_be_changed():
    assert TranslatorConfig(size="deep_shallow").shape == (12, 1, 512, 2048, 8)
    config = TranslatorConfig(size="deep_shallow", width=8, inner=6, heads=2, dropout=0.0)
    model = translator(config, SOURCE_TOKENS)
    assert (len(model.encoder_layers), len(model.decoder_layers)) == (12, 1)
    assert model(INPUTS).shape == (*LABELS.shape, SOURCE_TOKENS)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width 0: must be at least 1"),
        ({"encoder_layers": -1}, "encoder_layers -1: must be at least 1"),
        ({"decoder_layers": 0}, "decoder_layers 0: must be at least 1"),
        ({"width": 100, "heads": 3}, "width 100 and heads 3: the width must be an even multiple"),
        ({"width": 12, "heads": 4}, "width 12 and heads 4: the width must be an even multiple"),
        ({"heads": 7}, "width 128 and heads 7"),
        ({"dropout": 1.0}, "dropout 1.0: must be from 0 to below 1"),
        ({"attention_dropout": -0.1}, "attention_dropout -0.1: must be from 0 to below 1"),
        ({"activation_dropout": 2.0}, "activation_dropout 2.0: must be from 0 to below 1"),
        ({"vocabulary_size": 299}, "vocabulary_size 299: must be at least 300, as 256 bytes"),
        ({"max_length": 3}, "max_length 3: must be at least 4"),
    ],
)
def test_a_config_that_can_not_be_is_refused(options, message):
    with pytest.raises(PresetError, match=message):
        TranslatorConfig(**options)


def test_without_bytes_a_vocabulary_may_be_small():
    assert TranslatorConfig(vocabulary_size=50, byte_fallback=False).vocabulary_size == 50


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beam_width": 0}, "beam_width 0: must be from 1 to"),
        ({"n_best": 0}, "n_best 0: must be from 1 to"),
        ({"length_penalty": -1.0}, "length_penalty -1.0: must be from 0 to"),
        ({"coverage_penalty": -0.1}, "coverage_penalty -0.1: must be from 0 to"),
        ({"repetition_penalty": 0.9}, "repetition_penalty 0.9: must be from 1 to"),
        ({"temperature": -1.0}, "temperature -1.0: must be from 0 to"),
        ({"top_k": -1}, "top_k -1: must be from 0 to"),
        ({"top_p": 0.0}, "top_p 0.0: must be above 0, to 1"),
        ({"top_p": 1.5}, "top_p 1.5: must be above 0, to 1"),
        ({"seed": -1}, "seed -1: must be from 0 to"),
        ({"max_ratio": -1.0}, "max_ratio -1.0: must be from 0 to"),
        ({"max_extra": 0}, "max_extra 0: must be from 1 to"),
        ({"temperature": float("nan")}, "temperature nan"),
    ],
)
def test_decoding_that_can_not_be_is_refused(options, message):
    with pytest.raises(PresetError, match=message):
        Decoding(**options)
