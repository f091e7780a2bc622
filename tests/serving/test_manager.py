"""Models and versions: what is loaded, what answers, and what is let go, and when."""

import gc
import tempfile
import threading
import time
import weakref
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import tensorflow as tf
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_serving.apis import model_pb2, predict_pb2
from tensorflow_serving.config.model_server_config_pb2 import ModelConfigList

from tasks.protocol.errors import Code, ServingError
from tasks.serving import manager as manager_module
from tasks.serving import server
from tasks.serving.manager import Loading, Manager, State, versions_in
from tests.serving import tiny
from tests.serving.harness import running
from tests.serving.tiny import eventually


class FakeModel:
    """What stands for a loaded version."""

    def __init__(self, number, events):
        self.number = number
        self.closed = False
        self._events = events

    def close(self):
        assert not self.closed
        self.closed = True
        self._events.append(("closed", self.number))


class Loader:
    """Loads fakes; a version can be held up, or made to fail."""

    def __init__(self):
        self.events = []
        self.models = []
        self.gates = {}
        self.failing = set()

    def __call__(self, name, number, folder):
        if number in self.gates:
            assert self.gates[number].wait(10)
        if number in self.failing:
            self.events.append(("failed", number))
            raise ServingError(Code.DATA_LOSS, "a bad file")
        self.events.append(("loaded", number))
        self.models.append(FakeModel(number, self.events))
        return self.models[-1]

    def hold(self, number):
        self.gates[number] = threading.Event()
        return self.gates[number]


@pytest.fixture(autouse=True, scope="module")
def quick_collections():
    """Each model that is let go has a collection: as in the command, not of all TensorFlow."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def loader():
    return Loader()


@contextmanager
def managing(loader, models=None, **options):
    """A manager that looks for versions a hundred times a second, started if models are given."""
    threads = options.pop("threads", 2)
    loading = Loading(loader, threads, 2, options.pop("retry_seconds", 0.01))
    manager = Manager(loading, **{"poll_seconds": 0.01} | options)
    try:
        if models is not None:
            manager.start(models)
        yield manager
    finally:
        for gate in loader.gates.values():
            gate.set()
        manager.close()


def models(folder, *names, **settings):
    """A config of models in folders of the same names; settings are of the first, as text."""
    config = ModelConfigList()
    for name in names or ("m",):
        model = config.config.add(name=name, model_platform="tensorflow")
        model.base_path = str(folder / name)
        (folder / name).mkdir(exist_ok=True)
    for name, text in settings.items():
        text_format.Parse(f"{name} {{ {text} }}", config.config[0])
    return config


def add(folder, *numbers, name="m"):
    for number in numbers:
        (folder / name / str(number)).mkdir(parents=True)


def remove(folder, number, name="m"):
    (folder / name / str(number)).rmdir()


def ask(name="m", version=None, label=None):
    spec = model_pb2.ModelSpec(name=name)
    if version is not None:
        spec.version.value = version
    if label:
        spec.version_label = label
    return spec


def latest(manager, name="m"):
    with manager.use(ask(name)) as version:
        return version.number


def states(manager, name="m"):
    try:
        versions = manager.statuses(ask(name))
    except ServingError:
        return {}
    return {version.number: State.Name(version.state) for version in versions}


def available(manager, name="m"):
    return {number for number, state in states(manager, name).items() if state == "AVAILABLE"}


class TestVersions:
    def test_the_highest_is_served(self, tmp_path, loader):
        add(tmp_path, 2, 10, 9)
        with managing(loader, models(tmp_path)) as manager:
            assert latest(manager) == 10
            assert states(manager) == {10: "AVAILABLE"}

    @pytest.mark.parametrize(
        ("policy", "expected"),
        [
            ("", {7}),
            ("latest {}", {7}),
            ("latest { num_versions: 2 }", {5, 7}),
            ("latest { num_versions: 9 }", {1, 3, 5, 7}),
            ("all {}", {1, 3, 5, 7}),
            ("specific { versions: 1 versions: 5 }", {1, 5}),
            ("specific { versions: 1 versions: 4 }", {1}),
        ],
    )
    def test_a_policy_says_which_are_served(self, tmp_path, loader, policy, expected):
        add(tmp_path, 1, 3, 5, 7)
        with managing(loader, models(tmp_path, model_version_policy=policy)) as manager:
            eventually(lambda: available(manager) == expected)
            assert latest(manager) == max(expected)
            for number in expected:
                with manager.use(ask(version=number)) as version:
                    assert version.model.number == number
            with (
                pytest.raises(
                    ServingError, match=r"Servable not found for request: Specific\(m, 4"
                ),
                manager.use(ask(version=4)),
            ):
                pass

    def test_a_new_one_is_loaded_before_the_old_is_let_go(self, tmp_path, loader):
        add(tmp_path, 1)
        gate = loader.hold(2)
        with managing(loader, models(tmp_path)) as manager:
            add(tmp_path, 2)
            eventually(lambda: states(manager) == {1: "AVAILABLE", 2: "LOADING"})
            assert latest(manager) == 1
            gate.set()
            eventually(lambda: states(manager) == {1: "END", 2: "AVAILABLE"})
            assert latest(manager) == 2
            assert loader.events == [("loaded", 1), ("loaded", 2), ("closed", 1)]

    def test_the_old_is_closed_after_its_last_request(self, tmp_path, loader):
        add(tmp_path, 1)
        with managing(loader, models(tmp_path)) as manager:
            first, second = manager.acquire(ask()), manager.acquire(ask())
            add(tmp_path, 2)
            eventually(lambda: states(manager) == {1: "UNLOADING", 2: "AVAILABLE"})
            with pytest.raises(ServingError, match="Servable not found"):
                manager.acquire(ask(version=1))
            manager.release(first)
            assert states(manager)[1] == "UNLOADING"
            assert not second.model.closed
            model = second.model
            manager.release(second)
            eventually(lambda: states(manager)[1] == "END")
            assert model.closed

    def test_without_the_newer_folder_the_older_is_back(self, tmp_path, loader):
        add(tmp_path, 1, 2)
        with managing(loader, models(tmp_path)) as manager:
            remove(tmp_path, 2)
            eventually(lambda: states(manager) == {1: "AVAILABLE", 2: "END"})
            assert loader.events == [("loaded", 2), ("loaded", 1), ("closed", 2)]
            add(tmp_path, 2)
            eventually(lambda: states(manager) == {1: "END", 2: "AVAILABLE"})

    def test_one_that_fails_leaves_the_old_serving(self, tmp_path, loader):
        add(tmp_path, 1)
        loader.failing = {2}
        with managing(loader, models(tmp_path)) as manager:
            add(tmp_path, 2)
            eventually(lambda: states(manager) == {1: "AVAILABLE", 2: "END"})
            assert loader.events == [("loaded", 1), *[("failed", 2)] * 3]
            (failed,) = manager.statuses(ask(version=2))
            assert (failed.error.code, failed.error.message) == (Code.DATA_LOSS, "a bad file")
            assert latest(manager) == 1
            assert manager.ready()

    def test_one_that_failed_may_come_again(self, tmp_path, loader):
        add(tmp_path, 1)
        loader.failing = {2}
        with managing(loader, models(tmp_path)) as manager:
            add(tmp_path, 2)
            eventually(lambda: states(manager).get(2) == "END")
            loader.failing = set()
            remove(tmp_path, 2)
            eventually(lambda: not manager.statuses(ask(version=2))[0].wanted)
            add(tmp_path, 2)
            eventually(lambda: available(manager) == {2})
            assert manager.statuses(ask(version=2))[0].error is None

    def test_one_that_fails_once_is_tried_again(self, tmp_path, loader):
        add(tmp_path, 1)
        loader.failing, gate = {2}, loader.hold(2)
        with managing(loader, models(tmp_path)) as manager:
            add(tmp_path, 2)
            gate.set()
            eventually(lambda: ("failed", 2) in loader.events)
            loader.failing = set()
            eventually(lambda: available(manager) == {2})

    def test_one_that_goes_while_it_loads_is_let_go(self, tmp_path, loader):
        add(tmp_path, 1)
        gate = loader.hold(2)
        with managing(loader, models(tmp_path)) as manager:
            add(tmp_path, 2)
            eventually(lambda: states(manager).get(2) == "LOADING")
            remove(tmp_path, 2)
            eventually(lambda: not manager.statuses(ask(version=2))[0].wanted)
            gate.set()
            eventually(lambda: states(manager) == {1: "AVAILABLE", 2: "END"})
            assert loader.events[-1] == ("closed", 2)

    def test_one_that_comes_back_while_it_is_let_go_is_loaded_anew(self, tmp_path, loader):
        add(tmp_path, 1, 2)
        with managing(loader, models(tmp_path)) as manager:
            held = manager.acquire(ask())
            remove(tmp_path, 2)
            eventually(lambda: states(manager) == {1: "AVAILABLE", 2: "UNLOADING"})
            add(tmp_path, 2)
            eventually(lambda: available(manager) == {2})
            assert not held.model.closed
            manager.release(held)
            eventually(lambda: loader.events.count(("closed", 2)) == 1)
            assert latest(manager) == 2

    def test_what_is_no_version_is_ignored(self, tmp_path, loader, caplog):
        config = models(tmp_path)
        for name in ("incoming-3", "4.tmp", ".5", "-6", "1e1", "\u0667", str(2**63)):
            (tmp_path / "m" / name).mkdir()
        (tmp_path / "m/8").write_text("a file")
        (tmp_path / "m/9").symlink_to(tmp_path / "nothing")
        add(tmp_path, "002")
        with managing(loader, config) as manager:
            assert states(manager) == {2: "AVAILABLE"}
        assert list(versions_in(tmp_path / "m")) == [2]

    def test_a_folder_that_is_gone_leaves_its_versions(self, tmp_path, loader, caplog):
        add(tmp_path, 1)
        with managing(loader, models(tmp_path)) as manager:
            (tmp_path / "m").rename(tmp_path / "moved")
            eventually(lambda: "its versions are kept" in caplog.text)
            assert latest(manager) == 1
            (tmp_path / "moved").rename(tmp_path / "m")
            add(tmp_path, 2)
            eventually(lambda: available(manager) == {2})
        assert caplog.text.count("its versions are kept") == 1

    def test_one_look_is_enough_where_none_are_wanted(self, tmp_path, loader):
        add(tmp_path, 1)
        before = threading.active_count()
        with managing(loader, models(tmp_path), poll_seconds=0) as manager:
            assert threading.active_count() <= before + 1  # a loader
            assert latest(manager) == 1

    def test_the_statuses_of_old_versions_do_not_pile_up(self, tmp_path, loader):
        config = models(tmp_path, model_version_policy="all {}")
        add(tmp_path, *range(1, 131))
        with managing(loader, config) as manager:
            eventually(lambda: len(available(manager)) == 130)
            for number in range(1, 130):
                remove(tmp_path, number)
            eventually(lambda: len(states(manager)) == 101)
            assert available(manager) == {130}

    def test_a_newer_one_may_take_the_place_of_one_that_is_to_be_tried_again(
        self, tmp_path, loader, monkeypatch, caplog
    ):
        """When that one ends, the status of an older one is forgotten."""
        monkeypatch.setattr(manager_module, "_MOST_ENDED", 1)
        add(tmp_path, 1)
        loader.failing = {8}  # in a set of small numbers, the first
        with managing(loader, models(tmp_path), retry_seconds=60) as manager:
            add(tmp_path, 3)
            eventually(lambda: states(manager) == {1: "END", 3: "AVAILABLE"})
            add(tmp_path, 8)
            eventually(lambda: states(manager).get(8) and manager.statuses(ask(version=8))[0].retry)
            add(tmp_path, 9)
            eventually(lambda: states(manager) == {8: "END", 9: "AVAILABLE"})
        assert "poll failed" not in caplog.text


class TestModels:
    def test_a_model_is_removed_and_added_again(self, tmp_path, loader):
        add(tmp_path, 1, name="a")
        add(tmp_path, 1, name="b")
        both = models(tmp_path, "a", "b")
        with managing(loader, both) as manager:
            manager.reload(models(tmp_path, "a"))
            assert manager.names() == ["a"]
            eventually(lambda: states(manager, "b") == {1: "END"})
            with pytest.raises(ServingError, match=r"request: Latest\(b\)"):
                latest(manager, "b")
            assert manager.ready()
            manager.reload(both)
            assert latest(manager, "b") == 1

    def test_a_reload_tells_of_a_model_that_cannot_be_loaded(self, tmp_path, loader):
        add(tmp_path, 1, name="a")
        add(tmp_path, 2, name="b")
        loader.failing = {2}
        with managing(loader, models(tmp_path, "a")) as manager:
            with pytest.raises(ServingError, match=r"^1 model\(s\) did not .*name: b version: 2"):
                manager.reload(models(tmp_path, "a", "b"))
            assert latest(manager, "a") == 1
            manager.reload(models(tmp_path, "a"))

    def test_one_that_is_added_is_no_reason_not_to_be_ready(self, tmp_path, loader):
        add(tmp_path, 1, name="a")
        add(tmp_path, 2, name="b")
        gate = loader.hold(2)
        with managing(loader, models(tmp_path, "a")) as manager:
            manager.reload(models(tmp_path, "a", "b"), wait=False)
            assert states(manager, "b").keys() == {2}
            assert manager.ready()
            gate.set()
            eventually(lambda: available(manager, "b"))
            remove(tmp_path, 2, name="b")
            eventually(lambda: not manager.ready())
            manager.reload(models(tmp_path, "a"))
            assert manager.ready()

    def test_a_newer_config_takes_the_place_of_one_whose_models_load(self, tmp_path, loader):
        add(tmp_path, 1, name="a")
        add(tmp_path, 2, name="slow")
        add(tmp_path, 3, name="b")
        gate = loader.hold(2)
        with managing(loader, models(tmp_path, "a")) as manager, ThreadPoolExecutor(2) as pool:
            older = pool.submit(manager.reload, models(tmp_path, "a", "slow"))
            eventually(lambda: manager.names() == ["a", "slow"])
            with pytest.raises(ServingError, match="assign label to version 9"):
                manager.reload(models(tmp_path, "a", version_labels='key: "new" value: 9'))
            assert not older.done()
            newer = pool.submit(manager.reload, models(tmp_path, "a", "slow", "b"))
            with pytest.raises(ServingError, match="A newer configuration") as replaced:
                older.result(10)
            assert replaced.value.code == Code.ABORTED
            eventually(lambda: available(manager, "b"))
            assert not newer.done()
            gate.set()
            newer.result(10)
            assert latest(manager, "slow") == 2

    def test_a_new_model_may_go_while_it_is_waited_for(self, tmp_path, loader):
        add(tmp_path, 1, name="a")
        add(tmp_path, 2, name="b")
        loader.hold(2)
        with managing(loader, models(tmp_path, "a")) as manager, ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(manager.reload, models(tmp_path, "a", "b"))
            eventually(lambda: states(manager, "b"))
            remove(tmp_path, 2, name="b")
            with pytest.raises(ServingError, match=r"\{name: b\} due to error: NOT_FOUND: its"):
                waiting.result(10)

    def test_the_statuses_of_old_models_do_not_pile_up(self, tmp_path, loader, monkeypatch):
        monkeypatch.setattr(manager_module, "_MOST_ENDED", 1)
        for name in ("a", "b", "c"):
            add(tmp_path, 1, name=name)
        with managing(loader, models(tmp_path, "a")) as manager:
            manager.reload(models(tmp_path, "b"))
            eventually(lambda: states(manager, "a") == {1: "END"})
            manager.reload(models(tmp_path, "c"))
            eventually(lambda: states(manager, "b") == {1: "END"})
            assert not states(manager, "a")
            assert latest(manager, "c") == 1

    def test_a_wrong_config_changes_nothing(self, tmp_path, loader):
        add(tmp_path, 1)
        config = models(tmp_path)
        twice = ModelConfigList(config=[*config.config, *config.config])
        with managing(loader, config) as manager:
            with pytest.raises(ServingError, match="multiple times"):
                manager.reload(twice)
            with pytest.raises(ServingError, match="not currently available for inference"):
                manager.reload(models(tmp_path, version_labels='key: "new" value: 9'))
            assert manager.names() == ["m"]
            assert manager.labels("m") == {}

    def test_what_nobody_knows_is_not_found(self, tmp_path, loader):
        add(tmp_path, 1)
        with managing(loader, models(tmp_path)) as manager:
            for spec, message in (
                (ask("x"), "Could not find any versions of model x"),
                (ask(version=3), "Could not find version 3 of model m"),
            ):
                with pytest.raises(ServingError) as raised:
                    manager.statuses(spec)
                assert (raised.value.code, raised.value.message) == (Code.NOT_FOUND, message)

    def test_a_label_points_to_a_version(self, tmp_path, loader):
        add(tmp_path, 1, 2)
        both = "specific { versions: 1 versions: 2 }"
        stable = {"model_version_policy": both, "version_labels": 'key: "stable" value: 1'}
        with managing(loader, models(tmp_path, model_version_policy=both)) as manager:
            eventually(lambda: available(manager) == {1, 2})
            manager.reload(models(tmp_path, **stable))
            with manager.use(ask(label="stable")) as version:
                assert version.number == 1
            manager.reload(
                models(tmp_path, **stable | {"version_labels": 'key: "stable" value: 2'})
            )
            with manager.use(ask(label="stable")) as version:
                assert version.number == 2
            with pytest.raises(ServingError, match="Unrecognized servable version label: canary"):
                manager.acquire(ask(label="canary"))

    def test_a_new_label_may_be_given_ahead_where_that_is_allowed(self, tmp_path, loader):
        add(tmp_path, 1)
        config = models(tmp_path, version_labels='key: "stable" value: 1')
        with pytest.raises(ServingError, match="assign label"), managing(loader, config):
            pass
        with managing(loader, config, any_labels=True) as manager:
            with manager.use(ask(label="stable")) as version:
                assert version.number == 1
            with pytest.raises(ServingError, match="assign label to version 2"):
                manager.reload(models(tmp_path, version_labels='key: "stable" value: 2'))


class TestStart:
    def test_an_empty_folder_is_waited_for(self, tmp_path, loader, caplog):
        config = models(tmp_path)
        with managing(loader) as manager, ThreadPoolExecutor(1) as pool:
            started = pool.submit(manager.start, config)
            eventually(lambda: "no versions in" in caplog.text)
            assert not manager.ready()
            assert not started.done()
            with pytest.raises(ServingError, match="The server is starting"):
                manager.reload(config)
            add(tmp_path, 1)
            started.result(10)
            assert manager.ready()

    def test_a_failure_is_told_at_once_while_another_folder_is_empty(self, tmp_path, loader):
        config = models(tmp_path, "broken", "empty")
        add(tmp_path, 1, name="broken")
        loader.failing = {1}
        with (
            managing(loader) as manager,
            pytest.raises(ServingError, match=r"^1 model\(s\) did not .*name: broken version: 1"),
        ):
            manager.start(config)
        assert loader.events == [("failed", 1)]

    def test_a_defect_of_the_loader_is_told_too(self, tmp_path, loader):
        add(tmp_path, 1)
        loader.failing = None
        with managing(loader) as manager, pytest.raises(ServingError, match="INTERNAL: TypeError"):
            manager.start(models(tmp_path))

    def test_one_version_that_loads_is_enough(self, tmp_path, loader):
        add(tmp_path, 1, 2)
        loader.failing = {2}
        config = models(tmp_path, model_version_policy="all {}")
        with managing(loader, config) as manager:
            assert latest(manager) == 1
            eventually(lambda: states(manager) == {1: "AVAILABLE", 2: "END"})

    @pytest.mark.parametrize("folder", ["none", "empty", "other"])
    def test_a_new_model_without_a_version_is_refused_and_changes_nothing(
        self, tmp_path, loader, folder
    ):
        add(tmp_path, 1, name="a")
        add(tmp_path, 1, name="other")
        (tmp_path / "empty").mkdir()
        with managing(loader, models(tmp_path, "a")) as manager:
            new = models(tmp_path, "a", "empty")
            new.config[1].base_path = str(tmp_path / folder)
            new.config[1].model_version_policy.specific.versions.append(9)
            with pytest.raises(ServingError, match=f"{tmp_path / folder}") as refused:
                manager.reload(new)
            assert refused.value.code == Code.NOT_FOUND
            assert manager.names() == ["a"]
            manager.reload(models(tmp_path, "a", "other"))
            assert latest(manager, "other") == 1

    def test_the_end_wakes_whoever_waits(self, tmp_path, loader):
        add(tmp_path, 1, name="a")
        add(tmp_path, 2, name="slow")
        gate = loader.hold(2)
        with managing(loader, models(tmp_path, "a")) as manager, ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(manager.reload, models(tmp_path, "a", "slow"))
            eventually(lambda: manager.names() == ["a", "slow"])
            manager.close()
            gate.set()
            with pytest.raises(ServingError, match="The server is ending"):
                waiting.result(10)


_NUMBERS = st.integers(1, 4)
_POLICIES = st.sampled_from(
    ["latest {}", "latest { num_versions: 2 }", "all {}", "specific { versions: 2 versions: 3 }"]
)


def by_policy(policy, numbers):
    if policy == "all {}":
        return numbers
    if "specific" in policy:
        return numbers & {2, 3}
    return set(sorted(numbers)[-2 if "2" in policy else -1 :])


@settings(max_examples=40, deadline=None)
@given(
    changes=st.lists(st.tuples(_NUMBERS, st.sampled_from([0, 0.002, 0.02])), max_size=12),
    policies=st.lists(_POLICIES, min_size=1, max_size=4),
)
def test_in_the_end_what_the_policy_asks_for_is_served(changes, policies):
    """Versions come and go, and so do policies, while requests hold on to some."""
    loader, numbers, held, reloads = Loader(), set(), [], []
    with (
        tempfile.TemporaryDirectory() as name,
        ThreadPoolExecutor(1) as pool,
        managing(loader, poll_seconds=0.001) as manager,
    ):
        folder = Path(name)
        add(folder, 1)
        numbers.add(1)
        manager.start(models(folder))
        for policy in policies:
            config = models(folder, model_version_policy=policy)
            reloads.append(pool.submit(manager.reload, config))
            for number, seconds in changes[:: len(policies)]:
                (remove if number in numbers else add)(folder, number)
                numbers ^= {number}
                time.sleep(seconds)
                with suppress(ServingError):
                    held.append(manager.acquire(ask()))
                for version in held[:-1:2]:
                    manager.release(version)
                    held.remove(version)
        assert all(not version.model.closed for version in held)
        for version in held:
            manager.release(version)
        for reload in reloads:
            reload.result(10)
        wanted = by_policy(policies[-1], numbers)
        eventually(lambda: available(manager) == wanted)
        eventually(lambda: {m.number for m in loader.models if not m.closed} == wanted)
        assert sum(not model.closed for model in loader.models) == len(wanted)


class TestServer:
    def test_ten_swaps_under_load_lose_no_request(self, tmp_path, monkeypatch):
        made = []

        def recorded(*arguments):
            model = real(*arguments)
            made.append(
                [weakref.ref(part) for part in (model, model._session, model._session.graph)]
            )
            return model

        real = server.Model
        monkeypatch.setattr(server, "Model", recorded)
        tiny.publish(tmp_path, 1)
        done, statuses, versions = threading.Event(), Counter(), Counter()

        with running(model_name="m", model_base_path=str(tmp_path)) as served:
            request = predict_pb2.PredictRequest(model_spec=ask())
            request.inputs["x"].CopyFrom(tf.make_tensor_proto([1.0, 2.0]))

            def rest():
                while not done.is_set():
                    statuses[served.post("/v1/models/m:predict", {"instances": [1, 2]}).status] += 1

            def grpc():
                while not done.is_set():
                    answer = served.prediction.Predict(request, timeout=20)
                    assert list(answer.outputs["y"].float_val) == [2, 4]
                    versions[answer.model_spec.version.value] += 1

            with ThreadPoolExecutor(4) as pool:
                clients = [pool.submit(client) for client in (rest, grpc, rest, grpc)]
                try:
                    for number in range(2, 12):
                        tiny.publish(tmp_path, number)
                        eventually(lambda number=number: versions[number])
                finally:
                    done.set()
                for client in clients:
                    client.result()
            assert set(statuses) == {200}
            assert set(versions) == set(range(1, 12))
            eventually(lambda: not any(part() for parts in made[:-1] for part in parts))
            assert all(part() for part in made[-1])
