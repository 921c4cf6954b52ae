"""The `Engine` interface, and the values that it takes and returns. `engine.docker` implements it with Docker."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rlimages.oci.labels import BUILD_LABEL

if TYPE_CHECKING:
    from rlimages.engine.container import ContainerRun
    from rlimages.oci.manifest import ImageConfig
    from rlimages.oci.path_index import PathKind
    from rlimages.system.process import ProgramResult


ENGINE_REMEDY = 'start Docker, or: scripts/engine up && eval "$(scripts/engine env)"'
"""End of the messages about an engine that does not answer."""
_IMPLIED_PREFIXES = ("docker.io/library/", "docker.io/", "library/")
"""Beginnings of an image reference that engines leave out when they list images, the longest first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuiltImage:
    """Id and size of an image in the local store (the engine's images)."""

    id: str
    """`sha256:…` of its configuration: the same in every registry to which it is pushed."""
    size: int
    """Unpacked size in bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalImage:
    """One image in the list of all images of the local store."""

    id: str
    """`sha256:…` of its configuration: the same in every registry to which it is pushed."""
    names: tuple[str, ...]
    """Each is a `repository:tag`; empty for an image without a name."""
    digests: tuple[str, ...]
    """Each is a `repository@sha256:…`; empty for an image that was never pulled or pushed."""
    labels: Mapping[str, str]
    size: int
    """Unpacked size in bytes."""


@dataclass(frozen=True)
class LocalImages:
    """The list of all images in the local store, as it was when the engine was asked."""

    images: tuple[LocalImage, ...] = ()

    def find(self, reference: str) -> LocalImage | None:
        """Return the image that `reference` names; None if there is none.

        `reference` is a name (`repository:tag`), a digest (`repository@sha256:…`) or an id (`sha256:…`).
        """
        return self._by_reference.get(_familiar_name(reference))

    def built_from(self, digest: str) -> tuple[LocalImage, ...]:
        """Return the images whose label has the build digest (the digest of all build inputs) `digest`.

        Images with a name come first. Return an empty tuple if there is none.
        """
        return self._by_build_digest.get(digest, ())

    @cached_property
    def _by_build_digest(self) -> Mapping[str, tuple[LocalImage, ...]]:
        """Build digest -> the images with it in their labels, images with a name first."""
        images: dict[str, tuple[LocalImage, ...]] = {}
        # False sorts before True, so images with a name come first.
        for image in sorted(self.images, key=lambda image: not image.names):
            if BUILD_LABEL in image.labels:
                images[image.labels[BUILD_LABEL]] = (*images.get(image.labels[BUILD_LABEL], ()), image)
        return images

    @cached_property
    def _by_reference(self) -> Mapping[str, LocalImage]:
        """Name, digest or id, as engines list it -> image."""
        return {
            _familiar_name(name): image for image in self.images for name in (*image.names, *image.digests, image.id)
        }


def _familiar_name(reference: str) -> str:
    """Return `reference` as engines list it: without `docker.io/library/` or the part of it with which it begins."""
    for prefix in _IMPLIED_PREFIXES:
        if reference.startswith(prefix):
            return reference.removeprefix(prefix)
    return reference


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildRequest:
    """The parameters of one `docker buildx build`. The build context is the project root."""

    dockerfile: str
    """Path below the build context."""
    tag: str
    """Name of the image in the local store: `repository:tag`."""
    arguments: tuple[tuple[str, str], ...]
    """Name and value of each build argument, in the order of the command line."""
    contexts: tuple[tuple[str, str], ...]
    """Name and source of each further build context.

    These are `buildhost`, a folder with certificates, pip configuration and wheels of this machine, and base images
    that are replaced by others, under their exact reference.
    """
    labels: tuple[tuple[str, str], ...] = ()
    """Name and value of each label of the image."""
    timeout: int
    """Seconds after which the build is ended."""
    epoch: int | None = None
    """Creation date of the image in seconds since 1970 (`SOURCE_DATE_EPOCH`); None stands for the time of the build."""
    no_cache: bool = False
    """True if the builder must ignore its cache."""
    cache_from: tuple[str, ...] = ()
    """References of images in registries whose layers serve as a cache; missing images are ignored."""
    inline_cache: bool = False
    """True if cache metadata is written into the image, so that it can serve as `cache_from` of later builds."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildOutcome:
    """The result of one build, which passed or failed."""

    process: "ProgramResult"
    image: str = ""
    """Id of the new image; empty if the build failed."""
    error: str = ""
    """Last output lines and errors of the failed Dockerfile steps; empty if the build passed."""
    ran_steps: bool = False
    """True if at least one `RUN` instruction was executed; False if the builder's cache had the results of all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InspectedImage:
    """An image of the local store (the engine's images) with its configuration."""

    image: BuiltImage
    labels: Mapping[str, str]
    env: tuple[str, ...]
    """Environment variables, each as `NAME=value`."""
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    """Default arguments of the entrypoint: `CMD`."""
    user: str
    """Empty if the configuration names none: the container then runs as root."""
    workdir: str
    """Working folder of the container; empty if the configuration names none."""
    created: str = ""
    """Creation date in the format of RFC 3339; empty if the image has none."""


class Engine(Protocol):
    """The interface of the container engine, with the operations of builds and checks.

    The local store is the set of images that the engine has. Tests implement the interface without Docker.
    """

    def version(self) -> str:
        """Return a text for people with the versions of engine and builder. Raises `ToolError` if no engine answers."""

    def build(self, request: BuildRequest, root: Path, log: Path, on_progress: Callable[[str], None]) -> BuildOutcome:
        """Build the image of `request` with the folder `root` as context, and append the builder's output to `log`.

        `on_progress` is called with the name of each step that starts. A failed build is a result. Raises `ToolError`
        if the builder or the engine is missing.
        """

    def run_in_image(self, image: str, argv: Sequence[str], folder: Path, log: Path, timeout: float) -> "ContainerRun":
        """Run the program `argv` in a new container of `image` without network; append its output to `log`.

        `folder` is mounted read-only at /checks. The container is killed after `timeout` seconds.
        """

    def inspect(self, reference: str) -> InspectedImage | None:
        """Return the image `reference` (name or id) of the local store; None if there is none."""

    def local_images(self) -> LocalImages:
        """Return the list of all images in the local store."""

    def tag(self, image: str, reference: str) -> None:
        """Give `image`, a name or id in the local store, the name `reference` (`repository:tag`).

        If another image has this name, it loses the name.
        """

    def save(self, image: str) -> Iterator[bytes]:
        """Yield the local image `image` (name or id) in pieces, as the archive that `docker image save` writes."""

    def remove_orphans(self) -> tuple[str, ...]:
        """Remove the containers, networks and volumes that runs of this machine left behind when their process died.

        Return one line for each that was removed, for people.
        """

    def remove_dangling(self, images: Collection[str]) -> tuple[str, ...]:
        """Remove the images of `images` (ids) that have the label of a cell and no name.

        Return one line for each that was removed, for people. Images in use are kept.
        """


class ImageStore(Protocol):
    """The interface of the container engine, with the operations of acceptance checks. They only read images."""

    def inspect(self, reference: str) -> InspectedImage | None:
        """Return the image `reference` (name or id) of the local store; None if there is none."""

    def read_config(self, reference: str) -> "ImageConfig | None":
        """Return the configuration and history of the local image `reference` (name or id); None if there is none."""

    def read_path_kinds(self, image: str, paths: Sequence[str]) -> "Mapping[str, PathKind]":
        """Return path -> what exists there in the local image `image`.

        `paths` are absolute. Paths at which nothing exists are left out.
        """
