"""One measurement of the project's translation, printed as JSON, one object a line.

    python -m benchmarks.ours.translation training
    python -m benchmarks.ours.translation training --sentences benchmarks/datasets/multi30k
    python -m benchmarks.ours.translation tokens --run RUN
    python -m benchmarks.ours.translation decoding --model SAVED_MODEL --data DIR
    python -m benchmarks.ours.translation steps

`python -m benchmarks.translation` runs these beside the peers.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from tasks.engine.memory import keep_freed_memory
from tasks.engine.options import Train
from tasks.engine.quiet import quiet_imports
from tasks.engine.run import Run
from tasks.translation import Data, Translation
from zoo.configs import TranslatorConfig

# The peers' shape; the layers are those of `tiny`: 4+4, width 128, inner 256, 4 heads.
VOCABULARY, BATCH, LENGTH, STEPS, DROPOUT = 9000, 256, 16, 12, 0.3
BEAM, SENTENCES = 5, 64  # hypotheses, and sentences a batch, of decoding
WORDS = 12  # of a sentence that is translated by itself


def main() -> None:
    """Runs the measurement that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("training")
    verb.add_argument("--precision", default="auto")
    verb.add_argument("--sentences", type=Path, help="folder of train.en and train.de; else noise")
    verb.add_argument("--pairs", type=int, help="train on the first of them only")
    verb.add_argument(
        "--dropout-everywhere",
        action="store_true",
        help="also of attention weights and inside the feed-forward parts, as PyTorch has it",
    )
    verb = verbs.add_parser("tokens")
    verb.add_argument("--run", type=Path, required=True)
    verb = verbs.add_parser("decoding")
    verb.add_argument("--model", type=Path, required=True)
    verb.add_argument("--data", type=Path, required=True, help="of test_2016_flickr.en and .de")
    verb.add_argument("--passes", type=int, default=3, help="over all sentences, to time")
    verb.add_argument("--calls", type=int, default=50, help="of one sentence, to time")
    verb.add_argument("--limit", type=int, help="translate the first sentences only")
    verb = verbs.add_parser("steps")
    verb.add_argument("--lengths", type=int, nargs="+", default=[16, 32, 64, 128, 256])
    arguments = parser.parse_args()
    if arguments.verb == "training":
        keep_freed_memory()  # as the command line does
    with quiet_imports():
        import tasks.engine.command.train  # noqa: F401  # all that the measurements import, in silence
    verbs_by_name = {
        "training": training,
        "tokens": tokens,
        "decoding": decoding,
        "steps": steps,
    }
    verbs_by_name[arguments.verb](arguments)


def training(arguments: argparse.Namespace) -> None:
    """Target tokens a second of `model.fit` with the task's options.

    On noise all batches are full, as the peers' are. On sentences, in the task's own batches,
    padding does not count, but the end does.
    """
    import keras

    from benchmarks.ours.clock import epoch_seconds
    from tasks.engine.distribution import make_precision, one_thread_an_op
    from tasks.engine.training.fit import compile_model, training_batches
    from zoo.translator import translator

    more = DROPOUT if arguments.dropout_everywhere else 0.0
    config = TranslatorConfig(
        vocabulary_size=VOCABULARY,
        dropout=DROPOUT,
        attention_dropout=more,
        activation_dropout=more,
    )
    task = Translation()
    if task.one_thread_an_op(config):
        one_thread_an_op()
    recipe = {key.removeprefix("train."): value for key, value in task.recipe(config).items()}
    train = Train(**recipe, precision=arguments.precision)
    precision = make_precision(train)
    keras.config.set_dtype_policy(precision)
    if arguments.sentences:
        paths = [str(arguments.sentences / f"train.{language}") for language in ("en", "de")]
        data = Data(train=paths, validation_fraction=0.0)
        records = task.source(data, config).splits(train.seed).train
        preprocessor = task.preprocessor(config, records, data)
        records = records.take(slice(0, arguments.pairs))
        made = training_batches(records, preprocessor, train)
        batches, steps, epochs = made.start(0), made.steps, 2
        count = _target_tokens(records, preprocessor)
    else:
        batches, steps, epochs = _noise().training(BATCH, train.seed), STEPS, 6
        count = STEPS * BATCH * LENGTH
    model = translator(config, VOCABULARY)
    compile_model(model, task.objective(train, None), train, steps)
    seconds = epoch_seconds(model, batches, steps, epochs)
    _report(precision=precision, target_tokens_per_second=round(count / seconds))


def tokens(arguments: argparse.Namespace) -> None:
    """Target tokens of the pairs that a run was trained on: an epoch's, without padding."""
    from data.preprocessing import Preprocessor

    task, run = Translation(), Run.existing(str(arguments.run))
    options = run.options()
    data, config = Data(**options["data"]), TranslatorConfig(**options["model"])
    preprocessor = Preprocessor.load(run.assets)
    splits = task.source(data, config).splits(options["train"]["seed"])
    records = task.fitted(splits, preprocessor, data).train
    _report(pairs=len(records), target_tokens=_target_tokens(records, preprocessor))


def decoding(arguments: argparse.Namespace) -> None:
    """Seconds in which an export translates the test sentences, those of like length together,
    and milliseconds for one by itself; with the BLEU of what came out, to see that it is right."""
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  # registers the ops of its tokenizers
    from sacrebleu.metrics import BLEU

    if (width := _beam_width(arguments.model)) != BEAM:
        sys.exit(
            f"{arguments.model} was exported with a beam of {width}; the bar is for one of {BEAM}, "
            f"so export it with --decode.beam_width {BEAM}"
        )
    sources, references = (
        (arguments.data / f"test_2016_flickr.{language}").read_text("utf-8").splitlines()
        for language in ("en", "de")
    )
    pairs = list(zip(sources, references, strict=True))[: arguments.limit]
    pairs.sort(key=lambda pair: len(pair[0].split()))
    batches = [
        [source for source, _ in pairs[start : start + SENTENCES]]
        for start in range(0, len(pairs), SENTENCES)
    ]
    model = tf.saved_model.load(str(arguments.model))  # keeps the variables alive

    def translated(signature: str, texts: list[str]) -> list[str]:
        answer = {
            name: tensor.numpy()
            for name, tensor in model.signatures[signature](text=tf.constant(texts)).items()
        }
        return [text.decode() for text in answer["translation"]]

    bleu = BLEU(lowercase=True)
    for search, signature in (("greedy", "greedy"), (f"beam {BEAM}", "serving_default")):
        texts = [text for batch in batches for text in translated(signature, batch)]  # warms up
        score = bleu.corpus_score(texts, [[reference for _, reference in pairs]]).score
        times = []
        for _ in range(arguments.passes):
            start = time.perf_counter()
            for batch in batches:
                translated(signature, batch)
            times.append(time.perf_counter() - start)
        _report(search=search, sentences=len(pairs), seconds=round(median(times), 3))
        _report(search=search, sentences=len(pairs), bleu_lowercase=round(score, 2))
    each = []
    for source in [source for source, _ in pairs if len(source.split()) == WORDS][:10]:
        times = []
        for _ in range(5 + arguments.calls):
            start = time.perf_counter()
            translated("greedy", [source])
            times.append(time.perf_counter() - start)
        each.append(median(times[5:]))  # the first few plan and allocate
    _report(search="greedy", sentences=1, milliseconds=round(median(each) * 1e3, 2))


def steps(arguments: argparse.Namespace) -> None:
    """Milliseconds of one step of decoding, by the length that is decoded to.

    The weights are random, which costs what any others would. What a call takes that decodes a
    single token, its encoder included, is taken off.
    """
    import keras
    import numpy as np
    import tensorflow as tf

    from data.text.subwords import END, START
    from zoo.layers.decoding import BeamSearch, Greedy, Sampling, Strategy
    from zoo.translator import translator

    keras.utils.set_random_seed(0)
    model = translator(TranslatorConfig(vocabulary_size=VOCABULARY), VOCABULARY)
    table = model.target_embedding.embeddings.numpy()
    table[END] = 0.0  # a logit of zero is never among the largest: no answer ends before its limit
    model.target_embedding.embeddings.assign(table)
    decoder = model.for_serving()

    def decoded(strategy: Strategy) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        ids, limits = tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int32)
        return tf.function(
            lambda source_ids, limits: (
                decoder(source_ids, limits, strategy, start=START, end=END).lengths
            ),
            [ids, limits],
            autograph=False,
        )

    searches: dict[str, Strategy] = {"greedy": Sampling(Greedy()), f"beam {BEAM}": BeamSearch(BEAM)}
    for search, decode in ((name, decoded(strategy)) for name, strategy in searches.items()):
        for batch in (SENTENCES, 1):
            ids = np.random.RandomState(0).randint(END + 1, VOCABULARY, [batch, LENGTH])
            source_ids = tf.constant(ids, tf.int32)
            first = _decoding_seconds(decode, source_ids, 1)
            for length in arguments.lengths:
                seconds = (_decoding_seconds(decode, source_ids, length) - first) / (length - 1)
                _report(
                    search=search, batch=batch, length=length, milliseconds=round(seconds * 1e3, 3)
                )


def _decoding_seconds(decode: Callable[..., Any], source_ids: Any, length: int) -> float:
    """The median of calls that decode to exactly this length, the end counted: three of them, or
    as many as two seconds have room for."""
    import tensorflow as tf

    limits = tf.fill(tf.shape(source_ids)[:1], length)
    assert (decode(source_ids, limits).numpy() == length - 1).all(), "an answer ended by itself"
    times: list[float] = []
    while len(times) < 3 or sum(times) < 2.0:
        start = time.perf_counter()
        decode(source_ids, limits).numpy()
        times.append(time.perf_counter() - start)
    return median(times)


def _noise() -> Any:
    """As many batches as the peers have an epoch, of random tokens without padding."""
    import numpy as np
    import tensorflow as tf

    from data.batching import Batches
    from data.preprocessing import Batch
    from data.text.subwords import END

    class Noise(Batches):
        def __init__(self) -> None:
            ids = np.random.RandomState(0).randint(END + 1, VOCABULARY, [len(self), LENGTH])
            self._ids = tf.constant(ids, tf.int32)

        def __len__(self) -> int:
            return STEPS * BATCH

        def collate(self, rows: tf.Tensor) -> Batch:
            ids = tf.gather(self._ids, rows)
            return {"source_ids": ids, "target_ids": ids}, ids

    return Noise()


def _target_tokens(records: Any, preprocessor: Any) -> int:
    encoded = preprocessor.encode(records.columns)
    return int(encoded["target_ids"].flat_values.shape[0])


def _beam_width(model: Path) -> int:
    """What an export's model card says of its search."""
    card = (model / "model_card.md").read_text("utf-8")
    config = card.split("```yaml\n")[-1].split("```")[0]
    return yaml.safe_load(config)["decode"]["beam_width"]


def _report(**figures: Any) -> None:
    print(json.dumps({"ours": "translation", **figures}), flush=True)


if __name__ == "__main__":
    main()
