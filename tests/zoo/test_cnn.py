"""Image classifiers: each layer against a plain one, whole nets written out, saving, explaining."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from zoo.cnn import ImageClassifier, airbench, image_classifier, simple
from zoo.configs import CnnConfig
from zoo.errors import PresetError
from zoo.layers import convolution
from zoo.layers.convolution import (
    GELU_SCALE,
    BatchNorm,
    Conv3x3,
    PartialIdentity,
    Silu,
    Whitening,
    counted_rows,
)
from zoo.saving import load_model

WIDTHS = [4, 8, 8]
PRESETS = ["simple", "airbench"]
VIEWS = ["one", "mirror", "translate"]


def pictures(count=3, size=16, channels=3, seed=0) -> np.ndarray:
    return np.random.RandomState(seed).randn(count, size, size, channels).astype("float32")


def tiny(
    preset="simple", channels=3, views="one", dropout=0.0, width=16, synchronize_norms=False
) -> ImageClassifier:
    """A model with every weight away from its initial value, which could hide a mistake."""
    keras.utils.set_random_seed(0)
    config = CnnConfig(
        preset, WIDTHS, dropout=dropout, views=views, synchronize_norms=synchronize_norms
    )
    model = image_classifier(config, 5, (16, width, channels))
    model.views = views
    model.adapt({"image": pictures(20, channels=channels)})
    for weight in model.weights:
        if "variance" in weight.path:
            weight.assign(np.random.uniform(0.5, 2.0, weight.shape))
        elif "seed" not in weight.path and "whitening" not in weight.path:
            weight.assign_add(0.2 * np.random.randn(*weight.shape))
    return model


def gradients(function, *inputs, weights=()):
    """What `function` gives, and the gradients of a mixed sum of it."""
    inputs = [tf.convert_to_tensor(x) for x in inputs]
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = function(*inputs)
        mix = tf.cast(np.random.RandomState(1).randn(*outputs.shape), outputs.dtype)
        loss = tf.reduce_sum(outputs * mix)
    return outputs, tape.gradient(loss, [*inputs, *weights])


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("preset", PRESETS)
def test_logits_and_features_have_their_widths(preset, channels):
    model = tiny(preset, channels, width=20)
    image = np.random.randn(3, 16, 20, channels).astype("float32")
    assert model({"image": image}).shape == (3, 5)
    assert model.features({"image": image}).shape == (3, WIDTHS[-1])


@pytest.mark.parametrize("preset", PRESETS)
def test_logits_are_float32_in_mixed_precision(preset):
    full = tiny(preset)
    keras.config.set_dtype_policy("mixed_bfloat16")
    half = tiny(preset)
    half.set_weights(full.get_weights())
    assert half.backbone.output.dtype == "bfloat16"
    inputs = {"image": pictures()}
    expected = full(inputs).numpy()
    np.testing.assert_allclose(half(inputs), expected, atol=0.1 * np.abs(expected).max())
    for some in (half(inputs), half.features(inputs), half.explain(inputs)):
        assert some.dtype == tf.float32
    assert half(inputs, training=True).dtype == tf.float32


def test_airbench_is_the_papers_net_written_out():
    model = tiny("airbench")
    image = pictures(6)

    def gelu(x):
        return x * tf.sigmoid(1.702 * x)

    def norm(x, shift):
        mean, variance = tf.nn.moments(x, [0, 1, 2])
        return (x - mean) / tf.sqrt(variance + 1e-12) + shift

    x = gelu(tf.nn.conv2d(image, kernel_of(model, "whitening") / 1.702, 1, "VALID"))
    for block in "123":
        for part in "ab":
            x = tf.nn.conv2d(x, kernel_of(model, f"conv{block}{part}"), 1, "SAME")
            if part == "a":
                x = tf.nn.max_pool2d(x, 2, 2, "VALID")
            x = gelu(norm(x, model.backbone.get_layer(f"norm{block}{part}").beta.numpy()))
    features = tf.reduce_max(x, [1, 2])
    expected = features @ model.classifier.kernel.numpy() / 9
    logits = model({"image": image}, training=True)
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)


def test_simple_is_its_blocks_written_out():
    model = tiny("simple")
    x = image = pictures()
    for block in "123":
        for part in "ab":
            x = tf.nn.conv2d(x, kernel_of(model, f"conv{block}{part}"), 1, "SAME")
            norm = model.backbone.get_layer(f"norm{block}{part}")
            mean, variance = norm.moving_mean.numpy(), norm.moving_variance.numpy()
            x = tf.nn.relu((x - mean) / np.sqrt(variance + 1e-5) + norm.beta.numpy())
        x = tf.nn.max_pool2d(x, 2, 2, "VALID")
    features = tf.reduce_mean(x, [1, 2])
    np.testing.assert_allclose(model.features({"image": image}), features, rtol=1e-3, atol=1e-4)
    expected = features @ model.classifier.kernel.numpy() + model.classifier.bias.numpy()
    np.testing.assert_allclose(model({"image": image}), expected, rtol=1e-3, atol=1e-4)


def kernel_of(model: ImageClassifier, layer: str) -> np.ndarray:
    return model.backbone.get_layer(layer).kernel.numpy()


@pytest.mark.parametrize("preset", PRESETS)
def test_views_are_the_plain_average(preset):
    model, image = tiny(preset, width=20), np.random.randn(2, 16, 20, 3).astype("float32")
    padded = np.pad(image, [(0, 0), (1, 1), (1, 1), (0, 0)], "reflect")

    def both(some):
        return (model({"image": some}).numpy() + model({"image": some[:, :, ::-1]}).numpy()) / 2

    up_left, down_right = padded[:, :16, :20], padded[:, 2:, 2:]
    expected = {
        "mirror": both(image),
        "translate": both(image) / 2 + both(up_left) / 4 + both(down_right) / 4,
    }
    one = model({"image": image}).numpy()
    for views, logits in expected.items():
        model.views = views
        np.testing.assert_allclose(model({"image": image}), logits, rtol=1e-4, atol=1e-5)
        assert not np.allclose(one, logits, atol=1e-4)


@pytest.mark.parametrize("views", VIEWS[1:])
def test_training_is_on_the_picture_as_it_is_whatever_the_views(views):
    image = pictures()
    plain, viewed = (
        tiny(views=some)({"image": image}, training=True).numpy() for some in ("one", views)
    )
    np.testing.assert_array_equal(viewed, plain)


@pytest.mark.parametrize(("channels", "views"), [(3, "one"), (1, "mirror"), (3, "translate")])
@pytest.mark.parametrize("preset", PRESETS)
def test_a_saved_model_comes_back_with_config_and_weights(preset, channels, views, tmp_path):
    model = tiny(preset, channels, views, dropout=0.4)
    inputs = {"image": pictures(channels=channels)}
    model.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    assert (loaded.views, loaded.scale, loaded.dropout.rate) == (views, model.scale, 0.4)
    np.testing.assert_allclose(loaded(inputs), model(inputs), rtol=1e-6)
    np.testing.assert_allclose(loaded.explain(inputs), model.explain(inputs), atol=1e-5)


@pytest.mark.parametrize(
    ("config", "views"),
    [
        (CnnConfig(preset="simple"), "one"),
        (CnnConfig(preset="simple", views="mirror"), "mirror"),
        (CnnConfig(preset="airbench"), "translate"),
        (CnnConfig(preset="airbench", views="one"), "one"),
    ],
    ids=str,
)
def test_views_are_those_of_the_config(config, views):
    assert image_classifier(config, 5, (16, 16, 3)).views == views


def test_the_default_widths_are_those_of_the_preset():
    models = {
        preset: image_classifier(CnnConfig(preset=preset), 10, (32, 32, 3)) for preset in PRESETS
    }
    # The paper's net has 1,972,792 parameters: 24 biases of the whitening layer more, and, as
    # PyTorch counts no running averages, 2 x 1152 fewer than Keras counts.
    trained = 64 * 24 * 9 + 64 * 64 * 9 + 256 * 9 * (64 + 3 * 256) + 2 * (64 + 2 * 256) + 2560
    assert models["airbench"].count_params() == 12 * 24 + trained + 2 * 1152
    assert [models["simple"].backbone.get_layer(f"conv{i}b").filters for i in "123"] == [
        32,
        64,
        128,
    ]


@pytest.mark.parametrize(("preset", "least"), [("simple", 8), ("airbench", 16)])
@pytest.mark.parametrize("longer", [0, 20])
def test_too_small_pictures_are_refused_and_the_smallest_are_not(preset, least, longer):
    config = CnnConfig(preset=preset, widths=WIDTHS)
    for shape in ((least - 1, least + longer, 3), (least + longer, least - 1, 3)):
        with pytest.raises(PresetError, match=f"{least}x{least} .* not {shape[0]}x{shape[1]}"):
            image_classifier(config, 5, shape)
    model = image_classifier(config, 5, (least, least, 3))
    image = pictures(size=least)
    assert np.isfinite(model({"image": image})).all()
    assert model.explain({"image": image}).shape == (3, least, least)


@pytest.mark.parametrize("preset", PRESETS)
def test_fit_trains_every_weight_it_counts_without_a_warning(preset, recwarn):
    model = tiny(preset, dropout=0.1)
    before = [w.numpy() for w in model.trainable_weights]
    whitening = kernel_of(model, "whitening") if preset == "airbench" else None
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, jit_compile=False, run_eagerly=True)
    model.fit({"image": pictures()}, np.array([0, 1, 2]), verbose=0)
    assert not [w for w in recwarn if "radient" in str(w.message)]
    assert all((w.numpy() != b).any() for w, b in zip(model.trainable_weights, before, strict=True))
    if preset == "airbench":
        np.testing.assert_array_equal(kernel_of(model, "whitening"), whitening)


def test_two_replicas_train_as_those_norms_of_half_a_batch():
    """As every replica normalises its own half, both get the same half here."""
    two, one = trained(two_replicas(), 2), trained(tf.distribute.get_strategy(), 1)
    for mine, theirs in zip(two, one, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("preset", PRESETS)
def test_two_replicas_with_synchronised_norms_train_as_one(preset):
    two, one = (
        trained(strategy, 1, preset, synchronize_norms=True)
        for strategy in (two_replicas(), tf.distribute.get_strategy())
    )
    for mine, theirs in zip(two, one, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-5)


def trained(strategy, repeats, preset="simple", **options):
    """Losses, and what is learned, of a few steps on the same four pictures so many times."""
    with strategy.scope():
        model = tiny(preset, **options)
        model.compile(
            keras.optimizers.SGD(0.1),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            jit_compile=False,
            run_eagerly=True,  # three steps are not worth a trace
        )
    image = np.concatenate([pictures(4)] * repeats)
    labels = np.array([0, 1, 2, 2] * repeats)
    data = tf.data.Dataset.from_tensor_slices(({"image": image}, labels)).batch(len(labels))
    losses = model.fit(data, epochs=3, verbose=0).history["loss"]
    norm = model.backbone.get_layer("norm2b")
    weights = (norm.beta, norm.moving_mean, norm.moving_variance)
    return losses, *(weight.numpy() for weight in weights)


def test_synchronised_norms_leave_out_rows_that_only_fill_up():
    x, filling = 3 * pictures(7, 5, 6) + 2, pictures(1, 5, 6, seed=1)
    alone = BatchNorm(0.7, 1e-3, GELU_SCALE)
    expected, theirs = gradients(lambda x: alone(x, training=True), x)
    strategy, counts = two_replicas(), np.float32([1, 1, 1, 1, 1, 1, 1, 0])
    with strategy.scope():
        layer = BatchNorm(0.7, 1e-3, GELU_SCALE, synchronized=True)
        layer.build(x.shape)
    mix = np.random.RandomState(1).randn(*x.shape).astype("float32")

    def parts(values):
        halves = np.split(values, 2)
        return strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(halves[context.replica_id_in_sync_group])
        )

    @tf.function
    def step(x, mix, counts):
        with tf.GradientTape() as tape:
            tape.watch(x)
            with counted_rows(counts):
                y = layer(x, training=True)
            loss = tf.reduce_sum(y * mix)
        return y, tape.gradient(loss, x)

    filled = (np.concatenate([x, filling]), np.concatenate([mix, 0 * filling]), counts)
    given = [parts(values) for values in filled]
    outputs, mine = (
        np.concatenate([each.numpy() for each in strategy.experimental_local_results(result)])[:7]
        for result in strategy.run(step, given)
    )
    np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(mine, theirs[0], rtol=1e-4, atol=1e-5)
    for name in ("moving_mean", "moving_variance"):
        np.testing.assert_allclose(getattr(layer, name), getattr(alone, name), rtol=1e-5)


def test_whether_norms_are_synchronised_is_saved(tmp_path):
    model = tiny(synchronize_norms=True)
    model.save(tmp_path / "model.keras")
    loaded = load_model(tmp_path / "model.keras")
    assert loaded.backbone.get_layer("norm1a").synchronized
    config = BatchNorm().get_config()
    del config["synchronized"]  # as models have it that were saved before there was a choice
    assert not BatchNorm.from_config(config).synchronized


def test_norms_of_resnets_are_not_synchronised():
    with pytest.raises(PresetError, match="synchronize_norms"):
        CnnConfig("resnet18", synchronize_norms=True)


@pytest.mark.parametrize(("size", "accelerated"), [(4, False), (4, True), (8, False), (9, False)])
@pytest.mark.parametrize("channels", [8, 128])
def test_a_convolutions_gradient_is_tensorflows(channels, size, accelerated, monkeypatch):
    calls = []
    plain = convolution._convolve
    monkeypatch.setattr(convolution, "accelerated", lambda: accelerated)
    monkeypatch.setattr(convolution, "_convolve", lambda *args: calls.append(1) or plain(*args))
    layer, x = Conv3x3(6), pictures(2, size, channels)
    layer.build(x.shape)
    weight = layer.kernel.value
    ours, mine = gradients(lambda x: layer(x, training=True), x, weights=[weight])
    theirs, others = gradients(lambda x: tf.nn.conv2d(x, weight, 1, "SAME"), x, weights=[weight])
    assert bool(calls) is (channels == 128 and size <= 8 and not accelerated)
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(layer(x), theirs, rtol=1e-5, atol=1e-5)
    for left, right in zip(mine, others, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 2), (5, 1, 2), (3, 4, 3)])
def test_a_convolutions_own_gradient_is_right_for_any_shape(shape):
    x = np.random.RandomState(0).randn(2, *shape).astype("float32")
    kernel = np.random.RandomState(1).randn(3, 3, shape[-1], 4).astype("float32")
    ours, theirs = (
        gradients(function, x, kernel)[1]
        for function in (convolution._convolve, lambda x, k: tf.nn.conv2d(x, k, 1, "SAME"))
    )
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", [1.0, GELU_SCALE])
def test_batch_norm_is_keras_without_a_scale_times_ours(scale):
    x = 3 * pictures(4, 5, 6) + 2
    ours = BatchNorm(0.7, 1e-3, scale)
    plain = keras.layers.BatchNormalization(momentum=0.7, epsilon=1e-3, scale=False)
    for layer in (ours, plain):
        layer.build(x.shape)
        layer.beta.assign(np.arange(6) / 3)
    for _ in range(2):
        outputs, mine = gradients(lambda x: ours(x, training=True), x, weights=[ours.beta.value])
        expected, theirs = gradients(
            lambda x: scale * plain(x, training=True), x, weights=[plain.beta.value]
        )
        np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)
        for left, right in zip(mine, theirs, strict=True):
            np.testing.assert_allclose(left, right, rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(ours.moving_mean, plain.moving_mean, rtol=1e-5)
    # TensorFlow's kernel divides by one less than the count, for the running average alone.
    kept, count = 0.7**2, 4 * 5 * 5
    unbiased = kept + (plain.moving_variance.numpy() - kept) * count / (count - 1)
    np.testing.assert_allclose(ours.moving_variance, unbiased, rtol=1e-4)
    plain.moving_variance.assign(ours.moving_variance)
    outputs, mine = gradients(ours, x, weights=[ours.beta.value])
    expected, theirs = gradients(lambda x: scale * plain(x), x, weights=[plain.beta.value])
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-4)
    for left, right in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-3, atol=1e-3)


def test_batch_norm_keeps_its_statistics_in_full_precision():
    x = 3 * pictures(4, 5, 6) + 2
    half, full = BatchNorm(dtype="mixed_bfloat16"), BatchNorm()
    rounded = tf.cast(x, tf.bfloat16)
    assert half(rounded, training=True).dtype == half(rounded).dtype == tf.bfloat16
    full(tf.cast(rounded, tf.float32), training=True)
    assert {w.dtype for w in half.weights} == {"float32"}
    np.testing.assert_allclose(half.moving_mean, full.moving_mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(half.moving_variance, full.moving_variance, rtol=1e-4)


def test_silus_gradient_is_tensorflows():
    x = np.linspace(-20, 20, 101, dtype="float32")
    layer = Silu()
    ours, mine = gradients(lambda x: layer(x, training=True), x)
    theirs, others = gradients(lambda x: x * tf.sigmoid(x), x)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    np.testing.assert_allclose(layer(x), theirs, rtol=1e-6)
    np.testing.assert_allclose(mine[0], others[0], rtol=1e-4, atol=1e-6)


def correlated(count=200, size=8, channels=3) -> np.ndarray:
    """Pictures whose neighbouring pixels and channels are alike."""
    random = np.random.RandomState(0)
    noise = random.randn(count, size + 1, size + 1, channels) @ random.randn(channels, channels)
    return (noise[:, 1:, 1:] + 0.7 * noise[:, :-1, 1:] + 0.7 * noise[:, 1:, :-1]).astype("float32")


@pytest.mark.parametrize("scale", [1.0, GELU_SCALE])
@pytest.mark.parametrize("channels", [1, 3])
def test_whitening_makes_pixels_uncorrelated_and_of_one_deviation(channels, scale):
    images = correlated(channels=channels)
    layer = Whitening(scale=scale, epsilon=1e-6)
    layer.build(images.shape)
    layer.adapt(images)
    count = 4 * channels
    out = layer(images).numpy()
    assert out.shape == layer.compute_output_shape(images.shape) == (200, 7, 7, 2 * count)
    covariance = np.cov(out[..., :count].reshape(-1, count), rowvar=False)
    np.testing.assert_allclose(covariance / scale**2, np.eye(count), atol=0.01)
    np.testing.assert_allclose(out[..., count:], -out[..., :count], rtol=1e-4, atol=1e-4)


def test_whitenings_epsilon_keeps_noise_small_and_strong_patterns_come_first():
    flat = np.repeat(np.random.RandomState(0).randn(300, 1, 1, 1), 4, 1).repeat(4, 2)
    images = (flat + 1e-3 * np.random.RandomState(1).randn(300, 4, 4, 1)).astype("float32")
    layer = Whitening(epsilon=1.0)
    layer.build(images.shape)
    layer.adapt(images)
    deviations = layer(images).numpy()[..., :4].std((0, 1, 2))
    assert deviations[0] > 0.8
    assert deviations[1:].max() < 0.01


def test_an_unadapted_whitening_shows_the_pixels():
    image = pictures(2, 5, 1)
    out = Whitening()(image).numpy()
    corners = np.concatenate(
        [image[:, i : i + 4, j : j + 4] for i in (0, 1) for j in (0, 1)], axis=-1
    )
    np.testing.assert_array_equal(out, np.concatenate([corners, -corners], -1))


@pytest.mark.parametrize(("inputs", "outputs"), [(4, 4), (4, 7), (7, 4)])
def test_partial_identity_passes_inputs_through(inputs, outputs):
    keras.utils.set_random_seed(0)
    kernel = keras.ops.convert_to_numpy(PartialIdentity()((3, 3, inputs, outputs)))
    x, same = pictures(2, 6, inputs), min(inputs, outputs)
    out = tf.nn.conv2d(x, kernel, 1, "SAME").numpy()
    np.testing.assert_array_equal(out[..., :same], x[..., :same])
    rest, limit = kernel[..., same:], (9 * inputs) ** -0.5
    assert rest.size == 0 or 0.8 * limit < np.abs(rest).max() <= limit


def detector(pattern: np.ndarray) -> ImageClassifier:
    """A model of two classes by hand: the first is `pattern`, (3, 3), the second its negative."""
    image = keras.Input((12, 12, 1))
    x = keras.layers.ReLU()(Conv3x3(2, name="conv")(image))
    backbone = keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))
    model = ImageClassifier(backbone, 2)
    kernel = np.stack([pattern, -pattern], -1)[:, :, None]
    backbone.get_layer("conv").kernel.assign(kernel)
    model.classifier.set_weights([np.eye(2), np.zeros(2)])
    return model


@pytest.mark.parametrize("place", [(1, 1), (4, 8), (10, 6), (10, 10)])
@pytest.mark.parametrize("sign", [1, -1])
def test_an_explanation_is_where_the_pattern_is(place, sign):
    pattern = np.array([[0.0, 1, 0], [1, 2, 1], [0, 1, 0]])
    image = np.zeros((1, 12, 12, 1), "float32")
    row, column = place
    image[0, row - 1 : row + 2, column - 1 : column + 2, 0] = sign * pattern
    model = detector(pattern)
    assert model({"image": image}).numpy().argmax() == (0 if sign == 1 else 1)
    heat = model.explain({"image": image}).numpy()[0]
    assert np.unravel_index(heat.argmax(), heat.shape) == place
    assert heat.max() == pytest.approx(1)
    far = np.hypot(*(np.mgrid[0:12, 0:12] - np.array(place)[:, None, None])) > 3
    assert not heat[far].any()


def test_an_explanation_is_all_0_where_nothing_speaks_for_the_answer():
    heat = detector(np.ones((3, 3))).explain({"image": np.zeros((2, 12, 12, 1), "float32")})
    np.testing.assert_array_equal(heat, np.zeros((2, 12, 12)))


@pytest.mark.parametrize(("preset", "layer"), [("simple", "relu3b"), ("airbench", "conv2a")])
def test_explanations_are_plain_grad_cam_on_the_last_map_that_says_where(preset, layer):
    model, image = tiny(preset), pictures(4)
    net = model.backbone
    both = keras.Model(net.input, [net.get_layer(layer).output, net.output])
    with tf.GradientTape() as tape:
        maps, features = both(image, training=False)
        best = tf.reduce_sum(tf.reduce_max(model.classifier(features), -1))
    weights = tape.gradient(best, maps).numpy().mean((1, 2))
    plain = np.maximum(np.einsum("bhwc,bc->bhw", maps, weights), 0)
    plain /= np.maximum(plain.max((1, 2), keepdims=True), 1e-30)
    expected = tf.image.resize(plain[..., None], (16, 16))[..., 0]
    heat = model.explain({"image": image}).numpy()
    assert heat.shape == (4, 16, 16)
    assert heat.min() >= 0 and heat.max() <= 1
    assert (heat.max((1, 2)) > 0.5).any()
    np.testing.assert_allclose(heat, expected, atol=1e-3)


def test_an_explanation_is_of_the_class_that_all_views_together_answer():
    image = keras.Input((12, 12, 1))
    same = Conv3x3(1, PartialIdentity())(image)
    model = ImageClassifier(keras.Model(image, keras.layers.Flatten()(same)), 2)
    left, middle = np.zeros((2, 12, 12))
    left[:, :6] = 1
    middle[4:8] = 1
    # The first class likes the left side; the second the middle rows, and dislikes all others.
    classes = [left.ravel(), np.where(middle, 0.6, -1.0).ravel()]
    model.classifier.set_weights([np.stack(classes, -1), np.zeros(2)])
    inputs = {"image": (left * middle).astype("float32")[None, ..., None]}
    for views, answer in (("one", 0), ("mirror", 1)):
        model.views = views
        assert model(inputs).numpy().argmax() == answer
        # As on the whole the second dislikes brightness, no place speaks for it.
        assert model.explain(inputs).numpy().any() == (answer == 0)


@pytest.mark.parametrize(
    ("preset", "channels", "shape"),
    [
        ("simple", 3, (4, 3, 3, 3)),
        ("simple", 1, (4, 3, 3, 1)),
        ("airbench", 3, (24, 2, 2, 3)),
        ("airbench", 1, (8, 2, 2, 1)),
    ],
)
def test_filters_are_the_first_layers_kernels(preset, channels, shape):
    model = tiny(preset, channels)
    filters = model.filters()
    assert filters.shape == shape
    assert filters.dtype == np.float32
    kernel = kernel_of(model, "conv1a" if preset == "simple" else "whitening")
    np.testing.assert_array_equal(filters[2], kernel[..., 2])


def test_filters_of_other_than_pictures_channels_are_grey():
    model = ImageClassifier(simple((8, 8, 5), (4, 8, 8)), 2)
    expected = np.moveaxis(kernel_of(model, "conv1a"), -1, 0).mean(-1, keepdims=True)
    np.testing.assert_allclose(model.filters(), expected, rtol=1e-5)


def test_adapt_reaches_the_whitening_layer_and_no_other():
    model = ImageClassifier(airbench((16, 16, 3), (4, 8, 8)), 2)
    before = {w.path: w.numpy() for w in model.weights}
    model.adapt({"image": correlated(20, 16)})
    changed = [w.path for w in model.weights if (w.numpy() != before[w.path]).any()]
    assert [path.split("/")[-2] for path in changed] == ["whitening"]


def two_replicas():
    # The default, collective ops, can't tell two strategies of one process apart.
    reduction = tf.distribute.ReductionToOneDevice()
    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"], cross_device_ops=reduction)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_frozen_backbone_normalises_by_its_averages_and_keeps_them(preset):
    model = tiny(preset)
    model.backbone.trainable = False
    before = [weight.numpy() for weight in model.weights]
    images = {"image": pictures()}
    np.testing.assert_allclose(model(images, training=True), model(images), atol=1e-5)
    for old, new in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, new)


def test_a_batch_of_no_pictures_leaves_the_averages_as_they_are():
    layer = BatchNorm()
    layer(np.random.randn(4, 3, 3, 5).astype("float32"), training=True)
    before = layer.moving_mean.numpy()
    layer(np.zeros((0, 3, 3, 5), "float32"), training=True)
    np.testing.assert_allclose(layer.moving_mean, before, rtol=1e-5)
