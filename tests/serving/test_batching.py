"""Requests that are run together: who gets what, and what nobody may notice."""

import asyncio
import math
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.protocol.errors import Code, ServingError
from tasks.serving.batching import Batcher
from tasks.serving.configs import Batching
from tasks.serving.model import Model
from tests.serving import tiny
from tests.serving.harness import running
from tests.serving.tiny import eventually

SOON = 0.02  # seconds


class Echo:
    """Answers what it is given, once the gate is open, and remembers the sizes of its batches."""

    def __init__(self):
        self.gate = threading.Event()
        self.gate.set()
        self.batches = []

    def run(self, feeds, fetches):
        assert self.gate.wait(10)
        self.batches.append(next(iter(feeds.values())).tolist())
        return [feeds[name] for name in fetches]


def told(code, part):
    """Checks that a request gets this error."""
    return pytest.raises(ServingError, match=part, check=lambda error: error.code == code)


@pytest.fixture
def batch():
    """Makes batchers; each of their threads is ended with the test."""
    batchers = []

    def make(**parameters):
        defaults = {"batch_timeout_micros": 20_000, "num_batch_threads": 1}
        batchers.append(Batcher(Batching(**defaults | parameters)))
        return batchers[-1]

    yield make
    for batcher in batchers:
        batcher.close()


@pytest.fixture(scope="module")
def tiny_model():
    model = Model(tiny.template(), ["serve"])
    yield model
    model.close()


def rows(*values):
    return {"x": np.array(values, np.float32)}


def together(batcher, model, *requests, fetches=("x",), deadline=math.inf):
    """The answers to requests that are sent at once, or their errors."""

    async def ask():
        runs = [batcher.run(model, feeds, fetches, deadline) for feeds in requests]
        return await asyncio.gather(*runs, return_exceptions=True)

    answers = asyncio.run(ask())
    return [answer if isinstance(answer, Exception) else answer[0] for answer in answers]


class TestBatches:
    def test_requests_are_run_together(self, batch):
        model = Echo()
        answers = together(batch(), model, rows(1), rows(2, 3), rows(4))
        assert model.batches == [[1, 2, 3, 4]]
        assert [answer.tolist() for answer in answers] == [[1], [2, 3], [4]]

    def test_a_model_sees_the_whole_batch(self, batch, tiny_model):
        requests = [{"count_x:0": np.zeros(n, np.float32)} for n in (1, 2)]
        fetch = tiny_model.signatures["count"].outputs["rows"].name
        answers = together(batch(), tiny_model, *requests, fetches=(fetch,))
        assert [answer.tolist() for answer in answers] == [[3], [3, 3]]

    def test_a_batch_waits_no_longer_than_its_timeout(self, batch):
        start = time.monotonic()
        together(batch(batch_timeout_micros=50_000), Echo(), rows(1))
        assert 0.05 <= time.monotonic() - start < 1

    def test_a_full_batch_waits_for_nobody(self, batch):
        batcher = batch(batch_timeout_micros=60_000_000, max_batch_size=2)
        model = Echo()
        start = time.monotonic()
        together(batcher, model, rows(1), rows(2))
        assert time.monotonic() - start < 1
        assert model.batches == [[1, 2]]

    def test_what_does_not_fit_opens_the_next_batch(self, batch):
        model = Echo()
        together(batch(max_batch_size=3), model, rows(1, 2), rows(3, 4), rows(5))
        assert model.batches == [[1, 2], [3, 4, 5]]

    def test_signatures_and_models_do_not_mix(self, batch):
        first, second = Echo(), Echo()
        batcher = batch()

        async def ask():
            await asyncio.gather(
                batcher.run(first, rows(1), ["x"], math.inf),
                batcher.run(second, rows(2), ["x"], math.inf),
                batcher.run(first, {"z": np.array([3.0])}, ["z"], math.inf),
                batcher.run(first, rows(4), ["x"], math.inf),
            )

        asyncio.run(ask())
        assert sorted(first.batches) == [[1, 4], [3]]
        assert second.batches == [[2]]

    def test_a_thread_that_is_free_runs_what_another_had_waited_for(self, batch):
        """While one thread runs a batch, the other must know when the next is due."""
        batcher = batch(num_batch_threads=2, batch_timeout_micros=100_000)
        slow, quick = Echo(), Echo()
        slow.gate.clear()

        async def ask():
            first = asyncio.create_task(batcher.run(slow, rows(1), ["x"], math.inf))
            await asyncio.sleep(SOON)
            second = asyncio.create_task(batcher.run(quick, rows(2), ["x"], math.inf))
            try:
                await asyncio.wait_for(second, 2)
            finally:
                slow.gate.set()
            await first

        asyncio.run(ask())

    def test_signatures_take_turns(self, batch):
        batcher = batch(max_batch_size=1, batch_timeout_micros=0)
        order, gate = [], threading.Event()

        class Named(Echo):
            def run(self, feeds, fetches):
                gate.wait(10)
                order.append(self)
                return super().run(feeds, fetches)

        busy, rare = Named(), Named()

        async def ask():
            runs = [batcher.run(busy, rows(n), ["x"], math.inf) for n in range(5)]
            tasks = list(map(asyncio.create_task, [*runs, batcher.run(rare, rows(9), ["x"], 9e9)]))
            await asyncio.sleep(SOON)
            gate.set()
            await asyncio.gather(*tasks)

        asyncio.run(ask())
        assert order.index(rare) <= 2

    def test_a_waiting_thread_holds_on_to_nothing(self, batch):
        model = Echo()
        gone = weakref.ref(model)
        batcher = batch()
        together(batcher, model, rows(1))
        del model
        eventually(lambda: gone() is None)


class TestLimits:
    def test_a_task_that_is_too_large_is_refused(self, batch):
        (error,) = together(batch(max_batch_size=2), Echo(), rows(1, 2, 3))
        assert error.code == Code.INVALID_ARGUMENT
        assert error.message == "Task size 3 is larger than maximum input batch size 2"

    def test_a_large_task_is_split_where_that_is_on(self, batch):
        model = Echo()
        batcher = batch(
            max_batch_size=8, enable_large_batch_splitting=True, max_execution_batch_size=3
        )
        (answer,) = together(batcher, model, rows(*range(8)))
        assert answer.tolist() == list(range(8))
        assert sorted(map(len, model.batches)) == [2, 3, 3]
        (error,) = together(batcher, model, rows(*range(9)))
        assert error.code == Code.INVALID_ARGUMENT

    def test_a_full_queue_refuses_at_once(self, batch):
        batcher = batch(max_batch_size=1, max_enqueued_batches=2, batch_timeout_micros=0)
        model = Echo()
        model.gate.clear()

        async def ask():
            running = asyncio.create_task(batcher.run(model, rows(0), ["x"], math.inf))
            await asyncio.sleep(SOON)
            queued = [
                asyncio.create_task(batcher.run(model, rows(n), ["x"], math.inf)) for n in (1, 2)
            ]
            await asyncio.sleep(SOON)
            with told(Code.UNAVAILABLE, "queue to which this task was submitted is full"):
                await batcher.run(model, rows(3), ["x"], math.inf)
            model.gate.set()
            await asyncio.gather(running, *queued)
            await batcher.run(model, rows(4), ["x"], math.inf)

        asyncio.run(ask())
        assert model.batches == [[0], [1], [2], [4]]

    @pytest.mark.parametrize("sizes", [(2, 4), (4,)])
    def test_filling_up_to_an_allowed_size_is_not_seen(self, batch, sizes):
        model = Echo()
        batcher = batch(max_batch_size=4, allowed_batch_sizes=sizes)
        answers = together(batcher, model, rows(1, 2), rows(3))
        assert [answer.tolist() for answer in answers] == [[1, 2], [3]]
        assert [len(rows) for rows in model.batches] == [4]
        assert set(model.batches[0]) <= {1, 2, 3}

    def test_no_rows_are_answered_with_none(self, batch):
        for sizes in ((), (4,)):
            batcher = batch(max_batch_size=4, allowed_batch_sizes=sizes)
            answers = together(batcher, Echo(), rows(), rows())
            assert [answer.tolist() for answer in answers] == [[], []]

    @pytest.mark.parametrize(
        ("feeds", "part"),
        [
            ({}, "at least one input"),
            ({"x": np.array(1.0)}, "at least one dimension"),
            ({"x": np.zeros(1), "z": np.zeros(2)}, "equal 0th-dimension size"),
        ],
    )
    def test_what_has_no_rows_cannot_be_batched(self, batch, feeds, part):
        (error,) = together(batch(), Echo(), feeds)
        assert error.code == Code.INVALID_ARGUMENT
        assert part in error.message

    @pytest.mark.parametrize(
        ("output", "part"),
        [
            (np.array(1.0), "has 0 dimensions"),
            (b"text", "has 0 dimensions"),
            (np.zeros(5), "does not equal the sum"),
        ],
    )
    def test_outputs_without_a_row_for_each_are_an_error(self, batch, output, part):
        class Odd(Echo):
            def run(self, feeds, fetches):
                return [output]

        for error in together(batch(), Odd(), rows(1), rows(2)):
            assert error.code == Code.FAILED_PRECONDITION
            assert part in error.message


class TestShapes:
    def wide(self, *shape):
        return {"x": np.full(shape, shape[1], np.int32)}

    def test_rows_of_other_shapes_or_types_run_by_themselves(self, batch):
        odd = {"x": np.array([["a", "b"]], object)}
        given = [self.wide(1, 2), self.wide(1, 3), odd, self.wide(2, 2)]
        answers = together(batch(), Echo(), *given)
        assert [answer.tolist() for answer in answers] == [part["x"].tolist() for part in given]

    def test_padding_repeats_the_first_element(self, batch):
        batcher = batch(pad_variable_length_inputs=True)
        short, long = {"x": np.array([[7, 8]])}, {"x": np.array([[1, 2, 3], [4, 5, 6]])}
        answers = together(batcher, Echo(), short, long)
        assert answers[0].tolist() == [[7, 8, 7]]
        assert answers[1].tolist() == [[1, 2, 3], [4, 5, 6]]

    def test_padding_keeps_strings_as_they_are(self, batch):
        batcher = batch(pad_variable_length_inputs=True)
        short, long = {"x": np.array([[b"a\0"]], object)}, {"x": np.array([[b"b", b"c"]], object)}
        answer = together(batcher, Echo(), short, long)[0]
        assert answer.tolist() == [[b"a\0", b"a\0"]]
        assert {type(item) for item in answer.flat} == {bytes}

    def test_padding_needs_an_element_and_is_among_equal_ranks(self, batch):
        batcher = batch(pad_variable_length_inputs=True)
        for error in together(batcher, Echo(), self.wide(1, 0), self.wide(1, 2)):
            assert "Got empty tensor" in error.message
        answers = together(batcher, Echo(), self.wide(1, 2), rows(1))
        assert [answer.ndim for answer in answers] == [2, 1]


class TestFailures:
    def test_a_deadline_may_pass_in_the_queue(self, batch):
        (error,) = together(batch(), Echo(), rows(1), deadline=time.monotonic())
        assert error.code == Code.RESOURCE_EXHAUSTED
        assert error.message == "Run() timeout exceeded while waiting in batching queue"

    def test_requests_that_were_given_up_are_not_run(self, batch):
        model = Echo()
        batcher = batch(batch_timeout_micros=50_000)

        async def ask():
            given_up = asyncio.create_task(batcher.run(model, rows(1), ["x"], math.inf))
            kept = asyncio.create_task(batcher.run(model, rows(2), ["x"], math.inf))
            await asyncio.sleep(0)
            given_up.cancel()
            assert (await kept)[0].tolist() == [2]
            alone = asyncio.create_task(batcher.run(model, rows(3), ["x"], math.inf))
            await asyncio.sleep(0)
            alone.cancel()
            await batcher.run(model, {"z": np.array([4.0])}, ["z"], math.inf)

        asyncio.run(ask())
        assert model.batches == [[2], [4]]

    def test_a_graphs_error_reaches_each_request_of_its_batch(self, batch, tiny_model):
        batcher = batch()
        fetch = (tiny_model.signatures["positive"].outputs["y"].name,)
        bad, good = ({"positive_x:0": np.array([x], np.float32)} for x in (-1, 1))
        for error in together(batcher, tiny_model, bad, good, fetches=fetch):
            assert error.code == Code.INVALID_ARGUMENT
            assert "not positive" in error.message
        assert together(batcher, tiny_model, good, good, fetches=fetch) == [1, 1]

    def test_whatever_is_raised_nobody_is_left_waiting(self, batch):
        class Broken(Echo):
            def run(self, feeds, fetches):
                raise MemoryError

        batcher = batch()
        for error in together(batcher, Broken(), rows(1), rows(2)):
            assert (error.code, error.message) == (Code.INTERNAL, "MemoryError")
        assert together(batcher, Echo(), rows(3)) == [3]

    def test_an_answer_for_a_loop_that_has_ended_harms_nobody(self, batch):
        batcher, model = batch(batch_timeout_micros=0), Echo()
        model.gate.clear()
        loop = asyncio.new_event_loop()
        run = loop.create_task(batcher.run(model, rows(1), ["x"], math.inf))
        loop.run_until_complete(asyncio.sleep(SOON))
        loop.close()
        model.gate.set()
        assert together(batcher, model, rows(2)) == [2]
        del run


class TestServer:
    """Batching behind REST."""

    def serve(self, tmp_path, text):
        tiny.publish(tmp_path / "m", 1)
        file = tmp_path / "batching.config"
        file.write_text(text)
        return running(
            model_name="m",
            model_base_path=str(tmp_path / "m"),
            enable_batching=True,
            batching_parameters_file=str(file),
        )

    def test_requests_of_clients_are_put_together(self, tmp_path):
        text = "max_batch_size { value: 4 } batch_timeout_micros { value: 5000000 }"
        with self.serve(tmp_path, text) as server, ThreadPoolExecutor(4) as pool:
            body = {"signature_name": "count", "instances": [0.5]}
            answers = list(pool.map(lambda _: server.post("/v1/models/m:predict", body), range(4)))
        assert [answer.json for answer in answers] == [{"predictions": [4]}] * 4

    def test_another_shape_is_refused_before_it_is_batched(self, tmp_path):
        with self.serve(tmp_path, "") as server:
            answer = server.post("/v1/models/m:predict", {"instances": [[1], [2]]})
        assert answer.status == 400
        assert answer.error == "Shape of input x [2,1] is not compatible with expected shape [?]"

    def test_a_full_queue_is_a_503(self, tmp_path, monkeypatch):
        gate, running_now = threading.Event(), threading.Event()

        def wait(x):
            running_now.set()
            assert gate.wait(10)
            return x

        monkeypatch.setattr(tiny, "hook", wait)
        text = (
            "max_batch_size { value: 1 } max_enqueued_batches { value: 1 } "
            "num_batch_threads { value: 1 }"
        )
        body = {"signature_name": "hooked", "instances": [1]}
        with self.serve(tmp_path, text) as server, ThreadPoolExecutor(3) as pool:
            first = pool.submit(server.post, "/v1/models/m:predict", body)
            assert running_now.wait(10)
            others = [pool.submit(server.post, "/v1/models/m:predict", body) for _ in range(2)]
            eventually(lambda: any(other.done() for other in others))
            gate.set()
            statuses = sorted(other.result().status for other in others)
            assert (first.result().status, statuses) == (200, [200, 503])


@pytest.fixture(scope="module")
def loop():
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@st.composite
def parameters(draw):
    largest = draw(st.integers(1, 8))
    splitting = draw(st.booleans())
    execution = draw(st.integers(1, largest)) if splitting else None
    last = execution or largest
    sizes = draw(st.sets(st.integers(1, last), max_size=3).map(lambda sizes: sizes | {last}))
    return Batching(
        max_batch_size=largest,
        batch_timeout_micros=draw(st.sampled_from([0, 1000])),
        max_enqueued_batches=100,
        num_batch_threads=draw(st.integers(1, 3)),
        allowed_batch_sizes=tuple(sorted(sizes)) if draw(st.booleans()) else (),
        pad_variable_length_inputs=draw(st.booleans()),
        enable_large_batch_splitting=splitting,
        max_execution_batch_size=execution,
    )


@settings(max_examples=60, deadline=None)
@given(data=st.data(), parameters=parameters())
def test_batched_answers_equal_unbatched_ones(loop, tiny_model, data, parameters):
    signature = tiny_model.signatures["serving_default"]
    feed, fetch = signature.inputs["x"].name, signature.outputs["y"].name
    size = st.integers(0, parameters.max_batch_size)
    sizes = data.draw(st.lists(size, min_size=1, max_size=12))
    starts = np.cumsum([0, *sizes[:-1]])
    requests = [
        {feed: np.arange(start, start + size, dtype=np.float32)}
        for start, size in zip(starts, sizes, strict=True)
    ]
    batcher = Batcher(parameters)

    async def ask():
        runs = [batcher.run(tiny_model, feeds, [fetch], math.inf) for feeds in requests]
        return await asyncio.gather(*runs)

    answers = loop.run_until_complete(ask())
    batcher.close()
    for request, answer in zip(requests, answers, strict=True):
        expected = tiny_model.run(request, [fetch])
        assert answer[0].tolist() == expected[0].tolist()
