"""The playground in a real browser, beside a real server: what a person sees is what REST says."""

import base64
import json
import math
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from selenium.webdriver.common.keys import Keys

from tests.serving.browser import Page, browser  # noqa: F401 (the fixture)
from tests.serving.harness import Running, running

HOSTILE = "<img src=x onerror=alert(1)>"
LABELS = ["negative", "neutral", "positive"]
LONG_VERSION = "20261125055301234"  # more digits than a double has
STRINGS = tf.TensorSpec([None], tf.string)
FLOATS = tf.TensorSpec([None], tf.float32)


def reviews(text):
    """Surest for long texts that they are positive."""
    length = tf.cast(tf.strings.length(text, "UTF8_CHAR"), tf.float32)
    scores = tf.nn.softmax(tf.stack([-length, tf.zeros_like(length), length], 1) / 40)
    order = tf.argsort(scores, direction="DESCENDING")
    scores = tf.gather(scores, order, batch_dims=1)
    labels = tf.gather(LABELS, order)
    return {"labels": labels, "scores": scores, "label": labels[:, 0], "score": scores[:, 0]}


def lengths(text):
    return {"length": tf.strings.length(text, "UTF8_CHAR")}


def pictures(image_bytes):
    """Of a picture its size, its hash in more bits than a double has, and all of its bytes."""
    return {
        "size": tf.strings.length(image_bytes),
        "hash": tf.strings.to_hash_bucket_fast(image_bytes, 2**62),
        "sent": tf.io.encode_base64(image_bytes, pad=True),
        "picture_bytes": image_bytes,
    }


def sums(a, b):
    return {"sum": a + b, "quotient": a / b}


def forecast(history):
    hours = tf.reshape(tf.range(24, dtype=tf.float32) / 4, [1, 24, 1])
    return {
        "forecast": tf.reduce_mean(history, 1, keepdims=True)
        + tf.sin(tf.concat([hours, hours + 1], 2))
    }


def totals(values):
    return {"total": tf.reduce_sum(values)}


def hostile(text):
    labels = tf.stack([text, tf.fill(tf.shape(text), HOSTILE)], 1)
    scores = tf.broadcast_to([0.75, 0.25], tf.shape(labels))
    return {
        "labels": labels,
        "scores": scores,
        "<b>bold</b>": text,
        "<u>all</u>": labels,
    }


def save(folder: Path, function: Callable[..., Any], *inputs: tf.TensorSpec, **others: Any) -> None:
    """A SavedModel of the function as `serving_default`, and of others by their signatures."""

    def traced(function: Callable[..., Any]) -> Any:
        names = function.__code__.co_varnames[: len(inputs)]
        return tf.function(function).get_concrete_function(**dict(zip(names, inputs, strict=True)))

    signatures = {"serving_default": function, **others}
    tf.saved_model.save(
        tf.Module(), str(folder), {name: traced(each) for name, each in signatures.items()}
    )


@contextmanager
def serving(root: Path) -> Iterator[Running]:
    """The models above, each with something that pages get wrong."""
    save(root / "reviews" / "1", reviews, STRINGS, lengths=lengths)
    shutil.copytree(root / "reviews" / "1", root / "reviews" / "2")
    save(root / "pictures" / "1", pictures, STRINGS)
    save(root / "sums" / "1", sums, FLOATS, FLOATS)
    shutil.copytree(root / "sums", root / "growing")
    save(root / "forecast" / LONG_VERSION, forecast, tf.TensorSpec([None, 48, 2], tf.float32))
    save(root / "totals" / "1", totals, FLOATS)
    save(root / "hostile" / "1", hostile, STRINGS)
    names = {"hostile": HOSTILE}
    extras = {
        "reviews": 'model_version_policy { all {} } version_labels { key: "stable" value: 1 }',
        "hostile": 'version_labels { key: "<u>new</u>" value: 1 }',
    }
    configs = [
        f'config {{ name: "{names.get(folder.name, folder.name)}" base_path: "{folder}" '
        f'model_platform: "tensorflow" {extras.get(folder.name, "")} }}'
        for folder in root.iterdir()
    ]
    file = root / "models.config"
    file.write_text(f"model_config_list {{ {' '.join(configs)} }}")
    with running(
        model_config_file=str(file), allow_version_labels_for_unavailable_models=True
    ) as server:
        yield server


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def server(models) -> Iterator[Running]:
    with serving(models) as server:
        yield server


@pytest.fixture
def page(browser, server) -> Iterator[Page]:  # noqa: F811
    """The page, of which the browser has nothing to complain, whatever is done with it."""
    page = Page(browser, f"http://127.0.0.1:{server.rest_port}")
    yield page
    assert page.complaints() == []


def asked(page: Page) -> Any:
    """Asks, and gives the answer as the page got it."""
    page.ask()
    page.driver.execute_script("document.querySelector('#raw').open = true")
    page.wait(lambda: page.text("#raw pre"))
    return json.loads(page.text("#raw pre"))


def answers_elsewhere(page: Page, folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What the page's curl and Python snippets answer when they are run in this folder."""
    command = shlex.split(page.code("curl").replace("\\\n", " "))
    assert command[0] == "curl"
    done = subprocess.run(
        [*command, "-sS"], cwd=folder, capture_output=True, check=True, timeout=20
    )
    monkeypatch.chdir(folder)
    ((answer,),) = printed(page.code("python"))
    return [json.loads(done.stdout), answer]


def printed(code: str) -> list[tuple[Any, ...]]:
    """What a Python snippet prints."""
    lines: list[tuple[Any, ...]] = []
    exec(compile(code, "snippet", "exec"), {"print": lambda *values: lines.append(values)})
    return lines


def bars(page: Page) -> list[tuple[str, float, float]]:
    """Of each bar its label, its number, and its length as a share of the longest that can be."""
    return page.driver.execute_script(
        """return [...document.querySelectorAll("#result .bars li")].map((bar) => {
             const [what, track, number] = bar.children;
             const width = (element) => element.getBoundingClientRect().width;
             return [what.textContent, Number(number.textContent),
                     width(track.firstChild) / width(track)];
           })"""
    )


def test_offers_the_models_versions_and_signatures(page):
    assert sorted(page.options("model")) == sorted(
        [HOSTILE, "forecast", "growing", "pictures", "reviews", "sums", "totals"]
    )
    page.choose("model", "reviews")
    assert page.options("version") == ["2", "1 (stable)"]
    assert page.options("signature") == ["serving_default", "lengths"]
    page.choose("version", "1")
    page.choose("signature", "lengths")
    assert "/v1/models/reviews/versions/1:predict" in page.code("curl")
    assert '"signature_name": "lengths"' in page.code("curl")
    page.type(page.field("text"), "Zürich")
    assert page.ask().split() == ["length", "6"]


def test_a_text_gets_bars(page):
    page.choose("model", "reviews")
    page.type(page.field("text"), "Not bad at all")
    (answer,) = asked(page)["predictions"]
    labels, numbers, shares = zip(*bars(page), strict=True)
    assert list(labels) == answer["labels"] == ["positive", "neutral", "negative"]
    assert numbers == pytest.approx(answer["scores"], abs=1e-5)
    assert shares == pytest.approx(answer["scores"], abs=0.02)
    assert page.text("#result .big") == "positive"
    assert page.text("#timing").startswith("200 OK")


@pytest.mark.parametrize("file", ["nine.bin", f"{HOSTILE}.png"])
def test_a_file_arrives_byte_by_byte(page, tmp_path, file):
    content = bytes(range(256)) * 9
    (tmp_path / file).write_bytes(content)
    page.choose("model", "pictures")
    page.field("image_bytes").send_keys(str(tmp_path / file))
    page.wait(lambda: f"{file} (2.3 kB)" in page.text("#form"))
    answer = page.ask()
    assert page.text("#result .big") == base64.urlsafe_b64encode(content).decode()
    number = int(tf.strings.to_hash_bucket_fast(content, 2**62))
    assert number > 2**53
    assert {str(number), "2304"} <= set(answer.split())


def test_an_example_picture_is_shown_and_comes_back(page):
    page.choose("model", "pictures")
    page.ask()
    sent, back = (page.find(f"{part} img").get_attribute("src") for part in ("#form", "#result"))
    assert sent.startswith("data:image/png;base64,")
    assert sent == back
    width = "return document.querySelector('#result img').naturalWidth"
    assert page.wait(lambda: page.driver.execute_script(width)) == 96


def test_rows_of_numbers_get_a_table(page):
    page.choose("model", "sums")
    page.type(page.field("a"), "1.5")
    page.type(page.field("b"), "0.5")
    assert page.ask().split() == ["quotient", "3", "sum", "2"]
    page.find("#add-row").click()
    page.type(page.field("a", 1), "0")
    page.type(page.field("b", 1), "-0")
    page.ask()
    assert page.texts("#result tr") == ["Row quotient sum", "1 3 2", "2 NaN 0"]
    page.find("[aria-label='Remove row 1']").click()
    assert page.ask().split() == ["quotient", "NaN", "sum", "0"]


def test_what_is_no_number_is_told_at_its_field(page):
    page.choose("model", "sums")
    for typed, complaint in [("", "b of row 1 is empty."), ("1,5", "b of row 1 is to be a number")]:
        page.type(page.field("b"), typed)
        assert page.ask().startswith(complaint)
        assert page.field("b").get_attribute("aria-invalid") == "true"
        assert page.driver.switch_to.active_element == page.field("b")
        assert complaint in page.code("curl")
    page.type(page.field("b"), "2")
    assert page.field("b").get_attribute("aria-invalid") is None


def test_a_forecast_of_a_file_is_drawn(page, tmp_path):
    history = np.random.default_rng(0).normal(size=(48, 2)).astype("float32")
    file = tmp_path / "history.json"
    file.write_text(json.dumps(history.tolist()))
    page.choose("model", "forecast")
    page.find("#form input[type=file]").send_keys(str(file))
    page.wait(lambda: "history.json" in page.text("#form"))
    (answer,) = asked(page)["predictions"]
    expected = history.mean(0) + np.sin(np.arange(24)[:, None] / 4 + np.arange(2))
    np.testing.assert_allclose(answer, expected, atol=1e-5)
    lines = [line.get_attribute("points").split() for line in page.all("#result polyline")]
    heights = -np.array([[float(point.split(",")[1]) for point in line] for line in lines])
    assert heights.shape == (2, 24)
    assert np.corrcoef(heights.ravel(), expected.T.ravel())[0, 1] > 0.9999


def test_an_output_without_batch_dimension_is_asked_for_in_columns(page, server):
    page.choose("model", "totals")
    page.type(page.field("values"), "4")
    page.find("#add-row").click()
    page.type(page.field("values", 1), "5")
    assert page.ask().split() == ["total", "9"]

    page.radio("row")
    refusal = server.post("/v1/models/totals:predict", {"instances": [4, 5]})
    assert refusal.status == 400
    page.ask()
    assert page.text("#result .error") == refusal.error
    assert page.text("#timing").startswith("400 Bad Request")

    page.find("#result button").click()
    page.wait(lambda: page.text("#result").split() == ["total", "9"])


def test_json_is_sent_as_it_was_written(page, server):
    page.choose("model", "sums")
    page.type(page.field("a"), "0.10")
    page.radio("json")
    assert page.find("#body").get_attribute("value") == '{"instances": [{"a": 0.10, "b": 1}]}'
    page.radio("columnar")
    assert page.find("#body").get_attribute("value") == '{"inputs": {"a": [0.10], "b": [1]}}'

    for body in [
        '{"inputs": {"a": [1], "b": ["x"]}}',
        '{"instances": [',
        '{"instances": [{"a": 1}]}',
    ]:
        page.type(page.find("#body"), body)
        page.ask()
        assert page.text("#result .error") == server.post("/v1/models/sums:predict", body).error
    page.type(page.find("#body"), '{"inputs": {"a": [3, 1], "b": [4, 1]}}')
    page.ask()
    assert page.texts("#result tr") == ["Row quotient sum", "1 0.75 7", "2 1 2"]

    page.radio("form")
    assert page.ask().split() == ["quotient", "0.1", "sum", "1.1"]
    page.radio("json")
    assert "[3, 1]" in page.find("#body").get_attribute("value")
    page.find("#reset-body").click()
    assert page.find("#body").get_attribute("value") == '{"inputs": {"a": [0.10], "b": [1]}}'


NASTY = """It's "so" $HOME `ls` \\ \\n !! %s {} @ é 日本 🙂 </script> 'quoted'\nnull, NaN"""


@pytest.mark.parametrize("form", ["row", "columnar"])
def test_snippets_answer_a_text_as_the_page_does(page, tmp_path, monkeypatch, form):
    page.choose("model", HOSTILE)
    page.driver.execute_script(
        "arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('input'))",
        page.field("text"),
        NASTY,
    )
    page.radio(form)
    answer = asked(page)
    rows = answer.get("predictions") or [
        {name: values[0] for name, values in answer["outputs"].items()}
    ]
    assert rows[0]["<b>bold</b>"] == NASTY
    assert answers_elsewhere(page, tmp_path, monkeypatch) == [answer, answer]
    outputs = dict(printed(page.code("grpc")))
    assert outputs["<b>bold</b>"] == [NASTY.encode()]
    assert outputs["scores"] == [rows[0]["scores"]]


def test_snippets_answer_numbers_as_the_page_does(page, tmp_path, monkeypatch):
    page.choose("model", "sums")
    page.type(page.field("a"), "NaN")
    page.type(page.field("b"), "-Infinity")
    answer = asked(page)
    for each in [answer, *answers_elsewhere(page, tmp_path, monkeypatch)]:
        assert [math.isnan(n) for n in each["predictions"][0].values()] == [True, True]
    assert np.isnan([value for _, value in printed(page.code("grpc"))]).all()


@pytest.mark.parametrize("size", [1000, 40_000])
@pytest.mark.parametrize("form", ["row", "columnar"])
def test_snippets_answer_a_file_as_the_page_does(page, tmp_path, monkeypatch, size, form):
    content = np.random.default_rng(0).bytes(size)
    (tmp_path / "photo.jpg").write_bytes(content)
    page.choose("model", "pictures")
    page.radio(form)
    page.field("image_bytes").send_keys(str(tmp_path / "photo.jpg"))
    page.wait(lambda: "photo.jpg" in page.text("#form"))
    download = page.find("#download")
    assert download.is_displayed() == (size == 40_000)
    if download.is_displayed():
        page.driver.execute_cdp_cmd(
            "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
        )
        download.click()
        page.wait((tmp_path / "request.json").exists)
    answer = asked(page)
    assert answers_elsewhere(page, tmp_path, monkeypatch) == [answer, answer]
    (hashed,) = dict(printed(page.code("grpc")))["hash"]
    assert hashed == int(tf.strings.to_hash_bucket_fast(content, 2**62))


def test_snippets_of_tensors_without_rows(page, tmp_path, monkeypatch):
    page.choose("model", "totals")
    page.type(page.field("values"), "2.5")
    answer = asked(page)
    assert answer == {"outputs": 2.5}
    assert answers_elsewhere(page, tmp_path, monkeypatch) == [answer, answer]
    assert printed(page.code("grpc")) == [("total", 2.5)]


def test_nothing_that_comes_from_a_model_is_markup(page):
    page.choose("model", HOSTILE)
    assert page.options("version") == ["1 (<u>new</u>)"]
    page.type(page.field("text"), HOSTILE)
    page.ask()
    assert page.texts("#result th") == ["<u>all</u>"]
    assert page.find("#result .big").get_attribute("title") == "<b>bold</b>"
    assert [label for label, _, _ in bars(page)] == [HOSTILE, HOSTILE]
    page.radio("json")
    page.type(page.find("#body"), json.dumps({"signature_name": HOSTILE, "instances": ["a"]}))
    page.ask()
    assert HOSTILE in page.text("#result .error")
    for language in ("curl", "python", "grpc"):
        assert page.code(language)
    assert page.driver.title.startswith(HOSTILE)
    assert page.all("[onerror], main b, main u, #result img") == []


def test_what_is_chosen_survives_a_reload(page):
    for model, version, signature in [
        ("forecast", LONG_VERSION, "serving_default"),
        ("reviews", "1", "lengths"),
        (HOSTILE, "1", "serving_default"),
    ]:
        page.choose("model", model)
        page.choose("version", version)
        page.choose("signature", signature)
        page.driver.refresh()
        page.wait(lambda: page.find("#form textarea"))
        assert page.ask()
        assert page.text("#timing").startswith("200 OK")
        chosen = [page.chosen(picker) for picker in ("model", "version", "signature")]
        assert chosen == [model, version, signature]


@pytest.mark.parametrize(
    ("fragment", "version", "signature"),
    [
        ("#nothing/9/none", None, "serving_default"),
        ("#%zz", None, "serving_default"),
        ("#reviews/99/lengths", "2", "lengths"),
        ("#reviews/1/none", "1", "serving_default"),
    ],
)
def test_a_link_to_what_is_gone_leads_to_what_is_there(page, server, fragment, version, signature):
    page = Page(page.driver, f"http://127.0.0.1:{server.rest_port}", fragment)
    assert page.chosen("version") == version or version is None
    assert page.chosen("signature") == signature
    assert page.ask()
    assert page.text("#timing").startswith("200 OK")


def test_what_was_typed_is_still_there_after_a_look_at_another_model(page):
    page.choose("model", "reviews")
    page.type(page.field("text"), "mine")
    page.choose("model", "sums")
    page.choose("model", "reviews")
    assert page.field("text").get_attribute("value") == "mine"
    assert page.text("#result") == "Nothing asked yet."


def test_the_keyboard_asks(page):
    page.choose("model", "reviews")
    page.field("text").send_keys(Keys.CONTROL, Keys.ENTER)
    assert page.wait(lambda: page.find("#result .bars"))


def test_fits_a_phone(page, tmp_path):
    (tmp_path / f"{'long' * 40}.png").write_bytes(b"\0" * 999)
    with page.wide(400):
        for model in page.options("model"):
            page.choose("model", model)
            for text in page.all("#form textarea:not(.code)"):
                page.type(text, "unbroken" * 60)
            if model == "pictures":
                page.field("image_bytes").send_keys(str(tmp_path / f"{'long' * 40}.png"))
            page.ask()
            for part in ("curl", "python", "grpc", "json", "form"):
                page.radio(part)
                assert (
                    page.driver.execute_script("return document.documentElement.scrollWidth") <= 400
                )


def test_tells_of_versions_that_come_and_go(page, models):
    page.choose("model", "growing")
    assert page.text("#status") == "Connected"
    shutil.copytree(models / "sums" / "1", models / "growing" / "coming")
    (models / "growing" / "coming").rename(models / "growing" / "2")

    def status() -> str:
        page.driver.execute_script("window.dispatchEvent(new Event('focus'))")
        return page.text("#status")

    page.wait(lambda: status() == "Version 1 is not available any more.")
    assert page.options("version")[0] == "2"
    page.choose("version", "2")
    assert page.text("#status") == "Connected"
    assert page.ask().split() == ["quotient", "1", "sum", "2"]


def test_tells_that_the_server_is_away_and_back(browser, models, server):  # noqa: F811
    options = {"model_name": "totals", "model_base_path": str(models / "totals")}
    with running(**options) as own:
        page = Page(browser, f"http://127.0.0.1:{own.rest_port}")
        assert page.text("#status") == "Connected"
    assert page.ask() == "The server does not answer."
    page.wait(lambda: page.text("#status") == "The server does not answer. Trying again…")
    with running(**options, port=own.grpc_port, rest_api_port=own.rest_port):
        page.driver.execute_script("window.dispatchEvent(new Event('focus'))")
        page.wait(lambda: page.text("#status") == "Connected")
        assert page.ask().split() == ["total", "1"]
