"""Sequence classification: accuracy of a BiLSTM from random weights.

    python -m benchmarks.sequence_classification sst2    # accuracy with the defaults

From the project's folder. Each training is a process of its own; the table has medians.
"""

import argparse
from pathlib import Path
from statistics import median_low

from benchmarks.compare import (
    DATA,
    Bars,
    judge,
    show_table,
    start,
    train,
    write_results,
)
from benchmarks.data import needed

RESULTS = Path("benchmarks/results/sequence_classification.json")
SST2 = Bars(accuracy=0.79, seconds=300, hoped=0.82, sooner=300)  # on two cores


def main() -> None:
    """Runs the benchmark that the arguments name."""
    start(_parser())


def sst2(arguments: argparse.Namespace) -> None:
    """Test accuracy and training time on SST-2: whole sentences, no pretrained vectors."""
    data = needed(arguments.data, "sst2")
    options = [
        *("--data.train", data / "train.tsv", "--data.validation", data / "dev.tsv"),
        *("--data.test", data / "test.tsv", "--data.header", "false"),
        *("--data.text_column", "0", "--data.label_column", "1"),
    ]
    runs = [
        train("sequence_classification", [*options, "--train.seed", str(seed)])
        for seed in range(arguments.rounds)
    ]
    accuracies = [metrics["test"]["accuracy"] for metrics, _ in runs]
    metrics, seconds = runs[accuracies.index(median_low(accuracies))]
    rows, results = judge(metrics, seconds, SST2, "sentences/s")
    lowest, highest = min(accuracies), max(accuracies)
    rows.insert(1, (f"of {len(runs)} seeds", f"{lowest:.4f} to {highest:.4f}", "", "", ""))
    validation = [metrics["validation"]["accuracy"] for metrics, _ in runs]
    results |= {"test_accuracies": accuracies, "validation_accuracies": validation}
    show_table("The BiLSTM on SST-2", ("", "ours", "bar", "goal", "holds"), rows)
    write_results(arguments.results, "sst2", results)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sequence_classification",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(required=True, metavar="{sst2}")
    verb = verbs.add_parser("sst2", help=sst2.__doc__, description=sst2.__doc__)
    verb.set_defaults(compare=sst2)
    verb.add_argument(
        "--data",
        type=Path,
        default=DATA,
        help="folder of sst2/, as benchmarks.data makes it (%(default)s)",
    )
    verb.add_argument(
        "--rounds", type=int, default=3, help="trainings, each of another seed (%(default)s)"
    )
    verb.add_argument(
        "--results", type=Path, default=RESULTS, help="JSON file to write (%(default)s)"
    )
    return parser


if __name__ == "__main__":
    main()
