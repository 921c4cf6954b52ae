"""A plan: one `BuildStep` for each cell, with its action and the reason; and the options of a run."""

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from rlimages.engine.protocol import BuildRequest
from rlimages.matrix.cell import Cell
from rlimages.system.machine import DISK_FLOOR


class Stage(StrEnum):
    """What can be done to a cell, in this order."""

    BUILD = "build"
    SMOKE = "smoke"
    PUBLISH = "publish"


class Action(StrEnum):
    """What a step does with its cell."""

    BUILD = "build"
    REUSE = "reuse"
    """The image that its name names here was made from these very inputs."""
    RETAG = "retag"
    """Such an image is there, under another name or in the registry: it gets the name, and nothing is built."""
    SKIP = "skip"


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildStep:
    """The decision about one cell of a plan, and the build request that makes its image."""

    cell: Cell
    action: Action
    reason: str
    request: BuildRequest
    changes: tuple[str, ...] = ()
    """Why the cell is built: one sentence for each input that changed since its image was built."""
    source: str = ""
    """Digest of the files that this project owns: Dockerfile, lock and mounted files (`plan.inputs.Inputs`)."""
    digest: str = ""
    """The build digest: of all inputs, the base image's digest among them."""
    base: str = ""
    """Reference of the base image, with account, region and domain filled in."""
    base_digests: tuple[tuple[str, str], ...] = ()
    """The base image, and the parent cell if there is one, each with its digest."""
    needs: tuple[str, ...] = ()
    """Ids of the cells that must be built first."""
    image_id: str = ""
    """Id of the local image that is reused; empty for a build."""
    image_size: int = 0
    """Unpacked size of the reused image in bytes."""

    def with_request(self, **changes: Any) -> "BuildStep":
        """Return the same step with some fields of its build request replaced."""
        return replace(self, request=replace(self.request, **changes))


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildPlan:
    """The steps of one run, parents before children."""

    steps: tuple[BuildStep, ...]
    jobs: int
    """How many builds run at once."""

    def of(self, *actions: Action) -> tuple[BuildStep, ...]:
        """The steps that do one of these."""
        return tuple(step for step in self.steps if step.action in actions)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOptions:
    """What the command line says about a run."""

    stages: tuple[Stage, ...]
    command: str
    to: str = ""
    """A plain registry to publish to: `host[:port][/prefix]`."""
    target: str = ""
    """A target of `targets.yaml` to publish to."""
    allow_older: bool = False
    """Tags may go back to an older image."""
    region: str | None = None
    overrides: tuple[str, ...] = ()
    override_file: Path | None = None
    wheels: tuple[Path, ...] = ()
    jobs: int | None = None
    timeout: int | None = None
    cache_from: tuple[str, ...] = ()
    """Registries whose images lend their layers."""
    inline_cache: bool = False
    """Make images that can lend theirs."""
    disk_floor: int = DISK_FLOOR
    """Bytes that builds leave free where the engine keeps its data."""
    fresh: bool = False
    """Run checks again that passed before for this very image."""
    no_cache: bool = False
    """Build also what is up to date, and from nothing."""
