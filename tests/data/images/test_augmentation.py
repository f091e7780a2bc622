"""Augmentation: each change against a plain one in numpy, repeatable by seed, targets kept."""

from itertools import pairwise

import numpy as np
import pytest
import tensorflow as tf

from data.errors import DataError
from data.images.augmentation import PictureAugmentation
from data.images.preprocessor import ImagePreprocessor

ALL = {
    "flip": "random",
    "crop": 0.5,
    "translate": 2,
    "randaugment": 2,
    "brightness": 0.2,
    "contrast": 0.2,
    "saturation": 0.2,
    "cutout": 3,
}
LABELS = ["a", "b", "c"]


def pictures(count=6, height=7, width=9, channels=3) -> np.ndarray:
    return np.random.RandomState(0).randn(count, height, width, channels).astype("float32")


def augmentation(height=7, width=9, channels=3, **options) -> PictureAugmentation:
    preprocessor = ImagePreprocessor(LABELS, height, width, channels, mean=[0.5], deviation=[0.2])
    return PictureAugmentation(preprocessor, **options)


def augmented(images, targets, epoch=0, seed=(1, 2), rows=None, **options):
    """Pictures and targets, changed."""
    augment = augmentation(*images.shape[1:], **options)
    rows = np.arange(len(images)) if rows is None else rows
    inputs, targets = augment(
        {"image": tf.constant(images)},
        tf.constant(targets),
        tf.constant(rows, tf.int64),
        tf.constant(epoch, tf.int64),
        tf.constant(seed, tf.int64),
    )
    return inputs["image"].numpy(), targets.numpy()


def changed(images: np.ndarray, **options) -> np.ndarray:
    return augmented(images, np.zeros(len(images), np.int32), **options)[0]


def mirrored(images: np.ndarray, **options) -> np.ndarray:
    """Which pictures come out mirrored; none comes out otherwise changed."""
    out = changed(images, **options)
    which = (out == images[:, :, ::-1]).all((1, 2, 3))
    assert (which | (out == images).all((1, 2, 3))).all()
    return which


def test_nothing_is_changed_unless_it_is_asked_for():
    np.testing.assert_array_equal(changed(pictures()), pictures())


@pytest.mark.parametrize("option", ALL)
def test_a_seed_always_changes_pictures_alike(option):
    some, options = pictures(40, 16, 16), {option: ALL[option]}
    once, again, other = (changed(some, seed=seed, **options) for seed in ((1, 2), (1, 2), (1, 3)))
    np.testing.assert_array_equal(once, again)
    assert (once != other).any()
    assert (once != some).any()


def test_pictures_of_a_batch_are_changed_independently():
    same = np.repeat(pictures(1), 60, 0)
    for option, value in ALL.items():
        out = changed(same, **{option: value})
        assert len(np.unique(out.reshape(60, -1), axis=0)) >= (2 if option == "flip" else 8)


def test_alternating_shows_both_sides_in_any_two_epochs_in_a_row():
    some = pictures(200)
    epochs = [mirrored(some, flip="alternating", epoch=e, seed=(0, e)) for e in range(5)]
    for one, next_one in pairwise(epochs):
        assert (one != next_one).all()


@pytest.mark.parametrize("first", [0, 3, 10**6])
def test_alternating_mirrors_about_half_in_every_epoch(first):
    rows = first + np.arange(1000)
    for epoch in (0, 1):
        which = mirrored(pictures(1000), flip="alternating", epoch=epoch, rows=rows)
        assert 420 < which.sum() < 580


@pytest.mark.parametrize("period", [2, 3, 5, 8, 10, 64])
def test_alternating_mirrors_about_half_of_records_that_come_at_equal_distances(period):
    """As those of a class do in data that is written class after class."""
    rows = np.arange(0, 1000 * period, period)
    assert 400 < mirrored(pictures(1000), flip="alternating", rows=rows).sum() < 600


def test_alternating_goes_by_the_record_wherever_it_is_in_an_epoch():
    some, rows = pictures(50), np.random.RandomState(0).permutation(50)
    in_order = mirrored(some, flip="alternating", epoch=4, seed=(0, 1))
    shuffled = mirrored(some, flip="alternating", epoch=4, seed=(7, 8), rows=rows)
    np.testing.assert_array_equal(shuffled, in_order[rows])


def test_random_mirrors_about_half():
    which = mirrored(pictures(1000), flip="random")
    assert 420 < which.sum() < 580
    assert (which != mirrored(pictures(1000), flip="random", seed=(1, 3))).any()


@pytest.mark.parametrize("most", [1, 2, 4])
def test_translation_moves_by_at_most_so_many_pixels_and_reflects(most):
    count, height, width = 300, 7, 9
    same = pictures(1, height, width)
    padded = np.pad(same[0], [(most, most), (most, most), (0, 0)], "reflect")
    moved = {
        padded[down : down + height, right : right + width].tobytes(): (down, right)
        for down in range(2 * most + 1)
        for right in range(2 * most + 1)
    }
    out = changed(np.repeat(same, count, 0), translate=most)
    found = np.array([moved[picture.tobytes()] for picture in out])
    for axis in (0, 1):
        assert set(found[:, axis]) == set(range(2 * most + 1))
    assert len(np.unique(found, axis=0)) > 2 * most + 1  # not both ways by one number


@pytest.mark.parametrize("size", [1, 3, 7])
def test_cutout_blanks_one_square_and_nothing_else(size):
    some = pictures(300)
    out = changed(some, cutout=size)
    corners = set()
    for before, after in zip(some, out, strict=True):
        rows, columns = np.nonzero((after == 0).all(-1))
        top, left = rows.min(), columns.min()
        corners.add((top, left))
        expected = before.copy()
        expected[top : top + size, left : left + size] = 0
        assert len(rows) == size**2
        np.testing.assert_array_equal(after, expected)
    if size < 7:  # every place occurs, the corners included
        assert {0, 7 - size} <= {top for top, _ in corners}
    assert {0, 9 - size} <= {left for _, left in corners}


def test_brightness_adds_one_number_to_each_picture():
    some = pictures(300)
    added = changed(some, brightness=0.3) - some
    number = added.mean((1, 2, 3))
    np.testing.assert_allclose(
        added, np.broadcast_to(number[:, None, None, None], added.shape), atol=1e-5
    )
    assert np.abs(number).max() <= 0.3 / 0.2 + 1e-5  # of the deviation
    assert number.min() < -1.2 and number.max() > 1.2


def test_contrast_scales_each_picture_about_its_mean():
    some = pictures(300)
    out = changed(some, contrast=0.3)
    means = some.mean((1, 2, 3), keepdims=True)
    factor = out.std((1, 2, 3), keepdims=True) / some.std((1, 2, 3), keepdims=True)
    np.testing.assert_allclose(out, means + factor * (some - means), atol=1e-5)
    assert factor.min() >= 0.7 - 1e-5 and factor.max() <= 1.3 + 1e-5
    assert factor.min() < 0.75 and factor.max() > 1.25


def test_targets_and_other_inputs_stay_as_they_are():
    targets, other = tf.range(6), tf.range(6.0)
    inputs, after = augmentation(**ALL)(
        {"image": tf.constant(pictures()), "other": other},
        targets,
        tf.range(6, dtype=tf.int64),
        tf.constant(0, tf.int64),
        tf.constant([0, 1], tf.int64),
    )
    np.testing.assert_array_equal(after, targets)
    np.testing.assert_array_equal(inputs["other"], other)


@pytest.mark.parametrize(
    "options",
    [{**ALL, "flip": "alternating", "mixup": 0.3, "cutmix": 1.0}, {"flip": "random"}],
    ids=["all", "flips"],
)
def test_static_shapes_stay_in_a_graph_and_answers_are_those_without_one(options):
    augment = augmentation(**options)
    graph = tf.function(augment).get_concrete_function(
        {"image": tf.TensorSpec([None, 7, 9, 3], tf.float32)},
        tf.TensorSpec([None], tf.int32),
        tf.TensorSpec([None], tf.int64),
        tf.TensorSpec([], tf.int64),
        tf.TensorSpec([2], tf.int64),
    )
    inputs, targets = graph.structured_outputs
    assert inputs["image"].shape.as_list() == [None, 7, 9, 3]
    assert targets.shape.as_list() == ([None, 3] if "mixup" in options else [None])
    rows, epoch, seed = (tf.constant(x, tf.int64) for x in (range(6), 3, [2**40, 5]))
    inputs, _ = graph({"image": tf.constant(pictures())}, tf.range(6), rows, epoch, seed)
    plain = changed(pictures(), epoch=3, seed=(2**40, 5), **options)
    np.testing.assert_allclose(inputs["image"], plain, atol=1e-5)


def test_a_crop_is_a_window_of_the_picture_that_is_large_enough():
    """On a picture whose pixels say where they are, the window can be read off the result."""
    count, height, width, least = 300, 12, 16, 0.4
    down, right = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    where = np.stack([down, right, down], -1).astype("float32")
    out = changed(np.repeat(where[None], count, 0), crop=least)
    top, left = out[:, 0, 0, 0], out[:, 0, 0, 1]
    bottom, end = out[:, -1, -1, 0], out[:, -1, -1, 1]
    assert top.min() >= 0 and left.min() >= 0
    assert bottom.max() <= height - 1 + 1e-3 and end.max() <= width - 1 + 1e-3
    share = (bottom - top) / (height - 1) * (end - left) / (width - 1)
    assert share.min() > least - 1e-3 and share.min() < least + 0.1 and share.max() > 0.9
    # Straight: rows and columns keep equal distances.
    np.testing.assert_allclose(np.diff(out[..., 0], 2, axis=1), 0, atol=1e-3)
    np.testing.assert_allclose(np.diff(out[..., 1], 2, axis=2), 0, atol=1e-3)


def test_saturation_moves_each_pixel_to_or_from_its_grey():
    some = pictures(300)
    out = changed(some, saturation=0.5)
    grey = some.mean(-1, keepdims=True)
    np.testing.assert_allclose(out.mean(-1, keepdims=True), grey, atol=1e-5)
    factor = (out - grey).std((1, 2, 3)) / (some - grey).std((1, 2, 3))
    assert 0.5 <= factor.min() < 0.6 and 1.4 < factor.max() <= 1.5 + 1e-5


def test_randaugment_is_stronger_with_its_magnitude_and_its_count():
    plain = np.clip(0.2 * pictures(200, 16, 16), -0.5, 0.5) / 0.2

    def difference(**options):
        return np.abs(changed(plain, **options) - plain).mean()

    weak = difference(randaugment=1, magnitude=1.0)
    assert weak < difference(randaugment=1, magnitude=9.0) < difference(randaugment=3)


@pytest.mark.parametrize("count", [1, 3, 8, 9])
def test_randaugment_takes_batches_that_are_smaller_than_its_groups(count):
    assert changed(pictures(count), randaugment=2).shape == (count, 7, 9, 3)


def test_grey_pictures_can_be_changed_in_all_ways():
    assert changed(pictures(20, channels=1), **ALL).shape == (20, 7, 9, 1)


def blended(kind: str, value: float, count=400):
    """One-coloured pictures of numbers, and the targets, mixed; the share of each picture's own."""
    own = np.arange(count, dtype="float32")
    some = np.broadcast_to(own[:, None, None, None], (count, 12, 16, 3)).copy()
    targets = np.random.RandomState(0).randint(0, 3, count).astype(np.int32)
    out, mixed = augmented(some, targets, **{kind: value})
    return own, out, np.eye(3)[targets], mixed


@pytest.mark.parametrize("value", [0.2, 1.0])
def test_mixup_blends_pictures_and_targets_by_the_same_share(value):
    own, out, targets, mixed = blended("mixup", value)
    other = own[::-1]
    share = (out[:, 0, 0, 0] - other) / (own - other)
    assert (out == out[:, :1, :1]).all()
    assert share.min() > -1e-3 and share.max() < 1 + 1e-3 and share.std() > 0.2
    expected = share[:, None] * targets + (1 - share)[:, None] * targets[::-1]
    np.testing.assert_allclose(mixed, expected, atol=1e-3)


def test_cutmix_puts_a_rectangle_of_another_picture_and_so_much_of_its_target():
    own, out, targets, mixed = blended("cutmix", 1.0)
    for index, picture in enumerate(out[..., 0]):
        foreign = picture != own[index]
        assert (picture[foreign] == own[::-1][index]).all()
        rows, columns = foreign.any(1), foreign.any(0)
        assert (foreign == rows[:, None] & columns[None]).all()
        share = 1 - foreign.mean()
        expected = share * targets[index] + (1 - share) * targets[::-1][index]
        np.testing.assert_allclose(mixed[index], expected, atol=1e-5)
    shares = (out[..., 0] != own[:, None, None]).mean((1, 2))
    assert shares.std() > 0.15 and shares.max() > 0.6


def test_with_both_a_batch_is_blended_or_cut():
    some = pictures(50, 12, 16)
    targets = np.zeros(50, np.int32)
    kinds = {"mixup": 0, "cutmix": 0}
    for seed in range(12):
        out, _ = augmented(some, targets, seed=(3, seed), mixup=1.0, cutmix=1.0)
        for kind in kinds:
            alone, _ = augmented(some, targets, seed=(3, seed), **{kind: 1.0})
            kinds[kind] += int(np.isin(out, [some, some[::-1]]).all() == (kind == "cutmix"))
            assert alone.shape == out.shape
    assert 0 < kinds["mixup"] < 12 and sum(kinds.values()) == 12


@pytest.mark.parametrize(("option", "value"), [("cutout", 8), ("translate", 7)])
def test_what_does_not_fit_the_pictures_is_refused(option, value):
    with pytest.raises(DataError, match=f"--data.{option} {value}: pictures are 7x9 pixels"):
        augmentation(**{option: value})
