"""What each zoo model is made from: frozen dataclasses, importable without TensorFlow."""

from dataclasses import dataclass
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
