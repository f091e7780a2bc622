"""What a served translator can be asked: raw texts in, translations out."""

from collections.abc import Collection, Sequence
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import tensorflow as tf
from tensorflow.types.experimental import ConcreteFunction

from data.text.subwords import TranslationPreprocessor
from tasks.engine.exporting.signatures import Answers, traced
from tasks.kinds.translation.translator import TextTranslator, greedy
from zoo.configs import Decoding
from zoo.translator import Translator

LOWEST = -1e9  # score
_BOUNDS: dict[str, tuple[float, float]] = {  # of options; of others 0 and 1000
    "beam_width": (1, 64),
    "max_extra": (1, 1000),
    "repetition_penalty": (1, 1000),
    "top_p": (0, 1),
    "top_k": (0, 2**30),
}
_SAMPLED = {
    "temperature": tf.float32,
    "top_k": tf.int32,
    "top_p": tf.float32,
    "seed": tf.int64,
}
_SEARCHED = {
    "beam_width": tf.int32,
    "length_penalty": tf.float32,
    "coverage_penalty": tf.float32,
    "repetition_penalty": tf.float32,
    "max_ratio": tf.float32,
    "max_extra": tf.int32,
}


class TranslationSignatures(tf.Module):
    """The signatures of a translator.

    With B texts in a batch:

    - `serving_default`: `text` (string, [B]) -> `translation` (string, [B]) and `score` (float32,
      [B]), by the options of `--decode.*` that the model was exported with.
    - `greedy`: the same by the likeliest token at each step, which is several times as fast.
    - `nbest`: `text` -> `translations` (string, [B, N]) and `scores` (float32, [B, N]), best first;
      where there are fewer, as of an empty text, the others are empty and score -1e9.
    - `prefixed`: `text` and `prefix` (string, [B]), how each translation begins, or empty ->
      `translation` and `score`.
    - `sample`: `text`, `temperature` (float32, [B]; 0 takes the likeliest token), `top_k` (int32,
      [B]; 0 for all tokens), `top_p` (float32, [B]; 1 for all) and `seed` (int64, [B]) ->
      `translation` and `score`, its log-probability. The same row is answered the same.
    - `search`: `text`, and for the whole batch, without a dimension, `beam_width`, `max_extra`
      (int32), `length_penalty`, `coverage_penalty`, `repetition_penalty` and `max_ratio` (float32)
      -> `translation` and `score`. To be asked in columns, and not through server-side batching;
      of `beam_width`, 64 at most are taken.
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

    def functions(self, names: Collection[str] | None = None) -> dict[str, ConcreteFunction]:
        """The signatures by name, or some of them, traced."""
        decoding = self._translate.decoding
        drawn = decoding.temperature > 0
        n_best = decoding.n_best if drawn else min(decoding.n_best, decoding.beam_width)

        def best(text: tf.Tensor, options: Any, **more: Any) -> dict[str, tf.Tensor]:
            found = self._translate(text, options, **more)
            return {"translation": found.texts[:, 0], "score": found.scores[:, 0]}

        def several(*, text: tf.Tensor) -> dict[str, tf.Tensor]:
            found = self._translate(text, n_best=n_best)
            # JSON has no infinity, which is the score of an answer that there is none of.
            scores = tf.maximum(found.scores, LOWEST)
            return {"translations": found.texts, "scores": scores}

        def changed(options: dict[str, tf.Tensor]) -> SimpleNamespace:
            """The options, some of them tensors, within bounds: a server may warm up with zeros,
            and nobody should ask for more than it can hold."""
            for name, value in options.items():
                least, most = _BOUNDS.get(name, (0, 1000))
                if value.dtype.is_floating:
                    value = tf.where(tf.math.is_nan(value), 0.0, value)
                if value.dtype != tf.int64:
                    options[name] = tf.clip_by_value(value, least, most)
            if "top_p" in options:
                options["top_p"] = tf.where(options["top_p"] > 0, options["top_p"], 1.0)
            return SimpleNamespace(**asdict(decoding) | {"temperature": 0.0} | options)

        def sample(*, text: tf.Tensor, **options: tf.Tensor) -> dict[str, tf.Tensor]:
            return best(text, changed(options))

        def search(*, text: tf.Tensor, **options: tf.Tensor) -> dict[str, tf.Tensor]:
            return best(text, changed(options))

        text = tf.TensorSpec([None], tf.string, "text")

        def specs(options: dict[str, tf.DType], shape: list[None]) -> dict[str, tf.TensorSpec]:
            own = {name: tf.TensorSpec(shape, dtype, name) for name, dtype in options.items()}
            return {"text": text, **own}

        answers: Answers = {
            "serving_default": (lambda *, text: best(text, decoding), {"text": text}),
            "greedy": (lambda *, text: best(text, greedy(decoding)), {"text": text}),
            "nbest": (several, {"text": text}),
            "prefixed": (
                lambda *, text, prefix: best(text, decoding, prefix=prefix),
                specs({"prefix": tf.string}, [None]),
            ),
            "sample": (sample, specs(_SAMPLED, [None])),
            "search": (search, specs(_SEARCHED, [])),
        }
        functions = traced(answers, names)
        self._variables = functions["serving_default"].variables
        return functions
