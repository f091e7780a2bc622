"""BertClassifier: the lean forward pass against KerasHub's, pooling, saving, precision, export."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import zoo.bert
from zoo.backbone import BertEncoder
from zoo.bert import BertClassifier, bert_classifier
from zoo.configs import BertClassifierConfig
from zoo.layers.encoder import encode
from zoo.saving import load_model


def tiny_backbone(dropout=0.0, layers=2, **kwargs):
    keras.utils.set_random_seed(0)
    backbone = BertEncoder(
        vocabulary_size=50,
        num_layers=layers,
        num_heads=2,
        hidden_dim=8,
        intermediate_dim=16,
        dropout=dropout,
        max_sequence_length=12,
        **kwargs,
    )
    # Fresh biases are zero and fresh norms are one, which would hide a mistake in either.
    for weight in backbone.weights:
        weight.assign_add(0.3 * np.random.randn(*weight.shape))
    return backbone


def batch():
    """Three texts of 7, 4 and 1 tokens, the first one a pair."""
    lengths = np.array([[7], [4], [1]])
    mask = (np.arange(7) < lengths).astype("int32")
    ids = np.random.RandomState(1).randint(1, 50, (3, 7)).astype("int32") * mask
    segments = (np.arange(7) > 3) * mask
    return {"token_ids": ids, "segment_ids": segments, "padding_mask": mask}


def reference(backbone, model, inputs, pooling):
    """The same classifier through the backbone's own call."""
    out = backbone(inputs)
    mask = inputs["padding_mask"][..., None]
    tokens = out["sequence_output"]
    pooled = {
        "cls": lambda: out["pooled_output"],
        "mean": lambda: (
            tf.reduce_sum(tokens * mask, 1) / tf.reduce_sum(tf.cast(mask, "float32"), 1)
        ),
        "max": lambda: tf.reduce_max(tf.where(mask > 0, tokens, -np.inf), 1),
    }[pooling]()
    return model.classifier(pooled)


@pytest.mark.parametrize(
    ("pooling", "training", "activation"),
    [
        ("cls", True, "gelu"),
        ("mean", True, "gelu_approximate"),
        ("max", True, "gelu"),
        ("mean", False, "gelu"),
        ("max", False, "gelu_approximate"),
    ],
)
def test_values_and_gradients_are_the_backbones(pooling, training, activation):
    backbone = tiny_backbone(activation=activation, layer_norm_epsilon=1e-5)
    model = BertClassifier(backbone, 3, pooling, dropout=0.0)
    inputs, target = batch(), np.random.RandomState(2).randn(3, 3)
    with tf.GradientTape(persistent=True) as tape:
        ours = model(inputs, training=training)
        plain = reference(backbone, model, inputs, pooling)
        losses = [tf.reduce_sum(logits * target) for logits in (ours, plain)]
    np.testing.assert_allclose(ours, plain, rtol=1e-4, atol=1e-5)
    for weight in model.trainable_weights:
        mine, theirs = (tf.convert_to_tensor(tape.gradient(loss, weight.value)) for loss in losses)
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=2e-5, err_msg=weight.path)


def test_the_embedding_tables_gradient_names_only_the_rows_used():
    model = BertClassifier(tiny_backbone(), 3)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(batch(), training=True))
    table = model.backbone.token_embedding.embeddings.value
    assert isinstance(tape.gradient(loss, table), tf.IndexedSlices)


def test_padding_does_not_change_the_answer():
    model = BertClassifier(tiny_backbone(), 3)
    inputs = batch()
    alone = {name: value[1:2, :4] for name, value in inputs.items()}
    np.testing.assert_allclose(model(inputs)[1:2], model(alone), rtol=1e-4, atol=1e-5)


def test_dropout_is_random_in_training_only_and_repeats_with_the_seed():
    def answers():
        model = BertClassifier(tiny_backbone(dropout=0.3), 3)
        return [model(batch(), training=flag).numpy() for flag in (True, True, False, False)]

    first, second, plain, again = answers()
    assert not np.allclose(first, second)
    np.testing.assert_array_equal(plain, again)
    np.testing.assert_array_equal(answers()[:2], [first, second])


def test_gradients_with_dropout_are_those_of_the_masked_model():
    model = BertClassifier(tiny_backbone(dropout=0.3), 3, dropout=0.0)
    seed = model.seed_generator.state
    weight = model.backbone.transformer_layers[0]._feedforward_output_dense.kernel

    def loss():
        seed.assign([1, 0])
        return tf.reduce_sum(model(batch(), training=True) ** 2)

    with tf.GradientTape() as tape:
        value = loss()
    gradient = tape.gradient(value, weight.value).numpy()
    step = np.zeros(weight.shape, "float32")
    step[3, 2] = 1e-2
    weight.assign_add(step)
    above = loss()
    weight.assign_sub(2 * step)
    assert float(above - loss()) / 2e-2 == pytest.approx(gradient[3, 2], rel=0.05)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_logits_are_float32_in_mixed_precision(policy):
    full, half = (
        BertClassifier(tiny_backbone(dtype=dtype), 3, dropout=0.0) for dtype in ("float32", policy)
    )
    half.set_weights(full.get_weights())
    with tf.GradientTape() as tape:
        logits = half(batch(), training=True)
        loss = tf.reduce_sum(logits)
    for some in (logits, half(batch()), half.for_serving()(batch())):
        assert some.dtype == tf.float32
        np.testing.assert_allclose(some, full(batch()), atol=0.2)
    for gradient in tape.gradient(loss, [w.value for w in half.trainable_weights]):
        assert np.isfinite(tf.convert_to_tensor(gradient)).all()


def test_a_saved_model_comes_back_with_config_and_weights(tmp_path):
    backbone = tiny_backbone(dropout=0.2, activation="gelu", layer_norm_epsilon=1e-3)
    model = BertClassifier(backbone, 3, "max", 0.4)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert (loaded.pooling, loaded.dropout.rate, loaded.backbone.dropout) == ("max", 0.4, 0.2)
    np.testing.assert_allclose(model(batch()), loaded(batch()), rtol=1e-6)


def test_fit_trains_every_weight_it_counts_without_a_warning(recwarn):
    model = BertClassifier(tiny_backbone(dropout=0.1), 3)
    before = [w.numpy() for w in model.trainable_weights]
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, jit_compile=False, run_eagerly=True)
    model.fit(batch(), np.array([0, 1, 2]), verbose=0)
    assert not [w for w in recwarn if "radient" in str(w.message)]
    assert all((w.numpy() != b).any() for w, b in zip(model.trainable_weights, before, strict=True))


@pytest.mark.parametrize(
    ("pooling", "constants"), [("cls", 2**26), ("mean", 0), ("mean", 2**26), ("max", 0)]
)
def test_the_serving_form_answers_as_the_model_did_when_it_was_made(
    pooling, constants, monkeypatch
):
    monkeypatch.setattr(zoo.bert, "LARGEST_CONSTANTS", constants)
    model = BertClassifier(tiny_backbone(), 3, pooling)
    longest = {name: np.resize(values, (6, 12)) for name, values in batch().items()}
    longest["padding_mask"][:, 0] = 1
    requests = [longest] + [
        {name: values[:rows, :length] for name, values in longest.items()}
        for rows, length in ((0, 4), (1, 1), (1, 12), (5, 12), (6, 8))  # 60 tokens are few
    ]
    before = [model(inputs).numpy() for inputs in requests]
    serve = model.for_serving()
    served = tf.function(serve, reduce_retracing=True)
    for weight in model.backbone.transformer_layers[0].weights:
        weight.assign_add(tf.ones_like(weight))
    assert not np.allclose(model(longest), before[0])
    for inputs, logits in zip(requests, before, strict=True):
        np.testing.assert_allclose(serve(inputs), logits, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(served(inputs), logits, rtol=1e-5, atol=1e-6)


def test_few_tokens_go_to_the_constants_in_at_least_eight_rows(monkeypatch):
    rows = []

    def spy(weights, inputs, *rest, **how):
        rows.append((tuple(inputs["token_ids"].shape), how.get("short", False)))
        return encode(weights, inputs, *rest, **how)

    monkeypatch.setattr(zoo.bert, "encode", spy)
    serve = BertClassifier(tiny_backbone(), 3).for_serving()
    for shape in ((1, 1), (8, 8), (9, 8), (9, 1), (5, 12)):
        serve({name: tf.ones(shape, tf.int32) for name in batch()})
    assert rows == [
        ((1, 8), True),
        ((8, 8), True),
        ((5, 8), False),  # in halves
        ((4, 8), False),
        ((5, 1), False),  # 72 once padded
        ((4, 1), False),
        ((5, 12), True),
    ]


def test_a_model_trained_in_half_precision_is_loaded_to_compute_in_full(tmp_path):
    half = BertClassifier(tiny_backbone(dtype="mixed_bfloat16"), 3)
    half.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    assert {layer.dtype_policy.name for layer in loaded._flatten_layers()} == {"float32"}
    full = BertClassifier(tiny_backbone(), 3)
    full.set_weights(half.get_weights())
    np.testing.assert_allclose(loaded(batch()), full(batch()), rtol=1e-5, atol=1e-6)
    assert not np.allclose(half(batch()), full(batch()), rtol=1e-5, atol=1e-6)


def test_the_exported_function_takes_any_batch_and_length(tmp_path):
    module = tf.Module()
    module.model = BertClassifier(tiny_backbone(), 3)
    spec = {name: tf.TensorSpec([None, None], tf.int32, name=name) for name in batch()}
    module.answer = tf.function(module.model.for_serving(), input_signature=[spec])
    module.used = module.answer.get_concrete_function().variables
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    for repeats, length in ((1, 5), (9, 7), (0, 3)):
        some = {
            name: tf.constant(np.tile(value[:, :length], [repeats, 1]))
            for name, value in batch().items()
        }
        expected = module.model(some)
        np.testing.assert_allclose(loaded.answer(some), expected, rtol=1e-5, atol=1e-6)


def test_two_replicas_train_as_one():
    def losses(strategy):
        with strategy.scope():
            model = BertClassifier(tiny_backbone(layers=1), 3, dropout=0.0)
            model.compile(
                keras.optimizers.SGD(0.1),
                keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                jit_compile=False,
                run_eagerly=strategy.num_replicas_in_sync == 1,  # to trace it takes longer
            )
        inputs = {name: np.concatenate([value] * 2) for name, value in batch().items()}
        labels = np.array([0, 1, 2, 2, 1, 0])
        data = tf.data.Dataset.from_tensor_slices((inputs, labels)).batch(6)
        return model.fit(data, epochs=3, verbose=0).history["loss"]

    two = two_replicas()
    np.testing.assert_allclose(losses(two), losses(tf.distribute.get_strategy()), rtol=1e-4)


def test_a_size_gives_googles_model():
    model = bert_classifier(BertClassifierConfig(size="tiny"), 5, vocabulary_size=30522)
    assert model.backbone.count_params() == 4_385_920  # as the paper's 4.4 M
    assert model.backbone.num_heads == 2


def test_an_unknown_pooling_is_refused():
    with pytest.raises(ValueError, match="cls, mean, max"):
        BertClassifier(tiny_backbone(), 3, pooling="sum")


def two_replicas():
    # The default, collective ops, can't tell two strategies of one process apart.
    reduction = tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], cross_device_ops=reduction)
