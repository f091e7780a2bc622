import keras
import numpy as np
import pytest
import tensorflow as tf

from tasks.kinds.classification.signatures import ClassifierSignatures

LABELS = ["card lost", "Überweisung", "two\nlines"]
TEXT = {"text": tf.TensorSpec([None], tf.string)}


class WordHashes(tf.Module):
    """A text as counts of hashed words."""

    def __call__(self, record):
        words = tf.strings.split(record["text"])
        ids = tf.strings.to_hash_bucket_fast(words, 16)
        return tf.reduce_sum(tf.one_hot(ids, 16).to_tensor(), axis=1)


def classifier(outputs=3, dtype="float32"):
    keras.utils.set_random_seed(0)
    layers = [keras.Input((16,)), keras.layers.Dropout(0.5), keras.layers.Dense(outputs)]
    layers[1:] = [type(x)(**x.get_config() | {"dtype": dtype}) for x in layers[1:]]
    return keras.Sequential(layers)


def signatures(model=None, inputs=TEXT, preprocessor=None, labels=LABELS, assets=()):
    preprocessor = preprocessor or WordHashes()
    return ClassifierSignatures(model or classifier(), preprocessor, inputs, labels, assets)


def example(**features):
    feature = {
        name: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
        for name, value in features.items()
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


def test_the_default_signature_answers_with_the_most_probable_label():
    model = classifier()
    serve = signatures(model).functions()["serving_default"]
    answer = serve(text=tf.constant(["where is my card", "Geld fehlt"]))
    logits = model(WordHashes()({"text": tf.constant(["where is my card", "Geld fehlt"])}))
    probabilities = tf.nn.softmax(logits).numpy()
    np.testing.assert_allclose(answer["probabilities"], probabilities, rtol=1e-5)
    np.testing.assert_allclose(answer["score"], probabilities.max(-1), rtol=1e-5)
    found = [label.decode() for label in answer["label"].numpy()]
    assert found == [LABELS[i] for i in probabilities.argmax(-1)]


def test_ranked_sorts_labels_by_their_scores():
    functions = signatures().functions()
    text = tf.constant(["where is my card", "Geld fehlt"])
    plain, ranked = functions["serving_default"](text=text), functions["ranked"](text=text)
    order = np.argsort(-plain["probabilities"].numpy(), axis=-1)
    assert (
        ranked["labels"].numpy().tolist() == np.array([x.encode() for x in LABELS])[order].tolist()
    )
    assert (np.diff(ranked["scores"].numpy()) <= 0).all()


def test_classify_takes_serialized_examples_and_answers_as_ranked():
    functions = signatures().functions()
    ranked = functions["ranked"](text=tf.constant(["my card", "Geld"]))
    answer = functions["classify"](
        inputs=tf.constant([example(text=b"my card"), example(text=b"Geld")])
    )
    np.testing.assert_array_equal(answer["classes"], ranked["labels"])
    np.testing.assert_array_equal(answer["scores"], ranked["scores"])


def test_an_example_without_the_feature_is_an_error_that_names_it():
    classify = signatures().functions()["classify"]
    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"text.*required but could not be found"
    ):
        classify(inputs=tf.constant([example(other=b"my card")]))


def test_an_empty_batch_has_an_empty_answer():
    answer = signatures().functions()["serving_default"](text=tf.constant([], tf.string))
    assert answer["label"].shape == (0,)
    assert answer["probabilities"].shape == (0, 3)


def test_a_model_in_half_precision_answers_in_float32():
    functions = signatures(classifier(dtype="mixed_bfloat16")).functions()
    for function in functions.values():
        types = {tensor.dtype for tensor in function.structured_outputs.values()}
        assert types <= {tf.float32, tf.string}


def test_dropout_is_off():
    serve = signatures().functions()["serving_default"]
    first, second = (serve(text=tf.constant(["my card"]))["score"] for _ in range(2))
    assert first == second


def test_a_pair_of_texts_is_two_named_inputs():
    class Pairs(WordHashes):
        def __call__(self, record):
            both = tf.strings.join([record["text"], record["text_pair"]], " ")
            return super().__call__({"text": both})

    pair = TEXT | {"text_pair": tf.TensorSpec([None], tf.string)}
    functions = signatures(inputs=pair, preprocessor=Pairs()).functions()
    answer = functions["ranked"](text=tf.constant(["a"]), text_pair=tf.constant(["b c"]))
    from_example = functions["classify"](inputs=tf.constant([example(text=b"a", text_pair=b"b c")]))
    np.testing.assert_array_equal(answer["scores"], from_example["scores"])


def test_images_go_in_as_bytes():
    class Pixels(tf.Module):
        def __call__(self, record):
            def decode(data):
                return tf.io.decode_png(data, channels=1)[:4, :4]

            pixels = tf.map_fn(decode, record["image_bytes"], fn_output_signature=tf.uint8)
            return tf.cast(tf.reshape(pixels, [-1, 16]), tf.float32) / 255

    image = {"image_bytes": tf.TensorSpec([None], tf.string)}
    functions = signatures(inputs=image, preprocessor=Pixels()).functions()
    png = tf.io.encode_png(np.full((4, 4, 1), 200, np.uint8)).numpy()
    answer = functions["serving_default"](image_bytes=tf.constant([png]))
    assert answer["label"].numpy()[0].decode() in LABELS


def test_labels_must_be_as_many_as_the_outputs():
    with pytest.raises(ValueError, match="4 outputs for 3 labels"):
        signatures(classifier(outputs=4)).functions()


def test_only_the_weights_that_are_used_are_saved(tmp_path):
    model = classifier()
    model.compile("adamw", "mse")
    model.fit(np.zeros((2, 16)), np.zeros((2, 3)), verbose=0)
    module = signatures(model)
    tf.saved_model.save(module, str(tmp_path), signatures=module.functions())
    saved = tf.train.list_variables(str(tmp_path / "variables" / "variables"))
    shapes = sorted(shape for name, shape in saved if "OBJECT_GRAPH" not in name)
    assert shapes == [[3], [16, 3]]


def test_labels_and_vocabulary_are_assets(tmp_path):
    vocabulary = tmp_path / "vocabulary.txt"
    vocabulary.write_text("a\nb\n")
    module = signatures(assets=[vocabulary])
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=module.functions())
    assets = tmp_path / "saved" / "assets"
    assert (assets / "vocabulary.txt").read_text() == "a\nb\n"
    labels = (assets / "labels.txt").read_text("utf-8")
    assert labels == "card lost\nÜberweisung\ntwo\\nlines\n"


def test_a_given_labels_file_is_taken(tmp_path):
    given = tmp_path / "labels.txt"
    given.write_text("my own\n")
    module = signatures(assets=[given])
    tf.saved_model.save(module, str(tmp_path / "saved"), signatures=module.functions())
    assert [p.read_text() for p in (tmp_path / "saved" / "assets").iterdir()] == ["my own\n"]
