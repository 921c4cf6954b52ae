"""Find the cells whose build inputs or check programs changed since a commit."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from rlimages.build.git import export_commit
from rlimages.checks.suite import check_programs, suite_digest
from rlimages.errors import FactoryError
from rlimages.matrix.cell import Cell
from rlimages.plan.inputs import CellInputs, InputReader, explain_changes
from rlimages.project.project import Project, load_project


def affected_cells(project: Project, commit: str) -> Mapping[str, tuple[str, ...]]:
    """Return the ids of the affected cells, each with its reasons.

    A cell is affected if its build inputs or checks differ from those at `commit`. Each reason is a short text to
    print. The checkout of `project` may have uncommitted changes. If the project cannot be read as it was at
    `commit`, for example because the format of the matrix changed, every cell is affected. Raises `UsageError` if
    `commit` does not exist or `project` is not in a git repository.
    """
    with tempfile.TemporaryDirectory(prefix="rlimages-") as folder:
        root = export_commit(project.root, commit, Path(folder))
        try:
            old_project = load_project(root / project.matrix.name, root)
            old_inputs = cell_inputs(old_project)
            old_suites = _suite_digests(old_project)
        except FactoryError as error:
            reason = f"the project cannot be read as it was at {commit}: {error}"
            return {cell.id: (reason,) for cell in project.cells}
        suites = _suite_digests(project)
        reasons: dict[str, tuple[str, ...]] = {}
        for cell, inputs in cell_inputs(project).items():
            if cell not in old_inputs:
                reasons[cell] = ("new in the matrix",)
                continue
            reasons[cell] = tuple(map(str, explain_changes(old_inputs[cell].entries, inputs)))
            if old_suites[cell] != suites[cell]:
                reasons[cell] += ("its checks changed",)
    return {cell: changes for cell, changes in reasons.items() if changes}


def cell_inputs(project: Project) -> Mapping[str, CellInputs]:
    """Return cell id -> build inputs for every cell of `project`, without those of its parent projects.

    Base images count by their locked digest, which is empty for an unlocked one. No engine is asked.
    """
    readers: dict[Path, InputReader] = {}
    known: dict[str, CellInputs] = {}

    def read(owner: Project, cell: Cell) -> CellInputs:
        if cell.id not in known:
            if cell.extends:
                parent = read(owner.owners[cell.extends], owner.cells_by_id[cell.extends])
                base_digests = {f"parent {cell.extends}": parent.build}
            else:
                base_digests = {f"base {cell.base.image}": owner.locked_bases.get(cell.base.image, "")}
            known[cell.id] = readers.setdefault(owner.root, InputReader(owner.root)).read(cell, base_digests)
        return known[cell.id]

    return {cell.id: read(project, cell) for cell in project.cells}


def _suite_digests(project: Project) -> Mapping[str, str]:
    """Return cell id -> digest of the cell's check programs, for every cell of `project`."""
    programs_of = check_programs(project)
    return {cell.id: suite_digest(programs_of(cell)) for cell in project.cells}
