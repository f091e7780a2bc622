"""Multi-head attention, with other ops for short requests.

Both forms compute the same. On a CPU with oneDNN, TensorFlow hands each transpose, batch product
and softmax to that library, which pays for anything large. For a request of a dozen tokens the
hand-over costs ten times the work, so the short form is made of ops that TensorFlow keeps for
itself.
"""

from collections.abc import Callable
from typing import TypeAlias

import tensorflow as tf

Size: TypeAlias = "int | tf.Tensor"  # of an axis: an int where it is known, else a scalar


def self_attention(
    rows: tf.Tensor,
    bias: tf.Tensor,
    keep: tf.Tensor | None,
    heads: int,
    shape: tuple[Size, Size],
    short: bool = False,
    scale: bool = False,
    rotate: Callable[[tf.Tensor], tf.Tensor] | None = None,
) -> tf.Tensor:
    """Scaled dot-product attention of all heads (Vaswani et al. 2017, section 3.2).

    Args:
        rows: float (batch * length, 3 * width), each token's query, key and value side by side.
        bias: (batch or 1, length or 1, length), added to the scores of each query and key.
        keep: the dropout factors of the attention weights, (heads, batch, length, length), or
            None for no dropout.
        heads: how many; they divide `width`.
        shape: batch and length; ints where they are known, for compilers that want static shapes.
        short: whether to use the ops for few tokens; they have no float16 form on a CPU.
        scale: whether to divide the queries by the root of the head's width; false where the
            weights that made them do so already.
        rotate: turns queries and keys, (..., length, head), by their positions.

    Returns:
        (batch * length, width).
    """
    batch, length = shape
    head = rows.shape[-1] // (3 * heads)  # the width of one
    parts = swap(tf.reshape(rows, [batch * length, 3 * heads, head]), short)
    query, key, value = tf.unstack(tf.reshape(parts, [3, heads, batch, length, head]))
    if rotate:
        query, key = rotate(query), rotate(key)
    if scale:
        query *= head**-0.5
    weights = softmax(product(query, key, short, transpose=True) + bias, short)
    if keep is not None:
        weights *= keep
    mixed = tf.reshape(product(weights, value, short), [heads, batch * length, head])
    return tf.reshape(swap(mixed, short), [batch * length, heads * head])


def cross_attention(
    query: tf.Tensor,
    memory: tf.Tensor,
    bias: tf.Tensor,
    keep: tf.Tensor | None,
    heads: int,
    sizes: tuple[Size, Size, Size],
) -> tuple[tf.Tensor, tf.Tensor]:
    """Attention of one sequence to another, of all heads.

    Args:
        query: float (batch * length, width).
        memory: (batch * sources, 2 * width), each position's key and value side by side.
        bias: (batch, 1, sources), added to the scores of each key.
        keep: the dropout factors of the attention weights, (heads, batch, length, sources), or
            None for no dropout.
        heads: how many; they divide `width`.
        sizes: batch, length and sources.

    Returns:
        (batch * length, width), and the weights before dropout, (heads, batch, length, sources).
    """
    batch, length, sources = sizes
    head = query.shape[-1] // heads
    query = swap(tf.reshape(query * head**-0.5, [batch * length, heads, head]))
    query = tf.reshape(query, [heads, batch, length, head])
    parts = swap(tf.reshape(memory, [batch * sources, 2 * heads, head]))
    key, value = tf.unstack(tf.reshape(parts, [2, heads, batch, sources, head]))
    weights = softmax(product(query, key, transpose=True) + bias)
    mixed = product(weights if keep is None else weights * keep, value)
    mixed = swap(tf.reshape(mixed, [heads, batch * length, head]))
    return tf.reshape(mixed, [batch * length, heads * head]), weights


def swap(x: tf.Tensor, short: bool = False) -> tf.Tensor:
    """(a, b, c) to (b, a, c)."""
    if not short:
        return tf.transpose(x, [1, 0, 2])
    a, b = tf.shape(x)[0], tf.shape(x)[1]
    order = tf.range(b)[:, tf.newaxis] + b * tf.range(a)
    return tf.gather(tf.reshape(x, [-1, x.shape[2]]), order)


def product(x: tf.Tensor, y: tf.Tensor, short: bool = False, transpose: bool = False) -> tf.Tensor:
    """Matrix products, of the last two axes; of `y` transposed, if asked for."""
    if not short:
        return tf.matmul(x, y, transpose_b=transpose)
    return tf.raw_ops.BatchMatMulV3(x=x, y=y, Tout=x.dtype, adj_y=transpose)


def softmax(scores: tf.Tensor, short: bool = False) -> tf.Tensor:
    """Softmax over the last axis."""
    return tf.exp(tf.nn.log_softmax(scores)) if short else tf.nn.softmax(scores)
