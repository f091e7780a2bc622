"""Forecasting: training speed beside PyTorch, the window pipeline, and accuracy on ETTh1.

    python -m benchmarks.forecasting training   # sequences/s of two LSTM layers
    python -m benchmarks.forecasting feeding    # windows/s of the input pipeline, and its memory
    python -m benchmarks.forecasting etth1      # errors beside DLinear, at horizons 24 and 96

From the project's folder. Every measurement is a process of its own; contenders take turns, for
some rounds; the table has medians and the ratios of medians.
"""

import argparse
import json
import subprocess
import sys
import tempfile
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
    start,
    verdict,
    write_results,
)
from benchmarks.data import needed

RESULTS = Path("benchmarks/results/forecasting.json")
OURS = [sys.executable, "-m", "benchmarks.ours.forecasting"]

BARS = {24: 0.34, 96: 0.40}  # test MSE of standardised targets
ABOVE_LINEAR = 1.02  # times that of the DLinear trained in the same run


def main() -> None:
    """Runs the benchmark that the arguments name."""
    start(_parser())


def training(arguments: argparse.Namespace) -> None:
    """Training sequences a second of two LSTM layers of 128, beside PyTorch and Keras."""
    peer = [arguments.peers_python, arguments.peers / "lstm_torch.py"]
    contenders = [
        Contender("ours", [*OURS, "training"], _speed("ours")),
        Contender("PyTorch", peer, _speed("PyTorch")),
        Contender("ours float32", [*OURS, "training", "--precision", "float32"], _speed("ours")),
        Contender("Keras", [*OURS, "training", "--keras", "--precision", "float32"], _speed("")),
    ]
    figures = run_rounds(chosen(contenders, arguments), arguments.rounds)
    ours = next(iter(figures))
    ratios = [
        Ratio(ours, name, *((1.0, 1.4) if name == "PyTorch" else ()))
        for name in figures
        if name != ours
    ]
    comparison = Comparison("Training two LSTM layers", "sequences/s", figures, ratios)
    comparison.show()
    write_results(arguments.results, "training", comparison.plain())


def feeding(arguments: argparse.Namespace) -> None:
    """Windows a second of the input pipeline alone, beside what training takes; and its memory."""
    contenders = [
        Contender("window pipeline", [*OURS, "feeding"], _speed("window pipeline")),
        Contender("training", [*OURS, "training"], _speed("training")),
    ]
    figures = run_rounds(contenders, arguments.rounds)
    pipeline, training = figures
    comparison = Comparison(
        "The window pipeline", "windows/s", figures, [Ratio(pipeline, training, bar=5.0)]
    )
    comparison.show()
    memory = [
        run("memory", [*OURS, "feeding", "--window", window])[0] for window in ("96", "336", "720")
    ]
    show_table(
        "Memory of a million time steps of 7 columns",
        ("window, steps", "the series, MB", "all windows, MB", "held, MB"),
        [
            (
                str(one["window"]),
                *(f"{one[k] / 1e6:,.0f}" for k in ("series_bytes", "windows_bytes", "grown_bytes")),
            )
            for one in memory
        ],
    )
    write_results(arguments.results, "feeding", comparison.plain() | {"memory": memory})


def etth1(arguments: argparse.Namespace) -> None:
    """Test errors on ETTh1, multivariate, standardised, beside DLinear in the same run."""
    rows, results = [], {}
    for horizon in BARS:
        metrics = _trained(horizon, arguments)
        test = metrics["test"]
        mse, linear = test["scaled_mse"], test["baselines"]["linear"]["scaled_mse"]
        ratio, bar = mse / linear, BARS[horizon]
        good, near = mse <= bar, ratio <= ABOVE_LINEAR
        what = f"horizon {horizon}"
        rows += [
            (f"{what}: test MSE", f"{mse:.4f}", f"≤ {bar}", verdict(good)),
            (
                f"{what}: of DLinear's {linear:.4f}",
                f"{ratio:.3f}",
                f"≤ {ABOVE_LINEAR}",
                verdict(near),
            ),
            (f"{what}: test MAE", f"{test['scaled_mae']:.4f}", "", ""),
            (f"{what}: training, s", f"{metrics['train']['seconds']:.0f}", "", ""),
        ]
        results[str(horizon)] = {
            "mse": {"value": mse, "bar": bar, "holds": good},
            "of_linear": {"value": ratio, "bar": ABOVE_LINEAR, "holds": near},
            "test": {k: v for k, v in test.items() if isinstance(v, float)},
            "baselines": test["baselines"],
            "train": metrics["train"],
        }
    show_table("ETTh1", ("", "ours", "bar", "holds"), rows)
    write_results(arguments.results, "etth1", results)


def _trained(horizon: int, arguments: argparse.Namespace) -> dict[str, Any]:
    """The metrics of a run at this horizon."""
    data = needed(arguments.data, "etth1")
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(sys.executable, "-m", "tasks.forecasting", "train"),
            *("--data.train", data / "ETTh1.csv", "--data.time_column", "date"),
            *("--data.split", "ett_hour", "--model.window", 336, "--model.horizon", horizon),
            *("--run.dir", f"{folder}/run", "--train.seed", arguments.seed),
        ]
        if subprocess.run(list(map(str, command))).returncode:
            raise BenchmarkError("training failed; what it said is above")
        return json.loads(Path(folder, "run/metrics.json").read_text("utf-8"))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.forecasting",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(required=True, metavar="{training,feeding,etth1}")
    for compare in (training, feeding, etth1):
        what = compare.__doc__ or ""
        verb = verbs.add_parser(compare.__name__, help=what, description=what)
        verb.set_defaults(compare=compare)
        verb.add_argument(
            "--data",
            type=Path,
            default=DATA,
            help="folder of etth1/, as benchmarks.data makes it (%(default)s)",
        )
        verb.add_argument("--seed", type=int, default=0, help="of etth1's training (%(default)s)")
        add_options(verb, RESULTS)
    return parser


def _speed(name: str) -> Any:
    def read(printed: dict[str, Any]) -> tuple[str, float]:
        words = [name, printed.get("layers", ""), printed.get("precision", "")]
        speed = printed.get("sequences_per_second") or printed["windows_per_second"]
        return " ".join(filter(None, words)), speed

    return read


if __name__ == "__main__":
    main()
