"""Image classification: one label for a picture.

python -m tasks.image_classification
python -m tasks.image_classification train --data.train photos/ --export.dir saved_models/photos
python -m tasks.image_classification predict --run.dir runs/photos --input some/*.jpg
"""

import sys
from dataclasses import dataclass
from typing import Literal

from data.options import SAMPLES, Pictures
from tasks.engine.command.cli import main
from tasks.engine.task import Task
from zoo.configs import CnnConfig

LARGEST = {"simple": 64, "airbench": 32}  # what photos are resized to, in pixels

RECIPES = {
    "simple": {
        "train.epochs": 9,
        "train.batch_size": 64,
        "train.learning_rate": 2e-3,
        "train.schedule": "cosine",
        "train.weight_decay": 0.05,
        "data.translate": 1,
    },
    # Jordan 2024 (arXiv 2404.00498), listing 4; its rates are for sums over a batch, these for
    # means, and its decay goes through the momentum. It decays biases as well. 9.9 epochs there.
    "airbench": {
        "train.epochs": 12,
        "train.batch_size": 1024,
        "train.optimizer": "sgd",
        "train.learning_rate": 1.5,
        "train.schedule": "triangular",
        "train.warmup": 0.23,
        "train.momentum": 0.85,
        "train.bias_scale": 64.0,
        "train.lookahead": 5,
        "train.weight_decay": 0.009,
        "train.decay_biases": True,
        "train.clip_norm": None,
        "train.label_smoothing": 0.2,
        "data.flip": "alternating",
        "data.translate": 2,
        "data.validation_fraction": 0.04,
    },
    "resnet": {
        "train.epochs": 30,
        "train.batch_size": 64,
        "train.learning_rate": 1e-3,
        "train.schedule": "cosine",
        "train.weight_decay": 0.05,
        "train.label_smoothing": 0.1,
        "data.flip": "random",
        "data.crop": 0.35,
    },
    "pretrained": {
        "train.epochs": 10,
        "train.batch_size": 32,
        "train.freeze_epochs": 2,
        "train.learning_rate": 1e-4,
        "train.schedule": "cosine",
        "train.weight_decay": 0.05,
        "train.label_smoothing": 0.1,
        "data.flip": "random",
        "data.crop": 0.35,
    },
}


@dataclass(frozen=True)
class Data(Pictures):
    """The data: pictures and their labels; and how training pictures are changed at random."""

    flip: Literal["none", "random", "alternating"] = "none"
    """Mirror training pictures left to right: half of them, or each in every other epoch."""

    crop: float = 1.0
    """Show a part of training pictures, of this share of their area at least, resized (Szegedy et
    al. 2015); 1 shows all."""

    translate: int = 0
    """Move training pictures by up to this many pixels each way."""

    randaugment: int = 0
    """Do this many things out of eleven (rotate, shear, posterise, ...) to training pictures (Cubuk
    et al. 2020); 2 is usual."""

    magnitude: float = 9.0
    """How strongly `randaugment` does them, 0 to 10."""

    brightness: float = 0.0
    """Make training pictures lighter or darker by up to this share of the range from black to
    white, 0 to below 1."""

    contrast: float = 0.0
    """Change the contrast of training pictures by up to this share, 0 to below 1."""

    saturation: float = 0.0
    """Change how colourful training pictures are by up to this share, 0 to below 1."""

    cutout: int = 0
    """Blank a square of this many pixels in training pictures (DeVries & Taylor 2017)."""

    mixup: float = 0.0
    """Blend training pictures, and their labels, in pairs, by a share from Beta(a, a) of this a;
    0.2 is usual, 0 is never (Zhang et al. 2018)."""

    cutmix: float = 0.0
    """Replace a rectangle of training pictures by another's, and so much of the label, by a share
    from Beta(a, a) of this a; 1 is usual, 0 is never (Yun et al. 2019). With mixup, each batch has
    one of the two."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("translate", "randaugment", "cutout", "mixup", "cutmix"):
            self._require(name, getattr(self, name) >= 0, "at least 0")
        for name in ("brightness", "contrast", "saturation"):
            self._require(name, 0 <= getattr(self, name) < 1, "from 0 to below 1")
        self._require("crop", 0 < self.crop <= 1, "above 0, up to 1")
        self._require("magnitude", 0 <= self.magnitude <= 10, "from 0 to 10")


class ImageClassification(Task[Data, CnnConfig]):
    """One label for a picture, by a convolutional net."""

    name = "image_classification"
    sample = SAMPLES / "digits.parquet"
    requests = (
        "pictures, folders of them, tables, or lines: paths, or JSON with base64; by default lines "
        "from standard input, as - says"
    )

    def recipe(self, config: CnnConfig):
        if config.start:
            return RECIPES["pretrained"]
        return RECIPES.get(config.preset, RECIPES["resnet"])

    def source(self, data: Data, config: CnnConfig):
        from data.tables.fields import Field
        from data.tables.source import TableSource

        fields = {
            "image_bytes": Field(
                data.image_column,
                "image",
                option="--data.image_column",
                max_pixels=data.max_pixels,
            ),
            "label": Field(data.label_column, "label", option="--data.label_column"),
        }
        return TableSource(data, fields, str(self.sample))

    def preprocessor(self, config: CnnConfig, records, data: Data):
        from data.images.preprocessor import LARGE, fit_image_preprocessor
        from data.records import label_counts

        height, width, channels, scaling = config.height, config.width, config.channels, None
        if config.start:
            from zoo.resnet import scaling as preset_scaling

            scaling = preset_scaling(config.start)
            height, width, channels = height or LARGE, width or LARGE, 3
        return fit_image_preprocessor(
            records,
            list(label_counts(records)),
            height,
            width,
            channels,
            config.resize,
            scaling,
            LARGEST.get(config.preset, LARGE),
            data.ground,
            data.levels,
            lambda what: print(f"warning: {what}", file=sys.stderr, flush=True),
        )

    def augmentation(self, data: Data, preprocessor):
        from data.images.augmentation import PictureAugmentation

        return PictureAugmentation(
            preprocessor,
            flip=data.flip,
            crop=data.crop,
            translate=data.translate,
            randaugment=data.randaugment,
            magnitude=data.magnitude,
            brightness=data.brightness,
            contrast=data.contrast,
            saturation=data.saturation,
            cutout=data.cutout,
            mixup=data.mixup,
            cutmix=data.cutmix,
        )

    def model(self, config: CnnConfig, preprocessor):
        from zoo.cnn import image_classifier

        return image_classifier(config, len(preprocessor.labels), preprocessor.shape)

    def objective(self, train, preprocessor):
        from tasks.kinds.classification.objective import classification_objective

        return classification_objective(preprocessor.labels, train)

    def pictures(self, model, preprocessor, truth, outputs, records):
        from tasks.kinds.classification.galleries import classified_pictures

        return classified_pictures(model, preprocessor, truth, outputs, records)

    def signatures(self, model, preprocessor, assets, config, here=False):
        from tasks.kinds.classification.image_signatures import ImageClassifierSignatures

        return ImageClassifierSignatures(model, preprocessor, assets)


if __name__ == "__main__":
    main(ImageClassification)
