"""Forecasting: what comes next in time series.

python -m tasks.forecasting
python -m tasks.forecasting train --data.train sales.csv --data.time_column day \
    --data.targets sold --model.horizon 14 --run.dir runs/sales --export.dir saved_models/sales
python -m tasks.forecasting predict --run.dir runs/sales --input sales.csv --output next.csv
"""

from dataclasses import replace

from data.options import SAMPLES, TimeSeries
from tasks.engine.command.cli import main
from tasks.engine.task import Task
from zoo.configs import ForecasterConfig


class Forecasting(Task[TimeSeries, ForecasterConfig]):
    """What comes next in time series, by recurrent layers beside a linear forecast."""

    name = "forecasting"
    requests = (
        "tables of series, whose next steps are forecast, by default the training data; - reads "
        "requests as the served model takes them, JSON lines, from standard input"
    )
    # The recipe is for ten thousand windows, and the sample has hundreds.
    first_run = "--train.epochs 60 --train.patience 15 --train.batch_size 32".split()
    echoed = ("series", "time")
    without = {
        "class_weights": "forecasts have no classes",
        "label_smoothing": "forecasts have no labels",
    }

    def one_thread_an_op(self, config: ForecasterConfig):
        return config.many_small_ops

    def recipe(self, config: ForecasterConfig):
        return {
            "train.epochs": 10,
            "train.batch_size": 64,
            "train.learning_rate": 5e-4,
            "train.schedule": "cosine",
            "train.patience": 4,
        }

    def source(self, data: TimeSeries, config: ForecasterConfig):
        from data.series.windows import WindowSource

        sample = str(SAMPLES / "co2.csv")
        return WindowSource(data, config.window, config.horizon, sample)

    def preprocessor(self, config: ForecasterConfig, records, data: TimeSeries):
        from data.series.preprocessor import fit_forecast_preprocessor

        return fit_forecast_preprocessor(
            records.section,
            config.window,
            config.horizon,
            records.season,
            config.calendar,
            config.quantiles,
        )

    def inherited(self, preprocessor, records):
        from data.errors import DataError

        had = (preprocessor.columns, preprocessor.frequency)
        if had != (records.series.columns, records.series.frequency):
            raise DataError(
                f"{records.source}: --train.start_from is of a run with other columns or time "
                f"steps ({', '.join(preprocessor.columns.numbers + preprocessor.columns.static)}, "
                f"{preprocessor.frequency.alias}); name the same with --data.*"
            )
        return preprocessor

    def model(self, config: ForecasterConfig, preprocessor):
        from zoo.forecasting import forecaster

        return forecaster(
            config,
            len(preprocessor.columns.targets),
            preprocessor.mean.tolist(),
            preprocessor.deviation.tolist(),
            step_features=preprocessor.step_features,
            static_features=preprocessor.static_features,
            zero=(-preprocessor.target_level).tolist(),
        )

    def baselines(self, config: ForecasterConfig, preprocessor):
        if not config.layers:
            return {}
        linear = replace(config, layers=0, linear=True, reversible_norm=False)
        return {"linear": self.model(linear, preprocessor)}

    def objective(self, train, preprocessor):
        from tasks.kinds.forecasting.objective import forecast_objective

        return forecast_objective(preprocessor)

    def rows(self, answer, preprocessor):
        rows = []
        for step in range(preprocessor.horizon):
            row = {"series": answer["series"]} if "series" in answer else {}
            if "time" in answer:  # a model without a calendar is not told it
                row["time"] = answer["time"][step]
            for index, name in enumerate(preprocessor.columns.targets):
                row[name] = answer["forecast"][step][index]
                for number, quantile in enumerate(preprocessor.quantiles):
                    row[f"{name}_{quantile:g}"] = answer["quantiles"][step][index][number]
            rows.append(row)
        return rows

    def signatures(self, model, preprocessor, assets, config, here=False):
        from tasks.kinds.forecasting.signatures import ForecasterSignatures

        return ForecasterSignatures(model, preprocessor, assets)


if __name__ == "__main__":
    main(Forecasting)
