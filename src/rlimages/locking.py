"""Bring the locks of a project up to date: one uv run for each cell whose lock is stale."""

import sys
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

    done: dict[str, str] = {}  # cpu and gpu mostly ask for the same
    # one by one: what a cell that extends another asks for is in the lock that its parent has just got
    for asked in (asked for cell in cells for asked in project.lock_inputs((cell,))):
        path = project.root / asked.cell.lock
        if not force and asked.header in (tree.read(path) or ""):
            yield f"kept {asked.cell.lock}"
            continue
        if asked.digest not in done:
            done[asked.digest] = _resolved(asked, find_uv_bin(), environ)
        tree.write(path, lock.text(asked, done[asked.digest]))
        yield f"wrote {asked.cell.lock}"


def _resolved(asked: LockInputs, uv: str, environ: Mapping[str, str]) -> str:
    from rlimages import pipconfig, shell

    with tempfile.TemporaryDirectory(prefix="rlimages-lock-") as name:
        folder = Path(name)
        for file, content in asked.files().items():
            tree.write(folder / file, content)
        settings = pipconfig.read(environ, pipconfig.configuration_files(environ, Path.home()))
        env = {**settings.for_uv(), **environ, "TMPDIR": name}  # uv leaves lock files of its builds behind
        env.pop("PYTHONPATH", None)  # it would leak into the builds of source packages
        for command in lock.commands(uv, sys.executable, asked, folder):
            said: list[str] = []
            if not shell.run(command, on_line=said.append, env=env).passed:
                raise lock.failed(asked.cell, "\n".join(said))
        return (folder / "lock.txt").read_text(encoding="utf-8").replace(f"{folder}/", "")
