"""What TensorBoard shows of a run: scalars, the model's graph, hyperparameters, a profile, vectors.

    model.fit(..., callbacks=[TensorBoard(run.logs, examples_per_step=32, hparams=options)])
    write_projector(run.logs / "validation", "texts", vectors, rows, header=["label", "text"])

Keras' own callback draws the graph of exact Functional and Sequential models only, and points the
projector at checkpoints that are not there.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from google.protobuf import text_format
from tensorboard.compat.proto import event_pb2
from tensorboard.plugins.hparams import api as hparams_api
from tensorboard.plugins.hparams import api_pb2, summary
from tensorboard.plugins.projector import ProjectorConfig

from tasks.engine.files import atomic_path, atomic_write
from tasks.engine.options import profiled_steps
from tasks.engine.run import flat
from tasks.engine.showing.figures import pixels
from tasks.engine.showing.gallery import gallery, spread_to_one
from tasks.engine.showing.markdown import printable


class TensorBoard(keras.callbacks.Callback):
    """Writes `logdir`, with the runs `train` and `validation` in it.

    Scalars are named as Keras names them: `epoch_*` for what the epoch's logs hold, by epoch; and
    `batch_*` for what the batch's logs hold, the learning rate and the examples per second, by
    training step. Steps go on where they were when training resumes.
    """

    def __init__(
        self,
        logdir: Path,
        *,
        examples_per_step: float,
        hparams: Mapping[str, Any] | None = None,
        inputs: Any = None,
        update_freq: int = 20,
        profile: str | None = None,
    ):
        """Takes what to log; nothing is written before training begins.

        Args:
            logdir: the folder; a profile goes into it too.
            examples_per_step: examples a training step, over all replicas, on average.
            hparams: the options, nested by section or flat; HPARAMS shows them with the last
                validation metrics.
            inputs: the specs of what the model is called with, such as
                `dataset.element_spec[0]`; draws the graph of the forward pass.
            update_freq: training steps between two `batch_*` scalars; each waits for the device.
            profile: the first and last batch to profile, counted from 1: "10,20", or "10".
        Raises:
            UsageError: `profile` is not that.
        """
        super().__init__()
        self.logdir = Path(logdir)
        self.examples_per_step = examples_per_step
        self.hparams = {
            name: value if isinstance(value, bool | int | float) else str(value)
            for name, value in flat(hparams or {}).items()
        }
        self.inputs = inputs
        self.update_freq = update_freq
        self.profile = profiled_steps(profile) if profile else (0, 0)  # batches count from 1
        self._writers: dict[str, Any] = {}
        self._step = 0  # batches trained so far, in all sessions
        self._epoch_start = 0
        self._mark: tuple[int, float] | None = None  # the step and time of the last measurement
        self._session_batches = 0
        self._profiling = False
        self._session: str | None = None  # the run that says the hyperparameters
        self._started = 0.0

    def writer(self, split: str) -> tf.summary.SummaryWriter:
        """The writer of the run `split`; use it, not a second one, while training goes on."""
        if split not in self._writers:
            folder = str(self.logdir / split)
            self._writers[split] = tf.summary.create_file_writer(folder, flush_millis=10_000)
        return self._writers[split]

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        optimizer = self.model.optimizer
        accumulated = getattr(optimizer, "gradient_accumulation_steps", None) or 1
        self._step = int(optimizer.iterations.numpy()) * accumulated
        self._session_batches = 0
        self._session, self._started = None, time.time()
        if self.inputs is not None and self._step == 0:
            with self.writer("train").as_default():
                tf.summary.graph(self._forward_graph())
        if self.profile[0] == 1:
            self._profile()

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        steps = self.params.get("steps")
        self._epoch_start = epoch * steps if steps else self._step
        self._mark = None

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        if not logs:  # trained on before training was resumed
            return
        self._session_batches += 1
        if self._profiling and self._session_batches == self.profile[1]:
            self._stop_profiling()
        if self._session_batches == self.profile[0] - 1:
            self._profile()
        self._step = self._epoch_start + batch + 1
        if self._step % self.update_freq == 0:
            self._write_batch(logs)
        elif self._mark is None:
            self._mark = self._step, time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self.hparams and self._session is None:
            self._write_hparams(logs or {})
        for name, value in (logs or {}).items():
            split = "validation" if name.startswith("val_") else "train"
            with self.writer(split).as_default():
                tf.summary.scalar(f"epoch_{name.removeprefix('val_')}", value, epoch)
        self.flush()

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        if self._profiling:
            self._stop_profiling()
        if self._session:
            with self.writer(self._session).as_default():
                end = summary.session_end_pb(api_pb2.STATUS_SUCCESS)
                tf.summary.experimental.write_raw_pb(end.SerializeToString(), 0)
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _write_batch(self, logs: Mapping[str, Any]) -> None:
        """Writes the logs, and the speed since the last time."""
        values = {name: float(value) for name, value in logs.items()}
        values["learning_rate"] = float(
            keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
        )
        now = time.perf_counter()  # after the values, for which the device had to finish
        if self._mark is not None:
            step, since = self._mark
            examples = (self._step - step) * self.examples_per_step
            values["examples_per_second"] = examples / (now - since)
        self._mark = self._step, now
        with self.writer("train").as_default():
            for name, value in values.items():
                tf.summary.scalar(f"batch_{name}", value, self._step)

    def _write_hparams(self, logs: Mapping[str, Any]) -> None:
        """Into the run whose metrics count, as HPARAMS shows just the metrics beside it."""
        validated = any(name.startswith("val_") for name in logs)
        self._session = "validation" if validated else "train"
        with self.writer(self._session).as_default():
            hparams_api.hparams(self.hparams, start_time_secs=self._started)

    def _forward_graph(self) -> tf.Graph:
        forward = tf.function(lambda inputs: self.model(inputs, training=False))
        return forward.get_concrete_function(self.inputs).graph

    def _profile(self) -> None:
        tf.profiler.experimental.start(str(self.logdir))
        self._profiling = True

    def _stop_profiling(self) -> None:
        tf.profiler.experimental.stop()
        self._profiling = False

    def flush(self) -> None:
        """Writes what is held back, so that it is there if the process is killed."""
        for writer in self._writers.values():
            writer.flush()


def forget_after(logdir: Path, epoch: int, step: int) -> None:
    """Removes from all runs in a folder what training is to write once more.

    Args:
        epoch: whole epochs that stay, counted from the first: scalars and pictures by epoch.
        step: training steps that stay: scalars named `batch_*`.
    """

    def stays(event: Any) -> bool:
        tag = event.summary.value[0].tag if event.summary.value else ""
        if tag.startswith("batch_"):
            return event.step <= step
        once = not tag or tag.startswith(("augmented_", "_hparams_"))  # before the first epoch
        return once or event.step < epoch

    for path in sorted(logdir.rglob("events.out.tfevents.*")):
        events = list(_events(path))
        kept = [event for event in events if stays(event)]
        if len(kept) == len(events):
            continue
        with atomic_path(path) as temporary, tf.io.TFRecordWriter(str(temporary)) as writer:
            for event in kept:
                writer.write(event.SerializeToString())


def _events(path: Path) -> Iterator[Any]:
    """A file's events, up to where the writing process was killed."""
    with suppress(tf.errors.DataLossError):
        for record in tf.data.TFRecordDataset(str(path)):
            yield event_pb2.Event.FromString(record.numpy())


def write_augmented(logdir: Path, inputs: Mapping[str, tf.Tensor], count: int = 48) -> None:
    """Shows what pictures of a training batch, float (batch, height, width, channels), look like
    once they are changed at random; any other inputs are left out."""
    with tf.summary.create_file_writer(str(logdir)).as_default():
        for name, values in inputs.items():
            if values.shape.rank == 4 and values.shape[-1] in (1, 3):
                figure = gallery(list(spread_to_one(values[:count].numpy())), columns=12)
                tf.summary.image(f"augmented_{name}", pixels(figure)[np.newaxis], step=0)


def write_projector(
    logdir: Path,
    name: str,
    embeddings: np.ndarray,
    metadata: Sequence[Sequence[str]],
    header: Sequence[str],
) -> None:
    """Adds vectors to TensorBoard's projector, or replaces those of the same name.

    Args:
        logdir: a folder with event files, which is what makes it a run that TensorBoard looks in.
        name: what the projector calls them; also the name of their folder in `logdir/projector`.
        embeddings: `[n, width]`, numbers.
        metadata: n rows of texts, such as a label and a sentence.
        header: the columns' names.
    """
    folder = logdir / "projector" / name
    with atomic_write(folder / "tensors.tsv") as file:
        np.savetxt(file, np.asarray(embeddings, np.float32), fmt="%.6g", delimiter="\t")
    # The projector takes the first row for a header just when there are several columns.
    rows = [header, *metadata] if len(header) > 1 else metadata
    with atomic_write(folder / "metadata.tsv") as file:
        file.writelines(
            "\t".join(printable(str(cell)) or "-" for cell in row) + "\n" for row in rows
        )

    config_file = logdir / "projector_config.pbtxt"
    config = ProjectorConfig()
    if config_file.exists():
        text_format.Parse(config_file.read_text("utf-8"), config)
    others = [entry for entry in config.embeddings if entry.tensor_name != name]
    del config.embeddings[:]
    config.embeddings.extend(others)
    config.embeddings.add(
        tensor_name=name,
        tensor_shape=np.shape(embeddings),
        tensor_path=f"projector/{name}/tensors.tsv",
        metadata_path=f"projector/{name}/metadata.tsv",
    )
    with atomic_write(config_file) as file:
        file.write(text_format.MessageToString(config))
