"""The models of the conformance suite, each a function that builds a graph's signatures.

Graphs are built by hand, so that the tensors' names are known and several signatures can read one.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

DEFAULT = "serving_default"
PREDICT = "tensorflow/serving/predict"
CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"

# Of a name and a label that have to be percent-encoded in a path.
ODD_NAME = "half/plus two é"
ODD_LABEL = "release candidate/1:ä"

DTYPES = {
    "float": tf.float32,
    "double": tf.float64,
    "int8": tf.int8,
    "int16": tf.int16,
    "int32": tf.int32,
    "int64": tf.int64,
    "uint8": tf.uint8,
    "uint16": tf.uint16,
    "uint32": tf.uint32,
    "uint64": tf.uint64,
    "bool": tf.bool,
    "string": tf.string,
    "half": tf.half,
    "bfloat16": tf.bfloat16,
}

Signatures = dict[str, SignatureDef]
v1 = tf.compat.v1


def write_models(folder: Path) -> str:
    """Writes all models; returns the config that serves them."""
    write_half(folder / "half")
    for build in (types, shapes, examples, failures):
        save(folder / build.__name__ / "1", build)
    labels = {"stable": 1, "canary": 2, ODD_LABEL: 1}
    both = "model_version_policy { all {} } " + "".join(
        f"version_labels {{ key: '{label}' value: {version} }} "
        for label, version in labels.items()
    )
    served = {"half": ("half", both), ODD_NAME: ("half", both)}
    served |= {name: (name, "") for name in ("types", "shapes", "examples", "failures")}
    configs = (
        f"config {{ name: '{name}' base_path: '{folder / base}' "
        f"model_platform: 'tensorflow' {more}}}"
        for name, (base, more) in served.items()
    )
    return f"model_config_list {{ {' '.join(configs)} }}"


def write_half(folder: Path, versions: Mapping[int, float] = {1: 2.0, 2: 3.0}) -> None:
    """Writes versions of `x / 2 + c` by their constants."""
    for version, constant in versions.items():

        def build(constant: float = constant) -> Signatures:
            x = v1.placeholder(tf.float32, name="x")
            y = tf.add(x * 0.5, constant, name="y")
            return {DEFAULT: signature({"x": x}, {"y": y})}

        save(folder / str(version), build)


def save(folder: Path, build: Callable[[], Signatures]) -> None:
    """Writes one version of a model."""
    with tf.Graph().as_default(), v1.Session() as session:
        builder = v1.saved_model.Builder(str(folder))
        builder.add_meta_graph_and_variables(session, ["serve"], signature_def_map=build())
        builder.save()


def signature(
    inputs: Mapping[str, tf.Tensor], outputs: Mapping[str, tf.Tensor], method: str = PREDICT
) -> SignatureDef:
    info = v1.saved_model.build_tensor_info
    return v1.saved_model.build_signature_def(
        {name: info(tensor) for name, tensor in inputs.items()},
        {name: info(tensor) for name, tensor in outputs.items()},
        method,
    )


def types() -> Signatures:
    """For each dtype a signature of its name: `y` is `x`; `all` has every one but the halves."""
    xs = {name: v1.placeholder(dtype, name=name) for name, dtype in DTYPES.items()}
    ys = {name: tf.identity(x) for name, x in xs.items()}
    signatures = {name: signature({"x": xs[name]}, {"y": ys[name]}) for name in DTYPES}
    plain = [name for name in DTYPES if name not in ("half", "bfloat16", "uint16")]
    return signatures | {
        "all": signature({n: xs[n] for n in plain}, {n: ys[n] for n in plain}),
        "to_half": signature({"x": xs["float"]}, {"y": tf.cast(xs["float"], tf.half)}),
        "to_bfloat16": signature({"x": xs["float"]}, {"y": tf.cast(xs["float"], tf.bfloat16)}),
        "to_uint16": signature({"x": xs["int32"]}, {"y": tf.cast(xs["int32"], tf.uint16)}),
        "to_complex": signature({"x": xs["float"]}, {"y": tf.cast(xs["float"], tf.complex64)}),
        "reciprocal": signature({"x": xs["float"]}, {"y": 1.0 / xs["float"]}),
    }


def shapes() -> Signatures:
    """Several inputs and outputs, of shapes that do and don't go together."""
    a = v1.placeholder(tf.float32, [None], name="a")
    b = v1.placeholder(tf.int64, [None], name="b")
    wide = v1.placeholder(tf.float32, [1, 3], name="wide")
    text = v1.placeholder(tf.string, [None], name="text")
    total = a + tf.cast(b, tf.float32)
    pair = {"a": a, "b": b}
    with_default = signature(pair, {"sum": total})
    with_default.defaults["b"].CopyFrom(tf.make_tensor_proto([10], tf.int64))
    shapeless = signature({"a": a}, {"twice": 2 * a})
    shapeless.inputs["a"].ClearField("tensor_shape")
    return {
        DEFAULT: signature(pair, {"sum": total}),
        "two_outputs": signature(pair, {"sum": total, "twice": 2 * b}),
        "same_output": signature(pair, {"sum": total, "again": total}),
        "scalar": signature({"a": a}, {"mean": tf.reduce_mean(a)}),
        "unequal": signature({"a": a}, {"a": tf.identity(a), "one": a[:1]}),
        "matrix": signature({"a": a}, {"grid": a[:, None] * [[1.0, 2.0]]}),
        "empty": signature({"a": a}, {"none": a[:0]}),
        "text": signature({"text": text}, {"text": tf.identity(text)}),
        "bytes": signature({"text": text}, {"text_bytes": tf.identity(text)}),
        "both_texts": signature(
            {"text": text}, {"text": tf.identity(text), "text_bytes": tf.identity(text)}
        ),
        "wide": signature({"wide": wide}, {"sum": tf.reduce_sum(wide, axis=1)}),
        "no_inputs": signature({}, {"one": tf.constant([1.0])}),
        "with_default": with_default,
        "shapeless": shapeless,
    }


def examples() -> Signatures:
    """Signatures for Classify and Regress, good and bad; all read the tensor `inputs`."""
    inputs = v1.placeholder(tf.string, [None], name="inputs")
    other = v1.placeholder(tf.string, [None], name="other")
    pairs = v1.placeholder(tf.string, [None, 2], name="pairs")
    parsed = tf.io.parse_example(
        inputs,
        {
            "x": tf.io.FixedLenFeature([1], tf.float32, [0.0]),
            "i": tf.io.FixedLenFeature([1], tf.int64, [0]),
            "s": tf.io.FixedLenFeature([1], tf.string, [""]),
        },
    )
    x = parsed["x"]
    scores = tf.concat([x, 1 - x], 1)
    classes = tf.tile([["good", "bad"]], [tf.shape(x)[0], 1])
    kinds = tf.concat([parsed["s"], tf.strings.as_string(parsed["i"])], 1)
    flat = x[:, 0]

    def classifier(**outputs: tf.Tensor) -> SignatureDef:
        return signature({"inputs": inputs}, outputs, CLASSIFY)

    def regressor(outputs: tf.Tensor) -> SignatureDef:
        return signature({"inputs": inputs}, {"outputs": outputs}, REGRESS)

    return {
        DEFAULT: classifier(classes=classes, scores=scores),
        "classes_only": classifier(classes=classes),
        "scores_only": classifier(scores=scores),
        "kinds": classifier(classes=kinds, scores=tf.concat([x, x], 1)),
        "three_outputs": classifier(classes=classes, scores=scores, more=x),
        "other_output": classifier(y=scores),
        "flat_classes": classifier(classes=classes[:, 0]),
        "scalar_classes": classifier(classes=tf.strings.reduce_join(classes)),
        "flat_scores": classifier(scores=flat),
        "integer_classes": classifier(classes=tf.cast(scores, tf.int64)),
        "double_scores": classifier(scores=tf.cast(scores, tf.float64)),
        "short_classes": classifier(classes=classes[:1]),
        "short_scores": classifier(scores=scores[:1]),
        "unequal_widths": classifier(classes=classes, scores=x),
        "odd_method": signature({"inputs": inputs}, {"scores": scores}, "odd"),
        "predict_method": signature({"inputs": inputs}, {"outputs": flat}),
        "no_classes": classifier(scores=scores[:, :0]),
        "regress": regressor(flat),
        "regress_column": regressor(x),
        "regress_wide": regressor(scores),
        "regress_scalar": regressor(tf.reduce_sum(x)),
        "regress_short": regressor(flat[:1]),
        "regress_double": regressor(tf.cast(flat, tf.float64)),
        "regress_other_output": signature({"inputs": inputs}, {"y": flat}, REGRESS),
        "regress_two_outputs": signature({"inputs": inputs}, {"outputs": x, "y": x}, REGRESS),
        "two_inputs": signature({"inputs": inputs, "other": other}, {"scores": scores}),
        "other_input": signature({"x": other}, {"scores": tf.zeros([1, 2])}),
        "pairs": signature({"inputs": pairs}, {"scores": tf.strings.to_number(pairs)}),
        "other_tensor": signature({"inputs": other}, {"outputs": tf.zeros([1])}, REGRESS),
    }


def failures() -> Signatures:
    """Signatures that fail when run, by the status that they fail with."""
    x = v1.placeholder(tf.int64, [None], name="x")
    text = v1.placeholder(tf.string, [None], name="text")
    queue = v1.FIFOQueue(1, [tf.int64], [[]])
    with tf.control_dependencies([queue.close()]):
        cancelled = queue.enqueue(x[0])
    with tf.control_dependencies([cancelled]):
        after = tf.identity(x)
    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(tf.constant([1], tf.int64), tf.constant([1])), -1
    )
    end = v1.data.make_one_shot_iterator(tf.data.Dataset.range(0)).get_next()
    return {
        "INVALID_ARGUMENT": signature({"x": x}, {"y": tf.gather([1.0, 2.0], x)}),
        "FAILED_PRECONDITION": signature({"x": x}, {"y": table.lookup(x)}),
        "OUT_OF_RANGE": signature({"x": x}, {"y": x + end}),
        "NOT_FOUND": signature({"x": text}, {"y": tf.io.read_file(text[0])}),
        "CANCELLED": signature({"x": x}, {"y": after}),
        "DATA_LOSS": signature({"x": text}, {"y": tf.io.decode_compressed(text, "GZIP")}),
    }
