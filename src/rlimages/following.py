"""Follow what runs: hand on each line that it prints, one at a time, and remember how each of several ended."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, Queue
from threading import Thread
from typing import Protocol

OnLine = Callable[[str, str], None]
"""Hears the host and the line that it printed, one at a time."""
_GLANCE = 0.1
_HANDFUL = 1000
"""Lines between two looks at the clock, however much a program prints."""


class Followed(Protocol):
    """What is asked of one that runs."""

    name: str

    def follow(self, on_line: Callable[[str], None]) -> int:
        """Hand on each line that it prints, until it ends; its exit code."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Ended:
    """How one ended, or what kept us from knowing."""

    name: str
    code: int = 0
    error: Exception | None = None


class Following:
    """Several that run, from their start to their end."""

    def __init__(self, on_line: OnLine) -> None:
        self.codes: dict[str, int] = {}
        """Name -> exit code, of those that have ended."""
        self._on_line = on_line
        self._happened: Queue[_Ended | tuple[str, str]] = Queue(maxsize=_HANDFUL)

    def begin(self, hosts: Sequence[Followed]) -> None:
        """Follow them all; each is heard in `take`."""
        for host in hosts:
            Thread(target=self._follow, args=(host,), daemon=True).start()

    def take(self) -> None:
        """Take what has happened within a moment: lines are handed on, an end is written down."""
        with suppress(Empty):
            for number in range(_HANDFUL):
                event = self._happened.get(timeout=0 if number else _GLANCE)
                if isinstance(event, tuple):
                    self._on_line(*event)
                elif event.error is not None:
                    raise event.error
                else:
                    self.codes[event.name] = event.code
                    return

    def _follow(self, host: Followed) -> None:
        try:
            code = host.follow(lambda line: self._happened.put((host.name, line)))
        except Exception as error:  # noqa: BLE001 - raised again by whoever waits
            self._happened.put(_Ended(name=host.name, error=error))
        else:
            self._happened.put(_Ended(name=host.name, code=code))
