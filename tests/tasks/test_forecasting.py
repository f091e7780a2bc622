"""Forecasting through its public door: the command line, the run folder, the SavedModel."""

import io
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tasks.engine.command.cli import main
from tasks.engine.run import Run
from tasks.engine.training import part
from tasks.forecasting import Forecasting
from tests.serving.served import check_answers, check_signatures, serving

WINDOW, HORIZON = 24, 6
SMALL = "--model.window 24 --model.horizon 6 --model.units 8 --train.learning_rate 1e-2".split()
LINEAR = "--model.layers 0 --train.epochs 1 --train.learning_rate 1e-2".split()


def run(*arguments: object) -> int:
    """The exit code of a command."""
    try:
        main(Forecasting, [str(argument) for argument in arguments])
    except SystemExit as end:
        return end.code
    raise AssertionError("main returned")


def table(count: int, frequency: str = "h", start: str = "2020-01-06", seed: int = 0):
    """Two columns with a daily wave and a trend."""
    random = np.random.RandomState(seed)
    steps = np.arange(count)
    wave = np.sin(steps * 2 * np.pi / 24)
    return pd.DataFrame(
        {
            "time": pd.date_range(start, periods=count, freq=frequency),
            "load": np.round(50 + 10 * wave + steps / 20 + random.randn(count), 3),
            "heat": np.round(2 - wave + 0.1 * random.randn(count), 3),
        }
    )


def write(frame: pd.DataFrame, path: Path) -> Path:
    frame.to_csv(path, index=False)
    return path


def metrics_of(folder: Path) -> dict:
    return json.loads((folder / "metrics.json").read_text())


def served(version: Path):
    return tf.saved_model.load(str(version)).signatures["serving_default"]


def predictions(capsys, *arguments: object) -> list[dict]:
    capsys.readouterr()
    assert run("predict", *arguments) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> SimpleNamespace:
    """One training run with everything: data, run folder, export."""
    folder = tmp_path_factory.mktemp("loads")
    data = write(table(400), folder / "loads.csv")
    options = ["--data.train", data, *SMALL, "--train.epochs", 3, "--train.batch_size", 16]
    options += ["--train.deterministic", "true"]
    exported = ["--run.dir", folder / "run", "--export.dir", folder / "served" / "loads"]
    assert run("train", *options, *exported) == 0
    return SimpleNamespace(
        folder=folder / "run",
        options=options,
        data=data,
        version=folder / "served" / "loads" / "1",
        metrics=metrics_of(folder / "run"),
    )


@pytest.fixture
def copied(trained, tmp_path) -> Path:
    """A copy of the run, to be judged on other data."""
    return shutil.copytree(trained.folder, tmp_path / "copied")


# Training


def test_training_learns_the_wave_and_beats_a_forecast_that_stays_as_it_is(trained):
    test = trained.metrics["test"]
    assert test["scaled_mse"] < 0.5 * test["baselines"]["naive"]["scaled_mse"]


def test_metrics_hold_what_scripts_rely_on(trained):
    metrics = trained.metrics
    assert metrics["task"] == "forecasting"
    model = keras.models.load_model(trained.folder / "checkpoints" / "best.keras", compile=False)
    assert metrics["parameters"] == model.count_params()
    assert metrics["train"]["seconds"] > 0
    assert metrics["train"]["examples_per_second"] > 0
    assert metrics["data"] == {"frequency": "h", "season": 24}
    errors = {"scaled_mse", "scaled_mae", "scaled_rmse", "mase", "smape"}
    probable = {"quantile_loss", "coverage"}
    for split, steps in (("validation", 40), ("test", 80)):
        found = metrics[split]
        assert errors | probable | {"per_target", "by_step", "baselines"} <= found.keys()
        assert found["examples"] == steps - HORIZON + 1
        assert found["per_target"].keys() == {"load", "heat"}
        assert {"mse", "mae", "rmse", "mase", "smape"} <= found["per_target"]["load"].keys()
        assert len(found["by_step"]["scaled_mse"]) == HORIZON
    assert metrics["train"]["examples"] == 280 - WINDOW - HORIZON + 1


def test_a_linear_baseline_is_trained_and_kept(trained):
    linear = keras.models.load_model(
        trained.folder / "baselines" / "linear" / "checkpoints" / "best.keras", compile=False
    )
    names = {layer.name for layer in linear.layers}
    assert "trend_linear" in names and "recurrent1" not in names
    baselines = trained.metrics["test"]["baselines"]
    assert list(baselines) == ["naive", "seasonal_naive", "linear"]
    assert baselines["linear"]["scaled_mse"] < baselines["naive"]["scaled_mse"]


def test_the_report_compares_with_the_baselines_and_shows_pictures_that_exist(trained):
    report = (trained.folder / "report.md").read_text()
    section = report.split("## Baselines")[1].split("##")[0]
    for name in ("the model", "naive", "seasonal naive", "linear"):
        assert f"| {name} |" in section
    for title in ("By target", "Largest errors", "Data", "To repeat it"):
        assert f"## {title}" in report
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", report)
    names = {Path(picture).stem for picture in pictures}
    assert names == {"history", "forecasts", "error_by_step", "quantiles"}
    for picture in pictures:
        assert (trained.folder / picture).read_bytes().startswith(b"\x89PNG")


def test_tensorboard_has_the_pictures_and_the_error_of_each_step(trained):
    events = EventAccumulator(str(trained.folder / "logs" / "test")).Reload()
    assert {"forecasts", "error_by_step", "quantiles"} <= set(events.PluginTagToContent("images"))
    steps = [event.step for event in events.Tensors("scaled_mse_by_step")]
    assert steps == list(range(1, HORIZON + 1))
    for split in ("train", "validation"):
        tags = EventAccumulator(str(trained.folder / "logs" / split)).Reload().Tags()
        assert {"epoch_loss", "epoch_scaled_mse"} <= {*tags["tensors"], *tags["scalars"]}


def test_a_finished_run_given_again_does_not_train_again(trained, monkeypatch):
    folders = (trained.folder, trained.folder / "baselines" / "linear")
    kept = [folder / "checkpoints" / "last.keras" for folder in folders]
    before = [path.stat().st_mtime_ns for path in kept]
    monkeypatch.setattr("tasks.engine.command.train.judge", lambda *_: None)
    assert run("train", *trained.options, "--run.dir", trained.folder) == 0
    assert [path.stat().st_mtime_ns for path in kept] == before


# Answers


def test_predict_and_the_served_model_give_the_same_answer(trained, capsys):
    [answer] = predictions(capsys, "--run.dir", trained.folder)
    frame = pd.read_csv(trained.data).tail(WINDOW)
    history = frame[["load", "heat"]].to_numpy(np.float32)[np.newaxis]
    expected = served(trained.version)(
        history=tf.constant(history), time=tf.constant([frame.time.iloc[-1]])
    )
    assert answer.keys() == expected.keys() == {"forecast", "quantiles", "time"}
    for name in ("forecast", "quantiles"):
        np.testing.assert_allclose([answer[name]], expected[name], rtol=1e-5)
    assert [[text.encode() for text in answer["time"]]] == expected["time"].numpy().tolist()
    times = pd.date_range(frame.time.iloc[-1], periods=HORIZON + 1, freq="h")[1:]
    assert answer["time"] == [str(time) for time in times]


def test_the_server_answers_as_predict_does(trained, capsys):
    rows = predictions(capsys, "--run.dir", trained.folder)
    frame = pd.read_csv(trained.data).tail(WINDOW)
    request = {
        "history": frame[["load", "heat"]].to_numpy(np.float32)[np.newaxis],
        "time": np.array([frame.time.iloc[-1]], object),
    }
    with serving(trained.version) as server:
        check_answers(server, trained.version, request, rows)
        check_signatures(server, trained.version)


def test_predict_writes_a_table_of_the_next_steps(trained, tmp_path, capsys):
    assert run("predict", "--run.dir", trained.folder, "--output", tmp_path / "next.csv") == 0
    found = pd.read_csv(tmp_path / "next.csv")
    targets = ["load", "load_0.1", "load_0.9", "heat", "heat_0.1", "heat_0.9"]
    assert found.columns.tolist() == ["time", *targets]
    [answer] = predictions(capsys, "--run.dir", trained.folder)
    assert found.time.tolist() == answer["time"]
    np.testing.assert_allclose(found[["load", "heat"]], answer["forecast"], rtol=1e-6)
    bands = found[["load_0.1", "load_0.9", "heat_0.1", "heat_0.9"]].to_numpy()
    np.testing.assert_allclose(bands.reshape(HORIZON, 2, 2), answer["quantiles"], rtol=1e-6)


def test_predict_forecasts_what_comes_after_another_file(trained, tmp_path, capsys):
    later = table(30, start="2021-03-01 05:00", seed=3)
    later["other"] = 1
    path = write(later[["heat", "other", "time", "load"]], tmp_path / "later.csv")
    [answer] = predictions(capsys, "--run.dir", trained.folder, "--input", path)
    assert answer["time"][0] == "2021-03-02 11:00:00"
    request = later.tail(WINDOW)
    expected = served(trained.version)(
        history=tf.constant(request[["load", "heat"]].to_numpy(np.float32)[np.newaxis]),
        time=tf.constant([str(request.time.iloc[-1])]),
    )
    np.testing.assert_allclose([answer["forecast"]], expected["forecast"], rtol=1e-5)


def test_predict_answers_raw_records_from_standard_input(trained, capsys, monkeypatch):
    frame = pd.read_csv(trained.data)
    record = {"history": frame[["load", "heat"]].tail(WINDOW).to_numpy().tolist()}
    record["time"] = frame.time.iloc[-1]
    line = json.dumps(record).encode() + b"\n"
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(2 * line)))
    answers = predictions(capsys, "--run.dir", trained.folder, "--input", "-")
    expected = predictions(capsys, "--run.dir", trained.folder)
    assert len(answers) == 2 and answers[0] == answers[1]
    assert answers[0]["time"] == expected[0]["time"]
    np.testing.assert_allclose(answers[0]["forecast"], expected[0]["forecast"], rtol=1e-5)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b'{"history": 1}\n')))
    assert run("predict", "--run.dir", trained.folder, "--input", "-") == 0
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "standard input, row 1: a JSON object with the keys" in error


def test_the_served_model_refuses_a_time_that_is_none(trained):
    history = tf.ones([1, WINDOW, 2])
    with pytest.raises(tf.errors.InvalidArgumentError, match="time must be like 2016-07-01"):
        served(trained.version)(history=history, time=tf.constant(["yesterday"]))


def test_the_export_says_the_order_of_its_columns(trained):
    assert (trained.version / "assets" / "columns.txt").read_text() == "load\nheat\n"


def test_predict_refuses_a_history_that_is_too_short(trained, tmp_path, capsys):
    path = write(table(23), tmp_path / "short.csv")
    assert run("predict", "--run.dir", trained.folder, "--input", path) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "short.csv: 23 time steps, and the model looks at the latest 24" in error


@pytest.mark.parametrize("verb", ["evaluate", "predict"])
def test_series_of_another_frequency_are_refused(trained, tmp_path, capsys, verb):
    path = write(table(100, frequency="D"), tmp_path / "days.csv")
    option = "--data.test" if verb == "evaluate" else "--input"
    assert run(verb, "--run.dir", trained.folder, option, path) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "time steps are 'D' apart, and the model was trained on 'h'" in error


def test_evaluate_judges_other_data_beside_the_same_baselines(trained, copied, tmp_path):
    other = write(table(100, start="2022-01-01", seed=7), tmp_path / "other.csv")
    assert run("evaluate", "--run.dir", copied, "--data.test", other) == 0
    metrics = metrics_of(copied)
    assert metrics["test"]["examples"] == 100 - WINDOW - HORIZON + 1
    assert list(metrics["test"]["baselines"]) == ["naive", "seasonal_naive", "linear"]
    assert metrics["test"]["scaled_mse"] != trained.metrics["test"]["scaled_mse"]
    assert metrics["validation"] == trained.metrics["validation"]


# Several series, with everything that may be known of them


@pytest.fixture(scope="module")
def shops(tmp_path_factory) -> SimpleNamespace:
    """A run on three shops by day, with weather, prices known in advance, and regions."""
    folder = tmp_path_factory.mktemp("shops")
    frames = []
    for number, name in enumerate(("north", "south", "west")):
        frame = table(90 + number, frequency="D", seed=number)
        frame = frame.rename(columns={"load": "sold", "heat": "weather"})
        frame["price"] = 5 + frame.index % 3
        frames.append(frame.assign(shop=name, region=["inland", "coast"][number % 2]))
    data = write(pd.concat(frames), folder / "shops.csv")
    options = ["--data.train", data, "--data.series_column", "shop", "--data.targets", "sold"]
    options += ["--data.covariates", "weather", "--data.known", "price", "--data.static", "region"]
    options += ["--model.window", 14, "--model.horizon", 3, "--model.units", 4]
    options += ["--model.separate", "true", "--model.reversible_norm", "true"]
    options += ["--train.epochs", 1, "--data.validation_fraction", 0, "--run.dir", folder / "run"]
    assert run("train", *options, "--export.dir", folder / "served") == 0
    last = [frame.time.iloc[-1] for frame in frames]
    return SimpleNamespace(
        folder=folder / "run", data=data, frames=frames, last=last, version=folder / "served" / "1"
    )


def with_future(shops: SimpleNamespace, path: Path, steps: int) -> Path:
    """The data and rows after it that have a price and nothing else."""
    parts = []
    for frame, last in zip(shops.frames, shops.last, strict=True):
        times = pd.date_range(last, periods=steps + 1, freq="D")[1:]
        more = pd.DataFrame({"time": times, "price": 6.0, "shop": frame.shop.iloc[0]})
        parts += [frame, more.assign(region=frame.region.iloc[0])]
    return write(pd.concat(parts), path)


def test_each_series_is_forecast_and_named_first(shops, tmp_path, capsys):
    path = with_future(shops, tmp_path / "future.csv", 3)
    answers = predictions(capsys, "--run.dir", shops.folder, "--input", path)
    assert [next(iter(answer.items())) for answer in answers] == [
        ("series", "north"), ("series", "south"), ("series", "west"),
    ]  # fmt: skip
    output = tmp_path / "next.csv"
    assert run("predict", "--run.dir", shops.folder, "--input", path, "--output", output) == 0
    found = pd.read_csv(output)
    assert found.columns.tolist() == ["series", "time", "sold", "sold_0.1", "sold_0.9"]
    assert found.series.tolist() == ["north"] * 3 + ["south"] * 3 + ["west"] * 3
    firsts = [str(last + pd.Timedelta(days=1)) for last in shops.last]
    assert pd.to_datetime(found.time[::3]).astype(str).tolist() == [day[:10] for day in firsts]
    np.testing.assert_allclose(found.sold, np.ravel([a["forecast"] for a in answers]), rtol=1e-6)


def test_what_is_known_is_served_as_it_is_predicted(shops, tmp_path, capsys):
    path = with_future(shops, tmp_path / "future.csv", 4)
    answers = predictions(capsys, "--run.dir", shops.folder, "--input", path)
    last = [frame.tail(14) for frame in shops.frames]
    request = {
        "history": [frame[["sold", "weather", "price"]].to_numpy(np.float32) for frame in last],
        "time": [str(frame.time.iloc[-1]) for frame in last],
        "future": np.full((3, 3, 1), 6, np.float32),
        "static": [["inland"], ["coast"], ["inland"]],
    }
    request = {name: tf.constant(np.array(cells)) for name, cells in request.items()}
    expected = served(shops.version)(**request)
    for name in ("forecast", "quantiles"):
        np.testing.assert_allclose([a[name] for a in answers], expected[name], rtol=1e-4)
    with serving(shops.version) as server:
        raw = {name: tensor.numpy() for name, tensor in request.items()}
        check_answers(server, shops.version, raw, answers)
    request["future"] = request["future"] + 3
    assert np.abs(served(shops.version)(**request)["forecast"] - expected["forecast"]).max() > 0


def test_predict_asks_for_the_columns_that_are_known_in_the_future(shops, tmp_path, capsys):
    for path in (shops.data, with_future(shops, tmp_path / "future.csv", 2)):
        assert run("predict", "--run.dir", shops.folder, "--input", path) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        assert "series 'north'" in error and "the model needs price for 3 time steps" in error


def test_series_that_cant_be_forecast_do_not_stop_the_others(shops, tmp_path, capsys):
    frame = pd.read_csv(with_future(shops, tmp_path / "future.csv", 3))
    west = frame[(frame.shop == "west") & frame.sold.notna()]
    path = write(pd.concat([frame[frame.shop == "south"][-9:], frame[frame.shop == "north"], west]),
                 tmp_path / "some.csv")  # fmt: skip
    output = tmp_path / "next.csv"
    assert run("predict", "--run.dir", shops.folder, "--input", path, "--output", output) == 0
    said = capsys.readouterr().err
    assert "2 of 3 records could not be answered; the first: " in said and "'south': 6 time" in said
    found = pd.read_csv(output)
    assert found.series.tolist() == ["south"] + ["north"] * 3 + ["west"]
    assert found.error.isna().tolist() == [False, True, True, True, False]
    assert "the model needs price for 3 time steps" in found.error.iloc[-1]


def test_errors_of_several_series_are_told_by_series(shops):
    assert metrics_of(shops.folder)["data"] == {"frequency": "D", "season": 7, "series": 3}
    report = (shops.folder / "report.md").read_text()
    assert re.search(r"\| (north|south|west) \|", report.split("## Largest errors")[1])


# Other data and models


def test_a_model_without_calendar_and_quantiles_is_not_told_the_time(tmp_path, capsys):
    data = write(table(120), tmp_path / "loads.csv")
    options = ["--data.train", data, *SMALL, *LINEAR, "--model.calendar", "false"]
    options += ["--model.quantiles", "[]", "--run.dir", tmp_path / "run"]
    assert run("train", *options, "--export.dir", tmp_path / "served") == 0
    metrics = metrics_of(tmp_path / "run")["test"]
    assert not metrics.keys() & {"quantile_loss", "coverage"}
    assert list(metrics["baselines"]) == ["naive", "seasonal_naive"]  # it is the linear one itself
    signature = served(tmp_path / "served" / "1")
    assert signature.structured_input_signature[1].keys() == {"history"}
    assert signature.structured_outputs.keys() == {"forecast"}
    [answer] = predictions(capsys, "--run.dir", tmp_path / "run")
    assert answer.keys() == {"time", "forecast"}
    hours = pd.date_range("2020-01-11", periods=HORIZON, freq="h")
    assert answer["time"] == [str(hour) for hour in hours]
    output = tmp_path / "next.csv"
    assert run("predict", "--run.dir", tmp_path / "run", "--output", output) == 0
    assert pd.read_csv(output).columns.tolist() == ["time", "load", "heat"]


def test_gaps_are_trained_over_and_not_judged(tmp_path):
    frame = table(200)
    frame.loc[frame.index % 7 == 3, "load"] = np.nan
    data = write(frame.drop(index=range(150, 170)), tmp_path / "loads.csv")
    options = ["--data.train", data, "--data.fill", "interpolate", *SMALL, *LINEAR]
    assert run("train", *options, "--run.dir", tmp_path / "run") == 0
    metrics = metrics_of(tmp_path / "run")
    assert metrics["data"]["filled in time"] == 20
    for split in ("validation", "test"):
        assert np.isfinite(metrics[split]["scaled_mse"]) and np.isfinite(metrics[split]["coverage"])
    # The test part begins at row 160, in the gap; histories end with a step that was measured.
    measured = frame.load.notna() & ~frame.index.isin(range(150, 170))
    origins = [row for row in range(160, 200 - HORIZON + 1) if measured[row - 1]]
    assert metrics["test"]["examples"] == len(origins)


def test_the_samples_months_are_trained_on_forecast_and_exported_without_options(
    tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert run("--train.epochs", 1, "--run.dir", "run") == 0
    assert Path("saved_models/forecasting/1/saved_model.pb").exists()
    said = capsys.readouterr().out
    assert "answer" in said and "docker run" in said
    facts = metrics_of(Path("run"))["data"]
    assert (facts["frequency"], facts["season"], facts["filled in co2"]) == ("MS", 12, 5)
    [answer] = predictions(capsys, "--run.dir", "run")
    months = pd.date_range("2020-05-01", periods=24, freq="MS")
    assert answer["time"] == [f"{month} 00:00:00" for month in months.astype(str)]


# Going on after a stop


def test_a_backtest_trains_anew_for_each_fold_and_goes_on_after_a_stop(tmp_path, monkeypatch):
    data = write(table(160), tmp_path / "loads.csv")
    folder = tmp_path / "run"
    options = ["--data.train", data, *SMALL, *LINEAR, "--run.dir", folder]
    options += ["--data.backtest_folds", 2]
    fit, begun = part.fit, []

    def stop_in_second_fold(*arguments, **named):
        own = next(argument for argument in arguments if isinstance(argument, Run))
        begun.append(own.folder.name)
        if begun == ["run", "01", "02"]:
            raise KeyboardInterrupt
        return fit(*arguments, **named)

    monkeypatch.setattr(part, "fit", stop_in_second_fold)
    assert run("train", *options) == 130
    first = folder / "backtest" / "01" / "checkpoints" / "last.keras"
    before = first.stat().st_mtime_ns
    assert run("train", *options) == 0
    assert begun == ["run", "01", "02", "run", "02"]
    assert first.stat().st_mtime_ns == before

    backtest = metrics_of(folder)["backtest"]
    folds = [metrics_of(folder / "backtest" / name)["test"] for name in ("01", "02")]
    errors = [fold["scaled_mse"] for fold in folds]
    assert [fold["scaled_mse"] for fold in backtest["folds"]] == errors
    assert [fold["examples"] for fold in backtest["folds"]] == [16 - HORIZON + 1] * 2
    assert backtest["mean"]["scaled_mse"] == pytest.approx(np.mean(errors))
    assert backtest["deviation"]["scaled_mse"] == pytest.approx(np.std(errors))
    trained = [metrics_of(folder / "backtest" / name)["train"] for name in ("01", "02")]
    assert trained[0]["examples"] < trained[1]["examples"]
    assert "## Backtest" in (folder / "report.md").read_text()


# What is wrong

GOOD = table(60).astype({"time": str})


def changed(row: int, column: str, cell: str) -> pd.DataFrame:
    """The good table with another cell."""
    cells = GOOD[column].astype(str)
    cells[row] = cell
    return GOOD.assign(**{column: cells})


@pytest.mark.parametrize(
    ("frame", "options", "message"),
    [
        (changed(4, "time", "noon"), "", "row 6: column 'time' is 'noon', not a time stamp"),
        (changed(4, "time", GOOD.time[3]), "", "2020-01-06 03:00:00 is in"),
        (GOOD, "--data.targets lod", "no column 'lod' (did you mean 'load'?)"),
        (GOOD, "--data.time_column date", "no column 'date'"),
        (GOOD, "--model.window 50 --model.horizon 11", "60 time steps, too few for a window of 50"),
        (GOOD, "--model.horizon 7", "the validation part has 6 time steps"),
        (GOOD, "--model.window 40", "the training part has 42 time steps"),
        (GOOD.assign(heat=""), "--data.targets load,heat", "'heat' has no number in any row"),
        (GOOD.assign(load=1, heat=2), "", "no target (load, heat) ever changes"),
        (changed(9, "load", "nan"), "--data.fill error", "row 11: column 'load' has no finite"),
        (GOOD.drop(index=9), "--data.fill error", "no row for 2020-01-06 09:00:00"),
        (changed(4, "time", "2020-01-06 03:30"), "", "is not a whole number of steps of 'h'"),
        (GOOD, "--data.frequency SMS", "--data.frequency 'SMS' is no frequency"),
        (GOOD, "--data.frequency D", "is not a whole number of steps of 'D'"),
        (GOOD, "--model.quantiles [0.9,0.1]", "must rise and be between 0 and 1"),
        (GOOD, "--model.quantiles [0,0.5]", "must rise and be between 0 and 1"),
        (GOOD, "--model.window 0", "window 0: must be at least 1"),
        (GOOD, "--model.horizon 0", "horizon 0: must be at least 1"),
        (GOOD, "--model.layers 0 --model.linear false", "layers 0 and linear false"),
        (GOOD, "--model.recurrent_steps 7", "must be from 1 to the window, 6"),
        (GOOD, "--data.season 0", "--data.season 0: must be at least 1"),
        (GOOD, "--data.test_fraction 0.6", "--data.test_fraction 0.6: must be from 0 to 0.5"),
        (GOOD, "--data.backtest_folds 5", "the test part has 12 time steps, too few for 5"),
        (GOOD, "--data.known load --data.targets load", "names the column 'load'"),
        (GOOD, "--data.split ett_hour", "needs 14,400 time steps"),
    ],
)
def test_bad_input_gets_one_line_and_exit_code_2(tmp_path, capsys, frame, options, message):
    data = write(frame, tmp_path / "loads.csv")
    arguments = ["--data.train", data, "--model.window", 6, "--model.horizon", 3, "--run.dir"]
    assert run("train", *arguments, tmp_path / "run", *options.split()) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and message in error
    assert not (tmp_path / "run").exists(), "something was half-written"
