"""One measurement of the project's text classification, printed as JSON, one object a line.

    python -m benchmarks.ours.text_classification training --weights DIR --train FILE
    python -m benchmarks.ours.text_classification export --weights DIR --train FILE --folder DIR
    python -m benchmarks.ours.text_classification latency --model SAVED_MODEL

`python -m benchmarks.text_classification` runs these beside the peers.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import mean, median
from typing import Any

from tasks.engine.memory import keep_freed_memory
from tasks.engine.options import Train
from tasks.engine.quiet import quiet_imports
from tasks.text_classification import Data, TextClassification
from zoo.configs import BertClassifierConfig

TEXT = "How do I activate my new card?"


def main() -> None:
    """Runs the measurement that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    training_parser = verbs.add_parser("training")
    export_parser = verbs.add_parser("export")
    latency_parser = verbs.add_parser("latency")
    for verb in (training_parser, export_parser):
        verb.add_argument("--weights", required=True)
        verb.add_argument("--train", required=True)
        verb.add_argument("--text-column", default="text")
        verb.add_argument("--label-column", default="category")
    training_parser.add_argument("--examples", type=int, default=2048)
    training_parser.add_argument("--precision", default="auto")
    export_parser.add_argument("--folder", type=Path, required=True)
    latency_parser.add_argument("--model", required=True)
    latency_parser.add_argument("--calls", type=int, default=50)
    arguments = parser.parse_args()
    if arguments.verb == "training":
        keep_freed_memory()  # as the command line does
    with quiet_imports():
        import tasks.engine.command.train  # noqa: F401  # all that the measurements import, in silence
    {"training": training, "export": export, "latency": latency}[arguments.verb](arguments)


def training(arguments: argparse.Namespace) -> None:
    """Examples a second of the task's own `fit`, with the default options, in its second epoch.

    The first epoch, over the same examples, is the warmup: it traces the training step.
    """
    import keras
    import numpy as np

    from data.splits import Splits
    from tasks.engine.distribution import make_precision
    from tasks.engine.run import Run
    from tasks.engine.training.fit import fit

    train = Train(epochs=2, precision=arguments.precision)
    precision = make_precision(train)
    keras.config.set_dtype_policy(precision)
    keras.utils.set_random_seed(train.seed)
    task, config, records, preprocessor = _prepared(arguments)
    order = np.random.RandomState(0).permutation(len(records))
    splits = Splits(train=records.take(order[: arguments.examples]), validation=None, test=None)
    with tempfile.TemporaryDirectory() as folder:
        history = fit(
            task.model(config, preprocessor),
            task.objective(train, preprocessor),
            splits,
            preprocessor,
            train,
            Run(Path(folder)),
            hparams={},
            shuffle_buffer=Data().shuffle_buffer,
        )
    _report(precision=precision, examples_per_second=round(history[-1]["examples_per_second"], 1))


def export(arguments: argparse.Namespace) -> None:
    """Exports the pretrained encoder with an untrained head, which answers no slower than a
    trained one."""
    import numpy as np

    from tasks.engine.exporting import export as engine

    task, config, _, preprocessor = _prepared(arguments)
    with tempfile.TemporaryDirectory() as folder:
        preprocessor.save(Path(folder))
        assets = sorted(Path(folder).glob("vocabulary*.txt"))
        model = task.model(config, preprocessor)
        signatures = task.signatures(model, preprocessor, assets, None)
        version = engine.export(
            signatures,
            signatures.functions(),
            folder=arguments.folder,
            requests=[{"text": np.array([TEXT], object)}],
            card="A model to measure: its head is not trained.\n",
        )
    _report(saved_model=str(version))


def latency(arguments: argparse.Namespace) -> None:
    """Milliseconds from raw strings to NumPy answers, by `serving_default` in this process."""
    import tensorflow as tf
    import tensorflow_text  # noqa: F401  # registers the ops of its tokenizers

    model = tf.saved_model.load(arguments.model)  # keeps the variables alive
    serve = model.signatures["serving_default"]
    for size in (1, 32):
        texts = [TEXT] * size
        times = []
        for _ in range(5 + arguments.calls):
            start = time.perf_counter()
            answer = serve(text=tf.constant(texts))
            for tensor in answer.values():
                tensor.numpy()
            times.append((time.perf_counter() - start) * 1e3)
        timed = times[5:]  # the first few trace, plan and allocate
        _report(batch=size, milliseconds=round(mean(timed), 2), median=round(median(timed), 2))


def _prepared(arguments: argparse.Namespace) -> tuple[Any, BertClassifierConfig, Any, Any]:
    """The task, its model's config, the training records, and the preprocessor fitted on them."""
    task = TextClassification()
    data = Data(text_column=arguments.text_column, label_column=arguments.label_column)
    records = task.source(data, BertClassifierConfig()).read(arguments.train)
    config = BertClassifierConfig(preset=arguments.weights)
    return task, config, records, task.preprocessor(config, records, data)


def _report(**figures: Any) -> None:
    print(json.dumps({"ours": "text_classification", **figures}), flush=True)


if __name__ == "__main__":
    main()
