"""Run an endpoint until it fails or is stopped: start it, ping it, follow its log."""

import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Protocol

from rlimages.emulator.endpoint_config import Endpoint, EndpointState, EndpointStatus
from rlimages.emulator.logs import LogFollower, LogSource
from rlimages.system.process import Stop
from rlimages.system.units import format_duration

Ping = Callable[[str], str]
"""Why the server at an address is not healthy; empty when it is."""
STARTING_PING_SECONDS, SERVING_PING_SECONDS = 0.25, 5.0
"""Seconds between two pings, until one has passed and from then on. SageMaker does not say how often it pings."""


class Pinger(Thread):
    """Pings a server from a thread of its own, so that a slow answer holds nothing up."""

    def __init__(self, ping: Ping, address: str, *, once: bool) -> None:
        """`once`: only until a ping has passed."""
        super().__init__(daemon=True)
        self.stop = Event()
        self._ping = ping
        self._address = address
        self._once = once
        self._found: SimpleQueue[str] = SimpleQueue()

    def run(self) -> None:
        """Ping until told to stop."""
        pause = STARTING_PING_SECONDS
        while not self.stop.wait(pause):
            trouble = self._ping(self._address)
            self._found.put(trouble)
            if not trouble:
                pause = SERVING_PING_SECONDS
                if self._once:
                    return

    def found(self) -> list[str]:
        """The troubles of the pings since the last question, empty for each that passed."""
        troubles: list[str] = []
        try:
            while True:
                troubles.append(self._found.get_nowait())
        except Empty:
            return troubles


GRACE = 30.0
"""Seconds that SageMaker leaves between SIGTERM and SIGKILL."""
DONE = "all is done"
"""Why an endpoint ends whose task has ended, well or not. Where it ends first, that is the reason."""
TAIL = 10
"""Lines of its log that an endpoint which fails is shown with."""


class EndpointInstance(LogSource, Protocol):
    """What is asked of the instance behind an endpoint."""

    def start(self) -> str:
        """Start `serve`; what the engine says when it can't, or nothing."""

    def address(self) -> str:
        """Where it listens on this machine."""

    def send(self, signal: str) -> None:
        """Send a signal to its first process, unless it has ended."""

    def starved(self) -> bool:
        """True when the kernel ended it because memory ran out."""


class EndpointSite(Protocol):
    """Where instances are. A test is another site."""

    def instance(self, endpoint: Endpoint) -> AbstractContextManager[EndpointInstance]:
        """The instance of an endpoint, not yet started; it is gone at the end."""


_PATIENCE = 10.0
"""Seconds that a task has to end, once its server has."""
Task = Callable[[str, Stop], None]
"""Work to be done with the server at an address, until it is done or told to stop."""


def run_endpoint(
    endpoint: Endpoint,
    site: EndpointSite,
    *,
    ping: Ping,
    stop: Stop,
    on_line: Callable[[str], None],
    on_state: Callable[[EndpointState], None],
    on_note: Callable[[str], None] = lambda _note: None,
    task: Task | None = None,
    grace: float = GRACE,
) -> EndpointState:
    """Run an endpoint until it is stopped, fails, or its task is done; its last state.

    With a task it is a batch transform's: the task begins when the endpoint is in service, and nothing pings it any
    more. An endpoint that fails is a result, never raised; what the task raises is.
    """
    watch: _EndpointWatch | None = None
    try:
        with site.instance(endpoint) as instance:
            trouble = instance.start()
            if trouble:
                return EndpointState(status=EndpointStatus.FAILED, reason=f"it cannot start serve: {trouble}")
            watch = _EndpointWatch(endpoint, instance, ping, on_line, on_state, on_note, task, grace)
            state = watch.until_ended(stop)
    finally:
        if watch is not None:  # the instance is gone: whoever still asks it has an answer now
            watch.close()
    if state.reason == DONE:
        watch.complain()
    return state


class _EndpointWatch:
    """Follows one instance from its start to its end."""

    def __init__(
        self,
        endpoint: Endpoint,
        instance: EndpointInstance,
        ping: Ping,
        on_line: Callable[[str], None],
        on_state: Callable[[EndpointState], None],
        on_note: Callable[[str], None],
        task: Task | None,
        grace: float,
    ) -> None:
        self._endpoint = endpoint
        self._instance = instance
        self._on_line = on_line
        self._on_state = on_state
        self._on_note = on_note
        self._grace = grace
        self._work = None if task is None else _TaskThread(task)
        self._began = time.monotonic()
        self._last: deque[str] = deque(maxlen=TAIL)
        self._state = EndpointState(status=EndpointStatus.CREATING, address=instance.address())
        self._pinger = Pinger(ping, self._state.address, once=task is not None)
        self._trouble = "it was never pinged"

    def until_ended(self, stop: Stop) -> EndpointState:
        """The state that it ends in."""
        following = LogFollower(self._hear)
        following.begin([self._instance])
        self._pinger.start()
        cause: EndpointState | None = None
        kill_at = float("inf")
        while not following.codes:
            following.take()
            if cause is None:
                self._look()
                cause = self._cause(stop)
                if cause is not None:
                    self._send("SIGTERM", cause.reason)
                    kill_at = time.monotonic() + self._grace
            elif time.monotonic() > kill_at:
                self._send("SIGKILL", f"{format_duration(self._grace)} later it still runs")
                kill_at = float("inf")
        if cause is None:
            (code,) = following.codes.values()
            why = "memory ran out" if self._instance.starved() else f"exit code {code}"
            cause = self._next(EndpointStatus.FAILED, f"its container ended by itself: {why}")
        return cause

    def close(self) -> None:
        """End what still asks the server."""
        self._pinger.stop.set()
        if self._work is not None:
            self._work.end()

    def complain(self) -> None:
        """Raise what the task raised."""
        if self._work is not None and self._work.error is not None:
            raise self._work.error

    def _hear(self, _host: str, line: str) -> None:
        self._last.append(line)
        self._on_line(line)

    def _look(self) -> None:
        """Take what the pings have found: in service with the first that passes, unhealthy with one that doesn't."""
        for trouble in self._pinger.found():
            self._trouble = trouble
            passes = EndpointStatus.UNHEALTHY if trouble else EndpointStatus.IN_SERVICE
            if passes is not self._state.status and not (trouble and self._state.status is EndpointStatus.CREATING):
                self._state = self._next(passes, trouble)
                self._on_state(self._state)
                if self._work is not None:
                    self._work.begin(self._state.address)

    def _cause(self, stop: Stop) -> EndpointState | None:
        """Why it has to end now, if it has to."""
        if self._work is not None and self._work.is_done:
            return self._next(EndpointStatus.STOPPED, DONE)
        if stop.is_set():
            return self._next(EndpointStatus.STOPPED, "it was stopped")
        starting = self._state.status is EndpointStatus.CREATING
        if starting and time.monotonic() - self._began > self._endpoint.startup:
            limit = format_duration(self._endpoint.startup)
            return self._next(EndpointStatus.FAILED, f"it was not healthy within {limit}: {self._trouble}")
        return None

    def _next(self, status: EndpointStatus, reason: str) -> EndpointState:
        return EndpointState(
            status=status,
            reason=reason,
            address=self._state.address,
            seconds=time.monotonic() - self._began,
            last=tuple(self._last),
            before=self._state.status,
        )

    def _send(self, signal: str, why: str) -> None:
        if self._work is not None:
            self._work.stop.set()
        self._on_note(f"{why}; {signal} to {self._instance.name}")
        self._instance.send(signal)


class _TaskThread:
    """A task in a thread of its own."""

    def __init__(self, task: Task) -> None:
        self.stop = Stop()
        self.error: BaseException | None = None
        """What it raised."""
        self._task = task
        self._thread: Thread | None = None

    @property
    def is_done(self) -> bool:
        """True when it has begun and ended."""
        return self._thread is not None and not self._thread.is_alive()

    def begin(self, address: str) -> None:
        """Start it."""
        self._thread = Thread(target=self._run, args=(address,), daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Tell it to stop, and wait until it has; but not for an answer that may never come."""
        self.stop.set()
        if self._thread is not None:
            self._thread.join(_PATIENCE)

    def _run(self, address: str) -> None:
        try:
            self._task(address, self.stop)
        except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
            self.error = error
