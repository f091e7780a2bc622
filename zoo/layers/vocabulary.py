"""From tokens to vectors and back: lookups that touch only the rows they name, and the last product
of a language model with its loss, as one function.

**Lookups.** Once TensorFlow has gathered rows from a variable, or updated some, it copies the whole
of it at every plain read after that. So a table is either only ever gathered from (`rows_of`), or,
where all of it is read anyway, as by the product with tied weights, never (`table_tensor`).

**The product.** The logits of a batch are by far its largest tensor. Here they are read once and
written once: the gradient of the loss is taken through the product that made them, so that what
separates it from their softmax (the true token's share, the smoothing) is subtracted from small
tensors.
"""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable(package="zoo")
class TokenEmbedding(keras.layers.Embedding):
    """Keras' embedding of tokens, int (batch, length) to (batch, length, width) in the compute
    dtype, but that a step takes as long with 100,000 tokens as with 1,000."""

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.cast(rows_of(self, inputs), self.compute_dtype)


def rows_of(layer: keras.layers.Embedding, ids: tf.Tensor) -> tf.Tensor:
    """Rows of an embedding's table, in the table's dtype, without a read of the whole; its gradient
    names these rows alone."""
    return tf.gather(uncast(layer.embeddings), tf.cast(ids, tf.int32))


def table_tensor(layer: keras.layers.Embedding) -> tf.Tensor:
    """The whole table, read: for lookups and products of tied weights."""
    return tf.convert_to_tensor(uncast(layer.embeddings))


def uncast(variable: keras.Variable) -> tf.Variable:
    """The variable itself: under a half-precision policy Keras hands out a copy of all of it, cast,
    unless the variable was made with `autocast=False`, whatever its layer says."""
    itself: tf.Variable = variable._value
    return itself


def token_nats(
    rows: tf.Tensor, table: tf.Tensor, tokens: tf.Tensor, label_smoothing: float = 0.0
) -> tuple[tf.Tensor, tf.Tensor]:
    """The cross-entropy of `softmax(rows @ table.T)`, with label smoothing (Szegedy et al. 2016,
    section 7) against the uniform distribution over all tokens.

    Args:
        rows: float (rows, width), in the dtype to compute in.
        table: float32 (vocabulary, width), the output weights.
        tokens: int32 (rows,), the true ones.
        label_smoothing: share of the target probability spread over all tokens, 0 to 1.

    Returns:
        float32 (rows,), and the same without smoothing, which has no gradient. In half precision
        each is rounded, without bias, to about 0.01: enough to watch, and the gradient does not
        suffer.
    """

    @tf.custom_gradient
    def run(rows, table):
        size = table.shape[0]
        kernel = tf.cast(table, rows.dtype)
        logits = tf.matmul(rows, kernel, transpose_b=True)
        shares = tf.nn.softmax(logits)
        at = tf.stack([tf.range(tf.size(tokens)), tokens], axis=1)
        true, share = (tf.cast(tf.gather_nd(x, at), tf.float32) for x in (logits, shares))
        if rows.dtype == tf.float16:
            # Small shares are zero there; the largest is not.
            peak, share = (tf.reduce_max(x, axis=1) for x in (logits, shares))
            log_sum = tf.cast(peak, tf.float32) - tf.math.log(tf.cast(share, tf.float32))
        else:
            log_sum = true - tf.math.log(tf.maximum(share, 1e-37))
        average = tf.reduce_mean(table, axis=0)
        nats = log_sum - (1.0 - label_smoothing) * true
        if label_smoothing:
            mean = tf.linalg.matvec(tf.cast(rows, tf.float32), average)  # of the logits
            nats -= label_smoothing * mean

        def gradient(dy, _):
            dy = dy[:, tf.newaxis]
            truth = (1.0 - label_smoothing) * tf.gather(table, tokens)
            drows = tf.cast(tf.matmul(shares, kernel), tf.float32) - truth
            wide = tf.cast(rows, tf.float32) * dy
            dtable = tf.matmul(shares, tf.cast(wide, rows.dtype), transpose_a=True)
            dtable = tf.cast(dtable, tf.float32)
            if label_smoothing:
                drows -= label_smoothing * average
                dtable -= label_smoothing / size * tf.reduce_sum(wide, axis=0)
            dtable = tf.tensor_scatter_nd_sub(
                dtable, tokens[:, tf.newaxis], (1.0 - label_smoothing) * wide
            )
            return tf.cast(drows * dy, rows.dtype), dtable

        return (nats, log_sum - true), gradient

    return run(rows, table)
