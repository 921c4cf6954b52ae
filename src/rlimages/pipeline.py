"""Take every cell as far as it goes: build, smoke, publish. A broken cell stops itself, never its neighbours."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from rlimages.engine import Engine
from rlimages.plan import BuildPlan
from rlimages.results import Outcome, RunReport
from rlimages.shell import Stop


class Stage(StrEnum):
    """What can be done to a cell, in this order."""

    BUILD = "build"
    SMOKE = "smoke"
    PUBLISH = "publish"


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
    done: int
    """Cells that are finished, of `total`."""
    total: int


def run(
    plan: BuildPlan,
    *,
    root: Path,
    folder: Path,
    engine: Engine,
    command: str = "",
    stages: Collection[Stage] = tuple(Stage),
    to: str = "",
    proofs: Path | None = None,
    check_timeout: float = 600,
    stop: Stop | None = None,
    on_event: Callable[[Event], None] = lambda _event: None,
) -> RunReport:
    """Run the stages for each cell of the plan, `plan.jobs` cells at a time, and report what happened to all of them.

    `root` is the project and the build context; `folder` the run's folder (logs go to `logs/<cell>/`), whose name is
    the run's; `to` the registry to publish to, as `host[:port][/prefix]`. With `proofs`, a check that passed before for
    this very image and program is not run again. When `stop` is set, all that runs ends, and the report still comes.
    """
    raise NotImplementedError
