"""Look into an image of the local store without starting anything of it."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from rlimages.container import engine_errors
from rlimages.distribution import Configuration
from rlimages.layers import Entry
from rlimages.stack import Stored

if TYPE_CHECKING:
    from docker import DockerClient

_IS_FOLDER = 1 << 31
_IS_LINK = 1 << 27
"""How Go's os.FileMode, which the engine answers with, says it."""
_EXECUTABLE = 0o111


def configuration(client: "DockerClient", image: str) -> Configuration | None:
    """What an image says about itself; None where there is none of this name."""
    from docker.errors import ImageNotFound

    try:
        found = client.images.get(image)
        facts: dict[str, Any] = found.attrs
        steps: list[dict[str, Any]] = found.history()
    except ImageNotFound:
        return None
    run: dict[str, Any] = facts.get("Config") or {}
    return Configuration(
        os=facts["Os"],
        architecture=facts["Architecture"],
        created=facts.get("Created") or "",
        labels=run.get("Labels") or {},
        env=tuple(run.get("Env") or ()),
        entrypoint=tuple(run.get("Entrypoint") or ()),
        user=run.get("User") or "",
        history=tuple(step.get("CreatedBy") or "" for step in reversed(steps)),
    )


def stored(client: "DockerClient", image: str) -> Stored | None:
    """The layers of an image, and what made them; None where there is none of this name."""
    from docker.errors import ImageNotFound

    try:
        found = client.images.get(image)
        steps: list[dict[str, Any]] = found.history()
    except ImageNotFound:
        return None
    return Stored(
        name=image,
        id=str(found.id),
        layers=tuple(found.attrs["RootFS"].get("Layers") or ()),
        history=tuple((step.get("CreatedBy") or "", step["Size"]) for step in reversed(steps)),
    )


def entries(client: "DockerClient", image: str, paths: Iterable[str], labels: Mapping[str, str]) -> Mapping[str, Entry]:
    """What is at these absolute paths of an image; those where nothing is are left out.

    It takes a container that is never started, and is gone afterwards.
    """
    # the entrypoint stands for images that have no command, which the engine would not make a container of
    container = client.containers.create(image, entrypoint=["train"], labels=dict(labels), network_mode="none")
    try:
        found = {path: _entry(client, str(container.id), path) for path in paths}
    finally:
        with suppress(*engine_errors()):
            container.remove(force=True, v=True)
    return {path: entry for path, entry in found.items() if entry is not None}


def _entry(client: "DockerClient", container: str, path: str) -> Entry | None:
    """Asked by HEAD, which sends no content. The engine names the end of a chain of links."""
    told = _stat(client, container, path)
    if told is not None and told["mode"] & _IS_LINK:
        told = _stat(client, container, told["linkTarget"])
    if told is None:
        return None
    if told["mode"] & _IS_FOLDER:
        return Entry.FOLDER
    return Entry.PROGRAM if told["mode"] & _EXECUTABLE else Entry.FILE


def _stat(client: "DockerClient", container: str, path: str) -> dict[str, Any] | None:
    from docker.utils import decode_json_header

    address = f"{client.api.base_url}/v{client.api.api_version}/containers/{container}/archive"
    answer = client.api.head(address, params={"path": path})
    if answer.status_code == 404:
        return None
    answer.raise_for_status()
    told: dict[str, Any] = decode_json_header(answer.headers["x-docker-container-path-stat"])
    return told
