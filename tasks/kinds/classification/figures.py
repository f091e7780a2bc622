"""The figures that judge a classifier, drawn from numbers that are already worked out.

They are readable with 2 classes and with 150 of long names. `names` and `style` are what
`tasks.engine.showing.figures.label_style` gives.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from tasks.engine.showing.figures import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    SKY,
    new_figure,
    plain,
    text_width,
)

_ANNOTATED = 20  # classes up to which every cell of a confusion matrix shows its count
_NAMED = 150  # classes up to which rows and columns carry names
_CONFUSIONS = 15
_WORST = 40


@dataclass(frozen=True)
class Calibration:
    """The examples by confidence, the probability of the predicted label; arrays of `[bins]`."""

    count: np.ndarray
    confidence: np.ndarray  # the mean in each bin, 0 where it is empty
    accuracy: np.ndarray

    @property
    def error(self) -> float:
        """The expected calibration error, 0 to 1."""
        gaps = np.abs(self.accuracy - self.confidence)
        return float(np.average(gaps, weights=self.count))


def confusion_picture(counts: np.ndarray, names: Sequence[str], style: Mapping[str, Any]) -> Figure:
    """Right answers in blue, wrong ones in orange, darker for more of the true class.

    Few classes show the count in each cell; many have the most frequent confusions listed beside.

    Args:
        counts: `[classes, classes]`, true by predicted.
        names: the classes', as drawn.
        style: text properties for names.
    """
    classes = len(names)
    few, named = classes <= _ANNOTATED, classes <= _NAMED
    size = 9 if few else 7.5
    side = float(np.clip(classes * (0.5 if few else 0.145), 2.8, 20.0))
    margin = 0.55 + (text_width(names, size, style) if named else 0.3)
    beside = max(4.0 - side, 0.3) if few else 5.6
    figure = new_figure(margin + side + beside, 0.5 + side + margin, layout=None)
    axes = _place(figure, margin, 0.5, side, side)
    _draw_matrix(axes, counts)
    if named:
        axes.set_xticks(range(classes), names, rotation=90, fontsize=size, **style)
        axes.set_yticks(range(classes), names, fontsize=size, **style)
        axes.hlines(np.arange(1, classes) - 0.5, -0.5, classes - 0.5, "#edf2f7", linewidth=0.5)
        axes.vlines(np.arange(1, classes) - 0.5, -0.5, classes - 0.5, "#edf2f7", linewidth=0.5)
    if few:
        _annotate(axes, counts)
    else:
        height = min(7.5, side + margin)
        _list_confusions(
            _place(figure, margin + side + 0.5, 0.5, 4.9, height), counts, names, style
        )
    return figure


def calibration_picture(calibration: Calibration) -> Figure:
    """A reliability diagram, accuracy against confidence, over how many examples have each."""
    bins = len(calibration.count)
    filled = calibration.count > 0
    places, width = (np.arange(bins)[filled] + 0.5) / bins, 0.9 / bins
    accuracy, confidence = calibration.accuracy[filled], calibration.confidence[filled]
    figure = new_figure(5.6, 6.2)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    title = f"Expected calibration error {calibration.error:.3f}"
    plain(upper, title, y="accuracy", grid="y").set(xlim=(0, 1), ylim=(0, 1.01))
    upper.bar(places, accuracy, width, color=SKY, label="accuracy")
    gap = {"color": "none", "edgecolor": ORANGE, "hatch": "////", "linewidth": 0.8}
    upper.bar(places, confidence - accuracy, width, accuracy, label="gap to confidence", **gap)
    upper.plot((0, 1), (0, 1), "--", color=GREY, linewidth=1, label="perfectly calibrated")
    plain(lower, x="confidence", y="examples", grid="y")
    lower.bar(places, calibration.count[filled], width, color=GREY)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, labelcolor=INK, fontsize=8.5)
    return figure


def per_class_picture(
    per_class: Sequence[Mapping[str, Any]], names: Sequence[str], style: Mapping[str, Any]
) -> Figure:
    """F1 as bars with precision and recall on them, the lowest F1 on top.

    Args:
        per_class: precision, recall, f1 and support of each class; without support, none is drawn.
        names: the classes', as drawn.
        style: text properties for names.
    """
    rows = [row for row in zip(per_class, names, strict=True) if row[0]["support"]]
    worst = sorted(rows, key=lambda row: row[0]["f1"])[:_WORST]
    places = range(len(worst))
    margin = text_width([name for _, name in worst], 8.5, style)
    figure = new_figure(5.8 + margin, 1.5 + 0.24 * len(worst))
    which = f", the {len(worst)} lowest of {len(rows)}" if len(worst) < len(rows) else ""
    axes = plain(figure.add_subplot(), f"F1 by class{which}", grid="x")
    axes.set(xlim=(0, 1.02), ylim=(len(worst) - 0.4, -0.6))
    axes.barh(places, [values["f1"] for values, _ in worst], 0.7, color=SKY, label="F1")
    for key, marker, color in (("precision", "o", BLUE), ("recall", "D", ORANGE)):
        points = [values[key] for values, _ in worst]
        axes.scatter(points, places, 18, color, marker=marker, label=key, zorder=3)
    axes.set_yticks(places, [name for _, name in worst], fontsize=8.5, **style)
    support = axes.secondary_yaxis("right")
    support.set_yticks(places, [f"n={values['support']:,}" for values, _ in worst], fontsize=7.5)
    support.tick_params(length=0, labelcolor=GREY)
    support.spines["right"].set_visible(False)
    figure.legend(loc="outside lower center", ncols=3, frameon=False, labelcolor=INK)
    return figure


def _place(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Adds axes at a place in inches."""
    wide, high = figure.get_size_inches()
    return figure.add_axes((left / wide, 1 - (top + height) / high, width / wide, height / high))


def _draw_matrix(axes: Axes, counts: np.ndarray) -> None:
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    right = np.eye(len(counts), dtype=bool)[..., np.newaxis]
    # The square root lets rare confusions be seen beside frequent ones.
    strength = np.where(right, share[..., np.newaxis], np.sqrt(share)[..., np.newaxis]) * 0.85
    color = np.where(right, to_rgb(BLUE), to_rgb(ORANGE))
    axes.imshow(1 - strength * (1 - color), interpolation="nearest")
    accuracy = np.trace(counts) / counts.sum()
    title = f"{counts.sum():,} examples, {len(counts)} classes, {accuracy:.1%} right"
    plain(axes, title, "predicted", "true")
    axes.spines[:].set(visible=True, color="#cbd5e0")
    axes.tick_params(length=0)


def _annotate(axes: Axes, counts: np.ndarray) -> None:
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    style: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 9}
    for (row, column), count in np.ndenumerate(counts):
        if count:
            color = "white" if row == column and share[row, column] > 0.5 else INK
            axes.text(column, row, f"{count:,}", color=color, **style)


def _list_confusions(
    axes: Axes, counts: np.ndarray, names: Sequence[str], style: Mapping[str, Any]
) -> None:
    """The most frequent confusions as bars, `true → predicted` over each."""
    wrong = np.where(np.eye(len(counts), dtype=bool), 0, counts)
    order = np.argsort(-wrong, axis=None, kind="stable")[:_CONFUSIONS]
    plain(axes, "Most frequent confusions: true → predicted").set_axis_off()
    axes.set(xlim=(0, 1.25 * max(wrong.max(), 1)), ylim=(_CONFUSIONS - 0.2, -0.7))
    for place, (row, column) in enumerate(zip(*np.unravel_index(order, counts.shape), strict=True)):
        count = wrong[row, column]
        if not count:
            break
        axes.barh(place, count, height=0.3, color=ORANGE)
        share = f"  {count:,} of {counts[row].sum():,}"
        axes.text(count, place, share, va="center", fontsize=7.5, color=INK)
        pair = f"{names[row]} → {names[column]}"
        axes.text(0, place - 0.22, pair, va="bottom", fontsize=8, color=INK, **style)
