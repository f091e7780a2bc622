"""`tfds:NAME[/SPLIT]`: a data set of the TensorFlow Datasets catalogue, read as a table.

tensorflow-datasets is optional, and imported only here, when such a data set is named.
"""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from data.cells import clip
from data.errors import DataError
from data.tables.table import Chunk, batches

PREFIX = "tfds:"


class TfdsTable:
    """One split of a data set; it is downloaded and prepared when it isn't on the disk yet."""

    def __init__(self, name: str, split: str):
        """Takes "tfds:NAME[/SPLIT]" and the split to read where the name has none."""
        self.name = name
        self.folder = Path()
        self._default_split = split

    def size(self) -> int:
        builder, split = self._prepared
        return builder.info.splits[split].num_bytes

    def columns(self) -> list[str]:
        return list(self._prepared[0].info.features)

    def where(self, row: int) -> str:
        return f"{self.name}, row {row}"

    def chunks(self, columns: Sequence[str], size: int) -> Iterator[Chunk]:
        import tensorflow_datasets

        builder, split = self._prepared
        features = builder.info.features
        encoded = {
            name: tensorflow_datasets.decode.SkipDecoding()
            for name, feature in features.items()
            if isinstance(feature, tensorflow_datasets.features.Image)
        }
        data = builder.as_dataset(split=split, shuffle_files=False, decoders=encoded or None)
        data = data.map(lambda example: {column: example[column] for column in columns})
        examples = iter(tensorflow_datasets.as_numpy(data))
        row = 1
        for batch in batches(examples, size, _bytes):
            cells = {
                column: _named(features[column], [example[column] for example in batch])
                for column in columns
            }
            yield Chunk(list(range(row, row + len(batch))), cells, [])
            row += len(batch)

    @cached_property
    def _prepared(self) -> tuple[Any, str]:
        """The data set's builder, with its files on the disk, and the split."""
        builder = None
        try:
            import tensorflow_datasets

            builder, split = self._find(tensorflow_datasets.builder)
            builder.download_and_prepare()
        except ImportError as error:
            raise DataError(
                f"{self.name} needs a package that is not installed ({error}); "
                "pip install tensorflow-datasets, and what else is named."
            ) from error
        except DataError:
            raise
        except Exception as error:
            raise DataError(
                f"{self.name} is not in {getattr(builder, 'data_dir', 'reach')} and can't be got "
                f"({type(error).__name__}: {clip(str(error), 120)}); prepare it where there is a "
                "network and name the folder with TFDS_DATA_DIR."
            ) from error
        try:
            builder.info.splits[split]
        except Exception as error:
            raise DataError(
                f"{self.name} has no split '{split}'; its splits are: "
                f"{', '.join(builder.info.splits)}. Name one: {PREFIX}NAME/SPLIT."
            ) from error
        return builder, split

    def _find(self, builder: Any) -> tuple[Any, str]:
        """NAME may hold slashes itself (a config), so the whole is tried before NAME/SPLIT."""
        name = self.name.removeprefix(PREFIX)
        head, _, tail = name.rpartition("/")
        try:
            return builder(name), self._default_split
        except (ValueError, AssertionError) as error:
            problem = clip(str(error).partition("\n")[0], 120)
        try:
            return builder(head), tail
        except (ValueError, AssertionError) as error:
            raise DataError(
                f"{self.name}: TensorFlow Datasets has no such data set ({problem}); look it up "
                "at https://www.tensorflow.org/datasets/catalog."
            ) from error


def _bytes(example: dict[str, Any]) -> int:
    return sum(len(cell) for cell in example.values() if isinstance(cell, bytes))


def _named(feature: Any, cells: list[Any]) -> list[Any]:
    """Python values; class numbers by their names, and -1, which stands for none, as None."""
    values = [cell.tolist() if hasattr(cell, "tolist") else cell for cell in cells]
    if not hasattr(feature, "int2str"):
        return values
    return [feature.int2str(value) if value >= 0 else None for value in values]
