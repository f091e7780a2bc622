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

    def __post_init__(self) -> None:
        if not self.preset:
            raise PresetError(f"preset is empty; give {', '.join(CNNS)}, or a pretrained one")
        if self.widths is not None and self.preset not in ("simple", "airbench"):
            raise PresetError(f"widths {self.widths}: those of {self.preset} can't be changed")
        if self.widths is not None and (len(self.widths) != 3 or min(self.widths) < 1):
            raise PresetError(f"widths {self.widths}: give three numbers of channels")
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
