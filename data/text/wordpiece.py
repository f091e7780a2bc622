"""Texts, or pairs of texts, as BERT reads them: [CLS] first [SEP] second [SEP].

Tokenizing happens in the graph with tensorflow-text, so a SavedModel takes raw strings.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text

from data.errors import DataError
from data.preprocessing import Encoded, Preprocessor, class_ids
from data.survey import TOKENS, UNKNOWN_SHARE, UNKNOWN_TOKENS

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")

_WORDS = 20_000  # words that a vocabulary is learned from

# Control and format characters other than white space, and the replacement character.
_UNWANTED = r"[^\P{C}\t\n\r]|\x{FFFD}"


class BertPreprocessor(Preprocessor):
    """Raw strings -> `token_ids`, `segment_ids`, `padding_mask`, each int32 (batch, length).

    WordPiece as in Devlin et al. 2018 (section 3), computed by the linear-time algorithm of Song et
    al. 2020. A pair that is too long loses tokens from the end of whichever text is longer.

    Args:
        vocabulary: WordPiece tokens; the position of each is its id. `[PAD]`, `[UNK]`, `[CLS]` and
            `[SEP]` must be among them.
        labels: the classes' names, in the order of the model's outputs.
        lowercase: lower-case before tokenizing, as uncased vocabularies want.
        strip_accents: strip accents too; None for just when lower-casing, as BERT did.
        max_length: tokens at most, special ones included.
        pair: whether records hold a second text, under `text_pair`.
    """

    def __init__(
        self,
        vocabulary: Sequence[str],
        labels: Sequence[str],
        *,
        lowercase: bool = True,
        strip_accents: bool | None = None,
        max_length: int = 128,
        pair: bool = False,
    ) -> None:
        super().__init__()
        self.vocabulary = tuple(vocabulary)
        self.labels = tuple(labels)
        self.lowercase = lowercase
        self.strip_accents = lowercase if strip_accents is None else strip_accents
        self.max_length = max_length
        self.pair = pair
        self._texts = ("text", "text_pair") if pair else ("text",)
        self._pad, self._unknown, self._start, self._end = map(
            self.vocabulary.index, SPECIAL_TOKENS
        )
        self._tokenizer = tf_text.FastBertTokenizer(
            list(self.vocabulary),
            token_out_type=tf.int32,
        )

    surveyed = 50_000

    def encode(self, record: Mapping[str, tf.Tensor]) -> Encoded:
        return {
            name: self._tokenizer.tokenize(
                normalize(record[name], self.lowercase, self.strip_accents)
            )
            for name in self._texts
        }

    def lengths(self, encoded: Encoded) -> tf.Tensor:
        tokens = tf.add_n([encoded[name].row_lengths() for name in self._texts])
        return tf.minimum(tf.cast(tokens, tf.int32) + 1 + len(self._texts), self.max_length)

    def longest(self) -> int:
        return self.max_length

    def collate(self, encoded: Encoded, length: int | None = None) -> dict[str, tf.Tensor]:
        # One gather out of "special tokens, then all tokens" by an index worked out per position:
        # a served request pays for every op, and concatenating ragged tensors takes a hundred.
        segments = [encoded[name] for name in self._texts]
        counts = [tf.cast(segment.row_lengths(), tf.int32) for segment in segments]
        counts = _longest_first(counts, self.max_length - 1 - len(segments))
        width = length or tf.reduce_max(tf.add_n(counts)) + 1 + len(segments)
        position = tf.range(width)[tf.newaxis, :]

        specials = tf.constant([self._pad, self._start, self._end])
        pad, start, end = 0, 1, 2
        index = tf.where(position == 0, start, pad)
        begin, offset, second_begin = 1, 3, None
        for segment, count in zip(segments, counts, strict=True):
            stop = begin + count[:, tf.newaxis]
            first_token = tf.cast(segment.row_starts(), tf.int32)[:, tf.newaxis] + offset
            index = tf.where(position == stop, end, index)
            within = (position >= begin) & (position < stop)
            index = tf.where(within, first_token + position - begin, index)
            second_begin = second_begin if second_begin is not None else stop + 1
            begin, offset = stop + 1, offset + tf.size(segment.flat_values)
        token_ids = tf.gather(tf.concat([specials, *(s.flat_values for s in segments)], 0), index)
        real = position < begin
        if self.pair:
            segment_ids = tf.cast(real & (position >= second_begin), tf.int32)
        else:
            segment_ids = tf.zeros_like(token_ids)
        return {
            "token_ids": token_ids,
            "segment_ids": segment_ids,
            "padding_mask": tf.cast(real, tf.int32),
        }

    def targets(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        return class_ids(self.labels, columns["label"])

    def tally(self, columns: Mapping[str, np.ndarray]) -> dict[str, int]:
        encoded = self.encode({name: tf.constant(columns[name]) for name in self._texts})
        tokens = [encoded[name].flat_values.numpy() for name in self._texts]
        counts = sum(encoded[name].row_lengths().numpy() for name in self._texts)
        cut = counts + 1 + len(self._texts) > self.max_length
        return {
            "texts cut": int(np.count_nonzero(cut)),
            TOKENS: sum(map(len, tokens)),
            UNKNOWN_TOKENS: sum(int(np.count_nonzero(ids == self._unknown)) for ids in tokens),
        }

    def warning(self, facts: Mapping[str, Any], records: int) -> str | None:
        if facts.get(UNKNOWN_SHARE, 0) <= 0.5:
            return None
        return (
            f"{facts[UNKNOWN_SHARE]:.0%} of the tokens are not in the vocabulary; take a preset "
            "that knows the language, such as a multilingual one, with --model.preset, or learn a "
            "vocabulary from the data, with --model.size small"
        )

    def state(self) -> tuple[dict[str, Any], dict[str, Sequence[str]]]:
        arguments = {
            "lowercase": self.lowercase,
            "strip_accents": self.strip_accents,
            "max_length": self.max_length,
            "pair": self.pair,
        }
        return arguments, {"vocabulary": self.vocabulary, "labels": self.labels}


def normalize(texts: tf.Tensor, lowercase: bool, strip_accents: bool) -> tf.Tensor:
    """Texts as the original BERT has them before it splits words.

    FastBertTokenizer's own cleaning differs: it folds full-width punctuation into ASCII, which
    Chinese vocabularies keep apart, and for cased ones splits words at invisible characters.
    """
    unwanted = _UNWANTED
    if strip_accents:
        texts = tf_text.normalize_utf8(texts, "NFD")
        unwanted += r"|\p{Mn}"
    texts = tf.strings.regex_replace(texts, unwanted, "")
    return tf.strings.lower(texts, encoding="utf-8") if lowercase else texts


def _longest_first(counts: list[tf.Tensor], room: int) -> list[tf.Tensor]:
    """How many tokens of each text to keep, (batch,) each, so that together they fit in `room`.

    Tokens go one by one from whichever text is longer; in the end either the shorter text is whole,
    or both have half of the room, the first the odd one.
    """
    if len(counts) == 1:
        return [tf.minimum(counts[0], room)]
    first, second = counts
    first = tf.minimum(first, tf.maximum(room - second, room - room // 2))
    return [first, tf.minimum(second, room - first)]


def read_vocabulary(path: Path) -> list[str]:
    """The tokens of a WordPiece vocabulary file, one a line."""
    try:
        tokens = path.read_text("utf-8").rstrip("\n").replace("\r\n", "\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: can't be read as a vocabulary: {error}") from None
    missing = [token for token in SPECIAL_TOKENS if token not in tokens]
    if missing:
        raise DataError(f"{path}: lacks the tokens {' '.join(missing)}; add them, one a line")
    return tokens


def learn_vocabulary(records: Any, size: int, lowercase: bool = True) -> list[str]:
    """A WordPiece vocabulary of about `size` tokens at most, learned from the records' texts.

    By tensorflow-text's learner, which gives the same tokens each time (faster ones break ties by
    chance); its time grows with the number of words, so the rarest beyond `_WORDS` are left out.
    """
    from tensorflow_text.python.ops.bert_tokenizer import BasicTokenizer
    from tensorflow_text.tools.wordpiece_vocab import wordpiece_tokenizer_learner_lib as learner

    splitter = BasicTokenizer()
    counts: Counter[bytes] = Counter()
    for chunk in records.chunks():
        for name in chunk.columns.keys() & {"text", "text_pair"}:
            texts = normalize(tf.constant(chunk.columns[name]), lowercase, lowercase)
            counts.update(splitter.tokenize(texts).flat_values.numpy().tolist())
    frequent = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:_WORDS]
    words = [(word.decode("utf-8", "replace"), count) for word, count in frequent]
    return learner.learn(words, size, [*SPECIAL_TOKENS, "[MASK]"], num_iterations=3)
