"""Multi-head attention, with other ops for short requests.

Both forms compute the same. On a CPU with oneDNN, TensorFlow hands each transpose, batch product
and softmax to that library, which pays for anything large. For a request of a dozen tokens the
hand-over costs ten times the work, so the short form is made of ops that TensorFlow keeps for
itself.
"""

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
) -> tf.Tensor:
    """Scaled dot-product attention of all heads (Vaswani et al. 2017, section 3.2).

    Args:
        rows: float (batch * length, 3 * width), each token's query, key and value side by side;
            the query is divided by the root of the head's width.
        bias: (batch, 1, length), added to the scores of each key.
        keep: the dropout factors of the attention weights, (heads, batch, length, length), or
            None for no dropout.
        heads: how many; they divide `width`.
        shape: batch and length; ints where they are known, for compilers that want static shapes.
        short: whether to use the ops for few tokens; they have no float16 form on a CPU.

    Returns:
        (batch * length, width).
    """
    batch, length = shape
    head = rows.shape[-1] // (3 * heads)  # the width of one
    parts = _swap(tf.reshape(rows, [batch * length, 3 * heads, head]), short)
    query, key, value = tf.unstack(tf.reshape(parts, [3, heads, batch, length, head]))
    weights = _softmax(_product(query, key, short, transpose=True) + bias, short)
    if keep is not None:
        weights *= keep
    mixed = tf.reshape(_product(weights, value, short), [heads, batch * length, head])
    return tf.reshape(_swap(mixed, short), [batch * length, heads * head])


def _swap(x: tf.Tensor, short: bool) -> tf.Tensor:
    """(a, b, c) to (b, a, c)."""
    if not short:
        return tf.transpose(x, [1, 0, 2])
    a, b = tf.shape(x)[0], tf.shape(x)[1]
    order = tf.range(b)[:, tf.newaxis] + b * tf.range(a)
    return tf.gather(tf.reshape(x, [-1, x.shape[2]]), order)


def _product(x: tf.Tensor, y: tf.Tensor, short: bool, transpose: bool = False) -> tf.Tensor:
    if not short:
        return tf.matmul(x, y, transpose_b=transpose)
    return tf.raw_ops.BatchMatMulV3(x=x, y=y, Tout=x.dtype, adj_y=transpose)


def _softmax(scores: tf.Tensor, short: bool) -> tf.Tensor:
    return tf.exp(tf.nn.log_softmax(scores)) if short else tf.nn.softmax(scores)
