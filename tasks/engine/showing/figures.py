"""Figures without global state: no pyplot, no font list of the user's touched, nothing printed.

`new_figure` makes one, `png` and `pixels` render it, `label_style` draws any label in any script.
"""

import io
import unicodedata
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tasks.engine.showing.markdown import printable

BLUE, SKY, ORANGE, GREY, INK = "#2b6cb0", "#bee3f8", "#dd6b20", "#a0aec0", "#2d3748"
_BASE_FONT = "DejaVu Sans"


def new_figure(width: float, height: float, layout: Any = "constrained") -> Figure:
    """An empty figure of `width` by `height` inches that renders without a display."""
    figure = Figure(figsize=(width, height), dpi=110, layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def png(figure: Figure) -> bytes:
    """The figure as a PNG file's bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def pixels(figure: Figure) -> np.ndarray:
    """The figure as `[height, width, 4]` uint8, red, green, blue, alpha."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.array(canvas.buffer_rgba())


def plain(
    axes: Axes, title: str = "", x: str = "", y: str = "", grid: Literal["x", "y"] | None = None
) -> Axes:
    """Gives axes the project's look: few lines, a bold title on the left, a light grid."""
    axes.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    axes.set_xlabel(x, color=INK)
    axes.set_ylabel(y, color=INK)
    axes.tick_params(color=GREY, labelcolor=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GREY)
    if grid:
        axes.grid(axis=grid, color="#e2e8f0", linewidth=0.8)
        axes.set_axisbelow(True)
    return axes


def curves(history: Sequence[Mapping[str, float]]) -> Figure:
    """Every number of the history by epoch, train and validation in one panel each.

    `history` has one mapping an epoch, as Keras logs it, with `epoch` counting from 1. `seconds`
    says no more than the speed, and has no panel.
    """
    names = dict.fromkeys(key.removeprefix("val_") for row in history for key in row)
    panels = [name for name in names if name not in ("epoch", "seconds")]
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(5.2 * columns, 3.0 * rows)
    for index, name in enumerate(panels):
        axes = plain(figure.add_subplot(rows, columns, index + 1), name, "epoch", grid="y")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        for key, color, split in ((name, BLUE, "train"), (f"val_{name}", ORANGE, "validation")):
            points = [(row["epoch"], row[key]) for row in history if row.get(key) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), "o-", color=color, label=split, markersize=4)
        if any(f"val_{name}" in row for row in history):
            axes.legend(frameon=False, labelcolor=INK)
    return figure


def short(label: str, width: int = 36) -> str:
    """The label on one line, at most `width` columns wide, with its middle left out."""
    line = printable(label)
    if _columns(line) <= width:
        return line
    head, tail = _fitting(line, width * 2 // 3), _fitting(line[::-1], width // 3 - 1)[::-1]
    return f"{head}…{tail}"


def text_width(texts: Sequence[str], size: float, style: Mapping[str, Any]) -> float:
    """The width of the widest of these texts in inches, drawn at `size` points."""
    figure = new_figure(1, 1, layout=None)
    drawn = [figure.text(0, 0, text, fontsize=size, **style) for text in texts]
    return max(text.get_window_extent().width for text in drawn) / figure.dpi


def label_style(labels: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
    """The labels as they can be drawn, and the text properties to draw them with.

    A label with a letter that no installed font has is drawn as its position in the model's list,
    `#12`, rather than as boxes. A dollar sign is a dollar sign, not mathematics.
    """
    families, missing = _fonts_for("".join(sorted(set("".join(labels)))))
    drawn = [
        f"#{index}" if missing & set(label) else label or "(empty)"
        for index, label in enumerate(labels)
    ]
    return drawn, {"fontfamily": list(families), "parse_math": False}


def _columns(text: str) -> int:
    """How many columns of a fixed-width font the text takes; wide East Asian letters take two."""
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def _fitting(text: str, width: int) -> str:
    while _columns(text) > width:
        text = text[:-1]
    return text


@lru_cache(maxsize=8)
def _fonts_for(letters: str) -> tuple[tuple[str, ...], frozenset[str]]:
    """The font families that together have these letters, and the letters that none has.

    Matplotlib falls back from family to family by letter, but looks no further than the list.
    """
    missing = {letter for letter in letters if not letter.isspace()}
    missing -= _letters_of(font_manager.findfont(_BASE_FONT))
    families = [_BASE_FONT]
    fonts = [font for font in font_manager.fontManager.ttflist if "Last Resort" not in font.name]
    for font in sorted(fonts, key=_plainness) if missing else ():
        found = missing & _letters_of(font_manager.FontPath(font.fname, font.index))
        if found and font.name not in families:
            families.append(font.name)
            missing -= found
        if not missing:
            break
    return tuple(families), frozenset(missing)


def _plainness(font: font_manager.FontEntry) -> tuple[bool, ...]:
    """Sorts upright regular sans-serif fonts before the others."""
    name = font.name.lower()
    odd_family = "serif" in name or "mono" in name or "sans" not in name
    return (font.style != "normal", str(font.weight) not in ("400", "normal"), odd_family)


@lru_cache(maxsize=512)
def _letters_of(font: Any) -> frozenset[str]:
    try:
        return frozenset(map(chr, font_manager.get_font(font).get_charmap()))
    except (OSError, RuntimeError):  # the font was removed, or has no Unicode table
        return frozenset()
