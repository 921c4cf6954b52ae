import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event

import pytest

from rlimages.emulator import endpoint_runner, logs
from rlimages.emulator.endpoint import Endpoint, EndpointStatus
from rlimages.emulator.endpoint_runner import run_endpoint
from rlimages.errors import ToolError
from rlimages.system.context import RunContext
from rlimages.system.process import Stop


class FakeInstance:
    """A container that prints its lines, and ends after a signal or a call of `end`."""

    name = "e"

    def __init__(
        self, *lines: str, start_error: str = "", ignores_sigterm: bool = False, out_of_memory: bool = False
    ) -> None:
        self.lines = lines
        self.start_error = start_error
        self.ignores_sigterm = ignores_sigterm
        self.out_of_memory = out_of_memory
        self.code = 0
        self.signals: list[str] = []
        self.ended = Event()
        self.is_open = False

    def start(self) -> str:
        return self.start_error

    def address(self) -> str:
        return "http://address"

    def follow(self, on_line: Callable[[str], None]) -> int:
        for line in self.lines:
            on_line(line)
        assert self.ended.wait(10)
        return self.code

    def end(self, code: int) -> None:
        self.code = code
        self.ended.set()

    def send_signal(self, signal: str) -> None:
        self.signals.append(signal)
        if signal == "SIGKILL" or not self.ignores_sigterm:
            self.ended.set()

    def ran_out_of_memory(self) -> bool:
        return self.out_of_memory

    @contextmanager
    def open(self) -> Iterator["FakeInstance"]:
        self.is_open = True
        try:
            yield self
        finally:
            self.is_open = False


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoint_runner, "STARTING_PING_SECONDS", 0.01)
    monkeypatch.setattr(endpoint_runner, "SERVING_PING_SECONDS", 0.02)
    monkeypatch.setattr(logs, "_POLL_SECONDS", 0.01)


@pytest.fixture
def stop() -> Stop:
    return Stop()


@pytest.fixture
def serve(stop: Stop):
    """Run an endpoint whose pings have these results, the last one repeatedly. Returns its last state and the others."""

    def serve(
        instance: FakeInstance,
        *pings: str,
        startup: float = 60.0,
        on_state=lambda _state: None,
        note=lambda _line: None,
        **options,
    ):
        results = list(pings or ("",))
        states = []

        def ping(address: str) -> str:
            assert address == "http://address"
            return results.pop(0) if len(results) > 1 else results[0]

        def collect_state(state) -> None:
            states.append(state)
            on_state(state)

        endpoint = Endpoint(name="e", image="i", region="r", model=None, startup=startup)
        context = RunContext(environ={}, stop=stop, note=note)
        options = {"on_line": lambda _line: None, "grace": 0.1, **options}
        end = run_endpoint(endpoint, instance.open(), ping=ping, context=context, on_state=collect_state, **options)
        assert not instance.is_open
        return end, states

    return serve


def test_an_endpoint_is_in_service_after_the_first_successful_ping(serve, stop) -> None:
    notes: list[str] = []
    end, (state,) = serve(FakeInstance(), "no", "no", "", on_state=lambda _: stop.set(), note=notes.append)
    assert (state.status, state.address, state.previous) == (EndpointStatus.IN_SERVICE, "http://address", EndpointStatus.CREATING)  # fmt: skip
    assert (end.status, end.previous) == (EndpointStatus.STOPPED, EndpointStatus.IN_SERVICE)
    assert notes == ["the endpoint was stopped; sending SIGTERM to e"]


def test_a_server_that_is_not_healthy_in_time_has_failed(serve) -> None:
    instance = FakeInstance("loading", "still loading")
    end, states = serve(instance, "not ready", startup=0.1)
    assert (end.status, end.reason) == (EndpointStatus.FAILED, "not healthy within 0.1 s: not ready")
    assert (instance.signals, states, end.last_lines) == (["SIGTERM"], [], ("loading", "still loading"))


def test_each_change_between_healthy_and_unhealthy_is_reported(serve, stop) -> None:
    def stop_when_healthy(state) -> None:
        if state.previous is EndpointStatus.UNHEALTHY:
            stop.set()

    end, states = serve(FakeInstance(), "", "unhealthy", "unhealthy", "", on_state=stop_when_healthy)
    assert [state.status for state in states] == ["InService", "Unhealthy", "InService"]
    assert states[1].reason == "unhealthy"
    assert end.previous is EndpointStatus.IN_SERVICE


@pytest.mark.parametrize(("out_of_memory", "why"), [(False, "exit code 3"), (True, "out of memory")])
def test_a_container_that_ends_by_itself_has_failed(serve, out_of_memory, why) -> None:
    instance = FakeInstance(*map(str, range(20)), out_of_memory=out_of_memory)
    end, _ = serve(instance, on_state=lambda _: instance.end(3))
    assert (end.status, end.reason) == (EndpointStatus.FAILED, f"the container ended by itself: {why}")
    assert end.last_lines == tuple(map(str, range(10, 20)))
    assert instance.signals == []


def test_a_container_that_cannot_start_has_failed(serve) -> None:
    end, _ = serve(FakeInstance(start_error="no GPU here"))
    assert (end.status, end.reason) == (EndpointStatus.FAILED, "cannot start serve: no GPU here")


def test_a_container_that_ignores_sigterm_is_killed_after_the_grace_period(serve, stop) -> None:
    instance = FakeInstance(ignores_sigterm=True)
    notes: list[str] = []
    serve(instance, on_state=lambda _: stop.set(), note=notes.append)
    assert instance.signals == ["SIGTERM", "SIGKILL"]
    assert notes[1] == "still running after 0.1 s; sending SIGKILL to e"


def test_an_endpoint_ends_when_its_task_is_done(serve) -> None:
    addresses: list[str] = []
    end, _ = serve(FakeInstance(), "no", "", task=lambda address, _stop: addresses.append(address))
    assert (end.status, addresses) == (EndpointStatus.STOPPED, ["http://address"])


def test_a_task_is_stopped_when_the_container_ends(serve) -> None:
    instance = FakeInstance()
    stopped: list[bool] = []

    def task(_address: str, stop: Stop) -> None:
        instance.end(9)
        stopped.append(stop.wait(5))

    end, _ = serve(instance, task=task)
    assert (end.status, stopped) == (EndpointStatus.FAILED, [True])


def test_a_task_is_stopped_when_the_user_stops_the_job(serve, stop) -> None:
    started = time.monotonic()
    end, _ = serve(FakeInstance(), task=lambda _address, ended: ended.wait(5), on_state=lambda _: stop.set())
    assert (end.status, end.reason) == (EndpointStatus.STOPPED, "the endpoint was stopped")
    assert time.monotonic() - started < 3


def test_the_error_of_a_task_is_raised(serve) -> None:
    def task(_address: str, _stop: Stop) -> None:
        raise ToolError("the disk is full")

    with pytest.raises(ToolError, match="the disk is full"):
        serve(FakeInstance(), task=task)


def test_a_container_that_ends_is_the_reason_and_not_the_error_of_the_task(serve) -> None:
    instance = FakeInstance()

    def task(_address: str, stop: Stop) -> None:
        instance.end(9)
        stop.wait(5)
        raise ToolError("nothing answers")

    assert serve(instance, task=task)[0].reason == "the container ended by itself: exit code 9"


def test_the_end_of_a_task_is_waited_for_after_the_container_was_removed(serve, stop) -> None:
    """The removal of the container ends the request for which the task waits."""
    instance = FakeInstance()
    open_at_end: list[bool] = []

    def task(_address: str, _stop: Stop) -> None:
        stop.set()
        deadline = time.monotonic() + 5
        while instance.is_open and time.monotonic() < deadline:
            time.sleep(0.01)
        open_at_end.append(instance.is_open)

    def interrupt(_note: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        serve(instance, task=task, note=interrupt)
    assert open_at_end == [False]
