"""Residual nets (He et al. 2015), from random or pretrained weights, by KerasHub.

    net = resnet("resnet18", shape=(64, 64, 3))
    net = load_resnet("hf://timm/resnet18.a1_in1k", shape=(224, 224, 3))
    mean, deviation = scaling("hf://timm/resnet18.a1_in1k")

A preset is the name of a ResNet of KerasHub, a folder in KerasHub's or timm's format, or
`hf://OWNER/NAME`. A net gives the mean of its last map over places, (batch, width).
"""

from pathlib import Path
from typing import Any

import keras
import keras_hub
import numpy as np

from zoo import downloads
from zoo.errors import PresetError

BLOCKS = {  # table 1 of the paper: the kind of block, and how many at each resolution
    "resnet18": ("basic_block", [2, 2, 2, 2]),
    "resnet50": ("bottleneck_block", [3, 4, 6, 3]),
}
# Of ImageNet's channels, between 0 and 1, as nearly all its nets have them.
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

_FAMILY = "ResNetBackbone"


def resnet(name: str, shape: tuple[int, int, int]) -> keras.Model:
    """A net with random weights, under Keras' global dtype policy.

    Args:
        name: a key of `BLOCKS`.
        shape: height, width and channels of the pictures.
    """
    block, counts = BLOCKS[name]
    backbone = keras_hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[7],
        stackwise_num_filters=[64, 128, 256, 512],
        stackwise_num_blocks=counts,
        stackwise_num_strides=[1, 2, 2, 2],
        block_type=block,
        image_shape=shape,
    )
    return _pooled(backbone, name)


def load_resnet(preset: str, shape: tuple[int, int, int]) -> keras.Model:
    """A net with a preset's architecture and weights, without its head.

    Raises:
        PresetError: the preset can't be had, is no ResNet, or is damaged.
    """
    folder = _resolve(preset)
    try:
        backbone = keras_hub.models.ResNetBackbone.from_preset(
            str(folder), image_shape=shape, dtype=keras.config.dtype_policy().name
        )
    except Exception as error:  # whatever the readers of two formats may raise
        raise PresetError(
            f"{preset}: its weights can't be loaded ({downloads.one_line(error)[:200]}); copy the "
            "whole folder again, weights and config of one model"
        ) from error
    return _pooled(backbone, "resnet")


def scaling(preset: str) -> tuple[list[float], list[float]]:
    """Mean and deviation of the channels, between 0 and 1, that a preset's pictures had; those of
    ImageNet where the preset doesn't say."""
    folder = _resolve(preset)
    known = (folder / "preprocessor.json").exists() or "pretrained_cfg" in _config(folder, preset)
    converter = None
    if known:
        try:
            converter = keras_hub.layers.ImageConverter.from_preset(str(folder))
        except Exception as error:  # as above
            raise PresetError(
                f"{preset}: how its pictures were scaled can't be read "
                f"({downloads.one_line(error)[:200]}); copy the whole folder again"
            ) from error
    if converter is None or converter.scale is None or converter.offset is None:
        mean, deviation = map(list, IMAGENET)
        return mean, deviation
    # KerasHub's is pixels * scale + offset, of pixels up to 255.
    scale, offset = (np.broadcast_to(x, [3]) for x in (converter.scale, converter.offset))
    return (-offset / scale / 255).round(6).tolist(), (1 / scale / 255).round(6).tolist()


def _pooled(backbone: keras.Model, name: str) -> keras.Model:
    # On the backbone's own layers, so that each of them is a layer of the net.
    pool = keras.layers.GlobalAveragePooling2D(name="features")
    return keras.Model(backbone.inputs[0], pool(backbone.output), name=name)


def _resolve(preset: str) -> Path:
    """The local folder of a preset, once it is sure to be a ResNet's."""
    folder = downloads.find(preset, _FAMILY)
    config = _config(folder, preset)
    kind = config.get("architecture") or config.get("class_name") or config.get("model_type")
    if kind != _FAMILY and not str(kind).startswith("resnet"):
        raise PresetError(f"{preset}: config.json is of type {kind}; only a ResNet can be loaded")
    weights = "model.safetensors" if "architecture" in config else "model.weights.h5"
    if not (folder / weights).is_file():
        raise PresetError(f"{preset}: there are no weights, {weights} is missing; copy it, too")
    return folder


def _config(folder: Path, preset: str) -> dict[str, Any]:
    config = downloads.read_json(folder / "config.json", preset)
    if not config:
        raise PresetError(
            f"{preset}: there is no config.json; give a folder in KerasHub's or timm's format"
        )
    return config
