"""Benchmarks' files are made of data sets as they are published, or it is said what is missing."""

import gzip
import io
import struct
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from benchmarks import data
from benchmarks.compare import BenchmarkError
from benchmarks.data import DATA_SETS, described, made, needed


def pixels(encoded: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(encoded)))


def idx(values: np.ndarray) -> bytes:
    head = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    return head + values.astype(np.uint8).tobytes()


def test_texts_are_copied_from_wherever_they_lie_and_unpacked(tmp_path):
    raw = tmp_path / "got" / "dataset-master" / "data" / "task1" / "raw"
    raw.mkdir(parents=True)
    for name in DATA_SETS["multi30k"].files:
        (raw / f"{name}.gz").write_bytes(gzip.compress(f"{name}\n".encode()))
    paths = made("multi30k", tmp_path / "got", tmp_path / "to")
    assert [path.read_text() for path in paths] == [f"{path.name}\n" for path in paths]
    assert needed(tmp_path / "to", "multi30k") == paths[0].parent
    assert needed(paths[0].parent, "multi30k") == paths[0].parent
    assert not list((tmp_path / "to").glob(".*"))


@pytest.mark.parametrize("packed", [False, True])
def test_mnist_is_made_of_its_idx_files(tmp_path, packed):
    values = np.arange(3 * 28 * 28).reshape(3, 28, 28) % 256
    for prefix in ("train", "t10k"):
        for name, array in (("images-idx3", values), ("labels-idx1", np.array([7, 0, 9]))):
            path = tmp_path / f"{prefix}-{name}-ubyte{'.gz' * packed}"
            path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    for path in made("mnist", tmp_path, tmp_path):
        table = pd.read_parquet(path)
        assert table["label"].tolist() == ["7", "0", "9"]
        np.testing.assert_array_equal(np.stack(table["image"].map(pixels)), values)


def test_cifar10_is_made_of_its_binary_version_without_losses(tmp_path):
    values = np.random.RandomState(0).randint(0, 256, (2, 32, 32, 3), np.uint8)
    rows = [bytes([3 + n]) + values[n].transpose(2, 0, 1).tobytes() for n in range(2)]
    for name in ("test_batch", *(f"data_batch_{number}" for number in range(1, 6))):
        (tmp_path / f"{name}.bin").write_bytes(b"".join(rows))
    train, test = (pd.read_parquet(path) for path in made("cifar10", tmp_path, tmp_path))
    assert train["label"].tolist() == ["cat", "deer"] * 5 and len(test) == 2
    np.testing.assert_array_equal(np.stack(test["image"].map(pixels)), values)


def test_pictures_in_folders_of_their_classes_are_taken_as_they_are(tmp_path):
    for part in ("train", "test"):
        (tmp_path / "got" / part / "5").mkdir(parents=True)
        (tmp_path / "got" / part / "5" / "1.png").write_bytes(part.encode())
    train, test = (pd.read_parquet(path) for path in made("mnist", tmp_path / "got", tmp_path))
    assert train.to_dict("records") == [{"image": b"train", "label": "5"}]
    assert test.to_dict("records") == [{"image": b"test", "label": "5"}]


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({}, "no train.csv nor train.csv.gz in "),
        ({"train.csv": "a,b\n"}, "train.csv in .* does not begin with 'text,category'"),
        ({"a/train.csv": "", "b/train.csv": ""}, "has .*a/train.csv and .*b/train.csv; name the"),
    ],
)
def test_what_is_missing_or_other_is_said_and_nothing_is_left(tmp_path, files, problem):
    for name, content in files.items():
        (tmp_path / "got" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "got" / name).write_text(content)
    (tmp_path / "got").mkdir(exist_ok=True)
    with pytest.raises(BenchmarkError, match=problem):
        made("banking77", tmp_path / "got", tmp_path / "to")
    assert not list((tmp_path / "to").iterdir())
    with pytest.raises(BenchmarkError, match=r"no .*banking77/train.csv; 'python -m benchmarks.da"):
        needed(tmp_path / "to", "banking77")
    assert "python -m benchmarks.data banking77 --from DIR" in described("banking77", tmp_path)


def test_the_command_lists_what_there_is_and_fails_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["data", "--to", str(tmp_path)])
    data.main()
    said = capsys.readouterr().out
    assert all(name in said and known.home in said for name, known in DATA_SETS.items())
    monkeypatch.setattr(sys, "argv", ["data", "sst2", "--from", str(tmp_path / "none")])
    with pytest.raises(SystemExit) as end:
        data.main()
    assert "\n" not in end.value.code and "none is no folder; unpack" in end.value.code
