"""A translator from end to end, as a graph: texts in, translations out.

    translator = TextTranslator(model, preprocessor, Decoding(beam_width=5))
    translator(tf.constant(["A dog runs."])).texts          # [["Ein Hund läuft."]]

It is what evaluation, the samples of each epoch and the exported SavedModel have in common.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import tensorflow as tf

from data.text.subwords import END, PAD, START, UNKNOWN, TranslationPreprocessor
from zoo.configs import Decoding
from zoo.layers.decoding import strategy
from zoo.translator import Translator


class Translations(NamedTuple):
    """Answers to a batch of texts, best first; `n` is how many a text."""

    texts: tf.Tensor  # string (batch, n)
    scores: tf.Tensor  # float32 (batch, n), as the strategy has them
    lengths: tf.Tensor  # int32 (batch, n), tokens


class TextTranslator(tf.Module):
    """Translates texts; an empty one's translation is empty.

    What a text is translated as does not depend on the others in its batch, but that its numbers
    are rounded otherwise: by 1e-6 of a score, which could decide between two answers as good.

    Args:
        model: which may go on being trained; see `update`.
        preprocessor: of its texts.
        decoding: the options by default.
    """

    def __init__(
        self, model: Translator, preprocessor: TranslationPreprocessor, decoding: Decoding
    ) -> None:
        super().__init__(name="translator")
        self.preprocessor = preprocessor
        self.decoding = decoding
        self._decoder = model.for_serving(never=(PAD, UNKNOWN, START))

    def update(self) -> None:
        """Takes the model's weights as they are now."""
        self._decoder.update()

    def __call__(
        self,
        text: tf.Tensor,
        decoding: Any = None,
        n_best: int = 1,
        prefix: tf.Tensor | None = None,
    ) -> Translations:
        """Translates texts.

        Args:
            text: string (batch,).
            decoding: other options than the usual ones: a `Decoding`, or what has such attributes,
                which may then be tensors.
            n_best: answers a text.
            prefix: string (batch,), what each translation begins with; empty for nothing.
        """
        options = decoding or self.decoding
        source_ids = self.preprocessor({"text": text})["source_ids"]
        lengths = tf.reduce_sum(tf.cast(source_ids > 0, tf.int32), axis=1)
        longest = self.preprocessor.max_target_length
        ratio, extra = (tf.cast(x, tf.float32) for x in (options.max_ratio, options.max_extra))
        limits = ratio * tf.cast(lengths, tf.float32)
        # Cut while they are floats, of which an int32 may not hold the whole.
        limits, extra = (tf.cast(tf.minimum(x, longest), tf.int32) for x in (limits, extra))
        limits += extra
        begun = None if prefix is None else self._prefix(prefix)
        if begun is not None:
            counts = tf.math.count_nonzero(begun >= 0, axis=1, dtype=tf.int32)
            limits = tf.maximum(limits, counts + extra)
        limits = tf.clip_by_value(limits, 1, longest)
        limits = tf.where(lengths <= 1, 1, limits)  # the end alone: an empty text
        # Each text draws by itself, whatever else is in its batch.
        seeds = tf.strings.to_hash_bucket_fast(text, 2**31 - 1) + tf.cast(options.seed, tf.int64)
        answers = self._decoder(
            source_ids,
            limits,
            strategy(options, n_best, seeds),
            start=START,
            end=END,
            prefix=begun,
        )
        shape = tf.shape(answers.lengths)
        ids = tf.reshape(answers.tokens, [-1, tf.shape(answers.tokens)[2]])
        texts = self.preprocessor.detokenize(ids, tf.reshape(answers.lengths, [-1]))
        return Translations(tf.reshape(texts, shape), answers.scores, answers.lengths)

    def function(self) -> Callable[[tf.Tensor], Translations]:
        """`__call__` with the usual options, compiled once for batches of any size."""
        text = tf.TensorSpec([None], tf.string)
        return tf.function(lambda text: self(text), [text], autograph=False)

    def _prefix(self, texts: tf.Tensor) -> tf.Tensor:
        """The tokens of what translations begin with, padded with -1; a blank at the end is left
        to the next word's first token."""
        texts = tf.strings.regex_replace(texts, "^ +| +$", "")
        ids = self.preprocessor.encode({"text": texts, "reference": texts})["target_ids"]
        return ids[:, :-1].to_tensor(-1)  # without the end


def greedy(decoding: Decoding) -> Decoding:
    """The same options, but for the search, which takes the likeliest token at each step."""
    return replace(decoding, beam_width=1, n_best=1, temperature=0.0)
