"""Decoding in the graph, in one `tf.while_loop`, with caches that belong to the model.

`decode` feeds a model token by token: a *strategy* decides which hypotheses live on. `Sampling`
extends each hypothesis by itself, with the token that a *sampler* picks (`Greedy`,
`RandomSampling`); `BeamSearch` keeps the most probable of all extensions.

    answers = decode(step, caches, limits, BeamSearch(width=5), start=1, end=2)

`step` is one step of the model. Its caches are append-only: a hypothesis that descends from
another one does not take the other's keys and values along, it is told where they are. See `Step`.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import tensorflow as tf

Step = Callable[[tf.Tensor, tf.Tensor, Any, tf.Tensor], tuple[tf.Tensor, Any, tf.Tensor | None]]
"""One step of a model: `step(tokens, position, caches, ancestors)`.

Args:
    tokens: int32 (batch, width), the newest token of each hypothesis.
    position: int32 scalar, how many tokens were fed before it.
    caches: a nest of tensors, each of which keeps its shape from step to step.
    ancestors: int32 (batch, width, capacity), for each hypothesis and each position up to
        `position` the slot, below width, in which the step left what it found for this hypothesis'
        token at that position; at `position` its own. What later positions hold means nothing.

Returns:
    float32 (batch, width, vocabulary) logits; the new caches; and float32 (batch, width, sources)
    attention over the source, zero on padding, or None.
"""

# The smallest attention that a source position can have had, by which its logarithm is finite.
SMALLEST_COVERAGE = 1e-9
# Tokens that are sorted first when any token may be drawn; rarely is it one of the others.
HEAD = 1024
# Constants of splitmix64 (Steele et al. 2014, figure 16), as signed numbers.
GOLDEN = 0x9E3779B97F4A7C15 - 2**64
MIX = ((30, 0xBF58476D1CE4E5B9 - 2**64), (27, 0x94D049BB133111EB - 2**64))


class Decoded(NamedTuple):
    """Answers, best first. `n` is how many a row."""

    tokens: tf.Tensor  # int32 (batch, n, capacity): without start and end, 0 behind the last
    lengths: tf.Tensor  # int32 (batch, n): tokens, the end not counted
    scores: tf.Tensor  # float32 (batch, n): by which they are ordered; -inf if there is no such
    log_probs: tf.Tensor  # float32 (batch, n): of all tokens and the end


class Request(NamedTuple):
    """What a strategy is told about the rows."""

    limits: tf.Tensor  # int32 (batch,): tokens at most, the end counted
    forced: tf.Tensor  # int32 (batch, capacity): the only token allowed at a position, or -1
    source_mask: tf.Tensor | None  # bool (batch, sources): false on padding
    capacity: int | tf.Tensor
    start: int
    end: int


class Strategy(Protocol):
    """Which hypotheses live on.

    A state is a named tuple with at least `newest` int32 (batch, width), the tokens to feed, and
    `ancestors` int32 (batch, width, capacity), as a `Step` takes them.
    """

    @property
    def width(self) -> int | tf.Tensor:
        """Hypotheses a row."""
        ...

    def initialize(self, request: Request) -> Any: ...

    def unfinished(self, state: Any) -> tf.Tensor: ...

    def step(
        self,
        state: Any,
        position: tf.Tensor,
        logits: tf.Tensor,
        attention: tf.Tensor | None,
        request: Request,
    ) -> Any: ...

    def finalize(self, state: Any) -> Decoded: ...


class Sampler(Protocol):
    """How a hypothesis' next token is picked."""

    def sample(self, logits: tf.Tensor, position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The tokens that are picked and the most probable ones, each int32 (batch, width), by
        `logits`, float32 (batch, width, vocabulary)."""
        ...


def decode(
    step: Step,
    caches: Any,
    limits: tf.Tensor,
    strategy: Strategy,
    *,
    start: int,
    end: int,
    prefix: tf.Tensor | None = None,
    source_mask: tf.Tensor | None = None,
    capacity: int | tf.Tensor | None = None,
) -> Decoded:
    """Answers of a model that predicts one token at a time.

    Log-probabilities are those of the whole softmax over the logits, whatever is forced or cut off.
    An answer depends on nothing but its own row.

    Args:
        step: one step of the model.
        caches: what the first step gets as caches.
        limits: int32 (batch,), tokens of an answer at most, the end counted; from 1, by which an
            answer is empty. As the last token only the end is allowed, so that each answer has one.
        strategy: which hypotheses live on.
        start: the token that is fed first.
        end: the token with which an answer ends.
        prefix: int32 (batch, longest), the tokens with which each answer begins, padded with -1.
            It is cut by the end at the limit.
        source_mask: bool (batch, sources), which source positions are real: for a coverage penalty.
        capacity: how many steps the caches have room for, if not the largest of `limits`, which it
            caps.
    """
    limits = tf.convert_to_tensor(limits, tf.int32)
    if capacity is None:
        capacity = tf.maximum(tf.reduce_max(limits), 0)
    limits = tf.minimum(limits, capacity)
    forced = _forced(limits, capacity, prefix, end)
    request = Request(limits, forced, source_mask, capacity, start, end)

    def body(position: tf.Tensor, state: Any, caches: Any):
        logits, new_caches, attention = step(state.newest, position, caches, state.ancestors)
        new_state = strategy.step(state, position, logits, attention, request)
        return position + 1, _shaped(new_state, state), _shaped(new_caches, caches)

    _, state, _ = tf.while_loop(
        lambda position, state, caches: strategy.unfinished(state),
        body,
        (
            tf.constant(0),
            strategy.initialize(request),
            tf.nest.map_structure(tf.convert_to_tensor, caches),
        ),
        maximum_iterations=capacity,
    )
    return strategy.finalize(state)


def strategy(options: Any, n_best: int = 1, seeds: tf.Tensor | None = None) -> Strategy:
    """The strategy that options ask for.

    Args:
        options: a `zoo.configs.Decoding`, or what has such attributes, which may then be tensors.
        n_best: answers a row.
        seeds: int64 (batch,), to draw by, where `temperature` is above 0 or a tensor.
    """
    penalties = {
        "length_penalty": options.length_penalty,
        "repetition_penalty": options.repetition_penalty,
    }
    if not _is(options.temperature, 0):
        assert seeds is not None
        sampler = RandomSampling(
            seeds=seeds,
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
        )
        return Sampling(sampler, n_best, **penalties)
    if _is(options.beam_width, 1) and n_best == 1:
        return Sampling(Greedy(), **penalties)
    coverage = options.coverage_penalty
    return BeamSearch(options.beam_width, n_best, coverage_penalty=coverage, **penalties)


def _forced(
    limits: tf.Tensor, capacity: int | tf.Tensor, prefix: tf.Tensor | None, end: int
) -> tf.Tensor:
    """The only token that is allowed, int32 (batch, capacity), or -1: see `Request`."""
    positions = tf.range(capacity)[tf.newaxis]
    free = tf.fill([tf.shape(limits)[0], capacity], -1)
    if prefix is not None:
        free = tf.concat([tf.cast(prefix, tf.int32), free], axis=1)[:, :capacity]
    return tf.where(positions >= limits[:, tf.newaxis] - 1, end, free)


def _shaped(new: Any, old: Any) -> Any:
    """`new` with the static shapes of `old`, which a loop insists on."""

    def shape(tensor: Any, like: tf.Tensor) -> tf.Tensor:
        tensor = tf.convert_to_tensor(tensor, like.dtype)
        tensor.set_shape(like.shape)
        return tensor

    return tf.nest.map_structure(shape, new, old)


class Greedy:
    """The most probable token; of equal ones the first."""

    def sample(self, logits: tf.Tensor, position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        tokens = tf.argmax(logits, axis=-1, output_type=tf.int32)
        return tokens, tokens


@dataclasses.dataclass(frozen=True, eq=False)
class RandomSampling:
    """A random token, by the model's distribution, which can be sharpened and cut.

    First `temperature` divides the logits, then all but the `top_k` most probable tokens are cut,
    then all but the fewest most probable ones whose probability reaches `top_p` (nucleus sampling,
    Holtzman et al. 2020, section 3.1). Of equally probable tokens the first counts as more so.

    A draw is a function of the row's seed, the hypothesis and the position only.

    Options may be tensors, scalar or (batch,).
    """

    seeds: tf.Tensor  # int64 (batch,)
    temperature: float | tf.Tensor = 1.0  # from 0, which is greedy
    top_k: int | tf.Tensor = 0  # tokens, from 1; 0 for all
    top_p: float | tf.Tensor = 1.0  # above 0 up to 1, which is all

    def __post_init__(self) -> None:
        _check("temperature", self.temperature, "0 (greedy) or more", at_least=0)
        _check("top_k", self.top_k, "0 (all tokens) or more", at_least=0)
        _check("top_p", self.top_p, "above 0 and at most 1 (all tokens)", above=0, at_most=1)

    def sample(self, logits: tf.Tensor, position: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        vocabulary = tf.shape(logits)[2]
        draws = uniform(self.seeds, tf.shape(logits)[1], position)
        if isinstance(self.top_k, int) and self.top_k > 0:
            values, tokens = tf.math.top_k(logits, tf.minimum(self.top_k, vocabulary))
            ranks, _ = self._ranks(values, tf.zeros_like(draws), vocabulary, draws)
            return tf.gather(tokens, ranks, batch_dims=2), tokens[..., 0]

        values, tokens = tf.math.top_k(logits, tf.minimum(HEAD, vocabulary))
        total = tf.reduce_sum(self._weights(logits, values[..., :1]), axis=2)
        ranks, sure = self._ranks(values, total, vocabulary, draws)

        def by_all() -> tf.Tensor:
            values, tokens = tf.math.top_k(logits, vocabulary)
            ranks, _ = self._ranks(values, total, vocabulary, draws)
            return tf.gather(tokens, ranks, batch_dims=2)

        by_head = tf.gather(tokens, ranks, batch_dims=2)
        return tf.cond(tf.reduce_all(sure), lambda: by_head, by_all), tokens[..., 0]

    def _weights(self, values: tf.Tensor, peaks: tf.Tensor) -> tf.Tensor:
        """Probabilities of logits (batch, width, n) relative to that of the largest, `peaks`."""
        temperature = _by_row(self.temperature, tf.float32)[..., tf.newaxis]
        above = tf.where(values > -math.inf, values - peaks, -math.inf)
        return tf.exp(above / tf.where(temperature > 0, temperature, 1.0))

    def _ranks(
        self, values: tf.Tensor, total: tf.Tensor, vocabulary: tf.Tensor, draws: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Which of a hypothesis' most probable tokens is drawn.

        Args:
            values: float32 (batch, width, n), the largest logits, descending.
            total: float32 (batch, width), the sum of the weights of all logits.
            vocabulary: how many logits there are.
            draws: float32 (batch, width), from 0 to below 1.

        Returns:
            int32 (batch, width), from 0 to below n; and bool (batch, width), whether that is the
            answer whatever the logits behind the n largest are.
        """
        temperature, top_p = (_by_row(x, tf.float32) for x in (self.temperature, self.top_p))
        top_k = _by_row(self.top_k, tf.int32)
        top_k = tf.where(top_k > 0, top_k, vocabulary)
        listed = tf.shape(values)[2]
        every, whole = top_k >= vocabulary, top_p >= 1

        weights = self._weights(values, values[..., :1])
        weights = tf.where(tf.range(listed) < top_k[..., tf.newaxis], weights, 0.0)
        sums = tf.cumsum(weights, axis=2)
        cut = top_p * tf.where(every, total, sums[..., -1])
        before = tf.pad(sums[..., :-1], [[0, 0], [0, 0], [1, 0]])
        inside = (before < cut[..., tf.newaxis]) | whole[..., tf.newaxis]
        count = tf.reduce_sum(tf.cast(inside & (weights > 0), tf.int32), axis=2)
        last = tf.maximum(count - 1, 0)
        mass = tf.where(every & whole, total, tf.gather(sums, last, batch_dims=2))
        passed = sums <= (draws * mass)[..., tf.newaxis]
        ranks = tf.minimum(tf.reduce_sum(tf.cast(passed, tf.int32), axis=2), last)

        reached = tf.where(whole, draws * mass < sums[..., -1], cut <= sums[..., -1])
        sure = (temperature == 0) | (top_k <= listed) | (every & reached)
        return tf.where(temperature > 0, ranks, 0), sure


def uniform(seeds: tf.Tensor, width: int | tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """Random numbers, each a function of its row's seed, its hypothesis and its position alone.

    Each hypothesis has a generator splitmix64 of its own (Steele et al. 2014, figure 16), whose
    start is mixed from the seed and the hypothesis, and whose output number `position` this is.

    Args:
        seeds: int64 (batch,).
        width: hypotheses.
        position: int32 scalar.

    Returns:
        float32 (batch, width), from 0 to below 1, multiples of 2 ** -24.
    """
    steps = tf.cast(tf.range(1, width + 1), tf.int64) * GOLDEN
    rows = _mixed(tf.cast(seeds, tf.int64)[:, tf.newaxis])
    bits = _mixed(_mixed(rows + steps) + tf.cast(position + 1, tf.int64) * GOLDEN)
    return tf.cast(_shifted(bits, 40), tf.float32) * 2.0**-24


def _mixed(x: tf.Tensor) -> tf.Tensor:
    """A permutation of the int64 numbers that looks random."""
    for bits, factor in MIX:
        x = tf.bitwise.bitwise_xor(x, _shifted(x, bits)) * factor
    return tf.bitwise.bitwise_xor(x, _shifted(x, 31))


def _shifted(x: tf.Tensor, bits: int) -> tf.Tensor:
    """int64 shifted right, filled with zeros."""
    shifted = tf.bitwise.right_shift(x, tf.constant(bits, tf.int64))
    return tf.bitwise.bitwise_and(shifted, tf.constant(2 ** (64 - bits) - 1, tf.int64))


def _by_row(option: float | tf.Tensor, dtype: tf.DType) -> tf.Tensor:
    """An option, scalar or (batch,), as (1, 1) or (batch, 1)."""
    return tf.reshape(tf.cast(option, dtype), [-1, 1])


class _Samples(NamedTuple):
    newest: tf.Tensor  # int32 (batch, width)
    ancestors: tf.Tensor  # int32 (batch, width, capacity)
    tokens: tf.Tensor  # int32 (batch, width, capacity)
    lengths: tf.Tensor  # int32 (batch, width)
    log_probs: tf.Tensor  # float32 (batch, width)
    finished: tf.Tensor  # bool (batch, width)


@dataclasses.dataclass(frozen=True, eq=False)
class Sampling:
    """Hypotheses that know nothing of each other.

    The score of an answer is its log-probability over the length penalty of `BeamSearch`, whose
    `repetition_penalty` this has, too.
    """

    sampler: Sampler
    hypotheses: int | tf.Tensor = 1  # a row, from 1
    length_penalty: float | tf.Tensor = 0.0  # alpha, from 0
    repetition_penalty: float | tf.Tensor = 1.0  # from 1, which is none

    @property
    def width(self) -> int | tf.Tensor:
        """Hypotheses a row."""
        return self.hypotheses

    def __post_init__(self) -> None:
        _check("hypotheses", self.hypotheses, "1 or more", at_least=1)
        _check("length_penalty", self.length_penalty, "0 or more", at_least=0)
        _check("repetition_penalty", self.repetition_penalty, "1 (none) or more", at_least=1)

    def initialize(self, request: Request) -> _Samples:
        shape = [tf.shape(request.limits)[0], self.hypotheses]
        return _Samples(
            newest=tf.fill(shape, request.start),
            ancestors=_own_slots(shape, request.capacity),
            tokens=tf.zeros([*shape, request.capacity], tf.int32),
            lengths=tf.zeros(shape, tf.int32),
            log_probs=tf.zeros(shape),
            finished=tf.zeros(shape, tf.bool),
        )

    def unfinished(self, state: _Samples) -> tf.Tensor:
        return tf.logical_not(tf.reduce_all(state.finished))

    def step(
        self,
        state: _Samples,
        position: tf.Tensor,
        logits: tf.Tensor,
        attention: tf.Tensor | None,
        request: Request,
    ) -> _Samples:
        logits = _repeated_less(logits, state.tokens, position, self.repetition_penalty)
        tokens, best = self.sampler.sample(logits, position)
        forced = request.forced[:, position, tf.newaxis]
        tokens = tf.where(forced >= 0, forced, tokens)
        peak, picked = (tf.gather(logits, each, batch_dims=2) for each in (best, tokens))
        top = tf.gather(tf.nn.softmax(logits), best, batch_dims=2)
        log_probs = _log_probs(picked, peak, top)
        finished = tf.logical_or(state.finished, tokens == request.end)
        return _Samples(
            newest=tokens,
            ancestors=state.ancestors,
            tokens=_written(state.tokens, tf.where(finished, 0, tokens), position),
            lengths=state.lengths + tf.cast(tf.logical_not(finished), tf.int32),
            log_probs=state.log_probs + tf.where(state.finished, 0.0, log_probs),
            finished=finished,
        )

    def finalize(self, state: _Samples) -> Decoded:
        scores = _by_length(state.log_probs, state.lengths + 1, self.length_penalty)
        scores, best = tf.math.top_k(scores, self.hypotheses)
        tokens, lengths, log_probs = (
            tf.gather(values, best, batch_dims=1)
            for values in (state.tokens, state.lengths, state.log_probs)
        )
        return Decoded(tokens, lengths, scores, log_probs)


class _Beams(NamedTuple):
    newest: tf.Tensor  # int32 (batch, width)
    ancestors: tf.Tensor  # int32 (batch, width, capacity)
    tokens: tf.Tensor  # int32 (batch, width, capacity)
    log_probs: tf.Tensor  # float32 (batch, width), descending; -inf for none
    coverage: Any  # float32 (batch, width, sources), or () if nobody asks for it
    finished: Decoded


@dataclasses.dataclass(frozen=True, eq=False)
class BeamSearch:
    """The best answers of a beam search (Wu et al. 2016, section 7).

    Each step considers the `2 width` most probable extensions of the hypotheses that are alive. The
    ones that end are finished; the `width` best others live on. The score of a finished one
    (equation 14) is `log_prob / lp + cp`, with the penalties of length and coverage

        lp = ((5 + tokens) / 6) ** length_penalty, the end counted
        cp = coverage_penalty * sum over the source of log(min(attention of all steps, 1))

    `repetition_penalty` makes tokens less probable that a hypothesis already has, those of a forced
    prefix included (Keskar et al. 2019, section 4.1): it divides positive logits and multiplies
    negative ones.

    A row is done, and changes no more, once no hypothesis alive could still get a better score than
    the worst of `n_best` finished ones.

    Of equally probable extensions the best hypothesis' comes first, then the lowest token; of
    answers with equal scores, the one that finished first.
    """

    width: int | tf.Tensor = 5  # hypotheses, from 1
    n_best: int | tf.Tensor = 1  # answers, at most `width`
    length_penalty: float | tf.Tensor = 0.0  # alpha, from 0
    coverage_penalty: float | tf.Tensor = 0.0  # beta, from 0
    repetition_penalty: float | tf.Tensor = 1.0  # from 1, which is none

    def __post_init__(self) -> None:
        _check("width", self.width, "1 or more", at_least=1)
        _check("n_best", self.n_best, "1 or more", at_least=1)
        if isinstance(self.width, int) and isinstance(self.n_best, int):
            _check("n_best", self.n_best, f"at most width, {self.width}", at_most=self.width)
        _check("length_penalty", self.length_penalty, "0 or more", at_least=0)
        _check("coverage_penalty", self.coverage_penalty, "0 or more", at_least=0)
        _check("repetition_penalty", self.repetition_penalty, "1 (none) or more", at_least=1)

    def initialize(self, request: Request) -> _Beams:
        batch = tf.shape(request.limits)[0]
        shape, answers = [batch, self.width], [batch, self.n_best]
        only_first = tf.where(tf.range(self.width) == 0, 0.0, -math.inf)
        return _Beams(
            newest=tf.fill(shape, request.start),
            ancestors=_own_slots(shape, request.capacity),
            tokens=tf.zeros([*shape, request.capacity], tf.int32),
            log_probs=tf.broadcast_to(only_first, shape),
            coverage=self._no_coverage(shape, request.source_mask),
            finished=Decoded(
                tokens=tf.zeros([*answers, request.capacity], tf.int32),
                lengths=tf.zeros(answers, tf.int32),
                scores=tf.fill(answers, -math.inf),
                log_probs=tf.fill(answers, -math.inf),
            ),
        )

    def unfinished(self, state: _Beams) -> tf.Tensor:
        return tf.reduce_any(state.log_probs > -math.inf)

    def step(
        self,
        state: _Beams,
        position: tf.Tensor,
        logits: tf.Tensor,
        attention: tf.Tensor | None,
        request: Request,
    ) -> _Beams:
        logits = _repeated_less(logits, state.tokens, position, self.repetition_penalty)
        coverage = self._covered(state.coverage, attention)
        totals, parents, tokens = _extensions(
            logits, state.log_probs, request.forced[:, position], 2 * self.width
        )
        ends = tokens == request.end

        finished = self._finished(
            state._replace(coverage=coverage),
            tf.where(ends, totals, -math.inf),
            parents,
            position,
            request.source_mask,
        )
        log_probs, best = tf.math.top_k(tf.where(ends, -math.inf, totals), self.width)
        # Log-probabilities and coverage only take away; the greatest length takes least.
        bound = _by_length(log_probs[:, 0], request.limits, self.length_penalty)
        done = bound <= finished.scores[:, -1]
        tokens = tf.gather(tokens, best, batch_dims=1)
        parents = tf.gather(parents, best, batch_dims=1)
        past = tf.range(request.capacity) <= position
        ancestors = tf.gather(state.ancestors, parents, batch_dims=1)
        own = tf.range(self.width)[:, tf.newaxis]
        return _Beams(
            newest=tokens,
            ancestors=tf.where(past, ancestors, own),
            tokens=_written(tf.gather(state.tokens, parents, batch_dims=1), tokens, position),
            log_probs=tf.where(done[:, tf.newaxis], -math.inf, log_probs),
            coverage=tf.nest.map_structure(
                lambda values: tf.gather(values, parents, batch_dims=1), coverage
            ),
            finished=finished,
        )

    def finalize(self, state: _Beams) -> Decoded:
        return state.finished

    def _finished(
        self,
        state: _Beams,
        log_probs: tf.Tensor,
        parents: tf.Tensor,
        position: tf.Tensor,
        source_mask: tf.Tensor | None,
    ) -> Decoded:
        """The best of the answers there are, and of those that end now.

        Args:
            log_probs: float32 (batch, extensions), of extensions that end; -inf for others.
            parents: int32 (batch, extensions), their hypotheses.
        """
        old = state.finished
        scores = _by_length(log_probs, position + 1, self.length_penalty)
        if source_mask is not None and tf.is_tensor(state.coverage):
            scores += tf.gather(
                self._coverage_score(state.coverage, source_mask), parents, batch_dims=1
            )
        scores, best = tf.math.top_k(tf.concat([old.scores, scores], axis=1), self.n_best)
        kept = tf.broadcast_to(tf.range(self.n_best), tf.shape(old.lengths))
        origins = tf.gather(tf.concat([kept, self.n_best + parents], 1), best, batch_dims=1)
        lengths = tf.concat([old.lengths, tf.fill(tf.shape(parents), position)], axis=1)
        return Decoded(
            tokens=tf.gather(tf.concat([old.tokens, state.tokens], 1), origins, batch_dims=1),
            lengths=tf.gather(lengths, best, batch_dims=1),
            scores=scores,
            log_probs=tf.gather(tf.concat([old.log_probs, log_probs], 1), best, batch_dims=1),
        )

    def _no_coverage(self, shape: list, source_mask: tf.Tensor | None) -> Any:
        if _is(self.coverage_penalty, 0):
            return ()
        if source_mask is None:
            raise ValueError("a coverage penalty needs the source_mask: give it to decode")
        return tf.zeros([*shape, tf.shape(source_mask)[1]])

    def _covered(self, coverage: Any, attention: tf.Tensor | None) -> Any:
        if not tf.is_tensor(coverage):
            return ()
        if attention is None:
            raise ValueError("a coverage penalty needs attention, which this step does not return")
        return coverage + attention

    def _coverage_score(self, coverage: tf.Tensor, source_mask: tf.Tensor) -> tf.Tensor:
        covered = tf.math.log(tf.clip_by_value(coverage, SMALLEST_COVERAGE, 1.0))
        real = tf.cast(source_mask, tf.float32)[:, tf.newaxis]
        return self.coverage_penalty * tf.reduce_sum(covered * real, axis=-1)


def _own_slots(shape: list, capacity: int | tf.Tensor) -> tf.Tensor:
    """Ancestors, int32 (batch, width, capacity), of hypotheses that stay where they are."""
    return tf.broadcast_to(tf.range(shape[1])[:, tf.newaxis], [*shape, capacity])


def _written(tokens: tf.Tensor, newest: tf.Tensor, position: tf.Tensor) -> tf.Tensor:
    """(batch, width, capacity) `tokens` with `newest`, (batch, width), at `position`."""
    return tf.where(tf.range(tf.shape(tokens)[2]) == position, newest[..., tf.newaxis], tokens)


def _by_length(log_probs: tf.Tensor, tokens: tf.Tensor, alpha: float | tf.Tensor) -> tf.Tensor:
    """Log-probabilities over lp of Wu et al. (2016), equation 14, of lengths that count the end."""
    if _is(alpha, 0):
        return log_probs
    penalty = ((5.0 + tf.cast(tokens, tf.float32)) / 6.0) ** alpha
    return tf.where(log_probs > -math.inf, log_probs / penalty, -math.inf)


def _extensions(
    logits: tf.Tensor, log_probs: tf.Tensor, forced: tf.Tensor, count: int | tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """The most probable hypotheses with one more token, or those with the forced token.

    The vocabulary is cut in blocks, and the largest logit of each is looked at first: the `count`
    best tokens of all are in the `count` blocks whose largest are best. That is one quick pass
    over the logits, where `top_k` of all of them takes ten times as long.

    Args:
        logits: float32 (batch, width, vocabulary).
        log_probs: float32 (batch, width), of the hypotheses.
        forced: int32 (batch,), the token, -1 if it is free.
        count: how many, from width to width x vocabulary.

    Returns:
        Log-probabilities, float32, the hypotheses that are extended and the tokens, int32, each
        (batch, count); -inf for nothing. Of equal ones the first hypothesis' first token is first.
    """
    batch, width = tf.shape(log_probs)[0], tf.shape(log_probs)[1]
    size = _block_size(logits.shape[2])
    padded = _padded(logits, size)
    in_each = tf.shape(padded)[2] // size
    blocks = tf.reshape(padded, [batch, width * in_each, size])
    largest = tf.reshape(tf.reduce_max(blocks, axis=2), [batch, width, in_each])
    peaks = tf.reduce_max(largest, axis=2)
    # One softmax op is faster than the sum of exponentials, and its largest value tells as much.
    likely = tf.reshape(tf.nn.softmax(padded), [batch, width * in_each, size])
    best = tf.range(width) * in_each + tf.argmax(largest, axis=2, output_type=tf.int32)
    tops = tf.reduce_max(tf.gather(likely, best, batch_dims=1), axis=2)

    def totals(values: tf.Tensor, hypotheses: tf.Tensor | None = None) -> tf.Tensor:
        """Log-probabilities of hypotheses, (batch, n), with tokens by logits (batch, n, m)."""
        each = tf.stack([log_probs, peaks, tops], axis=2)
        if hypotheses is not None:
            each = tf.gather(each, hypotheses, batch_dims=1)
        before, peak, top = tf.unstack(each[:, :, tf.newaxis], axis=3)
        return before + _log_probs(values, peak, top)

    by_block = tf.reshape(totals(largest), [batch, width * in_each])
    _, chosen = tf.math.top_k(by_block, tf.minimum(count, width * in_each))
    # In their first order, so that equal tokens are in theirs.
    chosen = tf.sort(chosen, axis=1)
    found = totals(tf.gather(blocks, chosen, batch_dims=1), chosen // in_each)
    found, index = tf.math.top_k(tf.reshape(found, [batch, tf.shape(chosen)[1] * size]), count)
    chosen = tf.gather(chosen, index // size, batch_dims=1)
    hypotheses = chosen // in_each
    # What pads the last block has no probability, but may fill the list.
    tokens = tf.minimum(chosen % in_each * size + index % size, tf.shape(logits)[2] - 1)

    forced = forced[:, tf.newaxis]
    values = tf.gather(logits, tf.broadcast_to(tf.maximum(forced, 0), [batch, width]), batch_dims=2)
    only = totals(values[..., tf.newaxis])[..., 0]
    only = tf.pad(only, [[0, 0], [0, count - width]], constant_values=-math.inf)
    return (
        tf.where(forced >= 0, only, found),
        tf.where(forced >= 0, tf.range(count) % width, hypotheses),
        tf.where(forced >= 0, forced, tokens),
    )


def _block_size(vocabulary: int | None) -> int:
    """How many tokens are a block, so that few blocks and few tokens in some of them are searched:
    one that divides the vocabulary, if there is a good one, since padding it takes a pass."""
    if vocabulary is None:
        return 64
    ideal = math.sqrt(vocabulary / 2)
    divisors = [size for size in range(1, vocabulary + 1) if vocabulary % size == 0]
    best = min(divisors, key=lambda size: abs(math.log(size / ideal)))
    return best if ideal / 6 <= best <= ideal * 6 else round(ideal)


def _padded(logits: tf.Tensor, size: int) -> tf.Tensor:
    """Logits, (batch, width, vocabulary), of a vocabulary in whole blocks."""
    vocabulary = logits.shape[2]
    if vocabulary is not None and vocabulary % size == 0:
        return logits
    missing = -tf.shape(logits)[2] % size
    return tf.pad(logits, [[0, 0], [0, 0], [0, missing]], constant_values=-math.inf)


def _log_probs(values: tf.Tensor, peak: tf.Tensor, top: tf.Tensor) -> tf.Tensor:
    """Log-probabilities of tokens by their logits and by what is known of the most probable one.

    Args:
        values: float32, logits of tokens; -inf is allowed.
        peak: the largest logit of all.
        top: its probability.
    """
    return tf.where(values > -math.inf, values - peak + tf.math.log(top), -math.inf)


def _repeated_less(
    logits: tf.Tensor, tokens: tf.Tensor, position: tf.Tensor, penalty: float | tf.Tensor
) -> tf.Tensor:
    """Logits with the penalty of Keskar et al. (2019), section 4.1.

    Args:
        logits: float32 (batch, width, vocabulary).
        tokens: int32 (batch, width, capacity), what each hypothesis has produced.
        position: int32 scalar, how many that are.
        penalty: that positive logits are divided by and negative ones multiplied with.
    """
    if _is(penalty, 1):
        return logits
    # Positions still to come repeat the first token, so that all writes to a logit agree; before
    # there is one, the penalty is none.
    past = tf.range(tf.shape(tokens)[2]) < position
    tokens = tf.where(past, tokens, tokens[..., :1])
    penalty = tf.where(position > 0, tf.cast(penalty, tf.float32), 1.0)
    values = tf.gather(logits, tokens, batch_dims=2)
    values = tf.where(values > 0, values / penalty, values * penalty)
    shape = tf.shape(logits)
    rows = tf.reshape(tf.range(shape[0] * shape[1]), [shape[0], shape[1], 1])
    places = tf.stack([tf.broadcast_to(rows, tf.shape(tokens)), tokens], axis=-1)
    flat = tf.reshape(logits, [shape[0] * shape[1], shape[2]])
    return tf.reshape(tf.tensor_scatter_nd_update(flat, places, values), shape)


def _is(value: float | tf.Tensor, number: float) -> bool:
    """Whether an option is this Python number; a tensor never is."""
    return isinstance(value, int | float) and value == number


def _check(
    name: str,
    value: Any,
    allowed: str,
    at_least: float = -math.inf,
    above: float = -math.inf,
    at_most: float = math.inf,
) -> None:
    """Complain about a Python number out of range; a tensor's value is not known yet."""
    if not isinstance(value, int | float):
        return
    if not (at_least <= value <= at_most and above < value < math.inf):
        raise ValueError(f"{name} is {value}: it must be {allowed}")
