"""Residual nets: their shapes, a preset's weights in both formats, its scaling, what is refused."""

import json
import shutil

import keras
import keras_hub
import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import save_file

from zoo.cnn import image_classifier
from zoo.configs import CnnConfig
from zoo.errors import PresetError
from zoo.resnet import IMAGENET, load_resnet, resnet, scaling
from zoo.saving import load_model


def small_backbone() -> keras.Model:
    """A ResNet of two blocks, every weight away from its initial value."""
    keras.utils.set_random_seed(0)
    backbone = keras_hub.models.ResNetBackbone(
        [64], [3], [64, 64], [1, 1], [1, 2], "basic_block", image_shape=(None, None, 3)
    )
    for weight in backbone.weights:
        noise = np.random.uniform(0.5, 1.5, weight.shape)
        weight.assign(noise if "variance" in weight.path else weight + 0.1 * (noise - 1))
    return backbone


@pytest.fixture(scope="module")
def preset(tmp_path_factory):
    """A folder in KerasHub's format, and the backbone that it holds."""
    folder = tmp_path_factory.mktemp("presets") / "small"
    backbone = small_backbone()
    backbone.save_to_preset(str(folder))
    return folder, backbone


def pictures(size=32) -> np.ndarray:
    return np.random.RandomState(0).randn(2, size, size, 3).astype("float32")


def plain_features(backbone: keras.Model, images: np.ndarray) -> np.ndarray:
    return backbone(images, training=False).numpy().mean((1, 2))


@pytest.mark.parametrize(
    ("name", "width", "weights"), [("resnet18", 512, 11.2), ("resnet50", 2048, 23.6)]
)
def test_nets_from_random_weights_have_the_papers_sizes(name, width, weights):
    net = resnet(name, (64, 48, 3))
    assert net.output_shape == (None, width)
    assert net.count_params() / 1e6 == pytest.approx(weights, abs=0.05)


def test_a_folder_in_keras_hubs_format_gives_the_saved_weights(preset):
    folder, backbone = preset
    net = load_resnet(str(folder), (32, 32, 3))
    expected = plain_features(backbone, pictures())
    np.testing.assert_allclose(net(pictures(), training=False), expected, atol=1e-5)


def test_a_preset_computes_in_the_global_precision(preset):
    keras.config.set_dtype_policy("mixed_bfloat16")
    net = load_resnet(str(preset[0]), (32, 32, 3))
    assert net(pictures()).dtype == tf.bfloat16
    assert {weight.dtype for weight in net.weights} == {"float32"}


def test_a_folder_in_timms_format_gives_the_saved_weights(tmp_path):
    """KerasHub's converter is asked which tensor each weight comes from, to write such a folder."""
    from keras_hub.src.utils.timm import convert_resnet

    config = {"architecture": "resnet18", "num_classes": 2}
    config["pretrained_cfg"] = {
        "input_size": [3, 224, 224],
        "mean": [0.5, 0.4, 0.3],
        "std": [0.1, 0.2, 0.25],
        "interpolation": "bicubic",
    }
    backbone = keras_hub.models.ResNetBackbone(
        [64], [7], [64, 128, 256, 512], [2, 2, 2, 2], [1, 2, 2, 2], "basic_block"
    )
    tensors = {}

    class Writer:
        def port_weight(self, keras_variable, hf_weight_key, hook_fn=None):
            value = np.random.RandomState(len(tensors)).uniform(0.01, 0.1, keras_variable.shape)
            keras_variable.assign(value)
            value = value.astype("float32")
            if value.ndim == 4:  # PyTorch has the outputs first
                value = np.ascontiguousarray(np.transpose(value, (3, 2, 0, 1)))
            tensors[hf_weight_key] = value

    convert_resnet.convert_weights(backbone, Writer(), config)
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file(tensors, tmp_path / "model.safetensors")

    loaded = load_resnet(str(tmp_path), (32, 32, 3))
    expected = plain_features(backbone, pictures())
    np.testing.assert_allclose(loaded(pictures(), training=False), expected, rtol=1e-4)
    mean, deviation = scaling(str(tmp_path))
    np.testing.assert_allclose(mean, [0.5, 0.4, 0.3], atol=1e-5)
    np.testing.assert_allclose(deviation, [0.1, 0.2, 0.25], atol=1e-5)


def test_scaling_is_the_presets_own_and_imagenets_where_it_says_none(preset, tmp_path):
    assert scaling(str(preset[0])) == (list(IMAGENET[0]), list(IMAGENET[1]))
    folder = tmp_path / "with"
    shutil.copytree(preset[0], folder)
    converter = keras_hub.layers.ResNetImageConverter(
        image_size=(32, 32), scale=[1 / 127.5] * 3, offset=[-1.0, -1.0, -1.0]
    )
    keras_hub.models.ResNetImageClassifierPreprocessor(converter).save_to_preset(str(folder))
    mean, deviation = scaling(str(folder))
    np.testing.assert_allclose([mean, deviation], 0.5, atol=1e-5)


def test_a_classifier_of_a_preset_explains_itself_and_is_saved_whole(preset, tmp_path):
    model = image_classifier(CnnConfig(preset=str(preset[0])), 4, (32, 32, 3))
    heat = model.explain({"image": tf.constant(pictures())})
    assert heat.shape == (2, 32, 32) and heat.numpy().min() >= 0 and heat.numpy().max() <= 1
    assert model.filters().shape == (64, 3, 3, 3)
    model.save(tmp_path / "model.keras")
    shutil.move(preset[0], tmp_path / "elsewhere")  # the saved model must not need it
    try:
        again = load_model(tmp_path / "model.keras")
    finally:
        shutil.move(tmp_path / "elsewhere", preset[0])
    images = {"image": pictures()}
    np.testing.assert_allclose(again(images), model(images), atol=1e-6)


@pytest.mark.parametrize("contents", ["", "{}", "[]"])
def test_a_damaged_scaling_is_refused_in_one_line(preset, tmp_path, contents):
    folder = tmp_path / "damaged"
    shutil.copytree(preset[0], folder)
    (folder / "preprocessor.json").write_text(contents)
    with pytest.raises(PresetError, match="how its pictures were scaled can't be read") as error:
        scaling(str(folder))
    assert "\n" not in str(error.value)


def damage(folder, what: str) -> None:
    if what == "no weights":
        (folder / "model.weights.h5").unlink()
    elif what == "cut weights":
        whole = (folder / "model.weights.h5").read_bytes()
        (folder / "model.weights.h5").write_bytes(whole[: len(whole) // 2])
    elif what == "no config":
        (folder / "config.json").unlink()
    elif what == "bad config":
        (folder / "config.json").write_text("{")
    elif what == "another model":
        (folder / "config.json").write_text('{"model_type": "bert"}')


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("no weights", "model.weights.h5 is missing"),
        ("cut weights", "can't be loaded"),
        ("no config", "there is no config.json"),
        ("bad config", "can't read config.json"),
        ("another model", "is of type bert; only a ResNet can be loaded"),
    ],
)
def test_a_damaged_folder_is_refused_in_one_line(preset, tmp_path, what, said):
    folder = tmp_path / "damaged"
    shutil.copytree(preset[0], folder)
    damage(folder, what)
    with pytest.raises(PresetError, match=said) as error:
        load_resnet(str(folder), (32, 32, 3))
    assert str(folder) in str(error.value) and "\n" not in str(error.value)


def test_an_unknown_name_says_what_there_is():
    with pytest.raises(PresetError, match="no preset or folder 'resnet19'; give simple, airbench"):
        load_resnet("resnet19", (32, 32, 3))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"preset": "resnet18", "widths": [4, 8, 8]}, "those of resnet18 can't be changed"),
        ({"preset": "resnet_18_imagenet", "channels": 1}, "was trained on colour"),
        ({"preset": ""}, "preset is empty"),
    ],
)
def test_options_that_a_net_does_not_have_are_refused(options, said):
    with pytest.raises(PresetError, match=said):
        CnnConfig(**options)


def test_pictures_too_small_are_refused():
    with pytest.raises(PresetError, match="resnet18 needs pictures of 32x32"):
        image_classifier(CnnConfig(preset="resnet18"), 3, (24, 32, 3))
