"""The optimizers that all tasks train with, and their learning-rate schedules.

optimizer = AdamW(schedule("linear", 2e-4, warmup_steps=100, total_steps=1000), global_clipnorm=1.0)
optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta", "embeddings"])
"""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tasks.engine.options import Train


class _Gathering(keras.optimizers.Optimizer):
    """A Keras optimizer that gathers gradients (`gradient_accumulation_steps`) as if batches were
    larger: what is left at the end of an epoch is an update, too, by the mean of as many; averages
    of weights and learning rates move once an update; and several replicas can gather, if their
    gradients come added up (`take_sums`).

    Args:
        epoch_steps: batches of an epoch; without, epochs are not known of.
    """

    def __init__(self, *args: Any, epoch_steps: int | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.epoch_steps = epoch_steps

    @property
    def iterations(self) -> Any:
        """The updates so far."""
        steps, epoch = self.gradient_accumulation_steps, self.epoch_steps
        if not steps or not epoch:
            return super().iterations
        batches = self._iterations.value
        return batches // epoch * updates(epoch, steps) + batches % epoch // steps

    def _get_current_learning_rate(self) -> Any:
        """The rate of this update, as schedules count updates where epochs are known of."""
        rate = self._learning_rate
        is_schedule = isinstance(rate, keras.optimizers.schedules.LearningRateSchedule)
        if is_schedule and self.gradient_accumulation_steps and self.epoch_steps:
            return rate(self.iterations)
        return super()._get_current_learning_rate()

    def begin_epoch(self, epoch: int) -> None:
        """Has nothing gathered, and is where that epoch of this training, counted from 0, begins:
        also after batches that were left out, as their gradients were not finite."""
        if self.gradient_accumulation_steps and self.epoch_steps and self.built:
            self._iterations.assign(epoch * self.epoch_steps)
            for gathered in self._accumulated_gradients:
                gathered.assign(tf.zeros_like(gathered.value))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "epoch_steps": self.epoch_steps}

    def _backend_apply_gradients(self, grads: list[Any], trainable_variables: list[Any]) -> None:
        if not self.gradient_accumulation_steps:
            super()._backend_apply_gradients(grads, trainable_variables)
            return
        sums = [
            self._accumulated_gradients[self._get_variable_index(v)] for v in trainable_variables
        ]
        count, is_last = self._window()

        def update(grads):
            mean = [
                (grad + before) / tf.cast(count, grad.dtype)
                for grad, before in zip(grads, sums, strict=True)
            ]
            mean = self._clip_gradients(mean)
            self._apply_weight_decay(trainable_variables)
            self._backend_update_step(mean, trainable_variables, self.learning_rate)
            self._backend_increment_gradient_accumulators([-gathered for gathered in sums], sums)
            if self.use_ema:
                self._update_model_variables_moving_average(self._trainable_variables)

        def gather(grads):
            self._backend_increment_gradient_accumulators(grads, sums)

        replica = tf.distribute.get_replica_context()
        # Where replicas may update by themselves, they may branch, too (TPU).
        alone = tf.__internal__.distribute.strategy_supports_no_merge_call()
        if alone or replica is None or replica.num_replicas_in_sync == 1:
            tf.cond(is_last, lambda: update(grads), lambda: gather(grads))
            return

        # Which it is to be is chosen above the replicas, as no replica may branch to an update.
        def choose(distribution, grads):
            each = distribution.extended.call_for_each_replica
            is_last = self._window()[1]
            tf.cond(is_last, lambda: each(update, (grads,)), lambda: each(gather, (grads,)))

        replica.merge_call(choose, args=(grads,))

    def _window(self) -> tuple[Any, Any]:
        """How many batches are gathered with this one, and whether it is the last of them."""
        batch = tf.cast(self._iterations.value, tf.int64)
        epoch = self.epoch_steps
        batch = batch % epoch if epoch else batch
        count = batch % self.gradient_accumulation_steps + 1
        is_last = tf.equal(count, self.gradient_accumulation_steps)
        return count, is_last | tf.equal(batch + 1, epoch) if epoch else is_last


class _FewPasses(_Gathering):
    """Weight decay and clipping of a Keras optimizer in few passes over memory.

    The numbers are Keras'. Decay is one pass, and clipping by global norm costs one pass of reading
    unless the norm is above the limit.
    """

    def _apply_weight_decay(self, variables: list[keras.Variable]) -> None:
        decayed = [v.value for v in variables if self._use_weight_decay(v)]
        if not self.weight_decay or not decayed:
            return

        def shrink(variable, factor):
            # One pass: the product's buffer becomes the variable's, unlike with `assign_sub`.
            variable.assign(variable * tf.cast(factor, variable.dtype))

        def apply(distribution, variables, factor):
            for variable in variables:
                distribution.extended.update(variable, shrink, args=(factor,), group=False)

        factor = 1.0 - tf.cast(self.learning_rate, tf.float32) * self.weight_decay
        tf.__internal__.distribute.interim.maybe_merge_call(
            apply, self._distribution_strategy, decayed, factor
        )

    def _clip_gradients(self, grads: list[Any]) -> list[Any]:
        if not (self.global_clipnorm or self.clipnorm or self.clipvalue):
            return grads
        grads = [_deduplicated(g) if isinstance(g, tf.IndexedSlices) else g for g in grads]
        if self.global_clipnorm:
            return self._clip_by_global_norm(grads)
        return super()._clip_gradients(grads)

    def _clip_by_global_norm(self, grads: list[Any]) -> list[Any]:
        values = [g.values if isinstance(g, tf.IndexedSlices) else g for g in grads]
        # `l2_loss` sums squares without writing them down.
        halves = [tf.nn.l2_loss(tf.cast(v, tf.float32)) for v in values]
        norm = tf.sqrt(2.0 * tf.add_n(halves))
        # A norm that isn't finite makes the factor NaN, as Keras has it, so that it shows.
        factor = self.global_clipnorm / norm + (norm - norm)
        values = tf.cond(
            norm <= self.global_clipnorm,
            lambda: values,
            lambda: [v * tf.cast(factor, v.dtype) for v in values],
        )
        return [
            tf.IndexedSlices(v, g.indices, g.dense_shape) if isinstance(g, tf.IndexedSlices) else v
            for g, v in zip(grads, values, strict=True)
        ]


@keras.saving.register_keras_serializable(package="tasks")
class AdamW(_FewPasses, keras.optimizers.AdamW):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2), in few passes.

    The numbers are those of `keras.optimizers.AdamW`, whose arguments it takes and whose state it
    reads; only the work is less: a variable's update is one kernel instead of a dozen ops that each
    pass over memory.

    One thing differs: where a gradient names only some rows of a variable, as an embedding table's
    does (`tf.IndexedSlices`), only those rows and their moments are updated, as if time stood still
    for the others ("lazy Adam"); plain Adam would go on moving all rows by their old momentum. A
    token that occurs several times in a batch counts with the sum of its gradients. With gradient
    accumulation such gradients become dense, and the update is plain Adam's.
    """

    def build(self, variables: list[keras.Variable]) -> None:
        if self.amsgrad:
            raise ValueError("amsgrad is not supported; use keras.optimizers.AdamW for it")
        super().build(variables)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable, of any float dtype, and its two moments in place."""
        variable = variable.value if isinstance(variable, keras.Variable) else variable
        index = self._get_variable_index(variable)
        momentum, velocity = self._momentums[index].value, self._velocities[index].value
        dtype = variable.dtype
        step = tf.cast(self.iterations + 1, dtype)
        rate = tf.cast(learning_rate, dtype)
        beta_1, beta_2 = tf.constant(self.beta_1, dtype), tf.constant(self.beta_2, dtype)
        power_1, power_2 = tf.pow(beta_1, step), tf.pow(beta_2, step)
        if not isinstance(gradient, tf.IndexedSlices):
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=momentum.handle,
                v=velocity.handle,
                beta1_power=power_1,
                beta2_power=power_2,
                lr=rate,
                beta1=beta_1,
                beta2=beta_2,
                epsilon=tf.constant(self.epsilon, dtype),
                grad=tf.cast(gradient, dtype),
            )
            return
        gradient = _deduplicated(gradient)
        rows, values = gradient.indices, tf.cast(gradient.values, dtype)
        new_momentum = beta_1 * tf.gather(momentum, rows) + (1 - beta_1) * values
        new_velocity = beta_2 * tf.gather(velocity, rows) + (1 - beta_2) * tf.square(values)
        rate *= tf.sqrt(1 - power_2) / (1 - power_1)
        update = rate * new_momentum / (tf.sqrt(new_velocity) + self.epsilon)
        for target, value in ((momentum, new_momentum), (velocity, new_velocity)):
            tf.raw_ops.ResourceScatterUpdate(resource=target.handle, indices=rows, updates=value)
        tf.raw_ops.ResourceScatterSub(resource=variable.handle, indices=rows, updates=update)


@keras.saving.register_keras_serializable(package="tasks")
class SGD(_FewPasses, keras.optimizers.SGD):
    """Stochastic gradient descent with Nesterov's momentum and decoupled weight decay, in few
    passes: the arguments, numbers and state of `keras.optimizers.SGD`, and two more arguments.

    Args:
        bias_scale: what the learning rate of biases and norms' shifts is multiplied by, all
            variables of one axis; 64 in Jordan 2024 (arXiv 2404.00498, section 3.4).
        lookahead: every so many steps, the weights go part of the way back to slow weights, which
            are where they were that many steps ago (Zhang et al. 2019, algorithm 1); 0 for never.
            The part is `0.95 ** lookahead * (step / total_steps) ** 3` (Jordan 2024, section 3.4).
        total_steps: of the whole training, for `lookahead`; at the last one the slow weights are
            what remains.
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.9,
        nesterov: bool = True,
        *,
        bias_scale: float = 1.0,
        lookahead: int = 0,
        total_steps: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate, momentum, nesterov, **kwargs)
        self.bias_scale = bias_scale
        self.lookahead = lookahead
        self.total_steps = total_steps
        # A function, as Keras saves variables in an attribute as the optimizer's own.
        self._averages: Callable[[], list[keras.Variable]] = list

    def take_along(self, variables: Sequence[keras.Variable]) -> None:
        """Has `lookahead` move these with the weights that they belong to, such as the moving
        averages of batch norms; to be called before the optimizer is built."""
        self._averages = lambda: list(variables)

    def build(self, variables: list[keras.Variable]) -> None:
        super().build(variables)
        fast = [*variables, *self._averages()] if self.lookahead else []
        self._slow = self.add_optimizer_variables(fast, "slow") if fast else []
        # Keras builds the optimizer while it traces the first step, of which this is no part.
        with tf.init_scope():
            for one, other in zip(self._slow, fast, strict=True):
                one.assign(other)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Updates one variable and its momentum in place."""
        variable = variable.value if isinstance(variable, keras.Variable) else variable
        scale = self.bias_scale if len(variable.shape) == 1 else 1.0
        rate = tf.cast(learning_rate * scale, variable.dtype)
        gradient = tf.cast(tf.convert_to_tensor(gradient), variable.dtype)
        if not self.momentum:
            variable.assign_sub(rate * gradient)
            return
        tf.raw_ops.ResourceApplyKerasMomentum(
            var=variable.handle,
            accum=self.momentums[self._get_variable_index(variable)].value.handle,
            lr=rate,
            grad=gradient,
            momentum=tf.constant(self.momentum, variable.dtype),
            use_nesterov=self.nesterov,
        )

    def apply(self, grads: Any, trainable_variables: Any = None) -> Any:
        """One step of all variables; `lookahead` comes after it."""
        result = super().apply(grads, trainable_variables)
        if self.lookahead:
            self._look_ahead()
        return result

    def _look_ahead(self) -> None:
        step = tf.cast(self.iterations.value, tf.int64)
        last = tf.equal(step, self.total_steps)
        now = last | tf.equal(step % self.lookahead, 0)
        done = tf.cast(step, tf.float32) / self.total_steps
        kept = tf.where(last, 1.0, 0.95**self.lookahead * done**3)

        def merge(fast, slow, now, kept):
            merged = fast + tf.cast(kept, fast.dtype) * (slow - fast)
            slow.assign(tf.where(now, merged, slow))
            fast.assign(tf.where(now, merged, fast))

        def apply(distribution, fasts, slows, now, kept):
            for fast, slow in zip(fasts, slows, strict=True):
                distribution.extended.update(fast, merge, args=(slow, now, kept), group=False)

        tf.__internal__.distribute.interim.maybe_merge_call(
            apply,
            self._distribution_strategy,
            [fast.value for fast in [*self._trainable_variables, *self._averages()]],
            [slow.value for slow in self._slow],
            now,
            kept,
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "bias_scale": self.bias_scale,
            "lookahead": self.lookahead,
            "total_steps": self.total_steps,
        }


@keras.saving.register_keras_serializable(package="tasks")
class Muon(_Gathering, keras.optimizers.Muon):
    """Keras' Muon (Jordan et al. 2024), also for the kernels of convolutions, each as the matrix
    (height x width x inputs, outputs); Keras' own leaves these to AdamW."""

    def _should_use_adamw(self, variable: Any) -> bool:
        is_convolution = len(variable.shape) == 4
        return not is_convolution and super()._should_use_adamw(variable)

    def _muon_update_step(self, gradient: Any, variable: Any, lr: Any, m: Any) -> None:
        self.assign_add(m, gradient + m * (self.momentum - 1))
        ahead = gradient + self.momentum * m if self.nesterov else m
        matrix = tf.reshape(ahead, [-1, variable.shape[-1]])
        update = self.lr_adjust(lr * self.zeropower_via_newtonschulz5(matrix, self.ns_steps))
        self.assign_sub(variable, tf.reshape(update, variable.shape))


def make_optimizer(
    train: Train, steps: int, epoch_steps: int | None = None
) -> keras.optimizers.Optimizer:
    """The optimizer that the options name, for a training of so many steps in epochs of so many."""
    if epoch_steps:
        steps = steps // epoch_steps * updates(epoch_steps, train.accumulate)
    common: dict[str, Any] = {
        "learning_rate": schedule(
            train.schedule, train.learning_rate, round(train.warmup * steps), steps
        ),
        "weight_decay": train.weight_decay,
        "global_clipnorm": train.clip_norm,
        "gradient_accumulation_steps": train.accumulate if train.accumulate > 1 else None,
        "epoch_steps": epoch_steps,
        "use_ema": train.ema is not None,
        "ema_momentum": train.ema or 0.99,
    }
    if train.optimizer == "sgd":
        return SGD(
            momentum=train.momentum,
            bias_scale=train.bias_scale,
            lookahead=train.lookahead,
            total_steps=steps,
            **common,
        )
    if train.optimizer == "muon":
        return Muon(exclude_layers=["classifier"], **common)
    return AdamW(beta_2=train.adam_beta_2, **common)


def updates(steps: int, accumulate: int) -> int:
    """The updates of an epoch of so many steps, if the gradients of some are gathered into one."""
    return -(-steps // accumulate)


def schedule(
    kind: str, learning_rate: float, warmup_steps: int, total_steps: int
) -> "WarmupSchedule":
    """A linear warmup, then `linear` or `cosine` decay to zero, `constant`, `triangular`, or
    `inverse_sqrt`."""
    return WarmupSchedule(kind, learning_rate, warmup_steps, total_steps)


@keras.saving.register_keras_serializable(package="tasks")
class WarmupSchedule(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate by step: up from zero in a line, then down to zero at `total_steps`.

    Args:
        kind: `linear` or `cosine` (Loshchilov & Hutter 2017, equation 5) decay, or `constant`; or
            `triangular`, from 0.2 of the rate up and down to 0.07 of it, in lines (Jordan 2024,
            listing 4); or `inverse_sqrt`, down with the square root of the steps (Vaswani et al.
            2017, equation 3); their total matters only as training warms up for a share of it.
        learning_rate: the highest, reached after the warmup.
        warmup_steps: updates until then; the first one's rate is `learning_rate / warmup_steps`.
        total_steps: updates in all, warmup included.
    """

    def __init__(
        self, kind: str, learning_rate: float, warmup_steps: int, total_steps: int
    ) -> None:
        if kind not in (kinds := ("linear", "cosine", "constant", "triangular", "inverse_sqrt")):
            raise ValueError(f"schedule is {kind!r}; it must be one of {', '.join(kinds)}")
        self.kind = kind
        self.learning_rate = learning_rate
        self.warmup_steps = warmup_steps
        self.total_steps = total_steps

    def __call__(self, step: Any) -> tf.Tensor:
        step = tf.cast(step, tf.float32)
        warmup_steps = max(self.warmup_steps, 1)
        warmup = tf.minimum((step + 1.0) / warmup_steps, 1.0)
        if self.kind == "triangular":
            warmup = 0.2 + 0.8 * warmup
        decay_steps = max(self.total_steps - self.warmup_steps, 1)
        done = tf.clip_by_value((step - self.warmup_steps) / decay_steps, 0.0, 1.0)
        decay = {
            "linear": lambda: 1.0 - done,
            "cosine": lambda: 0.5 * (1.0 + tf.cos(3.141592653589793 * done)),
            "constant": lambda: tf.ones_like(done),
            "triangular": lambda: 1.0 - (1.0 - 0.07) * done,
            "inverse_sqrt": lambda: tf.sqrt(warmup_steps / tf.maximum(step + 1.0, warmup_steps)),
        }[self.kind]()
        return self.learning_rate * warmup * decay

    def get_config(self) -> dict[str, Any]:
        return {
            "kind": self.kind,
            "learning_rate": self.learning_rate,
            "warmup_steps": self.warmup_steps,
            "total_steps": self.total_steps,
        }


def take_sums(optimizer: keras.optimizers.Optimizer) -> None:
    """Has an optimizer be given gradients that were added up over replicas, by `added_up`.

    Keras adds them up itself, but only after it has clipped each replica's own, gathered it, or
    looked whether it is finite.
    """
    inner = getattr(optimizer, "inner_optimizer", optimizer)  # of one that scales losses
    inner._all_reduce_sum_gradients = list


def added_up(gradients: Sequence[Any]) -> list[Any]:
    """The sums of gradients, None among them, over all replicas; in a replica's step."""
    replica = tf.distribute.get_replica_context()
    if replica is None or replica.num_replicas_in_sync == 1:
        return list(gradients)
    there = [gradient for gradient in gradients if gradient is not None]
    sums = iter(replica.all_reduce(tf.distribute.ReduceOp.SUM, there))
    return [gradient if gradient is None else next(sums) for gradient in gradients]


def _deduplicated(gradient: tf.IndexedSlices) -> tf.IndexedSlices:
    """The same gradient with each row once, so that squares are of sums."""
    rows, where = tf.unique(gradient.indices)
    values = tf.math.unsorted_segment_sum(gradient.values, where, tf.size(rows))
    return tf.IndexedSlices(values, rows, gradient.dense_shape)
