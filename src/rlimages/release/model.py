"""The values of a release: its images, its registries and their state."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from rlimages.matrix.cell import Cell
from rlimages.oci.manifest import Blob, PackedContent
from rlimages.registry.auth import Credentials
from rlimages.registry.client import RegistryClient
from rlimages.registry.ecr import EcrClient
from rlimages.registry.http import RequestCounter


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseItem:
    """One image of a release, and what it will be called."""

    cell: str
    repository: str
    image: str
    """Its id in the local store, which is the digest of its configuration."""
    tags: tuple[str, ...]
    build: str = ""
    """Its build digest (`digest.Inputs`); empty where it does not say."""


def build_tag(build: str) -> str:
    """The tag by which a registry is asked for an image with this build digest."""
    return f"build-{build[:32]}"


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetRegistry:
    """One registry of a release."""

    name: str
    """How people call it: `production/us-west-2`."""
    host: str
    prefix: str = ""
    floating: tuple[str, ...] = ("*",)
    """Patterns of tags that may move; all others hold one image for ever."""

    held_by_tag: bool = False
    """Whether a tag of this run holds an image until its own tags come: where a registry clears away what has none."""

    def repository(self, item: ReleaseItem) -> str:
        """An item's repository here."""
        return f"{self.prefix}/{item.repository}" if self.prefix else item.repository

    def may_move(self, tag: str) -> bool:
        """Whether a tag may go from one image to another."""
        return any(fnmatchcase(tag, pattern) for pattern in self.floating)


Fetch = Callable[[ReleaseItem, Callable[[Blob], bool]], PackedContent]
"""Gives an item's content; blobs to which the function says no are not needed."""
Untag = Callable[[str, str], bool]
"""Removes one tag of a repository; False where the registry does not offer that."""


class ReleaseState(StrEnum):
    """How a place stands at the end."""

    RELEASED = "released"
    UNTOUCHED = "untouched"
    """No tag was moved."""
    BETWEEN = "in between"
    """Some tags were moved and some were not: to be resumed, or rolled back."""
    ROLLED_BACK = "rolled back"


def release_item(cell: Cell, image: str, build: str = "") -> ReleaseItem:
    """A cell's image under all the names that the matrix gives it; `build` is its build digest."""
    return ReleaseItem(cell=cell.id, repository=cell.repository, image=image, tags=cell.tags, build=build)


@dataclass(frozen=True, kw_only=True)
class RegistryConnection:
    """A place, and the line to it."""

    place: TargetRegistry
    registry: RegistryClient
    meter: RequestCounter
    credentials: Credentials
    """Who we are there."""
    untag: Untag | None = None
    """ECR's own way to remove a tag."""
    ensure: Callable[[str], bool] = lambda _repository: False
    """Creates a repository where there is none; True when it did."""
    ecr: EcrClient | None = None


ReportProgress = Callable[[str, str], None]
"""Hears of each move: the place, and what is done there."""
CheckRequirements = Callable[[RegistryConnection, Mapping[ReleaseItem, str]], None]
"""Does what a target asks of its images, which are there under these digests."""
REQUIREMENT_EVENT = "demanded"
"""Event of a journal: what a place demanded of an image, and what came of it, in the words of `Demand`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RequirementCheck:
    """What a place demanded of one image, and what came of it."""

    cell: str
    demand: str
    """`scan`, `signature` or `contents`."""
    passed: bool
    said: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistryResult:
    """How one place stands at the end of a release."""

    place: str
    state: ReleaseState
    reason: str
    """Why it is not released, in one sentence; empty when it is."""
    digests: Mapping[str, str]
    """Cell -> digest of its manifest here; of those that came that far."""
    references: Mapping[str, tuple[str, ...]]
    """Cell -> the full names of its image here."""
    moved: Mapping[str, tuple[str, ...]]
    """Cell -> the tags that this release had to move."""
    demands: tuple[RequirementCheck, ...]
    """What came of what the place demanded of the images, the last time."""
    calls: Mapping[str, int]
    """ECR's name of a call -> how often."""
    uploads: int
    """Blobs that had to travel."""
    bytes: int
    """Of these."""
    seconds: float


MountSources = Callable[[RegistryConnection], Sequence[str]]
"""Gives the repositories of a place that may have a release's layers already."""
