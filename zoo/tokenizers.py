"""Tokenizers as Hugging Face saves them, as far as a graph of TensorFlow's ops can do what they do.

    tokenizer = read_tokenizer(folder, preset)      # a Vocabulary, or Subwords

A BERT's own WordPiece, and XLM-R's SentencePiece, which multilingual BERTs have. Any other is
refused, and every setting that would change tokens is looked at.
"""

import base64
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo import downloads
from zoo.errors import PresetError

VOCABULARIES = ("vocab.txt", "tokenizer.json", "sentencepiece.bpe.model")

_SENTENCEPIECE = "sentencepiece.bpe.model"
_BERT_CLASSES = ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MobileBertTokenizer")
_XLM_R = "XLMRobertaTokenizer"
_GENERAL_CLASSES = ("PreTrainedTokenizer", "TokenizersBackend")  # all is in tokenizer.json
_MOST_CHARACTERS = 999  # that a regular expression of TensorFlow's can count
_SPECIAL = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
_BERT_TEMPLATE = ("[CLS]", "[SEP]", 1, 1)
_XLM_R_TEMPLATE = ("<s>", "</s>", 2, 0)


@dataclass(frozen=True)
class AddedToken:
    """A token that was added to a vocabulary, to be found in texts before they are split.

    With `normalized` it is sought in the normalized text, itself normalized, else in the text as it
    is; with `single_word` only where no letter or digit is beside it.
    """

    content: str
    id: int
    normalized: bool = True
    single_word: bool = False


@dataclass(frozen=True)
class Vocabulary:
    """WordPiece tokens, each at the position that is its id, and how texts are made ready for them.

    `[PAD]`, `[UNK]`, `[CLS]` and `[SEP]` are among them. Of a token that is there twice the last
    position counts. Added tokens are not among them, but may have ids of theirs.
    """

    tokens: tuple[str, ...]
    lowercase: bool
    strip_accents: bool | None = None  # None: if lowercase
    added: tuple[AddedToken, ...] = ()
    longest_word: int = 100  # characters; a longer word is unknown


@dataclass(frozen=True)
class Subwords:
    """A SentencePiece model whose pieces are at the positions that are their ids.

    Texts are put together as START first END second END, with `separators` times END between the
    two, whose segment is `second_segment`.
    """

    model: bytes
    tokens: tuple[str, ...]
    added: tuple[AddedToken, ...] = ()
    start: str = "<s>"
    end: str = "</s>"
    padding: str = "<pad>"
    separators: int = 2
    second_segment: int = 0


def read_tokenizer(folder: Path, preset: str) -> Vocabulary | Subwords:
    """The tokenizer in a folder of Hugging Face's format.

    Raises:
        PresetError: it is damaged, or one that a graph can't do.
    """
    tokenizer = downloads.read_json(folder / "tokenizer.json", preset)
    config = downloads.read_json(folder / "tokenizer_config.json", preset)
    if not config.get("tokenizer_class"):
        model = downloads.read_json(folder / "config.json", preset)
        config["tokenizer_class"] = model.get("tokenizer_class")
    files = _Files(folder, preset, tokenizer, config)
    try:
        return _read(files)
    except PresetError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise PresetError(
            f"{preset}: the tokenizer's files are damaged ({type(error).__name__} "
            f"{downloads.one_line(error)}); copy the whole folder again"
        ) from error


def _read(files: "_Files") -> Vocabulary | Subwords:
    files.check_settings()
    kind = files.tokenizer.get("model", {}).get("type")
    if kind is None:
        kind = "Unigram" if files.wants_sentencepiece() else "WordPiece"
    if kind not in ("WordPiece", "Unigram"):
        raise PresetError(
            f"{files.preset}: tokenizer.json is of type {kind}; only WordPiece and Unigram can be "
            "loaded; choose another preset"
        )
    return _wordpiece(files) if kind == "WordPiece" else _unigram(files)


@dataclass(frozen=True)
class _Files:
    """A tokenizer's folder and what its JSON files hold."""

    folder: Path
    preset: str
    tokenizer: dict[str, Any]
    config: dict[str, Any]

    def refuse(self, reason: str) -> PresetError:
        return PresetError(
            f"{self.preset}: {reason}, which can't be done in the graph; choose another preset"
        )

    @property
    def kind(self) -> str:
        """The tokenizer's class, without what tells faster ones apart; nothing if it has none."""
        return (self.config.get("tokenizer_class") or "").removesuffix("Fast")

    @property
    def general(self) -> bool:
        """Whether tokenizer.json alone says what is done to texts."""
        return bool(self.tokenizer) and self.kind in _GENERAL_CLASSES

    def check_settings(self) -> None:
        """Raises PresetError at what plain tokenizers don't have."""
        if self.kind and self.kind not in (*_BERT_CLASSES, *_GENERAL_CLASSES, _XLM_R):
            raise self.refuse(f"its tokenizer is a {self.config['tokenizer_class']}")
        if not self.kind and "AutoTokenizer" in (self.config.get("auto_map") or {}):
            raise self.refuse("its tokenizer is code of its own (auto_map)")
        for option in ("word_tokenizer_type", "subword_tokenizer_type"):
            if (value := self.config.get(option)) not in (None, "basic", "wordpiece"):
                raise self.refuse(f"tokenizer_config.json asks for {option} {value}")
        if self.config.get("do_basic_tokenize") is False and not self.tokenizer:
            raise self.refuse("tokenizer_config.json says do_basic_tokenize false")
        if kept := self.config.get("never_split"):
            known = self.special() | {token.content for token in self.added()}
            if unknown := [token for token in kept if token not in known]:
                raise PresetError(
                    f"{self.preset}: tokenizer_config.json has {unknown[0]} under never_split; add "
                    "it with the tokenizer's add_tokens and save that, or take never_split out"
                )

    def wants_sentencepiece(self) -> bool:
        """Whether, without tokenizer.json, there is a SentencePiece model to take."""
        if self.kind == _XLM_R and not (self.folder / _SENTENCEPIECE).is_file():
            raise PresetError(
                f"{self.preset}: its tokenizer is a {self.config['tokenizer_class']}, but there is "
                f"neither tokenizer.json nor {_SENTENCEPIECE}; copy the whole folder"
            )
        return self.kind == _XLM_R or not (self.folder / "vocab.txt").is_file()

    def special(self) -> set[str]:
        """The special tokens that every text or batch needs, by what they are."""
        names = {*_SPECIAL.values(), "<s>", "</s>", "<pad>", "<unk>", "<mask>"}
        for what in (*_SPECIAL, "bos", "eos"):
            if token := self.config.get(f"{what}_token"):
                names.add(token["content"] if isinstance(token, dict) else token)
        return names

    def added(self) -> tuple[AddedToken, ...]:
        """All tokens that were added but the special ones, by id."""
        found: dict[int, dict[str, Any]] = {}
        special = self._added_special()
        for content, position in downloads.read_json(
            self.folder / "added_tokens.json", self.preset
        ).items():
            found[position] = {"content": content, "special": content in special}
        for position, token in (self.config.get("added_tokens_decoder") or {}).items():
            found[int(position)] = token
        for token in self.tokenizer.get("added_tokens") or ():
            found[token["id"]] = token
        special_tokens = self.special()
        return tuple(
            AddedToken(
                token["content"],
                position,
                token.get("normalized", not token.get("special", False)),
                token.get("single_word", False),
            )
            for position, token in sorted(found.items())
            if token["content"] and token["content"] not in special_tokens
        )

    def _added_special(self) -> set[str]:
        """Which of the added tokens are special, where files do not hold each one's flags."""
        places = (
            self.config,
            downloads.read_json(self.folder / "special_tokens_map.json", self.preset),
        )
        names = ("additional_special_tokens", "extra_special_tokens")
        tokens: list[Any] = [
            token
            for place in places
            for name in names
            if isinstance(place.get(name), list)
            for token in place[name]
        ]
        return {token["content"] if isinstance(token, dict) else token for token in tokens}

    def template(self, default: tuple[str, str, int, int]) -> tuple[str, str, int, int]:
        """The tokens before and after a text, how many are between two, the second's segment."""
        processor = self.tokenizer.get("post_processor")
        if processor is None:
            if self.general:
                raise self.refuse("tokenizer.json puts no special tokens around texts")
            return default
        if processor["type"] in ("BertProcessing", "RobertaProcessing"):
            roberta = processor["type"] == "RobertaProcessing"
            return processor["cls"][0], processor["sep"][0], 1 + roberta, 1 - roberta
        found = _templated(processor) if processor["type"] == "TemplateProcessing" else None
        if found is None:
            raise self.refuse("tokenizer.json puts texts together in another way")
        return found


def _templated(processor: dict[str, Any]) -> tuple[str, str, int, int] | None:
    """What a template comes to, if it is START first END (END) second END."""
    single, pair = (
        [
            (part["SpecialToken"]["id"], part["SpecialToken"]["type_id"])
            if "SpecialToken" in part
            else (None, part["Sequence"]["type_id"])
            for part in processor[name]
        ]
        for name in ("single", "pair")
    )
    if len(single) != 3 or single[0][0] is None or single[1][0] or single[2][0] is None:
        return None
    start, end, second = single[0][0], single[2][0], pair[-1][1]
    for separators in (1, 2):
        between = [(end, 0)] + [(end, pair[-3][1])] * (separators - 1)
        if pair == [(start, 0), (None, 0), *between, (None, second), (end, second)]:
            return start, end, separators, second
    return None


def _wordpiece(files: _Files) -> Vocabulary:
    preset, tokenizer = files.preset, files.tokenizer
    model, options = tokenizer.get("model", {}), _bert_options(files)
    if (prefix := model.get("continuing_subword_prefix", "##")) != "##":
        raise files.refuse(f"tokenizer.json has continuing_subword_prefix {prefix!r}")
    if files.template(_BERT_TEMPLATE) != _BERT_TEMPLATE:
        raise files.refuse("tokenizer.json puts texts together in another way than BERT")
    file = files.folder / "vocab.txt"
    tokens = read_lines(file, preset) if file.is_file() else _word_pieces(model, preset)
    lowercase = options.get("lowercase")
    return Vocabulary(
        tokens=tokens,
        lowercase=looks_uncased(tokens) if lowercase is None else bool(lowercase),
        strip_accents=options.get("strip_accents"),
        added=files.added(),
        longest_word=min(model.get("max_input_chars_per_word", 100), _MOST_CHARACTERS),
    )


def _bert_options(files: _Files) -> dict[str, Any]:
    """What is done to texts first; unless tokenizer.json alone counts, `tokenizer_config.json` has
    the last word in Hugging Face."""
    normalizer, splitter = (
        _only(files.tokenizer.get(name), "normalizers", "pretokenizers")
        for name in ("normalizer", "pre_tokenizer")
    )
    if files.tokenizer:
        for name, part, kind in (
            ("normalizer", normalizer, "BertNormalizer"),
            ("pre_tokenizer", splitter, "BertPreTokenizer"),
        ):
            found = part.get("type", kind) if part else "null"
            if found != kind:
                raise files.refuse(f"tokenizer.json has the {name} {found}, not {kind}")
        if normalizer.get("clean_text") is False:
            raise files.refuse("its tokenizer keeps control characters")
    config = {} if files.general else files.config
    options = {
        ours: config.get(theirs, normalizer.get(other))
        for ours, theirs, other in (
            ("lowercase", "do_lower_case", "lowercase"),
            ("strip_accents", "strip_accents", "strip_accents"),
            ("split_on_cjk", "tokenize_chinese_chars", "handle_chinese_chars"),
        )
    }
    if options["split_on_cjk"] is False:
        raise files.refuse("its tokenizer keeps Chinese characters together")
    return options


def _unigram(files: _Files) -> Subwords:
    proto = _proto_of(files) if files.tokenizer else _proto_in_fairseq_order(files)
    tokens = tuple(piece.piece for piece in proto.pieces)
    start, end, separators, second_segment = files.template(_XLM_R_TEMPLATE)
    padding = files.config.get("pad_token") or "<pad>"
    padding = padding["content"] if isinstance(padding, dict) else padding
    if absent := [token for token in (start, end, padding) if token not in tokens]:
        raise PresetError(f"{files.preset}: the vocabulary lacks {', '.join(absent)}")
    return Subwords(
        proto.SerializeToString(deterministic=True),
        tokens,
        files.added(),
        start,
        end,
        padding,
        separators,
        second_segment,
    )


def _proto_of(files: _Files) -> Any:
    """The SentencePiece model that does what a tokenizer.json of type Unigram says."""
    pb = _protobuf()
    model = files.tokenizer["model"]
    _check_splitter(files)
    proto = pb.ModelProto()
    proto.trainer_spec.model_type = pb.TrainerSpec.UNIGRAM
    proto.trainer_spec.byte_fallback = bool(model.get("byte_fallback"))
    proto.normalizer_spec.name = "precompiled"
    proto.normalizer_spec.precompiled_charsmap = _charsmap(files)
    unknown, special = model.get("unk_id"), files.special()
    if unknown is None or not model.get("vocab"):
        raise PresetError(f"{files.preset}: tokenizer.json has no vocabulary; copy it again")
    types = pb.ModelProto.SentencePiece
    for position, (token, score) in enumerate(model["vocab"]):
        kind = types.NORMAL
        if position == unknown:
            kind = types.UNKNOWN
        elif token in special:
            kind = types.CONTROL
        elif proto.trainer_spec.byte_fallback and len(token) == 6 and token.startswith("<0x"):
            kind = types.BYTE
        proto.pieces.add(piece=token, score=score, type=kind)
    return _with_ids(proto, unknown)


def _proto_in_fairseq_order(files: _Files) -> Any:
    """XLM-R's SentencePiece model, its pieces where the weights have them: fairseq put four special
    tokens before all and a mask behind."""
    from google.protobuf.message import DecodeError

    pb = _protobuf()
    file, proto, types = files.folder / _SENTENCEPIECE, pb.ModelProto(), pb.ModelProto.SentencePiece
    try:
        proto.ParseFromString(file.read_bytes())
    except (DecodeError, OSError) as error:
        raise PresetError(
            f"{files.preset}: can't read {file.name} ({downloads.one_line(error)}); copy it again"
        ) from None
    pieces = list(proto.pieces)
    if [piece.piece for piece in pieces[:3]] != ["<unk>", "<s>", "</s>"]:
        raise PresetError(
            f"{files.preset}: {file.name} does not begin with <unk>, <s> and </s> as XLM-R's; add "
            "tokenizer.json, as transformers' save_pretrained writes it"
        )
    del proto.pieces[:]
    for token in ("<s>", "<pad>", "</s>", "<unk>"):
        kind = types.UNKNOWN if token == "<unk>" else types.CONTROL
        proto.pieces.add(piece=token, score=0.0, type=kind)
    proto.pieces.extend(pieces[3:])
    proto.pieces.add(piece="<mask>", score=0.0, type=types.CONTROL)
    return _with_ids(proto, 3)


def _protobuf() -> Any:
    from sentencepiece import sentencepiece_model_pb2

    return sentencepiece_model_pb2


def _with_ids(proto: Any, unknown: int) -> Any:
    """The model with its special ids where its pieces are; those that are not there have none."""
    proto.trainer_spec.unk_id = unknown
    proto.trainer_spec.vocab_size = len(proto.pieces)
    for name in ("bos", "eos", "pad"):
        setattr(proto.trainer_spec, f"{name}_id", -1)
    return proto


def _check_splitter(files: _Files) -> None:
    """Raises PresetError unless words are split at blanks and begin with one, as in XLM-R."""
    splitter = files.tokenizer.get("pre_tokenizer") or {}
    parts = splitter.get("pretokenizers", [splitter])
    kinds = [part.get("type", "null") for part in parts]
    space = parts[-1]
    usual = (
        kinds[-1] == "Metaspace"
        and set(kinds[:-1]) <= {"WhitespaceSplit"}
        and space.get("replacement", "▁") == "▁"
        and space.get("prepend_scheme", "always") == "always"
        and space.get("add_prefix_space", True)
    )
    if not usual:
        raise files.refuse(
            f"tokenizer.json has the pre_tokenizer {', '.join(kinds)}, not XLM-R's Metaspace"
        )


def _charsmap(files: _Files) -> bytes:
    """SentencePiece's rules of normalization, as tokenizer.json has them."""
    normalizer = files.tokenizer.get("normalizer")
    rules = b""
    for part in _parts(normalizer, "normalizers"):
        if part["type"] == "Precompiled" and not rules:
            rules = base64.b64decode(part["precompiled_charsmap"])
        elif part["type"] == "Replace" and part["pattern"] == {"Regex": " {2,}"}:
            continue  # SentencePiece does so by itself
        elif part["type"] != "Strip":
            raise files.refuse(f"tokenizer.json has the normalizer {part['type']}")
    return rules


def _parts(part: dict[str, Any] | None, *lists: str) -> Iterable[dict[str, Any]]:
    """What a sequence of normalizers or the like consists of, or the one there is."""
    for name in lists:
        if part and name in part:
            return part[name]
    return [part] if part else []


def _only(part: dict[str, Any] | None, *lists: str) -> dict[str, Any]:
    """The one part of a sequence of one, or a part alone; a longer sequence itself."""
    parts = list(_parts(part, *lists))
    return parts[0] if len(parts) == 1 else part or {}


def read_lines(path: Path, preset: str) -> tuple[str, ...]:
    """The lines of a vocabulary's file."""
    try:
        # Not splitlines(): a vocabulary may hold U+2028 and other characters that it splits at.
        return tuple(path.read_text("utf-8").removesuffix("\n").split("\n"))
    except (ValueError, OSError) as error:
        raise PresetError(f"{preset}: can't read {path.name} ({error}); copy it again") from error


def _word_pieces(model: dict[str, Any], preset: str) -> tuple[str, ...]:
    """The tokens of a WordPiece model in a `tokenizer.json`; ids that none has get names."""
    vocabulary = model.get("vocab") or {}
    tokens = {position: token for token, position in vocabulary.items()}
    if not tokens or len(tokens) < len(vocabulary) or min(tokens) < 0:
        raise PresetError(
            f"{preset}: tokenizer.json holds no WordPiece vocabulary; add the model's vocab.txt"
        )
    return tuple(
        tokens.get(position, f"[no token {position}]") for position in range(max(tokens) + 1)
    )


def looks_uncased(tokens: tuple[str, ...]) -> bool:
    """Whether no token but the special ones, which stand in brackets, has a capital letter."""
    return not any(token != token.lower() for token in tokens if not token.startswith("["))
