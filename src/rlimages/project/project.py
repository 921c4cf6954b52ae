"""Load a project: the folder with a build matrix, its templates, Dockerfiles, locks and state folder."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from rlimages.errors import ConfigError, FactoryError
from rlimages.matrix.accounts import Accounts, load_accounts
from rlimages.matrix.cell import Cell, Matrix
from rlimages.project.base_lock import BASE_LOCK
from rlimages.project.state import STATE, StateFolder
from rlimages.system.cache import cached
from rlimages.system.files import read_text

if TYPE_CHECKING:
    from rlimages.matrix.parser import ReadParents
    from rlimages.project.base_lock import LockedBase
    from rlimages.project.requirements_lock import LockInputs


MATRIX = "build_matrix.yaml"
"""Name of the build matrix, by which the root of a project is found."""


@dataclass(frozen=True, kw_only=True)
class Project:
    """A project: a folder with a build matrix, and the Dockerfiles, locks and templates that belong to it."""

    root: Path
    """Absolute path of the folder that has the matrix."""
    matrix: Matrix
    parent: "Project | None" = None
    """The project that the matrix names under `parents:`, whose cells can be extended too; None if it names none."""

    @property
    def state(self) -> StateFolder:
        """The state folder `.rlimages` of this project, with its logs, reports, journals and caches."""
        return StateFolder(self.root / STATE)

    @property
    def accounts(self) -> Accounts:
        """The AWS accounts that publish base images, in tables: one table for each family of images, by region."""
        return load_accounts()

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All cells (images) of the matrix, in its order, without the cells of parent projects."""
        return self.matrix.cells

    @cached_property
    def toolkits(self) -> tuple[str, ...]:
        """The names of the toolkits of the matrix, in its order. The folder of a toolkit has the same name."""
        return tuple(dict.fromkeys(cell.toolkit for cell in self.cells))

    @cached_property
    def with_parents(self) -> "tuple[Project, ...]":
        """The project itself, then its parent project, the parent's parent, and so on."""
        return (self, *(self.parent.with_parents if self.parent else ()))

    @cached_property
    def roots(self) -> tuple[Path, ...]:
        """The root of this project, then those of its parents: the order in which templates and checks are searched."""
        return tuple(project.root for project in self.with_parents)

    @cached_property
    def owners(self) -> "Mapping[str, Project]":
        """Cell id -> the project that defines the cell, for the cells of this project and its parents.

        If several projects define an id, this project comes before its parent.
        """
        # The project itself is last, because a later entry of a dict replaces an earlier one.
        return {cell.id: project for project in reversed(self.with_parents) for cell in project.cells}

    @cached_property
    def cells_by_id(self) -> Mapping[str, Cell]:
        """Cell id -> cell, for the cells of this project and its parents.

        If several projects define an id, this project comes before its parent.
        """
        return {cell.id: cell for project in reversed(self.with_parents) for cell in project.cells}

    @cached_property
    def base_lock(self) -> "Mapping[str, LockedBase]":
        """Base image, as the matrix names it -> its entry in the base lock, `build_matrix.lock.yaml`.

        Empty if the project has no base lock. Raises `ConfigError` if it is malformed.
        """
        text = read_text(self.root / BASE_LOCK)
        return {} if text is None else cached(f"{BASE_LOCK}\n{text}", dict, lambda: _parse_base_lock(text), os.environ)

    @cached_property
    def locked_bases(self) -> Mapping[str, str]:
        """Base image, as the matrix names it -> its digest in the base lock; images without a digest are left out."""
        return {name: base.digest for name, base in self.base_lock.items() if base.digest}

    def base_arguments(
        self, cells: Iterable[Cell] | None = None, region: str | None = None
    ) -> Mapping[str, Mapping[str, str]]:
        """Return account table -> the build arguments `account`, `region` and `domain` (name -> value) of its registry.

        The account tables are those of the base images of `cells`, or of all cells of the project. Without `region`,
        the default region of the tables is used. Raises `UsageError` if a table has no account in `region`.
        """
        tables = dict.fromkeys(cell.base.registry for cell in cells or self.cells if cell.base.registry)
        return {table: self.accounts.build_arguments(table, region or self.accounts.default_region) for table in tables}

    def lock_inputs(self, cells: Iterable[Cell]) -> "tuple[LockInputs, ...]":
        """Return the inputs of the requirement lock of each of `cells` that has one.

        A cell that installs no Python package has no lock.
        """
        return tuple(self._cell_lock_inputs(cell) for cell in cells if cell.requirements.direct)

    def _cell_lock_inputs(self, cell: Cell) -> "LockInputs":
        """Return the inputs of the requirement lock of `cell`. They contain the lock of the cell that it extends."""
        from rlimages.project.requirements_lock import inherited_lock_inputs, lock_inputs

        if cell.extends is None:
            framework = cell.base.framework
            return lock_inputs(cell, self.matrix.frameworks[framework.name].distribution if framework else None)
        owner, parent = self.owners[cell.extends], self.cells_by_id[cell.extends]
        return inherited_lock_inputs(cell, owner._cell_lock_inputs(parent), read_text(owner.root / parent.lock) or "")


def find_root(start: Path) -> Path:
    """Return the nearest folder at or above `start` with a `build_matrix.yaml`.

    Raises `FactoryError` if there is none.
    """
    for folder in (start, *start.parents):
        if (folder / MATRIX).is_file():
            return folder
    raise FactoryError(f"no {MATRIX} in {start} or above; run this inside a project or give --matrix")


def load_project(matrix_file: Path | None, start: Path) -> Project:
    """Return the project of `matrix_file`; if that is None, the project of the nearest matrix at or above `start`.

    Raises `FactoryError` if there is no matrix, and `ConfigError` if it cannot be read or has mistakes.
    """
    return _load_project(matrix_file or find_root(start) / MATRIX, ())


def _load_project(path: Path, children: tuple[Path, ...]) -> Project:
    """Return the project of the matrix file `path`, with its parents.

    `children` are the matrix files that name it as a parent, directly or not. Raises `ConfigError` if it is one of
    them, cannot be read, or has mistakes.
    """
    matrix_file = path.resolve()
    if matrix_file in children:
        raise ConfigError(f"{path} is its own parent: the matrices under `parents` form a circle")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    parents: list[Project] = []

    def read_parents(relative: str) -> tuple[Cell, ...]:
        parents.append(_load_project(path.parent / relative, (*children, matrix_file)))
        return tuple(parents[0].cells_by_id.values())

    if "parents:" in text:  # the result depends on the parents' files too, so this text alone is no cache key
        matrix = _parse_matrix(text, path.name, read_parents)
    else:
        matrix = cached(f"{path.name}\n{text}", Matrix, lambda: _parse_matrix(text, path.name), os.environ)
    return Project(root=matrix_file.parent, matrix=matrix, parent=parents[0] if parents else None)


def _parse_matrix(text: str, name: str, read_parents: "ReadParents | None" = None) -> Matrix:
    """Parse `text`, the content of the matrix file `name`. `read_parents` loads the cells of a parent matrix."""
    from rlimages.matrix.parser import parse_matrix

    return parse_matrix(text, name, load_accounts().tables, *([read_parents] if read_parents else []))


def _parse_base_lock(text: str) -> "dict[str, LockedBase]":
    """Parse `text`, the content of a base lock. The parser is imported only here, as the result is usually cached."""
    from rlimages.project.base_lock import parse_base_lock

    return dict(parse_base_lock(text))
