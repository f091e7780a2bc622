"""Tokens that were added to a vocabulary: [E1], or covid-19; found in texts before anything else.

    added = AddedTokens([AddedToken("[E1]", 30522, normalized=False)], normalize)
    added(tf.constant(["[E1] Marie"]))          # one character of `RESERVED` where the token was

A tokenizer then has only to know these characters, `added.marks`, as words.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import tensorflow as tf

RESERVED = r"\x{F0000}-\x{10FFFF}"  # two planes for private use, which texts are kept free of
_FREE = "\ue000"  # in the place of such a character in a text: for private use, too
_FIRST_MARK, _CUT = 0xF0000, "\U0010ffff"

_ENDS_IN_WORD = r"(?s).*[\p{L}\p{M}\p{N}\p{Pc}]"
_BEGINS_WITH_WORD = r"(?s)[\p{L}\p{M}\p{N}\p{Pc}].*"


@dataclass(frozen=True)
class AddedToken:
    """A token that was added to a vocabulary.

    As in Hugging Face's tokenizers, but that white space beside a token (`lstrip`, `rstrip`) means
    nothing here.

    Args:
        content: the token.
        id: what it becomes.
        normalized: seek it in the normalized text, itself normalized; else in the text as given.
        single_word: only where no letter, digit or underscore is beside it.
    """

    content: str
    id: int
    normalized: bool = True
    single_word: bool = False


class AddedTokens(tf.Module):
    """Puts a mark in the place of each added token of a text, the longest one first.

    Args:
        tokens: the added tokens.
        normalize: what is done to texts otherwise, string (batch,) to the same; marks must stay.
    """

    def __init__(
        self, tokens: Sequence[AddedToken], normalize: Callable[[tf.Tensor], tf.Tensor]
    ) -> None:
        super().__init__()
        self.ids = [token.id for token in tokens]
        self.marks = [chr(_FIRST_MARK + position) for position in range(len(tokens))]
        self._normalize = normalize
        marked = list(zip(tokens, self.marks, strict=True))
        raw = {token.content: (token, mark) for token, mark in marked if not token.normalized}
        later = [(token, mark) for token, mark in marked if token.normalized]
        contents = [token.content for token, _ in later]
        clean = _spaced(normalize(tf.constant(contents, tf.string))).numpy() if later else []
        normalized = {
            content.decode(): pair for content, pair in zip(clean, later, strict=True) if content
        }
        self._raw = _Marker(raw) if raw else None
        self._normalized = _Marker(normalized) if normalized else None

    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        """Texts, string (batch,), normalized and with marks for the added tokens."""
        if self.marks:
            texts = tf.strings.regex_replace(texts, f"[{RESERVED}]", _FREE)
        if self._raw:
            texts = self._raw(texts)
        texts = self._normalize(texts)
        return self._normalized(_spaced(texts)) if self._normalized else texts


class _Marker(tf.Module):
    """Replaces contents by their marks, with a blank on either side."""

    def __init__(self, contents: dict[str, tuple[AddedToken, str]]) -> None:
        super().__init__()
        longest_first = sorted(contents, key=lambda content: (-len(content), content))
        self._pattern = "|".join(re.escape(content) for content in longest_first)
        self._marks = [f" {contents[content][1]} " for content in longest_first]
        self._single = [contents[content][0].single_word for content in longest_first]
        # An attribute, so that what is saved has the table.
        self._positions = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(longest_first, tf.range(len(longest_first))),
            default_value=-1,
        )

    def __call__(self, texts: tf.Tensor) -> tf.Tensor:
        if any(self._single):
            texts = tf.strings.join([" ", texts, " "])  # so that no token is first or last
        cut = tf.strings.regex_replace(texts, self._pattern, rf"{_CUT}\0{_CUT}")
        pieces = tf.strings.split(cut, _CUT)
        flat = pieces.flat_values
        positions = self._positions.lookup(flat)
        if any(self._single):
            within = tf.gather(tf.constant(self._single), tf.maximum(positions, 0))
            positions = tf.where(within & _beside_a_word(flat), -1, positions)
        marks = tf.gather(tf.constant(self._marks), tf.maximum(positions, 0))
        replaced = tf.where(positions < 0, flat, marks)
        return tf.strings.reduce_join(pieces.with_flat_values(replaced), axis=1)


def _beside_a_word(pieces: tf.Tensor) -> tf.Tensor:
    """Which pieces of a text have a letter or digit next to them; between two tokens in a row is
    an empty piece, beyond which is the next."""
    empty = pieces == ""
    ends = tf.strings.regex_full_match(pieces, _ENDS_IN_WORD)
    begins = tf.strings.regex_full_match(pieces, _BEGINS_WITH_WORD)
    before = tf.where(tf.roll(empty, 1, 0), tf.roll(ends, 2, 0), tf.roll(ends, 1, 0))
    after = tf.where(tf.roll(empty, -1, 0), tf.roll(begins, -2, 0), tf.roll(begins, -1, 0))
    return before | after


def _spaced(texts: tf.Tensor) -> tf.Tensor:
    """Texts with a blank for each other white space, as normalized ones are searched."""
    return tf.strings.regex_replace(texts, r"[\t\n\r\p{Zs}]", " ")
