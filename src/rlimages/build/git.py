"""Read the commit of the project's checkout, and export a commit into a folder."""

from collections.abc import Mapping
from pathlib import Path

from rlimages.errors import ToolError, UsageError
from rlimages.matrix.cell import EMPTY
from rlimages.oci.labels import REVISION_LABEL
from rlimages.system.process import run_program


def export_commit(root: Path, commit: str, folder: Path) -> Path:
    """Write all files of `commit` into `folder`, and return the exported project folder, which corresponds to `root`.

    `root` is the project folder in the checkout, which is not changed. Raises `UsageError` if `root` is not in a git
    repository or `commit` does not exist there.
    """
    top = Path(_git(root, "rev-parse", "--show-toplevel", problem="this needs the project's git repository"))
    _git(root, "rev-parse", "--verify", f"{commit}^{{commit}}", problem=f"there is no commit '{commit}' here")
    archive = folder / "archive.tar"
    _git(top, "archive", "--format=tar", f"--output={archive}", commit, problem=f"cannot export commit '{commit}'")
    tree = folder / "tree"
    tree.mkdir()
    run_program(["tar", "-xf", str(archive), "-C", str(tree)])
    archive.unlink()
    # The project may be a subfolder of its repository.
    return tree / root.resolve().relative_to(top.resolve())


def revision_labels(root: Path) -> Mapping[str, str]:
    """Return a mapping from the name of the revision label to the current commit of the checkout at `root`.

    The mapping is empty if files below `root` differ from the commit, which then does not describe them, if `root` is
    not in a git repository, or if git is not installed.
    """
    try:
        head: list[str] = []
        if not run_program(["git", "rev-parse", "HEAD"], on_line=head.append, cwd=root).passed:
            return EMPTY
        changes: list[str] = []
        status = run_program(["git", "status", "--porcelain", "--", "."], on_line=changes.append, cwd=root)
    except ToolError:
        return EMPTY
    return {REVISION_LABEL: head[0]} if status.passed and not changes else EMPTY


def _git(root: Path, *arguments: str, problem: str) -> str:
    """Run git with `arguments` in the folder `root`, and return its output.

    Raises `UsageError` with `problem` and git's last line if it fails, and `ToolError` if git is not installed.
    """
    lines: list[str] = []
    if not run_program(["git", *arguments], on_line=lines.append, cwd=root, remedy="install git").passed:
        raise UsageError(f"{problem}: {lines[-1] if lines else 'git printed nothing'}")
    return "\n".join(lines)
