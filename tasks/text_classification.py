"""Text classification: one label for a text, or for a pair of texts.

python -m tasks.text_classification
python -m tasks.text_classification train --data.train reviews.csv --export.dir saved_models/reviews
echo "Works as promised" | python -m tasks.text_classification predict --run.dir runs/reviews
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data.options import SAMPLES, Tables
from tasks.engine.command.cli import main
from tasks.engine.task import Task
from zoo.configs import BertClassifierConfig


@dataclass(frozen=True)
class Data(Tables):
    """The data: files of texts and their labels, one example a row."""

    text_column: str = "text"
    """The column of the text."""

    pair_column: str | None = None
    """The column of a second text, to classify pairs."""

    label_column: str = "label"
    """The column of the label; labels may be words or numbers."""


class TextClassification(Task[Data, BertClassifierConfig]):
    """One label for a text, or for a pair of texts, by a BERT encoder."""

    name = "text_classification"
    sample = SAMPLES / "support_messages.csv"

    def source(self, data: Data, config: BertClassifierConfig):
        from data.tables.fields import Field
        from data.tables.source import TableSource

        fields = {"text": Field(data.text_column, option="--data.text_column")}
        if data.pair_column:
            fields["text_pair"] = Field(data.pair_column, option="--data.pair_column")
        fields["label"] = Field(data.label_column, "label", option="--data.label_column")
        return TableSource(data, fields, str(self.sample))

    def preprocessor(self, config: BertClassifierConfig, records, data: Data):
        from dataclasses import asdict

        from data.records import label_counts
        from data.text.wordpiece import BertPreprocessor, learn_vocabulary, read_vocabulary
        from zoo.presets import load_vocabulary
        from zoo.tokenizers import Subwords

        labels = list(label_counts(records))
        more: dict[str, Any] = {
            "max_length": config.max_length,
            "pair": "text_pair" in next(records.chunks(1)).columns,
            "special_tokens": config.special_tokens,
        }
        lowercase = config.lowercase is not False
        if config.start:
            preset = load_vocabulary(config.start)
            more["added_tokens"] = [asdict(token) for token in preset.added]
            if isinstance(preset, Subwords):
                from data.text.unigram import UnigramPreprocessor

                names = ("start", "end", "padding", "separators", "second_segment")
                more.update({name: getattr(preset, name) for name in names})
                return UnigramPreprocessor(preset.model, labels, **more)
            tokens, more["longest_word"] = list(preset.tokens), preset.longest_word
            if config.lowercase is None:
                lowercase, more["strip_accents"] = preset.lowercase, preset.strip_accents
        elif config.vocabulary:
            tokens = read_vocabulary(Path(config.vocabulary))
        else:
            tokens = learn_vocabulary(records, config.vocabulary_size, lowercase)
        return BertPreprocessor(tokens, labels, lowercase=lowercase, **more)

    def model(self, config: BertClassifierConfig, preprocessor):
        from zoo.bert import bert_classifier

        return bert_classifier(config, len(preprocessor.labels), len(preprocessor.vocabulary))

    def objective(self, train, preprocessor):
        from tasks.kinds.classification.objective import classification_objective

        return classification_objective(preprocessor.labels, train)

    def signatures(self, model, preprocessor, assets, config, here=False):
        import tensorflow as tf

        from tasks.kinds.classification.signatures import ClassifierSignatures

        texts = ["text", "text_pair"] if preprocessor.pair else ["text"]
        inputs = {name: tf.TensorSpec([None], tf.string, name) for name in texts}
        serve = model.for_serving(often=not here)
        return ClassifierSignatures(serve, preprocessor, inputs, preprocessor.labels, assets)


if __name__ == "__main__":
    main(TextClassification)
