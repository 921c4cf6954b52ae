"""The values of a release: its images, the registries that they go to, and the state of each registry."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase

from rlimages.matrix.cell import Cell
from rlimages.registry.auth import Credentials
from rlimages.registry.client import RegistryClient
from rlimages.registry.ecr import EcrClient
from rlimages.registry.request_counter import RequestCounter


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseItem:
    """One image of a release, with the names that it gets."""

    cell: str
    """Id of its cell."""
    repository: str
    """Repository name of the matrix, without the prefix of a target."""
    image: str
    """Id in the local store, which is the digest of the image's configuration."""
    tags: tuple[str, ...]
    """The image's own tag, then the aliases."""
    build: str = ""
    """Build digest (`plan.inputs.CellInputs`); empty if it is not known."""


def release_item(cell: Cell, image: str, build: str = "") -> ReleaseItem:
    """Return the item for a cell's image, under all names that the matrix gives it. `build` is its build digest."""
    return ReleaseItem(cell=cell.id, repository=cell.repository, image=image, tags=cell.tags, build=build)


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetRegistry:
    """One registry of a target."""

    name: str
    """Name in messages, journals and reports: `production/us-west-2`."""
    host: str
    """`host[:port]`."""
    prefix: str = ""
    """Put in front of all repository names."""
    floating: tuple[str, ...] = ("*",)
    """Patterns of tags that may move to another image. All other tags never move."""
    expires_untagged: bool = False
    """Whether the registry may delete an image that has no tag. Such an image gets a temporary tag during a release."""

    def with_prefix(self, repository: str) -> str:
        """Return the full name of a repository of the matrix in this registry."""
        return f"{self.prefix}/{repository}" if self.prefix else repository

    def repository(self, item: ReleaseItem) -> str:
        """Return the full name of an item's repository in this registry."""
        return self.with_prefix(item.repository)

    def reference(self, item: ReleaseItem, tag: str) -> str:
        """Return `host/repository:tag` for one tag of an item."""
        return f"{self.host}/{self.repository(item)}:{tag}"

    def may_move(self, tag: str) -> bool:
        """Return whether a tag may move from one image to another."""
        return any(fnmatchcase(tag, pattern) for pattern in self.floating)


@dataclass(frozen=True, kw_only=True)
class RegistryConnection:
    """A client of one registry of a target, with the credentials and the request counter that it uses."""

    registry: TargetRegistry
    client: RegistryClient
    counter: RequestCounter
    credentials: Credentials
    ensure_repository: Callable[[str], bool] = lambda _repository: False
    """Creates a repository if it does not exist; True if it was created. Only ECR needs this: others do it on push."""
    ecr: EcrClient | None = None
    """Client of ECR's control plane; None for any other registry."""

    def remove_tag(self, repository: str, tag: str) -> bool:
        """Remove one tag. Return False if the registry cannot remove tags."""
        if self.ecr is not None:
            return self.ecr.delete_tag(repository, tag)
        return self.client.delete_manifest(repository, tag)


class ReleaseState(StrEnum):
    """State of a release in one registry, as its journal shows it."""

    RELEASED = "released"
    """All tags have moved."""
    UNTOUCHED = "untouched"
    """No tag was moved."""
    BETWEEN = "in between"
    """Some tags were moved. The release must be resumed or rolled back."""
    ROLLED_BACK = "rolled back"
    """The moves of the release were undone."""


ReportProgress = Callable[[str, str], None]
"""Reports a step of a release: name of the registry, or id of the cell that is packed, and what is done."""
