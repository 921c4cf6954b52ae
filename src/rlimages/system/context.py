"""The run context: the environment of a command, its stop signal and its output for notes, passed down as one value."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rlimages.errors import Interrupted
from rlimages.system.process import Stop


def _discard(_line: str) -> None:
    """Ignore a note: the default of `RunContext.note`."""


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """The environment variables, the stop signal and the output for notes of one command."""

    environ: Mapping[str, str]
    """The environment variables of the command."""
    stop: Stop
    """The event that SIGINT or SIGTERM sets. Long loops check it and stop early."""
    note: Callable[[str], None] = _discard
    """The function that prints one line for people to standard error. Results go to standard output."""

    def check_stop(self) -> None:
        """Raise `Interrupted` if SIGINT or SIGTERM has set `stop`."""
        if self.stop.is_set():
            raise Interrupted("interrupted")
