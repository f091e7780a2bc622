"""Galleries: which pictures they show, in which order, with which titles and heat."""

import io

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from data.images.preprocessor import ImagePreprocessor
from data.records import Records
from tasks.engine.showing.figures import pixels
from tasks.engine.showing.gallery import gallery, spread_to_one
from tasks.kinds.classification.galleries import classified_pictures

LABELS = ["cat", "dog", "$bird"]


def shades(count: int) -> np.ndarray:
    """Pictures of one shade each, darkest first: 10, 20, ..."""
    return np.repeat(10 * (1 + np.arange(count, dtype="uint8")), 48).reshape(count, 4, 4, 3)


def records(count: int) -> Records:
    files = []
    for picture in shades(count):
        file = io.BytesIO()
        Image.fromarray(picture).save(file, "PNG")
        files.append(file.getvalue())
    return Records({"image_bytes": np.array(files, object)})


def shown(figure) -> list[int]:
    """Which of the pictures of `shades` a gallery shows."""
    return [int(axes.images[0].get_array().flat[0]) // 10 - 1 for axes in figure.axes]


def titles(figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes]


class Looker:
    """A model that looks at each picture's own shade, and has two filters."""

    def explain(self, inputs):
        return inputs["image"][..., 0]

    def filters(self):
        return np.arange(-24.0, 30).reshape(2, 3, 3, 3)


def figures(truth, predicted, sure, limit=24):
    """`classified_pictures` of answers that are `predicted`, each with a logit of `sure`."""
    outputs = np.zeros((len(truth), 3))
    outputs[np.arange(len(truth)), predicted] = sure
    some, preprocessor = records(len(truth)), ImagePreprocessor(LABELS, 4, 4)
    return classified_pictures(Looker(), preprocessor, np.array(truth), outputs, some, limit)


@pytest.mark.parametrize(("count", "rows"), [(1, 1), (3, 1), (4, 2), (7, 3)])
def test_pictures_come_in_rows(count, rows):
    figure = gallery(shades(count), columns=3)
    assert shown(figure) == list(range(count))
    places = [axes.get_subplotspec() for axes in figure.axes]
    assert [(p.rowspan.start, p.colspan.start) for p in places] == [
        divmod(index, 3) for index in range(count)
    ]
    assert places[0].get_gridspec().nrows == rows
    assert not any(axes.axison for axes in figure.axes)


def test_pictures_are_drawn_as_they_are():
    """Neither a dark one nor a pale one is spread to the full range."""
    colour = np.zeros((4, 4, 3), "uint8") + np.array([40, 90, 60], "uint8")
    grey = np.full((4, 4, 1), 90, "uint8")
    for picture, expected in (
        (colour, (40, 90, 60)),
        (colour / 255, (40, 90, 60)),
        (grey, (90, 90, 90)),
        (grey / 255, (90, 90, 90)),
    ):
        drawn = pixels(gallery([picture], columns=1))
        middle = drawn[drawn.shape[0] // 2, drawn.shape[1] // 2, :3].astype(int)
        assert np.abs(middle - expected).max() <= 2


def test_heat_lies_half_transparent_over_its_picture():
    heat = np.random.RandomState(0).rand(2, 4, 4)
    figure = gallery(shades(2), heat=heat)
    for axes, expected in zip(figure.axes, heat, strict=True):
        _, over = axes.images
        np.testing.assert_array_equal(over.get_array(), expected)
        assert (over.get_alpha(), over.get_clim()) == (0.5, (0, 1))


def test_titles_stay_short_on_every_line_and_dollars_are_dollars():
    figure = gallery(shades(2), [f"{'long' * 20}\nis {'other' * 20}", "$x$ and $y"])
    first, second = titles(figure)
    assert [len(line) <= 22 for line in first.split("\n")] == [True, True]
    assert first.startswith("long") and "\nis other" in first
    assert second == "$x$ and $y"
    assert pixels(figure).any()


def test_no_pictures_make_an_empty_figure():
    figure = gallery([])
    assert not figure.axes
    assert (pixels(figure)[..., :3] == 255).all()


def test_mistakes_come_most_confident_first_with_both_labels():
    mistakes = figures([0, 0, 0, 1, 2], [0, 1, 2, 2, 2], [9, 1, 3, 2, 1])["mistakes"]
    assert shown(mistakes) == [2, 3, 1]
    share = np.exp(3) / (np.exp(3) + 2)
    assert titles(mistakes)[0] == f"$bird {share:.2f}\nis cat"
    assert titles(mistakes)[2].splitlines()[1] == "is cat"
    assert [len(axes.images) for axes in mistakes.axes] == [1, 1, 1]


def test_mistakes_are_as_many_as_the_limit_allows():
    sure = np.arange(1, 10)
    some = figures([0] * 9, [1] * 9, sure, limit=4)
    assert shown(some["mistakes"]) == [8, 7, 6, 5]
    assert shown(some["explanations"]) == [8, 7]


def test_explanations_are_of_mistakes_then_of_right_answers_sure_and_unsure():
    truth, predicted = [0] * 9, [1] * 2 + [0] * 7
    sure = [1, 2, 9, 8, 7, 6, 5, 4, 3]
    explanations = figures(truth, predicted, sure, limit=6)["explanations"]
    assert shown(explanations) == [1, 0, 2, 5, 8]
    assert titles(explanations)[2].startswith("cat ")
    assert "\n" not in titles(explanations)[2]
    for axes, shade in zip(explanations.axes, (20, 10, 30, 60, 90), strict=True):
        np.testing.assert_allclose(axes.images[1].get_array(), shade / 255, rtol=1e-5)


def test_without_mistakes_there_is_no_gallery_of_them():
    some = figures([0, 1], [0, 1], [1, 2])
    assert set(some) == {"explanations", "first_layer"}
    assert shown(some["explanations"]) == [1, 0]


def test_with_mistakes_alone_all_figures_can_be_drawn():
    some = figures([0, 0], [1, 2], [1, 2])
    assert set(some) == {"mistakes", "explanations", "first_layer"}
    assert shown(some["explanations"]) == [1, 0]
    assert all(pixels(figure).any() for figure in some.values())


def test_probabilities_of_huge_logits_are_finite():
    assert titles(figures([0], [0], [1e4])["explanations"]) == ["cat 1.00"]


def test_the_first_layers_filters_are_each_spread_to_the_full_range():
    drawn = [axes.images[0].get_array() for axes in figures([0], [0], [1])["first_layer"].axes]
    for picture in drawn:
        np.testing.assert_allclose(picture, np.arange(27).reshape(3, 3, 3) / 26)
    assert len(drawn) == 2


@given(arrays(np.float64, (3, 4), elements=st.floats(-1e6, 1e6)))
def test_numbers_are_spread_from_0_to_1_in_their_order(values):
    spread = spread_to_one(values)
    assert spread.min() == 0
    assert spread.max() <= 1
    if np.ptp(values) > 1e-9:
        assert spread.max() == pytest.approx(1)
    assert (np.diff(spread.ravel()[np.argsort(values.ravel())]) >= 0).all()


def test_an_encoded_batch_is_shown_as_the_model_sees_it():
    """Cut and turned, but not normalised."""
    preprocessor = ImagePreprocessor(LABELS, 2, 2, 1, mean=[0.5], deviation=[0.1])
    some = records(2)
    out = classified_pictures(Looker(), preprocessor, np.array([1, 0]), np.eye(3)[:2], some)
    expected = preprocessor.encode({"image_bytes": tf.constant(some.columns["image_bytes"])})
    for axes, picture in zip(out["mistakes"].axes, expected["image"].numpy(), strict=True):
        np.testing.assert_array_equal(axes.images[0].get_array(), picture[..., 0])
