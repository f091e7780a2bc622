import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.plugins.projector.projector_plugin import ProjectorPlugin
from werkzeug.test import Client

from tasks.engine.errors import UsageError
from tasks.engine.showing.tensorboard import TensorBoard, write_projector


class Classifier(keras.Model):
    """A subclassed model, which Keras' own callback draws no graph of."""

    def __init__(self):
        super().__init__()
        self.head = keras.layers.Dense(2, name="head")

    def call(self, inputs, training=False):
        return self.head(inputs["features"])


def data():
    features = np.arange(16, dtype=np.float32).reshape(8, 2) / 16
    dataset = tf.data.Dataset.from_tensor_slices(({"features": features}, [0, 1] * 4))
    return dataset.batch(2).repeat()


def compiled():
    model = Classifier()
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


def fit(logdir, model=None, initial_epoch=0, epochs=2, validate=True, **options):
    callback = TensorBoard(logdir, examples_per_step=2, update_freq=2, **options)
    (model or compiled()).fit(
        data(),
        steps_per_epoch=4,
        initial_epoch=initial_epoch,
        epochs=epochs,
        validation_data=data().take(2) if validate else None,
        shuffle=False,
        callbacks=[callback],
        verbose=0,
    )


def events(folder):
    return EventAccumulator(str(folder), {"tensors": 0}).Reload()


def steps(folder, tag):
    return [event.step for event in events(folder).Tensors(tag)]


def test_scalars_of_epochs_and_batches_are_named_as_keras_names_them(tmp_path):
    fit(tmp_path)
    assert steps(tmp_path / "train", "epoch_loss") == [0, 1]
    assert steps(tmp_path / "validation", "epoch_loss") == [0, 1]
    for tag in ("batch_loss", "batch_learning_rate", "batch_examples_per_second"):
        assert steps(tmp_path / "train", tag) == [2, 4, 6, 8]


def test_nothing_is_printed(tmp_path, capfd):
    model = compiled()
    capfd.readouterr()
    fit(tmp_path, model, hparams={"train": {"epochs": 2}}, inputs=data().element_spec[0])
    assert capfd.readouterr() == ("", "")


def test_steps_go_on_when_training_resumes(tmp_path):
    model = compiled()
    fit(tmp_path, model, epochs=1)
    fit(tmp_path, model, initial_epoch=1, epochs=2)
    assert steps(tmp_path / "train", "batch_loss") == [2, 4, 6, 8]
    assert steps(tmp_path / "train", "epoch_loss") == [0, 1]


def test_steps_go_on_without_the_optimizers_count(tmp_path):
    fit(tmp_path, initial_epoch=3, epochs=4)
    assert steps(tmp_path / "train", "batch_loss") == [14, 16]


def test_steps_count_batches_when_gradients_accumulate(tmp_path):
    model = compiled()
    model.compile(keras.optimizers.SGD(gradient_accumulation_steps=2), loss=model.loss)
    fit(tmp_path, model, epochs=1)
    fit(tmp_path, model, initial_epoch=1, epochs=2)
    assert steps(tmp_path / "train", "batch_loss") == [2, 4, 6, 8]


def test_the_forward_graph_of_a_subclassed_model_is_drawn_once(tmp_path):
    model = compiled()
    fit(tmp_path, model, inputs=data().element_spec[0], epochs=1)
    graph = events(tmp_path / "train").Graph()
    assert any("head" in node.name for node in graph.node)
    size = len(events(tmp_path / "train").Graph().node)
    fit(tmp_path, model, inputs=data().element_spec[0], initial_epoch=1)
    assert len(events(tmp_path / "train").Graph().node) == size


@pytest.mark.parametrize(("validate", "split"), [(True, "validation"), (False, "train")])
def test_hparams_are_beside_the_metrics_that_count(tmp_path, validate, split):
    fit(tmp_path, validate=validate, hparams={"train": {"epochs": 2}, "data": {"test": None}})
    summaries = events(tmp_path / split).PluginTagToContent("hparams")
    start = hparams_metadata.parse_session_start_info_plugin_data(
        summaries[hparams_metadata.SESSION_START_INFO_TAG]
    )
    assert start.hparams["train.epochs"].number_value == 2
    assert start.hparams["data.test"].string_value == "None"
    assert hparams_metadata.SESSION_END_INFO_TAG in summaries


def test_the_profile_covers_the_asked_batches_and_ends_with_training(tmp_path):
    fit(tmp_path, profile="2,100")
    assert list((tmp_path / "plugins" / "profile").glob("*/*.xplane.pb"))


@pytest.mark.parametrize("profile", ["x", "20,10", "0", "1,2,3"])
def test_a_profile_that_is_no_range_is_refused(tmp_path, profile):
    with pytest.raises(UsageError, match="first and last batch"):
        TensorBoard(tmp_path, examples_per_step=2, profile=profile)


def projector(folder):
    """Asks TensorBoard's own projector for what it serves of a folder."""
    runs = [SimpleNamespace(run_name=".")]
    provider = SimpleNamespace(list_runs=lambda *args, **kwargs: runs)
    plugin = ProjectorPlugin(base_plugin.TBContext(logdir=str(folder), data_provider=provider))
    apps = plugin.get_plugin_apps()
    return lambda route, **query: Client(apps[route]).get(query_string={"run": ".", **query}).data


def test_the_projector_serves_vectors_with_their_metadata(tmp_path):
    vectors = np.array([[1.0, 2.0], [3.0, 4.5]])
    rows = [["a", "one\ttwo\nthree"], ["b", ""]]
    write_projector(tmp_path, "texts", vectors, rows, ["label", "text"])
    write_projector(tmp_path, "classes", vectors, [["a"], ["b"]], ["label"])
    write_projector(tmp_path, "texts", vectors + 1, rows, ["label", "text"])

    ask = projector(tmp_path)
    names = [entry["tensorName"] for entry in json.loads(ask("/info"))["embeddings"]]
    assert names == ["classes", "texts"]
    np.testing.assert_array_equal(
        np.frombuffer(ask("/tensor", name="texts"), np.float32).reshape(2, 2), vectors + 1
    )
    assert ask("/metadata", name="texts").decode() == "label\ttext\na\tone two three\nb\t-\n"
    assert ask("/metadata", name="classes").decode() == "a\nb\n"
