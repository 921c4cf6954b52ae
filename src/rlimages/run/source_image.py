"""Open the image that is to be reproduced: read how it was built, and on demand its contents."""

import json
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlimages.engine.docker import DockerEngine
from rlimages.errors import RegistryError, ToolError
from rlimages.oci.contents import ImageContents, LayerContents, merge_layers, read_archive, read_layer
from rlimages.oci.labels import BuildOrigin, read_origin
from rlimages.oci.layers import open_layer
from rlimages.oci.manifest import DOCKER_CONFIG, OCI_CONFIG, Blob, Manifest, Reference, parse_config
from rlimages.project.lookup import resolve_image
from rlimages.registry.auth import RegistryLogin
from rlimages.registry.client import RegistryClient
from rlimages.registry.ecr import HostCredentials

CheckStop = Callable[[], None]
"""A function that is called for each chunk and each path that is read. It raises if the user asked to stop."""
KnownLayers = MutableMapping[str, LayerContents]
"""Diff id (digest of an unpacked layer) -> its contents. Layers that two images share are read only once."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceImage:
    """An image in the local store or a registry, and how it was built."""

    origin: BuildOrigin
    """Cell, commit, creation date and labels of the image."""
    read_contents: Callable[[CheckStop, KnownLayers], ImageContents]
    """A function that reads all layers except for known ones, and adds them to these. It takes seconds to minutes."""


@contextmanager
def open_image(
    argument: str, engine: DockerEngine, matrix: Path | None, environ: Mapping[str, str]
) -> Iterator[SourceImage]:
    """Open the image that `argument` names: a name or id of the local store, a cell id, or a registry reference.

    The local store comes first. `matrix` is the path of the matrix for cell ids; None finds it from the current folder.
    `environ` has the variables with registry credentials. The connection to a registry is closed when the context ends.
    Raises `FactoryError` if the image does not exist, or its labels do not describe how it was built.
    """
    image = resolve_image(argument, engine, matrix, Path.cwd())
    if isinstance(image, str):
        yield open_local_image(image, engine)
        return
    with RegistryClient(image.host, login=RegistryLogin(HostCredentials(environ))) as registry:
        yield _open_registry_image(registry, image, argument)


def open_local_image(name: str, engine: DockerEngine) -> SourceImage:
    """Open the image of the local store with the name or id `name`.

    Raises `ToolError` if it does not exist, and `UsageError` if its labels do not describe how it was built.
    """
    image = engine.inspect(name)
    if image is None:
        raise ToolError(f"there is no image {name} in the local store")
    image_id = image.image.id

    def read_contents(check_stop: CheckStop, known: KnownLayers) -> ImageContents:
        return read_archive(engine.save(image_id), name, check_stop=check_stop, known=known)

    return SourceImage(origin=read_origin(name, image_id, image.created, image.labels), read_contents=read_contents)


def _open_registry_image(registry: RegistryClient, reference: Reference, argument: str) -> SourceImage:
    """Open the image `reference` in `registry`; messages name it as the user did, by `argument`.

    Raises `RegistryError` if it does not exist or is not an image of one platform.
    """
    manifest = registry.read_manifest(reference.repository, reference.tag_or_digest)
    if manifest is None:
        raise RegistryError(f"{reference.host} has no image {argument.partition('/')[2]}")
    if manifest.config is None or manifest.config.media_type not in (DOCKER_CONFIG, OCI_CONFIG):
        raise RegistryError(f"{argument} is not an image of one platform; give the digest of one of its images")
    content = registry.read_blob(reference.repository, manifest.image)
    config = parse_config(content, argument)

    def read_contents(check_stop: CheckStop, known: KnownLayers) -> ImageContents:
        return merge_layers(content, _read_layers(registry, reference.repository, manifest, content, check_stop, known))

    origin = read_origin(argument, manifest.image, config.created, config.labels)
    return SourceImage(origin=origin, read_contents=read_contents)


def _read_layers(
    registry: RegistryClient,
    repository: str,
    manifest: Manifest,
    config: bytes,
    check_stop: CheckStop,
    known: KnownLayers,
) -> Iterator[LayerContents]:
    """Yield the contents of all layers of the image of `manifest`, lowest first.

    `config` is the image's configuration (JSON). Layers in `known` are not downloaded; all others are added to `known`.
    """
    document: dict[str, Any] = json.loads(config)
    for diff_id, blob in zip(document["rootfs"]["diff_ids"], manifest.layers, strict=True):
        if diff_id not in known:
            known[diff_id] = _read_layer(registry, repository, blob, check_stop)
        yield known[diff_id]


def _read_layer(registry: RegistryClient, repository: str, blob: Blob, check_stop: CheckStop) -> LayerContents:
    """Download the layer `blob` from `repository`, check its digest, and return its contents."""
    with open_layer(blob, registry.stream_blob(repository, blob.digest), check_stop) as archive:
        return read_layer(archive, check_stop)
