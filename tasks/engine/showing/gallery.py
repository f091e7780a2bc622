"""Figures made of pictures."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from tasks.engine.showing.figures import INK, label_style, new_figure, short


def gallery(
    pictures: Sequence[np.ndarray],
    titles: Sequence[str] = (),
    heat: Sequence[np.ndarray] = (),
    columns: int = 6,
) -> Figure:
    """Pictures in rows, with titles above.

    Args:
        pictures: each (height, width, 1 or 3), uint8, or float from 0 to 1.
        titles: one a picture, or none at all; in any script.
        heat: maps from 0 to 1, each of its picture's height and width, to lay over the pictures; or
            none at all.
        columns: pictures in a row.
    """
    rows = max(1, -(-len(pictures) // columns))
    figure = new_figure(1.6 * columns, (1.9 if titles else 1.65) * rows)
    lines = ["\n".join(short(line, 22) for line in title.split("\n")) for title in titles]
    drawn, style = label_style(lines)
    for index, picture in enumerate(pictures):
        axes = figure.add_subplot(rows, columns, index + 1)
        axes.set_axis_off()
        grey = picture.shape[-1] == 1
        top = 255 if picture.dtype == np.uint8 else 1
        axes.imshow(picture[..., 0] if grey else picture, cmap="gray", vmin=0, vmax=top)
        if len(heat):
            axes.imshow(heat[index], cmap="inferno", vmin=0, vmax=1, alpha=0.5)
        if len(titles):
            axes.set_title(drawn[index], color=INK, **{**style, "fontsize": 8})
    return figure


def spread_to_one(values: np.ndarray) -> np.ndarray:
    """Numbers of any range, shifted and scaled to lie from 0 to 1."""
    low, high = float(values.min()), float(values.max())
    return (values - low) / max(high - low, 1e-9)
