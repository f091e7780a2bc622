"""Tables of tokens: what a graph reads of them, as one that is gathered from and read is copied."""

import keras
import pytest
import tensorflow as tf

from zoo.backbone import BertEncoder
from zoo.bert import BertClassifier
from zoo.configs import SequenceClassifierConfig
from zoo.lstm import sequence_classifier
from zoo.translator import Translator

TOKENS = 97
IDS = tf.constant([[5, 6, 7], [8, 9, 0]])
MASK = tf.cast(IDS > 0, tf.int32)


def bert():
    encoder = BertEncoder(TOKENS, 1, 2, 8, 16, max_sequence_length=8)
    inputs = {"token_ids": IDS, "segment_ids": 0 * IDS, "padding_mask": MASK}
    return BertClassifier(encoder, 2), inputs


def sequences():
    config = SequenceClassifierConfig(units=4, embedding=8)
    model = sequence_classifier(config, 2, vocabulary_size=TOKENS)
    return model, {"token_ids": IDS, "padding_mask": MASK}


def translation(target=None):
    shape = {"encoder_layers": 1, "decoder_layers": 1, "width": 8, "inner": 8, "heads": 2}
    return Translator(TOKENS, target, **shape), {"source_ids": IDS, "target_ids": IDS}


MODELS = {
    "bert": bert,
    "sequences": sequences,
    "translation": lambda: translation(target=11),
    "translation with tied tables": translation,
}
POLICIES = ("float32", "mixed_bfloat16")


def large_table(model: keras.Model) -> tf.Variable:
    return next(v for v in model.trainable_variables if v.shape == (TOKENS, 8))._value


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", MODELS)
def test_a_table_is_either_gathered_from_or_read_whole(name, policy, training):
    keras.config.set_dtype_policy(policy)
    model, inputs = MODELS[name]()
    run = tf.function(lambda: model(inputs, training=training), autograph=False)
    handle = large_table(model).handle
    captures = run.get_concrete_function().graph.captures
    (table,) = (inside for outside, inside in captures if outside is handle)
    ops = {op.type for op in table.consumers()}
    assert ops == {"ReadVariableOp" if "tied" in name else "ResourceGather"}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("name", [name for name in MODELS if "tied" not in name])
def test_a_gradient_names_the_rows_of_a_batch_alone(name, policy):
    keras.config.set_dtype_policy(policy)
    model, inputs = MODELS[name]()
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(tf.cast(model(inputs, training=True), tf.float32))
    gradient = tape.gradient(total, large_table(model))
    assert isinstance(gradient, tf.IndexedSlices)
    assert gradient.dtype == tf.float32
