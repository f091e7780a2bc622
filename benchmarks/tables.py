"""Whether a step, an evaluation or an answer takes longer the larger its table of tokens is.

    python -m benchmarks.tables

From the project's folder; a table of 100,000 tokens is measured in turns with one of 1,000. Nothing
but the rows that a batch names should be touched. (A translator's logits have a column a token of
the target, so the table that grows here is its source's.) The table has medians of milliseconds.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.compare import show_table, start, write_results

RESULTS = Path("benchmarks/results/tables.json")
SIZES = (1_000, 100_000)
WIDTH = 300
BATCH, LENGTH = 32, 24
BAR = 1.15

Action = Callable[[], Any]


def tables(arguments: argparse.Namespace) -> None:
    """Milliseconds of a training step, a validation step and a served answer, by the table."""
    from tasks.engine.quiet import quiet_imports

    with quiet_imports():
        import keras

        from tasks.engine.distribution import make_precision
        from tasks.engine.options import Train

    keras.config.set_dtype_policy(make_precision(Train(precision=arguments.precision)))
    rows, results = [], {}
    for name, build in (("sequences", _sequences), ("translation", _translation), ("bert", _bert)):
        actions = {size: _actions(*build(size)) for size in SIZES}
        for what in ("training", "validation", "export"):
            seconds = _in_turns({size: own[what] for size, own in actions.items()}, arguments)
            small, large = (1000 * median(seconds[size]) for size in SIZES)
            # Rounds are beside each other in time, so that their ratio is steadier than medians'.
            ratio = median(b / a for a, b in zip(*(seconds[size] for size in SIZES), strict=True))
            holds = "yes" if ratio <= BAR else "no"
            rows.append((f"{name}, {what}", f"{small:.2f}", f"{large:.2f}", f"{ratio:.3f}", holds))
            results[f"{name}.{what}"] = {"small": small, "large": large, "ratio": ratio}
    heads = ("", *(f"{size:,} x {WIDTH}" for size in SIZES), "ratio", f"<= {BAR}")
    show_table(f"Milliseconds by the table, batches of {BATCH} x {LENGTH} tokens", heads, rows)
    write_results(arguments.results, "tables", results)


def _sequences(size: int) -> tuple[Any, Any, Any, dict[str, Any]]:
    from tasks.kinds.classification.objective import classification_objective
    from zoo.configs import SequenceClassifierConfig
    from zoo.lstm import sequence_classifier

    config = SequenceClassifierConfig(embedding=WIDTH)
    model = sequence_classifier(config, 2, vocabulary_size=size)
    inputs = {"token_ids": _tokens(size), "padding_mask": _ones()}
    return model, model, lambda train: classification_objective(["a", "b"], train), inputs


def _bert(size: int) -> tuple[Any, Any, Any, dict[str, Any]]:
    from tasks.kinds.classification.objective import classification_objective
    from zoo.backbone import BertEncoder
    from zoo.bert import BertClassifier

    encoder = BertEncoder(
        vocabulary_size=size,
        num_layers=2,
        num_heads=5,
        hidden_dim=WIDTH,
        intermediate_dim=4 * WIDTH,
        max_sequence_length=128,
    )
    model = BertClassifier(encoder, 2)
    inputs = {"token_ids": _tokens(size), "segment_ids": 0 * _ones(), "padding_mask": _ones()}
    serve = model.for_serving()
    return model, serve, lambda train: classification_objective(["a", "b"], train), inputs


def _translation(size: int) -> tuple[Any, Any, Any, dict[str, Any]]:
    from tasks.kinds.translation.objective import translation_objective
    from zoo.translator import Translator

    model = Translator(
        size, SIZES[0], encoder_layers=2, decoder_layers=2, width=WIDTH, inner=600, heads=5
    )
    inputs = {"source_ids": _tokens(size), "target_ids": _tokens(SIZES[0])}
    return model, lambda inputs: model(inputs, training=False), translation_objective, inputs


def _tokens(size: int) -> Any:
    import numpy as np

    return np.random.default_rng(0).integers(4, size, (BATCH, LENGTH)).astype(np.int32)


def _ones() -> Any:
    import numpy as np

    return np.ones((BATCH, LENGTH), np.int32)


def _actions(
    model: Any, serve: Any, objective: Callable[[Any], Any], inputs: dict[str, Any]
) -> dict[str, Action]:
    """What is measured of a model, by name: each does its work once."""
    import numpy as np
    import tensorflow as tf

    from tasks.engine.options import Train
    from tasks.engine.training.fit import compile_model

    options = Train(learning_rate=1e-5, schedule="constant")
    compile_model(model, objective(options), options, steps_per_epoch=1000)
    target = inputs.get("target_ids")
    truth = np.zeros(BATCH, np.int32) if target is None else np.roll(target, -1, axis=1)
    data = tf.data.Dataset.from_tensors((inputs, truth)).repeat()
    model.fit(data, steps_per_epoch=2, epochs=1, verbose=0)  # traces, and touches the table
    model.evaluate(data, steps=1, verbose=0)
    batches = iter(data)
    # Keras has no public way to its compiled steps; without `fit` around, its cost is not theirs.
    training, validation = model.train_function, model.test_function

    with tempfile.TemporaryDirectory() as folder:
        module = tf.Module()
        specs = {name: tf.TensorSpec([None, None], tf.int32, name) for name in inputs}
        function = tf.function(lambda **inputs: {"out": serve(inputs)}, autograph=False)
        concrete = function.get_concrete_function(**specs)
        module.held = concrete.variables
        tf.saved_model.save(module, folder, concrete)
        answer = tf.saved_model.load(folder).signatures["serving_default"]
    tensors = {name: tf.constant(value) for name, value in inputs.items()}
    return {
        "training": lambda: training(batches),
        "validation": lambda: validation(batches),
        "export": lambda: answer(**tensors)["out"].numpy(),
    }


def _in_turns(actions: dict[int, Action], arguments: argparse.Namespace) -> dict[int, list[float]]:
    """Seconds of one of each action, in rounds of several."""
    seconds: dict[int, list[float]] = {size: [] for size in actions}
    for number in range(arguments.rounds + 1):
        for size, action in actions.items():
            begin = time.perf_counter()
            for _ in range(arguments.steps):
                result = action()
            del result
            if number:  # the first round warms up
                seconds[size].append((time.perf_counter() - begin) / arguments.steps)
    return seconds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.tables",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(compare=tables)
    parser.add_argument("--rounds", type=int, default=15, help="turns (%(default)s)")
    parser.add_argument("--steps", type=int, default=10, help="steps in a turn (%(default)s)")
    parser.add_argument(
        "--precision", default="float32", help="as --train.precision has it (%(default)s)"
    )
    parser.add_argument(
        "--results", type=Path, default=RESULTS, help="JSON file to write (%(default)s)"
    )
    return parser


def main() -> None:
    """Runs the benchmark."""
    start(_parser())


if __name__ == "__main__":
    main()
