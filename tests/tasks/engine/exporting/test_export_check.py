import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text as tf_text
from google.protobuf import text_format
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import prediction_log_pb2

from tasks.engine.exporting.export_check import CHECKS, check, inspect
from tasks.engine.exporting.warmup import WARMUP_FILE
from tasks.export_check import main

FLOATS = tf.TensorSpec([None], tf.float32)


class Half(tf.Module):
    """x -> x / 2, or whatever else is given."""

    def __init__(self, function=lambda x: x / 2, spec=FLOATS, **options):
        super().__init__()
        self.weight = tf.Variable(0.5)
        self.call = tf.function(
            lambda x: {"y": function(x)}, [tf.TensorSpec(spec.shape, spec.dtype, "x")], **options
        )


def save(module, folder):
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.call})
    return folder


def in_python(x):
    return tf.reshape(tf.py_function(lambda v: v / 2, [x], tf.float32), [-1])


class Classifier(tf.Module):
    """Classify, Regress, and others that are near misses."""

    def __init__(self):
        super().__init__()
        serialized = [tf.TensorSpec([None], tf.string, "inputs")]

        def length(inputs):
            parsed = tf.io.parse_example(inputs, {"n": tf.io.FixedLenFeature([], tf.float32)})
            return parsed["n"]

        def classify(inputs):
            n = length(inputs)
            return {"classes": tf.fill([tf.size(n), 1], "odd"), "scores": n[:, None]}

        self.functions = {
            "serving_default": tf.function(classify, serialized),
            "regress": tf.function(lambda inputs: {"outputs": length(inputs)}, serialized),
            "flat": tf.function(lambda inputs: {"scores": length(inputs)}, serialized),
            "whole": tf.function(
                lambda inputs: {"outputs": tf.cast(length(inputs), tf.int64)}, serialized
            ),
        }


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    return save(Half(), tmp_path_factory.mktemp("good") / "1")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    folder, module = tmp_path_factory.mktemp("classifier") / "1", Classifier()
    tf.saved_model.save(module, str(folder), signatures=module.functions)
    return folder


@pytest.fixture
def version(good, tmp_path):
    """A good version, to break."""
    return Path(shutil.copytree(good, tmp_path / "model" / "1"))


def run(capsys, *arguments):
    """The exit code, and what was written to stdout and stderr."""
    with pytest.raises(SystemExit) as exit:
        main([str(argument) for argument in arguments])
    printed = capsys.readouterr()
    assert "[[{{" not in printed.out + printed.err
    return exit.value.code, printed.out, printed.err


def reason(capsys, folder, *options, loads=False):
    """The one line that says why the server would not load it, or would not answer."""
    code, out, err = run(capsys, folder, *options)
    assert code == 2
    assert ("would load it, but could NOT answer" if loads else "would NOT load it") in out
    (line,) = err.splitlines()
    return line.removeprefix("error: ").removeprefix(f"{folder}: ")


def change(version, edit):
    """Edits the graph of a saved model."""
    path = version / "saved_model.pb"
    proto = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    edit(proto.meta_graphs[0])
    path.write_bytes(proto.SerializeToString())


def states(out):
    return [line[14:27].strip() for line in out.splitlines() if line[2:14].strip() in CHECKS]


def test_a_good_model_passes_every_check(capsys, good):
    code, out, err = run(capsys, good)
    assert (code, err) == (0, "")
    assert out.startswith(f"{good}: TensorFlow Serving 2.20 would load it\n")
    assert states(out) == ["ok"] * len(CHECKS)
    assert "no warmup requests: first requests will be slow" in out
    assert "1 parameter in 1 variable" in out


def test_a_terminal_gets_a_table(capsys, monkeypatch, good):
    monkeypatch.setenv("FORCE_COLOR", "1")
    code, out, _ = run(capsys, good)
    assert code == 0
    assert "\x1b[32mok" in out


def test_of_a_models_folder_the_latest_version_is_checked(capsys, version):
    shutil.copytree(version, version.parent / "10")
    (version.parent / "notes").mkdir()
    (version / "saved_model.pb").unlink()
    code, out, _ = run(capsys, version.parent)
    assert code == 0
    assert out.startswith(f"{version.parent / '10'}: ")
    assert f"version 10 is the latest of 2 in {version.parent}" in out


def test_json_is_an_object_a_folder(capsys, good, tmp_path):
    code, out, err = run(capsys, tmp_path / "none", good, "--json")
    bad, fine = map(json.loads, out.splitlines())
    assert bad["problems"] == ["there is no such folder"]
    assert (bad["loads"], fine["loads"]) == (bad["answers"], fine["answers"]) == (False, True)
    assert fine.keys() == {"folder", "server", "loads", "answers", "problems", "notes"}
    assert (fine["folder"], fine["server"], fine["problems"]) == (str(good), "2.20", [])
    assert code == 2
    assert err == f"error: {tmp_path / 'none'}: there is no such folder\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "required: FOLDER"),
        ((".", "--server", "1.0"), "--server 1.0: its ops are not known; known are 2.20"),
        ((".", "--frobnicate"), "unrecognized arguments: --frobnicate"),
        ((".", "--tags", ","), "--tags needs one or more"),
    ],
)
def test_mistakes_are_one_line(capsys, arguments, said):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert said in err
    assert err.count("\n") == 1


def test_help_does_not_wait_for_tensorflow():
    script = (
        "import sys\nfrom tasks.export_check import main\n"
        "try: main(['--help'])\n"
        "finally: print({'tensorflow', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: python -m tasks.export_check")
    assert done.stdout.endswith("set()\n")


def test_a_fresh_process_finds_tf_texts_ops_and_says_nothing_else(tmp_path):
    tokenizer = tf_text.FastBertTokenizer(["[PAD]", "[UNK]", "my", "card"])
    texts = tf.TensorSpec([None], tf.string)
    module = Half(lambda x: tokenizer.tokenize(x).to_tensor(), texts)
    module.tokenizer = tokenizer
    folder = save(module, tmp_path / "1")
    command = [sys.executable, "-m", "tasks.export_check", str(folder)]
    # As a user has it: this process has set the level to silence TensorFlow already.
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "tensorflow_text 2.20.0: FastBertNormalize" in done.stdout
    assert "not checked" not in done.stdout


# The file


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"garbage" * 100, "saved_model.pb cannot be parsed"),
        (b"", "no graph is tagged serve: it holds no graph at all"),
    ],
)
def test_what_is_no_saved_model_is_told(capsys, version, content, said):
    (version / "saved_model.pb").write_bytes(content)
    assert said in reason(capsys, version)


def test_a_truncated_saved_model_is_told(capsys, version):
    path = version / "saved_model.pb"
    path.write_bytes(path.read_bytes()[:-100])
    assert "saved_model.pb cannot be parsed: truncated" in reason(capsys, version)
    assert states(run(capsys, version)[1]) == ["fails"] + ["not checked"] * (len(CHECKS) - 1)


def test_places_without_a_saved_model_are_told(capsys, version, tmp_path):
    assert reason(capsys, tmp_path / "none") == "there is no such folder"
    assert (
        reason(capsys, version / "saved_model.pb") == f"a file; give the folder it is in, {version}"
    )
    assert "neither a saved_model.pb in it nor" in reason(capsys, tmp_path)
    code, _, err = run(capsys, "gs://bucket/model")
    assert (code, "remote storage is not read here" in err) == (2, True)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a/best.keras", 'keras.saving.load_model("best.keras").export("saved_models/NAME/1")'),
        ("a/M.H5", 'load_model("M.H5").export('),
        ("a/m.weights.h5", "weights alone of a Keras model, which the server does not read; build"),
        ("a/m.tflite", "a LiteRT (TensorFlow Lite) model, which can't be made a SavedModel"),
        ("a/m.onnx", "an ONNX model, which the server does not read"),
        ("a/model.safetensors", "weights of PyTorch, or of a model in Hugging Face's format"),
        ("a/m.tar.gz", "an archive; unpack it first"),
        ("my run/checkpoints/best.keras", "python -m tasks.text_classification export --run.dir '"),
    ],
)
def test_other_formats_are_named_with_how_to_export_them(capsys, tmp_path, name, said):
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.touch()
    if name.startswith("my run"):
        (tmp_path / "my run/config.yaml").write_text("task: text_classification\n")
        assert said in reason(capsys, tmp_path / "my run")
        assert said in reason(capsys, path.parent)
    elif not name.endswith("safetensors"):
        assert f"no saved_model.pb in it; {path.name} is " in reason(capsys, path.parent)
    assert said in reason(capsys, path)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (["config.json", "model.safetensors", "vocab.txt"], "a model in Hugging Face's format"),
        (["config.json", "metadata.json", "model.weights.h5"], "a preset in KerasHub's format"),
    ],
)
def test_presets_are_named_with_how_to_train_and_export_them(capsys, tmp_path, files, said):
    for name in files:
        (tmp_path / name).touch()
    told = reason(capsys, tmp_path)
    assert told.startswith(f"{said}, which the server does not read")
    assert f"--model.preset {tmp_path}" in told


def test_text_format_is_read_too(capsys, version):
    binary = version / "saved_model.pb"
    proto = saved_model_pb2.SavedModel.FromString(binary.read_bytes())
    binary.unlink()
    (version / "saved_model.pbtxt").write_text(text_format.MessageToString(proto))
    code, out, _ = run(capsys, version)
    assert code == 0
    assert "in text format" in out
    (version / "saved_model.pbtxt").write_text("meta_graphs { nonsense")
    assert "saved_model.pbtxt cannot be parsed: " in reason(capsys, version)


def test_tags_choose_the_graph(capsys, version):
    change(version, lambda graph: graph.meta_info_def.tags.append("tpu"))
    told = reason(capsys, version)
    assert told == "no graph is tagged serve: it has graphs tagged serve and tpu"
    code, out, _ = run(capsys, version, "--tags", "serve,tpu")
    assert code == 0
    assert "started with --saved_model_tags=serve,tpu" in out


@pytest.mark.parametrize("name", ["variables.index", "variables.data-00000-of-00001"])
def test_missing_and_damaged_variables_are_told(capsys, version, name):
    path = version / "variables" / name
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert reason(capsys, version).startswith("it cannot be loaded: ")
    path.unlink()
    assert reason(capsys, version) == f"it cannot be loaded: variables/{name} is missing"


def test_a_missing_shard_is_told(capsys, version):
    whole = version / "variables" / "variables.data-00000-of-00001"
    whole.rename(whole.with_name("variables.data-00001-of-00002"))
    assert "variables.data-00000-of-00002 is missing" in reason(capsys, version)


# The graph


@pytest.mark.parametrize(
    ("module", "said"),
    [
        (lambda: Half(in_python), "has no op EagerPyFunc (in function __inference_"),
        (lambda: Half(jit_compile=True), "asks for XLA, which the server has switched off"),
        (
            lambda: Half(lambda x: tf.fill(tf.shape(x), tf.io.read_file("/home/me/words.txt"))),
            "opens the file /home/me/words.txt, outside the folder; make it an asset",
        ),
    ],
)
def test_a_graph_that_the_server_could_not_run_is_refused(capsys, tmp_path, module, said):
    assert said in reason(capsys, save(module(), tmp_path / "1"))


@pytest.mark.parametrize("dtype", [tf.half, tf.bfloat16, tf.complex64])
def test_an_input_that_only_grpc_carries_is_a_note(capsys, tmp_path, dtype):
    module = Half(lambda x: tf.cast(tf.math.real(x), tf.float32), tf.TensorSpec([None], dtype))
    code, out, _ = run(capsys, save(module, tmp_path / "1"))
    assert code == 0
    assert f"input x of serving_default is {dtype.name}, which REST cannot carry, but gRPC" in out


@pytest.mark.parametrize("dtype", [tf.half, tf.bfloat16, tf.complex64])
def test_an_output_that_only_grpc_carries_is_a_note_and_the_rest_is_checked(
    capsys, tmp_path, dtype
):
    folder = save(Half(lambda x: tf.cast(x, dtype)), tmp_path / "1")
    warm(folder, predict())
    code, out, _ = run(capsys, folder)
    assert code == 0
    assert f"output y of serving_default is {dtype.name}, which REST cannot carry, but gRPC" in out
    assert states(out) == ["ok"] * len(CHECKS)
    assert "1 request answered" in out


def test_what_is_exported_here_has_no_output_in_half_precision(tmp_path):
    folder = save(Half(lambda x: tf.cast(x, tf.bfloat16)), tmp_path / "1")
    [problem] = check(folder)
    assert problem.startswith("output y of serving_default is bfloat16, which REST cannot carry;")


@pytest.mark.parametrize("made", ["ragged", "sparse"])
def test_an_output_that_no_answer_can_hold_keeps_no_server_from_loading(capsys, tmp_path, made):
    output = {
        "ragged": lambda x: tf.RaggedTensor.from_tensor(x[:, None]),
        "sparse": tf.sparse.from_dense,
    }
    folder = save(Half(output[made]), tmp_path / "1")
    said = reason(capsys, folder, loads=True)
    assert said.startswith(f"output y of serving_default is {made}")
    assert "make it dense" in said
    assert states(run(capsys, folder)[1]) == ["ok"] * 6 + ["fails"] + ["ok"] * 2


def test_a_device_that_is_written_into_the_graph_is_told(capsys, tmp_path):
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        a = tf.compat.v1.placeholder(tf.float32, [None], "a")
        with tf.device("/device:TPU:0"):
            y = tf.multiply(a, 2.0, "y")
        signature = tf.compat.v1.saved_model.predict_signature_def({"a": a}, {"y": y})
        builder = tf.compat.v1.saved_model.Builder(str(tmp_path / "1"))
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature})
        builder.save()
    said = reason(capsys, tmp_path / "1", loads=True)
    assert said.startswith("serving_default cannot be called: Cannot assign a device for operation")
    assert "is bound to /device:TPU:0: a server without" in run(capsys, tmp_path / "1")[1]


def test_a_device_within_a_function_is_only_a_wish(capsys, tmp_path):
    def double(x):
        with tf.device("/GPU:0"):
            return x * 2

    assert run(capsys, save(Half(double), tmp_path / "1"))[0] == 0


class Drawn(tf.Module):
    """x and noise, whose seed a variable counts up."""

    def __init__(self):
        super().__init__()
        self.seed = tf.Variable([1, 2])
        self.call = tf.function(self.noisy, [tf.TensorSpec([None], tf.float32, "x")])

    def noisy(self, x):
        noise = tf.random.stateless_normal(tf.shape(x), self.seed)
        self.seed.assign_add([0, 1])
        return {"y": x + noise}


@pytest.mark.parametrize(
    ("module", "op"),
    [
        (lambda: Half(lambda x: x + tf.random.uniform(tf.shape(x))), "RandomUniform"),
        (lambda: Half(tf.random.shuffle), "RandomShuffle"),
        (
            lambda: Half(lambda x: tf.cond(x[0] > 0, lambda: x, lambda: tf.random.shuffle(x))),
            "RandomShuffle",
        ),
        (Drawn, "StatelessRandomNormalV2"),
    ],
)
def test_answers_by_chance_are_a_note(capsys, tmp_path, module, op):
    code, out, _ = run(capsys, save(module(), tmp_path / "1"))
    assert code == 0
    assert f"serving_default draws random numbers ({op} at " in out


def test_numbers_drawn_from_a_seed_that_stays_are_no_chance(capsys, tmp_path):
    module = Half(lambda x: x + tf.random.stateless_uniform(tf.shape(x), [1, 2]))
    module.shuffled = tf.function(lambda: tf.random.shuffle([1, 2]), [])
    code, out, _ = run(capsys, save(module, tmp_path / "1"))
    assert code == 0
    assert "random" not in out


def test_an_unknown_op_is_told_with_its_place(capsys, version):
    change(version, lambda graph: graph.graph_def.node.add(name="here", op="NoSuchOp"))
    assert reason(capsys, version) == "TensorFlow Serving 2.20 has no op NoSuchOp (in node here)"
    assert states(run(capsys, version)[1])[5:8] == ["not checked"] * 3


def test_a_broken_function_body_is_told_without_its_node(capsys, version):
    def cut(graph):
        for function in graph.graph_def.library.function:
            for node in function.node_def:
                if node.op == "RealDiv":
                    node.input[0] = "nowhere:output:0"

    change(version, cut)
    told = reason(capsys, version)
    assert told == "it cannot be loaded: input nowhere:output:0 is not found"


def test_a_function_that_nothing_calls_keeps_no_server_from_loading(capsys, tmp_path):
    module = Half()
    module.debug = tf.function(in_python, [FLOATS])
    code, out, _ = run(capsys, save(module, tmp_path / "1"))
    assert code == 0
    assert "has no op EagerPyFunc; but it is only in function __inference_" in out


def test_ops_that_only_this_process_lacks_are_no_problem_but_unchecked(capsys, version):
    change(
        version,
        lambda graph: graph.graph_def.node.add(name="forest", op="SimpleMLCreateModelResource"),
    )
    code, out, _ = run(capsys, version)
    assert code == 0
    assert "Decision Forests inference: SimpleMLCreateModelResource" in out
    assert "lacks SimpleMLCreateModelResource: not loaded to see" in out
    assert states(out)[5:8] == ["not checked"] * 3


def test_assets_must_be_in_the_folder(capsys, tmp_path):
    (tmp_path / "words.txt").write_text("a\nb\n")
    module = Half()
    module.words = tf.saved_model.Asset(str(tmp_path / "words.txt"))
    folder = save(module, tmp_path / "1")
    assert run(capsys, folder)[0] == 0
    (folder / "assets" / "words.txt").unlink()
    assert reason(capsys, folder) == "the asset words.txt is missing"
    change(folder, lambda graph: setattr(graph.asset_file_def[0], "filename", "../../words.txt"))
    assert reason(capsys, folder) == "the asset ../../words.txt lies outside the folder"


# Signatures


def test_a_model_needs_a_signature(capsys, tmp_path):
    tf.saved_model.save(Half(), str(tmp_path / "1"), signatures={})
    change(tmp_path / "1", lambda graph: graph.signature_def.pop("serving_default", None))
    assert "it has no signature that a request could call" in reason(
        capsys, tmp_path / "1", loads=True
    )


def test_without_serving_default_clients_are_warned(capsys, version):
    def rename(graph):
        graph.signature_def["halve"].CopyFrom(graph.signature_def.pop("serving_default"))

    change(version, rename)
    code, out, _ = run(capsys, version)
    assert code == 0
    assert "there is no serving_default, so each request must name its signature" in out


def test_a_signatures_tensors_must_be_in_the_graph(capsys, version):
    def move(graph):
        output = graph.signature_def["serving_default"].outputs["y"]
        output.name = output.name.replace(":0", ":7")

    change(version, move)
    assert reason(capsys, version, loads=True).startswith("serving_default cannot be called: ")

    def lose(graph):
        graph.signature_def["serving_default"].outputs["y"].name = "gone:0"

    change(version, lose)
    told = reason(capsys, version, loads=True)
    assert told == "output y of serving_default, the tensor gone:0, is not in the graph"


# TensorFlow 1, and Keras


def simple_save(folder, rate):
    """A linear model."""
    with tf.compat.v1.Session(graph=tf.Graph()) as session:
        x = tf.compat.v1.placeholder(tf.float32, [None], "x")
        rate = rate()
        weight = tf.compat.v1.get_variable("weight", initializer=2.0, use_resource=False)
        session.run(tf.compat.v1.global_variables_initializer())
        tf.compat.v1.saved_model.simple_save(
            session, str(folder), {"x": x}, {"y": x * weight * rate}
        )
    return folder


def test_a_model_of_tensorflow_1_is_checked_as_well(capsys, tmp_path):
    folder = simple_save(
        tmp_path / "1", lambda: tf.compat.v1.placeholder_with_default(1.0, [], "rate")
    )
    code, out, _ = run(capsys, folder)
    assert code == 0
    assert "1 parameter in 1 variable" in out


def test_a_placeholder_that_no_request_could_fill_is_found(capsys, tmp_path):
    folder = simple_save(tmp_path / "1", lambda: tf.compat.v1.placeholder(tf.float32, [], "rate"))
    told = reason(capsys, folder, loads=True)
    assert told == "serving_default needs the placeholder rate, which is none of its inputs"


def test_a_keras_export_is_checked_as_well(capsys, tmp_path):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.export(str(tmp_path / "1"), verbose=False)
    code, out, _ = run(capsys, tmp_path / "1")
    assert code == 0
    assert " parameters in " in out


# Warmup


def predict(name="", dtype=tf.float32, **inputs):
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.model_spec.signature_name = name
    for key, value in (inputs or {"x": [1.0]}).items():
        log.predict_log.request.inputs[key].CopyFrom(tf.make_tensor_proto(value, dtype))
    return log


def examples(kind, name="", rows=2):
    log = prediction_log_pb2.PredictionLog()
    request = getattr(log, kind).request
    request.model_spec.name = "model"
    request.model_spec.signature_name = name
    fill(request.input, rows)
    return log


def fill(given, rows=2):
    for number in range(rows):
        example = given.example_list.examples.add()
        example.features.feature["n"].float_list.value.append(number)


def with_context():
    log = prediction_log_pb2.PredictionLog()
    given = log.classify_log.request.input.example_list_with_context
    given.context.features.feature["n"].float_list.value.append(1.0)
    given.examples.add()
    return log


def multi(*tasks, rows=2):
    log = prediction_log_pb2.PredictionLog()
    for name, method in tasks:
        task = log.multi_inference_log.request.tasks.add(method_name=f"tensorflow/serving/{method}")
        task.model_spec.name = "model"
        task.model_spec.signature_name = name
    fill(log.multi_inference_log.request.input, rows)
    return log


def session_run():
    log = prediction_log_pb2.PredictionLog()
    log.session_run_log.request.target.append("y")
    return log


def warm(version, *logs):
    path = version / WARMUP_FILE
    path.parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path)) as writer:
        for log in logs:
            writer.write(log if isinstance(log, bytes) else log.SerializeToString())
    return path


def test_good_warmup_requests_are_answered(capsys, version):
    warm(version, predict(), predict("serving_default", x=[1.0, 2.0]))
    code, out, _ = run(capsys, version)
    assert code == 0
    assert "2 requests answered" in out


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (predict("nope"), 'request to nope fails: Serving signature key "nope" not found.'),
        (predict(z=[1.0]), "serving_default fails: Signature input alias: x(feed name: "),
        (predict(x=[1], dtype=tf.int32), "fails: Expects arg[0] to be float but int32 is provided"),
        (session_run(), "a warmup request fails: Unsupported log_type for warmup: 5"),
        (b"", "a warmup request fails: Unsupported log_type for warmup: 0"),
        (b"garbage", "the warmup file cannot be read: record 1 is no PredictionLog"),
    ],
)
def test_a_bad_warmup_record_is_told(capsys, version, log, said):
    warm(version, log)
    assert said in reason(capsys, version)


def test_a_warmup_request_that_fails_is_told_without_its_node(capsys, tmp_path):
    folder = save(Half(lambda x: tf.ensure_shape(x, [3])), tmp_path / "1")
    warm(folder, predict(), predict(x=[1.0, 2.0]))
    problems = inspect(folder).problems
    assert len(problems) == 2
    assert "request to serving_default fails: Shape of tensor" in problems[0]


def test_an_output_filter_is_replayed(version):
    log = predict()
    log.predict_log.request.output_filter.append("z")
    warm(version, log)
    (problem,) = inspect(version).problems
    assert "output tensor alias not found in signature: z" in problem


def test_a_corrupt_or_long_warmup_file_is_told(capsys, version):
    path = warm(version, *[predict()] * 1001, b"not read")
    assert reason(capsys, version) == "more than 1000 warmup requests, the most that a server takes"
    path = warm(version, predict())
    path.write_bytes(path.read_bytes()[:-5])
    assert reason(capsys, version).startswith("the warmup file cannot be read: truncated record")
    path.write_bytes(b"not a TFRecord file")
    assert reason(capsys, version).startswith("the warmup file cannot be read: corrupted record")


def test_every_kind_of_request_is_replayed(classifier, tmp_path):
    folder = shutil.copytree(classifier, tmp_path / "1")
    logs = [
        examples("classify_log"),
        with_context(),
        examples("regress_log", "regress"),
        multi(("serving_default", "classify")),
    ]
    warm(folder, *logs)
    report = inspect(folder)
    assert report.problems == []
    assert "4 requests answered" in report.notes


@pytest.mark.parametrize(
    ("log", "said"),
    [
        (
            examples("classify_log", "nope"),
            "request to nope fails: No signature was found with the name: nope",
        ),
        (examples("classify_log", rows=0), "request to serving_default fails: Input is empty."),
        (
            examples("classify_log", "regress"),
            "regress fails: Expected classification signature outputs to contain",
        ),
        (examples("regress_log"), "serving_default fails: Expected one output Tensor."),
        (
            examples("classify_log", "flat"),
            "flat fails: Expected Tensor shape: [batch_size num_classes] but got [2]",
        ),
        (
            examples("regress_log", "whole"),
            "whole fails: Expected output Tensor of DT_FLOAT.  Got: DT_INT64",
        ),
        (multi(("regress", "predict")), "Unsupported signature method_name"),
        (multi(("regress", "regress"), ("regress", "regress")), "Duplicate evaluation"),
        (
            multi(("serving_default", "classify"), ("regress", "regress")),
            "Input tensor must be the same for all Signatures",
        ),
    ],
)
def test_a_bad_request_of_another_kind_is_told(classifier, tmp_path, log, said):
    folder = shutil.copytree(classifier, tmp_path / "1")
    warm(folder, log)
    (problem,) = inspect(folder).problems
    assert said in problem


def test_half_precision_in_a_request_is_no_crash(version):
    warm(version, predict(x=np.array([1.0]), dtype=tf.bfloat16))
    assert "Expects arg[0] to be float but bfloat16 is provided" in inspect(version).problems[0]
