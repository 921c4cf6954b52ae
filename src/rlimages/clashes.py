"""What no single row of the matrix can see: a name taken twice, an alias going back."""

from collections.abc import Iterable, Iterator, Mapping

from packaging.version import Version

from rlimages.cell import Cell
from rlimages.located import Located, Path, Problem


def clashes(
    cells: tuple[Cell, ...], paths: Mapping[int, Path], document: Located, parents: Iterable[Cell] = ()
) -> Iterator[Problem]:
    """Every clash, also with the cells of another matrix; `paths` gives, for each cell, where its row stands."""
    by_id = {cell.id: cell for cell in parents}
    by_tag = {(cell.repository, tag): cell for cell in by_id.values() for tag in cell.tags}
    for index, cell in enumerate(cells):
        path = paths[index]
        if cell.id in by_id:
            yield document.problem(path, f"two cells are called {cell.id}; the first is at {by_id[cell.id].where}")
        by_id.setdefault(cell.id, cell)
        for tag in cell.tags:
            other = by_tag.setdefault((cell.repository, tag), cell)
            if other is not cell:
                message = f"{cell.id} and {other.id} ({other.where}) both claim the tag {cell.repository}:{tag}"
                yield document.problem(path, message)
    yield from _backward_aliases(cells, paths, document)


def _backward_aliases(cells: tuple[Cell, ...], paths: Mapping[int, Path], document: Located) -> Iterator[Problem]:
    newest: dict[tuple[object, ...], Cell] = {}
    for cell in cells:
        best = newest.setdefault(_minor(cell), cell)
        if Version(cell.version) > Version(best.version):
            newest[_minor(cell)] = cell
    for index, cell in enumerate(cells):
        best = newest[_minor(cell)]
        if cell.aliases and best is not cell:
            message = f"the alias {cell.aliases[0]} would go back to {cell.version}; {best.id} ({best.where}) is newer"
            yield document.problem((*paths[index], "aliases"), message)


def _minor(cell: Cell) -> tuple[object, ...]:
    release = Version(cell.version).release[:2]
    return (cell.toolkit, release, cell.framework and cell.framework.name, cell.processor, cell.line, cell.repository)
