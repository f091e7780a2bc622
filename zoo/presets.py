"""Pretrained BERT encoders and their vocabularies, by name or from a folder.

    backbone = load_backbone("minilm")
    vocabulary = load_vocabulary("minilm")

A preset is a name in the project's table of pretrained weights (`minilm`), a folder in Hugging Face
or KerasHub format, `hf://OWNER/NAME`, or the name of a KerasHub preset.
"""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import downloads
from zoo.errors import PresetError
from zoo.tokenizers import (
    VOCABULARIES,
    Subwords,
    Vocabulary,
    looks_uncased,
    read_lines,
    read_tokenizer,
)

if TYPE_CHECKING:
    import keras
    import numpy as np

    from zoo.backbone import BertEncoder


def resolve(preset: str) -> Path:
    """The local folder that holds a preset's config, weights and vocabulary; downloads if need be.

    Raises:
        PresetError: the preset can't be had, or is not a BERT that can be loaded.
    """
    folder = downloads.find(preset, "BertBackbone")
    if preset not in downloads.PRETRAINED:
        _check(folder, preset)
    return folder


def load_backbone(preset: str, dtype: Any = None) -> "BertEncoder":
    """A BERT encoder with the preset's weights, dropout and activation.

    Args:
        preset: see the module's docstring.
        dtype: dtype or policy of the computation, such as `mixed_bfloat16`; by default Keras'
            global policy. Weights stored in another dtype are converted.

    Returns:
        A backbone that maps `token_ids`, `segment_ids` and `padding_mask`, each int32 (batch,
        length), to `sequence_output` (batch, length, width) and `pooled_output` (batch, width).
        The layer behind `pooled_output` starts at random if the checkpoint has none, as those
        trained for masked language modelling only.

    Raises:
        PresetError: the preset can't be had, or its weights don't fit its config.
    """
    from zoo.backbone import BertEncoder

    folder = resolve(preset)
    config = _config(folder, preset)
    variations = _variations(config, preset)
    backbone = BertEncoder(**_architecture(config, preset), **variations, dtype=dtype)
    if _is_keras_hub(config):
        try:
            backbone.load_weights(str(folder / _KERAS_HUB_WEIGHTS))
        except (OSError, ValueError, KeyError) as error:
            raise PresetError(
                f"{preset}: {_KERAS_HUB_WEIGHTS} is damaged or doesn't fit config.json "
                f"({downloads.one_line(error)}); copy the whole folder again"
            ) from error
    else:
        _assign(backbone, folder / _HUGGING_FACE_WEIGHTS, preset)
    return backbone


def load_vocabulary(preset: str) -> Vocabulary | Subwords:
    """The preset's WordPiece vocabulary, or SentencePiece model.

    Raises:
        PresetError: the preset can't be had, or its tokenizer is damaged or not for BERT.
    """
    folder = resolve(preset)
    config = _config(folder, preset)
    if _is_keras_hub(config):
        vocabulary: Vocabulary | Subwords = _keras_hub_vocabulary(folder, preset)
    else:
        vocabulary = read_tokenizer(folder, preset)
    if isinstance(vocabulary, Vocabulary):
        special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
        if absent := [token for token in special if token not in vocabulary.tokens]:
            raise PresetError(
                f"{preset}: the vocabulary lacks {', '.join(absent)}; it is not a BERT vocabulary"
            )
    known = _architecture(config, preset)["vocabulary_size"]
    if len(vocabulary.tokens) > known:
        raise PresetError(
            f"{preset}: the vocabulary has {len(vocabulary.tokens)} tokens, but config.json says "
            f"{known}; use the vocabulary that the weights were trained with"
        )
    for token in vocabulary.added:
        if not 0 <= token.id < known:
            raise PresetError(
                f"{preset}: the added token {token.content} has the id {token.id}, but config.json "
                f"says {known} tokens; resize the embeddings, and save model and tokenizer again"
            )
    return vocabulary


def _keras_hub_vocabulary(folder: Path, preset: str) -> Vocabulary:
    tokens = read_lines(folder / _KERAS_HUB_VOCABULARY, preset)
    # KerasHub never strips accents by default, but the vocabularies it converted were made so.
    options = downloads.read_json(folder / "tokenizer.json", preset).get("config", {})
    if options.get("split_on_cjk") is False:
        raise PresetError(
            f"{preset}: its tokenizer keeps Chinese characters together, which can't be done in "
            "the graph; choose another preset"
        )
    lowercase = options.get("lowercase")
    return Vocabulary(tokens, looks_uncased(tokens) if lowercase is None else bool(lowercase))


_HUGGING_FACE_WEIGHTS = "model.safetensors"
_KERAS_HUB_WEIGHTS = "model.weights.h5"
_KERAS_HUB_VOCABULARY = "assets/tokenizer/vocabulary.txt"

_ARCHITECTURE = {  # KerasHub's name -> Hugging Face's
    "vocabulary_size": "vocab_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "hidden_dim": "hidden_size",
    "intermediate_dim": "intermediate_size",
    "dropout": "hidden_dropout_prob",
    "max_sequence_length": "max_position_embeddings",
    "num_segments": "type_vocab_size",
}

_TENSORS = (  # part of a Keras variable's path -> part of Hugging Face's name; first match first
    ("token_embedding/embeddings", "embeddings.word_embeddings.weight"),
    ("position_embedding/embeddings", "embeddings.position_embeddings.weight"),
    ("segment_embedding/embeddings", "embeddings.token_type_embeddings.weight"),
    ("embeddings_layer_norm", "embeddings.LayerNorm"),
    ("transformer_layer_", "encoder.layer."),
    ("self_attention_layer_norm", "attention.output.LayerNorm"),
    ("self_attention_layer/attention_output", "attention.output.dense"),
    ("self_attention_layer", "attention.self"),
    ("feedforward_layer_norm", "output.LayerNorm"),
    ("feedforward_intermediate_dense", "intermediate.dense"),
    ("feedforward_output_dense", "output.dense"),
    ("pooled_dense", "pooler.dense"),
    ("/kernel", ".weight"),
    ("/gamma", ".weight"),
    ("/beta", ".bias"),
    ("/", "."),
)


def _check(folder: Path, preset: str) -> None:
    """Raises PresetError, in words, unless `folder` has the three parts of a BERT preset."""
    config = _config(folder, preset)
    if _is_keras_hub(config):
        weights, vocabularies = _KERAS_HUB_WEIGHTS, [_KERAS_HUB_VOCABULARY]
    else:
        weights, vocabularies = _HUGGING_FACE_WEIGHTS, [*VOCABULARIES]
    if not (folder / weights).is_file():
        others = [name for name in ("pytorch_model.bin", "tf_model.h5") if (folder / name).exists()]
        hint = "copy the whole folder"
        if others:
            hint = f"save {others[0]} again with transformers' save_pretrained, which writes it"
        raise PresetError(f"{preset}: there are no weights, {weights} is missing; {hint}")
    if not any((folder / name).is_file() for name in vocabularies):
        names = " or ".join(vocabularies[:2])
        raise PresetError(f"{preset}: there is no vocabulary; add {names}, as saved by its trainer")


def _config(folder: Path, preset: str) -> dict[str, Any]:
    """The model's config in either format, once it is sure to be a BERT's."""
    config = downloads.read_json(folder / "config.json", preset)
    if not config:
        raise PresetError(
            f"{preset}: there is no config.json; give a folder in Hugging Face or KerasHub format"
        )
    kind = config.get("model_type") or config.get("class_name") or "unknown"
    if kind not in ("bert", "BertBackbone", "BertEncoder"):
        raise PresetError(f"{preset}: config.json is of type {kind}; only BERT can be loaded")
    return config


def _is_keras_hub(config: dict[str, Any]) -> bool:
    return "class_name" in config


def _architecture(config: dict[str, Any], preset: str) -> dict[str, Any]:
    """The arguments of `BertBackbone`."""
    try:
        if _is_keras_hub(config):
            return {name: config["config"][name] for name in _ARCHITECTURE}
        config = {"type_vocab_size": 2, "hidden_dropout_prob": 0.1, **config}
        return {ours: config[theirs] for ours, theirs in _ARCHITECTURE.items()}
    except KeyError as error:
        raise PresetError(f"{preset}: config.json lacks {error}; copy it again") from None


def _variations(config: dict[str, Any], preset: str) -> dict[str, Any]:
    """What Hugging Face's configs, and `BertEncoder`'s, can change and KerasHub's can't."""
    if _is_keras_hub(config):
        names = ("activation", "layer_norm_epsilon")
        return {name: config["config"][name] for name in names if name in config["config"]}
    name, positions = config.get("hidden_act", "gelu"), config.get("position_embedding_type")
    if name not in ("gelu", "gelu_new", "gelu_pytorch_tanh") or positions not in (None, "absolute"):
        raise PresetError(
            f"{preset}: config.json asks for activation {name} and {positions or 'absolute'} "
            "positions; only gelu, gelu_new, gelu_pytorch_tanh and absolute can be loaded"
        )
    return {
        "activation": "gelu" if name == "gelu" else "gelu_approximate",
        "layer_norm_epsilon": config.get("layer_norm_eps", 1e-12),
    }


def _assign(backbone: "BertEncoder", file: Path, preset: str) -> None:
    """Gives the backbone the weights in Hugging Face's `file`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as tensors:
            names = set(tensors.keys())
            prefix = _prefix(names)
            for variable in backbone.weights:
                name = _tensor_name(variable.path, prefix, names)
                if name in names:
                    variable.assign(_fitted(tensors.get_tensor(name), variable, name, preset))
                elif not name.startswith(f"{prefix}pooler."):
                    raise PresetError(
                        f"{preset}: {file.name} lacks {name}, which config.json asks for; "
                        "use the weights and the config of one model"
                    )
    except (SafetensorError, OSError) as error:
        raise PresetError(
            f"{preset}: {file.name} is damaged ({downloads.one_line(error)}); copy it again"
        ) from error


def _prefix(names: set[str]) -> str:
    """What stands before each encoder weight: `bert.` in checkpoints that have a task's head."""
    end = "embeddings.word_embeddings.weight"
    return min((name.removesuffix(end) for name in names if name.endswith(end)), default="")


def _tensor_name(path: str, prefix: str, names: set[str]) -> str:
    for ours, theirs in _TENSORS:
        path = path.replace(ours, theirs)
    name = prefix + path
    if name not in names:  # the first BERT checkpoints kept TensorFlow's names
        head, _, last = name.rpartition("LayerNorm.")
        old = f"{head}LayerNorm.{'gamma' if last == 'weight' else 'beta'}"
        return old if old in names else name
    return name


def _fitted(
    tensor: "np.ndarray", variable: "keras.Variable", name: str, preset: str
) -> "np.ndarray":
    """The tensor as Keras has it: kernels transposed, attention heads on an axis of their own."""
    value, shape = tensor.T if variable.path.endswith("/kernel") else tensor, tuple(variable.shape)
    same_rank = value.ndim == len(shape)
    if value.shape != shape if same_rank else value.size != math.prod(shape):
        raise PresetError(
            f"{preset}: weight {name} has shape {tensor.shape}, which doesn't fit config.json "
            f"({'x'.join(map(str, shape))}); use the weights and the config of one model"
        )
    return value.reshape(shape)
