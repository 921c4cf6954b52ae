"""The `Engine` interface, and the values it returns. The Docker implementation is in `engine.docker`."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rlimages.oci.labels import BUILD_LABEL
from rlimages.oci.layers import PathKind
from rlimages.oci.manifest import ImageConfig

if TYPE_CHECKING:
    from rlimages.engine.container import CheckRun
    from rlimages.system.process import ProgramResult


@dataclass(frozen=True, kw_only=True, slots=True)
class BuiltImage:
    """An image in the local store."""

    id: str
    """`sha256:…` of its configuration: the same in every registry that holds it as pushed."""
    size: int
    """Unpacked size in bytes."""


_DEFAULTS = ("docker.io/library/", "docker.io/", "library/")


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalImage:
    """One image of a store."""

    id: str
    """`sha256:…` of its configuration."""
    names: tuple[str, ...]
    """`repository:tag`."""
    digests: tuple[str, ...]
    """`repository@sha256:…`, where it came from a registry or went to one."""
    labels: Mapping[str, str]
    size: int
    """Bytes, all layers unpacked."""


@dataclass(frozen=True)
class LocalImages:
    """All images of a store."""

    images: tuple[LocalImage, ...] = ()

    def find(self, reference: str) -> LocalImage | None:
        """What a name, digest or id stands for here."""
        return self._by_name.get(_familiar_name(reference))

    def built_from(self, digest: str) -> tuple[LocalImage, ...]:
        """The images with this build digest, those with a name first."""
        return self._by_digest.get(digest, ())

    @cached_property
    def _by_digest(self) -> Mapping[str, tuple[LocalImage, ...]]:
        found: dict[str, tuple[LocalImage, ...]] = {}
        for image in sorted(self.images, key=lambda image: not image.names):
            if BUILD_LABEL in image.labels:
                found[image.labels[BUILD_LABEL]] = (*found.get(image.labels[BUILD_LABEL], ()), image)
        return found

    @cached_property
    def _by_name(self) -> Mapping[str, LocalImage]:
        return {
            _familiar_name(name): image for image in self.images for name in (*image.names, *image.digests, image.id)
        }


def _familiar_name(reference: str) -> str:
    """As an engine lists it: without the registry that goes without saying."""
    for default in _DEFAULTS:
        if reference.startswith(default):
            return reference.removeprefix(default)
    return reference


ENGINE_REMEDY = 'start Docker, or: scripts/engine up && eval "$(scripts/engine env)"'


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildRequest:
    """All that one `docker buildx build` needs. The build context is the project's root."""

    dockerfile: str
    """Path below the context."""
    tag: str
    """Local reference that the image gets."""
    arguments: tuple[tuple[str, str], ...]
    """Build arguments, in the order of the command line."""
    contexts: tuple[tuple[str, str], ...]
    """Named contexts: `buildhost`, and overridden base images by their exact reference."""
    labels: tuple[tuple[str, str], ...] = ()
    timeout: int
    """Seconds."""
    epoch: int | None = None
    """Creation date of the image in seconds since 1970 (`SOURCE_DATE_EPOCH`); None for the time of the build."""
    no_cache: bool = False
    """Ignore the builder's cache."""
    cache_from: tuple[str, ...] = ()
    """Images in registries that serve as a layer cache; missing ones are ignored."""
    inline_cache: bool = False
    """Write cache metadata into the image, so that it can serve as `cache_from` of later builds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildOutcome:
    """How one build ended."""

    ended: "ProgramResult"
    image: str = ""
    """Id of what was built; empty when nothing was."""
    trouble: str = ""
    """The output of what failed, and what BuildKit said about it; empty when it passed."""
    worked: bool = False
    """True when a step was really run; False when all came from the builder's cache."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InspectedImage:
    """An image of the local store, and how it is configured."""

    image: BuiltImage
    labels: Mapping[str, str]
    env: tuple[str, ...]
    """`NAME=value`."""
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    user: str
    workdir: str
    created: str = ""
    """RFC 3339; empty where it does not say."""


class Engine(Protocol):
    """What the workshop asks of an engine. A test is another engine."""

    def version(self) -> str:
        """The engine and its builder, for people. Raises `ToolError` when none answers."""

    def build(self, request: BuildRequest, root: Path, log: Path, on_progress: Callable[[str], None]) -> BuildOutcome:
        """Build one image with `root` as context; `on_progress` hears the name of each step as it begins."""

    def check(self, image: str, argv: Sequence[str], folder: Path, log: Path, timeout: float) -> "CheckRun":
        """Run a program inside an image, with `folder` read-only at /checks and no network."""

    def inspect(self, reference: str) -> InspectedImage | None:
        """What the local store holds under this name or id."""

    def holdings(self) -> LocalImages:
        """All that the local store holds."""

    def name(self, image: str, reference: str) -> None:
        """Give an image of the local store a name, which another may have had."""

    def save(self, image: str) -> Iterator[bytes]:
        """An image of the local store as `docker image save` gives it."""

    def cleanup(self) -> tuple[str, ...]:
        """Remove what runs left behind whose process is dead; one sentence for each thing removed."""

    def forget(self, images: Collection[str]) -> tuple[str, ...]:
        """Of these images, by id, remove those of a cell that have no name any more; one sentence for each."""


class ImageStore(Protocol):
    """What is asked of the engine."""

    def inspect(self, reference: str) -> InspectedImage | None:
        """What the local store holds under this name or id."""

    def configuration(self, reference: str) -> ImageConfig | None:
        """What an image says about itself."""

    def entries(self, image: str, wanted: Sequence[str]) -> Mapping[str, PathKind]:
        """What is at these absolute paths of an image; those where nothing is are left out."""
