"""Figures made of pictures: what a model saw, what it got wrong, and where it looked."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from scipy.special import softmax

from data.preprocessing import Preprocessor
from data.records import Records
from tasks.engine.pictures import INK, label_style, new_figure, short


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


def classified_pictures(
    model: keras.Model,
    preprocessor: Preprocessor,
    truth: np.ndarray,
    outputs: np.ndarray,
    records: Records,
    limit: int = 24,
) -> dict[str, Figure]:
    """What an image classifier got most confidently wrong, where it looked, and its first layer.

    Args:
        model: has `explain(inputs)` and `filters()`, as `zoo.cnn.ImageClassifier`.
        preprocessor: encodes `records` to `image`, uint8 (n, height, width, channels).
        truth: (n,) the true classes' positions in `preprocessor.labels`.
        outputs: (n, classes) logits.
        limit: pictures of one gallery.

    Returns:
        `mistakes` (if there are any), `explanations` and `first_layer`.
    """
    scores = softmax(np.asarray(outputs, np.float64), axis=-1)
    predicted, surest = scores.argmax(-1), np.argsort(-scores.max(-1), kind="stable")
    wrong = surest[predicted[surest] != truth[surest]][:limit]
    right = surest[predicted[surest] == truth[surest]]
    some_right = right[np.linspace(0, len(right) - 1, min(limit // 2, len(right))).astype(int)]

    def shown(indices: np.ndarray, explain: bool) -> Figure:
        part = {"image_bytes": tf.constant(records.columns["image_bytes"][indices])}
        encoded = preprocessor.encode(part)
        heat = model.explain(preprocessor.collate(encoded)).numpy() if explain else ()
        titles = [
            f"{preprocessor.labels[predicted[i]]} {scores[i].max():.2f}"
            + ("" if predicted[i] == truth[i] else f"\nis {preprocessor.labels[truth[i]]}")
            for i in indices
        ]
        return gallery(encoded["image"].numpy(), titles, heat)

    figures = {"mistakes": shown(wrong, False)} if len(wrong) else {}
    explained = np.concatenate([wrong[: limit // 2], some_right])
    figures["explanations"] = shown(explained, True)
    filters = [spread_to_one(kernel) for kernel in model.filters()]
    figures["first_layer"] = gallery(filters, columns=12)
    return figures


def spread_to_one(values: np.ndarray) -> np.ndarray:
    """Numbers of any range, shifted and scaled to lie from 0 to 1."""
    low, high = float(values.min()), float(values.max())
    return (values - low) / max(high - low, 1e-9)
