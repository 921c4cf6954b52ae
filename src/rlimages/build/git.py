"""Ask git for the project's commit, and export a commit into a folder."""

from collections.abc import Mapping
from pathlib import Path

from rlimages.errors import ToolError, UsageError
from rlimages.matrix.cell import EMPTY
from rlimages.oci.labels import REVISION_LABEL
from rlimages.system.process import run_program


def export_commit(root: Path, commit: str, folder: Path) -> Path:
    """Write what a commit has into a folder; where `root` is in there. Raises `UsageError`."""
    top = Path(_git(root, "rev-parse", "--show-toplevel", remedy="this needs the project's git repository"))
    _git(root, "rev-parse", "--verify", f"{commit}^{{commit}}", remedy=f"there is no commit '{commit}' here")
    archive = folder / "archive.tar"
    _git(top, "archive", "--format=tar", f"--output={archive}", commit, remedy=f"'{commit}' cannot be taken out")
    tree = folder / "tree"
    tree.mkdir()
    run_program(["tar", "-xf", str(archive), "-C", str(tree)])
    archive.unlink()
    return tree / root.resolve().relative_to(top.resolve())


def _git(root: Path, *words: str, remedy: str) -> str:
    said: list[str] = []
    if not run_program(["git", *words], on_line=said.append, cwd=root, remedy="install git").passed:
        raise UsageError(f"{remedy}: {said[-1] if said else 'git said nothing'}")
    return "\n".join(said)


def revision_labels(root: Path) -> Mapping[str, str]:
    """The label of a clean checkout; none for a changed one, or where there is no git: no commit says what it has."""
    try:
        said: list[str] = []
        if not run_program(["git", "rev-parse", "HEAD"], on_line=said.append, cwd=root).passed:
            return EMPTY
        changed: list[str] = []
        status = run_program(["git", "status", "--porcelain", "--", "."], on_line=changed.append, cwd=root)
    except ToolError:
        return EMPTY
    return {REVISION_LABEL: said[0]} if status.passed and not changed else EMPTY
