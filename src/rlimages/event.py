"""What a run tells of while it goes on."""

from dataclasses import dataclass

from rlimages.plan import Stage
from rlimages.results import Outcome


@dataclass(frozen=True, kw_only=True, slots=True)
class Event:
    """Something began, moved or ended. Callbacks get one at a time, never two at once."""

    cell: str
    stage: Stage
    outcome: Outcome | None
    """None while it goes on."""
    detail: str
    """What is being done now; at the end the reason, if there is one to give."""
    seconds: float
    """Since the stage began."""
    done: int
    """Cells that are finished, of `total`."""
    total: int
