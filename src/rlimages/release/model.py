"""Define the values of a release: its images, the registries that they are pushed to, and the state in each."""

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
    """One image of a release, with the repository and the tags that it gets."""

    cell: str
    """Id of its cell."""
    repository: str
    """Repository name of the matrix, without the prefix of a target."""
    image: str
    """Image id: the digest of the image's configuration, by which Docker names the image. Not the manifest's digest."""
    tags: tuple[str, ...]
    """The image's own tag, then the aliases."""
    build: str = ""
    """Build digest (the digest of all inputs of the build, see `plan.inputs.CellInputs`); empty if it is not known."""


def release_item(cell: Cell, image: str, build: str = "") -> ReleaseItem:
    """Return the item for the image of `cell`, with the repository and all tags that the matrix gives it.

    `image` is the image's id, empty if only the names are needed. `build` is its build digest (the digest of all inputs
    of the build), empty if it is not known.
    """
    return ReleaseItem(cell=cell.id, repository=cell.repository, image=image, tags=cell.tags, build=build)


@dataclass(frozen=True, kw_only=True, slots=True)
class TargetRegistry:
    """One registry of a target: its address, the prefix of its repositories, and which tags may move."""

    name: str
    """Name in messages, journals and reports: `production/us-west-2`."""
    host: str
    """`host[:port]`."""
    prefix: str = ""
    """Path in front of all repository names, without a slash at the end; empty for none."""
    floating: tuple[str, ...] = ("*",)
    """Patterns (with * and ?) of the tags that may move to another image. All other tags never move."""
    expires_untagged: bool = False
    """Whether the registry may delete images without a tag. If so, a release gives each new image a temporary tag."""

    def with_prefix(self, repository: str) -> str:
        """Return `<prefix>/<repository>`: the full name, in this registry, of a repository of the matrix."""
        return f"{self.prefix}/{repository}" if self.prefix else repository

    def repository(self, item: ReleaseItem) -> str:
        """Return the full name of the repository of `item` in this registry, with the prefix, without the host."""
        return self.with_prefix(item.repository)

    def reference(self, item: ReleaseItem, tag: str) -> str:
        """Return `host/repository:tag`, the full name of the image of `item` under `tag` in this registry."""
        return f"{self.host}/{self.repository(item)}:{tag}"

    def may_move(self, tag: str) -> bool:
        """Return whether a pattern of `floating` matches `tag`: then the tag may move from one image to another."""
        return any(fnmatchcase(tag, pattern) for pattern in self.floating)


@dataclass(frozen=True, kw_only=True)
class RegistryConnection:
    """A client of one registry of a target, with the credentials and the request counter that it uses."""

    registry: TargetRegistry
    client: RegistryClient
    counter: RequestCounter
    credentials: Credentials
    ensure_repository: Callable[[str], bool] = lambda _repository: False
    """Creates the repository with this full name if it does not exist. Returns True if it was created.

    Only ECR needs this: other registries create repositories at the first push.
    """
    ecr: EcrClient | None = None
    """Client of ECR's own API (not of the registry protocol); None for any other registry."""

    def remove_tag(self, repository: str, tag: str) -> bool:
        """Remove `tag` from `repository` (full name). Return True if it is gone, False if the registry forbids deletes.

        Raises `RegistryError` if the tag cannot be removed for another reason.
        """
        if self.ecr is not None:
            return self.ecr.delete_tag(repository, tag)
        return self.client.delete_manifest(repository, tag)


class ReleaseState(StrEnum):
    """The state of a release in one registry, as the journal of the release shows it."""

    RELEASED = "released"
    """All tags were moved to the images of the release."""
    UNTOUCHED = "untouched"
    """No tag was moved. Images may have been uploaded."""
    BETWEEN = "in between"
    """Some tags may have moved, but not all. The release must be resumed or rolled back."""
    ROLLED_BACK = "rolled back"
    """All tags that the release moved were moved back."""


ReportProgress = Callable[[str, str], None]
"""Reports a step of a release. Arguments: the name of the registry (or the id of the cell that is packed), the step."""
