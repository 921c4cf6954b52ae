"""Read images of the local store (the engine's images): configuration, layers, and what exists at given paths."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from rlimages.engine.container import engine_errors
from rlimages.oci.history import StoredImage
from rlimages.oci.manifest import ImageConfig
from rlimages.oci.path_index import PathKind

if TYPE_CHECKING:
    from docker import DockerClient


_FOLDER_BIT = 1 << 31
_LINK_BIT = 1 << 27
"""Bits of Go's `os.FileMode`, which the engine reports; they are not those of stat(2)."""
_EXECUTE_BITS = 0o111
"""Permission to execute for owner, group or others. These bits are those of stat(2)."""


def read_config(client: "DockerClient", image: str) -> ImageConfig | None:
    """Return the configuration and history of the local image `image` (name or id); None if there is none."""
    from docker.errors import ImageNotFound

    try:
        found = client.images.get(image)
        attributes: dict[str, Any] = found.attrs
        steps: list[dict[str, Any]] = found.history()
    except ImageNotFound:
        return None
    config: dict[str, Any] = attributes.get("Config") or {}
    return ImageConfig(
        os=attributes["Os"],
        architecture=attributes["Architecture"],
        created=attributes.get("Created") or "",
        labels=config.get("Labels") or {},
        env=tuple(config.get("Env") or ()),
        entrypoint=tuple(config.get("Entrypoint") or ()),
        user=config.get("User") or "",
        history=tuple(step.get("CreatedBy") or "" for step in reversed(steps)),
    )


def read_stored_image(client: "DockerClient", image: str) -> StoredImage | None:
    """Return layers and history, both oldest first, of the local image `image` (name or id); None if there is none."""
    from docker.errors import ImageNotFound

    try:
        found = client.images.get(image)
        steps: list[dict[str, Any]] = found.history()
    except ImageNotFound:
        return None
    return StoredImage(
        name=image,
        id=str(found.id),
        layers=tuple(found.attrs["RootFS"].get("Layers") or ()),
        history=tuple((step.get("CreatedBy") or "", step["Size"]) for step in reversed(steps)),
    )


def read_path_kinds(
    client: "DockerClient", image: str, paths: Iterable[str], labels: Mapping[str, str]
) -> Mapping[str, PathKind]:
    """Return path -> what exists there in the local image `image`: folder, program or other file.

    `paths` are absolute. A link is followed. Paths at which nothing exists are left out. To read the image, a container
    with `labels` is created, never started, and removed.
    """
    # The engine refuses to create a container of an image without command; this entrypoint is never run.
    container = client.containers.create(image, entrypoint=["train"], labels=dict(labels), network_mode="none")
    try:
        kinds = {path: _path_kind(client, str(container.id), path) for path in paths}
    finally:
        with suppress(*engine_errors()):
            container.remove(force=True, v=True)
    return {path: kind for path, kind in kinds.items() if kind is not None}


def _path_kind(client: "DockerClient", container: str, path: str) -> PathKind | None:
    """Return what exists at `path` of `container` (id), or at the end of the link there; None if nothing exists."""
    stat = _stat(client, container, path)
    if stat is not None and stat["mode"] & _LINK_BIT:
        stat = _stat(client, container, stat["linkTarget"])  # the engine gives the end of a chain of links
    if stat is None:
        return None
    if stat["mode"] & _FOLDER_BIT:
        return PathKind.FOLDER
    return PathKind.PROGRAM if stat["mode"] & _EXECUTE_BITS else PathKind.FILE


def _stat(client: "DockerClient", container: str, path: str) -> dict[str, Any] | None:
    """Return the engine's description of `path` in `container` (id): `mode`, `linkTarget` and others.

    Return None if nothing exists there. Raises an error of `requests` if the engine refuses the request.
    """
    from docker.utils import decode_json_header

    # HEAD sends no content. The client itself offers only GET, which sends the file or folder as an archive.
    address = f"{client.api.base_url}/v{client.api.api_version}/containers/{container}/archive"
    response = client.api.head(address, params={"path": path})
    if response.status_code == 404:
        return None
    response.raise_for_status()
    stat: dict[str, Any] = decode_json_header(response.headers["x-docker-container-path-stat"])
    return stat
