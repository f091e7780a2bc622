"""A Transformer's decoder one position at a time, for inference.

The weights are those of `zoo.layers.transformer`, copied once and rewritten so that a step, which
for a few sentences costs as much as it has ops, has few of them:

- What only scales or shifts a product (a norm's gamma and beta, the root in the scores) is
  multiplied into the weights of that product.
- All that is added to the residual stream has its mean taken out of it, so that layer norms need
  not (they ignore it): what remains of them is a division by the root of the mean square.
- A position's key and value lie side by side in the cache, and are written by one op. Queries are
  widened by zeros to match, and the rows of the weights that would read the keys are zeros.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

from zoo.layers.attention import product, softmax
from zoo.layers.transformer import DecoderLayer, activate, rotation, sinusoids


class Product(NamedTuple):
    """rows @ kernel + bias."""

    kernel: Any  # (inputs, outputs)
    bias: Any  # (outputs,)

    def __call__(self, rows: tf.Tensor, short: bool = False) -> tf.Tensor:
        if short:
            return product(rows, self.kernel, short) + self.bias
        return tf.nn.bias_add(tf.matmul(rows, self.kernel), self.bias)


class _Layer(NamedTuple):
    """The weights of one decoder layer."""

    project: Product  # to widened queries, and keys and values side by side
    attended: Product
    source_query: Product
    source_attended: Product
    inner: Product
    outer: Product


class _Weights(NamedTuple):
    """All that a step computes with, but the token table."""

    layers: tuple[_Layer, ...]
    memory: Product  # to the keys and values of the source, of all layers side by side
    output: Product  # to logits


class Memory(NamedTuple):
    """What a step needs of the source, for each layer."""

    keys: Sequence[tf.Tensor]  # (batch, heads, sources, head)
    values: Sequence[tf.Tensor]  # likewise
    bias: tf.Tensor  # (batch, 1, 1, sources)
    mask: tf.Tensor  # bool (batch, sources)


class IncrementalDecoder(tf.Module):
    """One step of decoder layers with key/value caches, as `zoo.layers.decoding.Step` says.

    It holds copies of the layers' weights, in float32, and the model's own token table.

    Args:
        layers: the decoder's.
        norm: after the last of them.
        table: the token table, (vocabulary, width), float32.
        rotary: whether positions turn queries and keys; else they are added to the tokens.
        never: tokens that are not to be written, such as that of padding.
    """

    def __init__(
        self,
        layers: Sequence[DecoderLayer],
        norm: keras.layers.LayerNormalization,
        table: tf.Variable,
        rotary: bool,
        never: Sequence[int] = (),
    ) -> None:
        super().__init__(name="decoder")
        self._width, self._heads = layers[0].width, layers[0].heads
        self._head = self._width // self._heads
        self._activation = layers[0].activation
        self._epsilon = norm.epsilon
        self._rotary = rotary
        self._table = table
        # In a closure: of attributes, a SavedModel would hold the model's own weights too.
        self._rewritten = lambda: self._rewrite(layers, norm, list(never))
        with tf.init_scope():
            values = self._rewritten()
            copies = [tf.Variable(value, trainable=False) for value in tf.nest.flatten(values)]
        self._copies = copies
        # As they are named; of a named tuple in an attribute tf.Module would make something else.
        self._weights = lambda: tf.nest.pack_sequence_as(values, copies)

    def update(self) -> None:
        """Takes the model's weights as they are now, after more training."""
        for copy, value in zip(self._copies, tf.nest.flatten(self._rewritten()), strict=True):
            copy.assign(value)

    def memory(self, rows: tf.Tensor, source_mask: tf.Tensor) -> Memory:
        """The keys and values of a source.

        Args:
            rows: float32 (batch * sources, width), what the encoder made of it.
            source_mask: bool (batch, sources), false on padding.
        """
        batch, sources = tf.unstack(tf.shape(source_mask))
        weights = self._weights()
        shape = [batch, sources, 2 * len(weights.layers), self._heads, self._head]
        parts = tf.reshape(weights.memory(rows), shape)
        keys_and_values = tf.unstack(tf.transpose(parts, [2, 0, 3, 1, 4]))
        bias = tf.where(source_mask, 0.0, -1e9)[:, tf.newaxis, tf.newaxis]
        return Memory(keys_and_values[::2], keys_and_values[1::2], bias, source_mask)

    def caches(
        self, batch: tf.Tensor, width: int | tf.Tensor, capacity: int | tf.Tensor
    ) -> list[tf.Tensor]:
        """Empty caches for so many rows, hypotheses of each and positions."""
        shape = [batch * self._heads * capacity * width, 2 * self._head]
        return [tf.zeros(shape) for _ in self._weights().layers]

    def step(
        self,
        memory: Memory,
        width: int | tf.Tensor,
        capacity: int | tf.Tensor,
        short: bool = False,
    ) -> Callable[..., tuple[tf.Tensor, list[tf.Tensor], tf.Tensor]]:
        """What `decode` calls, for the caches of this size.

        Args:
            short: whether to use the ops that suit few hypotheses; see `zoo.layers.attention`.
        """
        batch = tf.shape(memory.mask)[0]
        heads, head, slots = self._heads, self._head, capacity * width
        places = sinusoids(self._width, tf.range(capacity))
        places -= tf.reduce_mean(places, axis=-1, keepdims=True)
        # Where the caches of each sentence and head begin.
        starts = tf.range(batch * heads) * slots
        starts = tf.reshape(starts, [batch, 1, heads]) + tf.range(width)[:, tf.newaxis]
        starts = tf.reshape(starts, [-1, 1])
        single = isinstance(width, int) and width == 1
        # Read before the loop: in it, each would be read at each step.
        weights = tf.nest.map_structure(tf.convert_to_tensor, self._weights())
        table = tf.convert_to_tensor(self._table)

        def by_head(x: tf.Tensor, size: int) -> tf.Tensor:
            """(rows, heads * size) to (batch, heads, width, size)."""
            if single:
                return tf.reshape(x, [batch, heads, 1, size])
            return tf.transpose(tf.reshape(x, [batch, width, heads, size]), [0, 2, 1, 3])

        def by_row(x: tf.Tensor, size: int) -> tf.Tensor:
            if not single:
                x = tf.transpose(x, [0, 2, 1, 3])
            return tf.reshape(x, [-1, heads * size])

        def step(
            tokens: tf.Tensor, position: tf.Tensor, caches: list[tf.Tensor], ancestors: tf.Tensor
        ) -> tuple[tf.Tensor, list[tf.Tensor], tf.Tensor]:
            past = tf.range(capacity) <= position
            if single:
                bias = tf.where(past, 0.0, -1e9)
            else:
                own = tf.equal(ancestors[..., tf.newaxis], tf.range(width))
                bias = tf.where(own & past[:, tf.newaxis], 0.0, -1e9)
                bias = tf.reshape(bias, [batch, 1, width, slots])
            turn = rotation(head, position[tf.newaxis], tf.float32) if self._rotary else None
            x = tf.gather(table, tf.reshape(tokens, [-1])) * self._width**0.5
            x -= tf.reduce_mean(x, axis=-1, keepdims=True)
            if not self._rotary:
                x += places[position]
            where = starts + position * width
            new_caches = []
            for layer, cache, keys, values in zip(
                weights.layers, caches, memory.keys, memory.values, strict=True
            ):
                y = layer.project(self._normal(x), short)
                query, pair = tf.split(y, 2, axis=-1)
                query = by_head(query, 2 * head)
                pair = tf.reshape(pair, [-1, 2 * head])
                if turn:
                    query, pair = _turned(query, turn), _turned(pair, turn)
                cache = tf.tensor_scatter_nd_update(cache, where, pair)
                new_caches.append(cache)
                pairs = tf.reshape(cache, [batch, heads, slots, 2 * head])
                shares = softmax(product(query, pairs, short, transpose=True) + bias, short)
                y = by_row(product(shares, pairs, short), 2 * head)
                x += layer.attended(y, short)

                query = by_head(layer.source_query(self._normal(x), short), head)
                scores = product(query, keys, short, transpose=True) + memory.bias
                shares = softmax(scores, short)
                y = by_row(product(shares, values, short), head)
                x += layer.source_attended(y, short)

                y = activate(layer.inner(self._normal(x), short), self._activation, False)
                x += layer.outer(y, short)
            logits = weights.output(self._normal(x))
            logits = tf.reshape(logits, [batch, width, self._table.shape[0]])
            return logits, new_caches, tf.reduce_mean(shares, axis=1)

        return step

    def _normal(self, x: tf.Tensor) -> tf.Tensor:
        """A layer norm without gamma and beta, of rows whose mean is zero."""
        square = tf.reduce_mean(tf.square(x), axis=-1, keepdims=True)
        return x * tf.math.rsqrt(square + self._epsilon)

    def _rewrite(
        self,
        layers: Sequence[DecoderLayer],
        norm: keras.layers.LayerNormalization,
        never: list[int],
    ) -> "_Weights":
        gamma, beta, vectors = (part.numpy() for part in (norm.gamma, norm.beta, self._table))
        bias = vectors @ beta
        bias[never] = -1e9
        return _Weights(
            layers=tuple(self._layer(layer) for layer in layers),
            memory=_split(_joined(*(_with_bias(layer.source_memory) for layer in layers))),
            output=Product(gamma[:, np.newaxis] * vectors.T, bias),
        )

    def _layer(self, layer: DecoderLayer) -> _Layer:
        query, key, value = np.split(_with_bias(layer.project), 3, axis=-1)
        query = self._pairs(query * self._head**-0.5, np.zeros_like(query))
        attended = _split(_with_bias(layer.attended))
        # Rows of zeros for the keys, which are mixed along with the values.
        rows = attended.kernel.reshape(self._heads, self._head, -1)
        rows = np.concatenate([np.zeros_like(rows), rows], axis=1).reshape(-1, self._width)
        source_query = _with_bias(layer.source_query) * self._head**-0.5
        return _Layer(
            project=_after(layer.attention_norm, _joined(query, self._pairs(key, value))),
            attended=_centred(attended._replace(kernel=rows)),
            source_query=_after(layer.source_norm, source_query),
            source_attended=_centred(_split(_with_bias(layer.source_attended))),
            inner=_after(layer.inner_norm, _with_bias(layer.inner)),
            outer=_centred(_split(_with_bias(layer.outer))),
        )

    def _pairs(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        """Each head's columns of two matrices side by side: (inputs, heads * 2 * head)."""
        shape = (-1, self._heads, self._head)
        both = np.concatenate([first.reshape(shape), second.reshape(shape)], axis=-1)
        return both.reshape(len(first), -1)


def _turned(pair: tf.Tensor, turn: Callable[[tf.Tensor], tf.Tensor]) -> tf.Tensor:
    """A query or key turned by its position, and what lies beside it as it is."""
    first, second = tf.split(pair, 2, axis=-1)
    return tf.concat([turn(first), second], axis=-1)


def _with_bias(layer: keras.layers.Dense) -> np.ndarray:
    """The kernel, and the bias as a last row."""
    return np.concatenate([layer.kernel.numpy(), layer.bias.numpy()[np.newaxis]])


def _split(weights: np.ndarray) -> Product:
    return Product(weights[:-1], weights[-1])


def _joined(*parts: np.ndarray) -> np.ndarray:
    return np.concatenate(parts, axis=-1)


def _after(norm: keras.layers.LayerNormalization, weights: np.ndarray) -> Product:
    """A product of what a norm's gamma and beta would make of its input."""
    gamma, beta = norm.gamma.numpy(), norm.beta.numpy()
    kernel, bias = _split(weights)
    return Product(gamma[:, np.newaxis] * kernel, bias + beta @ kernel)


def _centred(product: Product) -> Product:
    """The product less its mean over outputs."""
    kernel, bias = product
    return Product(kernel - kernel.mean(axis=-1, keepdims=True), bias - bias.mean())
