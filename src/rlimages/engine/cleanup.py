"""Remove what the engine no longer needs: containers of dead runs, images without a name, and old build cache."""

import socket
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rlimages.engine.container import engine_errors
from rlimages.oci.labels import CELL_LABEL, PROCESS_LABEL, RUN_LABEL
from rlimages.system.process import is_dead
from rlimages.system.units import format_size

if TYPE_CHECKING:
    from docker import DockerClient


_ENGINE_HOME = "/var/lib/rlimages"
"""Folder with the socket of the engine that `scripts/engine` starts, if RLIMAGES_HOME is not set."""


def remove_orphans(client: "DockerClient") -> Iterator[str]:
    """Remove the containers, networks and volumes whose label names a process of this machine that no longer runs.

    Yield one line for each that was removed, for people. Objects that cannot be removed are left out.
    """
    labelled: dict[str, str | list[str] | bool] = {"label": PROCESS_LABEL}
    # Containers first: a network or volume cannot be removed while a container uses it.
    # `sparse` lists without inspecting: the engine answers that late for a busy container.
    for container in client.containers.list(all=True, filters=labelled, sparse=True):
        labels, name = container.attrs["Labels"], container.attrs["Names"][0].lstrip("/")
        if is_dead(labels[PROCESS_LABEL]):
            with suppress(*engine_errors()):  # another run may be removing it at the same time
                container.remove(force=True, v=True)
                yield f"removed container {name}, left behind by run {labels.get(RUN_LABEL)}"
    for kind, objects in (("network", client.networks.list), ("volume", client.volumes.list)):
        for found in objects(filters=labelled):
            labels = found.attrs["Labels"]
            if is_dead(labels[PROCESS_LABEL]):
                with suppress(*engine_errors()):
                    found.remove()
                    yield f"removed {kind} {found.name}, left behind by run {labels.get(RUN_LABEL)}"


def remove_dangling_images(client: "DockerClient", images: Collection[str]) -> Iterator[str]:
    """Remove the images of `images` (ids) that have the label of a cell and no name; yield one line for each removed.

    An image that a container or another image uses is kept. A build itself removes the image whose name it takes, with
    three exceptions, which are removed here: the image was in use then, two builds took the name at once, or the build
    was killed.
    """
    dangling = client.api.images(filters={"dangling": True, "label": CELL_LABEL}) if images else []
    for image in dangling:
        if image["Id"] in images and not any(name != "<none>:<none>" for name in image.get("RepoTags") or ()):
            with suppress(*engine_errors()):
                client.api.remove_image(image["Id"])
                yield f"removed an old image of {image['Labels'][CELL_LABEL]} that has no name ({image['Id'][7:19]})"


def data_folder(client: "DockerClient", environ: Mapping[str, str]) -> Path | None:
    """Return the folder in which the engine stores its images; None if the engine is on another machine.

    `environ` has the address of the engine, DOCKER_HOST. The folder is used to find the free disk of this machine.
    """
    if not environ.get("DOCKER_HOST", "unix://").startswith("unix://"):
        return None
    info = client.info()
    folder = Path(info["DockerRootDir"])
    # A socket may be forwarded from another machine, so the host name is compared too.
    return folder if info["Name"] == socket.gethostname() and folder.is_dir() else None


def is_own_engine(environ: Mapping[str, str]) -> bool:
    """Return whether DOCKER_HOST of `environ` is the socket of the engine that the program `scripts/engine` starts."""
    home = Path(environ.get("RLIMAGES_HOME") or _ENGINE_HOME).resolve()
    return environ.get("DOCKER_HOST", "") == f"unix://{home}/docker.sock"


def prune_build_cache(client: "DockerClient", size: int, environ: Mapping[str, str]) -> Iterator[str]:
    """Remove `size` bytes of build cache, the oldest first; yield one line for people if anything was removed.

    Nothing is removed if `environ` names another engine than that of `scripts/engine`. Cache that images or running
    builds use is kept. If all other cache is smaller than `size` bytes, nothing is removed: the build that needs the
    disk would fail anyway, and the next would be slower.
    """
    if not is_own_engine(environ):
        return
    # Shared records belong to images too: removing them frees nothing.
    cached = sum(int(record["Size"]) for record in client.api.df()["BuildCache"] or () if not record.get("Shared"))
    if cached < size:
        return
    freed = int(client.api.prune_builds(keep_storage=cached - size)["SpaceReclaimed"] or 0)
    if freed:
        yield f"removed {format_size(freed)} of old build cache"
