"""Decoding: like plain Python that feeds every hypothesis anew, whatever is asked for."""

import functools
import itertools
import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from zoo.layers import decoding
from zoo.layers.decoding import BeamSearch, Decoded, Greedy, RandomSampling, Sampling, decode

START, END, DIM, SOURCES = 1, 2, 4, 3
VOCABULARIES = [3, 7, 12, 101, None]  # one block; several; one that has to be padded; unknown


class Toy:
    """A random causal model: a hidden state of all tokens and their positions, and a source.

    `step` keeps what it knows of a token in the slot that it is told, and reads it by `ancestors`.
    """

    def __init__(self, vocabulary: int, seed: int = 0):
        random = np.random.RandomState(seed)

        def weights(*shape: int, scale: float) -> np.ndarray:
            return (scale * random.randn(*shape)).astype("float32")

        self.embeddings = weights(vocabulary, DIM, scale=1)
        self.places = weights(40, DIM, scale=1)
        self.sources = weights(DIM, SOURCES, scale=0.7)
        self.outputs = weights(DIM, vocabulary, scale=1.5)

    def weights(self) -> list[np.ndarray]:
        return [self.embeddings, self.places, self.sources, self.outputs]

    def after(self, tokens: tuple[int, ...], source: np.ndarray, real: np.ndarray):
        """Logits and attention after the start and some tokens, each (n,)."""
        fed = [START, *tokens]
        known = [np.tanh(self.embeddings[t] * self.places[p]) for p, t in enumerate(fed)]
        hidden = source + np.sum([k * self.places[p] for p, k in enumerate(known)], axis=0)
        attention = np.where(real, np.exp(hidden @ self.sources), 0)
        return hidden @ self.outputs, attention / attention.sum()


def toy_step(weights, source, real):
    embeddings, places, sources, outputs = weights

    def step(tokens, position, caches, ancestors):
        cache, count = caches
        known = tf.tanh(tf.gather(embeddings, tokens) * places[position])
        batch, capacity = tf.shape(cache)[0], tf.shape(cache)[2]
        here = (tf.range(capacity) == position)[:, tf.newaxis]
        cache = tf.where(here, known[:, :, tf.newaxis], cache)
        rows = tf.reshape(tf.range(batch), [-1, 1, 1]) + tf.zeros_like(ancestors)
        steps = tf.range(capacity) + tf.zeros_like(ancestors)
        history = tf.gather_nd(cache, tf.stack([rows, ancestors, steps], axis=-1))
        past = tf.cast(tf.range(capacity) <= position, tf.float32)[:, tf.newaxis]
        weighted = tf.where(past > 0, history * places[:capacity], 0.0)
        hidden = source[:, tf.newaxis] + tf.reduce_sum(weighted, axis=2)
        attention = tf.exp(tf.einsum("bwd,ds->bws", hidden, sources))
        attention *= tf.cast(real, tf.float32)[:, tf.newaxis]
        attention /= tf.reduce_sum(attention, axis=2, keepdims=True)
        logits = tf.einsum("bwd,dv->bwv", hidden, outputs)
        return logits, (cache, count + 1), attention

    return step


def cache(batch, width, capacity):
    """Slots that spoil the answer if they are read before they are written, and a counter."""
    return tf.fill([batch, width, capacity, DIM], math.nan), tf.constant(0)


def signature(vocabulary):
    def spec(*shape, dtype=tf.float32):
        return tf.TensorSpec(shape, dtype)

    weights = [spec(vocabulary, DIM), spec(40, DIM), spec(DIM, SOURCES), spec(DIM, vocabulary)]
    return [
        weights,
        spec(None, DIM),
        spec(None, SOURCES, dtype=tf.bool),
        spec(None, dtype=tf.int32),
        spec(None, None, dtype=tf.int32),
        spec(dtype=tf.int32),
    ]


@functools.cache
def beam_search(vocabulary):
    """A beam search of the toy model, traced once for all cases."""
    options = [tf.TensorSpec([], tf.int32)] * 2 + [tf.TensorSpec([], tf.float32)] * 3

    @tf.function(input_signature=signature(vocabulary) + options)
    def run(weights, source, real, limits, prefix, capacity, width, n_best, alpha, beta, penalty):
        return decode(
            toy_step(weights, source, real),
            cache(tf.shape(source)[0], width, capacity),
            limits,
            BeamSearch(width, n_best, alpha, beta, penalty),
            start=START,
            end=END,
            prefix=prefix,
            source_mask=real,
            capacity=capacity,
        )

    return run


@functools.cache
def sampling(vocabulary):
    """Random samples of the toy model, traced once for all cases."""
    options = [
        tf.TensorSpec([], tf.int32),
        tf.TensorSpec([None], tf.int64),
        tf.TensorSpec([None], tf.float32),
        tf.TensorSpec([None], tf.int32),
        tf.TensorSpec([None], tf.float32),
        tf.TensorSpec([], tf.float32),
        tf.TensorSpec([], tf.float32),
    ]

    @tf.function(input_signature=signature(vocabulary) + options)
    def run(weights, source, real, limits, prefix, capacity, width, *sampler_and_penalties):
        *sampler, alpha, penalty = sampler_and_penalties
        return decode(
            toy_step(weights, source, real),
            cache(tf.shape(source)[0], width, capacity),
            limits,
            Sampling(RandomSampling(*sampler), width, alpha, penalty),
            start=START,
            end=END,
            prefix=prefix,
            capacity=capacity,
        )

    return run


@dataclass(frozen=True)
class Case:
    """Rows to decode, and how."""

    toy: Toy
    vocabulary: int | None  # as far as the graph knows
    source: np.ndarray
    real: np.ndarray
    limits: np.ndarray
    prefix: np.ndarray
    width: int = 1
    n_best: int = 1
    alpha: float = 0.0
    beta: float = 0.0
    penalty: float = 1.0
    seeds: np.ndarray | None = None
    temperature: np.ndarray | None = None
    top_k: np.ndarray | None = None
    top_p: np.ndarray | None = None
    spare: int = 0  # capacity beyond the largest limit

    def rows(self, chosen) -> "Case":
        """The case of some of the rows."""
        names = "source real limits prefix seeds temperature top_k top_p".split()
        values = {name: getattr(self, name) for name in names}
        return replace(self, **{n: v[chosen] for n, v in values.items() if v is not None})

    def answers(self) -> Decoded:
        capacity = max(self.limits) + self.spare
        inputs = (self.toy.weights(), self.source, self.real, self.limits, self.prefix, capacity)
        if self.seeds is None:
            run = beam_search(self.vocabulary)
            answers = run(*inputs, self.width, self.n_best, self.alpha, self.beta, self.penalty)
        else:
            sampler = (self.seeds, self.temperature, self.top_k, self.top_p)
            run = sampling(self.vocabulary)
            answers = run(*inputs, self.width, *sampler, self.alpha, self.penalty)
        return Decoded(*(values.numpy() for values in answers))

    def log_probs(self, row: int, tokens: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
        """Log-probabilities and attention after some tokens."""
        logits, attention = self.toy.after(tokens, self.source[row], self.real[row])
        seen = np.isin(np.arange(len(logits)), tokens)
        penalised = np.where(logits > 0, logits / self.penalty, logits * self.penalty)
        logits = np.where(seen, penalised, logits).astype("float64")
        return logits - np.log(np.sum(np.exp(logits))), attention

    def forced(self, row: int, position: int) -> int | None:
        if position == self.limits[row] - 1:
            return END
        if position < len(self.prefix[row]) and self.prefix[row][position] >= 0:
            return self.prefix[row][position]
        return None

    def score(self, row: int, log_prob: float, tokens: tuple[int, ...], covered) -> float:
        lp = ((5 + len(tokens) + 1) / 6) ** self.alpha
        cp = np.log(np.clip(covered, 1e-9, 1))[self.real[row]].sum()
        return log_prob / lp + self.beta * cp


def random_case(seed: int, vocabulary: int | None) -> Case:
    """A case of beam search whose every option is random."""
    random = np.random.RandomState(seed)
    batch, size = random.randint(1, 4), vocabulary or random.randint(3, 13)
    limits = random.randint(1, 7, batch)
    lengths = random.randint(0, 4, [batch, 1]) * random.randint(0, 2)
    prefix = np.where(np.arange(3) < lengths, random.randint(3, max(size, 4), [batch, 3]), -1)
    real = np.arange(SOURCES) < random.randint(1, SOURCES + 1, [batch, 1])
    width = random.randint(1, 6)
    return Case(
        Toy(size, seed),
        vocabulary,
        random.randn(batch, DIM).astype("float32"),
        real,
        limits.astype("int32"),
        np.minimum(prefix, size - 1).astype("int32"),
        width=width,
        n_best=random.randint(1, width + 1),
        alpha=random.choice([0, 0.6, 1.5]),
        beta=random.choice([0, 0.2, 1]),
        penalty=random.choice([1, 1.3, 3]),
        spare=random.randint(0, 2),
    )


def random_samples(seed: int, vocabulary: int | None) -> Case:
    """A case of random sampling whose every option is random."""
    random = np.random.RandomState(seed)
    case = random_case(seed, vocabulary)
    batch = len(case.limits)
    return replace(
        case,
        n_best=case.width,
        beta=0,
        seeds=random.randint(-(2**63), 2**63, batch, dtype="int64"),
        temperature=random.choice([0, 0.5, 1, 2], batch).astype("float32"),
        top_k=random.randint(0, 5, batch).astype("int32"),
        top_p=random.choice([0.3, 0.8, 1], batch).astype("float32"),
    )


def plain_beam_search(case: Case, row: int) -> list[tuple[float, float, tuple[int, ...]]]:
    """The best (score, log-probability, tokens), without caches and without stopping early."""
    alive, finished = [(0.0, (), 0.0)], []
    for position in range(case.limits[row]):
        extensions = []
        for hypothesis, (before, tokens, covered) in enumerate(alive):
            log_probs, attention = case.log_probs(row, tokens)
            forced = case.forced(row, position)
            for token in range(len(log_probs)) if forced is None else [forced]:
                total = before + log_probs[token]
                extensions.append((-total, hypothesis, token, tokens, covered + attention))
        alive_now = []
        for total, _, token, tokens, covered in sorted(extensions, key=lambda e: e[:3])[
            : 2 * case.width
        ]:
            if token == END:
                finished.append((case.score(row, -total, tokens, covered), -total, tokens))
            else:
                alive_now.append((-total, (*tokens, token), covered))
        alive = alive_now[: case.width]
    return sorted(finished, key=lambda f: -f[0])[: case.n_best]


def splitmix(x: int) -> int:
    """The output function of splitmix64."""
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % 2**64
    return x ^ (x >> 31)


def plain_uniform(seed: int, hypothesis: int, position: int) -> float:
    golden = 0x9E3779B97F4A7C15
    own = splitmix((splitmix(int(seed) % 2**64) + (hypothesis + 1) * golden) % 2**64)
    return (splitmix((own + (position + 1) * golden) % 2**64) >> 40) / 2**24


def plain_sampling(case: Case, row: int) -> list[tuple[float, float, tuple[int, ...]]]:
    answers = []
    for hypothesis in range(case.width):
        tokens, total = (), 0.0
        for position in itertools.count():
            log_probs, _ = case.log_probs(row, tokens)
            token = case.forced(row, position)
            if token is None:
                draw = plain_uniform(case.seeds[row], hypothesis, position)
                options = case.temperature[row], case.top_k[row], case.top_p[row]
                token = plain_draw(log_probs, *options, draw)
            total += log_probs[token]
            if token == END:
                break
            tokens = (*tokens, token)
        answers.append((total / ((5 + len(tokens) + 1) / 6) ** case.alpha, total, tokens))
    return sorted(answers, key=lambda a: -a[0])


def plain_draw(log_probs, temperature, top_k, top_p, draw) -> int:
    tokens = sorted(range(len(log_probs)), key=lambda t: (-log_probs[t], t))
    if temperature == 0:
        return tokens[0]
    tokens = tokens[: top_k or None]
    weights = np.exp(log_probs[tokens] / temperature)
    weights /= weights.sum()
    kept = np.cumsum(weights) - weights < top_p
    weights = weights * kept / (weights * kept).sum()
    return tokens[np.sum(np.cumsum(weights) <= draw)]


def assert_same(case: Case, plain) -> None:
    answers = case.answers()
    for row in range(len(case.limits)):
        expected = plain(case, row)
        # Fewer are possible where an answer is short.
        assert np.all(answers.scores[row][len(expected) :] == -np.inf)
        assert np.all(answers.log_probs[row][len(expected) :] == -np.inf)
        expected += [(-np.inf, -np.inf, ())] * (case.n_best - len(expected))
        for n, (score, log_prob, tokens) in enumerate(expected):
            padding = [0] * (answers.tokens.shape[2] - len(tokens))
            assert answers.tokens[row, n].tolist() == [*tokens, *padding]
            assert answers.lengths[row, n] == len(tokens)
            np.testing.assert_allclose(answers.scores[row, n], score, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(answers.log_probs[row, n], log_prob, rtol=1e-4, atol=1e-4)


seeds = st.integers(0, 2**32 - 1)
vocabularies = st.sampled_from(VOCABULARIES)
many = settings(max_examples=75, deadline=None, derandomize=True, database=None)
some = settings(max_examples=25, deadline=None, derandomize=True, database=None)


@many
@given(seeds, vocabularies)
def test_beam_search_finds_what_plain_python_finds(seed, vocabulary):
    assert_same(random_case(seed, vocabulary), plain_beam_search)


@many
@given(seeds, vocabularies)
def test_random_samples_are_those_that_plain_python_draws(seed, vocabulary):
    assert_same(random_samples(seed, vocabulary), plain_sampling)


@pytest.mark.parametrize("seed", range(6))
def test_options_may_be_python_numbers(seed):
    case = random_case(seed, 12)
    case = replace(case, alpha=[0, 1][seed % 2], beta=[0, 0.5][seed // 3], penalty=1 + seed % 3)

    class Plainly(Case):
        def answers(self):
            capacity = max(self.limits)
            answers = decode(
                toy_step(self.toy.weights(), self.source, self.real),
                cache(len(self.limits), self.width, capacity),
                self.limits,
                BeamSearch(self.width, self.n_best, self.alpha, self.beta, self.penalty),
                start=START,
                end=END,
                prefix=self.prefix,
                source_mask=self.real,
            )
            return Decoded(*(values.numpy() for values in answers))

    assert_same(Plainly(**vars(case)), plain_beam_search)


@pytest.mark.parametrize("random_one", [random_case, random_samples])
@some
@given(seed=seeds)
def test_an_answer_depends_on_its_own_row_only(random_one, seed):
    case = random_one(seed, None)
    random = np.random.RandomState(seed)
    whole = case.answers()
    order = random.permutation(len(case.limits))
    for chosen in (order, order[:1]):
        rows = replace(case.rows(chosen), spare=random.randint(0, 9)).answers()
        shared = min(rows.tokens.shape[2], whole.tokens.shape[2])
        for name in ("lengths", "scores", "log_probs"):
            np.testing.assert_allclose(
                getattr(rows, name), getattr(whole, name)[chosen], rtol=1e-5, atol=1e-5
            )
        np.testing.assert_array_equal(rows.tokens[..., :shared], whole.tokens[chosen][..., :shared])
        assert not rows.tokens[..., shared:].any()


@some
@given(seeds, vocabularies)
def test_the_n_best_are_sorted_and_distinct(seed, vocabulary):
    case = random_case(seed, vocabulary)
    answers = case.answers()
    assert np.all(answers.scores[:, :-1] >= answers.scores[:, 1:])
    for row in range(len(case.limits)):
        found = [
            tuple(tokens[:length])
            for tokens, length in zip(answers.tokens[row], answers.lengths[row], strict=True)
        ]
        found = found[: np.sum(answers.scores[row] > -np.inf)]
        assert len(set(found)) == len(found)


@some
@given(seeds)
def test_a_beam_as_wide_as_all_sequences_finds_the_best_of_them(seed):
    case = replace(random_case(seed, None), toy=Toy(4, seed), width=27, n_best=12, penalty=1.2)
    case = replace(case, limits=np.minimum(case.limits, 4), prefix=case.prefix[:, :0])

    def brute_force(case, row):
        answers = []
        for length in range(case.limits[row]):
            for tokens in itertools.product([0, 1, 3], repeat=length):
                total, covered = 0.0, 0.0
                for position, token in enumerate([*tokens, END]):
                    log_probs, attention = case.log_probs(row, tokens[:position])
                    total += log_probs[token]
                    covered = covered + attention
                answers.append((case.score(row, total, tokens, covered), total, tokens))
        return sorted(answers, key=lambda a: -a[0])[: case.n_best]

    assert_same(case, brute_force)


@some
@given(seeds, vocabularies)
def test_a_beam_of_one_is_greedy_or_better(seed, vocabulary):
    """Better where it goes on although the end is the runner-up, and comes to regret it."""
    case = replace(random_case(seed, vocabulary), width=1, n_best=1, alpha=0, beta=0)
    answers, greedy = case.answers(), greedy_answers(case)
    assert np.all(answers.scores >= greedy.scores - 1e-5)
    for row, tokens in enumerate(greedy.tokens[:, 0]):
        steps = range(greedy.lengths[row, 0])
        if all(END not in best_two(case, row, tuple(tokens[:step])) for step in steps):
            assert answers.tokens[row, 0].tolist() == tokens.tolist()


def best_two(case, row, tokens):
    return np.argsort(-case.log_probs(row, tokens)[0])[:2]


def greedy_answers(case: Case) -> Decoded:
    """By sampling at temperature 0."""
    batch = len(case.limits)
    return replace(
        case,
        seeds=np.arange(batch),
        temperature=np.zeros(batch, "float32"),
        top_k=np.zeros(batch, "int32"),
        top_p=np.ones(batch, "float32"),
    ).answers()


@pytest.mark.parametrize("seed", range(4))
def test_temperature_zero_is_greedy(seed):
    case = random_case(seed, 12)
    case = replace(case, width=1, penalty=1 + seed % 2)
    greedy = decode(
        toy_step(case.toy.weights(), case.source, case.real),
        cache(len(case.limits), 1, max(case.limits) + case.spare),
        case.limits,
        Sampling(Greedy(), length_penalty=case.alpha, repetition_penalty=float(case.penalty)),
        start=START,
        end=END,
        prefix=case.prefix,
        capacity=max(case.limits) + case.spare,
    )
    for by_argmax, by_temperature in zip(greedy, greedy_answers(case), strict=True):
        np.testing.assert_allclose(by_argmax, by_temperature, rtol=1e-5)


def fixed(*logits: float):
    """A step that says the same whatever it is fed; `counts` has the steps so far, if eager."""

    def step(tokens, position, caches, ancestors):
        step.count += 1
        shape = [*tokens.shape, len(logits)] if tokens.shape.is_fully_defined() else None
        shape = shape or tf.concat([tf.shape(tokens), [len(logits)]], axis=0)
        return tf.broadcast_to(tf.constant(logits), shape), caches, None

    step.count = 0
    return step


def answers_of(step, limits, strategy, **options) -> list[list[list[int]]]:
    """The tokens of all answers."""
    found = decode(step, (), limits, strategy, start=START, end=END, **options)
    return [
        [tokens[:length] for tokens, length in zip(*row, strict=True)]
        for row in zip(found.tokens.numpy().tolist(), found.lengths.numpy().tolist(), strict=True)
    ]


@pytest.mark.parametrize("vocabulary", [5, 90, 101])
def test_equal_extensions_are_ordered_by_hypothesis_and_token(vocabulary):
    even = fixed(*[0.0] * vocabulary)
    assert answers_of(even, [2], BeamSearch(3, 3)) == [[[], [0], [1]]]
    assert answers_of(even, [2], BeamSearch(3, 3, length_penalty=9)) == [[[0], [1], [3]]]
    assert answers_of(even, [3], BeamSearch(3, 3, length_penalty=9)) == [[[0, 0], [0, 1], [0, 3]]]
    assert answers_of(even, [3], Sampling(Greedy())) == [[[0, 0]]]


def test_a_better_neighbour_is_no_help_to_one_of_equal_tokens():
    logits = np.full(90, -9.0, "float32")
    logits[[85, 86, 10]] = 2, 1, 1
    assert answers_of(fixed(*logits), [2], BeamSearch(2, 2)) == [[[85], [10]]]


def test_the_first_of_equal_tokens_survives_top_k():
    strategy = Sampling(RandomSampling(range(200), top_k=2))
    even = fixed(0.0, 0.0, -9.0, 0.0)
    assert {row[0][0] for row in answers_of(even, [2] * 200, strategy)} == {0, 1}


def test_a_limit_of_one_leaves_only_the_end():
    step = fixed(5.0, 0.0, -5.0)
    assert answers_of(step, [1, 2], BeamSearch(2, 2)) == [[[], []], [[], [0]]]
    assert answers_of(step, [1, 2], Sampling(Greedy()), prefix=[[1], [1]]) == [[[]], [[1]]]
    found = decode(step, (), [1], BeamSearch(2, 2), start=START, end=END)
    assert np.isneginf(found.scores.numpy()).tolist() == [[False, True]]
    assert found.tokens.shape == (1, 2, 1)


def test_capacity_caps_the_limits():
    assert answers_of(fixed(5.0, 0.0, -5.0), [9], Sampling(Greedy()), capacity=3) == [[[0, 0]]]


def test_no_rows_have_no_answers():
    none = tf.zeros([0], tf.int32)
    assert (
        decode(fixed(0.0, 0.0, 0.0), (), none, BeamSearch(2), start=1, end=2).scores.shape[0] == 0
    )


@pytest.mark.parametrize("n_best, steps", [(1, 1), (2, 2), (3, 2), (4, 3)])
def test_beam_search_stops_when_no_hypothesis_can_win(n_best, steps):
    step = fixed(0.0, 0.0, 6.0)  # the end is most probable, so longer answers are worse
    answers_of(step, [30, 20], BeamSearch(4, n_best))
    assert step.count == steps


def test_beam_search_goes_on_while_length_may_pay():
    step = fixed(1.0, 0.0, 0.0)
    answers_of(step, [12], BeamSearch(2, length_penalty=2))
    assert step.count == 12


def test_sampling_stops_when_all_have_ended():
    step = fixed(0.0, 0.0, 6.0)
    answers_of(step, [30, 20], Sampling(Greedy(), hypotheses=2), prefix=[[0, 1], [-1, -1]])
    assert step.count == 3


@pytest.mark.parametrize("strategy", [BeamSearch(3, 3, 1e3), Sampling(Greedy(), 3, 1e3)])
@pytest.mark.parametrize("logits", [[-np.inf] * 4, [-np.inf, 0, -np.inf, -np.inf]])
def test_impossible_tokens_make_no_nan(strategy, logits):
    """Nor is there an answer, if the end is impossible."""
    found = decode(fixed(*logits), (), [3], strategy, start=START, end=END)
    assert np.all(np.isneginf(found.scores)) and np.all(np.isneginf(found.log_probs))


LOGITS = np.log([0.02, 0.08, 0.4, 0.2, 0.3]).astype("float32")


@pytest.mark.parametrize(
    "options, expected",
    [
        ({}, [0.02, 0.08, 0.4, 0.2, 0.3]),
        ({"temperature": 0.5}, [0.0004, 0.0064, 0.16, 0.04, 0.09]),
        ({"top_k": 2}, [0, 0, 0.4, 0, 0.3]),
        ({"top_p": 0.75}, [0, 0, 0.4, 0.2, 0.3]),
        ({"top_p": 0.65}, [0, 0, 0.4, 0, 0.3]),
        ({"temperature": 2.0, "top_k": 4, "top_p": 0.8}, [0, 0, 0.4**0.5, 0.2**0.5, 0.3**0.5]),
        ({"top_k": 3, "top_p": tf.fill([1000], 0.75)}, [0, 0, 0.4, 0, 0.3]),
    ],
)
def test_samples_are_as_frequent_as_they_are_probable(options, expected):
    strategy = Sampling(RandomSampling(tf.range(1000), **options), hypotheses=4)
    rows = answers_of(fixed(*LOGITS), [2] * 1000, strategy)
    drawn = [tokens[0] if tokens else END for row in rows for tokens in row]
    counts, expected = np.bincount(drawn, minlength=5), np.array(expected)
    assert not counts[expected == 0].any()
    possible = expected > 0
    shares = expected[possible] / expected.sum()
    assert stats.chisquare(counts[possible], 4000 * shares).pvalue > 0.01


def test_draws_are_independent_of_each_other():
    """Neighbours in seed, hypothesis and position are no more alike than strangers."""
    draws = np.stack([decoding.uniform(tf.range(60), 30, position) for position in range(30)])
    assert stats.kstest(draws.ravel(), "uniform").pvalue > 0.01
    assert len(np.unique(draws)) > 0.99 * draws.size
    for axis in range(3):
        first, second = (np.take(draws, range(i, i + 29), axis).ravel() for i in (0, 1))
        assert stats.pearsonr(first, second).pvalue > 0.01


def test_scores_of_samples_are_the_models_own():
    strategy = Sampling(RandomSampling([7, 8], temperature=0.3, top_k=2))
    found = decode(fixed(*LOGITS), (), [2, 2], strategy, start=START, end=END)
    for tokens, length, log_prob in zip(found.tokens, found.lengths, found.log_probs, strict=True):
        first = LOGITS[int(tokens[0, 0])] if length[0] else 0
        np.testing.assert_allclose(log_prob[0], first + LOGITS[END], rtol=1e-5)


def test_a_draw_from_the_tail_of_a_large_vocabulary_is_found(monkeypatch):
    """Only some tokens are sorted, unless the draw falls behind them."""
    monkeypatch.setattr(decoding, "HEAD", 2)
    run = sampling.__wrapped__(12)
    for seed in range(40):
        case = random_samples(seed, 12)
        inputs = (case.toy.weights(), case.source, case.real, case.limits, case.prefix)
        sampler = (case.seeds, case.temperature, case.top_k, case.top_p)
        capacity = max(case.limits) + case.spare
        answers = run(*inputs, capacity, case.width, *sampler, case.alpha, case.penalty)
        np.testing.assert_array_equal(answers.tokens, case.answers().tokens)


def test_a_saved_model_decodes_with_the_width_it_is_given(tmp_path):
    module = tf.Module()
    module.decode = beam_search(None)
    tf.saved_model.save(module, tmp_path)
    loaded = tf.saved_model.load(tmp_path).decode
    case = random_case(3, None)
    for width in (1, 4):
        case = replace(case, width=width, n_best=1)
        inputs = (case.toy.weights(), case.source, case.real, case.limits, case.prefix)
        options = (width, 1, case.alpha, case.beta, case.penalty)
        found = loaded(*inputs, max(case.limits) + case.spare, *options)
        for now, before in zip(found, case.answers(), strict=True):
            np.testing.assert_array_equal(now, before)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: BeamSearch(0), "width is 0: it must be 1 or more"),
        (lambda: BeamSearch(2, n_best=3), "n_best is 3: it must be at most width, 2"),
        (lambda: BeamSearch(length_penalty=-1), "length_penalty is -1: it must be 0 or more"),
        (lambda: BeamSearch(coverage_penalty=math.nan), "coverage_penalty is nan"),
        (lambda: BeamSearch(repetition_penalty=0.5), "repetition_penalty is 0.5: .*1 .none."),
        (lambda: Sampling(Greedy(), hypotheses=0), "hypotheses is 0: it must be 1 or more"),
        (lambda: RandomSampling([1], temperature=-0.1), "temperature is -0.1"),
        (lambda: RandomSampling([1], temperature=math.inf), "temperature is inf"),
        (lambda: RandomSampling([1], top_k=-1), "top_k is -1: it must be 0"),
        (lambda: RandomSampling([1], top_p=0.0), "top_p is 0.0: it must be above 0"),
        (lambda: RandomSampling([1], top_p=1.5), "top_p is 1.5: it must be above 0 and at most 1"),
    ],
)
def test_wrong_options_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_coverage_cannot_be_had_from_nothing():
    step, strategy = fixed(0.0, 0.0, 0.0), BeamSearch(coverage_penalty=0.2)
    with pytest.raises(ValueError, match="source_mask: give it to decode"):
        answers_of(step, [3], strategy)
    with pytest.raises(ValueError, match="which this step does not return"):
        answers_of(step, [3], strategy, source_mask=[[True]])
