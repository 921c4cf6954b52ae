"""Resolve an argument of the command line to an image: a cell, a name in the local store, or a reference."""

from dataclasses import dataclass
from pathlib import Path

from rlimages.engine.protocol import Engine, ImageStore
from rlimages.errors import ConfigError, FactoryError, SelectionError, ToolError
from rlimages.matrix.cell import select_cells
from rlimages.project.project import Project, load_project


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalSubject:
    """An image of the local store, and the tags that it would be published under."""

    name: str
    tags: tuple[str, ...]


def find_project(matrix: Path | None, start: Path) -> Project | None:
    """The project, or None where there is none: an image can be judged anywhere. Raises `ConfigError`."""
    try:
        return load_project(matrix, start)
    except ConfigError:
        raise
    except FactoryError:
        return None


def find_subjects(word: str, store: ImageStore, owner: Project | None) -> tuple[LocalSubject, ...]:
    """The images of the local store that a word means. Raises `SelectionError`, `ToolError`."""
    cells = owner.cells if owner else ()
    if word and store.inspect(word) is not None:
        cell = next((cell for cell in cells if cell.local_name == word), None)
        return (LocalSubject(name=word, tags=cell.tags if cell else _tag(word)),)
    neither = f"'{word}' is no image of the local store and names no registry"
    if owner is None:
        raise SelectionError(f"{neither}, and no project with cells is here; docker pull it, or give --matrix")
    try:
        found = select_cells(cells, (word,))
    except SelectionError as error:
        raise SelectionError(f"{neither}, and {error}") from None
    for cell in found:
        if store.inspect(cell.local_name) is None:
            raise ToolError(f"there is no image of {cell.id} in the local store; rlimages build --select {cell.id}")
    return tuple(LocalSubject(name=cell.local_name, tags=cell.tags) for cell in found)


def _tag(name: str) -> tuple[str, ...]:
    """The tag of a name of the local store; an id has none."""
    tag = name.rpartition("/")[2].partition("@")[0].partition(":")[2]
    return (tag,) if tag and not name.startswith("sha256:") else ()


def find_image(word: str, engine: Engine, matrix: Path | None, start: Path) -> str:
    """The image of the local store that goes by this name, or is this cell's. Raises `FactoryError`."""
    if engine.inspect(word) is not None:
        return word
    if "/" in word or ":" in word:
        raise ToolError(f"there is no image {word} in the local store; docker pull {word}")
    cells = select_cells(load_project(matrix, start).cells, (word,))
    if len(cells) > 1:
        raise SelectionError(f"this runs in one image, and '{word}' is {', '.join(cell.id for cell in cells)}")
    if engine.inspect(cells[0].local_name) is None:
        raise ToolError(f"there is no image of {word} in the local store; rlimages build --select {word}")
    return cells[0].local_name
