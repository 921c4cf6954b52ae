"""The ledger of releases: each is begun under a name, and found again by it."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rlimages import journal
from rlimages.cell import Cell
from rlimages.errors import SelectionError
from rlimages.journal import Journal
from rlimages.shipment import Item


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """What is released, wherever it goes. Read back from its journal when it is resumed."""

    name: str
    target: str
    items: tuple[Item, ...]
    source: str = ""
    """The target that it is promoted from; without one the images are those of the local store."""

    @property
    def cells(self) -> tuple[str, ...]:
        """Ids of its cells."""
        return tuple(item.cell for item in self.items)


def begin(folder: Path, target: str, items: Iterable[Item], source: str = "") -> tuple[Release, Journal]:
    """A new release, whose journal lies in a folder of its own below `folder`."""
    name = f"{datetime.now(UTC).strftime('%Y%m%dT%H%M%S')}-{os.getpid()}"
    release = Release(name=name, target=target, items=tuple(items), source=source)
    book = Journal(folder / name / journal.NAME)
    told = [
        {"cell": i.cell, "repository": i.repository, "image": i.image, "tags": list(i.tags), "build": i.build}
        for i in release.items
    ]
    book.write("release", target=target, source=source, items=told)
    return release, book


def reopen(folder: Path, name: str) -> tuple[Release, Journal]:
    """An earlier release; `latest` is the newest. Raises `SelectionError` where there is none of that name."""
    known = sorted(path.parent.name for path in folder.glob(f"*/{journal.NAME}"))
    if not known or (name != "latest" and name not in known):
        raise SelectionError(
            f"there is no release '{name}' in {folder}" + (f"; the newest is {known[-1]}" if known else "")
        )
    chosen = known[-1] if name == "latest" else name
    book = Journal(folder / chosen / journal.NAME)
    told: Mapping[str, Any] = next(book.told("release"), {})
    items = tuple(
        Item(
            cell=i["cell"],
            repository=i["repository"],
            image=i["image"],
            tags=tuple(i["tags"]),
            build=i.get("build", ""),
        )
        for i in told.get("items", ())
    )
    return Release(name=chosen, target=told.get("target", ""), items=items, source=told.get("source", "")), book


def item_of(cell: Cell, image: str, build: str = "") -> Item:
    """A cell's image under all the names that the matrix gives it; `build` is its build digest."""
    return Item(cell=cell.id, repository=cell.repository, image=image, tags=cell.tags, build=build)
