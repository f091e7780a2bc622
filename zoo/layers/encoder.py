"""A lean forward pass over the weights of a KerasHub `BertBackbone`.

The backbone owns the weights, so that its checkpoints load, and stays the reference: `encode` gives
its `sequence_output` (tests/zoo/test_bert.py compares values and gradients). What is saved: tokens
are the rows of one matrix, so every dense layer is a plain matrix product that TensorFlow fuses
with its bias; the dropout of all layers comes from two draws; see `zoo.layers.fused` for the rest.
"""

from collections.abc import Mapping

import keras
import tensorflow as tf

from zoo.layers import fused


def encode(
    backbone: keras.Model,
    inputs: Mapping[str, tf.Tensor],
    dtype: tf.DType,
    seed: tf.Tensor | None = None,
    training: bool = False,
) -> tf.Tensor:
    """Runs the encoder of Devlin et al. 2018, section 3.

    Args:
        backbone: a `keras_hub.models.BertBackbone`.
        inputs: int32 (batch, length) `token_ids`, `segment_ids` and `padding_mask`, 1 on
            real tokens.
        dtype: float dtype to compute in; layer norms compute in float32.
        seed: int (2,), needed when there is dropout to do.
        training: applies the backbone's dropout.

    Returns:
        Token vectors, (batch, length, width) in `dtype`.
    """
    batch, length = _shape(inputs["token_ids"])
    width, layers = backbone.hidden_dim, backbone.transformer_layers
    rate = backbone.dropout if training else 0.0
    hidden_keep, attention_keep = [None] * (2 * len(layers) + 1), [None] * len(layers)
    if rate:
        shape = [2 * len(layers) + 1, batch * length, width]
        hidden_keep = tf.unstack(fused.dropout_factors(shape, rate, seed, dtype))
        shape = [len(layers), batch, backbone.num_heads, length, length]
        attention_keep = tf.unstack(fused.dropout_factors(shape, rate, tf.add(seed, [1, 0]), dtype))

    # Added to attention scores: nothing for real tokens, a number too low to matter for padding.
    lowest = -3e4 if dtype == tf.float16 else -1e9
    hidden = (1.0 - tf.cast(inputs["padding_mask"], dtype)) * lowest
    bias = hidden[:, tf.newaxis, tf.newaxis, :]

    x = _embed(backbone, inputs, length, dtype)
    if rate:
        x *= hidden_keep[0]
    for i, layer in enumerate(layers):
        attention = layer._self_attention_layer
        y = _attend(attention, x, bias, attention_keep[i], (batch, length), dtype)
        x = _add_norm(y, x, hidden_keep[2 * i + 1], layer._self_attention_layer_norm, training)
        y = _dense(x, layer._feedforward_intermediate_dense, dtype)
        y = _activate(y, layer._feedforward_intermediate_dense.activation, training)
        y = _dense(y, layer._feedforward_output_dense, dtype)
        x = _add_norm(y, x, hidden_keep[2 * i + 2], layer._feedforward_layer_norm, training)
    return tf.reshape(x, [batch, length, width])


def _shape(x):
    """The shape of `x` as ints where it is known and scalar tensors elsewhere."""
    dynamic = tf.shape(x)
    return [dynamic[i] if size is None else size for i, size in enumerate(x.shape)]


def _embed(backbone, inputs, length, dtype):
    """Sum of token, position and segment vectors, normalised: (batch * length, width)."""
    # Rows are taken before any cast: casting the table first would touch all of it, and make its
    # gradient dense.
    tokens = tf.gather(backbone.token_embedding.embeddings.value, inputs["token_ids"])
    positions = backbone.position_embedding.position_embeddings.value[:length]
    table = backbone.segment_embedding.embeddings.value
    # Few segments: a product with one-hot rows has a cheaper gradient than a gather.
    segments = tf.matmul(
        tf.one_hot(tf.reshape(inputs["segment_ids"], [-1]), table.shape[0], dtype=table.dtype),
        table,
    )
    x = tf.reshape(tokens + positions, [-1, backbone.hidden_dim]) + segments
    norm = backbone.embeddings_layer_norm
    return tf.cast(fused.layer_norm(x, norm.gamma, norm.beta, norm.epsilon), dtype)


def _attend(attention, x, bias, keep, shape, dtype):
    """Multi-head self-attention (Vaswani et al. 2017, section 3.2.2) of rows `x`."""
    batch, length = shape
    heads, size = attention.num_heads, attention.key_dim

    def project(dense):
        kernel = tf.reshape(tf.cast(dense.kernel.value, dtype), [-1, heads * size])
        y = tf.nn.bias_add(tf.matmul(x, kernel), tf.reshape(tf.cast(dense.bias.value, dtype), [-1]))
        return tf.transpose(tf.reshape(y, [batch, length, heads, size]), [0, 2, 1, 3])

    query = project(attention.query_dense) * size**-0.5
    key, value = project(attention.key_dense), project(attention.value_dense)
    weights = tf.nn.softmax(tf.matmul(query, key, transpose_b=True) + bias)
    if keep is not None:
        weights *= keep
    mixed = tf.transpose(tf.matmul(weights, value), [0, 2, 1, 3])
    mixed = tf.reshape(mixed, [batch * length, heads * size])
    out = attention.output_dense
    kernel = tf.reshape(tf.cast(out.kernel.value, dtype), [heads * size, -1])
    return tf.nn.bias_add(tf.matmul(mixed, kernel), tf.cast(out.bias.value, dtype))


def _dense(x, dense, dtype):
    product = tf.matmul(x, tf.cast(dense.kernel, dtype))
    return tf.nn.bias_add(product, tf.cast(dense.bias.value, dtype))


def _activate(x, activation, training):
    """The backbone's own activation, by the short way for both forms of GELU."""
    if activation is keras.activations.gelu:
        return fused.trained_exact_gelu(x) if training else activation(x)
    if activation.__name__ == "gelu_approximate":
        return fused.trained_gelu(x) if training else fused.gelu(x)
    return activation(x)


def _add_norm(x, residual, keep, norm, training):
    gamma, beta = tf.convert_to_tensor(norm.gamma), tf.convert_to_tensor(norm.beta)
    if training:
        return fused.trained_residual_norm(x, residual, keep, gamma, beta, norm.epsilon)
    return fused.layer_norm(x + residual, gamma, beta, norm.epsilon)
