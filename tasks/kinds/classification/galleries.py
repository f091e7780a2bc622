"""What a model of pictures saw, what it got wrong, and where it looked, as figures."""

import keras
import numpy as np
import tensorflow as tf
from matplotlib.figure import Figure
from scipy.special import softmax

from data.preprocessing import Preprocessor
from data.records import Records
from tasks.engine.showing.gallery import gallery, spread_to_one


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
