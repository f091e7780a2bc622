"""Translations judged as sacreBLEU judges them, drawn and logged."""

import json
import math
import warnings
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import sacrebleu
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from data.options import ParallelTexts
from data.records import Records
from tasks.engine.errors import UsageError
from tasks.engine.options import Train
from tasks.engine.run import Run
from tasks.engine.showing.figures import png
from tasks.engine.showing.report import write_report
from tasks.kinds.translation import assessment as translation
from tasks.kinds.translation import bleu_tokens
from tasks.kinds.translation.assessment import (
    TRANSLATIONS,
    SampleTranslations,
    TranslationAssessment,
)
from tasks.kinds.translation.figures import attention_figure
from tasks.kinds.translation.objective import translation_objective
from tasks.translation import Translation

PAIRS = [
    ("Ein Hund läuft.", "A dog is running.", "A dog is running."),
    ("Zwei Kinder spielen im Schnee.", "Two children play in the snow.", "two Children in snow."),
    ("Eine Frau liest ein | Buch.", "A woman reads a | book.", "Men."),
    ("Ein Mann.", "A man.", "A man with a hat."),
]
SOURCES, REFERENCES, FOUND = (list(column) for column in zip(*PAIRS, strict=True))


def objects(texts: list[str]) -> np.ndarray:
    return np.array([*texts, None], object)[:-1]


def outputs(translations: list[str] = FOUND, **columns) -> np.ndarray:
    answers = np.zeros(len(translations), TRANSLATIONS)
    answers["translation"] = translations
    answers["tokens"], answers["nats"], answers["seconds"] = 4, 6.0, 0.5
    for name, values in columns.items():
        answers[name] = values
    return answers


TRUTH, RECORDS = objects(REFERENCES), Records({"text": objects(SOURCES)})


def test_scores_are_sacrebleus_and_come_with_their_signatures():
    found = TranslationAssessment().metrics(TRUTH, outputs(), RECORDS, {})
    plain = sacrebleu.corpus_bleu(FOUND, [REFERENCES])
    lowercase = sacrebleu.corpus_bleu(FOUND, [REFERENCES], lowercase=True)
    assert found["bleu"] == plain.score < found["bleu_lowercase"] == lowercase.score
    assert found["chrf"] == sacrebleu.corpus_chrf(FOUND, [REFERENCES], word_order=2).score
    assert found["length_ratio"] == plain.sys_len / plain.ref_len
    signatures = found["signatures"]
    assert signatures["bleu"].startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert "case:lc" in signatures["bleu_lowercase"] and "nw:2" in signatures["chrf"]
    assert json.dumps(found)


def test_perplexity_and_speed_are_of_all_records_together():
    answers = outputs(tokens=[1, 9, 0, 0], nats=[10.0, 2, 0, 0], seconds=[1, 0, 0, 1])
    found = TranslationAssessment().metrics(TRUTH, answers, RECORDS, {})
    assert found["perplexity"] == pytest.approx(math.exp(1.2))
    assert found["sentences_per_second"] == 2
    timeless = TranslationAssessment().metrics(TRUTH, outputs(seconds=0), RECORDS, {})
    assert "sentences_per_second" not in timeless


@pytest.mark.parametrize(
    ("language", "reference", "tokenizer"),
    [
        (None, "一只狗在雪地里跑。", "zh"),
        (None, "犬が雪の中を走っています。", "char"),
        (None, "A dog (狗) runs in the snow.", "13a"),
        (None, "หมาทำบ้านและจำคุณได้ไหม", "char"),
        (None, "ໝາເຫັນເຮືອນ", "char"),
        (None, "ឆ្កែឃើញផ្ទះ", "char"),
        (None, "ခွေးသည်အိမ်ကိုမြင်သည်", "char"),
        (None, "ཁྱི་ཡིས་ཁང་པ་མཐོང་།", "char"),
        (None, "개가 눈 속을 달리고 있다.", "13a"),
        (None, "Собака бежит по снегу.", "13a"),
        ("zh", "A dog runs in snow.", "zh"),
        ("zho_Hant", "狗在跑吗", "zh"),
        ("th-TH", "A dog runs in snow.", "char"),
        ("xx", "หมาทำบ้าน", "char"),
        ("de", "Ein Hund läuft im Schnee.", "13a"),
    ],
)
def test_tokens_are_those_of_the_target_language(monkeypatch, language, reference, tokenizer):
    monkeypatch.setattr(bleu_tokens, "_PACKAGES", {"ja-mecab": ["no_such"], "ko-mecab": ["none"]})
    found = TranslationAssessment(language).metrics(objects([reference]), outputs([reference]))
    assert f"|tok:{tokenizer}|" in found["signatures"]["bleu"]
    assert found["bleu_tokenizer"] == tokenizer
    assert found["bleu"] == pytest.approx(100)


def test_a_tokenizer_is_used_as_it_is_named_or_refused_before_training():
    truth = objects(["Two dogs (one big) run."])
    found = TranslationAssessment("zh", "intl").metrics(truth, outputs(truth.tolist()))
    assert "|tok:intl|" in found["signatures"]["bleu_lowercase"]
    config = SimpleNamespace(data=ParallelTexts(target_language="de", bleu_tokenizer="char"))
    judging = Translation().assessment(translation_objective(Train()), config)
    assert (judging.target_language, judging.tokenizer) == ("de", "char")


def test_a_tokenizer_whose_packages_are_not_there_is_refused_with_their_name(monkeypatch):
    monkeypatch.setattr(bleu_tokens, "_PACKAGES", {"ja-mecab": ["no_such"]})
    with pytest.raises(UsageError, match=r"ja-mecab needs .*pip install 'sacrebleu\[ja\]'"):
        TranslationAssessment(tokenizer="ja-mecab")


def test_outputs_that_are_no_numbers_say_that_training_diverged():
    with pytest.raises(UsageError, match="training has diverged"):
        TranslationAssessment().metrics(TRUTH, outputs(nats=np.nan), RECORDS, {})


def test_mistakes_are_the_worst_translations_worst_first():
    found = TranslationAssessment().mistakes(TRUTH, outputs(), RECORDS, limit=3)
    assert [row["source"] for row in found] == [SOURCES[2], SOURCES[1], SOURCES[3]]
    scores = [row["chrf"] for row in found]
    assert scores == sorted(scores)
    expected = sacrebleu.sentence_chrf(FOUND[2], [REFERENCES[2]], word_order=2).score
    assert found[0] == {
        "source": SOURCES[2], "reference": REFERENCES[2], "translation": "Men.", "chrf": expected
    }  # fmt: skip


def test_sentences_are_scored_once_for_all_that_is_shown_of_them(monkeypatch):
    assessment, scorers = TranslationAssessment(), []
    chrf = translation._chrf
    monkeypatch.setattr(translation, "_chrf", lambda: scorers.append(1) or chrf())
    assessment.pictures(TRUTH, outputs(), RECORDS, {})
    assert assessment.mistakes(TRUTH, outputs(), RECORDS)[0]["translation"] == "Men."
    assert len(scorers) == 1
    perfect = assessment.mistakes(TRUTH, outputs(REFERENCES), RECORDS)
    assert (perfect[0]["chrf"], len(scorers)) == (pytest.approx(100), 2)


def test_empty_translations_are_judged_and_drawn():
    nothing = outputs([""] * len(FOUND))
    found = TranslationAssessment().metrics(TRUTH, nothing, RECORDS, {})
    assert found["bleu"] == found["chrf"] == found["length_ratio"] == 0
    assert TranslationAssessment().pictures(TRUTH, nothing, RECORDS, {})


def test_pictures_are_drawn_of_the_records_that_there_are():
    for count in (1, 3, 4):
        part = RECORDS.take(slice(count))
        pictures = TranslationAssessment().pictures(TRUTH, outputs(), part, {})
        assert set(pictures) == {"bleu_by_source_length", "chrf_of_sentences"}
        assert all(png(figure).startswith(b"\x89PNG") for figure in pictures.values())


def test_attention_is_drawn_in_any_script_without_a_word():
    source, target = ["▁一只", "狗", "$", "</s>"], ["▁A", "▁dog", "</s>"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = attention_figure(source, target, np.random.rand(3, 4))
        assert png(figure).startswith(b"\x89PNG")
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == target
    assert len(figure.axes[0].get_xticklabels()) == len(source)


def test_attention_of_long_texts_is_cut():
    attention = np.full((70, 100), 0.01)
    figure = attention_figure(["a"] * 100, ["b"] * 70, attention)
    axes = figure.axes[0]
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert (len(labels), labels[-1].get_text()) == (60, "…")
    drawn = axes.get_images()[0].get_array()
    assert drawn.shape == (60, 60)
    np.testing.assert_allclose(drawn.sum(axis=1), 1)


def test_the_report_shows_scores_signatures_and_texts_that_cannot_break_its_table(tmp_path):
    assessment = TranslationAssessment()
    metrics = {"task": "translation", "test": assessment.metrics(TRUTH, outputs())}
    metrics["test"]["decode"] = {"beam_width": 5}
    mistakes = assessment.mistakes(TRUTH, outputs(), RECORDS)
    path = write_report(Run(tmp_path), metrics, [], {}, mistakes, {}, assessment.mistakes_title)
    report = path.read_text("utf-8")
    assert "On the test data: BLEU **" in report and ", perplexity **4.4817**" in report
    assert "## Signatures\n\n- BLEU: nrefs:1&#124;case:mixed" in report
    assert "## Decoding\n\n- beam width: 5\n" in report
    assert "## Worst translations\n\n| source | reference | translation | chrf |" in report
    assert "| Eine Frau liest ein &#124; Buch. | A woman reads a &#124; book. | Men. |" in report


def texts_in(folder) -> dict[str, list]:
    """The texts that TensorBoard shows, by name: (step, text) each."""
    events = EventAccumulator(str(folder)).Reload()
    return {
        tag.removesuffix("/text_summary"): [
            (event.step, tf.make_ndarray(event.tensor_proto).item().decode())
            for event in events.Tensors(tag)
        ]
        for tag in events.Tags()["tensors"]
    }


def test_tensorboard_has_samples_and_the_worst_translations(tmp_path):
    with tf.summary.create_file_writer(str(tmp_path)).as_default():
        TranslationAssessment().summaries(TRUTH, outputs(), RECORDS, step=7)
    texts = texts_in(tmp_path)
    assert set(texts) == {"samples", "worst_translations"}
    [(step, samples)], [(_, worst)] = texts["samples"], texts["worst_translations"]
    assert step == 7
    assert samples.split("\n")[2] == f"| {' | '.join(PAIRS[0])} |"
    assert worst.split("\n")[2].endswith("| Men. |")


class ZeroFirst(keras.optimizers.schedules.LearningRateSchedule):
    """Learns nothing in the first step."""

    def __call__(self, step):
        return tf.cast(step, tf.float32)


class Shouting:
    """Stands for a translator whose model has learned something once its kernel is not zero."""

    def __init__(self, model: keras.Model, preprocessor, decoding) -> None:
        self.model = model
        self.learned = False

    def update(self) -> None:
        self.learned = self.model.layers[0].kernel.numpy().item() != 0

    def function(self):
        return lambda texts: SimpleNamespace(
            texts=tf.strings.upper(texts if self.learned else tf.zeros_like(texts))[:, tf.newaxis]
        )


def test_tensorboard_has_samples_translations_after_each_epoch(tmp_path, monkeypatch):
    monkeypatch.setattr(translation, "TextTranslator", Shouting)
    model = keras.Sequential([keras.layers.Dense(1, kernel_initializer="zeros")])
    model.compile(keras.optimizers.SGD(ZeroFirst()), "mse")
    records = Records({"text": objects(SOURCES), "reference": TRUTH})
    samples = SampleTranslations(None, records, None, tmp_path)
    model.fit(np.ones((4, 1)), np.ones((4, 1)), epochs=2, callbacks=[samples], verbose=0)
    written = texts_in(tmp_path / "translations")["translations"]
    assert [step for step, _ in written] == [0, 1]
    assert "| Ein Mann. | A man. |  |" in written[0][1]
    assert "| Ein Mann. | A man. | EIN MANN. |" in written[1][1]


def test_samples_are_of_the_averaged_weights_where_there_are_some(tmp_path, monkeypatch):
    monkeypatch.setattr(translation, "TextTranslator", Shouting)
    model = keras.Sequential([keras.layers.Dense(1, kernel_initializer="zeros")])
    model.compile(keras.optimizers.SGD(ZeroFirst(), use_ema=True, ema_momentum=1.0), "mse")
    samples = SampleTranslations(
        None, Records({"text": objects(SOURCES), "reference": TRUTH}), None, tmp_path
    )
    model.fit(np.ones((4, 1)), np.ones((4, 1)), epochs=2, callbacks=[samples], verbose=0)
    for _, written in texts_in(tmp_path / "translations")["translations"]:
        assert "| Ein Mann. | A man. |  |" in written


def test_the_objective_picks_the_model_that_is_least_perplexed():
    objective = translation_objective(Train(label_smoothing=0.1))
    assert (objective.monitor, objective.mode) == (objective.metrics[0].name, "min")
    assert objective.loss.label_smoothing == 0.1
