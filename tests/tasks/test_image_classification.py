"""Image classification through its public door: the command line, run folder and SavedModel."""

import base64
import json
import re
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tasks.engine.command.cli import main
from tasks.image_classification import ImageClassification
from tests.serving.served import check_answers, check_card, check_signatures, serving

CIFAR = Path(__file__).parents[3] / "shared" / "data" / "cifar10_folder"
SMALL = "--model.widths [4,8,8] --model.height 16 --model.width 16 --train.batch_size 16".split()


def run(*arguments: object) -> int:
    """The exit code of a command."""
    try:
        main(ImageClassification, [str(argument) for argument in arguments])
    except SystemExit as end:
        return end.code
    raise AssertionError("main returned")


def picture(label: str, seed: int, size: tuple[int, int] = (20, 16)) -> Image.Image:
    """Stripes on noise: across, or up and down; the label tells which."""
    random = np.random.RandomState(seed)
    width, height = size
    pixels = random.randint(0, 60, (height, width, 3))
    stripes = np.arange(height)[:, None] if label == "across" else np.arange(width)[None, :]
    pixels[np.broadcast_to((stripes // 2) % 2 == 0, (height, width))] += 160
    return Image.fromarray(pixels.astype(np.uint8))


def write_photos(folder: Path, count: int, seed: int = 0) -> Path:
    """A folder of class folders; pictures of several sizes and formats."""
    sizes, kinds = [(20, 16), (16, 16), (17, 30)], ["jpg", "png", "webp", "bmp", "gif"]
    for label in ("across", "down"):
        (folder / label).mkdir(parents=True)
        for index in range(count // 2):
            made = picture(label, seed + index, sizes[index % 3])
            made.save(folder / label / f"{index}.{kinds[index % 5]}")
    return folder


def in_bytes(made: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = BytesIO()
    made.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> SimpleNamespace:
    """One training run with everything: data, one bad picture of it, run folder, export."""
    folder = tmp_path_factory.mktemp("images")
    train = write_photos(folder / "photos", 120)
    (train / "across" / "broken.jpg").write_bytes(b"not a picture")
    test = write_photos(folder / "test", 20, seed=1000)
    options = ["--data.train", train, "--data.test", test, *SMALL, "--run.dir", folder / "run"]
    options += ["--train.epochs", 8, "--data.flip", "random", "--data.cutout", 3]
    options += ["--data.brightness", 0.1, "--data.contrast", 0.1, "--data.on_bad_row", "skip"]
    assert run("train", *options, "--export.dir", folder / "served" / "stripes") == 0
    return SimpleNamespace(
        folder=folder / "run",
        options=options,
        test=test,
        version=folder / "served" / "stripes" / "1",
        metrics=json.loads((folder / "run" / "metrics.json").read_text()),
    )


def predicted(capsys, *arguments: object) -> list[dict]:
    capsys.readouterr()
    assert run("predict", *arguments) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_training_learns_the_stripes(trained):
    assert trained.metrics["test"]["accuracy"] > 0.9


def test_bad_pictures_are_skipped_and_counted_when_asked(trained):
    assert trained.metrics["train"]["skipped"] == 1


def test_the_report_shows_mistakes_explanations_and_the_first_layer(trained):
    report = (trained.folder / "report.md").read_text()
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", report)
    names = {Path(name).stem for name in pictures}
    assert {"explanations", "first_layer"} <= names
    assert {"confusion_matrix", "calibration", "per_class"} <= names
    for name in pictures:
        assert (trained.folder / name).read_bytes().startswith(b"\x89PNG")


def test_tensorboard_shows_changed_training_pictures_before_training(trained):
    events = EventAccumulator(str(trained.folder / "logs" / "train")).Reload()
    assert "augmented_image" in events.Tags()["tensors"] + events.Tags()["images"]


def test_no_cache_or_temporary_files_are_left(trained):
    assert not (trained.folder / "cache").exists()
    assert not list(trained.folder.rglob(".*"))


def test_predict_names_the_files_and_answers_as_the_export_does(trained, capsys):
    files = sorted(trained.test.rglob("*.*"))
    answers = predicted(capsys, "--run.dir", trained.folder, "--input", *files)
    assert [answer["file"] for answer in answers] == [str(file) for file in files]
    served = tf.saved_model.load(str(trained.version)).signatures["serving_default"]
    for file, answer in zip(files, answers, strict=True):
        alone = served(image_bytes=tf.constant([file.read_bytes()]))
        assert answer["label"].encode() == alone["label"].numpy()[0]
        np.testing.assert_allclose(answer["score"], alone["score"].numpy()[0], atol=1e-5)
        np.testing.assert_allclose(
            answer["probabilities"], alone["probabilities"].numpy()[0], atol=1e-5
        )


def test_the_server_answers_as_predict_does_and_as_the_card_says(trained, capsys):
    files = sorted(trained.test.rglob("*.*"))
    contents = np.array([file.read_bytes() for file in files], object)
    rows = predicted(capsys, "--run.dir", trained.folder, "--input", *files)
    with serving(trained.version) as server:
        check_answers(server, trained.version, {"image_bytes": contents}, rows)
        check_signatures(server, trained.version)
        check_card(server, trained.version)


def test_predict_takes_folders_tables_and_base64(trained, capsys, tmp_path, monkeypatch):
    file = next((trained.test / "across").glob("*.png"))
    whole = predicted(capsys, "--run.dir", trained.folder, "--input", trained.test)
    assert len(whole) == 20
    expected = next(answer for answer in whole if answer["file"] == str(file))
    line = {"image_bytes": {"b64": base64.b64encode(file.read_bytes()).decode()}}
    (tmp_path / "requests.txt").write_text(json.dumps(line) + "\n" + f"{file}\n")
    pd.DataFrame({"image": [str(file)]}).to_csv(tmp_path / "table.csv", index=False)
    pd.DataFrame({"image": [file.read_bytes()]}).to_parquet(tmp_path / "table.parquet")
    for source in ("requests.txt", "table.csv", "table.parquet"):
        for answer in predicted(capsys, "--run.dir", trained.folder, "--input", tmp_path / source):
            assert answer["label"] == expected["label"]
            assert answer["score"] == pytest.approx(expected["score"], abs=1e-5)


def test_the_export_takes_float_pictures_and_explains_itself(trained):
    signatures = tf.saved_model.load(str(trained.version)).signatures
    assert {"serving_default", "ranked", "classify", "images", "explain"} == set(signatures)
    made = picture("down", 5, (16, 16))
    contents = tf.constant([in_bytes(made)])
    by_bytes = signatures["serving_default"](image_bytes=contents)
    pixels = np.asarray(made, np.float32)[np.newaxis] / 255
    by_pixels = signatures["images"](images=tf.constant(pixels))
    np.testing.assert_allclose(
        by_bytes["probabilities"], by_pixels["probabilities"], rtol=1e-4, atol=1e-5
    )
    explained = signatures["explain"](image_bytes=contents)
    assert explained["label"].numpy() == by_bytes["label"].numpy()
    heat = explained["heatmap"].numpy()
    assert heat.shape == (1, 16, 16) and heat.min() >= 0 and heat.max() <= 1


def test_a_turned_photo_is_put_upright_before_it_is_judged(trained):
    served = tf.saved_model.load(str(trained.version)).signatures["serving_default"]
    made = picture("across", 7, (16, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    turned = in_bytes(made.transpose(Image.Transpose.ROTATE_90), "JPEG", quality=95, exif=exif)
    answer = served(image_bytes=tf.constant([in_bytes(made), turned]))
    assert answer["label"].numpy().tolist() == [b"across", b"across"]


def test_evaluate_judges_other_data(trained, tmp_path):
    other = write_photos(tmp_path / "other", 10, seed=77)
    assert run("evaluate", "--run.dir", trained.folder, "--data.test", other) == 0


@pytest.mark.usefixtures("only_training")
def test_a_killed_run_goes_on_with_the_same_pictures(tmp_path):
    data = write_photos(tmp_path / "photos", 40)
    options = ["--data.train", data, *SMALL, "--data.flip", "alternating", "--data.translate", 1]
    options += ["--train.deterministic", "true", "--train.epochs", 3]
    options += ["--train.optimizer", "sgd", "--train.learning_rate", 0.05, "--train.lookahead", 2]
    assert run("train", *options, "--run.dir", tmp_path / "whole") == 0

    class Killed(Exception):
        pass

    from tasks.engine.training.checkpoints import Checkpoints

    save = Checkpoints.on_epoch_end

    def killed(self, epoch, logs=None):
        save(self, epoch, logs)
        if epoch == 1:
            raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Checkpoints, "on_epoch_end", killed)
        run("train", *options, "--run.dir", tmp_path / "killed")
    assert run("train", *options, "--run.dir", tmp_path / "killed") == 0
    losses = [
        [
            epoch["loss"]
            for epoch in json.loads((tmp_path / name / "checkpoints/history.json").read_text())
        ]
        for name in ("whole", "killed")
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_the_fast_recipe_is_the_presets_default_and_options_override_it(tmp_path, capsys):
    assert run("train", "--model.preset", "airbench", "--print_config") == 0
    printed = capsys.readouterr().out
    assert "optimizer: sgd" in printed and "flip: alternating" in printed
    assert run("train", "--model.preset", "airbench", "--train.epochs", 2, "--print_config") == 0
    assert "epochs: 2" in capsys.readouterr().out


@pytest.mark.usefixtures("only_training")
def test_the_fast_net_trains(tmp_path):
    data = write_photos(tmp_path / "photos", 40)
    options = ["--data.train", data, "--model.preset", "airbench", *SMALL, "--train.epochs", 1]
    assert run("train", *options, "--run.dir", tmp_path / "run") == 0
    [epoch] = json.loads((tmp_path / "run/checkpoints/history.json").read_text())
    assert np.isfinite([epoch["loss"], epoch["val_loss"]]).all()


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory) -> Path:
    """A small residual net in KerasHub's format."""
    import keras
    import keras_hub

    keras.utils.set_random_seed(0)
    folder = tmp_path_factory.mktemp("pretrained") / "net"
    keras_hub.models.ResNetBackbone(
        [64], [3], [64, 64], [1, 1], [1, 2], "basic_block", image_shape=(None, None, 3)
    ).save_to_preset(str(folder))
    return folder


FINE_TUNING = "--model.height 32 --model.width 32 --train.batch_size 16 --train.epochs 3".split()
FINE_TUNING += ["--train.freeze_epochs", "1", "--train.deterministic", "true"]


def first_kernel(model) -> np.ndarray:
    """The first convolution's kernel."""
    return next(w for w in model.backbone.weights if w.path.endswith("conv1_conv/kernel")).numpy()


@pytest.mark.usefixtures("only_training")
def test_a_pretrained_net_is_frozen_and_then_is_not_and_a_killed_run_goes_on(tmp_path, pretrained):
    data = write_photos(tmp_path / "photos", 40)
    options = ["--data.train", data, "--model.preset", pretrained, *FINE_TUNING]
    options += ["--data.mixup", 0.2, "--train.ema", 0.9, "--train.checkpoint_steps", 1]
    from tasks.engine.training.checkpoints import Checkpoints

    kernels, save, save_within = [], Checkpoints.on_epoch_end, Checkpoints.on_train_batch_end
    ends = [1, 1.5]  # in epochs: between the two phases, and within the second one

    class Killed(Exception):
        pass

    def watched(self, epoch, logs=None):
        save(self, epoch, logs)
        kernels.append(first_kernel(self.model))

    def killed(self, epoch, logs=None):
        save(self, epoch, logs)
        if epoch + 1 == ends[0]:
            raise Killed

    def killed_within(self, batch, logs=None):
        save_within(self, batch, logs)
        if self._epoch + (batch + 1) / 2 == ends[0]:
            self._states.settle()
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Checkpoints, "on_epoch_end", watched)
        assert run("train", *options, "--run.dir", tmp_path / "whole") == 0
        patch.setattr(Checkpoints, "on_epoch_end", killed)
        patch.setattr(Checkpoints, "on_train_batch_end", killed_within)
        while ends:
            with pytest.raises(Killed):
                run("train", *options, "--run.dir", tmp_path / "killed")
            del ends[0]
    assert run("train", *options, "--run.dir", tmp_path / "killed") == 0

    import keras_hub

    backbone = keras_hub.models.ResNetBackbone.from_preset(str(pretrained))
    start = backbone.get_layer("conv1_conv").kernel.numpy()
    np.testing.assert_array_equal(kernels[0], start)
    assert (kernels[1] != start).any() and (kernels[2] != kernels[1]).any()
    histories = [
        json.loads((tmp_path / name / "checkpoints/history.json").read_text())
        for name in ("whole", "killed")
    ]
    for one, other in zip(*histories, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-5)
    assert histories[0][0]["learning_rate"] == pytest.approx(1e-3)  # the head's


@pytest.mark.usefixtures("only_training")
def test_an_unfrozen_net_goes_back_from_a_loss_that_is_no_number(
    tmp_path, pretrained, monkeypatch, capsys
):
    class Poison(keras.callbacks.Callback):
        done = False

        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 1 and not self.done:
                self.done = True
                first = self.model.backbone.trainable_variables[0]
                first.assign(np.full(first.shape, np.nan))

    monkeypatch.setattr(ImageClassification, "callbacks", lambda *_: [Poison()])
    data = write_photos(tmp_path / "photos", 40)
    options = ["--data.train", data, "--model.preset", pretrained, *FINE_TUNING]
    options += ["--train.on_nan", "rollback", "--run.dir", tmp_path / "run"]
    assert run("train", *options) == 0
    assert capsys.readouterr().err.count("back to the last saved weights") == 1
    history = json.loads((tmp_path / "run" / "checkpoints/history.json").read_text())
    assert len(history) == 3 and np.isfinite([epoch["loss"] for epoch in history]).all()


def test_a_pretrained_net_answers_in_the_served_model(tmp_path, pretrained, capsys):
    data = write_photos(tmp_path / "photos", 40)
    options = ["--data.train", data, "--data.validation_fraction", 0, "--model.preset", pretrained]
    options += ["--model.height", 32, "--model.width", 32, "--train.epochs", 1]
    options += ["--run.dir", tmp_path / "run", "--export.dir", tmp_path / "served"]
    assert run("train", *options) == 0
    assert f"the preset {pretrained}" in (tmp_path / "served/1/model_card.md").read_text()
    photo = next((data / "down").iterdir())
    answer = predicted(capsys, "--run.dir", tmp_path / "run", "--input", photo)[0]
    served = tf.saved_model.load(str(tmp_path / "served" / "1")).signatures["serving_default"]
    scores = served(image_bytes=tf.constant([photo.read_bytes()]))["probabilities"].numpy()[0]
    np.testing.assert_allclose(answer["probabilities"], scores, atol=1e-5)


def test_freezing_what_starts_from_random_weights_is_refused(tmp_path, capsys):
    data = write_photos(tmp_path / "photos", 20)
    options = ["--data.train", data, *SMALL, "--run.dir", tmp_path / "run"]
    assert run("train", *options, "--train.freeze_epochs", 2) == 2
    assert "--train.freeze_epochs 2: there is nothing to keep" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("data.crop", 0, "must be above 0, up to 1"),
        ("data.magnitude", 11, "must be from 0 to 10"),
        ("data.saturation", 1, "must be from 0 to below 1"),
        ("data.mixup", -1, "must be at least 0"),
        ("data.background", "pink", "must be white, black, none, or #rrggbb"),
        ("data.range_16bit", "9,9", "must be auto, full, or two numbers up to 65535"),
        ("data.cutout", 17, "pictures are 16x16 pixels"),
        ("train.learning_rate", 1.5, "is one for sgd; adamw needs much less"),
        ("model.preset", "resnet19", "no preset or folder 'resnet19'"),
    ],
)
def test_bad_options_are_refused_in_one_line(tmp_path, capsys, option, value, said):
    data = write_photos(tmp_path / "photos", 20)
    small = SMALL[2:] if option == "model.preset" else SMALL
    options = ["--data.train", data, *small, "--run.dir", tmp_path / "run"]
    assert run("train", *options, f"--{option}", value) == 2
    said_all = capsys.readouterr().err
    assert said in said_all and said_all.count("\n") == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("only_training")
def test_large_data_is_cached_on_disk_and_gives_the_same_batches(tmp_path, monkeypatch):
    data = write_photos(tmp_path / "photos", 40)
    options = ["--data.train", data, *SMALL, "--train.epochs", 1, "--train.precision", "float32"]
    batches, cached = [], []

    def look(model, data, steps_per_epoch, **_):
        some = iter(data)
        batches.append([tf.nest.flatten(next(some)) for _ in range(steps_per_epoch)])
        cached.append(folder.joinpath("cache").exists())

    monkeypatch.setattr(keras.Model, "fit", look)
    for name, most, limit in (("memory", 2**32, 1024), ("disk", 0, 1024), ("streamed", 0, 0)):
        monkeypatch.setattr("tasks.engine.training.fit.LARGEST_IN_MEMORY", most)
        folder = tmp_path / name
        assert run("train", *options, "--data.memory_limit_mb", limit, "--run.dir", folder) == 0
        assert not (folder / "cache").exists()
    assert cached == [False, True, True]
    for others in batches[1:]:
        for one, other in zip(batches[0], others, strict=True):
            for mine, theirs in zip(one, other, strict=True):
                np.testing.assert_allclose(mine, theirs, rtol=1e-6)


def broken_folder(tmp_path: Path, contents: bytes, name: str = "broken.jpg") -> Path:
    data = write_photos(tmp_path / "photos", 40)
    (data / "across" / name).write_bytes(contents)
    return data


@pytest.mark.parametrize(
    ("contents", "what"),
    [
        (b"", "empty"),
        (b"not a picture", "not a picture"),
        (in_bytes(picture("down", 1), "JPEG")[:200], "truncated"),
        (in_bytes(picture("down", 1), "TIFF"), "TIFF"),
    ],
)
def test_a_bad_picture_is_named(tmp_path, capsys, contents, what):
    data = broken_folder(tmp_path, contents)
    options = ["--data.train", data, *SMALL, "--train.epochs", 1, "--run.dir", tmp_path / "run"]
    assert run("train", *options) == 2
    error = capsys.readouterr().err
    assert "broken.jpg" in error and what in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_picture_bomb_is_refused_before_it_is_decoded(tmp_path, capsys):
    data = broken_folder(tmp_path, in_bytes(Image.new("1", (4000, 4000))), "bomb.png")
    options = ["--data.train", data, "--data.max_pixels", 10**6, "--run.dir", tmp_path / "run"]
    assert run("train", *options) == 2
    error = capsys.readouterr().err
    assert "bomb.png" in error and "--data.max_pixels" in error


@pytest.mark.parametrize(
    ("arrange", "what"),
    [
        (lambda data: (data / "third").mkdir(), "third has no pictures"),
        (lambda data: [f.unlink() for f in (data / "down").iterdir()], "down has no pictures"),
    ],
)
def test_a_folder_that_can_not_be_trained_on_is_explained(tmp_path, capsys, arrange, what):
    data = write_photos(tmp_path / "photos", 20)
    arrange(data)
    assert run("train", "--data.train", data, "--run.dir", tmp_path / "run") == 2
    assert what in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_class_that_training_lacks_is_refused_in_test_data(tmp_path, capsys):
    data = write_photos(tmp_path / "photos", 40)
    test = write_photos(tmp_path / "test", 4)
    (test / "down").rename(test / "sideways")
    options = ["--data.train", data, "--data.test", test, "--run.dir", tmp_path / "run"]
    assert run("train", *options) == 2
    assert "sideways" in capsys.readouterr().err


def test_a_manifest_names_its_missing_columns(tmp_path, capsys):
    data = write_photos(tmp_path / "photos", 10)
    files = [str(file) for file in sorted(data.rglob("*.*"))]
    pd.DataFrame({"file": files, "label": "x"}).to_csv(tmp_path / "list.csv", index=False)
    assert run("train", "--data.train", tmp_path / "list.csv", "--run.dir", tmp_path / "r") == 2
    assert "no column 'image'; the columns are: file, label" in capsys.readouterr().err


def test_pictures_too_small_for_the_fast_net_are_refused_in_one_line(tmp_path, capsys):
    options = ["--data.train", "sample", "--model.preset", "airbench", "--run.dir", tmp_path / "r"]
    assert run("train", *options) == 2
    assert "airbench needs pictures of 16x16" in capsys.readouterr().err


@pytest.mark.skipif(not CIFAR.exists(), reason="no CIFAR-10 folder")
def test_real_photos_train_from_a_folder(tmp_path):
    options = ["--data.train", CIFAR / "train", "--data.test", CIFAR / "test"]
    options += ["--model.widths", "[16,32,64]", "--train.epochs", 3, "--run.dir", tmp_path / "run"]
    assert run("train", *options) == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["test"]["accuracy"] > 0.15  # of ten classes, from 450 photos
