"""report.md: a run for a person to read, with its pictures in a folder beside it."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from matplotlib.figure import Figure

from tasks.engine.config_file import write_yaml
from tasks.engine.files import atomic_write
from tasks.engine.run import Run, flat
from tasks.engine.showing import markdown
from tasks.engine.showing.figures import curves, png

_COUNTS = ("examples", "skipped")  # what a data set's section holds beside its metrics
_FOLDED = 15  # rows from which the table by class starts folded


def write_report(
    run: Run,
    metrics: Mapping[str, Any],
    history: Sequence[Mapping[str, float]],
    pictures: Mapping[str, Figure],
    mistakes: Sequence[Mapping[str, Any]],
    config: Mapping[str, Any],
    mistakes_title: str = "Most confident mistakes",
) -> Path:
    """Writes `report.md` and `pictures/*.png` into the run folder.

    Args:
        run: the run.
        metrics: what metrics.json holds. Its sections `train`, `validation`, `test` and
            `environment` are shown where there are any, and `data`, facts about all the data.
        history: the logs of each epoch, with `epoch` counting from 1.
        pictures: figures by name, of the test data, or of the validation data where there is none.
        mistakes: rows of one table, for the same data.
        config: the options the run was started with, by section.
        mistakes_title: what the table of mistakes is called.
    Returns:
        The report's path.
    """
    judged = "test" if metrics.get("test") else "validation"
    drawn = {"history": curves(history), **pictures} if history else pictures
    links = {name: _write_picture(run.folder, name, figure) for name, figure in drawn.items()}
    sections = [
        _heading(run, metrics, judged),
        _results(metrics),
        _section("Training", _training(metrics, history, links.pop("history", ""))),
        _section("By class", links.pop("per_class", "") + _per_class(metrics.get(judged, {}))),
        _section("Baselines", _compared(metrics.get(judged, {}))),
        _section("By target", _named_rows("target", metrics.get(judged, {}).get("per_target", {}))),
        _section("Backtest", _backtest(metrics.get("backtest", {}))),
        *(_section(_words(name), link) for name, link in links.items()),
        _section(mistakes_title, _rows(mistakes)),
        _section("Signatures", _facts(metrics.get(judged, {}).get("signatures", {}))),
        _section("Decoding", _facts(metrics.get(judged, {}).get("decode", {}))),
        _section("Data", _data(metrics, config)),
        _section("To repeat it", _repeat(run, config)),
        _section("Environment", _facts(metrics.get("environment", {}))),
    ]
    path = run.folder / "report.md"
    with atomic_write(path) as file:
        file.write("\n".join(section for section in sections if section))
    return path


def _write_picture(folder: Path, name: str, figure: Figure) -> str:
    with atomic_write(folder / "pictures" / f"{name}.png", "wb") as file:
        file.write(png(figure))
    return f"![{_words(name)}](pictures/{quote(name)}.png)\n\n"


def _heading(run: Run, metrics: Mapping[str, Any], judged: str) -> str:
    title = f"# {_words(str(metrics.get('task', 'run')))}: {markdown.escape(run.folder.name)}\n"
    numbers = metrics.get(judged, {})
    headline = (
        *("accuracy", "macro_f1", "loss"),
        *("scaled_mse", "scaled_mae", "mase"),
        *("bleu", "chrf", "perplexity"),
    )
    chosen = [name for name in headline if name in numbers]
    if not chosen:
        return title
    said = ", ".join(f"{_words(name, False)} **{_number(numbers[name])}**" for name in chosen)
    return f"{title}\nOn the {judged} data: {said}.\n"


def _results(metrics: Mapping[str, Any]) -> str:
    """One row a metric, one column a data set."""
    splits = [split for split in ("validation", "test") if metrics.get(split)]
    names = dict.fromkeys(
        name
        for split in splits
        for name, value in metrics[split].items()
        if name not in _COUNTS and not isinstance(value, Mapping | list)
    )
    if not names:
        return ""
    rows = [[name, *(_number(metrics[split].get(name)) for split in splits)] for name in names]
    return _section("Results", markdown.table(["metric", *splits], rows, numbers=splits))


def _training(
    metrics: Mapping[str, Any], history: Sequence[Mapping[str, float]], picture: str
) -> str:
    facts = {"epochs": len(history)} if history else {}
    facts |= {"parameters": metrics["parameters"]} if "parameters" in metrics else {}
    figures = flat(metrics.get("train", {}))
    facts |= {k.replace(".", " "): v for k, v in figures.items() if k not in _COUNTS}
    return "\n".join(part for part in (_facts(facts), picture) if part)


def _per_class(numbers: Mapping[str, Any]) -> str:
    """The classes, lowest F1 first; those that the data does not contain come last."""
    if "per_class" not in numbers:
        return ""
    columns = ["precision", "recall", "f1", "support"]
    by_f1 = sorted(
        numbers["per_class"].items(), key=lambda item: (item[1]["f1"] is None, item[1]["f1"] or 0.0)
    )
    rows = [[label, *(_number(values[name]) for name in columns)] for label, values in by_f1]
    table = markdown.table(["class", *columns], rows, numbers=columns)
    return _folded(f"{len(rows)} classes, lowest F1 first", table) if len(rows) > _FOLDED else table


def _compared(numbers: Mapping[str, Any]) -> str:
    """The model and its baselines, a row each."""
    if "baselines" not in numbers:
        return ""
    names = [name for name, value in numbers.items() if isinstance(value, float)]
    models = {"the model": numbers, **numbers["baselines"]}
    return _named_rows("", {k: {n: v.get(n) for n in names} for k, v in models.items()})


def _backtest(backtest: Mapping[str, Any]) -> str:
    """A row a fold, then their mean and deviation."""
    if not backtest:
        return ""
    folds = {str(number): fold for number, fold in enumerate(backtest["folds"], 1)}
    return _named_rows("fold", folds | {k: backtest[k] for k in ("mean", "deviation")})


def _named_rows(what: str, rows: Mapping[str, Mapping[str, Any]]) -> str:
    """A table of numbers, with the rows' names first."""
    if not rows:
        return ""
    columns = list(next(iter(rows.values())))
    cells = [[_words(k, False), *(_number(v.get(c)) for c in columns)] for k, v in rows.items()]
    return markdown.table([what, *columns], cells, numbers=columns)


def _rows(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return ""
    header = list(dict.fromkeys(key for row in rows for key in row))
    cells = ([_number(row.get(key, "")) for key in header] for row in rows)
    return markdown.table(header, cells, numbers=["score", "chrf", *_COUNTS])


def _data(metrics: Mapping[str, Any], config: Mapping[str, Any]) -> str:
    """Where each data set came from, how large it is, and what is known of all of them."""
    rows = [
        {"data": split, "from": _source(split, config.get("data", {}))}
        | {name: metrics[split].get(name) for name in _COUNTS}
        for split in ("train", "validation", "test")
        if "examples" in metrics.get(split, {})
    ]
    facts = dict(metrics.get("data", {}))
    judged = metrics.get("test") or metrics.get("validation") or {}
    if "per_class" in judged:
        facts = {"classes": len(judged["per_class"])} | facts
    told = [_rows(rows), _facts(facts)]
    for split in ("validation", "test"):
        own = metrics.get(split, {}).get("data", {})
        told.append(_facts({f"{split}: {k}": v for k, v in own.items() if facts.get(k) != v}))
    return "\n".join(part for part in told if part)


def _source(split: str, data: Mapping[str, Any]) -> str:
    source = data.get(split)
    if source is None:
        return "held out of train"
    return ", ".join(source) if isinstance(source, list | tuple) else str(source)


def _repeat(run: Run, config: Mapping[str, Any]) -> str:
    task = config.get("task", "TASK")
    file = shlex.quote(str(run.config_file))
    command = f"python -m tasks.{task} train --config {file} --run.dir NEW"
    options = write_yaml(json.loads(json.dumps(config, default=str)))
    return f"```\n{command}\n```\n\n" + _folded("Options", f"```yaml\n{options}```\n")


def _facts(facts: Mapping[str, Any]) -> str:
    return "".join(
        f"- {_words(name, False)}: {markdown.escape(_number(value))}\n"
        for name, value in facts.items()
    )


def _section(title: str, body: str) -> str:
    return f"## {title}\n\n{body}" if body else ""


def _folded(title: str, body: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{body}\n</details>\n"


_SPELLED = {"bleu": "BLEU", "chrf": "chrF++"}


def _words(name: str, capital: bool = True) -> str:
    words = " ".join(_SPELLED.get(word, word) for word in name.split("_"))
    if words.split(" ")[0] in _SPELLED.values():
        return words
    return words[:1].upper() + words[1:] if capital else words


def _number(value: Any) -> str:
    """Values as people read them: 12,345, 0.9312, 152.4, 1e-05."""
    if value is None:
        return ""
    if isinstance(value, list | tuple):
        return ", ".join(map(_number, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    if abs(value) >= 100:
        return f"{value:,.1f}"
    return f"{value:.4f}" if abs(value) >= 1e-3 or value == 0 else f"{value:.3g}"
