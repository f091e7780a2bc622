"""What a training that starts from another run takes over, and what it refuses."""

import numpy as np
import pytest

from data.errors import DataError
from data.options import TimeSeries
from data.records import Records
from data.text.sequences import NumberPreprocessor
from tasks.engine.errors import UsageError
from tasks.engine.run import Run
from tasks.engine.training.beginning import inherited, take_weights
from tasks.forecasting import Forecasting
from tasks.sequence_classification import SequenceClassification
from zoo.configs import ForecasterConfig, SequenceClassifierConfig


def begun(folder, task, preprocessor) -> Run:
    run = Run(folder)
    run.begin({"task": task.name, "model": {}})
    preprocessor.save(run.assets)
    return run


def walks(labels, features=2) -> Records:
    values = np.empty(len(labels), object)
    values[:] = [np.ones((3, features), np.float32) for _ in labels]
    return Records({"values": values, "label": np.array(labels, object)})


def test_the_same_classes_keep_their_order_and_the_head(tmp_path):
    task, options = SequenceClassification(), SequenceClassifierConfig(units=2)
    theirs = NumberPreprocessor(["b", "a"], features=2, max_length=8)
    run = begun(tmp_path / "run", task, theirs)
    run.checkpoints.mkdir()
    task.model(options, theirs).save(run.best)
    mine = inherited(task, str(run.folder), walks(["a", "b", "a"]))
    assert list(mine.labels) == ["b", "a"]
    model = task.model(options, mine)
    assert take_weights(model, mine, str(run.folder)) == "all of it"
    assert take_weights(model, mine.with_labels(["a", "c"]), str(run.folder)).startswith(
        "with a ne"
    )


@pytest.mark.parametrize(
    "records", [walks(["a"], features=3), Records({"text": np.array(["a"], object)})]
)
def test_records_of_other_columns_are_refused(tmp_path, records):
    task = SequenceClassification()
    run = begun(tmp_path, task, NumberPreprocessor(["b", "a"], features=2, max_length=8))
    with pytest.raises(UsageError, match=r"its model reads other columns .*; name the same"):
        inherited(task, str(run.folder), records)


def test_forecasts_of_other_columns_or_steps_are_refused(tmp_path):
    task, config = Forecasting(), ForecasterConfig(window=3, horizon=2)

    def windows(column="y", step=1):
        days = np.datetime64("2024-01-01") + step * np.arange(30)
        path = tmp_path / "series.csv"
        path.write_text(
            "\n".join([f"time,{column}", *(f"{day},{day.day}" for day in days.tolist())])
        )
        return task.source(TimeSeries(train=str(path)), config).splits(seed=0).train

    theirs = task.preprocessor(config, windows(), TimeSeries())
    run = begun(tmp_path / "run", task, theirs)
    again = inherited(task, str(run.folder), windows())
    np.testing.assert_array_equal(again.mean, theirs.mean)
    for other in (windows(column="z"), windows(step=7)):
        with pytest.raises(DataError, match=r"a run with other columns or time steps \(y, D\)"):
            inherited(task, str(run.folder), other)
