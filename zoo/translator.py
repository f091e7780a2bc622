"""An encoder-decoder Transformer for translation.

model = translator(TranslatorConfig(size="tiny"), source_vocabulary_size=9000)
logits = model({"source_ids": source_ids, "target_ids": target_ids})
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import keras
import tensorflow as tf

from zoo.configs import TranslatorConfig
from zoo.layers.decoding import Decoded, Strategy, decode
from zoo.layers.devices import side_by_side
from zoo.layers.incremental import IncrementalDecoder
from zoo.layers.transformer import (
    ACTIVATIONS,
    DecoderLayer,
    Dropout,
    EncoderLayer,
    Pass,
    Rotation,
    Shape,
    Stream,
    causal_bias,
    layer_norm,
    padding_bias,
    rotation,
    sinusoids,
    sizes,
    token_table,
)
from zoo.layers.vocabulary import rows_of, table_tensor, token_nats, uncast
from zoo.losses import Perplexity, TokenCrossentropy

FEW = 16  # hypotheses of a request; docs/performance.md has the measurements


@keras.saving.register_keras_serializable(package="zoo")
class Translator(keras.Model):
    """A Transformer (Vaswani et al. 2017) with pre-norm layers (Xiong et al. 2020), whose output
    weights are the target's embedding table (Press & Wolf 2017).

    Inputs are a dict of int32 `source_ids` (batch, sources) and `target_ids` (batch, length), the
    start token first; 0 is padding, after the last token. The output is float32 logits of each next
    token, (batch, length, target_vocabulary_size). Compiled with a `TokenCrossentropy`, `fit` takes
    the loss and `Perplexity` without them, by `zoo.layers.vocabulary`; other metrics are then of
    validation alone.

    Args:
        source_vocabulary_size: token ids of the source.
        target_vocabulary_size: token ids of the target; None for one vocabulary and one table.
        encoder_layers, decoder_layers: how many.
        width: of the layers.
        inner: width of their feed-forward part.
        heads: of attention.
        positions: `sinusoidal` or `rotary`.
        activation: `relu`, `gelu` or `swiglu`.
        dropout, attention_dropout, activation_dropout: shares dropped in training, 0 to 1.
    """

    def __init__(
        self,
        source_vocabulary_size: int,
        target_vocabulary_size: int | None = None,
        *,
        encoder_layers: int = 4,
        decoder_layers: int = 4,
        width: int = 128,
        inner: int = 256,
        heads: int = 4,
        positions: str = "sinusoidal",
        activation: str = "relu",
        dropout: float = 0.3,
        attention_dropout: float = 0.0,
        activation_dropout: float = 0.0,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        _require_one_of("positions", positions, ("sinusoidal", "rotary"))
        _require_one_of("activation", activation, ACTIVATIONS)
        if width % heads or width // heads % 2:
            raise ValueError(f"width {width} must be an even multiple of heads {heads}")
        self._now = threading.local()  # as replicas' steps are traced in threads that take turns
        self._perplexities: list[Perplexity] = []
        self._config = {
            "source_vocabulary_size": source_vocabulary_size,
            "target_vocabulary_size": target_vocabulary_size,
            "encoder_layers": encoder_layers,
            "decoder_layers": decoder_layers,
            "width": width,
            "inner": inner,
            "heads": heads,
            "positions": positions,
            "activation": activation,
            "dropout": dropout,
            "attention_dropout": attention_dropout,
            "activation_dropout": activation_dropout,
        }
        self.width, self.heads, self.positions = width, heads, positions
        self.rates = Dropout(dropout, attention_dropout, activation_dropout)
        self.source_embedding = token_table(source_vocabulary_size, width, "source_embedding")
        self.target_embedding = self.source_embedding
        if target_vocabulary_size:
            self.target_embedding = token_table(target_vocabulary_size, width, "target_embedding")
        shape = (width, inner, heads, activation)
        self.encoder_layers = [
            EncoderLayer(*shape, name=f"encoder_{i}") for i in range(encoder_layers)
        ]
        self.encoder_norm = layer_norm("encoder_norm")
        self.decoder_layers = [
            DecoderLayer(*shape, name=f"decoder_{i}") for i in range(decoder_layers)
        ]
        self.decoder_norm = layer_norm("decoder_norm")
        self.seed_generator = keras.random.SeedGenerator()
        for layer in (*self.encoder_layers, *self.decoder_layers):
            layer.build()
        for norm in (self.encoder_norm, self.decoder_norm):
            norm.build((None, width))
        self.built = True

    def call(self, inputs: Mapping[str, tf.Tensor], training: bool = False) -> Any:
        if self._fusing:
            return self._parts(inputs)
        rows, _ = self._run(inputs, bool(training))
        table = tf.cast(table_tensor(self.target_embedding), rows.dtype)
        logits = tf.cast(tf.matmul(rows, table, transpose_b=True), tf.float32)
        return tf.reshape(logits, [*_shape(inputs["target_ids"]), table.shape[0]])

    def compile(
        self,
        optimizer: Any = "rmsprop",
        loss: Any = None,
        loss_weights: Any = None,
        metrics: Any = None,
        weighted_metrics: Any = None,
        **kwargs: Any,
    ) -> None:
        super().compile(optimizer, loss, loss_weights, metrics, weighted_metrics, **kwargs)
        metrics = [*(metrics or ()), *(weighted_metrics or ())]
        self._perplexities = [metric for metric in metrics if isinstance(metric, Perplexity)]

    def train_step(self, data: Any) -> dict[str, Any]:
        """Keras' step; compiled with a `TokenCrossentropy`, without logits."""
        with self.training_step():
            return super().train_step(data)

    @contextmanager
    def training_step(self) -> Iterator[None]:
        """Inside it, what is called with the training batch, `compute_loss` and `compute_metrics`
        are to take each other's word: compiled with a `TokenCrossentropy`, they pass on parts of
        what logits are made of instead of logits."""
        self._now.fusing = isinstance(self.loss, TokenCrossentropy)
        try:
            yield
        finally:
            self._now.fusing = False

    @property
    def _fusing(self) -> bool:
        """Whether this is such a step."""
        return getattr(self._now, "fusing", False)

    def _parts(self, inputs: Mapping[str, tf.Tensor]) -> list[tf.Tensor]:
        """What logits are made of, (batch * length, width), in parts that are trained on side by
        side: see `zoo.layers.devices.side_by_side`."""
        count = side_by_side()
        if count == 1:
            return [self._run(inputs, True)[0]]
        batch = tf.shape(inputs["target_ids"])[0]
        ends = [batch * part // count for part in range(count + 1)]
        return [
            self._run({name: ids[start:end] for name, ids in inputs.items()}, True)[0]
            for start, end in pairwise(ends)
        ]

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> tf.Tensor:
        if not self._fusing:
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        y = tf.cast(y, tf.int32)
        table = table_tensor(self.target_embedding)
        parts = tf.split(
            tf.reshape(y, [-1]), [tf.shape(rows)[0] for rows in y_pred], num=len(y_pred)
        )
        nats = [
            token_nats(rows, table, tokens, self.loss.label_smoothing)
            for rows, tokens in zip(y_pred, parts, strict=True)
        ]
        smoothed, plain = (
            tf.reshape(tf.concat(each, axis=0), tf.shape(y)) for each in zip(*nats, strict=True)
        )
        for perplexity in self._perplexities:
            perplexity.add(plain, y, sample_weight)
        return self.loss.average(smoothed, y, sample_weight)

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        if not self._fusing:
            return super().compute_metrics(x, y, y_pred, sample_weight)
        return self._trained_metrics()

    def get_metrics_result(self) -> dict[str, Any]:
        # Until there is validation, Keras' metrics have seen no logits to be built by.
        compiled = self._compile_metrics
        if compiled is None or compiled.built:
            return super().get_metrics_result()
        return self._trained_metrics()

    def _trained_metrics(self) -> dict[str, Any]:
        metrics = (self._loss_tracker, *self._perplexities)
        return {metric.name: metric.result() for metric in metrics}

    def nats(self, inputs: Mapping[str, tf.Tensor], labels: tf.Tensor) -> tf.Tensor:
        """The cross-entropy of each token of a reference, 0 on padding: float32 (batch, length).

        Args:
            inputs: the model's.
            labels: int32 (batch, length), the tokens that follow `target_ids`.
        """
        rows, _ = self._run(inputs, False)
        table = table_tensor(self.target_embedding)
        nats, _ = token_nats(rows, table, tf.reshape(labels, [-1]))
        return tf.where(labels > 0, tf.reshape(nats, tf.shape(labels)), 0.0)

    def for_serving(self, never: Sequence[int] = ()) -> "Decoder":
        """What answers, but never with some tokens, such as that of padding."""
        return Decoder(self, never)

    def attention(self, inputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """The weights of the last decoder layer's attention to the source, their mean over heads:
        float32 (batch, length, sources)."""
        return tf.reduce_mean(tf.cast(self._run(inputs, False)[1], tf.float32), axis=0)

    def encode(self, source_ids: tf.Tensor, run: Pass) -> tuple[tf.Tensor, tf.Tensor]:
        """What the encoder makes of sources: (batch * sources, width) in the compute dtype; and
        what keeps attention from their padding, (batch, 1, sources).

        Args:
            source_ids: int32 (batch, sources).
            run: how to compute.
        """
        shape = _shape(source_ids)
        bias = padding_bias(source_ids > 0, run.dtype)
        stream = self._embed(source_ids, self.source_embedding, shape, run)
        rotate = self._rotation(tf.range(shape[1]), run.dtype)
        for layer in self.encoder_layers:
            stream = layer.run(stream, bias, shape, rotate, run)
        return stream.normalised(self.encoder_norm, run)[1], bias

    def _run(self, inputs: Mapping[str, tf.Tensor], training: bool) -> tuple[tf.Tensor, tf.Tensor]:
        """What logits are made of, (batch * length, width) in the compute dtype, and the weights of
        the last layer's attention to the source."""
        # Keras 3 averages ids over replicas, as floats, when it builds a model under a strategy.
        source_ids = tf.cast(inputs["source_ids"], tf.int32)
        target_ids = tf.cast(inputs["target_ids"], tf.int32)
        dtype = tf.as_dtype(self.compute_dtype)
        run = Pass(dtype)
        if training:
            run = Pass(dtype, self.rates, self.seed_generator.next(), training=True)
        memory, source_bias = self.encode(source_ids, run)
        shape = _shape(target_ids)
        stream = self._embed(target_ids, self.target_embedding, shape, run)
        bias = causal_bias(shape[1], dtype)
        rotate = self._rotation(tf.range(shape[1]), dtype)
        spans = (*shape, _shape(source_ids)[1])
        for layer in self.decoder_layers:
            stream, weights = layer.run(stream, bias, memory, source_bias, spans, rotate, run)
        return stream.normalised(self.decoder_norm, run)[1], weights

    def _embed(
        self, ids: tf.Tensor, table: keras.layers.Embedding, shape: Shape, run: Pass
    ) -> Stream:
        """Token vectors and their positions, as a stream of (batch * length, width)."""
        # The target's is read whole by the product with it, and so must not be gathered from.
        whole = table is self.target_embedding
        x = tf.gather(table_tensor(table), ids) if whole else rows_of(table, ids)
        x *= self.width**0.5
        if self.positions == "sinusoidal":
            x += sinusoids(self.width, tf.range(shape[1]))
        x = tf.reshape(x, [-1, self.width])
        keep = run.factors("residual", [shape[0] * shape[1], self.width])
        return Stream(x if keep is None else x * tf.cast(keep, tf.float32))

    def _rotation(self, positions: tf.Tensor, dtype: tf.DType) -> Rotation | None:
        if self.positions != "rotary":
            return None
        return rotation(self.width // self.heads, positions, dtype)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._config}


class Decoder(tf.Module):
    """Sources in, answers out, as a graph: the encoder of a `Translator`, and a copy of its decoder
    that is fed token by token."""

    def __init__(self, model: Translator, never: Sequence[int] = ()) -> None:
        super().__init__(name="translator")
        # A closure, not an attribute, of which tf.Module would save the whole Keras model.
        self._encode = lambda source_ids, short: model.encode(
            source_ids, Pass(tf.float32, short=short)
        )[0]
        self._steps = IncrementalDecoder(
            model.decoder_layers,
            model.decoder_norm,
            uncast(model.target_embedding.embeddings),
            rotary=model.positions == "rotary",
            never=never,
        )

    def update(self) -> None:
        """Takes the model's weights as they are now."""
        self._steps.update()

    def __call__(
        self,
        source_ids: tf.Tensor,
        limits: tf.Tensor,
        strategy: Strategy,
        *,
        start: int,
        end: int,
        prefix: tf.Tensor | None = None,
    ) -> Decoded:
        """Decodes sources.

        Args:
            source_ids: int32 (batch, sources), 0 on padding.
            limits: int32 (batch,), tokens of each answer at most, its end counted.
            strategy, start, end, prefix: as `zoo.layers.decoding.decode` takes them.
        """
        width, capacity = strategy.width, tf.maximum(tf.reduce_max(limits), 1)  # also of no rows
        batch = tf.shape(source_ids)[0]

        def run(short: bool) -> Decoded:
            memory = self._steps.memory(self._encode(source_ids, short), source_ids > 0)
            return decode(
                self._steps.step(memory, width, capacity, short),
                self._steps.caches(batch, width, capacity),
                limits,
                strategy,
                start=start,
                end=end,
                prefix=prefix,
                source_mask=memory.mask,
                capacity=capacity,
            )

        return tf.cond(batch * width <= FEW, lambda: run(True), lambda: run(False))


def translator(
    config: TranslatorConfig,
    source_vocabulary_size: int,
    target_vocabulary_size: int | None = None,
) -> Translator:
    """Builds the model that `config` describes, under Keras' global dtype policy.

    Args:
        config: its size and options.
        source_vocabulary_size: token ids of the source.
        target_vocabulary_size: token ids of the target; None for one vocabulary of both.
    """
    encoder_layers, decoder_layers, width, inner, heads = config.shape
    return Translator(
        source_vocabulary_size,
        target_vocabulary_size,
        encoder_layers=encoder_layers,
        decoder_layers=decoder_layers,
        width=width,
        inner=inner,
        heads=heads,
        positions=config.positions,
        activation=config.activation,
        dropout=config.dropout,
        attention_dropout=config.attention_dropout,
        activation_dropout=config.activation_dropout,
    )


def _require_one_of(name: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ValueError(f"{name} is {value!r}; it must be one of {', '.join(known)}")


def _shape(ids: tf.Tensor) -> Shape:
    """Batch and length, as ints where they are known and scalar tensors elsewhere."""
    batch, length = sizes(ids)
    return batch, length
