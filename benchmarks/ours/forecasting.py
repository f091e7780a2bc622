"""One measurement of the project's forecasting, printed as JSON, one object a line.

    python -m benchmarks.ours.forecasting training
    python -m benchmarks.ours.forecasting feeding --window 336

`python -m benchmarks.forecasting` runs these beside the peers.
"""

import argparse
import json
import resource
import time
from itertools import islice
from typing import Any

from tasks.engine.memory import keep_freed_memory
from tasks.engine.options import Train
from tasks.engine.quiet import quiet_imports
from tasks.forecasting import Forecasting
from zoo.configs import ForecasterConfig

# The peer's shapes: two layers of 128 on 96 steps of 7 features, 24 steps of one of them forecast.
BATCH, WINDOW, COLUMNS, HORIZON = 64, 96, 7, 24
CONFIG = ForecasterConfig(
    window=WINDOW,
    horizon=HORIZON,
    layers=2,
    units=128,
    dropout=0.0,
    linear=False,
    quantiles=[],
    calendar=False,
)


def main() -> None:
    """Runs the measurement that the arguments name."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("training", "feeding"))
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--keras", action="store_true", help="with Keras' own LSTM layers")
    parser.add_argument("--window", type=int, default=WINDOW)
    parser.add_argument("--rows", type=int, default=1_000_000, help="time steps, for `feeding`")
    arguments = parser.parse_args()
    keep_freed_memory()  # as the command line does
    with quiet_imports():
        import tasks.engine.command.train  # noqa: F401  # all that the measurements import, in silence
    {"training": training, "feeding": feeding}[arguments.what](arguments)


def training(arguments: argparse.Namespace) -> None:
    """Sequences a second of `model.fit`, on noise."""
    import keras
    import numpy as np
    import tensorflow as tf

    from benchmarks.ours.clock import epoch_seconds
    from data.batching import without_autotuning
    from data.series.preprocessor import ForecastPreprocessor
    from tasks.engine.distribution import make_precision, one_thread_an_op
    from tasks.engine.training.fit import compile_model
    from zoo import lstm
    from zoo.forecasting import forecaster

    if arguments.keras:
        lstm.LSTM = keras.layers.LSTM
    else:
        one_thread_an_op()
    train = Train(precision=arguments.precision, batch_size=BATCH)
    precision = make_precision(train)
    keras.config.set_dtype_policy(precision)
    model = forecaster(CONFIG, 1, [0.0] * COLUMNS, [1.0] * COLUMNS)
    preprocessor = ForecastPreprocessor(
        columns={"targets": ["a"]},
        frequency={"seconds": 3600},
        window=WINDOW,
        horizon=HORIZON,
        calendar=(),
        season=24,
        mean=[0.0],
        deviation=[1.0],
        seasonal_error=[1.0],
    )
    steps = 40
    compile_model(model, Forecasting().objective(train, preprocessor), train, steps)
    random = np.random.default_rng(0)
    history = random.normal(size=[BATCH, WINDOW, COLUMNS]).astype(np.float32)
    targets = random.normal(size=[BATCH, HORIZON, 1]).astype(np.float32)
    batches = tf.data.Dataset.from_tensors(({"history": history}, targets)).repeat()
    seconds = epoch_seconds(model, without_autotuning(batches), steps, epochs=5)
    speed = BATCH * steps / seconds
    layers = "Keras' LSTM" if arguments.keras else ""
    _report(layers=layers, precision=precision, sequences_per_second=round(speed, 1))


def feeding(arguments: argparse.Namespace) -> None:
    """Windows a second of the input pipeline alone, and the memory that it holds."""
    import numpy as np

    from data.series.frequency import Frequency
    from data.series.preprocessor import fit_forecast_preprocessor
    from data.series.sections import Columns, SeriesSet, whole
    from data.series.windows import Windows
    from tasks.engine.training.fit import training_batches

    names = tuple("abcdefg")
    rows = arguments.rows
    values = np.random.default_rng(0).normal(size=[rows, len(names)]).astype(np.float32)
    series = SeriesSet(
        values=values,
        measured=np.ones(values.shape, bool),
        times=np.arange(rows, dtype=np.int64) * 3600,
        bounds=np.array([0, rows]),
        names=[""],
        columns=Columns(names),
        static=np.zeros([1, 0], object),
        frequency=Frequency(3600),
        source="noise",
        missing={},
    )
    windows = Windows.of(whole(series), arguments.window, HORIZON, season=24)
    preprocessor = fit_forecast_preprocessor(
        windows.section, arguments.window, HORIZON, season=24, calendar=True
    )
    train = Train(batch_size=BATCH)
    before = _resident()
    batches = iter(training_batches(windows, preprocessor, train).start(0))
    for _ in islice(batches, 10):  # what was made ahead
        pass
    count = 400
    start = time.perf_counter()
    for inputs, _ in islice(batches, count):
        inputs["history"].shape  # noqa: B018
    speed = count * BATCH / (time.perf_counter() - start)
    _report(
        window=arguments.window,
        windows_per_second=round(speed, 1),
        windows_bytes=len(windows) * arguments.window * len(names) * 4,
        series_bytes=values.nbytes,
        grown_bytes=_resident() - before,
    )


def _resident() -> int:
    """The most memory that this process has held so far, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _report(**figures: Any) -> None:
    print(json.dumps({"ours": "forecasting", **figures}), flush=True)


if __name__ == "__main__":
    main()
