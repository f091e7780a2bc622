"""Recurrent layers: Keras' own, and an LSTM with the same weights that trains faster on a CPU."""

from typing import Any

import keras
import tensorflow as tf

from zoo.layers.devices import has, side_by_side


@keras.saving.register_keras_serializable(package="zoo")
class LSTM(keras.layers.LSTM):
    """`keras.layers.LSTM` (Hochreiter & Schmidhuber 1997, with forget gates), faster on a CPU.

    Arguments, weights and answers are those of Keras. In training on a GPU, and on a TPU, so is the
    work: cuDNN's kernel where the settings allow it. Elsewhere, unless a setting asks for more than
    cuDNN offers, the whole sequence is one TensorFlow op, which runs on CPUs and GPUs and which the
    stock server has, where cuDNN's would keep a model from a server without GPUs. Its gradient is
    written by hand: one small product a step, and large ones for the weights. Where TensorFlow runs
    each op on one thread, a training batch is cut in parts, which run side by side.

    A mask must be true up to a sequence's length and false from there on, as cuDNN wants it.
    """

    def call(
        self,
        sequences: tf.Tensor,
        initial_state: Any = None,
        mask: tf.Tensor | None = None,
        training: bool = False,
    ) -> tf.Tensor:
        on_gpu = training and has("GPU")
        if initial_state is not None or not self._is_plain(training) or on_gpu or has("TPU"):
            return super().call(sequences, initial_state, _with_a_step(mask), training)
        lengths = None
        if mask is not None:
            lengths = tf.reduce_sum(tf.cast(mask, tf.int32), axis=1)
        kernel, recurrent = (
            tf.cast(tf.convert_to_tensor(w), tf.float32)
            for w in (self.cell.kernel, self.cell.recurrent_kernel)
        )
        bias = tf.cast(tf.convert_to_tensor(self.cell.bias), tf.float32)
        x = tf.cast(sequences, tf.float32)
        if self.go_backwards:
            x = _reversed(x, lengths)
        products = tf.as_dtype(self.compute_dtype)
        parts = [
            _lstm(tf.transpose(part, [1, 0, 2]), kernel, recurrent, bias, products)
            for part in _parts(x, training)
        ]
        by_step = tf.concat(parts, axis=1) if len(parts) > 1 else parts[0]
        return tf.cast(self._answer(by_step, lengths), self.compute_dtype)

    def _is_plain(self, training: bool) -> bool:
        """Whether one op can do it: the settings that cuDNN's kernel has, too."""
        cell = self.cell
        drops = training and (cell.dropout > 0 or cell.recurrent_dropout > 0)
        usual = cell.activation is keras.activations.tanh and cell.use_bias
        usual = usual and cell.recurrent_activation is keras.activations.sigmoid
        return usual and not (drops or self.stateful or self.unroll or self.return_state)

    def _answer(self, by_step: tf.Tensor, lengths: tf.Tensor | None) -> tf.Tensor:
        """The outputs that are asked for, of all, (steps, batch, units)."""
        if not self.return_sequences:
            if lengths is None:
                return by_step[-1]
            last = tf.stack([tf.maximum(lengths - 1, 0), tf.range(tf.size(lengths))], axis=1)
            return tf.where(lengths[:, tf.newaxis] > 0, tf.gather_nd(by_step, last), 0.0)
        outputs = tf.transpose(by_step, [1, 0, 2])
        if lengths is None:
            return outputs
        real = tf.sequence_mask(lengths, tf.shape(outputs)[1])[..., tf.newaxis]
        outputs = tf.where(real, outputs, 0.0)
        # Keras has the outputs of a backward layer in the order of its work, padding first.
        return tf.reverse(_reversed(outputs, lengths), [1]) if self.go_backwards else outputs


@keras.saving.register_keras_serializable(package="zoo")
class GRU(keras.layers.GRU):
    """`keras.layers.GRU` (Cho et al. 2014), without cuDNN's kernel but in training, so that a model
    saved beside a GPU runs on a server without one. Masks as for `LSTM`."""

    def call(
        self,
        sequences: tf.Tensor,
        initial_state: Any = None,
        mask: tf.Tensor | None = None,
        training: bool = False,
    ) -> tf.Tensor:
        kept = self.use_cudnn  # type: ignore[has-type]
        self.use_cudnn = kept if training else False
        try:
            return super().call(sequences, initial_state, _with_a_step(mask), training)
        finally:
            self.use_cudnn = kept


def _with_a_step(mask: tf.Tensor | None) -> tf.Tensor | None:
    """A mask by which every sequence has a step at least, as cuDNN insists."""
    if mask is None:
        return None
    return tf.concat([tf.ones_like(mask[:, :1]), mask[:, 1:]], axis=1)


def _reversed(x: tf.Tensor, lengths: tf.Tensor | None) -> tf.Tensor:
    """Sequences with their real steps last to first."""
    return tf.reverse(x, [1]) if lengths is None else tf.reverse_sequence(x, lengths, seq_axis=1)


def _parts(x: tf.Tensor, training: bool) -> list[tf.Tensor]:
    """The batch in parts that several threads can work on.

    An LSTM is many small ops in a row. Two threads that share one such op wait for each other
    longer than they work, so it pays to give each op one thread and each thread a part of the
    batch: see docs/performance.md.
    """
    count = side_by_side() if training else 1
    if count < 2:
        return [x]
    rows = tf.shape(x)[0]
    return [x[rows * part // count : rows * (part + 1) // count] for part in range(count)]


def _lstm(
    x: tf.Tensor, kernel: tf.Tensor, recurrent: tf.Tensor, bias: tf.Tensor, products: tf.DType
) -> tf.Tensor:
    """All outputs of an LSTM.

    Args:
        x: float32 (steps, batch, features).
        kernel, recurrent, bias: as Keras has them, gates in the order input, forget, cell, output;
            float32.
        products: what the gradient's products are computed in.

    Returns:
        float32 (steps, batch, units).
    """

    @tf.custom_gradient
    def run(x: tf.Tensor, kernel: tf.Tensor, recurrent: tf.Tensor, bias: tf.Tensor):
        units = recurrent.shape[0]
        unused = tf.zeros([units])  # weights of peepholes, which there are none of
        start = tf.zeros([tf.shape(x)[1], units])
        forward = tf.raw_ops.BlockLSTMV2(
            seq_len_max=tf.cast(tf.shape(x)[0], tf.int64),
            x=x,
            cs_prev=start,
            h_prev=start,
            w=tf.concat([kernel, recurrent], axis=0),
            wci=unused,
            wcf=unused,
            wco=unused,
            b=bias,
            cell_clip=0.0,
            use_peephole=False,
        )

        def gradient(dh: tf.Tensor):
            gates = _gate_gradients(forward, start, recurrent, dh, products)
            rows = tf.reshape(gates, [-1, 4 * units])
            before = tf.concat([start[tf.newaxis], forward.h[:-1]], axis=0)
            inputs = tf.cast(tf.concat([x, before], axis=-1), products)
            inputs = tf.reshape(inputs, [-1, inputs.shape[-1]])
            weights = tf.cast(tf.matmul(inputs, rows, transpose_a=True), tf.float32)
            weights = _swapped(weights)
            dx = tf.matmul(rows, tf.cast(_swapped(kernel), products), transpose_b=True)
            return (
                tf.reshape(tf.cast(dx, tf.float32), tf.shape(x)),
                weights[: kernel.shape[0]],
                weights[kernel.shape[0] :],
                _swapped(tf.reduce_sum(tf.cast(rows, tf.float32), axis=0)),
            )

        return forward.h, gradient

    return run(x, kernel, recurrent, bias)


def _gate_gradients(
    forward: Any, start: tf.Tensor, recurrent: tf.Tensor, dh: tf.Tensor, products: tf.DType
) -> tf.Tensor:
    """Gradients of the gates before their activation, found from the last step to the first.

    Args:
        forward: what the forward op returned, each (steps, batch, units).
        start: zeros, (batch, units).
        dh: gradient of all outputs, (steps, batch, units).

    Returns:
        (steps, batch, 4 units) of dtype `products`, in the cell op's order of gates.
    """
    units = recurrent.shape[0]
    back = tf.cast(tf.transpose(_swapped(recurrent)), products)
    unused, no_bias, no_weights = (
        tf.zeros(size) for size in ([units], [4 * units], [1 + units, 4 * units])
    )
    no_input = tf.zeros([tf.shape(start)[0], 1])

    def step(i, cs, f, o, ci, co, before, dh, dc, later):
        # The op takes what the forward op does, but looks only at the shapes of some.
        cell = tf.raw_ops.LSTMBlockCellGrad(
            x=no_input,
            cs_prev=before,
            h_prev=start,
            w=no_weights,
            wci=unused,
            wcf=unused,
            wco=unused,
            b=no_bias,
            i=i,
            cs=cs,
            f=f,
            o=o,
            ci=ci,
            co=co,
            cs_grad=dc,
            h_grad=dh + later,
            use_peephole=False,
        )
        gates = tf.cast(cell.dicfo, products)
        return gates, cell.cs_prev_grad, tf.cast(tf.matmul(gates, back), tf.float32)

    before = tf.concat([start[tf.newaxis], forward.cs[:-1]], axis=0)
    arrays = (*forward[:6], before, dh)
    steps = tf.shape(dh)[0]
    shape = [start.shape[0], 4 * units]

    def body(t, dc, later, gates):
        own, dc, later = step(*(tf.gather(array, t) for array in arrays), dc, later)
        return t - 1, dc, later, gates.write(t, own)

    *_, gates = tf.while_loop(
        lambda t, *_: t >= 0,
        body,
        (steps - 1, start, start, tf.TensorArray(products, steps, element_shape=shape)),
        parallel_iterations=1,
    )
    return gates.stack()


def _swapped(gates: tf.Tensor) -> tf.Tensor:
    """Weights of gates in the order i, f, c, o as i, c, f, o, or the other way round: the two ops
    differ in it."""
    i, second, third, o = tf.split(gates, 4, axis=-1)
    return tf.concat([i, third, second, o], axis=-1)
