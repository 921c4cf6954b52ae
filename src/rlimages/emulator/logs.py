"""Follow the logs of several containers at once, until each has ended."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, Queue
from threading import Thread
from typing import Protocol

OnLine = Callable[[str, str], None]
"""Called with the name of a host and a line of its log, always from the same thread."""
_POLL_SECONDS = 0.1
"""How long `process_events` waits for the first event."""
_BATCH = 1000
"""Events that `process_events` handles in one call. A program that never stops printing must not keep it busy."""


class LogSource(Protocol):
    """The part of a container that `LogFollower` uses; tests implement it with a fake."""

    name: str

    def follow(self, on_line: Callable[[str], None]) -> int:
        """Pass each line of the log to `on_line` until the container ends. Returns its exit code."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _LogEnd:
    """The end of one container's log: its exit code, or the error that ended the reading."""

    name: str
    code: int = 0
    error: Exception | None = None


class LogFollower:
    """Reads the log of each container in a thread of its own, and passes all lines to one callback."""

    def __init__(self, on_line: OnLine) -> None:
        self.codes: dict[str, int] = {}
        """Name -> exit code of the containers that have ended."""
        self._on_line = on_line
        self._events: Queue[_LogEnd | tuple[str, str]] = Queue(maxsize=_BATCH)

    def start(self, sources: Sequence[LogSource]) -> None:
        """Start to read the logs. The lines wait in a queue for `process_events`."""
        for source in sources:
            Thread(target=self._follow, args=(source,), daemon=True).start()

    def process_events(self) -> None:
        """Pass the queued lines to the callback and store exit codes. Returns after the first container that ended.

        Waits a tenth of a second if the queue is empty. Raises the error of a thread that could not read its log.
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
        try:
            code = source.follow(lambda line: self._events.put((source.name, line)))
        except Exception as error:  # noqa: BLE001 - raised again in `process_events`
            self._events.put(_LogEnd(name=source.name, error=error))
        else:
            self._events.put(_LogEnd(name=source.name, code=code))
