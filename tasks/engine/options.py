"""The options that every task has besides its data and model; importable without TensorFlow."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal

from tasks.engine.errors import UsageError


@dataclass(frozen=True)
class Train:
    """Training: `model.fit`, by default with AdamW (Loshchilov & Hutter 2019)."""

    epochs: int = 5
    """Passes over the training data. A finished run goes on with more of them where that is the
    same as having asked for them at first: with `schedule` constant and `warmup` 0, and without
    `average` and `lookahead`; else begin a new one, with `start_from`."""

    start_from: str | None = None
    """The folder of a run of the same task: training starts from the weights of its best model,
    with its `--model.*` options, its vocabulary and its scales; the head is new where the classes
    are others."""

    batch_size: int = 32
    """Examples a step, over all replicas together."""

    batch_tokens: int | None = None
    """Tokens a step instead of `batch_size` examples, padding included, the longer side counted:
    for tasks whose records are of unlike length. Where a task has such a default, it gives way to
    a `batch_size` that you give; if you give both, this holds."""

    static_shapes: bool = False
    """Give all batches one shape: pad records to the greatest length that the model takes, and fill
    batches up with rows that count for nothing; always done on a TPU, which compiles a program for
    each shape. The numbers are the same, but more is computed."""

    freeze_epochs: int = 0
    """Of a pretrained model: epochs at the start in which only the new head is trained, at
    `head_learning_rate`; then all is."""

    head_learning_rate: float = 1e-3
    """Learning rate of the `freeze_epochs`; constant."""

    learning_rate: float = 3e-4
    """The highest learning rate of the schedule. 3e-4 suits small encoders such as minilm, 5e-5
    base and large ones."""

    schedule: Literal["linear", "cosine", "constant", "triangular", "inverse_sqrt"] = "linear"
    """How the learning rate falls after warmup: to zero, not at all, (triangular) from 0.2 of its
    highest to 0.07 of it, or with the square root of the steps, counted from the beginning."""

    warmup: float = 0.1
    """Share of the steps in which the learning rate rises from zero, 0 to 1."""

    optimizer: Literal["adamw", "sgd", "muon"] = "adamw"
    """`sgd` has Nesterov's momentum; `muon` (Jordan 2024) is for matrices and convolutions, with
    AdamW for the rest, embeddings and the classifier included. All decay weights decoupled."""

    adam_beta_2: float = 0.999
    """Of `adamw`: how slowly the mean of squared gradients changes, 0 to below 1; 0.98 in Vaswani
    et al. 2017."""

    momentum: float = 0.9
    """Of `sgd`: the share of the last update in the next, 0 to below 1."""

    bias_scale: float = 1.0
    """Of `sgd`: what the learning rate of biases and norms is multiplied by."""

    lookahead: int = 0
    """Of `sgd`: steps after which the weights go part of the way back to where they were (Zhang et
    al. 2019), more and more so towards the end; 0 for never."""

    weight_decay: float = 0.01
    """Decoupled weight decay, on weight matrices only: not on biases, norms and embeddings."""

    decay_biases: bool = False
    """Decay biases and norms, too."""

    clip_norm: float | None = 1.0
    """Scale gradients down to this global norm; null for no clipping."""

    accumulate: int = 1
    """Steps whose gradients are averaged into one update, for batches that memory can't hold; the
    steps that are left at the end of an epoch are one, too. Learning rates go by updates."""

    label_smoothing: float = 0.0
    """Share of the target probability spread over all classes, 0 to 1."""

    class_weights: Literal["none", "balanced"] = "none"
    """`balanced` weighs every class by the inverse of its share of the training data."""

    ema: float | None = None
    """Validate, keep and export an exponential moving average of the weights with this momentum an
    update, such as 0.999."""

    average: Literal["none", "last", "best"] = "none"
    """Take the mean of the weights of the last, or best, `average_epochs`, if it is better on the
    validation data than the best epoch (Vaswani et al. 2017, section 6.1)."""

    average_epochs: int = 5
    """Epochs whose weights `average` takes the mean of."""

    patience: int | None = None
    """Stop early after this many epochs without a better validation metric."""

    seed: int = 0
    """Seeds the validation split, the weights, dropout and the order of the examples."""

    deterministic: bool = False
    """Make two runs with one seed on one machine equal bit for bit; slower on GPUs."""

    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = "auto"
    """What products are computed in; weights stay float32. `auto` takes mixed_bfloat16 where the
    machine computes it natively, else float32."""

    strategy: Literal["auto", "default", "mirrored", "multi_worker", "tpu"] = "auto"
    """The tf.distribute strategy: `mirrored` trains on all of this machine's GPUs, `multi_worker`
    on those of several machines, which TF_CONFIG or Slurm name, `tpu` on a TPU's cores; `auto`
    takes the first or the second where there are several."""

    replicas: int | None = None
    """Replicas of `mirrored`, and on each machine of `multi_worker`: this many GPUs, or, without
    any, logical CPU devices (to rehearse; it is no faster)."""

    checkpoint_steps: int | None = None
    """Save the training's state after every so many steps, beside after each epoch; a run that is
    killed goes on from the last one."""

    checkpoint_minutes: float | None = 10.0
    """Save it also when so many minutes have passed since the last time; null for never."""

    on_nan: Literal["stop", "rollback"] = "stop"
    """What to do when the loss is not a finite number: `stop`, or go back to the weights of the
    last saved state and leave out the batches since."""

    profile: str | None = None
    """Steps to profile for TensorBoard, first and last: `20,30`."""

    def __post_init__(self) -> None:
        counts = ("epochs", "batch_size", "batch_tokens", "accumulate", "replicas", "patience")
        for name in (*counts, "average_epochs", "checkpoint_steps"):
            _require(name, getattr(self, name), "at least 1", lambda value: value >= 1)
        for name in ("learning_rate", "head_learning_rate", "clip_norm", "checkpoint_minutes"):
            _require(name, getattr(self, name), "above 0", lambda value: value > 0)
        for name in ("weight_decay", "bias_scale", "lookahead", "freeze_epochs"):
            _require(name, getattr(self, name), "at least 0", lambda value: value >= 0)
        _require("ema", self.ema, "between 0 and 1", lambda value: 0 < value < 1)
        _require("seed", self.seed, "from 0 to 4294967295", lambda value: 0 <= value < 2**32)
        if self.profile is not None:
            profiled_steps(self.profile)
        for name in ("warmup", "label_smoothing", "momentum", "adam_beta_2"):
            _require(name, getattr(self, name), "from 0 to below 1", lambda value: 0 <= value < 1)
        if self.schedule == "inverse_sqrt" and not self.warmup:
            raise UsageError(
                "--train.warmup 0: the schedule inverse_sqrt falls from where the warmup ends; "
                "give a share above 0, such as 0.05"
            )
        if self.accumulate > 1 and self.optimizer == "sgd" and self.lookahead:
            raise UsageError(
                f"--train.accumulate {self.accumulate} can't be had with --train.lookahead "
                f"{self.lookahead}; give --train.lookahead 0, or a larger --train.batch_size"
            )
        if self.optimizer != "sgd" and self.learning_rate > 0.5:
            raise UsageError(
                f"--train.learning_rate {self.learning_rate} is one for sgd; {self.optimizer} "
                "needs much less, such as 0.001"
            )


@dataclass(frozen=True)
class RunOptions:
    """The run folder: config, checkpoints, logs, metrics and report."""

    dir: str | None = None
    """The folder; by default runs/TASK/TIMESTAMP. With the folder of a stopped run, and the same
    options, training goes on where it was."""


@dataclass(frozen=True)
class ExportOptions:
    """The SavedModel for TensorFlow Serving."""

    dir: str | None = None
    """The model's folder, such as saved_models/NAME; the version is the next free number in it."""


@dataclass(frozen=True)
class Config:
    """All options of a task, as the command line and config files give them."""

    data: Any  # the task's own dataclass
    model: Any  # the zoo model's dataclass
    train: Train
    run: RunOptions
    export: ExportOptions
    decode: Any  # the task's own dataclass, or None
    plain: dict[str, Any]  # the same as dicts, as config.yaml has them

    @property
    def defaults(self) -> dict[str, dict[str, Any]]:
        """What the options are that nobody gives, recipes apart, by section."""
        return {
            name: {
                field.name: field.default_factory()
                if callable(field.default_factory)
                else field.default
                for field in fields(getattr(self, name))
            }
            for name in self.plain
            if name != "task"
        }


def profiled_steps(profile: str) -> tuple[int, int]:
    """The first and last step, counted from 1, that `20,30` or `20` means."""
    try:
        numbers = [int(part) for part in profile.split(",")]
        first, last = numbers[0], numbers[-1]
        if len(numbers) > 2 or not 1 <= first <= last:
            raise ValueError
    except ValueError:
        message = (
            f"--train.profile {profile}: give two steps, the first and last batch, such as 20,30"
        )
        raise UsageError(message) from None
    return first, last


def _require(name: str, value: Any, what: str, holds: Callable[[Any], bool]) -> None:
    if value is not None and not holds(value):
        raise UsageError(f"--train.{name} {value}: must be {what}")
