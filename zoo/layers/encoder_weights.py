"""The weights of a KerasHub `BertBackbone`, laid out as `zoo.layers.encoder` computes with them.

The backbone owns the weights, so that its checkpoints load. `live` reads them where it is called,
so that gradients flow back to them; `frozen` copies the layers' once, for a graph that only
answers.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from zoo.layers import fused
from zoo.layers.vocabulary import uncast


class Dense(NamedTuple):
    """rows @ kernel + bias."""

    kernel: tf.Tensor  # (inputs, outputs)
    bias: tf.Tensor  # (outputs,)


class Norm(NamedTuple):
    """Scale, shift and the variance's epsilon of a layer normalisation; always float32."""

    gamma: tf.Tensor  # (width,)
    beta: tf.Tensor  # (width,)
    epsilon: float


class Layer(NamedTuple):
    """One Transformer layer."""

    heads: int
    project: Dense  # to query, key and value side by side, the query divided by sqrt(head width)
    attended: Dense
    attended_norm: Norm
    inner: Dense
    activation: Callable[[tf.Tensor], tf.Tensor]
    outer: Dense
    outer_norm: Norm


class EncoderWeights(NamedTuple):
    """All of an encoder. The tables are float32 variables: only the rows that are used get cast."""

    tokens: tf.Variable  # (vocabulary, width)
    positions: tf.Variable  # (longest, width)
    segments: tf.Variable  # (2, width)
    norm: Norm
    layers: tuple[Layer, ...]


def live(backbone: keras.Model, dtype: tf.DType) -> EncoderWeights:
    """The weights as they are now, for a forward pass that is trained.

    Args:
        backbone: a `keras_hub.models.BertBackbone`.
        dtype: float dtype to compute in.
    """

    def dense(layer: Any) -> Dense:
        kernel, bias = map(tf.convert_to_tensor, (layer.kernel.value, layer.bias.value))
        # The output layer of attention has a kernel of (heads, head width, width).
        kernel = tf.reshape(kernel, [-1, kernel.shape[-1]])
        return Dense(tf.cast(kernel, dtype), tf.cast(bias, dtype))

    def projections(attention: Any) -> Dense:
        parts = (attention.query_dense, attention.key_dense, attention.value_dense)
        # One product three times as wide is faster than three. Scaling the query's weights scales
        # the query, and there are fewer of them.
        scales = (attention.key_dim**-0.5, None, None)
        width = attention.num_heads * attention.key_dim

        def joined(values: list[tf.Tensor], shape: list[int]) -> tf.Tensor:
            flat = [tf.reshape(value, shape) for value in values]
            pairs = zip(flat, scales, strict=True)
            scaled = [value * scale if scale else value for value, scale in pairs]
            return tf.cast(tf.concat(scaled, axis=-1), dtype)

        return Dense(
            joined([part.kernel.value for part in parts], [-1, width]),
            joined([part.bias.value for part in parts], [width]),
        )

    def norm(layer: Any) -> Norm:
        gamma, beta = (tf.convert_to_tensor(part) for part in (layer.gamma, layer.beta))
        return Norm(gamma, beta, layer.epsilon)

    layers = tuple(
        Layer(
            heads=layer._self_attention_layer.num_heads,
            project=projections(layer._self_attention_layer),
            attended=dense(layer._self_attention_layer.output_dense),
            attended_norm=norm(layer._self_attention_layer_norm),
            inner=dense(layer._feedforward_intermediate_dense),
            activation=layer._feedforward_intermediate_dense.activation,
            outer=dense(layer._feedforward_output_dense),
            outer_norm=norm(layer._feedforward_layer_norm),
        )
        for layer in backbone.transformer_layers
    )
    return EncoderWeights(
        tokens=uncast(backbone.token_embedding.embeddings),
        positions=uncast(backbone.position_embedding.position_embeddings),
        segments=uncast(backbone.segment_embedding.embeddings),
        norm=norm(backbone.embeddings_layer_norm),
        layers=layers,
    )


def frozen(backbone: keras.Model, dtype: tf.DType, constant: bool) -> EncoderWeights:
    """The weights for a graph that only answers: the layers' as a copy, the tables as they are.

    Vectors become constants: a request then hands a third as many variables to the graph.

    Args:
        backbone: a `keras_hub.models.BertBackbone`.
        dtype: float dtype to compute in.
        constant: whether matrices become constants of the graph, too; else they become variables
            of their own, joined and cast once instead of at every request.
    """

    def freeze(leaf: Any) -> Any:
        if not tf.is_tensor(leaf) or isinstance(leaf, tf.Variable):
            return leaf
        copy = leaf.numpy().copy()  # numpy() alone shows the variable's own memory
        return copy if constant or copy.ndim == 1 else tf.Variable(copy, trainable=False)

    with tf.init_scope():
        weights = live(backbone, dtype)
        weights = weights._replace(layers=tuple(map(_folded, weights.layers)))
        return tf.nest.map_structure(freeze, weights)


def _folded(layer: Layer) -> Layer:
    """The same layer with the scales of exact GELU in the matrices around it."""
    if layer.activation is not keras.activations.gelu:
        return layer
    kernel, bias = (part * tf.cast(fused.FOLDED, part.dtype) for part in layer.inner)
    outer = layer.outer._replace(kernel=layer.outer.kernel * tf.cast(fused.FOLDED, kernel.dtype))
    return layer._replace(inner=Dense(kernel, bias), activation=fused.folded_gelu, outer=outer)
