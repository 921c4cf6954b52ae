"""Find the check programs of a cell (its suite), and compose their input, `cell.json`.

A check program is `smoke/check_<name>.py`. It runs inside the image, without network, and can read only the image and
`cell.json`.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlimages.engine.protocol import InspectedImage
from rlimages.matrix.cell import Cell
from rlimages.oci.manifest import sha256_digest
from rlimages.project.project import Project


@dataclass(frozen=True, kw_only=True, slots=True)
class SmokeCheck:
    """A check program, and the cell whose properties it verifies: the image's cell, or one that this cell extends."""

    program: Path
    cell: Cell

    @property
    def name(self) -> str:
        """The name of the check: the file name of its program without `check_` and `.py`."""
        return self.program.stem.removeprefix("check_")


CheckPrograms = Callable[[Cell], Sequence[Path]]
"""Function that returns the paths of the check programs of a cell."""


def find_checks(roots: Sequence[Path], cell: Cell, cells_by_id: Mapping[str, Cell]) -> tuple[SmokeCheck, ...]:
    """Return the checks of `cell`: those of all images, those of its toolkit, and those of the cells that it extends.

    `roots` are the folders of the project and its parent projects, the project first. `cells_by_id` maps the id of each
    cell that may be extended to the cell. A toolkit's program replaces a common one with the same file name. The checks
    of an extended cell's toolkit verify the extended cell: its version, not that of `cell`.
    """
    cell_of_toolkit: dict[str, Cell] = {}
    ancestor: Cell | None = cell
    while ancestor is not None and ancestor.toolkit not in cell_of_toolkit:
        cell_of_toolkit[ancestor.toolkit] = ancestor
        ancestor = cells_by_id.get(ancestor.extends or "")
    checks: dict[str, SmokeCheck] = {}
    # From the general to the special, because a later program replaces an earlier one of the same file name.
    for folder, verified in [("templates", cell), *reversed(cell_of_toolkit.items())]:
        for root in reversed(roots):
            programs = sorted((root / folder / "smoke").glob("check_*.py"))
            checks.update({path.name: SmokeCheck(program=path, cell=verified) for path in programs})
    return tuple(checks.values())


def check_programs(project: Project) -> CheckPrograms:
    """Return a function that returns the paths of the check programs of a cell of `project`."""
    return lambda cell: [check.program for check in find_checks(project.roots, cell, project.cells_by_id)]


def check_input(cell: Cell, image: InspectedImage) -> dict[str, Any]:
    """Return the JSON object that checks read from `/checks/cell.json`.

    It has the properties of `cell` that the matrix states, and the configuration and the size in bytes of `image`.
    """
    framework = cell.framework
    return {
        "id": cell.id,
        "toolkit": cell.toolkit,
        "version": cell.version,
        "framework": {"name": framework.name, "version": framework.version} if framework else None,
        "processor": cell.processor.value,
        "python": cell.python,
        "interpreter": cell.base.interpreter,
        "cuda": cell.base.cuda,
        "os": cell.base.os,
        "line": cell.line,
        "inventory": dict(cell.inventory),
        "promised_env": dict(cell.env),
        "workdir": cell.workdir,
        "display": cell.display,
        "labels": dict(image.labels),
        "entrypoint": list(image.entrypoint),
        "command": list(image.command),
        "user": image.user,
        "env": dict(entry.partition("=")[::2] for entry in image.env),
        "size": image.image.size,
    }


def suite_digest(programs: Sequence[Path]) -> str:
    """Return the digest (`sha256:…`) of the names and contents of check programs. Their order does not matter."""
    lines = sorted(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in programs)
    return sha256_digest("\n".join(lines).encode())
