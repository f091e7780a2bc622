"""Texts, or pairs of texts, as multilingual BERTs read them: <s> first </s> </s> second </s>.

Their vocabulary is SentencePiece's (Kudo & Richardson 2018) as XLM-R has it, and what it does to
texts first is in the model, too.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text
from sentencepiece import sentencepiece_model_pb2

from data.text.added_tokens import AddedToken, AddedTokens
from data.text.subwords import SentencePieceTokenizer
from data.text.wordpiece import EncoderPreprocessor

pb: Any = sentencepiece_model_pb2  # made by protobuf, without types
_TYPES = pb.ModelProto.SentencePiece


class UnigramPreprocessor(EncoderPreprocessor):
    """Texts as `EncoderPreprocessor` has them, of SentencePiece's pieces.

    Args:
        subwords_model: a SentencePiece model; the position of each piece is its id.
        labels: the classes' names, in the order of the model's outputs.
        start, end, padding: the special pieces before, after and behind texts.
        separators: how many `end` are between two texts.
        second_segment: what `segment_ids` are of the second text.
        max_length: tokens at most, special ones included.
        pair: whether records hold a second text, under `text_pair`.
        added_tokens: the arguments of each `AddedToken`.
        special_tokens: whether </s> and its like in a text are these tokens; else plain text.
    """

    def __init__(
        self,
        subwords_model: bytes,
        labels: Sequence[str],
        *,
        start: str = "<s>",
        end: str = "</s>",
        padding: str = "<pad>",
        separators: int = 2,
        second_segment: int = 0,
        max_length: int = 128,
        pair: bool = False,
        added_tokens: Sequence[Mapping[str, Any]] = (),
        special_tokens: bool = False,
    ) -> None:
        proto = pb.ModelProto.FromString(subwords_model)
        self.vocabulary = tuple(piece.piece for piece in proto.pieces)
        types = [piece.type for piece in proto.pieces]
        self.added_tokens = tuple(AddedToken(**token) for token in added_tokens)
        self._model = subwords_model
        self._arguments = {
            "start": start,
            "end": end,
            "padding": padding,
            "separators": separators,
            "second_segment": second_segment,
            "special_tokens": special_tokens,
        }
        special = [
            AddedToken(self.vocabulary[position], position, normalized=False)
            for position, kind in enumerate(types)
            if special_tokens and kind in (_TYPES.CONTROL, _TYPES.UNKNOWN)
        ]
        index = self.vocabulary.index
        super().__init__(
            labels,
            Pieces(subwords_model, len(types), [*special, *self.added_tokens]),
            (index(padding), types.index(_TYPES.UNKNOWN), index(start), index(end)),
            max_length=max_length,
            pair=pair,
            separators=separators,
            second_segment=second_segment,
        )

    def state(self) -> tuple[dict[str, Any], dict[str, Sequence[str] | bytes]]:
        arguments = {
            **self._arguments,
            "max_length": self.max_length,
            "pair": self.pair,
            "added_tokens": [asdict(token) for token in self.added_tokens],
        }
        return arguments, {"subwords_model": self._model, "labels": self.labels}


class Pieces(tf.Module):
    """Texts, string (batch,), as ids of a SentencePiece model's pieces, ragged int32 (batch, None).

    Args:
        model: the model, serialized, of `size` pieces.
        added_tokens: tokens to find before texts are split.
    """

    def __init__(self, model: bytes, size: int, added_tokens: Sequence[AddedToken]) -> None:
        super().__init__()
        sought_later = any(token.normalized for token in added_tokens)
        self._added = AddedTokens(added_tokens, _normalize if sought_later else _as_they_are)
        self._ids = np.array([*range(size), *self._added.ids], np.int32)
        marked = pb.ModelProto()
        for mark in self._added.marks:  # a word of its own, which has a blank before it
            marked.pieces.add(piece=f"▁{mark}", score=0.0, type=_TYPES.USER_DEFINED)
        # Serialized models one after the other are one model of the pieces of both.
        self._tokenizer = SentencePieceTokenizer(model + marked.SerializeToString(), add_eos=False)

    def __call__(self, texts: tf.Tensor) -> tf.RaggedTensor:
        pieces = self._tokenizer.tokenize(self._added(texts))
        if not self._added.ids:
            return pieces
        return pieces.with_flat_values(tf.gather(tf.constant(self._ids), pieces.flat_values))


def _normalize(texts: tf.Tensor) -> tf.Tensor:
    """What XLM-R's rules come to, nearly; SentencePiece applies them itself, afterwards."""
    return tf_text.normalize_utf8(texts, "NFKC")


def _as_they_are(texts: tf.Tensor) -> tf.Tensor:
    return texts
