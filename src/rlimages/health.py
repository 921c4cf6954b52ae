"""The health of a server: pinged again and again, from a thread of its own."""

from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Event, Thread

Ping = Callable[[str], str]
"""Why the server at an address is not healthy; empty when it is."""
EAGER, CALM = 0.25, 5.0
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
        pause = EAGER
        while not self.stop.wait(pause):
            trouble = self._ping(self._address)
            self._found.put(trouble)
            if not trouble:
                pause = CALM
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
