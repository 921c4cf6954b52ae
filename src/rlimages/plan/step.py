"""A plan as a value: one `BuildStep` for each cell, with its action and the reason; and the options of a run."""

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from rlimages.engine.protocol import BuildRequest
from rlimages.matrix.cell import Cell
from rlimages.system.machine import DISK_FLOOR


class Stage(StrEnum):
    """The stages of a run, in their order."""

    BUILD = "build"
    SMOKE = "smoke"
    PUBLISH = "publish"


class Action(StrEnum):
    """The decision about one cell of a plan."""

    BUILD = "build"
    REUSE = "reuse"
    """The local image with the cell's name was built from exactly these inputs."""
    RETAG = "retag"
    """Such an image exists under another name or in the registry. It gets the cell's name; nothing is built."""
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
    """Digest of the files that this project owns: Dockerfile, lock and mounted files (`plan.inputs.CellInputs`)."""
    digest: str = ""
    """The build digest: of all inputs, the base image's digest among them."""
    base: str = ""
    """Reference of the base image, with account, region and domain filled in."""
    base_digests: tuple[tuple[str, str], ...] = ()
    """`base <reference>` or `parent <cell id>`, with its digest; the digest is empty if it is not known."""
    needs: tuple[str, ...] = ()
    """Ids of the cells of this plan that must be built first."""
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
    """Number of builds that run at the same time."""

    def steps_with(self, *actions: Action) -> tuple[BuildStep, ...]:
        """Return the steps that have one of these actions."""
        return tuple(step for step in self.steps if step.action in actions)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOptions:
    """The options of `build`, `smoke`, `publish`, `run` and `plan`."""

    stages: tuple[Stage, ...]
    command: str
    """Name of the command, for the report."""
    to: str = ""
    """A plain registry to publish to: `host[:port][/prefix]`."""
    target: str = ""
    """A target of `targets.yaml` to publish to."""
    allow_older: bool = False
    """Tags may be moved back to an older image."""
    region: str | None = None
    """AWS region from which base images are pulled; None for the default of the account table."""
    overrides: tuple[str, ...] = ()
    """Base overrides, `REGEX=REFERENCE`."""
    override_file: Path | None = None
    """File with one base override on each line."""
    wheels: tuple[Path, ...] = ()
    """Folders with wheels that builds can install."""
    jobs: int | None = None
    """Number of builds that run at the same time; None for a number that fits the machine."""
    timeout: int | None = None
    """Seconds for each build; None for the timeout of the matrix."""
    cache_from: tuple[str, ...] = ()
    """Registries whose images serve as layer cache."""
    inline_cache: bool = False
    """Build images that can serve as layer cache later."""
    disk_floor: int = DISK_FLOOR
    """Free disk in bytes that builds leave where the engine keeps its data."""
    fresh: bool = False
    """Run also checks that passed before for this very image."""
    no_cache: bool = False
    """Build also what is up to date, without any cache."""
