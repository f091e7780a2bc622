"""BERT text classification beside its peers: training speed, latency, accuracy.

    python -m benchmarks.text_classification training
    python -m benchmarks.text_classification latency
    python -m benchmarks.text_classification accuracy

All on Banking77 with MiniLM, from the project's folder. Every measurement is a process of its own;
contenders take turns, for some rounds; the table has medians and the ratios of medians.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.compare import (
    DATA,
    BenchmarkError,
    Comparison,
    Contender,
    Ratio,
    add_options,
    chosen,
    run,
    run_rounds,
    show_table,
    verdict,
    write_results,
)
from benchmarks.data import needed
from tasks.engine.quiet import quiet_imports
from zoo.errors import PresetError
from zoo.presets import resolve

RESULTS = Path("benchmarks/results/text_classification.json")
OURS = [sys.executable, "-m", "benchmarks.ours.text_classification"]

# Accuracy on Banking77's test set, and seconds of training on two cores.
ACCURACY_BAR, SECONDS_BAR = 0.925, 600


def main() -> None:
    """Runs the benchmark that the arguments name."""
    arguments = _parser().parse_args()
    try:
        arguments.weights = resolve(arguments.weights)
        arguments.data = needed(arguments.data, "banking77")
        arguments.compare(arguments)
    except (BenchmarkError, PresetError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def training(arguments: argparse.Namespace) -> None:
    """Training examples a second."""
    peers, python = arguments.peers, arguments.peers_python
    inputs = ["--weights", arguments.weights, "--train", arguments.data / "train.csv"]
    inputs += ["--examples", str(arguments.examples)]
    best = _precision()
    native_bfloat16 = best == "mixed_bfloat16"
    bfloat16 = native_bfloat16 or arguments.emulated_bfloat16

    def ours(precision: str) -> Contender:
        command = [*OURS, "training", *inputs, "--precision", precision]
        return Contender(f"ours {precision}", command, _speed("ours"))

    contenders = [
        *(ours(precision) for precision in dict.fromkeys((best, "float32"))),
        # KerasHub runs on the project's own TensorFlow and Keras.
        Contender(
            "KerasHub", [sys.executable, peers / "bert_kerashub.py", *inputs], _speed("KerasHub")
        ),
        Contender(
            "Hugging Face",
            [python, peers / "bert_huggingface.py", *inputs],
            _speed("Hugging Face"),
            # float32 comes first; emulated, the bfloat16 settings after it are many times slower.
            first=None if bfloat16 else 1,
        ),
        *(
            Contender(
                f"Hugging Face tuned {dtype}",
                [python, peers / "huggingface_tuned.py", *inputs, "--dtype", dtype],
                _speed("Hugging Face"),
            )
            for dtype in ("float32", "bfloat16")[: 1 + bfloat16]
        ),
    ]
    subject = f"ours {best}"
    bars = [
        Ratio(subject, "KerasHub float32", bar=4.0, goal=5.0),
        # The bars are for the peers' fastest settings: float32 where bfloat16 is emulated.
        Ratio(subject, "Hugging Face float32", *(() if native_bfloat16 else (2.3, 3.0))),
        Ratio(subject, "Hugging Face bfloat16", bar=2.3, goal=3.0),
        Ratio(subject, "Hugging Face tuned bfloat16", bar=0.9, goal=1.2),
        Ratio(subject, "Hugging Face tuned float32", bar=0.9, goal=1.2),
    ]
    figures = run_rounds(chosen(contenders, arguments), arguments.rounds)
    comparison = Comparison("Training, batches of 32", "examples/s", figures, bars)
    comparison.show()
    write_results(arguments.results, "training", comparison.plain())


def latency(arguments: argparse.Namespace) -> None:
    """Milliseconds from raw strings to answers, in process: mean of a process's calls."""
    weights, python = ["--weights", arguments.weights], arguments.peers_python
    train = arguments.data / "train.csv"
    with tempfile.TemporaryDirectory() as folder:
        export = [*OURS, "export", *weights, "--train", train, "--folder", f"{folder}/minilm"]
        model = run("our export", export)[0]["saved_model"]
        contenders = [
            Contender("ours", [*OURS, "latency", "--model", model], _latency("ours")),
            Contender(
                "Hugging Face",
                [python, arguments.peers / "bert_huggingface.py", *weights, "--latency"],
                _latency("Hugging Face"),
            ),
            Contender(
                "ONNX Runtime",
                [python, arguments.peers / "bert_onnxruntime.py", *weights],
                _latency("ONNX Runtime"),
            ),
        ]
        figures = run_rounds(chosen(contenders, arguments), arguments.rounds)
    bars = [
        Ratio("ours, 1 string", "Hugging Face, 1 string", bar=0.75),
        Ratio("ours, 1 string", "ONNX Runtime, 1 string", goal=1.0),
        Ratio("ours, 32 strings", "Hugging Face, 32 strings"),
        Ratio("ours, 32 strings", "ONNX Runtime, 32 strings", bar=1.0),
    ]
    ordered = {name: figures[name] for name in sorted(figures, key=lambda name: "32" in name)}
    comparison = Comparison("Latency", "ms", ordered, bars, higher_is_better=False)
    comparison.show()
    write_results(arguments.results, "latency", comparison.plain())


def accuracy(arguments: argparse.Namespace) -> None:
    """Test accuracy and training time of the task with its defaults."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "tasks.text_classification", "train"),
            *("--data.train", arguments.data / "train.csv"),
            *("--data.test", arguments.data / "test.csv"),
            *("--data.text_column", "text", "--data.label_column", "category"),
            *("--model.preset", arguments.weights, "--run.dir", f"{folder}/run"),
        ]
        start = time.perf_counter()
        if subprocess.run(list(map(str, command))).returncode:
            raise BenchmarkError("training failed; what it said is above")
        whole = time.perf_counter() - start
        metrics = json.loads(Path(folder, "run/metrics.json").read_text("utf-8"))
    test, seconds = metrics["test"]["accuracy"], metrics["train"]["seconds"]
    good, quick = test >= ACCURACY_BAR, seconds <= SECONDS_BAR
    rows = [
        ("test accuracy", f"{test:.4f}", f"≥ {ACCURACY_BAR}", verdict(good)),
        ("training, s", f"{seconds:.0f}", f"≤ {SECONDS_BAR}", verdict(quick)),
        ("the whole command, s", f"{whole:.0f}", "", ""),
    ]
    show_table("Fine-tuning with the defaults", ("", "ours", "bar", "holds"), rows)
    results = {
        "test_accuracy": {"value": test, "bar": ACCURACY_BAR, "holds": good},
        "train_seconds": {"value": seconds, "bar": SECONDS_BAR, "holds": quick},
        "command_seconds": round(whole, 1),
        "epochs": metrics["train"]["epochs"],
        "environment": metrics["environment"],
    }
    write_results(arguments.results, "accuracy", results)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.text_classification",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(required=True, metavar="{training,latency,accuracy}")
    for compare in (training, latency, accuracy):
        what = compare.__doc__ or ""
        verb = verbs.add_parser(compare.__name__, help=what, description=what)
        verb.set_defaults(compare=compare)
        verb.add_argument(
            "--weights",
            default="minilm",
            help="preset or folder of pretrained weights in Hugging Face format (%(default)s)",
        )
        verb.add_argument(
            "--data",
            type=Path,
            default=DATA,
            help="folder of banking77/, as benchmarks.data makes it, or of its train.csv and "
            "test.csv, columns text and category (%(default)s)",
        )
        if compare is training:
            verb.add_argument(
                "--examples", type=int, default=2048, help="examples to time (%(default)s)"
            )
            verb.add_argument(
                "--emulated-bfloat16",
                action="store_true",
                help="measure the peers' bfloat16 even where the processor does not compute it "
                "natively, which may take an hour a round",
            )
        if compare is accuracy:
            verb.add_argument(
                "--results", type=Path, default=RESULTS, help="JSON file to write (%(default)s)"
            )
        else:
            add_options(verb, RESULTS)
    return parser


def _speed(name: str) -> Any:
    def read(printed: dict[str, Any]) -> tuple[str, float]:
        precision = printed.get("precision") or printed["policy"]
        return f"{name} {precision}", printed["examples_per_second"]

    return read


def _latency(name: str) -> Any:
    def read(printed: dict[str, Any]) -> tuple[str, float]:
        strings = "1 string" if printed["batch"] == 1 else f"{printed['batch']} strings"
        return f"{name}, {strings}", printed["milliseconds"]

    return read


def _precision() -> str:
    """What `--train.precision auto` is on this machine."""
    with quiet_imports():
        from tasks.engine.distribution import make_precision
    from tasks.engine.options import Train

    return make_precision(Train())


if __name__ == "__main__":
    main()
