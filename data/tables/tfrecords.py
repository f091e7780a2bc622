"""TFRecord files of tf.train.Example; TensorFlow is imported only when one is read."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from data.cells import clip
from data.errors import DataError
from data.tables.table import Chunk, FileTable, batches, is_gzip


@dataclass(frozen=True)
class TfrecordTable(FileTable):
    """Examples whose features are the columns; a feature of one value is a scalar, else a list."""

    def columns(self) -> list[str]:
        """The features of the first 100 examples."""
        examples = (_features(record) for record in islice(self._records(), 100))
        names = dict.fromkeys(name for features in examples for name in sorted(features or ()))
        if not names:
            raise DataError(f"{self.name} holds no tf.train.Example; write it with some features.")
        return list(names)

    def chunks(self, columns: Sequence[str], size: int) -> Iterator[Chunk]:
        row = 1
        for records in batches(self._records(), size, len):
            chunk = Chunk([], {column: [] for column in columns}, [])
            for features in map(_features, records):
                if features is None:
                    chunk.broken.append((row, "not a tf.train.Example"))
                else:
                    chunk.rows.append(row)
                    for column in columns:
                        chunk.cells[column].append(_value(features.get(column)))
                row += 1
            yield chunk

    def _records(self) -> Iterator[bytes]:
        import tensorflow as tf

        compression = "GZIP" if is_gzip(self.path) else ""
        dataset = tf.data.TFRecordDataset(self.path, compression)
        # The thread that tunes would hold up whoever drops the iterator.
        options = tf.data.Options()
        options.autotune.enabled = False
        records = dataset.with_options(options).as_numpy_iterator()
        row = 0
        while True:
            row += 1
            try:
                record = next(records, None)
            except tf.errors.OpError as error:
                # The message begins with the op's own name in braces.
                problem = clip(error.message.rpartition("}} ")[2], 80)
                raise DataError(
                    f"{self.name}, record {row} is corrupt ({problem}); fetch or "
                    "write the file anew."
                ) from error
            if record is None:
                return
            yield record


def _features(record: bytes) -> dict[str, Any] | None:
    """The features by name, or None for what is not an example."""
    from google.protobuf.message import DecodeError
    from tensorflow.train import Example

    try:
        return dict(Example.FromString(record).features.feature)
    except DecodeError:
        return None


def _value(feature: Any) -> Any:
    kind = feature.WhichOneof("kind") if feature is not None else None
    if kind is None:
        return None
    values = list(getattr(feature, kind).value)
    return values if len(values) > 1 else next(iter(values), None)
