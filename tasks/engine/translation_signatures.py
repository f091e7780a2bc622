"""What a served translator can be asked: raw texts in, translations out."""

from collections.abc import Sequence
from pathlib import Path

import tensorflow as tf
from tensorflow.types.experimental import ConcreteFunction

from data.subwords import TranslationPreprocessor
from tasks.engine.translating import TextTranslator, greedy
from zoo.configs import Decoding
from zoo.translator import Translator

_TEXT = tf.TensorSpec([None], tf.string, "text")


class TranslationSignatures(tf.Module):
    """The signatures of a translator.

    With B texts in a batch:

    - `serving_default`: `text` (string, [B]) -> `translation` (string, [B]) and `score` (float32,
      [B]), by the options of `--decode.*` that the model was exported with.
    - `greedy`: the same by the likeliest token at each step, which is several times as fast.
    - `nbest`: `text` -> `translations` (string, [B, N]) and `scores` (float32, [B, N]), best first.
    """

    def __init__(
        self,
        model: Translator,
        preprocessor: TranslationPreprocessor,
        decoding: Decoding,
        assets: Sequence[Path] = (),
    ) -> None:
        super().__init__(name="translation")
        self.assets = [tf.saved_model.Asset(str(path)) for path in assets]
        self._translate = TextTranslator(model, preprocessor, decoding)

    def functions(self) -> dict[str, ConcreteFunction]:
        """The signatures by name, traced."""
        decoding = self._translate.decoding
        n_best = min(decoding.n_best, decoding.beam_width)

        def best(text: tf.Tensor, options: Decoding) -> dict[str, tf.Tensor]:
            found = self._translate(text, options)
            return {"translation": found.texts[:, 0], "score": found.scores[:, 0]}

        def several(*, text: tf.Tensor) -> dict[str, tf.Tensor]:
            found = self._translate(text, n_best=n_best)
            return {"translations": found.texts, "scores": found.scores}

        answers = {
            "serving_default": lambda *, text: best(text, decoding),
            "greedy": lambda *, text: best(text, greedy(decoding)),
            "nbest": several,
        }
        functions = {
            name: tf.function(answer, autograph=False).get_concrete_function(text=_TEXT)
            for name, answer in answers.items()
        }
        self._variables = functions["serving_default"].variables
        return functions
