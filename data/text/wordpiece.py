"""Texts, or pairs of texts, as BERT reads them: [CLS] first [SEP] second [SEP].

Tokenizing happens in the graph with tensorflow-text, so a SavedModel takes raw strings.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text

from data.errors import DataError
from data.preprocessing import Encoded, Preprocessor, class_ids
from data.survey import TOKENS, UNKNOWN_SHARE, UNKNOWN_TOKENS
from data.text.added_tokens import RESERVED, AddedToken, AddedTokens

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")

_WORDS = 20_000  # words that a vocabulary is learned from

# Control and format characters other than white space, and the replacement character.
_UNWANTED = r"[^\P{C}\t\n\r]|\x{FFFD}"
_UNWANTED_BUT_MARKS = rf"[^\P{{C}}\t\n\r{RESERVED}]|\x{{FFFD}}"
LONGEST_WORD = 100  # characters; a longer one is unknown, as in the original
_NEVER = "\ue000"  # begins what no text has: it is unwanted
# Every one of these is a word of its own: punctuation, and Chinese characters.
_ALONE = (
    r"[\p{P}$+<=>^`|~\x{3400}-\x{4DBF}\x{4E00}-\x{9FFF}\x{F900}-\x{FAFF}\x{20000}-\x{2A6DF}"
    r"\x{2A700}-\x{2CEAF}\x{2F800}-\x{2FA1F}]"
)


class EncoderPreprocessor(Preprocessor):
    """Raw strings -> `token_ids`, `segment_ids`, `padding_mask`, each int32 (batch, length).

    A pair that is too long loses tokens from the end of whichever text is longer.

    Args:
        labels: the classes' names, in the order of the model's outputs.
        tokenize: texts, string (batch,), as ids, ragged int32 (batch, None).
        special: the ids of padding, of what is unknown, of the token before the texts and of that
            after each.
        max_length: tokens at most, special ones included.
        pair: whether records hold a second text, under `text_pair`.
        separators: how many tokens are between two texts, 1 or 2.
        second_segment: what `segment_ids` are of the second text, 0 or 1.
    """

    def __init__(
        self,
        labels: Sequence[str],
        tokenize: Callable[[tf.Tensor], tf.RaggedTensor],
        special: tuple[int, int, int, int],
        *,
        max_length: int,
        pair: bool,
        separators: int = 1,
        second_segment: int = 1,
    ) -> None:
        super().__init__()
        self.labels = tuple(labels)
        self.max_length = max_length
        self.pair = pair
        self._texts = ("text", "text_pair") if pair else ("text",)
        self._tokenize = tokenize
        self._pad, self._unknown, self._start, self._end = special
        self._between = separators
        self._second_segment = second_segment
        self._specials = 2 + separators if pair else 2

    surveyed = 50_000

    def encode(self, record: Mapping[str, tf.Tensor]) -> Encoded:
        return {name: self._tokenize(record[name]) for name in self._texts}

    def lengths(self, encoded: Encoded) -> tf.Tensor:
        tokens = tf.add_n([encoded[name].row_lengths() for name in self._texts])
        return tf.minimum(tf.cast(tokens, tf.int32) + self._specials, self.max_length)

    def longest(self) -> int:
        return self.max_length

    def collate(self, encoded: Encoded, length: int | None = None) -> dict[str, tf.Tensor]:
        # One gather out of "special tokens, then all tokens" by an index worked out per position:
        # a served request pays for every op, and concatenating ragged tensors takes a hundred.
        segments = [encoded[name] for name in self._texts]
        counts = [tf.cast(segment.row_lengths(), tf.int32) for segment in segments]
        counts = _longest_first(counts, self.max_length - self._specials)
        width = length or tf.reduce_max(tf.add_n(counts)) + self._specials
        position = tf.range(width)[tf.newaxis, :]

        specials = tf.constant([self._pad, self._start, self._end])
        pad, start, end = 0, 1, 2
        index = tf.where(position == 0, start, pad)
        begin, offset, second_begin = 1, 3, None
        for segment, count in zip(segments, counts, strict=True):
            stop = begin + count[:, tf.newaxis]
            first_token = tf.cast(segment.row_starts(), tf.int32)[:, tf.newaxis] + offset
            after = stop + (1 if segment is segments[-1] else self._between)
            index = tf.where((position >= stop) & (position < after), end, index)
            within = (position >= begin) & (position < stop)
            index = tf.where(within, first_token + position - begin, index)
            second_begin = second_begin if second_begin is not None else after
            begin, offset = after, offset + tf.size(segment.flat_values)
        token_ids = tf.gather(tf.concat([specials, *(s.flat_values for s in segments)], 0), index)
        real = position < begin
        if self.pair and self._second_segment:
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
        cut = counts + self._specials > self.max_length
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


class BertPreprocessor(EncoderPreprocessor):
    """Texts as `EncoderPreprocessor` has them, [CLS] first [SEP] second [SEP], of WordPiece tokens.

    Args:
        vocabulary: WordPiece tokens; the position of each, the last if there are several, is its
            id. `[PAD]`, `[UNK]`, `[CLS]` and `[SEP]` must be among them.
        labels: the classes' names, in the order of the model's outputs.
        lowercase: lower-case before tokenizing, as uncased vocabularies want.
        strip_accents: strip accents too; None for just when lower-casing, as BERT did.
        max_length: tokens at most, special ones included.
        pair: whether records hold a second text, under `text_pair`.
        added_tokens: the arguments of each `AddedToken`.
        special_tokens: whether [SEP] and its like in a text are these tokens; else plain text.
        longest_word: characters that a word may have; a longer one is unknown.
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
        added_tokens: Sequence[Mapping[str, Any]] = (),
        special_tokens: bool = False,
        longest_word: int = LONGEST_WORD,
    ) -> None:
        self.vocabulary = tuple(vocabulary)
        self.lowercase = lowercase
        self.strip_accents = lowercase if strip_accents is None else strip_accents
        self.added_tokens = tuple(AddedToken(**token) for token in added_tokens)
        self.special_tokens = special_tokens
        self.longest_word = longest_word
        ids = {token: position for position, token in enumerate(self.vocabulary)}
        special = [
            AddedToken(token, ids[token], normalized=False)
            for token in (*SPECIAL_TOKENS, "[MASK]")
            if special_tokens and token in ids
        ]
        super().__init__(
            labels,
            WordPiece(
                self.vocabulary,
                lowercase=self.lowercase,
                strip_accents=self.strip_accents,
                added_tokens=[*special, *self.added_tokens],
                longest_word=longest_word,
            ),
            (ids["[PAD]"], ids["[UNK]"], ids["[CLS]"], ids["[SEP]"]),
            max_length=max_length,
            pair=pair,
        )

    def state(self) -> tuple[dict[str, Any], dict[str, Sequence[str]]]:
        arguments = {
            "lowercase": self.lowercase,
            "strip_accents": self.strip_accents,
            "max_length": self.max_length,
            "pair": self.pair,
            "added_tokens": [asdict(token) for token in self.added_tokens],
            "special_tokens": self.special_tokens,
            "longest_word": self.longest_word,
        }
        return arguments, {"vocabulary": self.vocabulary, "labels": self.labels}


class WordPiece(tf.Module):
    """Texts, string (batch,), as ids of WordPiece tokens, ragged int32 (batch, None).

    As in Devlin et al. 2018 (section 3), computed by the linear-time algorithm of Song et al. 2020.

    Args:
        vocabulary, lowercase, strip_accents, longest_word: as in `BertPreprocessor`.
        added_tokens: tokens to find before texts are split into words.
    """

    def __init__(
        self,
        vocabulary: Sequence[str],
        *,
        lowercase: bool,
        strip_accents: bool,
        added_tokens: Sequence[AddedToken] = (),
        longest_word: int = LONGEST_WORD,
    ) -> None:
        super().__init__()
        self._longest_word = longest_word
        self._added = AddedTokens(
            added_tokens,
            lambda texts: normalize(texts, lowercase, strip_accents, marks=bool(added_tokens)),
        )
        self._ids = np.array([*range(len(vocabulary)), *self._added.ids], np.int32)
        self._tokenizer = tf_text.FastBertTokenizer(
            [*_matchable(vocabulary), *self._added.marks],
            token_out_type=tf.int32,
            max_bytes_per_word=4 * longest_word,
        )

    def __call__(self, texts: tf.Tensor) -> tf.RaggedTensor:
        tokens = self._tokenizer.tokenize(
            _without_long_words(self._added(texts), self._longest_word)
        )
        if not self._added.ids:
            return tokens
        return tokens.with_flat_values(tf.gather(tf.constant(self._ids), tokens.flat_values))


def _matchable(vocabulary: Sequence[str]) -> list[str]:
    """The vocabulary, unique: a token that can't be found is replaced by what no text has.

    Of several that are alike the last is found, as in Hugging Face's tokenizers. One that has white
    space is never part of a word, but FastBertTokenizer would find it.
    """
    last = {token: position for position, token in enumerate(vocabulary)}
    return [
        token
        if last[token] == position and len(token.split()) == 1 and token.strip() == token
        else f"{_NEVER}{position}"
        for position, token in enumerate(vocabulary)
    ]


def _without_long_words(texts: tf.Tensor, longest: int) -> tf.Tensor:
    """Normalized texts with an unknown character for every word of too many.

    FastBertTokenizer counts bytes. Few texts have so many without a blank, so the others are spared
    the closer look.
    """

    def closer() -> tf.Tensor:
        words = tf.strings.regex_replace(texts, _ALONE, r" \0 ")
        return tf.strings.regex_replace(words, rf"[^\s\p{{Z}}]{{{longest + 1},}}", _NEVER)

    suspect = tf.strings.regex_full_match(texts, rf"(?s).*[^ ]{{{longest + 1}}}.*")
    return tf.cond(tf.reduce_any(suspect), closer, lambda: texts)


def normalize(
    texts: tf.Tensor, lowercase: bool, strip_accents: bool, marks: bool = False
) -> tf.Tensor:
    """Texts as the original BERT has them before it splits words, but for `marks` of added tokens.

    FastBertTokenizer's own cleaning differs: it folds full-width punctuation into ASCII, which
    Chinese vocabularies keep apart, and for cased ones splits words at invisible characters.
    """
    unwanted = _UNWANTED_BUT_MARKS if marks else _UNWANTED
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
