"""Batches of records of like length, in an order that is a pure function of (seed, epoch).

Records in memory are encoded once; from then on a batch costs one gather. The order of an epoch is
not the state of some iterator but a formula, so any epoch can be begun at any time, and a stopped
run goes on where it was.

Every dataset made here lives for the whole of `fit` and has tf.data's autotuning switched off:
dropping an autotuned iterator can block for as long as the iterator has lived, which Keras would
pay at the end of each epoch. Parallelism is explicit instead.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import tensorflow as tf

from data.errors import DataError
from data.preprocessing import Batch, Encoded, Preprocessor, encoded_or_refused, raw_tensors

Columns = Mapping[str, np.ndarray]
Rows = Callable[[tf.Tensor], tf.data.Dataset]  # an epoch's batches of rows, int64 (batch,) each


class Augmentation(Protocol):
    """Random changes to a batch that keep, or mix, its targets."""

    def __call__(
        self,
        inputs: dict[str, tf.Tensor],
        targets: tf.Tensor,
        rows: tf.Tensor,
        epoch: tf.Tensor,
        seed: tf.Tensor,
    ) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
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


@dataclass(frozen=True)
class Share:
    """Which part of each batch is made, where several make one together, such as the workers of a
    training, each with some replicas.

    A batch is cut into as many parts as there are replicas, equally long; of a batch that does not
    divide, the first rows are taken once more, as often as it needs. Elements then are the parts,
    one after the other, as (inputs, targets, weights), float32 (rows,): a weight is `FILLING` where
    a row is there only to fill up, and elsewhere the record's own, or 1.

    With `rows`, each batch is filled up to so many rows, so that all have one shape.
    """

    parts: int = 1
    first: int = 0
    count: int = 1
    rows: int | None = None

    def each(self, rows: tf.Tensor) -> tf.Tensor | int:
        """How many rows a part has of a batch of so many."""
        return -(-(self.rows or rows) // self.parts)

    def cut(self, tensor: tf.Tensor) -> tf.Tensor:
        """Something of a batch, (batch, ...), as this share's parts of it: (count, rows, ...)."""
        rows = tf.shape(tensor)[0]
        each = self.each(rows)
        own = tf.range(self.first * each, (self.first + self.count) * each)
        picked = tf.gather(tensor, own % tf.maximum(rows, 1))
        return tf.reshape(picked, tf.concat([[self.count, each], tf.shape(tensor)[1:]], axis=0))

    def weights(self, rows: tf.Tensor, weights: tf.Tensor | None = None) -> tf.Tensor:
        """The weights of this share's parts of a batch of so many rows: float32 (count, rows)."""
        each = self.each(rows)
        own = tf.range(self.first * each, (self.first + self.count) * each)
        given = tf.ones([rows]) if weights is None else tf.cast(weights, tf.float32)
        given = tf.gather(given, own % tf.maximum(rows, 1))
        return tf.reshape(tf.where(own < rows, given, FILLING), [self.count, each])


FILLING = -1.0
"""The weight of a row that only fills up a batch, and is to count for nothing."""

ALL = Share()


class Batches:
    """Records of which batches are made by their rows; subclasses say how many, and what a batch
    of them is."""

    lengths: np.ndarray | None = None
    """Each record's length, if records differ in it; those of like length share a batch. Of
    records of a source and a target both lengths, (records, 2)."""

    def __len__(self) -> int:
        raise NotImplementedError

    def collate(self, rows: tf.Tensor) -> Batch:
        """The (inputs, targets) of these rows, int64 (batch,), by TensorFlow ops; weights, too, if
        records have them."""
        raise NotImplementedError

    def steps(self, batch_size: int, batch_tokens: int | None = None) -> int:
        """The number of batches of an epoch, which is the same for all; arguments as in
        `training`."""
        if batch_tokens is None:
            return -(-len(self) // batch_size)
        return len(self._token_bounds(batch_tokens)) - 1

    def training(
        self,
        batch_size: int,
        seed: int,
        first_epoch: int = 0,
        augmentation: Augmentation | None = None,
        batch_tokens: int | None = None,
        share: Share = ALL,
        first_batch: int = 0,
    ) -> tf.data.Dataset:
        """Endless batches of (inputs, targets), epoch after epoch, beginning with `first_epoch`.

        Args:
            batch_size: records a batch.
            seed: together with the epoch it determines which records meet, and the order.
            augmentation: changes each batch.
            batch_tokens: instead of `batch_size`, what a batch is to hold: as many records as, all
                padded to the longest, source or target, have this many tokens; one at least.
            share: which part of each batch is made. Only an augmentation needs the whole of it.
            first_batch: where the first epoch is to begin.
        """
        if batch_tokens is None:
            rows_of = self._equal_batches(batch_size, seed)
        else:
            rows_of = self._batches_of_tokens(batch_tokens, seed)

        def epoch_batches(epoch: tf.Tensor) -> tf.data.Dataset:
            done = tf.where(tf.equal(epoch, first_epoch), tf.constant(first_batch, tf.int64), 0)
            batches = rows_of(epoch).enumerate().skip(done)
            return batches.map(lambda index, rows: (rows, epoch, index))

        def batch(rows: tf.Tensor, epoch: tf.Tensor, index: tf.Tensor) -> Batch:
            made = self.collate(rows)
            if augmentation is None:
                return made
            own = tf.random.fold_in(tf.stack([tf.cast(seed, tf.int64), epoch]), index)
            inputs, targets = augmentation(made[0], made[1], rows, epoch, own)
            return (inputs, targets, made[2]) if len(made) == 3 else (inputs, targets)

        whole = _epochs(first_epoch).flat_map(epoch_batches)
        if share == ALL:
            return _parallel(whole, batch)
        if augmentation is None:
            return self._parts(whole.map(lambda rows, epoch, index: rows), share)
        return _parallel(whole, batch, share)

    def _parts(self, batches: tf.data.Dataset, share: Share) -> tf.data.Dataset:
        """A share of the batches of these rows, of which nothing else is made."""

        def parts(rows: tf.Tensor) -> tf.data.Dataset:
            weights = share.weights(tf.size(rows))
            return tf.data.Dataset.from_tensor_slices((share.cut(rows), weights))

        def part(rows: tf.Tensor, weights: tf.Tensor) -> Batch:
            inputs, targets, *own = self.collate(rows)
            if own:
                weights = tf.where(weights < 0, weights, tf.cast(own[0], tf.float32))
            if share.rows is None:
                return inputs, targets, weights
            return tf.nest.map_structure(
                lambda tensor: tf.ensure_shape(tensor, [share.each(0), *tensor.shape[1:]]),
                (inputs, targets, weights),
            )

        return _parallel(batches.flat_map(parts), part)

    def _equal_batches(self, batch_size: int, seed: int) -> Rows:
        lengths = tf.constant(np.zeros(len(self)) if self.lengths is None else self.lengths)

        def rows(epoch: tf.Tensor) -> tf.data.Dataset:
            order = epoch_order(lengths, batch_size, seed, epoch)
            return tf.data.Dataset.from_tensor_slices(order).batch(batch_size)

        return rows

    def _batches_of_tokens(self, batch_tokens: int, seed: int) -> Rows:
        bounds = tf.constant(self._token_bounds(batch_tokens))
        lengths = tf.constant(self._longer_side)

        def rows(epoch: tf.Tensor) -> tf.data.Dataset:
            order, spans = token_order(lengths, bounds, seed, epoch)
            return tf.data.Dataset.from_tensor_slices(spans).map(
                lambda span: order[span[0] : span[1]]
            )

        return rows

    def _token_bounds(self, batch_tokens: int) -> np.ndarray:
        if self.lengths is None:
            raise DataError(
                f"--train.batch_tokens {batch_tokens}: these records do not differ in length; give "
                "--train.batch_size instead"
            )
        if batch_tokens not in self._bounds:
            self._bounds[batch_tokens] = token_bounds(self._longer_side, batch_tokens)
        return self._bounds[batch_tokens]

    @cached_property
    def _longer_side(self) -> np.ndarray:
        return _longer(tf.constant(self.lengths)).numpy()

    @cached_property
    def _bounds(self) -> dict[int, np.ndarray]:
        """What `token_bounds` has returned, by its argument: both the number of an epoch's batches
        and the batches are asked for."""
        return {}

    def evaluation(self, batch_size: int, share: Share = ALL) -> tuple[tf.data.Dataset, np.ndarray]:
        """Each record once, shortest (source) first, as batches of (inputs, targets); and which
        record each row is."""
        order = np.arange(len(self))
        if self.lengths is not None:
            order = np.lexsort(self.lengths.reshape(len(self), -1).T[::-1])
        rows = tf.data.Dataset.from_tensor_slices(order).batch(batch_size)
        return (_parallel(rows, self.collate) if share == ALL else self._parts(rows, share)), order


class EncodedRecords(Batches):
    """Records encoded once by a preprocessor, in memory or, where all are of one shape, on disk.

    Args:
        chunks: raw record parts by name, equally long; some records at a time.
        preprocessor: what encodes and, a batch at a time, collates them.
        cache: a folder to keep the encoded records in instead of in memory; it must outlive them.
        length: what to pad records to; by default to the longest of a batch.
    """

    def __init__(
        self,
        chunks: Iterable[Columns],
        preprocessor: Preprocessor,
        cache: Path | None = None,
        length: int | None = None,
    ) -> None:
        self._preprocessor = preprocessor
        self._length = length
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
        targets = tf.gather(self._targets, rows)
        return self._preprocessor.batch(self._gather(rows), targets, self._length)


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
    share: Share = ALL,
    first_batch: int = 0,
    length: int | None = None,
) -> tf.data.Dataset:
    """Endless batches of (inputs, targets) from records that do not fit in memory.

    Args:
        chunks: starts a new pass over the records; yields chunks with `.columns`.
        shuffle_buffer: records held to draw the next one from.
        first_epoch: the epoch to begin with; the order depends on (seed, epoch) alone.
        first_batch: the batch of that epoch to begin with; those before are read, too.
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

        def collate(picked: tf.Tensor) -> Batch:
            part = {name: tf.gather(tensor, picked) for name, tensor in encoded.items()}
            return preprocessor.batch(part, tf.gather(targets, picked), length)

        return tf.data.Dataset.from_tensor_slices(order).batch(batch_size).map(collate)

    batches = _epochs(first_epoch).flat_map(epoch_batches).skip(first_batch)
    return without_autotuning(_shared(batches, share).prefetch(8))


def streamed_evaluation(
    chunks: Callable[[], Iterator[Any]],
    preprocessor: Preprocessor,
    batch_size: int,
    share: Share = ALL,
    length: int | None = None,
) -> tf.data.Dataset:
    """Each record once, in file order, as batches of (inputs, targets)."""
    names = sorted(next(iter(chunks())).columns)
    batches = _batched(_from_chunks(chunks, preprocessor, names), batch_size)
    return _parallel(
        batches,
        lambda columns, targets: preprocessor.batch(preprocessor.encode(columns), targets, length),
        share,
    )


def epoch_order(
    lengths: tf.Tensor, batch_size: int, seed: tf.Tensor | int, epoch: tf.Tensor | int
) -> tf.Tensor:
    """The rows of an epoch in their order, to be cut into batches: int64 (records,).

    Records are shuffled; windows of `WINDOW` batches are sorted by length, so that those of a batch
    need little padding; then the batches are shuffled, a last partial one staying last.

    Args:
        lengths: (records,), or (records, 2), of which the longer counts.
        epoch: together with `seed` it determines the order.
    """
    lengths = _longer(lengths)
    records = tf.size(lengths)
    order = _shuffled(tf.range(records), seed, 2 * tf.cast(epoch, tf.int64))
    window = tf.cast(tf.range(records) // (batch_size * WINDOW), tf.int64)
    picked = tf.gather(lengths, order)
    by_window_then_length = window * (tf.reduce_max(picked) + 1) + picked
    order = tf.gather(order, tf.argsort(by_window_then_length, stable=True))

    whole = records // batch_size * batch_size
    batches = tf.reshape(order[:whole], [-1, batch_size])
    batches = _shuffled(batches, seed, 2 * tf.cast(epoch, tf.int64) + 1)
    return tf.cast(tf.concat([tf.reshape(batches, [-1]), order[whole:]], axis=0), tf.int64)


def token_bounds(lengths: np.ndarray, batch_tokens: int) -> np.ndarray:
    """Where, once records are sorted by length, each batch of at most `batch_tokens` tokens, with
    padding, begins, and the last ends: int64 (batches + 1,).

    Every batch has a row at least, whatever its tokens; where rows are enough, a multiple of eight,
    but in the last batches.

    Args:
        lengths: int (records,), in any order.
    """
    longest = np.maximum(np.sort(lengths), 1).astype(np.int64)
    bounds = [0]
    while (start := bounds[-1]) < len(longest):
        most = max(1, batch_tokens // int(longest[start]))
        lengthening = longest[start : start + most]
        padded = np.arange(1, len(lengthening) + 1) * lengthening
        rows = int(np.searchsorted(padded, batch_tokens, "right"))
        unit = 8 if rows > 8 and start + rows < len(longest) else 1
        bounds.append(start + max(rows - rows % unit, 1))
    return np.array(bounds)


def token_order(
    lengths: tf.Tensor, bounds: tf.Tensor, seed: tf.Tensor | int, epoch: tf.Tensor | int
) -> tuple[tf.Tensor, tf.Tensor]:
    """The rows of an epoch, int64 (records,), and the parts of them that are its batches, in their
    order: begin and end, int64 (batches, 2).

    Records are shuffled, then sorted by length, so that those of one length take each other's
    places; then the batches are shuffled. Their sizes are the same every epoch.

    Args:
        lengths: int (records,).
        bounds: what `token_bounds` returned for them.
        epoch: together with `seed` it determines the order.
    """
    epoch = tf.cast(epoch, tf.int64)
    records = tf.size(lengths, tf.int64)
    order = _shuffled(tf.range(records), seed, 2 * epoch)
    order = tf.gather(order, tf.argsort(tf.gather(lengths, order), stable=True))
    return order, _shuffled(tf.stack([bounds[:-1], bounds[1:]], axis=1), seed, 2 * epoch + 1)


def _shuffled(rows: tf.Tensor, seed: tf.Tensor | int, number: tf.Tensor) -> tf.Tensor:
    key = tf.stack([tf.cast(seed, tf.int64), number])
    return tf.random.experimental.stateless_shuffle(rows, seed=key)


def _longer(lengths: tf.Tensor) -> tf.Tensor:
    """The longer of a source and its target, int64 (records,): records alike in it waste less on
    padding, both together, than records sorted by the one and then by the other."""
    lengths = tf.cast(lengths, tf.int64)
    return lengths if lengths.shape.rank == 1 else tf.reduce_max(lengths, axis=1)


def _parallel(
    dataset: tf.data.Dataset, function: Callable[..., Any], share: Share = ALL
) -> tf.data.Dataset:
    made = dataset.map(function, num_parallel_calls=2, deterministic=True)
    return without_autotuning(_shared(made, share).prefetch(8))


def _shared(batches: tf.data.Dataset, share: Share) -> tf.data.Dataset:
    """A share of whole batches."""
    if share == ALL:
        return batches

    def parts(inputs: Any, targets: Any, *weights: tf.Tensor) -> tf.data.Dataset:
        rows = tf.shape(tf.nest.flatten(targets)[0])[0]
        cut = tf.nest.map_structure(share.cut, (inputs, targets))
        return tf.data.Dataset.from_tensor_slices((*cut, share.weights(rows, *weights)))

    return batches.flat_map(parts)


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
