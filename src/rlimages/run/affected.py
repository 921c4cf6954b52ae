"""Find the cells that changed since a commit."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from rlimages.build.git import export_commit
from rlimages.checks.suite import check_programs, suite_digest
from rlimages.errors import FactoryError
from rlimages.matrix.cell import Cell
from rlimages.plan.inputs import InputReader, Inputs, explain_changes
from rlimages.project.project import Project, load_project


def affected_cells(now: Project, commit: str) -> Mapping[str, tuple[str, ...]]:
    """The cells that are not what they were at a commit, and why. A changed check counts as well.

    Unsure means affected: a matrix that this factory cannot read any more says nothing of its cells. Raises
    `UsageError` where there is no such commit.
    """
    with tempfile.TemporaryDirectory(prefix="rlimages-") as folder:
        root = export_commit(now.root, commit, Path(folder))
        try:
            then = load_project(root / now.matrix.name, root)
            before = cell_inputs(then)
            suites = _check_suites(then)
        except FactoryError as error:
            reason = f"the project cannot be read as it was at {commit}: {error}"
            return {cell.id: (reason,) for cell in now.cells}
        present = _check_suites(now)
        changes = {
            name: (
                *(map(str, explain_changes(before[name].entries, told)) if name in before else ("new in the matrix",)),
                *(("its checks changed",) if suites.get(name, present[name]) != present[name] else ()),
            )
            for name, told in cell_inputs(now).items()
        }
    return {name: why for name, why in changes.items() if why}


def cell_inputs(at: Project) -> Mapping[str, Inputs]:
    """The inputs of every cell of a project, its bases as they are locked."""
    ledgers: dict[Path, InputReader] = {}
    known: dict[str, Inputs] = {}

    def of(owner: Project, cell: Cell) -> Inputs:
        if cell.id not in known:
            if cell.extends:
                ground = {
                    f"parent {cell.extends}": of(owner.owners[cell.extends], owner.cells_by_id[cell.extends]).build
                }
            else:
                ground = {f"base {cell.base.image}": owner.locked_bases.get(cell.base.image, "")}
            known[cell.id] = ledgers.setdefault(owner.root, InputReader(owner.root)).read(cell, ground)
        return known[cell.id]

    return {cell.id: of(at, cell) for cell in at.cells}


def _check_suites(at: Project) -> Mapping[str, str]:
    """Cell -> what names its checks."""
    find = check_programs(at)
    return {cell.id: suite_digest(find(cell)) for cell in at.cells}
