"""The task contract: five answers, from which the engine does everything else, and hooks for what a
task does otherwise."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Protocol, TypeVar, get_args

from tasks.engine.options import Config, Train

if TYPE_CHECKING:
    import keras
    import numpy as np
    from matplotlib.figure import Figure

    from data.batching import Augmentation
    from data.preprocessing import Preprocessor
    from data.records import DataSet, Requests
    from data.splits import Splits


class Assessment(Protocol):
    """How a model's outputs are judged, once and after training.

    `truth` is what was asked for, `records` are what it was asked of, and `baselines` the outputs
    of the task's baselines by name.
    """

    mistakes_title: str  # of the table of `mistakes`

    def metrics(
        self,
        truth: "np.ndarray",
        outputs: "np.ndarray",
        records: Any,
        baselines: "Mapping[str, np.ndarray]",
    ) -> dict[str, Any]:
        """Numbers by their Keras or scikit-learn names; nested dicts for parts, such as classes."""

    def pictures(
        self,
        truth: "np.ndarray",
        outputs: "np.ndarray",
        records: Any,
        baselines: "Mapping[str, np.ndarray]",
    ) -> "dict[str, Figure]":
        """Figures for the report and TensorBoard, by name."""

    def mistakes(
        self, truth: "np.ndarray", outputs: "np.ndarray", records: Any, limit: int = 20
    ) -> list[dict[str, Any]]:
        """The worst mistakes, with their records."""

    def summaries(
        self, truth: "np.ndarray", outputs: "np.ndarray", records: Any, step: int
    ) -> None:
        """Curves and samples for TensorBoard, into the default tf.summary writer; the engine adds
        the pictures."""


class Source(Protocol):
    """Where a task's records come from."""

    def splits(self, seed: int) -> "Splits":
        """Training, validation and test data."""

    def folds(self, splits: "Splits") -> "Sequence[Splits]":
        """Parts of the data that `splits` has, each to be trained on and tested anew; none if not
        asked for."""

    def read(self, paths: str | list[str], preprocessor: "Preprocessor") -> "DataSet":
        """A data set that a trained model, with this preprocessor, is to be judged on."""

    def requests(
        self,
        paths: str | list[str] | None,
        preprocessor: "Preprocessor",
        echo: Sequence[str] = (),
    ) -> "Iterator[Requests]":
        """Raw records that such a model is to answer, as they come, and what can't be answered;
        which ones without paths is the source's to say. Answers repeat the columns `echo`."""


class Signatures(Protocol):
    """A tf.Module of what a SavedModel answers: functions from raw records to readable outputs."""

    def functions(self, names: Collection[str] | None = None) -> "dict[str, Any]":
        """Concrete functions by signature name, or those of some names; `serving_default` is one of
        them."""


@dataclass(frozen=True)
class Objective:
    """What training optimises and reports."""

    loss: "keras.losses.Loss"
    metrics: "Sequence[keras.metrics.Metric]"
    assessment: Assessment
    monitor: str = "accuracy"  # the metric that picks the best checkpoint, as named in `metrics`
    mode: str = "max"  # whether `max` or `min` of it is best


Data = TypeVar("Data")
Model = TypeVar("Model")


class Task(Generic[Data, Model]):
    """A task answers five questions; the engine knows neither its data nor its model.

    `Task[Data, Model]` names the dataclasses behind `--data.*` and `--model.*`. Subclasses answer
    the numbered methods, in the order in which data flows, and import TensorFlow inside them, so
    that `--help` is quick. Their docstring's first line is what `--help` says of them.
    """

    name: ClassVar[str]  # as in `python -m tasks.NAME`
    requests: ClassVar[str] = (
        "a .csv, .tsv, .jsonl or .parquet file, or text or JSON lines; by default lines from "
        "standard input, as - says"
    )
    first_run: ClassVar[Sequence[str]] = ()  # options for the sample, beside the defaults
    echoed: ClassVar[Sequence[str]] = ("file",)  # columns of requests that answers repeat
    without: ClassVar[Mapping[str, str]] = {}  # options of `--train.*` that mean nothing, and why
    decode_options: ClassVar[type | None] = None  # the dataclass behind `--decode.*`, if any
    data_options: ClassVar[type]
    model_options: ClassVar[type]

    def __init_subclass__(cls) -> None:
        cls.data_options, cls.model_options = get_args(cls.__orig_bases__[0])  # type: ignore[attr-defined]

    def source(self, data: Data, config: Model) -> Source:
        """1. Which records are read, and what a bad one is."""
        raise NotImplementedError

    def preprocessor(self, config: Model, records: "DataSet", data: Data) -> "Preprocessor":
        """2. How records become tensors; fitted on the training records, then frozen."""
        raise NotImplementedError

    def model(self, config: Model, preprocessor: "Preprocessor") -> "keras.Model":
        """3. Which zoo model is trained."""
        raise NotImplementedError

    def objective(self, train: Train, preprocessor: "Preprocessor") -> Objective:
        """4. What is optimised and reported, and the metric that picks the best checkpoint."""
        raise NotImplementedError

    def signatures(
        self,
        model: "keras.Model",
        preprocessor: "Preprocessor",
        assets: "Sequence[Path]",
        config: Config,
        here: bool = False,
    ) -> Signatures:
        """5. What the export takes and answers; `here`: it is to answer in this process at once,
        and what takes long to set up, which a server does once, can be left out."""
        raise NotImplementedError

    # What follows has a default, and is given where a task needs it; in the order in which it is
    # asked for.

    def recipe(self, config: Model) -> dict[str, Any]:
        """Defaults of options that suit a model, by their dotted names: `train.epochs`."""
        return {}

    def one_thread_an_op(self, config: Model) -> bool:
        """Whether a CPU had better run several ops at once, each on one thread, than one on all: as
        suits models of many small ops in a row."""
        return False

    def inherited(self, preprocessor: "Preprocessor", records: Any) -> "Preprocessor":
        """What becomes of another run's preprocessor for training records of its own, as training
        starts from that run's weights: it knows their classes."""
        labels = getattr(preprocessor, "labels", None)
        if labels is None:
            return preprocessor
        from data.records import label_counts

        found = list(label_counts(records))
        return preprocessor if set(found) == set(labels) else preprocessor.with_labels(found)

    def fitted(self, splits: "Splits", preprocessor: "Preprocessor", data: Data) -> "Splits":
        """What the data become now that there is a preprocessor, by which their lengths are
        known."""
        return splits

    def augmentation(self, data: Data, preprocessor: "Preprocessor") -> "Augmentation | None":
        """How training batches are changed at random, if they are."""
        return None

    def callbacks(
        self, preprocessor: "Preprocessor", splits: "Splits", config: Config, logs: Path
    ) -> "Sequence[keras.callbacks.Callback]":
        """More of Keras' callbacks, such as samples of each epoch for TensorBoard in `logs`."""
        return ()

    def baselines(self, config: Model, preprocessor: "Preprocessor") -> "dict[str, keras.Model]":
        """Simpler models by name, which are trained in the same way, to compare with."""
        return {}

    def assessment(self, objective: Objective, config: Config) -> Assessment:
        """How outputs are judged, where other options than `--train.*` have a say in it."""
        return objective.assessment

    def answers(
        self, model: "keras.Model", preprocessor: "Preprocessor", records: Any, config: Config
    ) -> "np.ndarray | None":
        """The outputs to judge, a row a record, where they are not `model.predict`'s."""
        return None

    def pictures(
        self,
        model: "keras.Model",
        preprocessor: "Preprocessor",
        truth: "np.ndarray",
        outputs: "np.ndarray",
        records: Any,
    ) -> "dict[str, Figure]":
        """Figures for the report and TensorBoard beside the assessment's, by name."""
        return {}

    def rows(self, answer: dict[str, Any], preprocessor: "Preprocessor") -> list[dict[str, Any]]:
        """The rows of a table that an answer becomes; what has several values is left out."""
        return [{key: value for key, value in answer.items() if not isinstance(value, list)}]
