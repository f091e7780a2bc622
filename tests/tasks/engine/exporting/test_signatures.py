"""What all signatures do before they answer, in a session as the server has it."""

import numpy as np
import pytest
import tensorflow as tf

from tasks.engine.exporting.signatures import traced
from tasks.protocol.errors import Code, ServingError
from tasks.serving.model import Model

SPECS = {
    "x": tf.TensorSpec([None], tf.float32, "x"),
    "pairs": tf.TensorSpec([None, 2], tf.string, "pairs"),
    "factor": tf.TensorSpec([], tf.float32, "factor"),
}
NAN = np.float32(np.nan)


def answer(*, x, pairs, factor):
    first = tf.debugging.check_numerics(x, "an op that comes later")
    return {"y": first * factor, "texts": tf.strings.join([pairs[:, 0], pairs[:, 1]])}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Runs the saved graph as a server does: whatever the shapes are, they are fed."""
    folder = tmp_path_factory.mktemp("m")
    tf.saved_model.save(tf.Module(), str(folder), traced({"serving_default": (answer, SPECS)}))
    model = Model(folder, ["serve"])
    signature = model.signatures["serving_default"]

    def run(**inputs):
        feeds = {signature.inputs[name].name: value for name, value in inputs.items()}
        return model.run(feeds, [signature.outputs["y"].name, signature.outputs["texts"].name])

    yield run
    model.close()


def texts(*shape):
    return np.full(shape, b"a", object)


def test_inputs_of_the_declared_shapes_are_answered(run):
    y, joined = run(x=np.ones(3, np.float32), pairs=texts(3, 2), factor=np.float32(2))
    assert (y.tolist(), joined.tolist()) == ([2.0] * 3, [b"aa"] * 3)


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"x": np.full([2, 1], NAN)}, r"x.*\[2,1\].*expected shape \[\?\]"),
        ({"x": NAN}, r"x.*\[\].*expected shape \[\?\]"),
        ({"pairs": texts(2)}, r"pairs.*\[2\].*expected shape \[\?,2\]"),
        ({"pairs": texts(2, 3)}, r"pairs.*\[2,3\].*expected shape \[\?,2\]"),
        ({"factor": np.ones(2, np.float32)}, r"factor.*\[2\].*expected shape \[\]"),
        ({"factor": np.ones(1, np.float32)}, r"factor.*\[1\].*expected shape \[\]"),
        ({"x": np.full(1, NAN)}, r"as many rows.*rows of x:\] \[1\].*rows of pairs:\] \[2\]"),
        ({"x": np.full(3, NAN)}, r"as many rows.*rows of x:\] \[3\].*rows of pairs:\] \[2\]"),
    ],
    ids=str,
)
def test_other_shapes_and_unlike_lengths_are_refused_before_any_other_op(run, inputs, said):
    fine = {"x": np.ones(2, np.float32), "pairs": texts(2, 2), "factor": np.float32(1)}
    with pytest.raises(ServingError, match=said) as error:
        run(**fine | inputs)
    assert error.value.code is Code.INVALID_ARGUMENT
