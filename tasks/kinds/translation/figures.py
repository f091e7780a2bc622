"""The figures of a translation report."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tasks.engine.showing.figures import BLUE, INK, label_style, new_figure, plain, short

_MOST = 60  # pieces a side of an attention map, which is inches large with them


def bleu_by_length_picture(buckets: Sequence[tuple[str, float]], tokenizer: str) -> Figure:
    """A bar for each range of lengths, such as "12-30", all of about as many sentences; the axis
    says what makes BLEU's tokens."""
    figure = new_figure(6.5, 3.4)
    axes = plain(
        figure.add_subplot(),
        "BLEU by source length",
        "characters of the source",
        f"BLEU ({tokenizer})",
        grid="y",
    )
    bars = axes.bar(range(len(buckets)), [score for _, score in buckets], color=BLUE)
    axes.bar_label(bars, fmt="%.1f", color=INK, fontsize=9)
    axes.set_xticks(range(len(buckets)), [lengths for lengths, _ in buckets])
    axes.set_ylim(bottom=0)
    return figure


def scores_picture(scores: np.ndarray) -> Figure:
    """How many sentences have which chrF++, (sentences,), 0 to 100."""
    figure = new_figure(6.5, 3.0)
    axes = plain(figure.add_subplot(), "chrF++ of sentences", "chrF++", "sentences", grid="y")
    axes.hist(scores, bins=20, range=(0, 100), color=BLUE, rwidth=0.9)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def attention_figure(
    source_pieces: Sequence[str], target_pieces: Sequence[str], attention: np.ndarray
) -> Figure:
    """Where a model looked in the source as it wrote each piece of the target.

    Pieces whose letters no installed font has are drawn as their positions. Of more than 60 pieces
    a side the last are one, "…", with the sum of the source's weights and the mean of the target's.

    Args:
        source_pieces: what the source was encoded as.
        target_pieces: what the target was.
        attention: weights from 0 to 1, (target, source).
    """
    last = _MOST - 1
    if len(source_pieces) > _MOST:
        source_pieces = [*source_pieces[:last], "…"]
        attention = np.c_[attention[:, :last], attention[:, last:].sum(axis=1)]
    if len(target_pieces) > _MOST:
        target_pieces = [*target_pieces[:last], "…"]
        attention = np.r_[attention[:last], attention[last:].mean(axis=0, keepdims=True)]
    figure = new_figure(1.6 + 0.26 * len(source_pieces), 1.2 + 0.26 * len(target_pieces))
    axes = plain(figure.add_subplot())
    axes.imshow(attention, cmap="Blues", vmin=0, aspect="equal")
    for pieces, draw in ((source_pieces, axes.set_xticks), (target_pieces, axes.set_yticks)):
        drawn, style = label_style([short(piece, 20) for piece in pieces])
        rotation = 90 if pieces is source_pieces else 0
        draw(range(len(drawn)), drawn, rotation=rotation, fontsize=9, **style)
    axes.xaxis.tick_top()
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
    return figure
