"""The figures of a forecasting report."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tasks.engine.showing.figures import BLUE, GREY, INK, ORANGE, SKY, new_figure, plain, short

_LINES = (ORANGE, GREY, "#805ad5", "#38a169")  # of baselines


def forecasts_picture(
    history: np.ndarray,
    truth: np.ndarray,
    outputs: np.ndarray,
    titles: Sequence[str],
    targets: Sequence[str],
    quantiles: np.ndarray,
) -> Figure:
    """Forecasts with their bands over what came: a row a target, a column a window.

    Args:
        history: (windows, steps, targets), what came before.
        truth: (windows, horizon, targets), with NaN where nothing was measured.
        outputs: (windows, horizon, targets, 1 + quantiles).
        titles: of the windows: when the history ends.
        targets: the first targets' names, which are drawn.
        quantiles: pairs of them, from the outside in, are bands.
    """
    rows, columns = len(targets), len(titles)
    figure = new_figure(4.2 * columns, 2.4 * rows + 0.4)
    past = np.arange(-history.shape[1] + 1, 1)
    ahead = np.arange(1, truth.shape[1] + 1)
    for row, name in enumerate(targets):
        for column, title in enumerate(titles):
            axes = plain(
                figure.add_subplot(rows, columns, row * columns + column + 1),
                f"after {title}" if row == 0 else "",
                "steps" if row == rows - 1 else "",
                short(name) if column == 0 else "",
                grid="y",
            )
            mine = outputs[column, :, row]
            for low in range(len(quantiles) // 2):
                label = f"{quantiles[low]:g} to {quantiles[-1 - low]:g}"
                axes.fill_between(
                    ahead, mine[:, 1 + low], mine[:, -1 - low], color=SKY, alpha=0.8, label=label
                )
            came = np.concatenate([history[column, :, row], truth[column, :, row]])
            axes.plot(np.concatenate([past, ahead]), came, color=INK, linewidth=1, label="came")
            axes.plot(ahead, mine[:, 0], color=BLUE, linewidth=1.8, label="forecast")
            axes.axvline(0.5, color=GREY, linewidth=0.8, linestyle=":")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
    return figure


def error_by_step_picture(errors: Mapping[str, np.ndarray]) -> Figure:
    """The error of each step of the horizon, a line a model, the first one ours."""
    figure = new_figure(6.5, 3.4)
    axes = plain(figure.add_subplot(), "Error by step", "steps ahead", "scaled MSE", grid="y")
    for index, (name, values) in enumerate(errors.items()):
        steps = np.arange(1, len(values) + 1)
        color, width = (BLUE, 2.2) if index == 0 else (_LINES[(index - 1) % len(_LINES)], 1.3)
        marker = "o" if len(values) == 1 else None
        label = name.replace("_", " ")
        axes.plot(steps, values, color=color, linewidth=width, marker=marker, label=label)
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(frameon=False)
    return figure


def coverage_picture(quantiles: np.ndarray, below: np.ndarray, targets: Sequence[str]) -> Figure:
    """How often what came is below each quantile: on the diagonal if quantiles mean what they say.

    Args:
        quantiles: (quantiles,).
        below: shares, (targets, quantiles); NaN for a target that was not measured.
        targets: their names.
    """
    figure = new_figure(4.6, 4.2)
    axes = plain(figure.add_subplot(), "Quantiles", "quantile", "share of what came below", "y")
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--")
    for values in below:
        axes.plot(quantiles, values, color=SKY, linewidth=1, marker=".")
    label = "mean of the targets" if len(targets) > 1 else short(targets[0])
    measured = below[~np.isnan(below).any(axis=1)]
    mean = measured.mean(axis=0) if len(measured) else below[0]
    axes.plot(quantiles, mean, color=BLUE, linewidth=2, marker="o", label=label)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1)
    axes.legend(frameon=False)
    return figure
