"""What each zoo model is made from: frozen dataclasses, importable without TensorFlow."""

from dataclasses import dataclass, field
from typing import Literal

from zoo.errors import PresetError

CNNS = ("simple", "airbench", "resnet18", "resnet50")  # nets with random weights

BertSize = Literal["tiny", "mini", "small", "medium", "base", "large"]


@dataclass(frozen=True)
class BertClassifierConfig:
    """A BERT encoder with a classification head (Devlin et al. 2018, section 4.1)."""

    preset: str | None = None
    """Pretrained weights to start from: `minilm` (the default when no size is given), a folder in
    Hugging Face or KerasHub format, a KerasHub preset name, or `hf://OWNER/NAME`."""

    size: BertSize | None = None
    """Train from scratch at this size instead of from a preset; the vocabulary is learned from the
    training texts."""

    vocabulary: str | None = None
    """A WordPiece vocabulary file (one token a line) for training from scratch."""

    vocabulary_size: int = 8000
    """Tokens to learn when there is neither a preset nor a vocabulary file."""

    lowercase: bool | None = None
    """Lower-case and strip accents; by default as the preset does, and true from scratch."""

    max_length: int = 128
    """Longest input in tokens, [CLS] and [SEP] included; longer texts are cut."""

    special_tokens: bool = False
    """Read [SEP], [MASK] and their like in a text as these tokens, as Hugging Face's tokenizers do;
    by default they are plain text, so that nobody's text can forge them. What was added to a
    preset's tokenizer, such as [E1], is always read."""

    pooling: Literal["cls", "mean", "max"] = "mean"
    """How the token vectors become one: the [CLS] token's, or the mean or maximum over tokens."""

    dropout: float = 0.1
    """Share of the pooled features dropped in training, 0 to 1."""

    encoder_dropout: float | None = None
    """Dropout inside the encoder, 0 to 1; by default the preset's own, and 0.1 from scratch."""

    def __post_init__(self) -> None:
        if self.preset and self.size:
            raise PresetError(
                f"preset {self.preset} and size {self.size}: a preset has its own size; give one"
            )
        if self.vocabulary and not self.size:
            raise PresetError(
                f"vocabulary {self.vocabulary}: a preset has its own; give a size to train from "
                "scratch with this one"
            )
        if self.vocabulary_size < 100:
            raise PresetError(f"vocabulary_size {self.vocabulary_size}: must be at least 100")
        if not 3 <= self.max_length <= 512:
            raise PresetError(f"max_length {self.max_length}: must be from 3 to 512")
        for name in ("dropout", "encoder_dropout"):
            if not 0 <= (getattr(self, name) or 0) < 1:
                raise PresetError(f"{name} {getattr(self, name)}: must be from 0 to below 1")

    @property
    def start(self) -> str | None:
        """The preset to start from, or None to start from random weights."""
        return self.preset or (None if self.size else "minilm")

    @property
    def origin(self) -> str:
        """What training starts from, in words."""
        return f"the preset {self.start}" if self.start else f"random weights, size {self.size}"


@dataclass(frozen=True)
class CnnConfig:
    """A convolutional image classifier."""

    preset: str = "simple"
    """From random weights: `simple`, a small net after LeNet for pictures of up to 64 pixels;
    `airbench`, the fast CIFAR-10 net of Jordan 2024 (arXiv 2404.00498); `resnet18` or `resnet50`.
    From pretrained weights: a ResNet of KerasHub such as resnet_50_imagenet, a folder in KerasHub's
    or timm's format, or `hf://OWNER/NAME` such as hf://timm/resnet18.a1_in1k; its head is replaced.
    Each comes with its recipe as the defaults of --train.* and --data.*."""

    widths: list[int] | None = None
    """Channels of the three blocks of simple (by default 32, 64, 128) or airbench (64, 256,
    256)."""

    height: int | None = None
    """Height that pictures are resized to, in pixels; by default 224 for a pretrained net, else the
    data's own if all are of one size of at most 96, else 224 (64 for simple, 32 for airbench)."""

    width: int | None = None
    """Width that pictures are resized to, in pixels."""

    channels: Literal[1, 3] | None = None
    """1 for grey, 3 for colour; by default grey only if all training pictures are, and never for a
    pretrained net."""

    resize: Literal["crop", "pad", "stretch"] = "crop"
    """How pictures of another shape are made to fit: cut what is too long, fill up what is too
    short with black, or distort."""

    dropout: float = 0.0
    """Share of the features dropped before the classifier in training, 0 to 1."""

    views: Literal["one", "mirror", "translate"] | None = None
    """What is averaged for an answer, in evaluation and in the export: the picture as it is, it and
    its mirror image (2 times the work), or these and both moved by a pixel each way (6 times); by
    default `translate` for airbench, else `one`."""

    synchronize_norms: bool = False
    """Under several replicas, have batch norms of simple and airbench take their mean and variance
    over the whole batch, as on one, instead of each over its own part; slower, worth it where parts
    are small."""

    def __post_init__(self) -> None:
        if not self.preset:
            raise PresetError(f"preset is empty; give {', '.join(CNNS)}, or a pretrained one")
        if self.widths is not None and self.preset not in ("simple", "airbench"):
            raise PresetError(f"widths {self.widths}: those of {self.preset} can't be changed")
        if self.widths is not None and (len(self.widths) != 3 or min(self.widths) < 1):
            raise PresetError(f"widths {self.widths}: give three numbers of channels")
        if self.synchronize_norms and self.preset not in ("simple", "airbench"):
            raise PresetError(
                f"synchronize_norms: those of {self.preset} can't be; leave it out, or give the "
                "preset simple or airbench"
            )
        if self.start and self.channels == 1:
            raise PresetError(f"channels 1: {self.preset} was trained on colour; leave it out")
        for name in ("height", "width"):
            if not 8 <= (getattr(self, name) or 8) <= 1024:
                raise PresetError(f"{name} {getattr(self, name)}: must be from 8 to 1024 pixels")
        if not 0 <= self.dropout < 1:
            raise PresetError(f"dropout {self.dropout}: must be from 0 to below 1")

    @property
    def start(self) -> str | None:
        """The pretrained weights to start from, or None to start from random ones."""
        return None if self.preset in CNNS else self.preset

    @property
    def origin(self) -> str:
        """What training starts from, in words."""
        return f"the preset {self.start}" if self.start else f"random weights, {self.preset}"


@dataclass(frozen=True)
class RecurrentConfig:
    """A stack of recurrent layers."""

    cell: Literal["lstm", "gru"] = "lstm"
    """LSTM (Hochreiter & Schmidhuber 1997) or GRU (Cho et al. 2014)."""

    layers: int = 2
    """Recurrent layers, one on top of another."""

    units: int = 128
    """Width of each layer, and in each direction."""

    bidirectional: bool = False
    """Read sequences from both ends."""

    dropout: float = 0.0
    """Share of the values dropped between layers and before the head in training, 0 to 1."""

    input_dropout: float = 0.0
    """Share of the first layer's inputs dropped in training, the same ones at each step (Gal &
    Ghahramani 2016), 0 to 1."""

    recurrent_dropout: float = 0.0
    """Share of the state dropped from step to step in training, 0 to 1. It can't be had from
    cuDNN's kernel, nor from the fast one on a CPU."""

    residual: bool = False
    """Add each layer's input to its output, from the second layer on."""

    layer_norm: bool = False
    """Normalise each layer's output (Ba et al. 2016)."""

    pooling: Literal["last", "mean", "max", "attention"] = "last"
    """How the outputs of all steps become one: the last one's (in each direction), their mean or
    maximum, or a mean weighted by attention (Yang et al. 2016, equations 5 to 7)."""

    def __post_init__(self) -> None:
        if self.units < 1:
            raise PresetError(f"units {self.units}: must be at least 1")
        if self.layers < self._fewest_layers:
            raise PresetError(f"layers {self.layers}: must be at least {self._fewest_layers}")
        for name in ("dropout", "input_dropout", "recurrent_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise PresetError(f"{name} {getattr(self, name)}: must be from 0 to below 1")

    @property
    def _fewest_layers(self) -> int:
        return 1

    @property
    def many_small_ops(self) -> bool:
        """Whether training on a CPU is many small ops in a row, of which several can run at once:
        where the LSTM's own kernel is used."""
        return self.layers > 0 and self.cell == "lstm" and not self.recurrent_dropout

    @property
    def start(self) -> str | None:
        """Recurrent models start from random weights."""
        return None

    @property
    def origin(self) -> str:
        """What training starts from, in words."""
        return f"random weights, {self.layers} x {self.units} {self.cell}"


@dataclass(frozen=True)
class SequenceClassifierConfig(RecurrentConfig):
    """A recurrent classifier of token sequences or of sequences of numbers."""

    layers: int = 1
    """Recurrent layers, one on top of another."""

    bidirectional: bool = True
    """Read sequences from both ends."""

    dropout: float = 0.5
    """Share of the values dropped between layers and before the head in training, 0 to 1."""

    pooling: Literal["last", "mean", "max", "attention"] = "max"
    """How the outputs of all steps become one: the last one's (in each direction), their mean or
    maximum, or a mean weighted by attention (Yang et al. 2016, equations 5 to 7)."""

    tokens: Literal["word", "character", "byte", "wordpiece"] = "word"
    """What texts are cut into: words and punctuation, characters, bytes, or pieces of words that
    are learned from the training texts."""

    vocabulary_size: int = 20_000
    """Words, characters or pieces that are told apart, the most frequent ones."""

    embedding: int = 128
    """Width of the tokens' vectors."""

    embedding_dropout: float = 0.2
    """Share of the tokens' vectors dropped in training, the same numbers of each (Gal & Ghahramani
    2016), 0 to 1."""

    word_dropout: float = 0.1
    """Share of the tokens that training makes unknown, 0 to 1."""

    lowercase: bool = True
    """Lower-case texts."""

    max_length: int = 256
    """Longest sequence in steps; longer ones are cut at the end."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("vocabulary_size", "embedding", "max_length"):
            if getattr(self, name) < 1:
                raise PresetError(f"{name} {getattr(self, name)}: must be at least 1")
        for name in ("embedding_dropout", "word_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise PresetError(f"{name} {getattr(self, name)}: must be from 0 to below 1")


@dataclass(frozen=True)
class ForecasterConfig(RecurrentConfig):
    """A recurrent forecaster of all steps at once, beside a linear one."""

    window: int = 96
    """Steps of history that a forecast is made from."""

    horizon: int = 24
    """Steps that are forecast."""

    quantiles: list[float] = field(default_factory=lambda: [0.1, 0.9])
    """Quantiles that are forecast beside the mean, each between 0 and 1; [] for none."""

    calendar: bool = True
    """Tell the recurrent layers the time of day, week and year, as far as the training data have
    two of them; requests then have the time."""

    linear: bool = True
    """Add a linear forecast, DLinear (Zeng et al. 2023), so that the recurrent layers learn only
    what it can't; as in LSTNet (Lai et al. 2018, section 3.5)."""

    separate: bool = False
    """Let the recurrent layers read each target by itself, by the same weights for all, which learn
    from all of them (Nie et al. 2023, section 3.1); else all targets together."""

    reversible_norm: bool = False
    """Normalise each window by its own mean and deviation, and give them back to the forecast (Kim
    et al. 2022, without its affine map): for series that drift."""

    non_negative: bool = False
    """Answer 0 where a forecast, or a quantile of it, is below: for what can't be negative, such as
    counts and sales."""

    recurrent_steps: int | None = None
    """The latest steps of the window that the recurrent layers read; by default 96 of them at
    most."""

    units: int = 32
    """Width of each layer, and in each direction."""

    layers: int = 1
    """Recurrent layers, one on top of another; 0 for a linear forecast alone."""

    dropout: float = 0.5
    """Share of the values dropped between layers and before the head in training, 0 to 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("window", "horizon"):
            if getattr(self, name) < 1:
                raise PresetError(f"{name} {getattr(self, name)}: must be at least 1")
        if not (self.layers or self.linear):
            raise PresetError("layers 0 and linear false: nothing is left; give one of them")
        if not all(0 < q < 1 for q in self.quantiles) or self.quantiles != sorted(
            set(self.quantiles)
        ):
            raise PresetError(
                f"quantiles {self.quantiles}: must rise and be between 0 and 1, such as [0.1, 0.9]"
            )
        if self.recurrent_steps is not None and not 1 <= self.recurrent_steps <= self.window:
            raise PresetError(
                f"recurrent_steps {self.recurrent_steps}: must be from 1 to the window, "
                f"{self.window}"
            )

    @property
    def _fewest_layers(self) -> int:
        return 0


# Encoder layers, decoder layers, width, feed-forward width, heads. `base` and `big` are those of
# Vaswani et al. 2017, table 3; `tiny` that of Wu et al. 2021 for Multi30k; `deep_shallow` has
# base's parameters where they cost nothing at inference (Kasai et al. 2021, section 4).
TRANSLATORS = {
    "tiny": (4, 4, 128, 256, 4),
    "small": (6, 6, 256, 1024, 4),
    "base": (6, 6, 512, 2048, 8),
    "big": (6, 6, 1024, 4096, 16),
    "deep_shallow": (12, 1, 512, 2048, 8),
}


@dataclass(frozen=True)
class TranslatorConfig:
    """An encoder-decoder Transformer (Vaswani et al. 2017) with pre-norm layers."""

    size: Literal["tiny", "small", "base", "big", "deep_shallow"] = "tiny"
    """Layers and widths: tiny 4+4 x 128, small 6+6 x 256, base 6+6 x 512, big 6+6 x 1024;
    deep_shallow, 12+1 x 512, answers about twice as fast as base and as well. The five options
    below change one number of it each."""

    encoder_layers: int | None = None
    """Layers that read the source."""

    decoder_layers: int | None = None
    """Layers that write the translation; their time is paid at each token."""

    width: int | None = None
    """Width of the layers, a multiple of the heads."""

    inner: int | None = None
    """Width inside the feed-forward parts."""

    heads: int | None = None
    """Heads of attention."""

    positions: Literal["sinusoidal", "rotary"] = "sinusoidal"
    """How layers know the order of tokens: waves added to the first layer's input (Vaswani et al.
    2017, section 3.5), or queries and keys turned in each layer (Su et al. 2021)."""

    activation: Literal["relu", "gelu", "swiglu"] = "relu"
    """The nonlinearity of the feed-forward parts; swiglu (Shazeer 2020) has half more weights there
    at the same inner width."""

    dropout: float = 0.3
    """Share of what layers add that is dropped in training, 0 to 1; 0.1 suits large data."""

    attention_dropout: float = 0.0
    """Share of the attention weights dropped in training, 0 to 1."""

    activation_dropout: float = 0.0
    """Share of the values inside the feed-forward parts dropped in training, 0 to 1."""

    subwords: Literal["unigram", "bpe"] = "unigram"
    """How the vocabulary is learned from the training texts, by SentencePiece: a unigram language
    model (Kudo 2018) or byte-pair encoding (Sennrich et al. 2016)."""

    vocabulary_size: int = 8000
    """Subwords to learn, bytes and special tokens included."""

    joint: bool = True
    """One vocabulary and one embedding table for both languages, which suits languages of one
    script; else one a side, each of `vocabulary_size`."""

    byte_fallback: bool = True
    """Write characters that are not in the vocabulary as their bytes; else they are unknown."""

    user_symbols: list[str] = field(default_factory=list)
    """Texts that are always one token, such as tags that your data have."""

    lowercase: bool = False
    """Lower-case both sides; translations are then in lower case."""

    source_normalization: Literal["identity", "nfc", "nfkc", "nmt_nfkc"] = "nfc"
    """What texts to translate become before they are split into subwords. identity: they stay as
    they are; nfc: what Unicode holds for the same character is written in the same way, and several
    blanks as one; nfkc: what is much the same becomes alike, too, ² and 2, full-width and usual
    letters; nmt_nfkc: moreover tabs, line breaks and zero-width characters become blanks."""

    target_normalization: Literal["identity", "nfc", "nfkc", "nmt_nfkc"] = "identity"
    """The same of translations: by another rule than identity the model never learns to write what
    the rule replaces, such as the full-width comma of Chinese by nfkc."""

    max_length: int = 256
    """Longest side in subwords, the end included."""

    def __post_init__(self) -> None:
        for name in ("encoder_layers", "decoder_layers", "width", "inner", "heads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise PresetError(f"{name} {value}: must be at least 1")
        *_, width, _, heads = self.shape
        if width % heads or (width // heads) % 2:
            raise PresetError(
                f"width {width} and heads {heads}: the width must be an even multiple of the heads"
            )
        for name in ("dropout", "attention_dropout", "activation_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise PresetError(f"{name} {getattr(self, name)}: must be from 0 to below 1")
        if self.vocabulary_size < 300 and self.byte_fallback:
            raise PresetError(
                f"vocabulary_size {self.vocabulary_size}: must be at least 300, as 256 bytes are "
                "in it; or give byte_fallback false"
            )
        if self.max_length < 4:
            raise PresetError(f"max_length {self.max_length}: must be at least 4")

    @property
    def shape(self) -> tuple[int, int, int, int, int]:
        """Encoder layers, decoder layers, width, feed-forward width, heads."""
        own = (self.encoder_layers, self.decoder_layers, self.width, self.inner, self.heads)
        both = zip(own, TRANSLATORS[self.size], strict=True)
        shape = (usual if one is None else one for one, usual in both)
        return tuple(shape)  # type: ignore[return-value]

    @property
    def start(self) -> str | None:
        """Translators start from random weights."""
        return None

    @property
    def origin(self) -> str:
        """What training starts from, in words."""
        encoder, decoder, width, *_ = self.shape
        return f"random weights, {encoder}+{decoder} layers x {width}"


@dataclass(frozen=True)
class Decoding:
    """How answers are searched for, or drawn, token by token."""

    beam_width: int = 5
    """Hypotheses that the beam search keeps; 1 is greedy: the likeliest token at each step."""

    n_best: int = 5
    """Answers of the signature `nbest`; of a search no more than `beam_width`."""

    length_penalty: float = 1.0
    """Alpha of Wu et al. 2016, equation 14: 0 prefers short answers, 1 about the mean
    log-probability of a token."""

    coverage_penalty: float = 0.0
    """Beta of the same equation: above 0, answers that leave out parts of the source lose."""

    repetition_penalty: float = 1.0
    """What the logits of tokens that an answer already has are divided by (Keskar et al. 2019,
    section 4.1); 1 for nothing."""

    temperature: float = 0.0
    """Above 0, answers are drawn at random instead of searched for; 1 draws from the model's own
    distribution, less prefers what is likely."""

    top_k: int = 0
    """Of drawing: only from this many of the likeliest tokens; 0 for all."""

    top_p: float = 1.0
    """Of drawing: only from the likeliest tokens that together have this probability (Holtzman et
    al. 2020)."""

    seed: int = 0
    """Of drawing: another seed draws other answers."""

    max_ratio: float = 1.5
    """Longest answer in tokens for each token of the source, beside `max_extra`."""

    max_extra: int = 8
    """Tokens that an answer may have beyond `max_ratio` times those of the source."""

    def __post_init__(self) -> None:
        for name, least, most in (
            ("beam_width", 1, 1000),
            ("n_best", 1, 1000),
            ("length_penalty", 0, 1000),
            ("coverage_penalty", 0, 1000),
            ("repetition_penalty", 1, 1000),
            ("temperature", 0, 1000),
            ("top_k", 0, 2**30),
            ("seed", 0, 2**31),
            ("max_ratio", 0, 2**30),
            ("max_extra", 1, 2**30),
        ):
            if not least <= getattr(self, name) <= most:  # as NaN isn't, either
                raise PresetError(f"{name} {getattr(self, name)}: must be from {least} to {most}")
        if not 0 < self.top_p <= 1:
            raise PresetError(f"top_p {self.top_p}: must be above 0, to 1")
