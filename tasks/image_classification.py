"""Image classification: one label for a picture.

python -m tasks.image_classification
python -m tasks.image_classification train --data.train photos/ --export.dir saved_models/photos
python -m tasks.image_classification predict --run.dir runs/photos --input some/*.jpg
"""

from dataclasses import dataclass
from typing import Literal

from data.options import SAMPLES, Pictures
from tasks.engine.cli import main
from tasks.engine.task import Task
from zoo.configs import CnnConfig

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
    # means, and its decay goes through the momentum.
    "airbench": {
        "train.epochs": 10,
        "train.batch_size": 1024,
        "train.optimizer": "sgd",
        "train.learning_rate": 1.5,
        "train.schedule": "triangular",
        "train.warmup": 0.23,
        "train.momentum": 0.85,
        "train.bias_scale": 64.0,
        "train.lookahead": 5,
        "train.weight_decay": 0.009,
        "train.clip_norm": None,
        "train.label_smoothing": 0.2,
        "data.flip": "alternating",
        "data.translate": 2,
        "data.validation_fraction": 0.04,
    },
}


@dataclass(frozen=True)
class Data(Pictures):
    """The data: pictures and their labels; and how training pictures are changed at random."""

    flip: Literal["none", "random", "alternating"] = "none"
    """Mirror training pictures left to right: half of them, or each in every other epoch."""

    translate: int = 0
    """Move training pictures by up to this many pixels each way."""

    cutout: int = 0
    """Blank a square of this many pixels in training pictures (DeVries & Taylor 2017)."""

    brightness: float = 0.0
    """Change the brightness of training pictures by up to this share, 0 to below 1."""

    contrast: float = 0.0
    """Change the contrast of training pictures by up to this share, 0 to below 1."""


class ImageClassification(Task[Data, CnnConfig]):
    """One label for a picture, by a convolutional net."""

    name = "image_classification"
    sample = SAMPLES / "digits.parquet"
    requests = "pictures, folders of them, tables, or lines: paths, or JSON with base64"

    def recipe(self, config: CnnConfig):
        return RECIPES[config.preset]

    def source(self, data: Data):
        from data.tables import Field, TableSource

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

    def preprocessor(self, config: CnnConfig, records):
        from data.images import fit_image_preprocessor
        from data.tables import label_counts

        return fit_image_preprocessor(
            records,
            list(label_counts(records)),
            config.height,
            config.width,
            config.channels,
            config.resize,
        )

    def augmentation(self, data: Data, preprocessor):
        from data.augmentation import PictureAugmentation

        return PictureAugmentation(
            data.flip, data.translate, data.cutout, data.brightness, data.contrast
        )

    def model(self, config: CnnConfig, preprocessor):
        from zoo.cnn import image_classifier

        return image_classifier(config, len(preprocessor.labels), preprocessor.shape)

    def objective(self, train, preprocessor):
        from tasks.engine.objectives import classification_objective

        return classification_objective(preprocessor.labels, train)

    def pictures(self, model, preprocessor, truth, outputs, records):
        from tasks.engine.galleries import classified_pictures

        return classified_pictures(model, preprocessor, truth, outputs, records)

    def signatures(self, model, preprocessor, assets):
        from tasks.engine.image_signatures import ImageClassifierSignatures

        return ImageClassifierSignatures(model, preprocessor, assets)


if __name__ == "__main__":
    main(ImageClassification)
