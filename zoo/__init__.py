"""The zoo: config in, `keras.Model` out.

    from zoo import BertClassifierConfig, bert_classifier

Names are imported when first used, so that importing a config doesn't import TensorFlow.
"""

from importlib import import_module
from typing import Any

_HOMES = {
    "BertClassifier": "zoo.bert",
    "BertEncoder": "zoo.backbone",
    "BertClassifierConfig": "zoo.configs",
    "CnnConfig": "zoo.configs",
    "Decoding": "zoo.configs",
    "ForecasterConfig": "zoo.configs",
    "ImageClassifier": "zoo.cnn",
    "PresetError": "zoo.errors",
    "SequenceClassifier": "zoo.lstm",
    "SequenceClassifierConfig": "zoo.configs",
    "Subwords": "zoo.tokenizers",
    "Translator": "zoo.translator",
    "TranslatorConfig": "zoo.configs",
    "Vocabulary": "zoo.tokenizers",
    "bert_classifier": "zoo.bert",
    "forecaster": "zoo.forecasting",
    "image_classifier": "zoo.cnn",
    "load_backbone": "zoo.presets",
    "load_model": "zoo.saving",
    "load_vocabulary": "zoo.presets",
    "resolve": "zoo.presets",
    "sequence_classifier": "zoo.lstm",
    "translator": "zoo.translator",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
