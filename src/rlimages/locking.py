"""Bring the locks of a project up to date: one uv run for each cell whose lock is stale."""

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from rlimages import lock, tree
from rlimages.cell import Cell
from rlimages.lock import LockInputs
from rlimages.project import Project


def stale(project: Project, cells: tuple[Cell, ...], *, everything: bool) -> Iterator[str]:
    """One sentence for each stale lock; with `everything`, also for locks that belong to no cell."""
    toolkits = project.toolkits if everything else ()
    yield from lock.stale(project.lock_inputs(cells), project.root, toolkits)


def resolve(project: Project, cells: tuple[Cell, ...], *, environ: Mapping[str, str], force: bool) -> Iterator[str]:
    """Resolve stale locks, all with `force`; one line for each. Raises `ToolError` with uv's words."""
    from uv import find_uv_bin

    for asked in project.lock_inputs(cells):
        path = project.root / asked.cell.lock
        if not force and asked.header in (tree.read(path) or ""):
            yield f"kept {asked.cell.lock}"
            continue
        tree.write(path, lock.text(asked, _resolved(asked, find_uv_bin(), environ)))
        yield f"wrote {asked.cell.lock}"


def _resolved(asked: LockInputs, uv: str, environ: Mapping[str, str]) -> str:
    from rlimages import pipconfig, shell

    said: list[str] = []
    with tempfile.TemporaryDirectory(prefix="rlimages-lock-") as name:
        folder = Path(name)
        for file, content in asked.files().items():
            tree.write(folder / file, content)
        output = folder / "lock.txt"
        settings = pipconfig.read(environ, pipconfig.configuration_files(environ, Path.home()))
        env = {**settings.for_uv(), **environ}
        ended = shell.run(lock.argv(uv, asked, folder, output), on_line=said.append, env=env)
        if not ended.passed:
            raise lock.failed(asked.cell, "\n".join(said))
        return output.read_text(encoding="utf-8").replace(f"{folder}/", "")
