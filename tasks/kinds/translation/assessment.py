"""How translations are judged, drawn and logged.

    assessment = TranslationAssessment(target_language="de")
    assessment.metrics(truth, outputs, records, {})["bleu"]

`truth` is objects (records,), each a reference, str; `outputs` is an array of `TRANSLATIONS`, one a
record; the `records` have the sources as their `text`.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from sacrebleu.metrics import BLEU, CHRF

from data.batching import EncodedRecords
from data.records import Records
from data.text.subwords import TranslationPreprocessor
from tasks.engine.errors import UsageError
from tasks.engine.showing import markdown
from tasks.engine.training.checkpoints import copy_weights, float32_twin
from tasks.kinds.translation import bleu_tokens
from tasks.kinds.translation.figures import (
    attention_figure,
    bleu_by_length_picture,
    scores_picture,
)
from tasks.kinds.translation.translator import TextTranslator
from zoo.configs import Decoding
from zoo.translator import Translator

TRANSLATIONS = np.dtype(
    [
        ("translation", object),  # str
        ("score", np.float32),  # what the search ranked it by
        ("nats", np.float64),  # the reference's cross-entropy, all its tokens, without smoothing
        ("tokens", np.int64),  # the reference's, its end included
        ("seconds", np.float64),  # this record's share of the time that translating took
    ]
)
"""What a model's answer to one record is: a field of a NumPy structured array."""

_BUCKETS = 6


class TranslationAssessment:
    """Judges translations by their references: with sacreBLEU (Post 2018), and by the likelihood
    that the model gave the references.

    Args:
        target_language: its code, such as `de`. By default the references' script tells a language
            whose words BLEU has to find in another way than by blanks.
        tokenizer: sacreBLEU's name of what makes the tokens that BLEU counts; `auto` for one that
            suits the language.

    Raises:
        UsageError: the tokenizer needs a package that is not installed.
    """

    mistakes_title = "Worst translations"

    def __init__(self, target_language: str | None = None, tokenizer: str = "auto") -> None:
        if not bleu_tokens.installed(tokenizer):
            raise UsageError(
                f"--data.bleu_tokenizer {tokenizer} needs packages that are not installed; "
                f"pip install 'sacrebleu[{tokenizer[:2]}]', or choose char"
            )
        self.target_language = target_language
        self.tokenizer = tokenizer
        # The last texts that were scored one by one: pictures, mistakes and summaries are of the
        # same, of which there may be many.
        self._scored: tuple[list[str], list[str], np.ndarray] = [], [], np.zeros(0)

    def metrics(
        self,
        truth: np.ndarray,
        outputs: np.ndarray,
        records: Records | None = None,
        baselines: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, Any]:
        """Scores of the whole data set.

        Returns:
            `bleu` (Papineni et al. 2002) and `bleu_lowercase`, the same whatever the case, and
            `chrf`, chrF++ (Popović 2017), all from 0 to 100; `perplexity` of the references by
            token; `length_ratio`, tokens of translations by those of references; where time was
            taken, `sentences_per_second`; `bleu_tokenizer`, what BLEU's tokens are; and
            `signatures`, by which others can have the same scores: sacreBLEU's, by the scores'
            names.
        Raises:
            UsageError: a cross-entropy is not a finite number, because training diverged.
        """
        if not np.isfinite(outputs["nats"]).all():
            raise UsageError(
                "the model's outputs are not finite numbers, so training has diverged; lower "
                "--train.learning_rate or clip gradients"
            )
        references, translations = truth.tolist(), outputs["translation"].tolist()
        tokenizer = self._tokenizer(references)
        scorers = {
            "bleu": BLEU(tokenize=tokenizer),
            "bleu_lowercase": BLEU(tokenize=tokenizer, lowercase=True),
            "chrf": _chrf(),
        }
        scores = {
            name: scorer.corpus_score(translations, [references])
            for name, scorer in scorers.items()
        }
        result = {name: float(score.score) for name, score in scores.items()}
        result["perplexity"] = float(np.exp(outputs["nats"].sum() / outputs["tokens"].sum()))
        result["length_ratio"] = float(scores["bleu"].ratio)
        if seconds := float(outputs["seconds"].sum()):
            result["sentences_per_second"] = len(outputs) / seconds
        signatures = {name: str(scorer.get_signature()) for name, scorer in scorers.items()}
        return result | {"bleu_tokenizer": tokenizer, "signatures": signatures}

    def pictures(
        self,
        truth: np.ndarray,
        outputs: np.ndarray,
        records: Records,
        baselines: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, Figure]:
        """BLEU by the sources' length, and how the sentences' chrF++ are spread; of streamed data,
        those of the `records`, its first."""
        references = truth[: len(records)].tolist()
        translations = outputs["translation"][: len(records)].tolist()
        tokenizer = self._tokenizer(references)
        scorer = BLEU(tokenize=tokenizer)
        sources = np.array([len(text) for text in _sources(records)])
        order = np.argsort(sources, kind="stable")
        buckets = []
        for part in np.array_split(order, min(_BUCKETS, len(order))):
            lengths = f"{sources[part[0]]}-{sources[part[-1]]}"
            score = scorer.corpus_score(
                [translations[index] for index in part], [[references[index] for index in part]]
            )
            buckets.append((lengths, score.score))
        return {
            "bleu_by_source_length": bleu_by_length_picture(buckets, tokenizer),
            "chrf_of_sentences": scores_picture(self._sentence_scores(references, translations)),
        }

    def mistakes(
        self, truth: np.ndarray, outputs: np.ndarray, records: Records, limit: int = 20
    ) -> list[dict[str, Any]]:
        """The translations with the lowest chrF++, lowest first.

        Returns:
            Dicts of `source`, `reference`, `translation` and `chrf`, 0 to 100.
        """
        scores = self._sentence_scores(truth.tolist(), outputs["translation"].tolist())
        sources = _sources(records)
        return [
            {
                "source": sources[index],
                "reference": truth[index],
                "translation": outputs["translation"][index],
                "chrf": float(scores[index]),
            }
            for index in np.argsort(scores, kind="stable")[:limit].tolist()
        ]

    def summaries(
        self, truth: np.ndarray, outputs: np.ndarray, records: Records, step: int
    ) -> None:
        """Writes sample translations, the same records at each step and spread evenly over the
        data, and the worst ones; to the default `tf.summary` writer."""
        spread = evenly(len(truth), 20)
        sources = _sources(records)
        samples = zip(
            [sources[index] for index in spread],
            truth[spread],
            outputs["translation"][spread],
            strict=True,
        )
        tf.summary.text("samples", _table(samples), step)
        worst = ([row[name] for name in _HEADER] for row in self.mistakes(truth, outputs, records))
        tf.summary.text("worst_translations", _table(worst), step)

    def _tokenizer(self, references: Sequence[str]) -> str:
        """sacreBLEU's name of what makes tokens of the target language."""
        if self.tokenizer != "auto":
            return self.tokenizer
        return bleu_tokens.suited(self.target_language, references)

    def _sentence_scores(self, references: list[str], translations: list[str]) -> np.ndarray:
        """Each sentence's chrF++, 0 to 100."""
        if self._scored[:2] != (references, translations):
            scorer, pairs = _chrf(), zip(references, translations, strict=True)
            scores = [scorer.sentence_score(ours, [theirs]).score for theirs, ours in pairs]
            self._scored = references, translations, np.array(scores)
        return self._scored[2]


class SampleTranslations(keras.callbacks.Callback):
    """Shows, after each epoch, in TensorBoard what some sentences are translated as, by
    the averaged weights if the optimizer keeps any.

    They are a run of their own, `translations`, in the logs: TensorBoard would not read all of two
    files that are written to in one run at once.

    Args:
        preprocessor: the model's.
        records: which some are taken of, evenly.
        decoding: how they are translated.
        logs: the folder of all logs.
        count: how many.
    """

    def __init__(
        self,
        preprocessor: TranslationPreprocessor,
        records: Records,
        decoding: Decoding,
        logs: Path,
        count: int = 8,
    ) -> None:
        super().__init__()
        some = records.take(evenly(len(records), count))
        self._sources = _sources(some)
        self._references = [str(text) for text in some.columns["reference"]]
        self._preprocessor, self._decoding = preprocessor, decoding
        self._logs = logs
        self._copy: keras.Model | None = None
        self._writer: tf.summary.SummaryWriter | None = None

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if self._copy is None:
            self._copy = float32_twin(self.model)
            self._translator = TextTranslator(self._copy, self._preprocessor, self._decoding)
            self._translate = self._translator.function()
        copy_weights(self.model, self._copy)
        self._translator.update()
        if self._writer is None:
            self._writer = tf.summary.create_file_writer(str(self._logs / "translations"))
        answers = self._translate(tf.constant(self._sources)).texts[:, 0].numpy()
        translations = [answer.decode() for answer in answers]
        rows = zip(self._sources, self._references, translations, strict=True)
        with self._writer.as_default():
            tf.summary.text("translations", _table(rows), epoch)
        self._writer.flush()

    def on_train_end(self, logs: dict | None = None) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def attention_pictures(
    model: Translator,
    preprocessor: TranslationPreprocessor,
    outputs: np.ndarray,
    records: Records,
    count: int = 3,
) -> dict[str, Figure]:
    """Where the last decoder layer looked in the source as it wrote some of the translations: of
    the sentences of middle length, evenly picked."""
    order = np.argsort([len(text) for text in _sources(records)], kind="stable")
    middle = order[len(order) // 3 : len(order) - len(order) // 3]
    figures: dict[str, Figure] = {}
    for row in middle[evenly(len(middle), count)]:
        source, translation = records.columns["text"][row], outputs["translation"][row]
        texts = {"text": [source], "reference": [translation]}
        inputs = preprocessor({name: tf.constant(text) for name, text in texts.items()})
        weights = model.attention(inputs).numpy()[0]
        pieces = preprocessor.pieces(source), preprocessor.pieces(translation, "target")
        name = f"attention_{len(figures) + 1}"
        figures[name] = attention_figure(*pieces, weights[:, : len(pieces[0])])
    return figures


def evenly(total: int, count: int) -> np.ndarray:
    """Positions of at most `count` of so many things, evenly spread."""
    return np.unique(np.linspace(0, total - 1, min(count, total)).astype(int))


_HEADER = ("source", "reference", "translation")


def _chrf() -> CHRF:
    return CHRF(word_order=2)


def _sources(records: Records) -> list[str]:
    return [str(text) for text in records.columns["text"]]


def _table(rows: Any) -> str:
    return markdown.table(_HEADER, rows)


def translate_records(
    model: Translator,
    preprocessor: TranslationPreprocessor,
    records: Records,
    decoding: Decoding,
    batch_size: int = 64,
) -> np.ndarray:
    """A model's answers to records, and how likely it found their references: an array of
    `TRANSLATIONS`."""
    found = np.zeros(len(records), TRANSLATIONS)
    translator = TextTranslator(model, preprocessor, decoding)
    translate = translator.function()
    translate(tf.constant([""]))  # so that tracing does not count
    texts = records.columns["text"]
    order = np.argsort([len(text) for text in texts], kind="stable")
    for rows in np.split(order, range(batch_size, len(order), batch_size)):
        start = time.perf_counter()
        answers = translate(tf.constant(texts[rows]))
        found["translation"][rows] = [t.decode() for t in answers.texts[:, 0].numpy()]
        found["score"][rows] = answers.scores[:, 0].numpy()
        found["seconds"][rows] = (time.perf_counter() - start) / len(rows)
    nats = tf.function(model.nats, autograph=False, reduce_retracing=True)
    batches, order = EncodedRecords([records.columns], preprocessor).evaluation(batch_size)
    each = [(nats(inputs, labels), labels) for inputs, labels, *_ in batches]
    found["nats"][order] = np.concatenate([tf.reduce_sum(n, 1).numpy() for n, _ in each])
    found["tokens"][order] = np.concatenate(
        [tf.math.count_nonzero(labels, 1).numpy() for _, labels in each]
    )
    return found
