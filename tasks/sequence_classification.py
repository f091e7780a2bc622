"""Sequence classification: one label for a text, or for a sequence of numbers, by a BiLSTM.

python -m tasks.sequence_classification
python -m tasks.sequence_classification train --data.train reviews.csv --data.label_column stars
python -m tasks.sequence_classification train --data.train moves.jsonl --data.feature_columns x,y
"""

from dataclasses import dataclass

from data.options import SAMPLES, Tables
from tasks.engine.command.cli import main
from tasks.engine.task import Task
from zoo.configs import SequenceClassifierConfig


@dataclass(frozen=True)
class Data(Tables):
    """The data: files of texts or of sequences of numbers, and their labels."""

    text_column: str = "text"
    """The column of the text."""

    feature_columns: list[str] | str | None = None
    """The columns of numbers, instead of a text: several, or one text with commas: "x,y,z". With a
    sequence a row, a cell is a list of numbers, or text like "1.0 2.0 3.5"; each column is a
    feature, of as many steps as the others, or one column has a list of numbers for each step."""

    id_column: str | None = None
    """The column that says which sequence a row belongs to, in files with a step a row: each
    feature column then has one number a row. Such files are read whole."""

    time_column: str | None = None
    """The column that the rows of a sequence are sorted by: numbers, time stamps (ISO 8601; without
    a zone they are UTC), clock times (8:00, 13:30), or durations. By default they are in the order
    of the file."""

    label_column: str = "label"
    """The column of the label, which is the same at each step of a sequence; labels may be words
    or numbers."""

    @property
    def features(self) -> list[str]:
        """The names of the feature columns; none for texts."""
        names = self.feature_columns or []
        return [name.strip() for name in names.split(",")] if isinstance(names, str) else names


class SequenceClassification(Task[Data, SequenceClassifierConfig]):
    """One label for a text, or for a sequence of numbers, by a recurrent net."""

    name = "sequence_classification"
    sample = SAMPLES / "support_messages.csv"
    # The recipe is for thousands of records, and the sample has hundreds.
    first_run = ("--train.epochs", "30")
    echoed = ("id",)

    def one_thread_an_op(self, config: SequenceClassifierConfig):
        return config.many_small_ops

    def recipe(self, config: SequenceClassifierConfig):
        # Found on SST-2's 6,920 sentences; hundreds of examples want more epochs.
        return {"train.epochs": 4, "train.learning_rate": 5e-3, "train.schedule": "cosine"}

    def source(self, data: Data, config: SequenceClassifierConfig):
        from data.series.sequence_tables import SequenceSource
        from data.tables.fields import Field
        from data.tables.source import TableSource

        if data.feature_columns or data.id_column or data.time_column:
            return SequenceSource(
                data, data.features, data.label_column, data.id_column, data.time_column
            )
        fields = {
            "text": Field(data.text_column, option="--data.text_column"),
            "label": Field(data.label_column, "label", option="--data.label_column"),
        }
        return TableSource(data, fields, str(self.sample))

    def preprocessor(self, config: SequenceClassifierConfig, records, data: Data):
        from data.records import label_counts
        from data.text.sequences import (
            NumberPreprocessor,
            TokenPreprocessor,
            common_level,
            learn_tokens,
        )

        labels = list(label_counts(records))
        first = next(records.chunks(1)).columns
        if "values" in first:
            features = first["values"][0].shape[1]
            return NumberPreprocessor(
                labels,
                features=features,
                max_length=config.max_length,
                level=common_level(records),
            )
        return TokenPreprocessor(
            learn_tokens(records, config.tokens, config.vocabulary_size, config.lowercase),
            labels,
            tokens=config.tokens,
            lowercase=config.lowercase,
            max_length=config.max_length,
        )

    def model(self, config: SequenceClassifierConfig, preprocessor):
        from zoo.lstm import sequence_classifier

        return sequence_classifier(config, len(preprocessor.labels), **preprocessor.sizes)

    def objective(self, train, preprocessor):
        from tasks.kinds.classification.objective import classification_objective

        return classification_objective(preprocessor.labels, train)

    def signatures(self, model, preprocessor, assets, config, here=False):
        from tasks.kinds.classification.signatures import ClassifierSignatures

        return ClassifierSignatures(
            model, preprocessor, preprocessor.inputs, preprocessor.labels, assets
        )


if __name__ == "__main__":
    main(SequenceClassification)
