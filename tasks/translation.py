"""Translation: a text in one language, written in another.

python -m tasks.translation
python -m tasks.translation train --data.train corpus.en corpus.de --data.test test.en test.de
echo "A man is riding a bicycle." | python -m tasks.translation predict --run.dir runs/en-de
"""

from dataclasses import dataclass
from itertools import chain

from data.options import ParallelTexts
from tasks.engine.command.cli import main
from tasks.engine.task import Task
from zoo.configs import Decoding, TranslatorConfig


@dataclass(frozen=True)
class Data(ParallelTexts):
    __doc__ = ParallelTexts.__doc__


class Translation(Task[Data, TranslatorConfig]):
    """A translation of a text, by a Transformer that is trained on pairs of texts."""

    name = "translation"
    decode_options = Decoding
    sample = "sample"
    without = {"class_weights": "translations have no classes"}
    # The phrase book has 6,000 pairs of few different words.
    first_run = (
        *("--model.vocabulary_size", "1200", "--train.epochs", "12"),
        *("--train.batch_tokens", "1024"),
    )

    def one_thread_an_op(self, config: TranslatorConfig):
        return config.shape[2] <= 256  # wider products are worth sharing

    def recipe(self, config: TranslatorConfig):
        # Found on the 29,000 pairs of Multi30k; millions want fewer epochs and larger batches.
        large = config.size not in ("tiny", "small")
        return {
            "train.batch_tokens": 4096,
            "train.epochs": 80,
            "train.learning_rate": 1e-3 if large else 5e-3,
            "train.schedule": "cosine",
            "train.adam_beta_2": 0.98,
            "train.label_smoothing": 0.1,
            "train.weight_decay": 0.0,
        }

    def source(self, data: Data, config: TranslatorConfig):
        from data.text.parallel import ParallelSource

        return ParallelSource(data)

    def preprocessor(self, config: TranslatorConfig, records, data: Data):
        from data.text.subwords import TranslationPreprocessor, learn_subwords, normalized

        texts = normalized(records.columns["text"], config.source_normalization)
        references = normalized(records.columns["reference"], config.target_normalization)
        tag = [data.back_translation_tag] if data.back_translated else []
        sides = [chain(texts, references)] if config.joint else [texts, references]
        models = [
            learn_subwords(
                side,
                config.vocabulary_size,
                kind=config.subwords,
                byte_fallback=config.byte_fallback,
                user_symbols=[*config.user_symbols, *tag],
                lowercase=config.lowercase,
            )
            for side in sides
        ]
        return TranslationPreprocessor(
            *models,
            max_source_length=config.max_length,
            max_target_length=config.max_length,
            lowercase=config.lowercase,
            source_normalization=config.source_normalization,
            target_normalization=config.target_normalization,
        )

    def fitted(self, splits, preprocessor, data: Data):
        from data.text.parallel import shortened

        return shortened(splits, preprocessor, data)

    def model(self, config: TranslatorConfig, preprocessor):
        from zoo.translator import translator

        return translator(config, **preprocessor.sizes)

    def objective(self, train, preprocessor):
        from tasks.kinds.translation.objective import translation_objective

        return translation_objective(train)

    def assessment(self, objective, config):
        from tasks.kinds.translation.assessment import TranslationAssessment

        return TranslationAssessment(config.data.target_language, config.data.bleu_tokenizer)

    def callbacks(self, preprocessor, splits, config, logs):
        from tasks.kinds.translation.assessment import SampleTranslations

        records = splits.validation or splits.train
        return [SampleTranslations(preprocessor, records, config.decode, logs)]

    def answers(self, model, preprocessor, records, config):
        from tasks.kinds.translation.assessment import translate_records

        return translate_records(model, preprocessor, records, config.decode)

    def pictures(self, model, preprocessor, truth, outputs, records):
        from tasks.kinds.translation.assessment import attention_pictures

        return attention_pictures(model, preprocessor, outputs, records)

    def signatures(self, model, preprocessor, assets, config, here=False):
        from tasks.kinds.translation.signatures import TranslationSignatures

        return TranslationSignatures(model, preprocessor, config.decode, assets)


if __name__ == "__main__":
    main(Translation)
