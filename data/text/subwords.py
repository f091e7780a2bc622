"""Subwords: texts as pieces of words, by SentencePiece, for models that read one text and write
another.

model = learn_subwords(texts, size=9000)        # one vocabulary, of both languages
preprocessor = TranslationPreprocessor(model)
preprocessor({"text": tf.constant(["A dog runs."])})                # source_ids
preprocessor.detokenize(tf.constant([[523, 77, 3, 0]]), tf.constant([3]))

All of it but learning happens in the graph, so a SavedModel takes and answers raw strings.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import numpy as np
import sentencepiece
import tensorflow as tf
import tensorflow_text as tf_text
from sentencepiece import sentencepiece_model_pb2
from tensorflow_text.python.ops.sentencepiece_tokenizer import gen_sentencepiece_tokenizer

from data.errors import DataError
from data.preprocessing import Batch, Encoded, Preprocessor, write_lines

Kind = Literal["unigram", "bpe"]
Side = Literal["source", "target"]
Rule = Literal["identity", "nfc", "nfkc", "nmt_nfkc"]

PAD, UNKNOWN, START, END = range(4)  # the ids that every model learned here begins with

_LONGEST = 2**16  # bytes of a text to learn from; SentencePiece leaves out longer ones
_TEXTS = 5_000_000  # texts to learn from; of more, as many are drawn

# SentencePiece writes a blank as U+2581, and could not tell one in a text from it: those are
# written as a code point that Unicode keeps out of texts.
_BLANK, _STAND_IN = "\u2581", "\ufdd0"
# No piece goes across these, of which SentencePiece keeps two for itself.
_BREAKS = re.compile("[\t\n\v\f\r\x1c-\x1f\x85\u2028\u2029\u2585]+")


class TranslationPreprocessor(Preprocessor):
    """Raw strings -> `source_ids`, int32 (batch, source length): a text's pieces, then END.

    Records to train on or to judge by hold a `reference`, too: what should be answered. They make
    `target_ids`, int32 (batch, target length): START, then the reference's pieces, to foresee each
    next one of; `batch` has what these are. They may hold a `weight`, float32 (batch,).

    Any bytes can be encoded, U+FFFD or a blank in place of what is no UTF-8; an empty text is END
    alone.

    Args:
        source_model, target_model: SentencePiece models, as `learn_subwords` returns them; without
            the second, the first is of both languages.
        max_source_length, max_target_length: pieces at most, with END; others are left out.
        lowercase: lower-case all texts first.
        source_normalization, target_normalization: what a side's texts become first, as
            `normalized` has it; by default what the side's model itself says. By `identity` a
            target comes back as it was, blanks, tabs and line breaks included.

    Raises:
        DataError: a model does not have the ids PAD, UNKNOWN, START and END.
    """

    def __init__(
        self,
        source_model: bytes,
        target_model: bytes | None = None,
        *,
        max_source_length: int = 256,
        max_target_length: int = 256,
        lowercase: bool = False,
        source_normalization: Rule | None = None,
        target_normalization: Rule | None = None,
    ) -> None:
        super().__init__()
        self.max_source_length = max_source_length
        self.max_target_length = max_target_length
        self.lowercase = lowercase
        self.source_normalization = source_normalization
        self.target_normalization = target_normalization
        self.source_vocabulary = self.target_vocabulary = _pieces(source_model)
        self._models = {"source_model": source_model}
        if target_model is not None:
            self.target_vocabulary = _pieces(target_model)
            self._models["target_model"] = target_model
        sides = (
            (source_model, source_normalization),
            (target_model or source_model, target_normalization),
        )
        tokenizers = {side: RuledTokenizer(*side, lowercase) for side in dict.fromkeys(sides)}
        self._source, self._target = (tokenizers[side] for side in sides)

    @property
    def joint(self) -> bool:
        """Whether source and target have one vocabulary."""
        return "target_model" not in self._models

    @property
    def source_vocabulary_size(self) -> int:
        """Pieces of the source."""
        return len(self.source_vocabulary)

    @property
    def target_vocabulary_size(self) -> int:
        """Pieces of the target."""
        return len(self.target_vocabulary)

    @property
    def inputs(self) -> dict[str, tf.TensorSpec]:
        """What a raw record consists of."""
        return {"text": tf.TensorSpec([None], tf.string, "text")}

    @property
    def sizes(self) -> dict[str, int | None]:
        """What a model needs to know; None for the target's where both have one vocabulary."""
        return {
            "source_vocabulary_size": self.source_vocabulary_size,
            "target_vocabulary_size": None if self.joint else self.target_vocabulary_size,
        }

    surveyed = None

    def encode(self, record: Mapping[str, tf.Tensor]) -> Encoded:
        encoded = {"source_ids": self._ids(record["text"], "source")}
        if "reference" in record:
            encoded["target_ids"] = self._ids(record["reference"], "target")
        if "weight" in record:
            encoded["weight"] = tf.cast(record["weight"], tf.float32)
        return encoded

    def lengths(self, encoded: Encoded) -> tf.Tensor:
        """The source's length, int32 (batch,); with references also the target's, (batch, 2)."""
        lengths = [
            tf.cast(encoded[name].row_lengths(), tf.int32)
            for name in ("source_ids", "target_ids")
            if name in encoded
        ]
        return tf.stack(lengths, axis=1) if len(lengths) > 1 else lengths[0]

    def collate(self, encoded: Encoded, length: int | None = None) -> dict[str, tf.Tensor]:
        inputs = {"source_ids": encoded["source_ids"].to_tensor(shape=[None, length])}
        if "target_ids" in encoded:
            labels = encoded["target_ids"].to_tensor(shape=[None, length])
            shifted = tf.pad(labels, [[0, 0], [1, 0]], constant_values=START)[:, :-1]
            inputs["target_ids"] = tf.where(labels == PAD, PAD, shifted)
        return inputs

    def longest(self) -> int:
        return max(self.max_source_length, self.max_target_length)

    def batch(self, encoded: Encoded, targets: tf.Tensor, length: int | None = None) -> Batch:
        """Model inputs; labels, int32 (batch, target length), the references' pieces, END, then
        PAD; and weights, float32 (batch,), if the records have them."""
        inputs = self.collate(encoded, length)
        labels = encoded["target_ids"].to_tensor(shape=[None, length])
        return (inputs, labels, encoded["weight"]) if "weight" in encoded else (inputs, labels)

    def targets(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """The references, objects (records,)."""
        if "reference" not in columns:
            raise DataError("the records have no references; name the column that has them")
        return np.asarray(columns["reference"], object)

    def detokenize(self, ids: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
        """Target ids as texts, string (batch,); UTF-8 whatever the ids.

        Args:
            ids: int32 (batch, length).
            lengths: how many ids of each row count, int32 (batch,); PAD, START and END are of no
                text anyway.
        """
        return self._target.detokenize(tf.RaggedTensor.from_tensor(ids, lengths=lengths))

    def too_long(self, columns: Mapping[str, np.ndarray]) -> np.ndarray:
        """Which records lose pieces of a side to the greatest length: bool (records,)."""
        limits = {"text": self.max_source_length, "reference": self.max_target_length}
        long = np.zeros(len(columns["text"]), bool)
        for name, limit in limits.items():
            if name not in columns:
                continue
            tokenizer = self._source if name == "text" else self._target
            # A text has no more pieces than bytes, beside a blank before it and END.
            texts = columns[name]
            some = [row for row, text in enumerate(texts) if tokenizer.size(text) > limit - 2]
            for rows in np.array_split(some, max(len(some) // 4096, 1)):
                if len(rows):
                    ids = tokenizer.tokenize(tf.constant(texts[rows]))
                    long[rows] |= (ids.row_lengths() > limit).numpy()
        return long

    def tally(self, columns: Mapping[str, np.ndarray]) -> dict[str, int]:
        what = "pairs truncated" if "reference" in columns else "texts cut"
        return {what: int(np.count_nonzero(self.too_long(columns)))}

    def pieces(self, text: str, side: Side = "source") -> list[str]:
        """The pieces that a text is encoded as, END included, for people to read; not for a
        graph."""
        vocabulary = self.source_vocabulary if side == "source" else self.target_vocabulary
        return [vocabulary[index] for index in self._ids(tf.constant([text]), side)[0].numpy()]

    def state(self) -> tuple[dict[str, Any], dict[str, Sequence[str] | bytes]]:
        arguments = {
            "max_source_length": self.max_source_length,
            "max_target_length": self.max_target_length,
            "lowercase": self.lowercase,
            "source_normalization": self.source_normalization,
            "target_normalization": self.target_normalization,
        }
        return arguments, dict(self._models)

    def save(self, folder: Path) -> None:
        """Writes what `load` reads, and the pieces, one a line, for people to read."""
        super().save(folder)
        if self.joint:
            write_lines(folder / "vocabulary.txt", self.source_vocabulary)
        else:
            write_lines(folder / "source_vocabulary.txt", self.source_vocabulary)
            write_lines(folder / "target_vocabulary.txt", self.target_vocabulary)

    def _ids(self, texts: tf.Tensor, side: Side) -> tf.RaggedTensor:
        """Ragged int32 (batch, None), each row with END at its end, also where it was cut."""
        source = side == "source"
        ids = (self._source if source else self._target).tokenize(texts)
        ids = ids[:, : self.max_source_length if source else self.max_target_length]
        last = ids.row_limits()[:, tf.newaxis] - 1
        ends = tf.fill(tf.shape(last)[:1], END)
        return ids.with_flat_values(tf.tensor_scatter_nd_update(ids.flat_values, last, ends))


class SentencePieceTokenizer(tf_text.SentencepieceTokenizer):
    """TensorFlow Text's tokenizer to int32 ids, with a `_Model`.

    Its faster `FastSentencepieceTokenizer` has neither BPE nor pieces for bytes.
    """

    def __init__(self, model: bytes, add_eos: bool) -> None:
        with tf.Graph().as_default():  # never run: a second model of 250,000 pieces takes seconds
            super().__init__(model, out_type=tf.int32, add_eos=add_eos)
        self._model_resource = _Model(model)


class RuledTokenizer(SentencePieceTokenizer):
    """To ids with END, of texts as a rule has them; by no rule, as the model itself has."""

    def __init__(self, model: bytes, rule: Rule | None, lowercase: bool) -> None:
        super().__init__(model if rule is None else _ruled(model, rule), add_eos=True)
        self._rule, self._lowercase = rule, lowercase

    def size(self, text: str) -> int:
        """How many bytes a text has at most, once it is what the rule makes of it."""
        if self._rule != "identity" and not text.isascii():
            text = unicodedata.normalize("NFC" if self._rule == "nfc" else "NFKC", text)
        return len(text.encode())

    def tokenize(self, texts: tf.Tensor) -> tf.RaggedTensor:
        if self._lowercase:
            texts = tf.strings.lower(texts, encoding="utf-8")
        if self._rule is not None:
            texts = tf.strings.regex_replace(texts, _BLANK, _STAND_IN)
        if self._rule == "identity":
            # SentencePiece would take the blank that it puts before a text, and all others there.
            texts = tf.strings.regex_replace(texts, r"^(?s:(.))", r" \1")
        elif self._rule is not None:
            texts = tf.strings.strip(texts)
        if self._rule == "nfc":
            texts = tf_text.normalize_utf8(texts, "NFC")
        return super().tokenize(texts)

    def detokenize(self, ids: tf.RaggedTensor) -> tf.Tensor:
        texts = super().detokenize(ids)
        if self._rule is not None:
            texts = tf.strings.regex_replace(texts, _STAND_IN, _BLANK)
        if self._rule == "identity":
            texts = tf.strings.regex_replace(texts, "^ ", "")
        return texts


class _Model(tf.saved_model.experimental.TrackableResource):
    """A SentencePiece model in TensorFlow's memory, shared by all that have the same one.

    TensorFlow Text's own belongs to the op that made it, and goes when TensorFlow drops its
    kernels, as it does when a random seed is set. And of two that a SavedModel has, Python would
    make one, since they have one name.
    """

    def __init__(self, model: bytes) -> None:
        super().__init__()
        self._model = model
        self._shared_name = f"subwords-{hashlib.sha256(model).hexdigest()}"
        _ = self.resource_handle  # which makes it

    def _create_resource(self) -> tf.Tensor:
        create = gen_sentencepiece_tokenizer.sentencepiece_op
        return create(model=self._model, shared_name=self._shared_name)


def learn_subwords(
    texts: Iterable[str],
    size: int,
    *,
    kind: Kind = "unigram",
    byte_fallback: bool = True,
    user_symbols: Sequence[str] = (),
    character_coverage: float | None = None,
    lowercase: bool = False,
) -> bytes:
    """A SentencePiece model (Kudo & Richardson 2018) of exactly `size` pieces, serialized, that
    takes texts as they are.

    The same texts give the same model. Of more than five million texts that many are drawn.

    Args:
        texts: what to learn from, read once; those of more than 64 KiB are left out.
        size: pieces, with the four special ones and, for `byte_fallback`, 256 bytes.
        kind: `unigram` (Kudo 2018) or `bpe` (Sennrich et al. 2016).
        byte_fallback: spell characters that are not among the pieces as bytes of UTF-8, so that
            none is unknown. Otherwise tabs and line breaks are pieces, as `user_symbols` are.
        user_symbols: texts that are one piece each, whatever is around them; lower-cased as texts
            are. Empty ones are none.
        character_coverage: the share of all characters to have pieces for; the rarest others have
            none. By default 0.9995, or 1 without `byte_fallback`.
        lowercase: lower-case first, as the preprocessor then does.

    Raises:
        DataError: there is no text, the data can't fill `size`, or needs more, or a symbol can't be
            one.
    """
    model = BytesIO()
    given = (s.lower() if lowercase else s for s in user_symbols if s.strip())
    symbols = dict.fromkeys(symbol.replace(_BLANK, _STAND_IN) for symbol in given)
    if not byte_fallback:
        symbols |= dict.fromkeys("\t\n")
    read = _Read(texts, lowercase)
    if character_coverage is None:
        character_coverage = 0.9995 if byte_fallback else 1.0
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(read),
            model_writer=model,
            vocab_size=max(size, END + 1),  # with less, it does not say how many are needed
            model_type=kind,
            byte_fallback=byte_fallback,
            user_defined_symbols=list(symbols),
            character_coverage=character_coverage,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            pad_id=PAD,
            unk_id=UNKNOWN,
            bos_id=START,
            eos_id=END,
            max_sentence_length=_LONGEST,
            input_sentence_size=_TEXTS,
            shuffle_input_sentence=True,
            minloglevel=2,
        )
    except RuntimeError as error:
        if read.error:  # of which SentencePiece makes one of its own
            raise read.error from None
        raise (_explained(str(error), size) or error) from None
    return model.getvalue()


def normalized(texts: Iterable[str], rule: Rule) -> Iterator[str]:
    """Texts as a rule has them.

    Args:
        rule: `identity` leaves all as it is. The others leave one blank of several, and none at the
            ends. `nfc` writes what Unicode holds for the same character in the same way, such as é
            that may be one code point or two. `nfkc` writes what is much the same alike, too: ² as
            2, full-width forms as usual ones. `nmt_nfkc`, which is SentencePiece's own, makes
            blanks of tabs, line breaks and zero-width characters as well.
    """
    if rule == "identity":
        yield from texts
        return
    normalizer = sentencepiece.SentencePieceNormalizer(
        rule_name=_named(rule),
        add_dummy_prefix=False,
        escape_whitespaces=False,
        remove_extra_whitespaces=True,
    )
    for text in texts:
        text = unicodedata.normalize("NFC", text) if rule == "nfc" else text
        yield normalizer.normalize(text.replace(_BLANK, _STAND_IN)).replace(_STAND_IN, _BLANK)


def _ruled(model: bytes, rule: Rule) -> bytes:
    """The same SentencePiece model with other rules of what texts become first."""
    normalizer = sentencepiece.SentencePieceNormalizer(
        rule_name=_named(rule),
        add_dummy_prefix=rule != "identity",  # see `RuledTokenizer.tokenize`
        escape_whitespaces=True,
        remove_extra_whitespaces=rule != "identity",
    )
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)  # type: ignore[attr-defined]
    proto.normalizer_spec.ParseFromString(normalizer.serialized_normalizer_spec())
    return proto.SerializeToString(deterministic=True)


def _named(rule: Rule) -> str:
    """SentencePiece's name of a rule; NFC, which it has none for, is TensorFlow Text's to do."""
    return "identity" if rule == "nfc" else rule


class _Read:
    """Texts as they are read, and what went wrong with it."""

    def __init__(self, texts: Iterable[str], lowercase: bool) -> None:
        self._texts, self._lowercase = texts, lowercase
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[str]:
        try:
            for text in self._texts:
                text = text.replace(_BLANK, _STAND_IN)
                parts = _BREAKS.split(text.lower() if self._lowercase else text)
                yield from (part for part in parts if part and not part.isspace())
        except Exception as error:
            self.error = error
            raise


def _explained(reason: str, size: int) -> DataError | None:
    """What to do about SentencePiece's refusal, if it is the data's fault."""
    asked = f"--model.vocabulary_size {size}"
    if "sentences_.empty()" in reason or "all_chars_count" in reason:
        return DataError("there is no text to learn a vocabulary from; give data that has some")
    if found := re.search(r"too high .* <= (\d+)", reason):
        return DataError(
            f"{asked}: the data can fill {found[1]} pieces; give {found[1]} at most, or more data"
        )
    if found := re.search(r"smaller than required_chars\. \d+ vs (\d+)", reason):
        return DataError(
            f"{asked}: the data's characters and the special pieces alone are {found[1]}; give more"
        )
    if found := re.search(r"(\S+) (?:must not be defined with|is already defined)", reason):
        return DataError(
            f"the symbol {found[1]} is one that every vocabulary has; name another with "
            "--model.user_symbols or --data.back_translation_tag"
        )
    return None


def _pieces(model: bytes) -> tuple[str, ...]:
    """A SentencePiece model's pieces; the position of each is its id."""
    try:
        processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    except RuntimeError:
        raise DataError("not a SentencePiece model; give one as spm_train writes it") from None
    ids = (processor.pad_id(), processor.unk_id(), processor.bos_id(), processor.eos_id())
    if ids != (PAD, UNKNOWN, START, END):
        raise DataError(
            f"a SentencePiece model has the ids {ids} for padding, unknown, start and end; make it "
            f"with {PAD}, {UNKNOWN}, {START}, {END}"
        )
    return tuple(processor.id_to_piece(list(range(processor.get_piece_size()))))
