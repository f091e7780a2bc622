import base64
import json
import shlex
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text as tf_text

from tasks.engine.errors import ExportError
from tasks.engine.exporting.export import MODEL_CARD, export
from tasks.engine.exporting.export_check import check, replay_problems
from tasks.engine.exporting.model_card import curl_line, model_card, python_lines
from tasks.engine.exporting.stock_ops import stock_ops
from tasks.engine.exporting.warmup import WARMUP_FILE, _examples, read_warmup
from tasks.kinds.classification.signatures import ClassifierSignatures

REQUESTS = [{"text": np.array(["my card is lost", "wo ist mein Geld?", "it's «gone»"], object)}]


class WordPieces(tf.Module):
    """A text as its token ids, the way a BERT takes it."""

    def __init__(self):
        super().__init__()
        vocabulary = ["[PAD]", "[UNK]", "my", "card", "is", "lost", "##t"]
        self.tokenizer = tf_text.FastBertTokenizer(vocabulary, lower_case_nfd_strip_accents=True)

    def __call__(self, record):
        ids = self.tokenizer.tokenize(record["text"])
        return tf.reduce_sum(tf.one_hot(ids.to_tensor(), 7), axis=1)


class Half(tf.Module):
    """x -> x / 2, or whatever else is given."""

    def __init__(self, function=lambda x: x / 2, **options):
        super().__init__()
        self.weight = tf.Variable(0.0)
        self.call = tf.function(lambda x: {"y": function(x) + self.weight}, **options)

    def functions(self):
        return {
            "serving_default": self.call.get_concrete_function(x=tf.TensorSpec([None], tf.float32))
        }


NUMBERS = [{"x": np.array([1.0, 2.0, 3.0], np.float32)}]


def publish(module, folder, requests=NUMBERS, **options):
    return export(
        module, module.functions(), folder=folder, requests=requests, card="# Half\n", **options
    )


def text_classifier():
    model = keras.Sequential([keras.Input((7,)), keras.layers.Dense(2)])
    text = {"text": tf.TensorSpec([None], tf.string)}
    return ClassifierSignatures(model, WordPieces(), text, ["lost", "found"])


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    """An exported text classifier, and the functions it was exported from."""
    module, folder = text_classifier(), tmp_path_factory.mktemp("models") / "support"
    functions = module.functions()
    return export(module, functions, folder=folder, requests=REQUESTS, card="# Card\n"), functions


def test_an_exported_text_classifier_answers_as_the_one_in_memory(published):
    version, functions = published
    loaded = tf.saved_model.load(str(version)).signatures
    text = tf.constant(REQUESTS[0]["text"])
    for name in ("serving_default", "ranked"):
        for key, value in functions[name](text=text).items():
            np.testing.assert_array_equal(loaded[name](text=text)[key], value)


def test_a_version_holds_its_card_assets_and_warmup(published):
    version, _ = published
    assert version.name == "1"
    assert (version / MODEL_CARD).read_text() == "# Card\n"
    assert (version / "assets" / "labels.txt").read_text() == "lost\nfound\n"
    assert [p.name for p in version.parent.iterdir()] == ["1"]


def test_every_signature_is_warmed_up_at_several_batch_sizes(published):
    version, _ = published
    sent = [(name, len(next(iter(arguments.values())))) for name, arguments in read_warmup(version)]
    assert sorted(sent) == sorted(
        (name, size) for name in ("serving_default", "ranked", "classify") for size in (1, 8, 32)
    )
    assert sent[0] == ("serving_default", 1)


def test_a_sound_model_has_no_problems(published):
    assert check(published[0]) == []


def test_versions_count_up_from_the_highest(tmp_path):
    (tmp_path / "half" / "7").mkdir(parents=True)
    (tmp_path / "half" / "not a version").mkdir()
    assert publish(Half(), tmp_path / "half").name == "8"
    assert publish(Half(), tmp_path / "half").name == "9"


def test_single_requests_are_put_together(tmp_path):
    version = publish(Half(), tmp_path / "half", [{"x": np.array([n], object)} for n in (1.0, 2.0)])
    batches = [arguments["x"].tolist() for _, arguments in read_warmup(version)]
    assert batches[0] == [1.0]
    assert batches[1] == [1.0, 2.0] * 4


def in_python(x):
    return tf.reshape(tf.py_function(lambda v: v / 2, [x], tf.float32), [-1])


class HalfPrecision(Half):
    def __init__(self):
        super().__init__()
        self.call = tf.function(lambda x: {"y": tf.cast(x, tf.bfloat16)})


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (lambda: Half(in_python), "has no op EagerPyFunc"),
        (lambda: Half(jit_compile=True), "asks for XLA"),
        (lambda: Half(tf.function(lambda x: x / 2, jit_compile=True)), "asks for XLA"),
        (HalfPrecision, "output y of serving_default is bfloat16"),
        (lambda: Half(lambda x: x + tf.random.uniform([])), "differs from the model in memory"),
        (
            lambda: Half(lambda x: tf.ensure_shape(x, [3])),
            "request to serving_default fails: Shape of .* not compatible",
        ),
    ],
)
def test_a_model_that_the_server_could_not_run_is_refused(tmp_path, module, reason):
    with pytest.raises(ExportError, match=reason):
        publish(module(), tmp_path / "half")
    assert list(tmp_path.iterdir()) == []


def test_random_numbers_are_found_out_though_they_have_a_seed(tmp_path):
    with pytest.raises(ExportError, match="differs from the model in memory"):
        publish(Half(lambda x: x + tf.random.uniform([], seed=1)), tmp_path / "half")


def test_a_refused_version_leaves_the_published_ones_alone(tmp_path):
    publish(Half(), tmp_path / "half")
    with pytest.raises(ExportError):
        publish(Half(in_python), tmp_path / "half")
    assert [p.name for p in (tmp_path / "half").iterdir()] == ["1"]


def test_requests_with_other_inputs_are_refused(tmp_path):
    with pytest.raises(ValueError, match="a request has z for x"):
        publish(Half(), tmp_path / "half", [{"z": np.zeros(1)}])
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_export_left_is_removed_and_nothing_else(tmp_path):
    folder = tmp_path / "half"
    for name in (".1.ab_cd123", ".git", ".1.notes", "1"):
        (folder / name).mkdir(parents=True)
    publish(Half(), folder)
    assert sorted(p.name for p in folder.iterdir()) == [".1.notes", ".git", "1", "2"]


HOLD_LOCK = """
import fcntl, os, sys
fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX)
print("locked", flush=True)
sys.stdin.read()
"""


def test_an_export_waits_for_another_to_the_same_folder(tmp_path):
    (tmp_path / ".1.ab_cd123").mkdir()
    command = [sys.executable, "-c", HOLD_LOCK, str(tmp_path)]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other,
        ThreadPoolExecutor(1) as pool,
    ):
        assert other.stdout.readline() == b"locked\n"
        waiting = pool.submit(publish, Half(), tmp_path)
        time.sleep(0.5)
        assert (tmp_path / ".1.ab_cd123").exists()
        assert not waiting.done()
        other.kill()
        assert waiting.result(60).name == "1"
    assert not (tmp_path / ".1.ab_cd123").exists()


def test_an_export_prints_nothing(tmp_path, capfd):
    publish(Half(), tmp_path / "half")
    assert capfd.readouterr() == ("", "")


def test_a_broken_warmup_file_and_a_missing_asset_are_found(published, tmp_path):
    version = Path(shutil.copytree(published[0], tmp_path / "1"))
    (version / "assets" / "labels.txt").unlink()
    assert check(version) == ["the asset labels.txt is missing"]
    (version / WARMUP_FILE).write_bytes((version / WARMUP_FILE).read_bytes()[:-5])
    assert "the warmup file cannot be read: " in replay_problems(version)[0]


def test_missing_weights_are_found(published, tmp_path):
    version = Path(shutil.copytree(published[0], tmp_path / "1"))
    shutil.rmtree(version / "variables")
    assert "it cannot be loaded: " in check(version)[0]


def test_stock_ops_are_cores_and_the_linked_ones():
    ops = stock_ops()
    assert {"MatMul", "StatefulPartitionedCall", "FastBertNormalize", "CudnnRNNV3"} <= ops
    assert ops.isdisjoint({"PyFunc", "EagerPyFunc", "XlaLaunch", "DecodeJxl", "Foo1", "_If"})


def card(request, **changes):
    module = text_classifier()
    about = {
        "name": "support",
        "task": "text_classification",
        "metrics": {
            "parameters": 16,
            "train": {"examples": 1000},
            "test": {"accuracy": 0.9, "examples": 20, "per_class": {"lost": {}, "found": {}}},
        },
        "config": {"data": {"train": ["a|b.csv"]}, "model": {"preset": "minilm"}},
        "functions": module.functions(),
        "request": request,
    }
    return model_card(**about | changes)


def test_the_card_tells_data_metrics_and_signatures():
    text = card(REQUESTS[0])
    assert "text classification with 16 parameters, trained from minilm." in text
    assert "| accuracy | 0.9000 |" in text
    assert "| serving_default | in | text | string | batch |" in text
    assert "| serving_default | out | probabilities | float32 | batch, 2 |" in text
    assert "one of its 2 classes" in text
    assert "a&#124;b.csv" in text


def test_the_cards_curl_line_reads_what_is_long_from_a_file(tmp_path):
    picture = bytes(range(256)) * 8
    line = curl_line("m", {"image_bytes": np.array([picture], object)})
    assert len(line) < 200
    (tmp_path / "file").write_bytes(picture)
    sent, curl = line.split(" | ")
    assert curl == "curl -d @- http://localhost:8501/v1/models/m:predict"
    body = subprocess.run(["sh", "-c", sent], cwd=tmp_path, capture_output=True, check=True).stdout
    encoded = json.loads(body)["instances"][0]["image_bytes"]["b64"]
    assert base64.b64decode(encoded) == picture


def test_a_warmup_example_keeps_the_zeros_that_a_file_ends_with():
    (serialized,) = _examples({"image_bytes": np.array([b"ends with\0\0"], object)})
    feature = tf.train.Example.FromString(serialized).features.feature["image_bytes"]
    assert feature.bytes_list.value == [b"ends with\0\0"]


def test_the_cards_curl_line_survives_the_shell():
    request = {
        "text": np.array(['it\'s "gone" $HOME `ls` \n ü'], object),
        "n": np.array([2.5], np.float32),
    }
    command, flag, body, address = shlex.split(curl_line("my model", request))
    assert (command, flag) == ("curl", "-d")
    assert json.loads(body) == {"instances": [{"text": request["text"][0], "n": 2.5}]}
    assert address == "http://localhost:8501/v1/models/my%20model:predict"


def test_bytes_that_are_no_text_go_as_base64():
    body = json.loads(
        shlex.split(curl_line("m", {"image_bytes": np.array([b"\xff\xd8"], object)}))[2]
    )
    assert body == {"instances": [{"image_bytes": {"b64": "/9g="}}]}


def test_the_cards_python_lines_get_an_answer_from_a_server(published, capsys):
    import grpc
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    class Service(prediction_service_pb2_grpc.PredictionServiceServicer):
        def Predict(self, request, context):
            assert request.model_spec.name == "support"
            inputs = {k: tf.constant(tf.make_ndarray(v)) for k, v in request.inputs.items()}
            response = predict_pb2.PredictResponse()
            for name, value in published[1]["serving_default"](**inputs).items():
                response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
            return response

    server = grpc.server(ThreadPoolExecutor(1))
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    lines = python_lines("support", REQUESTS[0], f"127.0.0.1:{port}")
    exec(lines, {})
    server.stop(None)
    assert len(lines.splitlines()) == 10
    assert "'label': array([b'" in capsys.readouterr().out
