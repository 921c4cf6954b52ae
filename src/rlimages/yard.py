"""Where an engine keeps its data, and what of it may go when there is too little room."""

import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rlimages.room import spoken

if TYPE_CHECKING:
    from docker import DockerClient

_HOME = "/var/lib/rlimages"
"""Where `scripts/engine` puts its engine when RLIMAGES_HOME does not say."""


def data(client: "DockerClient", environ: Mapping[str, str]) -> Path | None:
    """The engine's data folder; None where it is not on this machine: then nobody here can tell how full it is."""
    if not environ.get("DOCKER_HOST", "unix://").startswith("unix://"):
        return None
    info = client.info()
    folder = Path(info["DockerRootDir"])
    return folder if info["Name"] == socket.gethostname() and folder.is_dir() else None


def is_ours(environ: Mapping[str, str]) -> bool:
    """True when the engine is one that `scripts/engine` started: its socket is in that program's folder."""
    home = Path(environ.get("RLIMAGES_HOME") or _HOME).resolve()
    return environ.get("DOCKER_HOST", "") == f"unix://{home}/docker.sock"


def shrink(client: "DockerClient", wanted: int, environ: Mapping[str, str]) -> Iterator[str]:
    """Remove `wanted` bytes of build cache, the oldest first; one sentence, if any went.

    Somebody else's engine is left alone, and so is what an image or a build that goes on still stands on. Where all of
    it would not be enough, none goes: a build that fails anyway must not slow down the next.
    """
    if not is_ours(environ):
        return
    held = sum(int(record["Size"]) for record in client.api.df()["BuildCache"] or () if not record.get("Shared"))
    if held < wanted:
        return
    freed = int(client.api.prune_builds(keep_storage=held - wanted)["SpaceReclaimed"] or 0)
    if freed:
        yield f"removed {spoken(freed)} of old build cache"
