"""What a served classifier can be asked: raw records in, readable answers out.

module = ClassifierSignatures(
    model, preprocessor, {"text": tf.TensorSpec([None], tf.string)}, labels, [vocabulary_file]
)
export(module, module.functions(), folder=..., requests=..., card=...)
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import tensorflow as tf
from tensorflow.types.experimental import ConcreteFunction

from tasks.engine.exporting.signatures import Answers, Record, lines_asset, parse_examples, traced


class ClassifierSignatures(tf.Module):
    """The signatures of any classifier with one label an example, whatever its raw input.

    With B records in a batch and C classes:

    - `serving_default`: the raw inputs by name -> `label` (string, [B]), `score` (float32, [B]:
      the label's probability) and `probabilities` (float32, [B, C], in the order of
      `assets/labels.txt`).
    - `ranked`: the raw inputs by name -> `labels` (string, [B, C], most probable first) and
      `scores` (float32, [B, C]).
    - `classify`, for TF Serving's Classify API: `inputs` (string, [B]: serialized
      `tf.train.Example`s with a feature for each raw input) -> `classes` and `scores`, which are
      `labels` and `scores` of `ranked`.

    What the signatures use is tracked and saved, and nothing else: no optimizer, no random seeds,
    no Keras object.
    """

    def __init__(
        self,
        model: Callable[[Record], tf.Tensor],
        preprocessor: tf.Module,
        inputs: Mapping[str, tf.TensorSpec],
        labels: Sequence[str],
        assets: Sequence[Path] = (),
    ):
        """Wires the parts together.

        Args:
            model: `model(preprocessed)` gives logits, [B, C], of any float type, as for inference:
                a Keras model, or what its `for_serving` returns.
            preprocessor: `preprocessor(record)` turns a batch of raw records, a dict of tensors
                keyed as `inputs`, into the model's inputs, with TensorFlow ops alone.
            inputs: The raw inputs by name; the first dimension is the batch, None.
            labels: The classes, in the order of the logits.
            assets: Files to put into the SavedModel's assets, such as vocabularies. Without a
                labels.txt among them, one is written.
        """
        super().__init__(name="classifier")
        if all(path.name != "labels.txt" for path in assets):
            assets = [lines_asset(self, "labels.txt", labels), *assets]
        self.assets = [tf.saved_model.Asset(str(path)) for path in assets]
        self.preprocessor = preprocessor
        self._inputs = dict(inputs)
        self._labels = tuple(labels)
        # A closure, not an attribute: of an attribute, tf.Module would save the whole Keras model.
        self._probabilities = _probabilities_function(model, preprocessor, len(labels))

    def functions(self, names: Collection[str] | None = None) -> dict[str, ConcreteFunction]:
        """The signatures by name, or some of them, traced: for `tf.saved_model.save`, or to be
        called here."""
        functions = traced(self._answers(), names)
        self._variables = functions["serving_default"].variables
        return functions

    def _answers(self) -> Answers:
        raw = {name: tf.TensorSpec(s.shape, s.dtype, name) for name, s in self._inputs.items()}
        # Traced once and called by all three, which saves time, and size of the SavedModel.
        probabilities = tf.function(self._probabilities, autograph=False)

        def classify(**record: tf.Tensor) -> dict[str, tf.Tensor]:
            return self.answer(probabilities(record))

        def rank(**record: tf.Tensor) -> dict[str, tf.Tensor]:
            scores, order = tf.math.top_k(probabilities(record), k=len(self._labels))
            return {"labels": tf.gather(self._labels, order), "scores": scores}

        def classify_examples(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            ranked = rank(**parse_examples(inputs, self._inputs))
            return {"classes": ranked["labels"], "scores": ranked["scores"]}

        examples = {"inputs": tf.TensorSpec([None], tf.string, "inputs")}
        return {
            "serving_default": (classify, raw),
            "ranked": (rank, raw),
            "classify": (classify_examples, examples),
        }

    def answer(self, probabilities: tf.Tensor) -> dict[str, tf.Tensor]:
        """`label`, `score` and `probabilities` from the latter, [B, C]."""
        return {
            "label": tf.gather(self._labels, tf.argmax(probabilities, axis=-1)),
            "score": tf.reduce_max(probabilities, axis=-1),
            "probabilities": probabilities,
        }


def _probabilities_function(
    model: Callable[[Record], tf.Tensor], preprocessor: tf.Module, classes: int
) -> Callable[[Record], tf.Tensor]:
    def probabilities(record: Record) -> tf.Tensor:
        # float32 before the softmax: the model may compute in half precision, an answer may not.
        logits = tf.cast(model(preprocessor(record)), tf.float32)
        if logits.shape[-1] != classes:
            raise ValueError(f"the model has {logits.shape[-1]} outputs for {classes} labels")
        return tf.nn.softmax(logits)

    return probabilities
