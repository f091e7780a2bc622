"""Translation: BLEU on Multi30k, and the speed of training and decoding beside peers.

    python -m benchmarks.translation multi30k    # English-German with the defaults
    python -m benchmarks.translation training    # target tokens/s: KerasHub, PyTorch
    python -m benchmarks.translation decoding    # of what multi30k exported: CTranslate2
    python -m benchmarks.translation steps       # ms a decoding step, by length

From the project's folder. Every measurement is a process of its own; contenders take turns, for
some rounds; the table has medians and the ratios of medians.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.compare import (
    DATA,
    BenchmarkError,
    Comparison,
    Contender,
    Figures,
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

RESULTS = Path("benchmarks/results/translation.json")
OURS = [sys.executable, "-m", "benchmarks.ours.translation"]
EXPORT = Path("saved_models/en-de-benchmark")

BLEU_BAR, BLEU_GOAL, SECONDS_BAR = 38.5, 41.0, 3600  # lower-cased, of the test data; two cores
SPEED_BARS = {"KerasHub": 1.2, "PyTorch": 2.0}  # times the peer's best
SPEED = "target_tokens_per_second"
# What is measured of decoding, by the search and the measure that the figures are of: bar, goal.
DECODING = {
    ("greedy", "seconds"): ("1,000 sentences, greedy, s", 3.0, 1.0),
    ("beam 5", "seconds"): ("1,000 sentences, beam of 5, s", 10.0, 4.0),
    ("greedy", "milliseconds"): ("one sentence, greedy, ms", 25.0, 8.0),
}


def main() -> None:
    """Runs the benchmark that the arguments name."""
    start(_parser())


def multi30k(arguments: argparse.Namespace) -> None:
    """BLEU of a translator from English to German, trained with the task's defaults on Multi30k."""
    with tempfile.TemporaryDirectory() as folder:
        kept = arguments.run or Path(folder, "run")
        metrics = _trained(kept, arguments)
        target_tokens = run("target tokens", [*OURS, "tokens", "--run", kept])[0]["target_tokens"]
    test, validation, trained = metrics["test"], metrics["validation"], metrics["train"]
    bleu, seconds = test["bleu_lowercase"], trained["seconds"]
    good, quick = bleu >= BLEU_BAR, seconds <= SECONDS_BAR
    speed = target_tokens * trained["epochs"] / seconds

    def scores(title: str, name: str, *bars: str) -> tuple[str, ...]:
        return (title, f"{test[name]:.2f}", f"{validation[name]:.2f}", *(bars or ("", "", "")))

    rows = [
        scores(
            "BLEU, lower-cased",
            "bleu_lowercase",
            f"≥ {BLEU_BAR}",
            f"≥ {BLEU_GOAL:g}",
            verdict(good),
        ),
        scores("BLEU, cased", "bleu"),
        scores("chrF++", "chrf"),
        scores("perplexity of a token", "perplexity"),
        ("training, s", f"{seconds:.0f}", "", f"≤ {SECONDS_BAR}", "", verdict(quick)),
        ("target tokens/s", f"{speed:.0f}", "", "", "", ""),
    ]
    columns = ("", "test", "validation", "bar", "goal", "holds")
    show_table("English to German on Multi30k, Flickr 2016", columns, rows)
    results = {
        "bleu_lowercase": {"value": bleu, "bar": BLEU_BAR, "goal": BLEU_GOAL, "holds": good},
        "train_seconds": {"value": seconds, "bar": SECONDS_BAR, "holds": quick},
        "target_tokens_per_second": round(speed, 1),
        "options": arguments.options,
        **{name: metrics[name] for name in ("test", "validation", "train", "environment")},
    }
    write_results(arguments.results, "multi30k", results)


def training(arguments: argparse.Namespace) -> None:
    """Target tokens a second in training, in the peers' shape: 4+4 layers of 128, 9000 subwords."""
    python, peers = arguments.peers_python, arguments.peers

    def ours(precision: str, what: str, *options: str | Path) -> Contender:
        name = f"ours {precision}, {what}"
        command = [*OURS, "training", "--precision", precision, *options]
        return Contender(name, command, lambda printed: (name, printed[SPEED]))

    def kerashub(precision: str) -> Contender:
        name = f"KerasHub {precision}"
        # It runs on the project's own TensorFlow and Keras.
        command = [sys.executable, peers / "nmt_kerashub.py", precision]
        return Contender(name, command, lambda printed: (name, printed[SPEED]))

    torch = Contender(
        "PyTorch",
        [python, peers / "nmt_torch.py"],
        lambda printed: (f"PyTorch {printed['precision']}", printed[SPEED]),
    )
    sentences = ("--sentences", needed(arguments.data, "multi30k"))
    contenders = [
        ours("mixed_bfloat16", "full batches"),
        kerashub("mixed_bfloat16"),
        ours("mixed_bfloat16", "sentences", *sentences),
        torch,
        ours("float32", "full batches"),
        kerashub("float32"),
        ours("float32", "sentences", *sentences),
        ours("mixed_bfloat16", "dropout everywhere", "--dropout-everywhere"),
    ]
    figures = run_rounds(chosen(contenders, arguments), arguments.rounds)
    figures = {name: figures[name] for name in sorted(figures, key=_group)}
    # Each in the precision that is best for it; of ours, the kind of batches that is slower.
    full, real = _best(figures, ", full batches"), _best(figures, ", sentences")
    judged = min((full, real), key=lambda name: median(figures.get(name, [math.inf])))
    bars = {_best(figures, peer): bar for peer, bar in SPEED_BARS.items()}
    ratios = [Ratio(judged, name, bars.get(name)) for name in figures if _is_peer(name)]
    title = f"Training; what is held against the peers is {judged or 'missing'}"
    comparison = Comparison(title, "target tokens/s", figures, ratios)
    comparison.show()
    write_results(arguments.results, "training", comparison.plain())


def decoding(arguments: argparse.Namespace) -> None:
    """Seconds in which an export translates 1,000 sentences, and milliseconds for one."""
    model, data = _version(arguments.model), needed(arguments.data, "multi30k")
    ours = [*OURS, "decoding", "--model", str(model), "--data", str(data)]
    peer = [arguments.peers_python, arguments.peers / "nmt_decode_ctranslate2.py"]
    contenders = [
        Contender("ours", ours, _decoding("ours")),
        Contender("CTranslate2", peer, _decoding("CTranslate2")),
    ]
    figures = run_rounds(chosen(contenders, arguments), arguments.rounds)
    rows: list[tuple[str, ...]] = []
    results = {}
    for (search, measure), (what, bar, goal) in DECODING.items():
        own, other = (figures.get(f"{who} {search} {measure}") for who in ("ours", "CTranslate2"))
        if own is None:
            raise BenchmarkError("nothing of ours was measured; let --only include ours")
        value, holds = median(own), median(own) <= bar
        spread = f"{min(own):.2f} to {max(own):.2f}" if len(own) > 1 else ""
        peers = (
            (f"{median(other):.2f}", f"{value / median(other):.2f} times") if other else ("", "")
        )
        bounds = (f"≤ {bar:g}", f"≤ {goal:g}", verdict(holds))
        rows.append((what, f"{value:.2f}", spread, *bounds, *peers))
        results[what] = {"value": value, "bar": bar, "goal": goal, "holds": holds, "rounds": own}
        results[what] |= {"ctranslate2": other, "ratio": value / median(other)} if other else {}
    bleu = {search: figures[f"ours {search} bleu_lowercase"][0] for search in ("greedy", "beam 5")}
    rows += [(f"BLEU, lower-cased, {search}", f"{score:.2f}") for search, score in bleu.items()]
    columns = ("", "ours", "lowest to highest", "bar", "goal", "holds", "CTranslate2", "ours is")
    show_table("Decoding, from strings to strings, batches of 64", columns, rows)
    write_results(arguments.results, "decoding", {"figures": results, "bleu_lowercase": bleu})


def steps(arguments: argparse.Namespace) -> None:
    """Milliseconds of a decoding step by the length that is decoded to, beside its attention."""
    command = [*OURS, "steps", "--lengths", *map(str, arguments.lengths)]
    contender = Contender(
        "ours",
        command,
        lambda printed: (
            f"{printed['search']}, batch {printed['batch']}, {printed['length']} tokens",
            printed["milliseconds"],
        ),
    )
    figures = run_rounds([contender], arguments.rounds)
    found = {name: median(values) for name, values in figures.items()}
    ways = list(dict.fromkeys(name.rpartition(", ")[0] for name in found))
    rows = [
        (f"to {length} tokens", *(f"{found[f'{way}, {length} tokens']:.2f}" for way in ways))
        for length in arguments.lengths
    ]
    show_table("A step of decoding, ms, 4+4 layers of 128", ("", *ways), rows)
    results = {name: {"median": found[name], "rounds": values} for name, values in figures.items()}
    write_results(arguments.results, "steps", {"unit": "ms", "figures": results})


def _trained(folder: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """The metrics of a run in this folder, which is begun or gone on with."""
    data = needed(arguments.data, "multi30k")
    parts = {"train": "train", "validation": "val", "test": "test_2016_flickr"}
    files = [
        argument
        for option, name in parts.items()
        for argument in (
            f"--data.{option}",
            *(data / f"{name}.{language}" for language in ("en", "de")),
        )
    ]
    command = [
        *(sys.executable, "-m", "tasks.translation", "train", *files),
        *("--run.dir", folder, "--export.dir", arguments.export, *arguments.options),
    ]
    if subprocess.run(list(map(str, command))).returncode:
        raise BenchmarkError("training failed; what it said is above")
    return json.loads((folder / "metrics.json").read_text("utf-8"))


def _is_peer(name: str) -> bool:
    return not name.startswith("ours")


def _group(name: str) -> tuple[bool, str]:
    """What puts ours first, and figures of one peer beside each other."""
    return _is_peer(name), name.split()[0]


def _best(figures: Figures, part: str) -> str:
    """Of the figures with this in their name the highest one's; "" if there is none."""
    names = [name for name in figures if part in name]
    return max(names, key=lambda name: median(figures[name]), default="")


def _decoding(who: str) -> Any:
    def read(printed: dict[str, Any]) -> tuple[str, float]:
        search = printed.get("search") or {1: "greedy", 5: "beam 5"}[printed["beam"]]
        measure = next(
            name for name in ("seconds", "milliseconds", "bleu_lowercase") if name in printed
        )
        return f"{who} {search} {measure}", printed[measure]

    return read


def _version(model: Path) -> Path:
    """The newest version of an export, or the one that is named."""
    versions = [
        path.parent for path in model.glob("*/saved_model.pb") if path.parent.name.isdigit()
    ]
    if (model / "saved_model.pb").exists():
        return model
    if not versions:
        raise BenchmarkError(f"no export in {model}; run multi30k first, or name one with --model")
    return max(versions, key=lambda version: int(version.name))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.translation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(required=True, metavar="{multi30k,training,decoding,steps}")
    for compare in (multi30k, training, decoding, steps):
        what = compare.__doc__ or ""
        verb = verbs.add_parser(compare.__name__, help=what, description=what)
        verb.set_defaults(compare=compare)
        if compare is not steps:
            verb.add_argument(
                "--data",
                type=Path,
                default=DATA,
                help="folder of multi30k/, as benchmarks.data makes it (%(default)s)",
            )
        if compare in (training, decoding):
            add_options(verb, RESULTS)
        else:
            verb.add_argument(
                "--results", type=Path, default=RESULTS, help="JSON file to write (%(default)s)"
            )
        if compare is multi30k:
            verb.add_argument(
                "--export", type=Path, default=EXPORT, help="where to export to (%(default)s)"
            )
            verb.add_argument(
                "--run",
                type=Path,
                help="run folder to keep, by which a benchmark that was stopped goes on",
            )
            verb.add_argument(
                "options",
                nargs="*",
                help="more options of the task, after two dashes: -- --train.epochs 2",
            )
        if compare is decoding:
            verb.add_argument(
                "--model",
                type=Path,
                default=EXPORT,
                help="an export, of which the newest version is taken, or a version (%(default)s)",
            )
        if compare is steps:
            verb.add_argument("--rounds", type=int, default=1, help="processes (%(default)s)")
            verb.add_argument(
                "--lengths",
                type=int,
                nargs="+",
                default=[16, 32, 64, 128, 256],
                help="tokens to decode, each from 2, the end counted (%(default)s)",
            )
    return parser


if __name__ == "__main__":
    main()
