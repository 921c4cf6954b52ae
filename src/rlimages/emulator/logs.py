"""Follow the logs of several containers at once, until each has ended."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, Queue
from threading import Thread
from typing import Protocol

OnLine = Callable[[str, str], None]
"""A function that gets the name of a container and a line of its log.

It is called by `LogFollower.process_events` only, so that it runs in one thread.
"""
_POLL_SECONDS = 0.1
"""Seconds that `process_events` waits for the first event."""
_BATCH = 1000
"""Largest number of events in one call of `process_events`, and in the queue.

A program that never stops printing must not keep it busy.
"""


class LogSource(Protocol):
    """The part of a container that `LogFollower` uses; tests implement it with a fake."""

    name: str
    """The name of the container, to which its lines and its exit code belong."""

    def follow(self, on_line: Callable[[str], None]) -> int:
        """Pass each line of the container's log to `on_line` until the container ends. Returns its exit code."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _LogEnd:
    """The end of the log of the container `name`: its exit code, or the error that ended the reading."""

    name: str
    code: int = 0
    error: Exception | None = None


class LogFollower:
    """Reads the log of each container in a thread of its own, and passes all lines to one function."""

    def __init__(self, on_line: OnLine) -> None:
        """Pass every line of every log to `on_line`, from the thread that calls `process_events`."""
        self.codes: dict[str, int] = {}
        """Exit code of each container that has ended, by the container's name."""
        self._on_line = on_line
        # A full queue blocks the reading threads, so that a long log does not fill the memory.
        self._events: Queue[_LogEnd | tuple[str, str]] = Queue(maxsize=_BATCH)

    def start(self, sources: Sequence[LogSource]) -> None:
        """Start a thread for each container of `sources`, which reads its log.

        The lines wait in a queue for `process_events`.
        """
        for source in sources:
            Thread(target=self._follow, args=(source,), daemon=True).start()

    def process_events(self) -> None:
        """Pass the queued lines to `on_line`, and store the exit code of the first container that ended in `codes`.

        Returns when the queue is empty, when a container has ended, or after 1000 lines. Waits at most a tenth of a
        second for the first line. Raises the error of a thread that could not read its log.
        """
        with suppress(Empty):
            for number in range(_BATCH):
                event = self._events.get(timeout=0 if number else _POLL_SECONDS)
                if isinstance(event, tuple):
                    self._on_line(*event)
                elif event.error is not None:
                    raise event.error
                else:
                    self.codes[event.name] = event.code
                    return

    def _follow(self, source: LogSource) -> None:
        """Put each line of the log of `source` into the queue, and at its end the exit code or the error."""
        try:
            code = source.follow(lambda line: self._events.put((source.name, line)))
        except Exception as error:  # noqa: BLE001 - raised again in `process_events`
            self._events.put(_LogEnd(name=source.name, error=error))
        else:
            self._events.put(_LogEnd(name=source.name, code=code))
