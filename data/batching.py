"""Batches of records of like length, in an order that is a pure function of (seed, epoch).

Records in memory are encoded once; from then on a batch costs one gather. The order of an epoch is
not the state of some iterator but a formula, so any epoch can be begun at any time, and a stopped
run goes on where it was.

Every dataset made here lives for the whole of `fit` and has tf.data's autotuning switched off:
dropping an autotuned iterator can block for as long as the iterator has lived, which Keras would
pay at the end of each epoch. Parallelism is explicit instead.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from data.preprocessing import Encoded, Preprocessor, encoded_or_refused, raw_tensors

Columns = Mapping[str, np.ndarray]
Batch = tuple[dict[str, tf.Tensor], tf.Tensor]


class Augmentation(Protocol):
    """Random changes to a batch that keep, or mix, its targets."""

    def __call__(
        self,
        inputs: dict[str, tf.Tensor],
        targets: tf.Tensor,
        rows: tf.Tensor,
        epoch: tf.Tensor,
        seed: tf.Tensor,
    ) -> Batch:
        """The batch, changed, by TensorFlow ops.

        Args:
            inputs, targets: what the model gets and should answer.
            rows: int64 (batch,), which records these are.
            epoch: int64 scalar.
            seed: int64 (2,), of its own for each batch of each epoch.
        """


# Batches that are sorted by length together. More would waste less on padding, but would leave
# too little chance in which records meet in a batch.
WINDOW = 32


class Batches:
    """Records of which batches are made by their rows; subclasses say how many, and what a batch
    of them is."""

    lengths: np.ndarray | None = None
    """Each record's length, if records differ in it; those of like length share a batch."""

    def __len__(self) -> int:
        raise NotImplementedError

    def collate(self, rows: tf.Tensor) -> Batch:
        """The (inputs, targets) of these rows, int64 (batch,), by TensorFlow ops."""
        raise NotImplementedError

    def training(
        self,
        batch_size: int,
        seed: int,
        first_epoch: int = 0,
        augmentation: Augmentation | None = None,
    ) -> tf.data.Dataset:
        """Endless batches of (inputs, targets), epoch after epoch, beginning with `first_epoch`."""
        lengths = tf.constant(np.zeros(len(self)) if self.lengths is None else self.lengths)

        def epoch_batches(epoch: tf.Tensor) -> tf.data.Dataset:
            order = epoch_order(lengths, batch_size, seed, epoch)
            batches = tf.data.Dataset.from_tensor_slices(order).batch(batch_size).enumerate()
            return batches.map(lambda index, rows: (rows, epoch, index))

        def batch(rows: tf.Tensor, epoch: tf.Tensor, index: tf.Tensor) -> Batch:
            inputs, targets = self.collate(rows)
            if augmentation is None:
                return inputs, targets
            own = tf.random.fold_in(tf.stack([tf.cast(seed, tf.int64), epoch]), index)
            return augmentation(inputs, targets, rows, epoch, own)

        return _parallel(_epochs(first_epoch).flat_map(epoch_batches), batch)

    def evaluation(self, batch_size: int) -> tuple[tf.data.Dataset, np.ndarray]:
        """Each record once, shortest first, as batches of (inputs, targets); and which record each
        row is."""
        order = np.arange(len(self))
        if self.lengths is not None:
            order = np.argsort(self.lengths, kind="stable")
        rows = tf.data.Dataset.from_tensor_slices(order).batch(batch_size)
        return _parallel(rows, self.collate), order


class EncodedRecords(Batches):
    """Records encoded once by a preprocessor, in memory or, where all are of one shape, on disk.

    Args:
        chunks: raw record parts by name, equally long; some records at a time.
        preprocessor: what encodes and, a batch at a time, collates them.
        cache: a folder to keep the encoded records in instead of in memory; it must outlive them.
    """

    def __init__(
        self, chunks: Iterable[Columns], preprocessor: Preprocessor, cache: Path | None = None
    ) -> None:
        self._preprocessor = preprocessor
        encode = tf.function(preprocessor.encode, reduce_retracing=True)
        store = _Files(cache) if cache else _Memory()
        targets: list[np.ndarray] = []
        lengths: list[np.ndarray] = []
        for columns in chunks:
            for part in _slices(columns, 1024):
                encoded = encoded_or_refused(encode, part)
                store.add(encoded)
                targets.append(preprocessor.targets(part))
                if (some := preprocessor.lengths(encoded)) is not None:
                    lengths.append(some.numpy())
        self._gather = store.reader()
        self.targets = np.concatenate(targets)
        self.lengths = np.concatenate(lengths) if lengths else None
        self._targets = tf.constant(self.targets)

    def __len__(self) -> int:
        return len(self.targets)

    def collate(self, rows: tf.Tensor) -> Batch:
        return self._preprocessor.collate(self._gather(rows)), tf.gather(self._targets, rows)


class _Memory:
    """Encoded records as tensors."""

    def __init__(self) -> None:
        self._parts: list[Encoded] = []

    def add(self, encoded: Encoded) -> None:
        self._parts.append(encoded)

    def reader(self) -> Callable[[tf.Tensor], Encoded]:
        # Taken out as they are joined, so that no more than one name's tensors are held twice.
        names = list(self._parts[0])
        whole = {
            name: tf.concat([part.pop(name) for part in self._parts], axis=0) for name in names
        }
        return lambda rows: {name: tf.gather(part, rows) for name, part in whole.items()}


class _Files:
    """Encoded records of one shape as plain arrays in files, read where they are asked for."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._specs: dict[str, tf.TensorSpec] = {}

    def add(self, encoded: Encoded) -> None:
        for name, part in encoded.items():
            first = name not in self._specs
            self._specs[name] = tf.TensorSpec([None, *part.shape[1:]], part.dtype)
            with (self._folder / name).open("wb" if first else "ab") as file:
                file.write(part.numpy().tobytes())

    def reader(self) -> Callable[[tf.Tensor], Encoded]:
        arrays = {
            name: np.memmap(self._folder / name, spec.dtype.as_numpy_dtype, "r").reshape(
                -1, *spec.shape[1:]
            )
            for name, spec in self._specs.items()
        }

        def gather(rows: tf.Tensor) -> Encoded:
            return {
                name: tf.ensure_shape(
                    tf.numpy_function(array.__getitem__, [rows], self._specs[name].dtype),
                    self._specs[name].shape,
                )
                for name, array in arrays.items()
            }

        return gather


def streamed_training(
    chunks: Callable[[], Iterator[Any]],
    preprocessor: Preprocessor,
    batch_size: int,
    seed: int,
    shuffle_buffer: int,
    first_epoch: int = 0,
) -> tf.data.Dataset:
    """Endless batches of (inputs, targets) from records that do not fit in memory.

    Args:
        chunks: starts a new pass over the records; yields chunks with `.columns`.
        shuffle_buffer: records held to draw the next one from.
        first_epoch: the epoch to begin with; the order depends on (seed, epoch) alone.
        Other arguments as in `EncodedRecords`.
    """
    names = sorted(next(iter(chunks())).columns)
    records = _from_chunks(chunks, preprocessor, names)

    def epoch_batches(epoch: tf.Tensor) -> tf.data.Dataset:
        key = tf.stack([tf.cast(seed, tf.int64), epoch])
        mixed = tf.random.stateless_uniform([], key, maxval=2**31 - 1, dtype=tf.int64)
        # Of this function's graph: with a global seed of 0, `shuffle` would compare ours with 0.
        tf.random.set_seed(1)
        shuffled = records.shuffle(shuffle_buffer, seed=mixed, reshuffle_each_iteration=False)
        windows = _batched(shuffled, WINDOW * batch_size).enumerate()
        return windows.flat_map(lambda index, window: window_batches(mixed + index, *window))

    def window_batches(
        seed: tf.Tensor, columns: dict[str, tf.Tensor], targets: tf.Tensor
    ) -> tf.data.Dataset:
        encoded = preprocessor.encode(columns)
        lengths = preprocessor.lengths(encoded)
        if lengths is None:
            lengths = tf.zeros_like(targets, tf.int32)
        order = epoch_order(lengths, batch_size, seed, 0)

        def collate(picked: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
            part = {name: tf.gather(tensor, picked) for name, tensor in encoded.items()}
            return preprocessor.collate(part), tf.gather(targets, picked)

        return tf.data.Dataset.from_tensor_slices(order).batch(batch_size).map(collate)

    return without_autotuning(_epochs(first_epoch).flat_map(epoch_batches).prefetch(8))


def streamed_evaluation(
    chunks: Callable[[], Iterator[Any]], preprocessor: Preprocessor, batch_size: int
) -> tf.data.Dataset:
    """Each record once, in file order, as batches of (inputs, targets)."""
    names = sorted(next(iter(chunks())).columns)
    batches = _batched(_from_chunks(chunks, preprocessor, names), batch_size)
    return _parallel(batches, lambda columns, targets: (preprocessor(columns), targets))


def epoch_order(
    lengths: tf.Tensor, batch_size: int, seed: tf.Tensor | int, epoch: tf.Tensor | int
) -> tf.Tensor:
    """The rows of an epoch in their order, to be cut into batches: int64 (records,).

    Records are shuffled; windows of `WINDOW` batches are sorted by length, so that those of a batch
    need little padding; then the batches are shuffled, a last partial one staying last.

    Args:
        lengths: (records,).
        epoch: together with `seed` it determines the order.
    """
    records = tf.size(lengths)
    epoch = tf.cast(epoch, tf.int64)
    shuffle = tf.random.experimental.stateless_shuffle
    order = shuffle(tf.range(records), seed=tf.stack([tf.cast(seed, tf.int64), 2 * epoch]))
    window = tf.cast(tf.range(records) // (batch_size * WINDOW), tf.int64)
    picked = tf.cast(tf.gather(lengths, order), tf.int64)
    by_window_then_length = window * (tf.reduce_max(picked) + 1) + picked
    order = tf.gather(order, tf.argsort(by_window_then_length, stable=True))

    whole = records // batch_size * batch_size
    batches = tf.reshape(order[:whole], [-1, batch_size])
    batches = shuffle(batches, seed=tf.stack([tf.cast(seed, tf.int64), 2 * epoch + 1]))
    return tf.cast(tf.concat([tf.reshape(batches, [-1]), order[whole:]], axis=0), tf.int64)


def _parallel(dataset: tf.data.Dataset, function: Callable[..., Any]) -> tf.data.Dataset:
    return without_autotuning(
        dataset.map(function, num_parallel_calls=2, deterministic=True).prefetch(8)
    )


def without_autotuning(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The dataset without autotuning, whose thread would hold up the dropping of an iterator."""
    options = tf.data.Options()
    options.autotune.enabled = False
    options.deterministic = True
    return dataset.with_options(options)


def _epochs(first: int) -> tf.data.Dataset:
    return tf.data.Dataset.range(first, np.iinfo(np.int64).max)


def _from_chunks(
    chunks: Callable[[], Iterator[Any]], preprocessor: Preprocessor, names: list[str]
) -> tf.data.Dataset:
    def generate() -> Iterator[tuple[dict[str, tf.Tensor], tf.Tensor]]:
        for chunk in chunks():
            columns = {name: chunk.columns[name] for name in names}
            yield raw_tensors(columns), tf.constant(preprocessor.targets(columns))

    def spec(part: tf.Tensor) -> tf.TensorSpec:
        # All but the last dimension of sequences may differ from chunk to chunk.
        known = part.shape[1:][-1:]
        return tf.TensorSpec([None] * (part.ndim - len(known)) + known, part.dtype)

    signature = tf.nest.map_structure(spec, next(generate()))
    return tf.data.Dataset.from_generator(generate, output_signature=signature).unbatch()


def _batched(records: tf.data.Dataset, size: int) -> tf.data.Dataset:
    """Batches; sequences of a batch are filled up with NaN to one length."""
    fill = tf.nest.map_structure(
        lambda spec: np.nan if spec.dtype.is_floating else None, records.element_spec
    )
    return records.padded_batch(size, padding_values=fill)


def _slices(columns: Columns, size: int) -> Iterator[dict[str, np.ndarray]]:
    length = len(next(iter(columns.values())))
    for start in range(0, length, size):
        yield {name: part[start : start + size] for name, part in columns.items()}
