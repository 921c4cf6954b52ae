"""The `Engine` interface, and the values that it takes and returns. `engine.docker` implements it with Docker."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rlimages.oci.labels import BUILD_LABEL
from rlimages.oci.manifest import ImageConfig
from rlimages.oci.path_index import PathKind

if TYPE_CHECKING:
    from rlimages.engine.container import ContainerRun
    from rlimages.system.process import ProgramResult


ENGINE_REMEDY = 'start Docker, or: scripts/engine up && eval "$(scripts/engine env)"'
"""End of the messages about an engine that does not answer."""
_IMPLIED_PREFIXES = ("docker.io/library/", "docker.io/", "library/")
"""Parts of a reference that engines leave out when they list images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuiltImage:
    """Id and size of an image in the local store."""

    id: str
    """`sha256:…` of its configuration: the same in every registry to which it is pushed."""
    size: int
    """Unpacked size in bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalImage:
    """One entry in the list of local images."""

    id: str
    """`sha256:…` of its configuration."""
    names: tuple[str, ...]
    """`repository:tag`."""
    digests: tuple[str, ...]
    """`repository@sha256:…`, for images that were pulled or pushed."""
    labels: Mapping[str, str]
    size: int
    """Unpacked size in bytes."""


@dataclass(frozen=True)
class LocalImages:
    """The list of all images in the local store."""

    images: tuple[LocalImage, ...] = ()

    def find(self, reference: str) -> LocalImage | None:
        """Return the image with this name, digest or id; None if there is none."""
        return self._by_reference.get(_familiar_name(reference))

    def built_from(self, digest: str) -> tuple[LocalImage, ...]:
        """Return the images with this build digest in their labels, images with a name first."""
        return self._by_build_digest.get(digest, ())

    @cached_property
    def _by_build_digest(self) -> Mapping[str, tuple[LocalImage, ...]]:
        images: dict[str, tuple[LocalImage, ...]] = {}
        for image in sorted(self.images, key=lambda image: not image.names):
            if BUILD_LABEL in image.labels:
                images[image.labels[BUILD_LABEL]] = (*images.get(image.labels[BUILD_LABEL], ()), image)
        return images

    @cached_property
    def _by_reference(self) -> Mapping[str, LocalImage]:
        return {
            _familiar_name(name): image for image in self.images for name in (*image.names, *image.digests, image.id)
        }


def _familiar_name(reference: str) -> str:
    """Return a reference as engines list it, without the implied `docker.io/library/`."""
    for prefix in _IMPLIED_PREFIXES:
        if reference.startswith(prefix):
            return reference.removeprefix(prefix)
    return reference


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildRequest:
    """The parameters of one `docker buildx build`. The build context is the project root."""

    dockerfile: str
    """Path below the context."""
    tag: str
    """Name of the image in the local store: `repository:tag`."""
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
    """The result of one call of the builder."""

    process: "ProgramResult"
    image: str = ""
    """Id of the new image; empty if the build failed."""
    error: str = ""
    """Output and errors of the failed Dockerfile steps; empty if the build passed."""
    ran_steps: bool = False
    """True if at least one `RUN` was executed; False if all came from the builder's cache."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InspectedImage:
    """An image of the local store with its configuration."""

    image: BuiltImage
    labels: Mapping[str, str]
    env: tuple[str, ...]
    """`NAME=value`."""
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    user: str
    workdir: str
    created: str = ""
    """RFC 3339; empty if the image has no date."""


class Engine(Protocol):
    """The operations of a container engine that builds and checks need. Tests implement it without Docker."""

    def version(self) -> str:
        """Return the versions of engine and builder, for people. Raises `ToolError` if no engine answers."""

    def build(self, request: BuildRequest, root: Path, log: Path, on_progress: Callable[[str], None]) -> BuildOutcome:
        """Build one image with `root` as context; call `on_progress` with the name of each step that starts.

        A failed build is a result. Raises `ToolError` if the builder or the engine is missing.
        """

    def run_in_image(self, image: str, argv: Sequence[str], folder: Path, log: Path, timeout: float) -> "ContainerRun":
        """Run a program in a new container without network; `folder` is mounted read-only at /checks.

        The output is appended to `log`. `timeout` is in seconds.
        """

    def inspect(self, reference: str) -> InspectedImage | None:
        """Return the local image with this name or id; None if there is none."""

    def local_images(self) -> LocalImages:
        """List the images of the local store."""

    def tag(self, image: str, reference: str) -> None:
        """Give a local image a name. If another image has that name, it loses it."""

    def save(self, image: str) -> Iterator[bytes]:
        """Yield a local image as the archive that `docker image save` writes."""

    def remove_orphans(self) -> tuple[str, ...]:
        """Remove containers, networks and volumes of runs whose process is dead; return one line for each."""

    def remove_dangling(self, images: Collection[str]) -> tuple[str, ...]:
        """Remove those of these images (ids) that belong to a cell and have no name; return one line for each."""


class ImageStore(Protocol):
    """The operations of a container engine that acceptance checks need. Nothing is run."""

    def inspect(self, reference: str) -> InspectedImage | None:
        """Return the local image with this name or id; None if there is none."""

    def read_config(self, reference: str) -> ImageConfig | None:
        """Return the configuration and history of a local image; None if there is none."""

    def read_path_kinds(self, image: str, paths: Sequence[str]) -> Mapping[str, PathKind]:
        """Return what exists at these absolute paths of an image; missing paths are left out."""
