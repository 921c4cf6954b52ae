"""The run context: the environment of a command, its stop signal and its output for notes, passed down as one value."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from rlimages.errors import Interrupted
from rlimages.system.process import Stop


def _discard(_line: str) -> None:
    """Print nothing."""


@dataclass(frozen=True, kw_only=True)
class RunContext:
    """The environment of one command, passed down from the command line."""

    environ: Mapping[str, str]
    """Environment variables."""
    stop: Stop
    """Set by SIGINT or SIGTERM. Long loops check it and stop early."""
    note: Callable[[str], None] = _discard
    """Prints one line for people on standard error, apart from the result."""

    def check_stop(self) -> None:
        """Raise `Interrupted` if the user asked to stop."""
        if self.stop.is_set():
            raise Interrupted("interrupted")
