"""An image that is to be made again: found in the local store or in a registry, and read where it is."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlimages import census, distribution, origin
from rlimages.census import Census, Layer
from rlimages.distribution import DOCKER_CONFIG, OCI_CONFIG, Blob, Manifest
from rlimages.docker_engine import DockerEngine
from rlimages.errors import RegistryError, ToolError
from rlimages.login import RegistryLogin
from rlimages.lookup import find_image
from rlimages.origin import Origin
from rlimages.places import HostCredentials
from rlimages.registry import Reference, Registry, parse_reference
from rlimages.tarball import Pieces

_PIECE = 1 << 20

Read = Callable[[Callable[[], None], MutableMapping[str, Layer]], Census]
"""Reads an image: what is called for each path and may raise, and the layers that are known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Original:
    """An image, and how to read what is in it."""

    origin: Origin
    read: Read


@contextmanager
def opened(word: str, engine: DockerEngine, matrix: Path | None, environ: Mapping[str, str]) -> Iterator[Original]:
    """The image that a word means: of the local store by name, id or cell, or of a registry by its reference.

    What the local store has under a name is taken from there. Raises `FactoryError` where there is none.
    """
    place = _place(word)
    if place is None or engine.inspect(word) is not None:
        yield of_store(find_image(word, engine, matrix, Path.cwd()), engine)
        return
    with Registry(place.host, login=RegistryLogin(HostCredentials(environ))) as registry:
        yield _of_registry(registry, place, word)


def of_store(name: str, engine: DockerEngine) -> Original:
    """An image of the local store, by name or id."""
    found = engine.inspect(name)
    if found is None:
        raise ToolError(f"there is no image {name} in the local store")
    image = found.image.id

    def read(check: Callable[[], None], known: MutableMapping[str, Layer]) -> Census:
        return census.of_archive(engine.save(image), name, check=check, known=known)

    return Original(origin=origin.read(name, image, found.created, found.labels), read=read)


def _of_registry(registry: Registry, place: Reference, word: str) -> Original:
    manifest = registry.manifest(place.repository, place.version)
    if manifest is None:
        raise RegistryError(f"{place.host} holds nothing under {word.partition('/')[2]}")
    if manifest.config is None or manifest.config.media_type not in (DOCKER_CONFIG, OCI_CONFIG):
        raise RegistryError(f"{word} is no image of one platform; name one by its digest")
    content = registry.blob(place.repository, manifest.image)
    told = distribution.configuration(content, word)

    def read(check: Callable[[], None], known: MutableMapping[str, Layer]) -> Census:
        return census.unite(content, _layers(registry, place.repository, manifest, content, check, known))

    return Original(origin=origin.read(word, manifest.image, told.created, told.labels), read=read)


def _layers(
    registry: Registry,
    repository: str,
    manifest: Manifest,
    config: bytes,
    check: Callable[[], None],
    known: MutableMapping[str, Layer],
) -> Iterator[Layer]:
    told: dict[str, Any] = json.loads(config)
    for name, blob in zip(told["rootfs"]["diff_ids"], manifest.layers, strict=True):
        if name not in known:
            known[name] = _layer(registry, repository, blob, check)
        yield known[name]


def _layer(registry: Registry, repository: str, blob: Blob, check: Callable[[], None]) -> Layer:
    """Read one layer as it comes, and hold it against its digest at the end."""
    hashed = hashlib.sha256()

    def checked() -> Iterator[bytes]:
        for piece in registry.read_blob(repository, blob.digest):
            check()
            hashed.update(piece)
            yield piece

    stream = io.BufferedReader(Pieces(checked()), _PIECE)
    try:
        layer = census.read_layer(stream, check)
        while stream.read(_PIECE):
            pass
    except (tarfile.TarError, EOFError) as error:
        raise RegistryError(f"layer {blob.digest} is not what its media type says: {error}") from error
    if f"sha256:{hashed.hexdigest()}" != blob.digest:
        raise RegistryError(f"layer {blob.digest} came as sha256:{hashed.hexdigest()}; is a proxy between?")
    return layer


def _place(word: str) -> Reference | None:
    try:
        return parse_reference(word)
    except RegistryError:
        return None
