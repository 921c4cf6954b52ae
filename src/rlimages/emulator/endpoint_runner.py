"""Run an endpoint until it fails or is stopped: start its container, ping the server, follow the log.

The container is a Docker container in production (`containers.open_endpoint`) and a fake in tests.
"""

import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from queue import Empty, SimpleQueue
from threading import Event, Thread
from typing import Protocol

from rlimages.emulator.endpoint import Endpoint, EndpointState, EndpointStatus
from rlimages.emulator.logs import LogFollower, LogSource
from rlimages.system.context import RunContext
from rlimages.system.process import Stop
from rlimages.system.units import format_duration

GRACE = 30.0
"""Seconds between SIGTERM and SIGKILL, as for the containers of SageMaker's endpoints."""
STARTING_PING_SECONDS, SERVING_PING_SECONDS = 0.25, 5.0
"""Seconds between two pings until one succeeds, and from then on. SageMaker does not document its own interval."""
LAST_LINES = 10
"""Number of lines at the end of the log that are kept for the message about an endpoint that failed."""
TASK_DONE = "the task is done"
"""Reason of the last state if the endpoint ended because its task was done."""
_TASK_WAIT_SECONDS = 10.0
"""Longest wait in seconds for the end of a task, after the container has been removed."""

Ping = Callable[[str], str]
"""A function that pings the server at a URL.

It returns an empty string if the server is healthy, else one sentence about the problem.
"""
Task = Callable[[str, Stop], None]
"""Work that sends requests to the server at a URL. It ends early when the event is set."""


class EndpointInstance(LogSource, Protocol):
    """The part of an endpoint's container that `run_endpoint` uses; tests implement it with a fake."""

    def start(self) -> str:
        """Start `serve` in the container. Returns an error message if it cannot be started, else an empty string."""

    def address(self) -> str:
        """Return the URL of the server, such as `http://127.0.0.1:8080`; an empty string if the container has ended."""

    def send_signal(self, signal: str) -> None:
        """Send `signal`, such as `SIGTERM`, to the first process of the container.

        Does nothing if the container has ended.
        """

    def ran_out_of_memory(self) -> bool:
        """Return True if the kernel killed a process of the container because it used too much memory."""


class Pinger(Thread):
    """A thread that pings a server regularly, so that a slow answer delays neither the log nor a signal."""

    def __init__(self, ping: Ping, address: str, *, until_healthy: bool) -> None:
        """Ping the server at the URL `address` with the function `ping`.

        With `until_healthy`, stop after the first success.
        """
        super().__init__(daemon=True)
        self.stop = Event()
        """Set to end the thread."""
        self._ping = ping
        self._address = address
        self._until_healthy = until_healthy
        self._results: SimpleQueue[str] = SimpleQueue()

    def run(self) -> None:
        """Ping until `stop` is set, or until the first success if `until_healthy` is set."""
        pause = STARTING_PING_SECONDS
        while not self.stop.wait(pause):
            problem = self._ping(self._address)
            self._results.put(problem)
            if not problem:
                pause = SERVING_PING_SECONDS
                if self._until_healthy:
                    return

    def take_results(self) -> list[str]:
        """Return the results of the pings since the last call: an empty string for a success, else the problem."""
        results: list[str] = []
        try:
            while True:
                results.append(self._results.get_nowait())
        except Empty:
            return results


def run_endpoint(
    endpoint: Endpoint,
    open_instance: AbstractContextManager[EndpointInstance],
    *,
    ping: Ping,
    context: RunContext,
    on_line: Callable[[str], None],
    on_state: Callable[[EndpointState], None],
    task: Task | None = None,
    grace: float = GRACE,
) -> EndpointState:
    """Run `endpoint` until it fails, `context.stop` is set, or its task is done. Returns its last state.

    `open_instance` creates the container when it is entered, and removes it at the end. `ping` tests whether the server
    is healthy. `on_line` gets each line of the log, `on_state` each state between the first and the last. `task` is the
    work of a batch transform job: it starts when the endpoint is in service, and from then on there are no more pings.
    To end a running container, SIGTERM is sent, and SIGKILL `grace` seconds later. An endpoint that fails is a result,
    not an exception. Raises the error of the task, unless the endpoint ended before the task.
    """
    monitor: _EndpointMonitor | None = None
    try:
        with open_instance as instance:
            message = instance.start()
            if message:
                return EndpointState(status=EndpointStatus.FAILED, reason=f"cannot start serve: {message}")
            monitor = _EndpointMonitor(endpoint, instance, ping, context, on_line, on_state, task, grace)
            state = monitor.wait_for_end()
    finally:
        # Only now, after the container was removed: the requests of pings and task that are still open fail at once.
        if monitor is not None:
            monitor.close()
    if state.reason == TASK_DONE:
        monitor.raise_task_error()
    return state


class _EndpointMonitor:
    """Follows the container of an endpoint, which was started already, to its end."""

    def __init__(
        self,
        endpoint: Endpoint,
        instance: EndpointInstance,
        ping: Ping,
        context: RunContext,
        on_line: Callable[[str], None],
        on_state: Callable[[EndpointState], None],
        task: Task | None,
        grace: float,
    ) -> None:
        """Prepare the thread that pings `instance`, and one for `task`, if there is a task.

        The other arguments are those of `run_endpoint`.
        """
        self._endpoint = endpoint
        self._instance = instance
        self._context = context
        self._on_line = on_line
        self._on_state = on_state
        self._grace = grace
        self._task = None if task is None else _TaskThread(task)
        self._started = time.monotonic()
        self._last_lines: deque[str] = deque(maxlen=LAST_LINES)
        self._state = EndpointState(status=EndpointStatus.CREATING, address=instance.address())
        self._pinger = Pinger(ping, self._state.address, until_healthy=task is not None)
        self._problem = "no ping was answered yet"

    def wait_for_end(self) -> EndpointState:
        """Follow the log and the pings until the container has ended. Returns the last state of the endpoint."""
        logs = LogFollower(self._process_line)
        logs.start([self._instance])
        self._pinger.start()
        end: EndpointState | None = None
        kill_at = float("inf")
        while not logs.codes:
            logs.process_events()
            if end is None:
                self._update_state()
                end = self._find_end()
                if end is not None:
                    self._signal_instance("SIGTERM", end.reason)
                    kill_at = time.monotonic() + self._grace
            elif time.monotonic() > kill_at:
                self._signal_instance("SIGKILL", f"still running after {format_duration(self._grace)}")
                kill_at = float("inf")
        if end is None:
            (code,) = logs.codes.values()
            why = "out of memory" if self._instance.ran_out_of_memory() else f"exit code {code}"
            end = self._next_state(EndpointStatus.FAILED, f"the container ended by itself: {why}")
        return end

    def close(self) -> None:
        """End the thread of the pings, and the task if it still runs."""
        self._pinger.stop.set()
        if self._task is not None:
            self._task.end()

    def raise_task_error(self) -> None:
        """Raise the error that the task raised, if there is one."""
        if self._task is not None and self._task.error is not None:
            raise self._task.error

    def _process_line(self, _host: str, line: str) -> None:
        """Pass `line` of the log to `on_line`, and keep it as one of the last lines."""
        self._last_lines.append(line)
        self._on_line(line)

    def _update_state(self) -> None:
        """Enter the states that follow from the new pings: in service after a success, unhealthy after a failure.

        Each new state is passed to `on_state`, and the first success starts the task. A failed ping of an endpoint that
        was never in service changes nothing: it is still starting.
        """
        for problem in self._pinger.take_results():
            self._problem = problem
            status = EndpointStatus.UNHEALTHY if problem else EndpointStatus.IN_SERVICE
            is_starting = bool(problem) and self._state.status is EndpointStatus.CREATING
            if status is not self._state.status and not is_starting:
                self._state = self._next_state(status, problem)
                self._on_state(self._state)
                if self._task is not None:
                    self._task.start(self._state.address)

    def _find_end(self) -> EndpointState | None:
        """Return the last state if the endpoint has to end now, else None.

        It ends if its task is done, if the user stops it, or if no ping succeeded within the startup time limit.
        """
        if self._task is not None and self._task.is_done:
            return self._next_state(EndpointStatus.STOPPED, TASK_DONE)
        if self._context.stop.is_set():
            kind = "job" if self._endpoint.is_batch else "endpoint"
            return self._next_state(EndpointStatus.STOPPED, f"the {kind} was stopped")
        is_starting = self._state.status is EndpointStatus.CREATING
        if is_starting and time.monotonic() - self._started > self._endpoint.startup:
            limit = format_duration(self._endpoint.startup)
            return self._next_state(EndpointStatus.FAILED, f"not healthy within {limit}: {self._problem}")
        return None

    def _next_state(self, status: EndpointStatus, reason: str) -> EndpointState:
        """Return a state with `status` and the sentence `reason` that comes after the current state."""
        return EndpointState(
            status=status,
            reason=reason,
            address=self._state.address,
            seconds=time.monotonic() - self._started,
            last_lines=tuple(self._last_lines),
            previous=self._state.status,
        )

    def _signal_instance(self, signal: str, why: str) -> None:
        """Stop the task, note the reason `why`, and send `signal` to the container."""
        if self._task is not None:
            self._task.stop.set()
        self._context.note(f"{why}; sending {signal} to {self._instance.name}")
        self._instance.send_signal(signal)


class _TaskThread:
    """The thread of a task. `start` starts it once the endpoint is in service."""

    def __init__(self, task: Task) -> None:
        """Prepare the thread for `task`."""
        self.stop = Stop()
        """Set when the task has to end. Not the user's stop signal, as the end of the container ends the task too."""
        self.error: BaseException | None = None
        """The error that the task raised; None if it raised none."""
        self._task = task
        self._thread: Thread | None = None

    @property
    def is_done(self) -> bool:
        """True if the task was started and has ended."""
        return self._thread is not None and not self._thread.is_alive()

    def start(self, address: str) -> None:
        """Start the task with the URL `address` of the server."""
        self._thread = Thread(target=self._run, args=(address,), daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Set `stop`, and wait at most ten seconds for the end of the task."""
        self.stop.set()
        if self._thread is not None:
            self._thread.join(_TASK_WAIT_SECONDS)

    def _run(self, address: str) -> None:
        """Run the task, and keep its error."""
        try:
            self._task(address, self.stop)
        except BaseException as error:  # noqa: BLE001 - raised again in `raise_task_error`
            self.error = error
