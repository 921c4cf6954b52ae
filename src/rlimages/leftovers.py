"""What runs left in the engine whose process is dead: each thing carries a label that tells."""

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from rlimages.container import engine_errors
from rlimages.shell import is_dead

if TYPE_CHECKING:
    from docker import DockerClient

RUN_LABEL = "rlimages.run"
PROCESS_LABEL = "rlimages.process"


def remove(client: "DockerClient") -> Iterator[str]:
    """Remove containers, networks and volumes of dead processes; one sentence for each.

    Containers go first: neither a network nor a volume can go while they use it.
    """
    labelled: dict[str, str | list[str] | bool] = {"label": PROCESS_LABEL}
    for container in client.containers.list(all=True, filters=labelled, ignore_removed=True):
        if is_dead(container.labels[PROCESS_LABEL]):
            with suppress(*engine_errors()):  # another run may be removing it just now
                container.remove(force=True, v=True)
                yield f"removed container {container.name}, left behind by run {container.labels.get(RUN_LABEL)}"
    for kind, things in (("network", client.networks.list), ("volume", client.volumes.list)):
        for thing in things(filters=labelled):
            labels = thing.attrs["Labels"]
            if is_dead(labels[PROCESS_LABEL]):
                with suppress(*engine_errors()):
                    thing.remove()
                    yield f"removed {kind} {thing.name}, left behind by run {labels.get(RUN_LABEL)}"
