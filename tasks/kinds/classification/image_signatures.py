"""What a served image classifier can be asked, beside what any classifier can."""

from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf

from data.images.preprocessor import ImagePreprocessor
from tasks.engine.exporting.signatures import Answers
from tasks.kinds.classification.signatures import ClassifierSignatures
from zoo.cnn import ImageClassifier


class ImageClassifierSignatures(ClassifierSignatures):
    """The signatures of an image classifier: those of `ClassifierSignatures`, which take
    `image_bytes` (string, [B]: JPEG, PNG, GIF, BMP or WebP files), and two more.

    - `images`: `images` (float32, [B, height, width, channels], from 0 to 1, of the model's own
      size) -> what `serving_default` answers.
    - `explain`: `image_bytes` -> `label`, `score`, and `heatmap` (float32, [B, height, width], from
      0 to 1): where the picture speaks for that label, by Grad-CAM.
    """

    def __init__(
        self, model: ImageClassifier, preprocessor: ImagePreprocessor, assets: Sequence[Path] = ()
    ):
        """Wires the parts together; arguments as in `ClassifierSignatures`."""
        inputs = {"image_bytes": tf.TensorSpec([None], tf.string, "image_bytes")}
        super().__init__(model, preprocessor, inputs, preprocessor.labels, assets)
        shape = [None, *preprocessor.shape]

        def images(images: tf.Tensor) -> dict[str, tf.Tensor]:
            normalised = {"image": preprocessor.normalise(images)}
            return self.answer(tf.nn.softmax(model(normalised)))

        def explain(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
            inputs = preprocessor({"image_bytes": image_bytes})
            answer = self.answer(tf.nn.softmax(model(inputs)))
            heatmap = model.explain(inputs)
            return {"label": answer["label"], "score": answer["score"], "heatmap": heatmap}

        self._more = {
            "images": (images, {"images": tf.TensorSpec(shape, tf.float32, "images")}),
            "explain": (explain, inputs),
        }

    def _answers(self) -> Answers:
        return {**super()._answers(), **self._more}
