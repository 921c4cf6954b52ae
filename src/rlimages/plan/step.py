"""A plan: one `BuildStep` for each cell, with its action and the reason; and the options of a run."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

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
    """Everything one `docker buildx build` needs, for one cell."""

    cell: Cell
    action: Action
    reason: str
    changes: tuple[str, ...] = ()
    """Why it is built: each input that is not what it was, one sentence each."""
    source: str = ""
    """Digest of what we wrote for it (`digest.Inputs`)."""
    digest: str = ""
    """Its build digest."""
    ground: tuple[tuple[str, str], ...] = ()
    """What it stands on, and the digests of that."""
    held: str = ""
    """Id of the image that need not be built; empty for what is built."""
    held_size: int = 0
    """Its bytes, all layers unpacked."""
    recipe: str
    """Path of the Dockerfile below the context."""
    image: str
    """The local reference that the result gets."""
    base: str = ""
    """Reference of what it stands on, with account, region and domain filled in."""
    arguments: tuple[tuple[str, str], ...]
    """Build arguments, in the order of the command line."""
    contexts: tuple[tuple[str, str], ...]
    """Named contexts: `buildhost`, and overridden bases by their exact reference."""
    labels: tuple[tuple[str, str], ...] = ()
    needs: tuple[str, ...] = ()
    """Ids of the cells that must be built first."""
    timeout: int
    """Seconds."""
    epoch: int | None = None
    """Seconds since 1970 that become the image's date of creation; None for now."""
    no_cache: bool = False
    """Build from nothing, whatever the builder remembers."""
    cache_from: tuple[str, ...] = ()
    """Images in registries whose layers are taken where they fit; one that is not there is passed over."""
    inline_cache: bool = False
    """Write into the image what makes it one of those."""


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
