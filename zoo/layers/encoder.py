"""A lean forward pass over the weights of a KerasHub `BertBackbone`.

The backbone stays the reference: `encode` gives its `sequence_output` (tests/zoo/test_bert.py
compares values and gradients). What is saved: tokens are the rows of one matrix, so every dense
layer is a plain matrix product that TensorFlow fuses with its bias; query, key and value are one
product; the dropout of all layers comes from two draws; see `zoo.layers.fused` for the rest.
"""

from collections.abc import Mapping

import keras
import tensorflow as tf

from zoo.layers import fused
from zoo.layers.attention import self_attention
from zoo.layers.encoder_weights import EncoderWeights, Norm


def encode(
    weights: EncoderWeights,
    inputs: Mapping[str, tf.Tensor],
    dtype: tf.DType,
    training: bool = False,
    dropout: float = 0.0,
    seed: tf.Tensor | None = None,
    short: bool = False,
) -> tf.Tensor:
    """Runs the encoder of Devlin et al. 2018, section 3.

    Args:
        weights: of a `keras_hub.models.BertBackbone`, in `dtype`.
        inputs: int32 (batch, length) `token_ids`, `segment_ids` and `padding_mask`, 1 on
            real tokens.
        dtype: float dtype to compute in; layer norms compute in float32.
        training: whether to use the forms whose gradients are written by hand, and `dropout`.
        dropout: share of hidden and attention values dropped.
        seed: int (2,), needed when there is dropout to do.
        short: whether to use the ops that suit requests of few tokens; not in training.

    Returns:
        Token vectors, (batch, length, width) in `dtype`.
    """
    batch, length = _shape(inputs["token_ids"])
    width, layers = weights.tokens.shape[-1], weights.layers
    hidden_keep, attention_keep = [None] * (2 * len(layers) + 1), [None] * len(layers)
    if training and dropout:
        shape = [2 * len(layers) + 1, batch * length, width]
        hidden_keep = tf.unstack(fused.dropout_factors(shape, dropout, seed, dtype))
        shape = [len(layers), layers[0].heads, batch, length, length]
        seed = tf.add(seed, [1, 0])
        attention_keep = tf.unstack(fused.dropout_factors(shape, dropout, seed, dtype))

    # Added to attention scores: nothing for real tokens, a number too low to matter for padding.
    lowest = -3e4 if dtype == tf.float16 else -1e9
    bias = (1.0 - tf.cast(inputs["padding_mask"], dtype))[:, tf.newaxis, :] * lowest

    x = tf.cast(_embed(weights, inputs, length, training, short), dtype)
    if hidden_keep[0] is not None:
        x *= hidden_keep[0]
    for i, layer in enumerate(layers):
        y = fused.dense(x, *layer.project, training)
        y = self_attention(y, bias, attention_keep[i], layer.heads, (batch, length), short)
        y = fused.dense(y, *layer.attended, training)
        x = _add_norm(y, x, hidden_keep[2 * i + 1], layer.attended_norm, training, short)
        y = _activate(fused.dense(x, *layer.inner, training), layer.activation, training)
        y = fused.dense(y, *layer.outer, training)
        x = _add_norm(y, x, hidden_keep[2 * i + 2], layer.outer_norm, training, short)
    return tf.reshape(x, [batch, length, width])


def _shape(x):
    """The shape of `x` as ints where it is known and scalar tensors elsewhere."""
    dynamic = tf.shape(x)
    return [dynamic[i] if size is None else size for i, size in enumerate(x.shape)]


def _embed(weights: EncoderWeights, inputs, length, training, short):
    """Sum of token, position and segment vectors, normalised: float32 (batch * length, width)."""
    # Rows are taken before any cast: casting the table first would touch all of it, and make its
    # gradient dense.
    tokens = tf.gather(weights.tokens, inputs["token_ids"]) + weights.positions[:length]
    # Few segments: a product with one-hot rows has a cheaper gradient than a gather.
    table = weights.segments
    segments = tf.one_hot(
        tf.reshape(inputs["segment_ids"], [-1]), table.shape[0], dtype=table.dtype
    )
    x = tf.reshape(tokens, [-1, table.shape[-1]])
    return _add_norm(tf.matmul(segments, table), x, None, weights.norm, training, short)


def _activate(x, activation, training):
    """The backbone's own activation, by the short way for both forms of GELU."""
    if activation is keras.activations.gelu:
        return fused.trained_exact_gelu(x) if training else activation(x)
    if activation.__name__ == "gelu_approximate":
        return fused.trained_gelu(x) if training else fused.gelu(x)
    return activation(x)


def _add_norm(x, residual, keep, norm: Norm, training, short):
    if training:
        return fused.trained_residual_norm(x, residual, keep, *norm)
    return fused.layer_norm(x + residual, *norm, short)
