"""What runs left in the engine: things of dead processes, which carry a label that tells, and images without a name."""

from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from rlimages.container import engine_errors
from rlimages.shell import is_dead

if TYPE_CHECKING:
    from docker import DockerClient

RUN_LABEL = "rlimages.run"
PROCESS_LABEL = "rlimages.process"
CELL_LABEL = "rlimages.cell"


def remove(client: "DockerClient") -> Iterator[str]:
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


def forget(client: "DockerClient", images: Collection[str]) -> Iterator[str]:
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
