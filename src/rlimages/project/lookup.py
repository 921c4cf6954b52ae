"""Resolve an argument of the command line to images: a registry reference, a local image, or cells of the project.

`find_…` looks in the local store only. `resolve_…` also accepts a reference that names a registry. A command that takes
several images (`…_subjects`) accepts patterns of cell ids; a command that takes one (`…_image`) refuses them.
"""

from dataclasses import dataclass
from pathlib import Path

from rlimages.engine.protocol import Engine, ImageStore
from rlimages.errors import ConfigError, FactoryError, RegistryError, SelectionError, ToolError
from rlimages.matrix.cell import Cell, select_cells
from rlimages.oci.manifest import Reference, parse_reference
from rlimages.project.project import Project, load_project


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalSubject:
    """An image of the local store (the engine's images), and the tags under which it would be published."""

    name: str
    """Name or id in the local store."""
    tags: tuple[str, ...]
    """Without the repository; empty for an id."""


def find_project(matrix: Path | None, start: Path) -> Project | None:
    """Return the project of the file `matrix`, or else of the nearest matrix at or above the folder `start`.

    Return None if there is no matrix, for commands that also work without a project. Raises `ConfigError` if the matrix
    cannot be read or has mistakes.
    """
    try:
        return load_project(matrix, start)
    except ConfigError:
        raise
    except FactoryError:
        return None


def parse_registry_reference(argument: str) -> Reference | None:
    """Return the parsed reference if `argument` names a registry, as `host[:port]/repository:tag` does; else None."""
    try:
        return parse_reference(argument)
    except RegistryError:
        return None


def resolve_subjects(
    argument: str, engine: Engine | ImageStore, project: Project | None
) -> Reference | tuple[LocalSubject, ...]:
    """Return the parsed reference if `argument` names a registry; or else the local images that it selects.

    The registry comes first: an image of this name in the local store is ignored. `engine` and `project` are used, and
    errors raised, as by `find_subjects`.
    """
    return parse_registry_reference(argument) or find_subjects(argument, engine, project)


def find_subjects(argument: str, engine: Engine | ImageStore, project: Project | None) -> tuple[LocalSubject, ...]:
    """Return the images of the local store (the images of `engine`) that `argument` selects.

    It is the name or id of one image, or a pattern of cell ids of `project`, such as `ray-*`. Raises `SelectionError`
    if it is neither, and `ToolError` if a selected cell has no image in the local store.
    """
    cells = project.cells if project else ()
    if argument and engine.inspect(argument) is not None:
        cell = next((cell for cell in cells if cell.local_name == argument), None)
        return (LocalSubject(name=argument, tags=cell.tags if cell else _tags_of_name(argument)),)
    problem = f"'{argument}' is not an image of the local store, and does not name a registry"
    if project is None:
        raise SelectionError(f"{problem}; there is no project here whose cells it could mean; pull it or give --matrix")
    try:
        selected = select_cells(cells, (argument,))
    except SelectionError as error:
        raise SelectionError(f"{problem}; {error}") from None
    return tuple(LocalSubject(name=_built_name(cell, engine), tags=cell.tags) for cell in selected)


def resolve_image(argument: str, engine: Engine | ImageStore, matrix: Path | None, start: Path) -> Reference | str:
    """Return the name or id of the one local image that `argument` selects; or a parsed reference to a registry.

    The local store (the images of `engine`) comes first: the reference is returned only if the local store does not
    have its image. `matrix` and `start` are used, and errors raised, as by `find_image`.
    """
    reference = parse_registry_reference(argument)
    if reference is not None and engine.inspect(argument) is None:
        return reference
    return find_image(argument, engine, matrix, start)


def find_image(argument: str, engine: Engine | ImageStore, matrix: Path | None, start: Path) -> str:
    """Return the name or id of the one image of the local store (the images of `engine`) that `argument` selects.

    It is the name or id of an image, or the id of a cell. For a cell, the project of the file `matrix` is loaded, or
    else of the nearest matrix at or above the folder `start`. Raises `ToolError` if the local store does not have the
    image, `SelectionError` if `argument` selects no cell or several, and as `load_project`.
    """
    if engine.inspect(argument) is not None:
        return argument
    if "/" in argument or ":" in argument:  # not the id of a cell, so the project need not be loaded
        raise ToolError(f"there is no image {argument} in the local store; docker pull {argument}")
    cells = select_cells(load_project(matrix, start).cells, (argument,))
    if len(cells) > 1:
        raise SelectionError(
            f"this command takes one image, and '{argument}' is {', '.join(cell.id for cell in cells)}"
        )
    return _built_name(cells[0], engine)


def _built_name(cell: Cell, engine: Engine | ImageStore) -> str:
    """Return the name of the local image of `cell`. Raises `ToolError` if `engine` does not have it."""
    if engine.inspect(cell.local_name) is None:
        raise ToolError(f"there is no image of {cell.id} in the local store; rlimages build --select {cell.id}")
    return cell.local_name


def _tags_of_name(name: str) -> tuple[str, ...]:
    """Return the tag in `name`, the name of a local image, as the only item; an empty tuple for an id or a digest."""
    tag = name.rpartition("/")[2].partition("@")[0].partition(":")[2]
    return (tag,) if tag and not name.startswith("sha256:") else ()
