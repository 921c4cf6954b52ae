"""What an image store holds: values only, asked for in one question."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

BUILD_LABEL = "rlimages.build"
"""An image's build digest (`digest`)."""
_DEFAULTS = ("docker.io/library/", "docker.io/", "library/")


@dataclass(frozen=True, kw_only=True, slots=True)
class Holding:
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
class Holdings:
    """All images of a store."""

    images: tuple[Holding, ...] = ()

    def find(self, reference: str) -> Holding | None:
        """What a name, digest or id stands for here."""
        return self._by_name.get(_plain(reference))

    def built_from(self, digest: str) -> tuple[Holding, ...]:
        """The images with this build digest, those with a name first."""
        return self._by_digest.get(digest, ())

    @cached_property
    def _by_digest(self) -> Mapping[str, tuple[Holding, ...]]:
        found: dict[str, tuple[Holding, ...]] = {}
        for image in sorted(self.images, key=lambda image: not image.names):
            if BUILD_LABEL in image.labels:
                found[image.labels[BUILD_LABEL]] = (*found.get(image.labels[BUILD_LABEL], ()), image)
        return found

    @cached_property
    def _by_name(self) -> Mapping[str, Holding]:
        return {_plain(name): image for image in self.images for name in (*image.names, *image.digests, image.id)}


def _plain(reference: str) -> str:
    """As an engine lists it: without the registry that goes without saying."""
    for default in _DEFAULTS:
        if reference.startswith(default):
            return reference.removeprefix(default)
    return reference
