"""Promote images from one target to another: by digest, from registry to registry, and only what passed its checks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rlimages import proof
from rlimages.cell import Cell
from rlimages.distribution import Blob, Manifest
from rlimages.errors import RegistryError
from rlimages.places import Opened
from rlimages.proof import Proof
from rlimages.registry import Registry
from rlimages.shipment import Content, Fetch, Item


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """An image of the source that may be promoted."""

    item: Item
    proof: Proof


@dataclass(frozen=True, kw_only=True)
class Held:
    """An image in a registry, as the content of a release."""

    manifest: Manifest
    registry: Registry
    repository: str

    def chunks(self, blob: Blob) -> Iterator[bytes]:
        """A blob, piece by piece; who stores it checks its digest."""
        return self.registry.read_blob(self.repository, blob.digest)


def candidates(
    cells: Sequence[Cell], source: Opened, suite: Callable[[Cell], Sequence[Path]], proofs: Path
) -> tuple[Candidate, ...]:
    """What the source holds under the cells' own tags. Raises `RegistryError` naming all that can't be promoted.

    That is what is not there, and what has no recorded PASS of its whole suite as it is now: an image that was built
    anew since, or one check that was changed. `suite` gives the programs that check a cell, `proofs` is where this
    machine's records are.
    """
    found, problems = [], []
    for cell in cells:
        item = Item(cell=cell.id, repository=cell.repository, image="", tags=cell.tags)
        repository = source.place.repository(item)
        name = f"{source.place.host}/{repository}:{cell.tag}"
        manifest = source.registry.manifest(repository, cell.tag)
        if manifest is None:
            problems.append(f"{name} is not there; publish {cell.id} to {source.place.name} first")
            continue
        wanted = proof.suite_of(suite(cell))
        record = proof.find(manifest.image, wanted, registry=source.registry, repository=repository, folder=proofs)
        if record is None:
            problems.append(
                f"{name} ({manifest.digest}) has no recorded PASS of the checks as they are now; "
                f"run `rlimages publish --select {cell.id}` to {source.place.name} again"
            )
            continue
        named = Item(cell=cell.id, repository=cell.repository, image=manifest.image, tags=cell.tags)
        found.append(Candidate(item=named, proof=record))
    if problems:
        raise RegistryError("nothing is promoted:\n" + "\n".join(f"  {problem}" for problem in problems))
    return tuple(found)


def nearest(sources: Sequence[Opened], to: Opened) -> Opened:
    """The source to copy from: the one of the same registry, else of the same region, else the first."""
    region = to.place.name.rpartition("/")[2]
    same_host = [source for source in sources if source.place.host == to.place.host]
    same_region = [source for source in sources if source.place.name.rpartition("/")[2] == region]
    return [*same_host, *same_region, *sources][0]


def from_registry(sources: Sequence[Opened], tags: Mapping[str, str]) -> Callable[[Opened], Fetch]:
    """Images of another target; `tags`: cell -> the tag that names its image there."""

    def of(opened: Opened) -> Fetch:
        source = nearest(sources, opened)

        def fetch(item: Item, _wanted: Callable[[Blob], bool]) -> Content:
            repository = source.place.repository(item)
            manifest = source.registry.manifest(repository, tags[item.cell])
            if manifest is None or manifest.image != item.image:
                held = manifest.image if manifest else "nothing"
                raise RegistryError(
                    f"{source.place.host}/{repository}:{tags[item.cell]} holds {held} now; chosen was {item.image}"
                )
            return Held(manifest=manifest, registry=source.registry, repository=repository)

        return fetch

    return of


def shared(sources: Sequence[Opened], items: Sequence[Item]) -> Callable[[Opened], Sequence[str]]:
    """The source's repositories, where they are in the same registry: layers are mounted and not sent."""

    def of(opened: Opened) -> Sequence[str]:
        source = nearest(sources, opened)
        if source.place.host != opened.place.host:
            return ()
        return tuple(dict.fromkeys(source.place.repository(item) for item in items))

    return of
