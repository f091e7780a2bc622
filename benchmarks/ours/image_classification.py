"""One measurement of the project's image classification, printed as JSON, one object a line.

    python -m benchmarks.ours.image_classification training
    python -m benchmarks.ours.image_classification feeding --train FILE

`python -m benchmarks.image_classification` runs these beside the peers.
"""

import argparse
import json
import time
from itertools import islice
from typing import Any

from tasks.engine.memory import keep_freed_memory
from tasks.engine.options import Train
from tasks.engine.quiet import quiet_imports
from tasks.image_classification import RECIPES, Data, ImageClassification
from zoo.configs import CnnConfig

RECIPE = RECIPES["airbench"]


def main() -> None:
    """Runs the measurement that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("training", "feeding", "peak"))
    parser.add_argument("--train", help="a table of pictures, for `feeding`")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--batch-size", type=int, default=RECIPE["train.batch_size"])
    arguments = parser.parse_args()
    keep_freed_memory()  # as the command line does
    with quiet_imports():
        import tasks.engine.command.train  # noqa: F401  # all that the measurements import, in silence
    {"training": training, "feeding": feeding, "peak": peak}[arguments.what](arguments)


def training(arguments: argparse.Namespace) -> None:
    """Pictures a second of `model.fit` with the fast recipe's net and optimizer, on noise."""
    import keras
    import numpy as np
    import tensorflow as tf

    from benchmarks.ours.clock import epoch_seconds
    from data.images.preprocessor import ImagePreprocessor
    from tasks.engine.distribution import make_precision
    from tasks.engine.training.fit import compile_model
    from zoo.cnn import image_classifier

    task, train = ImageClassification(), _train(precision=arguments.precision)
    precision = make_precision(train)
    keras.config.set_dtype_policy(precision)
    model = image_classifier(CnnConfig(preset="airbench"), 10, (32, 32, 3))
    labels = [str(label) for label in range(10)]
    objective = task.objective(train, ImagePreprocessor(labels, 32, 32))
    batch = arguments.batch_size
    steps = max(2048 // batch, 2)
    compile_model(model, objective, train, steps)
    images = np.random.RandomState(0).randn(batch, 32, 32, 3).astype(np.float32)
    targets = np.arange(batch, dtype=np.int32) % 10
    batches = tf.data.Dataset.from_tensors(({"image": images}, targets)).repeat()
    speed = batch * steps / epoch_seconds(model, batches, steps, epochs=4)
    _report(precision=precision, batch=batch, images_per_second=round(speed, 1))


def feeding(arguments: argparse.Namespace) -> None:
    """Pictures a second of the input pipeline alone, with the fast recipe's changes."""
    from data.splits import Splits
    from tasks.engine.training.fit import training_batches

    task = ImageClassification()
    data = Data(
        train=arguments.train,
        **{key.removeprefix("data."): value for key, value in RECIPE.items() if "data." in key},
    )
    splits: Splits = task.source(data, CnnConfig()).splits(seed=0)
    preprocessor = task.preprocessor(CnnConfig(preset="airbench"), splits.train, data)
    augmentation = task.augmentation(data, preprocessor)
    train = _train()
    epochs = training_batches(splits.train, preprocessor, train, augmentation=augmentation)
    batches = iter(epochs.start(0))
    count = 40
    for _ in islice(batches, 10):  # what was made ahead
        pass
    start = time.perf_counter()
    for inputs, _ in islice(batches, count):
        inputs["image"].shape  # noqa: B018
    speed = count * train.batch_size / (time.perf_counter() - start)
    _report(images_per_second=round(speed, 1))


def peak(arguments: argparse.Namespace) -> None:
    """GFLOP a second of large matrix products, in the precision that training takes."""
    import tensorflow as tf

    from tasks.engine.distribution import make_precision

    dtype = make_precision(_train(precision=arguments.precision)).removeprefix("mixed_")
    size, times = 4096, []
    x = tf.cast(tf.random.normal([size, size]), dtype)
    for _ in range(6):
        start = time.perf_counter()
        tf.matmul(x, x)[0, 0].numpy()
        times.append(time.perf_counter() - start)
    _report(dtype=dtype, gflop_per_second=round(2 * size**3 / min(times) / 1e9))


def _train(**more: Any) -> Train:
    options = {key.removeprefix("train."): v for key, v in RECIPE.items() if "train." in key}
    return Train(**options, **more)


def _report(**figures: Any) -> None:
    print(json.dumps({"ours": "image_classification", **figures}), flush=True)


if __name__ == "__main__":
    main()
