"""The values of a plan: one `BuildStep` for each cell, with its action and the reason; and the options of a run."""

from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from rlimages.engine.protocol import BuildRequest
from rlimages.matrix.cell import Cell
from rlimages.system.machine import DISK_FLOOR


class Stage(StrEnum):
    """The stages of a run, in the order in which a cell goes through them."""

    BUILD = "build"
    SMOKE = "smoke"
    PUBLISH = "publish"


class Action(StrEnum):
    """The decision what a run does for one cell of a plan."""

    BUILD = "build"
    """The image of the cell is built."""
    REUSE = "reuse"
    """Nothing is built: the local image with the cell's name was built from exactly the current inputs."""
    RETAG = "retag"
    """Nothing is built: an image of exactly the current inputs exists under another name, and gets the cell's name.

    That image is in the local store or, if the run publishes, in the registry.
    """
    SKIP = "skip"
    """Nothing is built, checked or published for the cell."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildStep:
    """One cell of a plan, with the decision about it and the build request that makes its image."""

    cell: Cell
    action: Action
    reason: str
    """A clause for people that says why the plan has this `action` for the cell."""
    request: BuildRequest
    """The parameters of the build. The tag in it is used for other actions too."""
    changes: tuple[str, ...] = ()
    """One sentence for each input that changed since the cell's image was built; empty if the changes are not known."""
    source: str = ""
    """The source digest: of all inputs in the project (Dockerfile, lock, copied and mounted files), without base."""
    digest: str = ""
    """The build digest: of all inputs, the base image's digest included. Empty until `plan.decisions` computed it."""
    base: str = ""
    """Reference of the base image, with account, region and domain filled in."""
    base_digests: tuple[tuple[str, str], ...] = ()
    """Pairs of what the image is built FROM, `base <reference>` or `parent <cell id>`, and its digest.

    The digest is empty if it is not known.
    """
    needs: tuple[str, ...] = ()
    """Ids of the cells of this plan that must be built before this cell."""
    image_id: str = ""
    """Id of the existing image that is used with REUSE and RETAG; empty for BUILD and SKIP."""
    image_size: int = 0
    """Unpacked size in bytes of the image `image_id`; 0 if there is none."""

    def with_request(self, **changes: Any) -> "BuildStep":
        """Return a copy of this step with fields of its build request replaced: `changes` has field name -> value."""
        return replace(self, request=replace(self.request, **changes))


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildPlan:
    """The steps of one run."""

    steps: tuple[BuildStep, ...]
    """One step for each cell, parents before children."""
    jobs: int
    """Number of builds that run at the same time."""

    def steps_with(self, *actions: Action) -> tuple[BuildStep, ...]:
        """Return the steps whose action is one of `actions`, in the order of the plan."""
        return tuple(step for step in self.steps if step.action in actions)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunOptions:
    """The command line options of `build`, `smoke`, `publish`, `run` and `plan`."""

    stages: tuple[Stage, ...]
    """The stages that the command runs."""
    command: str
    """Name of the command, which is shown in the report."""
    to: str = ""
    """A registry to publish to that is not in `targets.yaml`: `host[:port][/prefix]`; empty for none."""
    target: str = ""
    """Name of a target of `targets.yaml` to publish to; empty for none."""
    allow_older: bool = False
    """True if a tag may be moved back from a newer image to an older one."""
    region: str | None = None
    """AWS region from which base images are pulled; None for the default region of the account tables."""
    overrides: tuple[str, ...] = ()
    """Base overrides, `REGEX=REFERENCE`: rules that replace base images by other images."""
    override_file: Path | None = None
    """File with one base override, `REGEX=REFERENCE`, on each line."""
    wheels: tuple[Path, ...] = ()
    """Folders with wheels and source packages that builds can install without downloading them."""
    jobs: int | None = None
    """Number of builds that run at the same time; None for a number that fits the machine."""
    timeout: int | None = None
    """Seconds for each build; None for the timeout of the matrix."""
    cache_from: tuple[str, ...] = ()
    """Registries, `host[:port][/prefix]`, whose images serve as layer cache of builds."""
    inline_cache: bool = False
    """Write cache metadata into the images, so that later builds can use them as layer cache (`cache_from`)."""
    disk_floor: int = DISK_FLOOR
    """Bytes that must stay free on the disk of the engine's data."""
    fresh: bool = False
    """Reuse no image from the registry, and run also checks that passed before for the identical image."""
    no_cache: bool = False
    """Build all selected cells without the builder's cache, even those whose image is up to date."""
