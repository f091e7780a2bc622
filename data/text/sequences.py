"""Sequences for recurrent nets: texts as tokens, and numbers a step; of unequal lengths.

preprocessor = TokenPreprocessor(learn_tokens(records, "word", size=20_000), labels)
preprocessor({"text": tf.constant(["Works as promised"])})      # token_ids, padding_mask

preprocessor = NumberPreprocessor(labels, features=2)
preprocessor({"values": values})        # float32 (batch, steps, 2), NaN after a sequence's end

All of it happens in the graph, so a SavedModel takes raw strings and numbers.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from data.preprocessing import Encoded, Preprocessor, class_ids
from data.survey import TOKENS, UNKNOWN_SHARE, UNKNOWN_TOKENS
from data.text.wordpiece import WordPiece, learn_vocabulary

Tokens = Literal["word", "character", "byte", "wordpiece"]

PADDING, UNKNOWN = "[PAD]", "[UNK]"  # ids 0 and 1

# A word may have apostrophes in it (don't) or, of one or two letters, begin with one ('s, 'll), as
# treebanks cut contractions. Every mark and symbol is a token of its own.
_LETTER, _APOSTROPHE = r"[\p{L}\p{M}\p{N}_]", r"['\x{2019}]"
_WORD = rf"{_LETTER}+(?:{_APOSTROPHE}{_LETTER}+)*|{_APOSTROPHE}\p{{L}}{{1,2}}\b|[\p{{P}}\p{{S}}]"
# Letters of languages that have no blanks between words, more of them than words have.
_UNDIVIDED = r"(?s).*[\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}]{8}.*"
UNDIVIDED = "texts without blanks between words"
_BETWEEN_WORDS = r"[^\p{L}\p{M}\p{N}\p{P}\p{S}]+"


class TokenPreprocessor(Preprocessor):
    """Raw strings -> `token_ids` and `padding_mask`, each int32 (batch, length).

    A text is cut into words and punctuation, characters (Unicode code points), bytes (of UTF-8) or
    WordPiece tokens. A text of no tokens is one of padding alone.

    Args:
        vocabulary: tokens, as `learn_tokens` returns them; the position of each is its id.
        labels: the classes' names, in the order of the model's outputs.
        tokens: what texts are cut into.
        lowercase: lower-case before that; of WordPiece tokens, strip accents too. Bytes are kept.
        max_length: tokens at most; those after them are left out.
    """

    def __init__(
        self,
        vocabulary: Sequence[str],
        labels: Sequence[str],
        *,
        tokens: Tokens = "word",
        lowercase: bool = True,
        max_length: int = 256,
    ) -> None:
        super().__init__()
        self.vocabulary = tuple(vocabulary)
        self.labels = tuple(labels)
        self.tokens = tokens
        self.lowercase = lowercase
        self.max_length = max_length
        if tokens == "wordpiece":
            self._word_pieces = WordPiece(
                self.vocabulary, lowercase=lowercase, strip_accents=lowercase
            )
        elif tokens != "byte":
            # An attribute, so that what is saved has the table.
            self._table = tf.lookup.StaticHashTable(
                tf.lookup.KeyValueTensorInitializer(
                    list(self.vocabulary), tf.range(len(self.vocabulary))
                ),
                default_value=self.vocabulary.index(UNKNOWN),
            )

    @property
    def inputs(self) -> dict[str, tf.TensorSpec]:
        """What a raw record consists of."""
        return {"text": tf.TensorSpec([None], tf.string, "text")}

    @property
    def sizes(self) -> dict[str, int]:
        """What a model needs to know."""
        return {"vocabulary_size": len(self.vocabulary)}

    surveyed = 50_000

    def encode(self, record: Mapping[str, tf.Tensor]) -> Encoded:
        return {"token_ids": self._ids(record["text"])[:, : self.max_length]}

    def lengths(self, encoded: Encoded) -> tf.Tensor:
        return tf.cast(encoded["token_ids"].row_lengths(), tf.int32)

    def longest(self) -> int:
        return self.max_length

    def collate(self, encoded: Encoded, length: int | None = None) -> dict[str, tf.Tensor]:
        return _padded("token_ids", encoded["token_ids"], length)

    def targets(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        return class_ids(self.labels, columns["label"])

    def tally(self, columns: Mapping[str, np.ndarray]) -> dict[str, int]:
        texts = tf.constant(columns["text"])
        ids = self._ids(texts)
        unknown = ids.flat_values == self.vocabulary.index(UNKNOWN)
        tally = {
            "texts cut": _count(ids.row_lengths() > self.max_length),
            TOKENS: int(tf.size(ids.flat_values)),
            UNKNOWN_TOKENS: _count(unknown),
        }
        if self.tokens == "word":
            undivided = _count(tf.strings.regex_full_match(texts, _UNDIVIDED))
            tally |= {UNDIVIDED: undivided} if undivided else {}
        return tally

    def warning(self, facts: Mapping[str, Any], records: int) -> str | None:
        if facts.get(UNDIVIDED, 0) > 0.5 * records:
            return (
                "most texts have no blanks between words, so that whole phrases are read as words; "
                "read characters instead, with --model.tokens character"
            )
        if facts.get(UNKNOWN_SHARE, 0) <= 0.5:
            return None
        other = "byte" if self.tokens == "character" else "character"
        return (
            f"{facts[UNKNOWN_SHARE]:.0%} of the tokens are not in the vocabulary; train on texts "
            f"of that language, or give --model.tokens {other} or a larger --model.vocabulary_size"
        )

    def state(self) -> tuple[dict[str, Any], dict[str, Sequence[str]]]:
        arguments = {
            "tokens": self.tokens,
            "lowercase": self.lowercase,
            "max_length": self.max_length,
        }
        return arguments, {"vocabulary": self.vocabulary, "labels": self.labels}

    def _ids(self, texts: tf.Tensor) -> tf.RaggedTensor:
        if self.tokens == "wordpiece":
            return self._word_pieces(texts)
        if self.tokens == "byte":
            split = tf.strings.bytes_split(texts)
            values = tf.io.decode_raw(split.flat_values, tf.uint8)
            # Without a byte at all, decoding knows no number of columns to reshape.
            return split.with_flat_values(tf.cast(tf.reshape(values, [-1]), tf.int32) + 2)
        split = split_text(texts, self.tokens, self.lowercase)
        return split.with_flat_values(self._table.lookup(split.flat_values))


class NumberPreprocessor(Preprocessor):
    """Numbers -> `values`, float32 (batch, length, features), and `padding_mask`, int32 (batch,
    length).

    A raw record's `values` are float32 (steps, features). Those of a batch have the same shape, so
    shorter ones are filled up with NaN: after the last step that has a number, all is padding.

    Args:
        labels: the classes' names, in the order of the model's outputs.
        features: numbers a step.
        max_length: steps at most; those after them are left out.
        level: what is taken off each feature, before numbers of float64 become float32, in whose
            digits they would not differ. () for nothing.
    """

    def __init__(
        self,
        labels: Sequence[str],
        *,
        features: int,
        max_length: int = 256,
        level: Sequence[float] = (),
    ) -> None:
        super().__init__()
        self.level = np.array([*level] or [0.0] * features, np.float64)
        self.labels = tuple(labels)
        self.features = features
        self.max_length = max_length

    @property
    def inputs(self) -> dict[str, tf.TensorSpec]:
        """What a raw record consists of."""
        return {"values": tf.TensorSpec([None, None, self.features], tf.float32, "values")}

    @property
    def sizes(self) -> dict[str, int]:
        """What a model needs to know."""
        return {"features": self.features}

    surveyed = None

    def encode(self, record: Mapping[str, tf.Tensor]) -> Encoded:
        values = record["values"]
        if self.level.any():
            values = tf.cast(values, tf.float64) - self.level
        values = tf.cast(values, tf.float32)
        some = tf.reduce_any(~tf.math.is_nan(values), axis=-1)
        ends = tf.where(some, tf.range(1, tf.shape(values)[1] + 1), 0)
        lengths = tf.minimum(tf.reduce_max(tf.pad(ends, [[0, 0], [1, 0]]), 1), self.max_length)
        return {"values": tf.RaggedTensor.from_tensor(values, lengths=lengths)}

    def lengths(self, encoded: Encoded) -> tf.Tensor:
        return tf.cast(encoded["values"].row_lengths(), tf.int32)

    def longest(self) -> int:
        return self.max_length

    def collate(self, encoded: Encoded, length: int | None = None) -> dict[str, tf.Tensor]:
        return _padded("values", encoded["values"], length)

    def targets(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        return class_ids(self.labels, columns["label"])

    def tally(self, columns: Mapping[str, np.ndarray]) -> dict[str, int]:
        values = columns["values"]
        missing = sum(int(np.count_nonzero(np.isnan(steps))) for steps in values)
        cut = {"sequences cut": sum(len(steps) > self.max_length for steps in values)}
        return cut | ({"numbers missing": missing} if missing else {})

    def state(self) -> tuple[dict[str, Any], dict[str, Sequence[str]]]:
        arguments = {
            "features": self.features,
            "max_length": self.max_length,
            "level": self.level.tolist(),
        }
        return arguments, {"labels": self.labels}


def common_level(records: Any) -> list[float]:
    """The level of a `NumberPreprocessor`: the mean of each feature of sequences of float64, which
    float32 would not tell apart; nothing for those of float32."""
    if next(records.chunks(1)).columns["values"][0].dtype != np.float64:
        return []
    parts = [np.concatenate(chunk.columns["values"].tolist()) for chunk in records.chunks()]
    count = sum(np.count_nonzero(~np.isnan(part), axis=0) for part in parts)
    means = sum(np.nansum(part, axis=0) for part in parts) / np.maximum(count, 1)
    # Exactly what float32 has, as requests of it are moved by it, too.
    return means.astype(np.float32).astype(float).tolist()


def learn_tokens(records: Any, tokens: Tokens, size: int, lowercase: bool = True) -> list[str]:
    """The vocabulary of a `TokenPreprocessor`: padding, unknown, then the tokens of the records'
    texts, most frequent first, `size` of them at most together.

    Bytes are all 256, whatever the size; WordPiece tokens are in their learner's order.
    """
    if tokens == "byte":
        return [PADDING, UNKNOWN, *(f"0x{byte:02x}" for byte in range(256))]
    if tokens == "wordpiece":
        return learn_vocabulary(records, size, lowercase)
    counts: Counter[bytes] = Counter()
    for chunk in records.chunks():
        split = split_text(tf.constant(chunk.columns["text"]), tokens, lowercase)
        counts.update(split.flat_values.numpy().tolist())
    frequent = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[: max(size - 2, 0)]
    return [PADDING, UNKNOWN, *(token.decode("utf-8", "replace") for token, _ in frequent)]


def split_text(
    texts: tf.Tensor, tokens: Literal["word", "character"], lowercase: bool = True
) -> tf.RaggedTensor:
    """Texts, string (batch,), as words and punctuation, or as characters: string (batch, None)."""
    if lowercase:
        texts = tf.strings.lower(texts, encoding="utf-8")
    if tokens == "character":
        return tf.strings.unicode_split(texts, "UTF-8")
    texts = tf.strings.regex_replace(texts, _BETWEEN_WORDS, " ")
    return tf.strings.split(tf.strings.regex_replace(texts, _WORD, r"\0 "))


def _count(which: tf.Tensor) -> int:
    return int(tf.math.count_nonzero(which))


def _padded(name: str, ragged: tf.RaggedTensor, length: int | None) -> dict[str, tf.Tensor]:
    """A batch filled up with zeros, to one step at least, which recurrent layers want."""
    lengths = tf.cast(ragged.row_lengths(), tf.int32)
    width = length or tf.maximum(tf.reduce_max(lengths), 1)
    return {
        name: ragged.to_tensor(shape=tf.stack([-1, width, *ragged.flat_values.shape[1:]])),
        "padding_mask": tf.sequence_mask(lengths, width, tf.int32),
    }
