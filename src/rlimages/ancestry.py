"""What changed in a project since a commit: every cell's inputs then and now, not a list of paths."""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from rlimages import project, shell
from rlimages.cell import Cell
from rlimages.destination import checks_of
from rlimages.digest import Inputs, Ledger, explain
from rlimages.errors import FactoryError, UsageError
from rlimages.project import Project
from rlimages.proof import suite_of


def affected(now: Project, commit: str) -> Mapping[str, tuple[str, ...]]:
    """The cells that are not what they were at a commit, and why. A changed check counts as well.

    Unsure means affected: a matrix that this factory cannot read any more says nothing of its cells. Raises
    `UsageError` where there is no such commit.
    """
    with tempfile.TemporaryDirectory(prefix="rlimages-") as folder:
        root = taken_out(now.root, commit, Path(folder))
        try:
            then = project.load(root / now.matrix.name, root)
            before = inputs(then)
            suites = _suites(then)
        except FactoryError as error:
            reason = f"the project cannot be read as it was at {commit}: {error}"
            return {cell.id: (reason,) for cell in now.cells}
        present = _suites(now)
        changes = {
            name: (
                *(map(str, explain(before[name].entries, told)) if name in before else ("new in the matrix",)),
                *(("its checks changed",) if suites.get(name, present[name]) != present[name] else ()),
            )
            for name, told in inputs(now).items()
        }
    return {name: why for name, why in changes.items() if why}


def inputs(at: Project) -> Mapping[str, Inputs]:
    """The inputs of every cell of a project, its bases as they are locked."""
    ledgers: dict[Path, Ledger] = {}
    known: dict[str, Inputs] = {}

    def of(owner: Project, cell: Cell) -> Inputs:
        if cell.id not in known:
            if cell.extends:
                ground = {f"parent {cell.extends}": of(*owner.family[cell.extends]).build}
            else:
                ground = {f"base {cell.base.image}": owner.locked_bases.get(cell.base.image, "")}
            known[cell.id] = ledgers.setdefault(owner.root, Ledger(owner.root)).inputs(cell, ground)
        return known[cell.id]

    return {cell.id: of(at, cell) for cell in at.cells}


def taken_out(root: Path, commit: str, folder: Path) -> Path:
    """Write what a commit has into a folder; where `root` is in there. Raises `UsageError`."""
    top = Path(_git(root, "rev-parse", "--show-toplevel", remedy="this needs the project's git repository"))
    _git(root, "rev-parse", "--verify", f"{commit}^{{commit}}", remedy=f"there is no commit '{commit}' here")
    archive = folder / "archive.tar"
    _git(top, "archive", "--format=tar", f"--output={archive}", commit, remedy=f"'{commit}' cannot be taken out")
    tree = folder / "tree"
    tree.mkdir()
    shell.run(["tar", "-xf", str(archive), "-C", str(tree)])
    archive.unlink()
    return tree / root.resolve().relative_to(top.resolve())


def _git(root: Path, *words: str, remedy: str) -> str:
    said: list[str] = []
    if not shell.run(["git", *words], on_line=said.append, cwd=root, remedy="install git").passed:
        raise UsageError(f"{remedy}: {said[-1] if said else 'git said nothing'}")
    return "\n".join(said)


def _suites(at: Project) -> Mapping[str, str]:
    """Cell -> what names its checks."""
    find = checks_of(at)
    return {cell.id: suite_of(find(cell)) for cell in at.cells}
