"""Inspect the engine's image store, and remove what dead runs and old builds left in it."""

import socket
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlimages.engine.container import engine_errors
from rlimages.oci.labels import CELL_LABEL, PROCESS_LABEL, RUN_LABEL
from rlimages.oci.layers import PathKind, StoredImage
from rlimages.oci.manifest import ImageConfig
from rlimages.system.process import is_dead
from rlimages.system.units import format_memory

if TYPE_CHECKING:
    from docker import DockerClient


_IS_FOLDER = 1 << 31
_IS_LINK = 1 << 27
"""How Go's os.FileMode, which the engine answers with, says it."""
_EXECUTABLE = 0o111


def read_config(client: "DockerClient", image: str) -> ImageConfig | None:
    """What an image says about itself; None where there is none of this name."""
    from docker.errors import ImageNotFound

    try:
        found = client.images.get(image)
        facts: dict[str, Any] = found.attrs
        steps: list[dict[str, Any]] = found.history()
    except ImageNotFound:
        return None
    run: dict[str, Any] = facts.get("Config") or {}
    return ImageConfig(
        os=facts["Os"],
        architecture=facts["Architecture"],
        created=facts.get("Created") or "",
        labels=run.get("Labels") or {},
        env=tuple(run.get("Env") or ()),
        entrypoint=tuple(run.get("Entrypoint") or ()),
        user=run.get("User") or "",
        history=tuple(step.get("CreatedBy") or "" for step in reversed(steps)),
    )


def read_stored_image(client: "DockerClient", image: str) -> StoredImage | None:
    """The layers of an image, and what made them; None where there is none of this name."""
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


def read_entries(
    client: "DockerClient", image: str, paths: Iterable[str], labels: Mapping[str, str]
) -> Mapping[str, PathKind]:
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


def _entry(client: "DockerClient", container: str, path: str) -> PathKind | None:
    """Asked by HEAD, which sends no content. The engine names the end of a chain of links."""
    told = _stat(client, container, path)
    if told is not None and told["mode"] & _IS_LINK:
        told = _stat(client, container, told["linkTarget"])
    if told is None:
        return None
    if told["mode"] & _IS_FOLDER:
        return PathKind.FOLDER
    return PathKind.PROGRAM if told["mode"] & _EXECUTABLE else PathKind.FILE


def _stat(client: "DockerClient", container: str, path: str) -> dict[str, Any] | None:
    from docker.utils import decode_json_header

    address = f"{client.api.base_url}/v{client.api.api_version}/containers/{container}/archive"
    answer = client.api.head(address, params={"path": path})
    if answer.status_code == 404:
        return None
    answer.raise_for_status()
    told: dict[str, Any] = decode_json_header(answer.headers["x-docker-container-path-stat"])
    return told


def remove_orphans(client: "DockerClient") -> Iterator[str]:
    """Remove containers, networks and volumes of dead processes; one sentence for each.

    Containers go first: neither a network nor a volume can go while they use it. None is inspected: a busy one would
    keep us waiting.
    """
    labelled: dict[str, str | list[str] | bool] = {"label": PROCESS_LABEL}
    for container in client.containers.list(all=True, filters=labelled, sparse=True):
        labels, name = container.attrs["Labels"], container.attrs["Names"][0].lstrip("/")
        if is_dead(labels[PROCESS_LABEL]):
            with suppress(*engine_errors()):  # another run may be removing it just now
                container.remove(force=True, v=True)
                yield f"removed container {name}, left behind by run {labels.get(RUN_LABEL)}"
    for kind, things in (("network", client.networks.list), ("volume", client.volumes.list)):
        for thing in things(filters=labelled):
            labels = thing.attrs["Labels"]
            if is_dead(labels[PROCESS_LABEL]):
                with suppress(*engine_errors()):
                    thing.remove()
                    yield f"removed {kind} {thing.name}, left behind by run {labels.get(RUN_LABEL)}"


def remove_unnamed_images(client: "DockerClient", images: Collection[str]) -> Iterator[str]:
    """Remove those of these images (ids) that are of a cell and have no name any more; one sentence for each.

    A build removes the image whose name it takes. What escapes it: an image that a container stood on just then, that
    two builds of one name displaced at once, or whose successor's build was killed. One that something still stands on
    stays.
    """
    nameless = client.api.images(filters={"dangling": True, "label": CELL_LABEL}) if images else []
    for image in nameless:
        if image["Id"] in images and not any(name != "<none>:<none>" for name in image.get("RepoTags") or ()):
            with suppress(*engine_errors()):
                client.api.remove_image(image["Id"])
                yield f"removed an image of {image['Labels'][CELL_LABEL]} that lost its name ({image['Id'][7:19]})"


_HOME = "/var/lib/rlimages"
"""Where `scripts/engine` puts its engine when RLIMAGES_HOME does not say."""


def data_folder(client: "DockerClient", environ: Mapping[str, str]) -> Path | None:
    """The engine's data folder; None where it is not on this machine: then nobody here can tell how full it is."""
    if not environ.get("DOCKER_HOST", "unix://").startswith("unix://"):
        return None
    info = client.info()
    folder = Path(info["DockerRootDir"])
    return folder if info["Name"] == socket.gethostname() and folder.is_dir() else None


def is_own_engine(environ: Mapping[str, str]) -> bool:
    """True when the engine is one that `scripts/engine` started: its socket is in that program's folder."""
    home = Path(environ.get("RLIMAGES_HOME") or _HOME).resolve()
    return environ.get("DOCKER_HOST", "") == f"unix://{home}/docker.sock"


def prune_build_cache(client: "DockerClient", wanted: int, environ: Mapping[str, str]) -> Iterator[str]:
    """Remove `wanted` bytes of build cache, the oldest first; one sentence, if any went.

    Somebody else's engine is left alone, and so is what an image or a build that goes on still stands on. Where all of
    it would not be enough, none goes: a build that fails anyway must not slow down the next.
    """
    if not is_own_engine(environ):
        return
    held = sum(int(record["Size"]) for record in client.api.df()["BuildCache"] or () if not record.get("Shared"))
    if held < wanted:
        return
    freed = int(client.api.prune_builds(keep_storage=held - wanted)["SpaceReclaimed"] or 0)
    if freed:
        yield f"removed {format_memory(freed)} of old build cache"
