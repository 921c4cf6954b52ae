import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event

import pytest

from rlimages.emulator import endpoint, logs
from rlimages.emulator.endpoint import run_endpoint
from rlimages.emulator.endpoint_config import Endpoint, EndpointStatus
from rlimages.errors import ToolError
from rlimages.system.process import Stop


class FakeInstance:
    """An instance that prints its lines, and ends when it is told to or with `end`."""

    name = "e"

    def __init__(self, *lines: str, trouble: str = "", deaf: bool = False, memory: bool = False) -> None:
        self.lines = lines
        self.trouble = trouble
        self.deaf = deaf
        self.memory = memory
        self.code = 0
        self.signals: list[str] = []
        self.ended = Event()
        self.there = False

    def start(self) -> str:
        return self.trouble

    def address(self) -> str:
        return "http://here"

    def follow(self, on_line: Callable[[str], None]) -> int:
        for line in self.lines:
            on_line(line)
        assert self.ended.wait(10)
        return self.code

    def end(self, code: int) -> None:
        self.code = code
        self.ended.set()

    def send(self, signal: str) -> None:
        self.signals.append(signal)
        if signal == "SIGKILL" or not self.deaf:
            self.ended.set()

    def starved(self) -> bool:
        return self.memory

    @contextmanager
    def instance(self, _endpoint: Endpoint) -> Iterator["FakeInstance"]:
        self.there = True
        try:
            yield self
        finally:
            self.there = False


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint, "STARTING_PING_SECONDS", 0.01)
    monkeypatch.setattr(endpoint, "SERVING_PING_SECONDS", 0.02)
    monkeypatch.setattr(logs, "_POLL_SECONDS", 0.01)


@pytest.fixture
def stop() -> Stop:
    return Stop()


@pytest.fixture
def serve(stop: Stop):
    """Serve with pings that find these troubles one after the other, the last again and again; the end and the states."""

    def serve(instance: FakeInstance, *troubles: str, startup: float = 60.0, on_state=lambda _state: None, **words):
        left = list(troubles or ("",))
        states = []

        def ping(address: str) -> str:
            assert address == "http://here"
            return left.pop(0) if len(left) > 1 else left[0]

        def hear(state) -> None:
            states.append(state)
            on_state(state)

        endpoint = Endpoint(name="e", image="i", region="r", model=None, startup=startup)
        words = {"on_line": lambda _line: None, "grace": 0.1, **words}
        end = run_endpoint(endpoint, instance, ping=ping, stop=stop, on_state=hear, **words)
        assert not instance.there
        return end, states

    return serve


def test_an_endpoint_is_in_service_with_the_first_ping_that_passes(serve, stop) -> None:
    notes: list[str] = []
    end, (state,) = serve(FakeInstance(), "no", "no", "", on_state=lambda _: stop.set(), on_note=notes.append)
    assert (state.status, state.address, state.before) == (EndpointStatus.IN_SERVICE, "http://here", EndpointStatus.CREATING)  # fmt: skip
    assert (end.status, end.before) == (EndpointStatus.STOPPED, EndpointStatus.IN_SERVICE)
    assert notes == ["it was stopped; SIGTERM to e"]


def test_a_server_that_is_not_healthy_in_time_is_ended(serve) -> None:
    instance = FakeInstance("loading", "still loading")
    end, states = serve(instance, "out of sorts", startup=0.1)
    assert (end.status, end.reason) == (EndpointStatus.FAILED, "it was not healthy within 0.1 s: out of sorts")
    assert (instance.signals, states, end.last) == (["SIGTERM"], [], ("loading", "still loading"))


def test_a_server_that_gets_sick_and_well_is_told_each_time(serve, stop) -> None:
    def stop_when_well(state) -> None:
        if state.before is EndpointStatus.UNHEALTHY:
            stop.set()

    end, states = serve(FakeInstance(), "", "sick", "sick", "", on_state=stop_when_well)
    assert [state.status for state in states] == ["InService", "Unhealthy", "InService"]
    assert states[1].reason == "sick"
    assert end.before is EndpointStatus.IN_SERVICE


@pytest.mark.parametrize(("memory", "why"), [(False, "exit code 3"), (True, "memory ran out")])
def test_a_server_that_ends_by_itself_has_failed(serve, memory, why) -> None:
    instance = FakeInstance(*map(str, range(20)), memory=memory)
    end, _ = serve(instance, on_state=lambda _: instance.end(3))
    assert (end.status, end.reason) == (EndpointStatus.FAILED, f"its container ended by itself: {why}")
    assert end.last == tuple(map(str, range(10, 20)))
    assert instance.signals == []


def test_a_server_that_cannot_start_has_failed(serve) -> None:
    end, _ = serve(FakeInstance(trouble="no GPU here"))
    assert (end.status, end.reason) == (EndpointStatus.FAILED, "it cannot start serve: no GPU here")


def test_a_server_that_ignores_sigterm_is_killed_after_the_grace(serve, stop) -> None:
    instance = FakeInstance(deaf=True)
    notes: list[str] = []
    serve(instance, on_state=lambda _: stop.set(), on_note=notes.append)
    assert instance.signals == ["SIGTERM", "SIGKILL"]
    assert notes[1] == "0.1 s later it still runs; SIGKILL to e"


def test_an_endpoint_ends_when_its_task_is_done(serve) -> None:
    done: list[str] = []
    end, _ = serve(FakeInstance(), "no", "", task=lambda address, _stop: done.append(address))
    assert (end.status, done) == (EndpointStatus.STOPPED, ["http://here"])


def test_a_task_is_told_when_its_server_ends(serve) -> None:
    instance = FakeInstance()
    told: list[bool] = []

    def work(_address: str, stop: Stop) -> None:
        instance.end(9)
        told.append(stop.wait(5))

    end, _ = serve(instance, task=work)
    assert (end.status, told) == (EndpointStatus.FAILED, [True])


def test_a_task_is_told_when_the_job_is_stopped(serve, stop) -> None:
    began = time.monotonic()
    end, _ = serve(FakeInstance(), task=lambda _address, ended: ended.wait(5), on_state=lambda _: stop.set())
    assert (end.status, end.reason) == (EndpointStatus.STOPPED, "it was stopped")
    assert time.monotonic() - began < 3


def test_what_a_task_raises_is_raised(serve) -> None:
    def work(_address: str, _stop: Stop) -> None:
        raise ToolError("the disk is full")

    with pytest.raises(ToolError, match="the disk is full"):
        serve(FakeInstance(), task=work)


def test_a_server_that_ends_is_the_reason_and_not_what_its_task_says_about_that(serve) -> None:
    instance = FakeInstance()

    def work(_address: str, stop: Stop) -> None:
        instance.end(9)
        stop.wait(5)
        raise ToolError("nothing answers")

    assert serve(instance, task=work)[0].reason == "its container ended by itself: exit code 9"


def test_a_task_is_waited_for_when_its_instance_is_gone(serve, stop) -> None:
    """Whoever can't wait for a server that does not end kills it, and that ends what its task waits for."""
    instance = FakeInstance()
    told: list[bool] = []

    def work(_address: str, _stop: Stop) -> None:
        stop.set()
        until = time.monotonic() + 5
        while instance.there and time.monotonic() < until:
            time.sleep(0.01)
        told.append(instance.there)

    def interrupt(_note: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        serve(instance, task=work, on_note=interrupt)
    assert told == [False]
