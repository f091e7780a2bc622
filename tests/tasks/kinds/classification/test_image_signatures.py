"""What a served image classifier answers: files, pictures and explanations, here and exported."""

import io
from functools import cache
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from data.images.preprocessor import ImagePreprocessor
from tasks.kinds.classification.image_signatures import ImageClassifierSignatures
from zoo.cnn import image_classifier
from zoo.configs import CnnConfig

LABELS = ["cat", "Vögel", "two\nlines"]
NAMES = ["serving_default", "ranked", "classify", "images", "explain"]


def pictures(count=3, channels=3) -> np.ndarray:
    return np.random.RandomState(0).randint(0, 256, (count, 16, 16, channels)).astype("uint8")


def file(picture: np.ndarray, format="PNG") -> bytes:
    out = io.BytesIO()
    Image.fromarray(picture.squeeze()).save(out, format)
    return out.getvalue()


def classifier(views="one", channels=3) -> SimpleNamespace:
    """A model, its preprocessor and what is served of it, traced; the same for all tests."""
    return _classifier(views, channels)


@cache
def _classifier(views: str, channels: int) -> SimpleNamespace:
    keras.utils.set_random_seed(0)
    model = image_classifier(CnnConfig(widths=[4, 8, 8]), 3, (16, 16, channels))
    model.views = views
    model.classifier.set_weights([10 * np.random.randn(8, 3), np.zeros(3)])
    preprocessor = ImagePreprocessor(
        LABELS, 16, 16, channels, mean=[0.4] * channels, deviation=[0.3] * channels
    )
    module = ImageClassifierSignatures(model, preprocessor)
    return SimpleNamespace(
        model=model, preprocessor=preprocessor, module=module, functions=module.functions()
    )


def example(contents: bytes) -> bytes:
    feature = tf.train.Feature(bytes_list=tf.train.BytesList(value=[contents]))
    features = tf.train.Features(feature={"image_bytes": feature})
    return tf.train.Example(features=features).SerializeToString()


@pytest.mark.parametrize("channels", [1, 3])
def test_files_are_answered_as_the_model_answers(channels):
    made = classifier(channels=channels)
    some = pictures(channels=channels)
    answer = made.functions["serving_default"](image_bytes=tf.constant([file(p) for p in some]))
    logits = made.model({"image": ((some / 255 - 0.4) / 0.3).astype("float32")})
    expected = tf.nn.softmax(logits).numpy()
    np.testing.assert_allclose(answer["probabilities"], expected, rtol=1e-3, atol=1e-5)
    labels = [label.decode() for label in answer["label"].numpy()]
    assert labels == [LABELS[i] for i in expected.argmax(-1)]


@pytest.mark.parametrize(("views", "channels"), [("one", 1), ("translate", 3)])
def test_pictures_from_0_to_1_are_answered_as_their_files(views, channels):
    functions = classifier(views, channels).functions
    some = pictures(channels=channels)
    files = functions["serving_default"](image_bytes=tf.constant([file(p) for p in some]))
    plain = functions["images"](images=tf.constant(some / 255, tf.float32))
    assert set(plain) == set(files)
    np.testing.assert_array_equal(plain["label"], files["label"])
    for name in ("score", "probabilities"):
        np.testing.assert_allclose(plain[name], files[name], rtol=1e-4, atol=1e-6)


def test_an_explanation_is_the_answer_and_the_models_heat_of_each_picture():
    made = classifier()
    files = tf.constant([file(picture) for picture in pictures()])
    answer, explained = (made.functions[name](image_bytes=files) for name in NAMES[::4])
    np.testing.assert_array_equal(explained["label"], answer["label"])
    np.testing.assert_allclose(explained["score"], answer["score"], rtol=1e-5)
    heat = made.model.explain(made.preprocessor({"image_bytes": files}))
    assert explained["heatmap"].shape == (3, 16, 16)
    assert np.abs(heat).max() > 0.5
    np.testing.assert_allclose(explained["heatmap"], heat, atol=1e-4)


def test_classify_takes_serialized_examples_with_the_file():
    functions = classifier().functions
    files = [file(picture) for picture in pictures()]
    ranked = functions["ranked"](image_bytes=tf.constant(files))
    answer = functions["classify"](inputs=tf.constant([example(some) for some in files]))
    np.testing.assert_array_equal(answer["classes"], ranked["labels"])
    np.testing.assert_allclose(answer["scores"], ranked["scores"], rtol=1e-5)


def test_signatures_say_their_shapes():
    functions = classifier().functions
    assert set(functions) == set(NAMES)
    (files,), (images,) = (functions[name].inputs[:1] for name in ("explain", "images"))
    assert (files.dtype, files.shape.as_list()) == (tf.string, [None])
    assert (images.dtype, images.shape.as_list()) == (tf.float32, [None, 16, 16, 3])
    outputs = functions["explain"].structured_outputs
    assert outputs["heatmap"].shape.as_list() == [None, 16, 16]


@pytest.mark.parametrize("views", ["one", "translate"])
def test_a_saved_classifier_answers_as_in_process(views, tmp_path):
    made = classifier(views)
    tf.saved_model.save(made.module, str(tmp_path), made.functions)
    loaded = tf.saved_model.load(str(tmp_path)).signatures
    some = pictures()
    files = [file(some[0]), file(some[1], "BMP"), file(np.tile(some[2], (2, 3, 1)), "JPEG")]
    requests = {name: {"image_bytes": tf.constant(files)} for name in NAMES}
    requests["classify"] = {"inputs": tf.constant([example(some) for some in files])}
    requests["images"] = {"images": tf.constant(some / 255, tf.float32)}
    assert set(loaded) == set(NAMES)
    for name, request in requests.items():
        mine, theirs = made.functions[name](**request), loaded[name](**request)
        assert set(mine) == set(theirs)
        for part in mine:
            if mine[part].dtype == tf.string:
                np.testing.assert_array_equal(mine[part], theirs[part])
            else:
                np.testing.assert_allclose(mine[part], theirs[part], rtol=1e-5, atol=1e-6)


def test_no_more_is_saved_than_the_weights_that_answer():
    weights, saved = classifier().model.weights, classifier().module.variables
    assert {id(v) for v in saved} <= {id(w.value) for w in weights}
    assert len(saved) == len([w for w in weights if "seed" not in w.path])


def test_the_labels_are_written_for_people_to_read():
    (asset,) = classifier().module.assets
    with tf.io.gfile.GFile(asset.asset_path.numpy().decode()) as written:
        assert written.read() == "cat\nVögel\ntwo\\nlines\n"


def test_a_broken_file_is_an_error():
    serve = classifier().functions["serving_default"]
    with pytest.raises(tf.errors.InvalidArgumentError):
        serve(image_bytes=tf.constant([file(pictures()[0])[:60]]))
