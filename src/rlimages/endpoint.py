"""Run one endpoint as SageMaker's hosting would: start it, wait for its health, watch over it, end it."""

import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from threading import Thread
from typing import Protocol

from rlimages.following import Followed, Following
from rlimages.health import Ping, Pinger
from rlimages.hosting import Endpoint
from rlimages.job_results import EndpointState, EndpointStatus
from rlimages.report import duration
from rlimages.shell import Stop

GRACE = 30.0
"""Seconds that SageMaker leaves between SIGTERM and SIGKILL."""
DONE = "all is done"
"""Why an endpoint ends whose task has ended, well or not. Where it ends first, that is the reason."""
TAIL = 10
"""Lines of its log that an endpoint which fails is shown with."""


class Instance(Followed, Protocol):
    """What is asked of the instance behind an endpoint."""

    def start(self) -> str:
        """Start `serve`; what the engine says when it can't, or nothing."""

    def address(self) -> str:
        """Where it listens on this machine."""

    def send(self, signal: str) -> None:
        """Send a signal to its first process, unless it has ended."""

    def starved(self) -> bool:
        """True when the kernel ended it because memory ran out."""


class Site(Protocol):
    """Where instances are. A test is another site."""

    def instance(self, endpoint: Endpoint) -> AbstractContextManager[Instance]:
        """The instance of an endpoint, not yet started; it is gone at the end."""


_PATIENCE = 10.0
"""Seconds that a task has to end, once its server has."""
Task = Callable[[str, Stop], None]
"""Work to be done with the server at an address, until it is done or told to stop."""


def serve(
    endpoint: Endpoint,
    site: Site,
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
    watch: _Watch | None = None
    try:
        with site.instance(endpoint) as instance:
            trouble = instance.start()
            if trouble:
                return EndpointState(status=EndpointStatus.FAILED, reason=f"it cannot start serve: {trouble}")
            watch = _Watch(endpoint, instance, ping, on_line, on_state, on_note, task, grace)
            state = watch.until_ended(stop)
    finally:
        if watch is not None:  # the instance is gone: whoever still asks it has an answer now
            watch.close()
    if state.reason == DONE:
        watch.complain()
    return state


class _Watch:
    """Follows one instance from its start to its end."""

    def __init__(
        self,
        endpoint: Endpoint,
        instance: Instance,
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
        self._work = None if task is None else _Work(task)
        self._began = time.monotonic()
        self._last: deque[str] = deque(maxlen=TAIL)
        self._state = EndpointState(status=EndpointStatus.CREATING, address=instance.address())
        self._pinger = Pinger(ping, self._state.address, once=task is not None)
        self._trouble = "it was never pinged"

    def until_ended(self, stop: Stop) -> EndpointState:
        """The state that it ends in."""
        following = Following(self._hear)
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
                self._send("SIGKILL", f"{duration(self._grace)} later it still runs")
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
            limit = duration(self._endpoint.startup)
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


class _Work:
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
