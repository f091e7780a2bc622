"""Element-wise blocks of a Transformer in as few passes over memory as stock TensorFlow ops allow.

On a CPU, what lies between the matrix products of a small Transformer (GELU, layer norm, dropout)
is bound by memory traffic and by the number of ops, and the gradients that autodiff writes for it
take more passes than needed. Each function here is plain TensorFlow ops with the
gradient written by hand where that saves passes; the values are those of the Keras layers.
"""

import tensorflow as tf

# gelu(x) = 0.5 x (1 + tanh(u)) = x sigmoid(2u), with 2u = x (LINEAR + CUBIC x^2).
PI = 3.141592653589793
HALF_ROOT = 0.5**0.5
FOLDED = -HALF_ROOT
LINEAR = 2.0 * (2.0 / PI) ** 0.5
CUBIC = LINEAR * 0.044715


def gelu(x: tf.Tensor) -> tf.Tensor:
    """The tanh form of GELU (Hendrycks & Gimpel 2016, section 2), float of any shape.

    Equal to `keras.activations.gelu(x, approximate=True)`, in 6 passes instead of 8.
    """
    return x * tf.sigmoid(x * (LINEAR + CUBIC * tf.square(x)))


@tf.custom_gradient
def trained_gelu(x: tf.Tensor):
    """`gelu` with a gradient of 7 passes instead of about 15."""
    inner = LINEAR + CUBIC * tf.square(x)
    gate = tf.sigmoid(x * inner)

    def gradient(dy):
        # d/dx x s(x i(x)) = s + x s' (i + x i'), and i + x i' = 3 i - 2 LINEAR.
        through_gate = tf.raw_ops.SigmoidGrad(y=gate, dy=dy * x)
        return dy * gate + through_gate * (3.0 * inner - 2.0 * LINEAR)

    return x * gate, gradient


def folded_gelu(y: tf.Tensor) -> tf.Tensor:
    """Exact GELU in 2 passes instead of 5: with y = -x / sqrt(2), gelu(x) = -y erfc(y) / sqrt(2),
    where both factors, `FOLDED`, are in the weights before and after it."""
    return y * tf.math.erfc(y)


@tf.custom_gradient
def trained_exact_gelu(x: tf.Tensor):
    """GELU as it is defined, x times the normal distribution's share below x, with a gradient of
    few passes."""
    below = 0.5 + 0.5 * tf.math.erf(x * HALF_ROOT)

    def gradient(dy):
        density = tf.exp(-0.5 * tf.square(x)) * (HALF_ROOT / PI**0.5)
        return dy * (below + x * density)

    return x * below, gradient


def dense(x: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor, training: bool) -> tf.Tensor:
    """`x @ kernel + bias`; trained, the bias's gradient is a product too, which reads its input
    faster than a sum over rows.

    Args:
        x: float (rows, inputs).
        kernel: (inputs, outputs).
        bias: (outputs,).
        training: whether gradients are wanted.

    Returns:
        (rows, outputs), of the dtype that all three have.
    """
    if not training:
        return tf.nn.bias_add(tf.matmul(x, kernel), bias)

    @tf.custom_gradient
    def run(x, kernel, bias):
        def gradient(dy):
            dx = tf.matmul(dy, kernel, transpose_b=True)
            dkernel = tf.matmul(x, dy, transpose_a=True)
            return dx, dkernel, tf.matmul(tf.ones((1, tf.shape(dy)[0]), dy.dtype), dy)[0]

        return tf.nn.bias_add(tf.matmul(x, kernel), bias), gradient

    return run(x, kernel, bias)


def layer_norm(
    x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float, short: bool = False
) -> tf.Tensor:
    """Layer normalisation (Ba et al. 2016, section 3) over the last axis, in float32.

    Args:
        x: float (tokens, width).
        gamma, beta: float32 (width,).
        short: whether means are matrix-vector products, which are faster for few tokens on a CPU;
            accelerators compute products of float32 in less than float32.

    Returns:
        Of the shape and dtype of `x`.
    """
    wide = tf.cast(x, tf.float32)
    average = tf.fill([x.shape[-1], 1], 1.0 / x.shape[-1])

    def mean(values: tf.Tensor) -> tf.Tensor:
        return tf.matmul(values, average) if short else tf.reduce_mean(values, -1, keepdims=True)

    centred = wide - mean(wide)
    scale = tf.math.rsqrt(mean(tf.square(centred)) + epsilon)
    return tf.cast(centred * scale * gamma + beta, x.dtype)


def trained_residual_norm(
    x: tf.Tensor,
    residual: tf.Tensor,
    keep: tf.Tensor | None,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    epsilon: float,
) -> tf.Tensor:
    """`layer_norm(residual + x * keep)` with a gradient of few passes.

    Args:
        x, residual: float (tokens, width).
        keep: the dropout factors of `x` (see `dropout_factors`), or None for no dropout.
        gamma, beta: float32 (width,).

    Returns:
        Of the shape and dtype of `x`.
    """
    width = x.shape[-1]

    @tf.custom_gradient
    def run(x, residual, gamma, beta):
        wide = tf.cast(residual + (x if keep is None else x * keep), tf.float32)
        centred = wide - tf.reduce_mean(wide, -1, keepdims=True)
        scale = tf.math.rsqrt(tf.reduce_mean(tf.square(centred), -1, keepdims=True) + epsilon)
        normal = centred * scale

        def gradient(dy):
            # Sums over rows or columns are matrix-vector products, which read each input once.
            dy = tf.cast(dy, tf.float32)
            weighted = dy * normal
            ones = tf.ones((1, tf.shape(dy)[0]))
            column = gamma[:, tf.newaxis] / width
            dgamma, dbeta = tf.matmul(ones, weighted)[0], tf.matmul(ones, dy)[0]
            along = tf.matmul(weighted, column)
            dwide = (dy * gamma - tf.matmul(dy, column) - normal * along) * scale
            dsum = tf.cast(dwide, x.dtype)
            return dsum if keep is None else dsum * keep, dsum, dgamma, dbeta

        return tf.cast(normal * gamma + beta, x.dtype), gradient

    return run(x, residual, gamma, beta)


def add_norm(
    x: tf.Tensor,
    y: tf.Tensor | None,
    keep: tf.Tensor | None,
    gamma: tf.Tensor,
    beta: tf.Tensor,
    epsilon: float,
    dtype: tf.DType,
) -> tuple[tf.Tensor, tf.Tensor]:
    """`x + y * keep` and the layer norm of it, with a gradient of few passes: what lies between two
    parts of a pre-norm layer.

    Args:
        x: float32 (tokens, width).
        y: float (tokens, width), or None for zero.
        keep: the dropout factors of `y`, or None for no dropout.
        gamma, beta: float32 (width,).
        dtype: of the norm.

    Returns:
        float32 (tokens, width), and its layer norm in `dtype`.
    """
    width = x.shape[-1]

    def run(x, gamma, beta, y=None):
        total = x
        if y is not None:
            total = x + tf.cast(y if keep is None else y * keep, tf.float32)
        centred = total - tf.reduce_mean(total, -1, keepdims=True)
        scale = tf.math.rsqrt(tf.reduce_mean(tf.square(centred), -1, keepdims=True) + epsilon)
        normal = centred * scale

        def gradient(dtotal, dnormal):
            # Sums over rows or columns are matrix-vector products, which read each input once.
            dnormal = tf.cast(dnormal, tf.float32)
            weighted = dnormal * normal
            ones = tf.ones((1, tf.shape(dnormal)[0]))
            column = gamma[:, tf.newaxis] / width
            dgamma, dbeta = tf.matmul(ones, weighted)[0], tf.matmul(ones, dnormal)[0]
            mean, along = tf.matmul(dnormal, column), tf.matmul(weighted, column)
            dx = dtotal + (dnormal * gamma - mean - normal * along) * scale
            if y is None:
                return dx, dgamma, dbeta
            dy = tf.cast(dx, y.dtype)
            return dx, dgamma, dbeta, dy if keep is None else dy * keep

        return (total, tf.cast(normal * gamma + beta, dtype)), gradient

    parts = (x, gamma, beta) if y is None else (x, gamma, beta, y)
    return tf.custom_gradient(run)(*parts)


def dropout_factors(shape, rate: float, seed: tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """What to multiply by for dropout: 0 with probability `rate`, else 1 / (1 - rate).

    One random byte decides about an element, a quarter of the generator's work for a float each;
    `rate` is therefore rounded to a 256th, and the factor is that rounded rate's.

    Args:
        shape: list of ints and scalar int32 tensors.
        rate: from 0 to below 1.
        seed: int (2,).
        dtype: float dtype of the result.
    """
    limit = min(round(rate * 256), 255)
    # Of all layers' attention it can exceed an int32.
    size = tf.reduce_prod(tf.cast(tf.stack(shape), tf.int64))
    words = tf.random.stateless_uniform([(size + 3) // 4], seed, None, None, tf.uint32)
    octets = tf.reshape(tf.bitcast(words, tf.uint8), [-1])[:size]
    kept = tf.cast(octets >= tf.constant(limit, tf.uint8), dtype)
    return tf.reshape(kept * (256.0 / (256 - limit)), shape)
