"""The layers of a pre-norm Transformer, with forward passes of few ops and few passes over memory.

A batch of sentences is the rows of one matrix, (batch * length, width), so that every dense layer
is a plain matrix product. The residual stream stays in float32; products are in the compute dtype.
Each layer is a Keras layer that owns weights; `zoo.layers.incremental` computes with the same
weights one position at a time.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import keras
import tensorflow as tf

from zoo.layers import fused
from zoo.layers.attention import Size, cross_attention, self_attention

EPSILON = 1e-6  # of the variance in layer norms
ACTIVATIONS = ("relu", "gelu", "swiglu")

Pair = tuple[tf.Tensor, tf.Tensor]
Shape = tuple[Size, Size]  # batch and length
Spans = tuple[Size, Size, Size]  # batch, length and sources


class Dropout(NamedTuple):
    """Shares dropped in training, 0 to 1."""

    residual: float = 0.0  # of what is added to the residual stream (Vaswani et al. 2017, 5.4)
    attention: float = 0.0  # of the attention weights
    activation: float = 0.0  # of the values inside the feed-forward part


class Pass:
    """One forward pass: the dtype to compute in, and the dropout of training.

    Args:
        dtype: float dtype of products.
        dropout: what is dropped, or None where nothing is, as in inference.
        seed: int (2,), needed for dropout.
        training: whether gradients are wanted.
        short: whether to use the ops that suit few tokens, without gradients; see
            `zoo.layers.attention`.
    """

    def __init__(
        self,
        dtype: tf.DType,
        dropout: Dropout | None = None,
        seed: tf.Tensor | None = None,
        training: bool = False,
        short: bool = False,
    ) -> None:
        self.dtype = dtype
        self.short = short
        self.dropout = dropout or Dropout()
        self.training = training
        self._seed = seed
        self._draws = 0

    def factors(self, kind: str, shape: list[Size]) -> tf.Tensor | None:
        """What to multiply values of a kind by, or None where nothing is dropped."""
        rate = getattr(self.dropout, kind)
        if not rate:
            return None
        assert self._seed is not None
        self._draws += 1
        # Not the second number, which is what `SeedGenerator.next` counts on at each step.
        seed = tf.add(self._seed, [self._draws, 0])
        return fused.dropout_factors(shape, rate, seed, self.dtype)

    def dense(self, x: tf.Tensor, layer: keras.layers.Dense) -> tf.Tensor:
        """`layer` without its activation."""
        kernel, bias = (tf.cast(part.value, self.dtype) for part in (layer.kernel, layer.bias))
        return fused.dense(x, kernel, bias, self.training)


class Stream(NamedTuple):
    """The residual stream of a batch, and what was computed but not yet added to it."""

    x: tf.Tensor  # float32 (rows, width)
    y: tf.Tensor | None = None  # compute dtype (rows, width)

    def normalised(self, norm: keras.layers.LayerNormalization, run: Pass) -> Pair:
        """The stream with all added to it, and its layer norm in the compute dtype."""
        keep = None if self.y is None else run.factors("residual", list(sizes(self.y)))
        gamma, beta = norm.gamma.value, norm.beta.value
        return fused.add_norm(self.x, self.y, keep, gamma, beta, norm.epsilon, run.dtype)


class TransformerLayer(keras.layers.Layer):
    """What encoder and decoder layers share: self-attention first, a feed-forward part last, each
    after a layer norm (Xiong et al. 2020, figure 1b).

    Args:
        width: of the stream.
        inner: width of the feed-forward part (Vaswani et al. 2017, equation 2).
        heads: of attention; they divide the width.
        activation: `relu`, `gelu`, or `swiglu`, whose inner part is gated (Shazeer 2020, eq. 6).
    """

    def __init__(
        self, width: int, inner: int, heads: int, activation: str = "relu", **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self.width, self.inner_width, self.heads = width, inner, heads
        self.activation = activation
        self.attention_norm = layer_norm("attention_norm")
        self.project = dense(3 * width, "project")  # query, key and value side by side
        self.attended = dense(width, "attended")
        self.inner_norm = layer_norm("inner_norm")
        self.inner = dense(inner * (1 + (activation == "swiglu")), "inner")
        self.outer = dense(width, "outer")

    def build(self, input_shape: Any = None) -> None:
        for layer, size in self._parts():
            layer.build((None, size))
        self.built = True

    def _parts(self) -> Iterator[tuple[keras.layers.Layer, int]]:
        for layer in (self.attention_norm, self.project, self.attended, self.inner_norm):
            yield layer, self.width
        yield self.inner, self.width
        yield self.outer, self.inner_width

    def attend(
        self, stream: Stream, bias: tf.Tensor, shape: Shape, rotate: "Rotation | None", run: Pass
    ) -> Stream:
        """Self-attention; `bias` is added to the scores (batch, length or 1, length)."""
        x, y = stream.normalised(self.attention_norm, run)
        keep = run.factors("attention", [self.heads, shape[0], shape[1], shape[1]])
        y = run.dense(y, self.project)
        y = self_attention(y, bias, keep, self.heads, shape, run.short, scale=True, rotate=rotate)
        return Stream(x, run.dense(y, self.attended))

    def feed_forward(self, stream: Stream, run: Pass) -> Stream:
        x, y = stream.normalised(self.inner_norm, run)
        y = activate(run.dense(y, self.inner), self.activation, run.training)
        keep = run.factors("activation", list(sizes(y)))
        return Stream(x, run.dense(y if keep is None else y * keep, self.outer))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "width": self.width,
            "inner": self.inner_width,
            "heads": self.heads,
            "activation": self.activation,
        }


@keras.saving.register_keras_serializable(package="zoo")
class EncoderLayer(TransformerLayer):
    """Attention to all of a sentence, then the feed-forward part."""

    def run(
        self, stream: Stream, bias: tf.Tensor, shape: Shape, rotate: "Rotation | None", run: Pass
    ) -> Stream:
        return self.feed_forward(self.attend(stream, bias, shape, rotate, run), run)


@keras.saving.register_keras_serializable(package="zoo")
class DecoderLayer(TransformerLayer):
    """Attention to what came before, then to the source, then the feed-forward part."""

    def __init__(
        self, width: int, inner: int, heads: int, activation: str = "relu", **kwargs: Any
    ) -> None:
        super().__init__(width, inner, heads, activation, **kwargs)
        self.source_norm = layer_norm("source_norm")
        self.source_query = dense(width, "source_query")
        self.source_memory = dense(2 * width, "source_memory")  # key and value side by side
        self.source_attended = dense(width, "source_attended")

    def _parts(self) -> Iterator[tuple[keras.layers.Layer, int]]:
        yield from super()._parts()
        for layer in (
            self.source_norm,
            self.source_query,
            self.source_memory,
            self.source_attended,
        ):
            yield layer, self.width

    def attend_source(
        self, stream: Stream, memory: tf.Tensor, bias: tf.Tensor, spans: Spans, run: Pass
    ) -> tuple[Stream, tf.Tensor]:
        """Attention to the source; also the weights, (heads, batch, length, sources).

        Args:
            memory: what the encoder made of the source, (batch * sources, width).
            bias: added to the scores, (batch, 1, sources).
            spans: batch, length and sources.
        """
        x, y = stream.normalised(self.source_norm, run)
        keep = run.factors("attention", [self.heads, *spans])
        query = run.dense(y, self.source_query)
        y, weights = cross_attention(
            query, run.dense(memory, self.source_memory), bias, keep, self.heads, spans
        )
        return Stream(x, run.dense(y, self.source_attended)), weights

    def run(
        self,
        stream: Stream,
        bias: tf.Tensor,
        memory: tf.Tensor,
        source_bias: tf.Tensor,
        spans: Spans,
        rotate: "Rotation | None",
        run: Pass,
    ) -> tuple[Stream, tf.Tensor]:
        """The stream, and the weights of attention to the source."""
        stream = self.attend(stream, bias, spans[:2], rotate, run)
        stream, weights = self.attend_source(stream, memory, source_bias, spans, run)
        return self.feed_forward(stream, run), weights


class _Uncast:
    """Layers that only own weights: Keras hands these out in float32 under every policy, and they
    are cast where they are used. It would cast a whole table of which a few rows are read."""

    def add_weight(self, *args: Any, **kwargs: Any) -> keras.Variable:
        return super().add_weight(*args, **{**kwargs, "autocast": False})  # type: ignore[misc]


class _Dense(_Uncast, keras.layers.Dense):
    pass


class _LayerNorm(_Uncast, keras.layers.LayerNormalization):
    pass


class _Embedding(_Uncast, keras.layers.Embedding):
    pass


def dense(units: int, name: str) -> keras.layers.Dense:
    """The weights of a dense layer."""
    return _Dense(units, name=name)


def layer_norm(name: str) -> keras.layers.LayerNormalization:
    """The weights of a layer norm."""
    return _LayerNorm(epsilon=EPSILON, name=name)


def token_table(size: int, width: int, name: str) -> keras.layers.Embedding:
    """Token vectors that, times the root of the width, have a variance of one."""
    initializer = keras.initializers.RandomNormal(stddev=width**-0.5)
    table = _Embedding(size, width, embeddings_initializer=initializer, name=name)
    table.build()
    return table


def activate(x: tf.Tensor, activation: str, training: bool) -> tf.Tensor:
    """The nonlinearity of the feed-forward part: (rows, inner) or, gated, (rows, 2 * inner)."""
    if activation == "relu":
        return tf.nn.relu(x)
    if activation == "gelu":
        return fused.trained_gelu(x) if training else fused.gelu(x)
    gate, value = tf.split(x, 2, axis=-1)
    return gate * tf.sigmoid(gate) * value


Rotation = Callable[[tf.Tensor], tf.Tensor]


def rotation(head: int, positions: tf.Tensor, dtype: tf.DType) -> Rotation:
    """Rotary positions (Su et al. 2021, equation 34): what turns queries and keys.

    Args:
        head: width of a head, even.
        positions: (length,), of the rows that are turned.
        dtype: of what is turned, (..., length, head).
    """
    angles = _angles(head, positions)
    cos, sin = (tf.cast(tf.concat([f, f], -1), dtype) for f in (tf.cos(angles), tf.sin(angles)))

    def rotate(x: tf.Tensor) -> tf.Tensor:
        # Halves are paired, not neighbours: the same but for the order of a head's numbers.
        first, second = tf.split(x, 2, axis=-1)
        return x * cos + tf.concat([-second, first], axis=-1) * sin

    return rotate


def sinusoids(width: int, positions: tf.Tensor) -> tf.Tensor:
    """Sinusoidal positions (Vaswani et al. 2017, section 3.5), sines before cosines: float32
    (length, width)."""
    angles = _angles(width, positions)
    return tf.concat([tf.sin(angles), tf.cos(angles)], axis=-1)


def _angles(width: int, positions: tf.Tensor) -> tf.Tensor:
    rates = 10_000.0 ** (-tf.range(0, width, 2, tf.float32) / width)
    return tf.cast(positions, tf.float32)[:, tf.newaxis] * rates


def padding_bias(mask: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """What to add to attention scores: (batch, 1, length), nothing for real tokens, a number too
    low to matter for padding, where `mask` (batch, length) is false."""
    lowest = -3e4 if dtype == tf.float16 else -1e9
    return tf.where(mask, tf.constant(0, dtype), tf.constant(lowest, dtype))[:, tf.newaxis]


def causal_bias(length: Size, dtype: tf.DType) -> tf.Tensor:
    """The same against looking ahead: (1, length, length)."""
    steps = tf.range(length)
    return padding_bias(steps[:, tf.newaxis] >= steps, dtype)[:, 0][tf.newaxis]


def sizes(x: tf.Tensor) -> tuple[Size, ...]:
    """The shape of `x`, as ints where they are known and scalar tensors elsewhere."""
    dynamic = tf.shape(x)
    return tuple(dynamic[i] if size is None else size for i, size in enumerate(x.shape))
