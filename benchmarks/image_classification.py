"""Image classification: training speed beside PyTorch, the input pipeline, and accuracy.

    python -m benchmarks.image_classification training   # pictures/s of the fast CIFAR-10 net
    python -m benchmarks.image_classification feeding    # pictures/s of its input pipeline
    python -m benchmarks.image_classification mnist      # accuracy of `simple`
    python -m benchmarks.image_classification cifar10    # accuracy of `airbench`

From the project's folder. Every measurement is a process of its own; contenders take turns, for
some rounds; the table has medians and the ratios of medians.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from benchmarks.compare import (
    DATA,
    Bars,
    Comparison,
    Contender,
    Ratio,
    add_options,
    chosen,
    judge,
    run,
    run_rounds,
    show_table,
    start,
    train,
    write_results,
)
from benchmarks.data import needed

RESULTS = Path("benchmarks/results/image_classification.json")
OURS = [sys.executable, "-m", "benchmarks.ours.image_classification"]

# On two cores.
BARS = {"mnist": Bars(0.9955, 360, 0.997, 360), "cifar10": Bars(0.935, 1800, 0.94, 1200)}
PRESETS = {"mnist": "simple", "cifar10": "airbench"}

# Of the fast net's 3x3 convolutions: places, channels in and out. A training step of a picture
# takes the products of each three times, but the first needs no gradient of its input; and the
# whitening layer's once.
CONVOLUTIONS = [
    (31, 24, 64), (15, 64, 64), (15, 64, 256), (7, 256, 256), (7, 256, 256), (3, 256, 256),
]  # fmt: skip
PRODUCTS = [9 * size**2 * inputs * outputs for size, inputs, outputs in CONVOLUTIONS]
FLOP = 2 * (3 * sum(PRODUCTS) - PRODUCTS[0] + 31**2 * 4 * 3 * 24)


def main() -> None:
    """Runs the benchmark that the arguments name."""
    start(_parser())


def training(arguments: argparse.Namespace) -> None:
    """Training pictures a second of the fast CIFAR-10 net, beside PyTorch's best setting."""
    peer = [arguments.peers_python, arguments.peers / "cnn_torch.py"]
    contenders = [
        Contender("ours", [*OURS, "training"], _speed("ours")),
        Contender("PyTorch", peer, _speed("PyTorch")),
    ]
    figures = run_rounds(chosen(contenders, arguments), arguments.rounds)
    ours = next(iter(figures))
    ratios = [Ratio(ours, name, bar=0.85, goal=1.1) for name in figures if name != ours]
    comparison = Comparison("Training the fast CIFAR-10 net", "pictures/s", figures, ratios)
    comparison.show()
    write_results(arguments.results, "training", comparison.plain())


def feeding(arguments: argparse.Namespace) -> None:
    """Pictures a second of the input pipeline alone, beside what training takes."""
    table = arguments.data / "cifar10/train.parquet"
    contenders = [
        Contender("input pipeline", [*OURS, "feeding", "--train", table], _speed("input pipeline")),
        Contender("training", [*OURS, "training"], _speed("training")),
    ]
    figures = run_rounds(contenders, arguments.rounds)
    feeding, training = figures
    ratios = [Ratio(feeding, training, bar=3.0)]
    comparison = Comparison("The fast recipe's input pipeline", "pictures/s", figures, ratios)
    comparison.show()
    write_results(arguments.results, "feeding", comparison.plain())


def mnist(arguments: argparse.Namespace) -> None:
    """Test accuracy and training time of `simple` on MNIST."""
    _accuracy("mnist", arguments)


def cifar10(arguments: argparse.Namespace) -> None:
    """Test accuracy and training time of `airbench` on CIFAR-10."""
    _accuracy("cifar10", arguments)


def _accuracy(name: str, arguments: argparse.Namespace) -> None:
    data = needed(arguments.data, name)
    files = ["--data.train", data / "train.parquet", "--data.test", data / "test.parquet"]
    metrics, seconds = train("image_classification", [*files, "--model.preset", PRESETS[name]])
    rows, results = judge(metrics, seconds, BARS[name], "pictures/s")
    if name == "cifar10":
        peak = run("peak", [*OURS, "peak"])[0]["gflop_per_second"]
        reached = metrics["train"]["examples_per_second"] * FLOP / 1e9
        rows.append(("GFLOP/s", f"{reached:.0f}", "", "", ""))
        rows.append(("share of the peak", f"{reached / peak:.2f}", "", "", ""))
        results |= {"gflop_per_second": round(reached), "peak_gflop_per_second": round(peak)}
    show_table(f"{PRESETS[name]} on {name}", ("", "ours", "bar", "goal", "holds"), rows)
    write_results(arguments.results, name, results)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.image_classification",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(required=True, metavar="{training,feeding,mnist,cifar10}")
    for compare in (training, feeding, mnist, cifar10):
        what = compare.__doc__ or ""
        verb = verbs.add_parser(compare.__name__, help=what, description=what)
        verb.set_defaults(compare=compare)
        verb.add_argument(
            "--data",
            type=Path,
            default=DATA,
            help="folder of mnist/ and cifar10/, as benchmarks.data makes them (%(default)s)",
        )
        add_options(verb, RESULTS)
    return parser


def _speed(name: str) -> Any:
    def read(printed: dict[str, Any]) -> tuple[str, float]:
        words = [name, printed.get("precision", "")]
        if "channels_last" in printed:
            words.append("channels last" if printed["channels_last"] else "channels first")
        return " ".join(filter(None, words)), printed["images_per_second"]

    return read


if __name__ == "__main__":
    main()
