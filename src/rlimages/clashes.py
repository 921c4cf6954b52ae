"""What no single row of the matrix can see: a name taken twice, an alias going back, a lost parent."""

from collections.abc import Iterator, Mapping

from packaging.version import Version

from rlimages.cell import Cell
from rlimages.located import Located, Path, Problem
from rlimages.validation import did_you_mean


def clashes(cells: tuple[Cell, ...], paths: Mapping[int, Path], document: Located) -> Iterator[Problem]:
    """Every clash; `paths` gives, for each cell, where its row stands."""
    by_id: dict[str, Cell] = {}
    by_tag: dict[tuple[str, str], Cell] = {}
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
    for index, cell in enumerate(cells):
        yield from _lost_parent(cell, by_id, paths[index], document)
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


def _lost_parent(cell: Cell, by_id: Mapping[str, Cell], path: Path, document: Located) -> Iterator[Problem]:
    seen = [cell.id]
    parent = cell.extends
    while parent is not None:
        if parent not in by_id:
            hint = did_you_mean(parent, by_id)
            yield document.problem((*path, "extends"), f"there is no cell '{parent}' to extend{hint}")
            return
        if parent in seen:
            yield document.problem((*path, "extends"), f"{' -> '.join([*seen, parent])} is a circle")
            return
        seen.append(parent)
        parent = by_id[parent].extends
