"""Parse the text of `build_matrix.yaml` into cells. No files are read, except through the function `read_parents`."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import MappingProxyType

from packaging.requirements import InvalidRequirement, Requirement
from packaging.version import Version

from rlimages.config.validation import validate_document
from rlimages.config.yaml import Document, KeyPath, Problem, config_error, load_yaml
from rlimages.errors import FactoryError, did_you_mean
from rlimages.matrix.cell import (
    DEFAULT_TIMEOUT,
    Cell,
    Framework,
    FrameworkName,
    Matrix,
    Processor,
    PythonRequirements,
    SystemPackages,
)
from rlimages.matrix.inheritance import Inherited, expected_packages, inherit_from_base, inherit_from_cell
from rlimages.matrix.schema import RawImage, RawMatrix, RawVersion

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
"""The form of a tag according to the OCI distribution specification: at most 128 characters."""
ReadParents = Callable[[str], tuple[Cell, ...]]
"""A function that returns the cells of another matrix; its argument is the path from this matrix to the other one."""


def _no_parents(path: str) -> tuple[Cell, ...]:
    """Raise `FactoryError`: the default of `read_parents`, for a matrix without the key `parents`."""
    raise FactoryError(f"'{path}' cannot be read: this matrix is parsed without other files")


def parse_matrix(text: str, name: str, tables: Collection[str], read_parents: ReadParents = _no_parents) -> Matrix:
    """Return the matrix that `text`, the content of a matrix file, declares.

    `name` is the file's name in messages. `tables` are the names of the account tables that the matrix may use.
    `read_parents` gets the value of the key `parents`, a path, and returns the cells of the matrix there. Raise
    `ConfigError` with all mistakes, each as `file:line:column: path: message`.
    """
    document = load_yaml(text, name)
    raw = validate_document(document, name, RawMatrix)
    try:
        parents = read_parents(raw.parents) if raw.parents else ()
    except FactoryError as error:
        raise config_error(name, [document.problem(("parents",), str(error))]) from error
    reader = _MatrixReader(document, raw, name, tables, parents)
    cells = tuple(reader.cells())
    # a row with mistakes has no cell, so conflicts between cells are complete only once every row is valid
    problems = reader.problems or list(_find_conflicts(cells, reader.paths, document, parents))
    if problems:
        raise config_error(name, problems)
    frameworks = {
        key: FrameworkName(title=framework.title, sdk=framework.sdk, distribution=framework.distribution)
        for key, framework in raw.frameworks.items()
    }
    return Matrix(name=name, cells=cells, frameworks=MappingProxyType(frameworks), tools=MappingProxyType(raw.tools))


class _MatrixReader:
    """A converter from the rows of one matrix file to cells. It collects all mistakes on the way."""

    def __init__(
        self, document: Document, raw: RawMatrix, name: str, tables: Collection[str], parents: tuple[Cell, ...]
    ) -> None:
        """Prepare to convert `raw`, the validated content of `document`.

        `name` is the file's name in messages, `tables` are the names of the account tables, and `parents` are the cells
        of another matrix that this one may extend.
        """
        self._document = document
        self._raw = raw
        self._name = name
        self._tables = tables
        self.problems: list[Problem] = []
        self.paths: dict[int, KeyPath] = {}
        """Index of a cell in the result of `cells` -> path of the cell's row in the document."""
        self._known = {cell.id: cell for cell in parents}
        """Id -> cell that a row may extend: the cells of the parent matrix, and those of the rows above."""

    def cells(self) -> Iterator[Cell]:
        """Yield the cells of all rows, in the order of the file. The mistakes are in `problems` afterwards.

        A row that can't be converted because of its mistakes has no cell.
        """
        self._check_bases()
        count = 0
        for toolkit, versions in self._raw.toolkits.items():
            for version, row in versions.items():
                for index, image in enumerate(row.images):
                    path: KeyPath = ("toolkits", toolkit, version, "images", index)
                    self._check_requirements(row, image, path)
                    for processor, inherited in self._inherited_values(image, path):
                        cell = self._cell(toolkit, version, row, image, processor, inherited, path)
                        if cell is not None:
                            self.paths[count] = path
                            count += 1
                            self._known.setdefault(cell.id, cell)  # _find_conflicts reports a second cell with the id
                            yield cell

    def _report(self, path: KeyPath, message: str) -> None:
        """Record a mistake at `path` of the document."""
        self.problems.append(self._document.problem(path, message))

    def _check_bases(self) -> None:
        """Record the mistakes in `bases`: unknown account tables and frameworks, and invalid requirements."""
        for name, base in self._raw.bases.items():
            path: KeyPath = ("bases", name)
            self._check_table(base.registry, (*path, "registry"))
            if base.framework:
                self._check_framework(base.framework.name, (*path, "framework", "name"))
            for index, requirement in enumerate(base.provides):
                self._check_requirement(requirement, (*path, "provides", index))

    def _check_table(self, table: str | None, path: KeyPath) -> None:
        """Record a mistake at `path` if `table` is not None and is not the name of an account table."""
        if table is not None and table not in self._tables:
            hint = did_you_mean(table, self._tables) or f"; known are {', '.join(sorted(self._tables))}"
            self._report(path, f"'{table}' is not an account table{hint}")

    def _check_framework(self, name: str, path: KeyPath) -> None:
        """Record a mistake at `path` if the matrix does not declare the framework `name`."""
        if name not in self._raw.frameworks:
            known = ", ".join(self._raw.frameworks)
            hint = did_you_mean(name, self._raw.frameworks)
            self._report(path, f"'{name}' is not one of the frameworks {known}{hint}")

    def _check_requirements(self, row: RawVersion, image: RawImage, path: KeyPath) -> None:
        """Record each invalid Python requirement of `image`, which is at `path`, and of its version `row`."""
        for owner, build in ((path[:3], row), (path, image)):
            lists: list[tuple[KeyPath, list[str]]] = [
                ((*owner, "pip"), build.pip),
                ((*owner, "overrides"), build.overrides),
                ((*owner, "build_constraints"), build.build_constraints),
                *(((*owner, "pip_for", p.value), items) for p, items in build.pip_for.items()),
            ]
            for list_path, items in lists:
                for index, item in enumerate(items):
                    self._check_requirement(item, (*list_path, index))

    def _check_requirement(self, text: str, path: KeyPath) -> None:
        """Record a mistake at `path` if `text` is not a PEP 508 requirement."""
        try:
            Requirement(text)
        except InvalidRequirement as error:
            reason = str(error).splitlines()[0]
            self._report(path, f"'{text}' is not a requirement such as numpy==1.24.3: {reason}")

    def _inherited_values(self, image: RawImage, path: KeyPath) -> list[tuple[Processor, Inherited]]:
        """Return each processor of `image`, which is at `path`, with the values its cell inherits from base or parent.

        Record a mistake and return an empty list if the image does not have one valid base or parent.
        """
        if image.extends and image.base:
            self._report((*path, "base"), "an image has either 'base' or 'extends', not both")
            return []
        if image.extends:
            inherited = self._from_parents(image.extends, image, path)
        elif image.base:
            inherited = self._from_base(image.base, image, path)
        else:
            self._report(path, "the key 'base' or 'extends' is missing: it says what the image is built FROM")
            return []
        if len(inherited) > 1 and "{processor}" not in image.tag:
            self._report((*path, "tag"), "one tag for several processors: write {processor} where the tags differ")
        return list(inherited.items())

    def _from_base(self, name: str, image: RawImage, path: KeyPath) -> dict[Processor, Inherited]:
        """Return the values that the cells of `image` inherit from the base `name`, by processor.

        Record a mistake and return an empty mapping if the matrix does not declare this base.
        """
        base = self._raw.bases.get(name)
        if base is None:
            self._report((*path, "base"), f"there is no base '{name}'{did_you_mean(name, self._raw.bases)}")
            return {}
        if image.framework and base.framework:
            self._report((*path, "framework"), f"base '{name}' already contains {base.framework.name}")
        processors = self._processors(image, list(base.image), f"base '{name}' has no {{}} image", path)
        return {
            processor: inherit_from_base(name, base, processor, self._own_framework(image, path))
            for processor in processors
        }

    def _from_parents(self, name: str, image: RawImage, path: KeyPath) -> dict[Processor, Inherited]:
        """Return the values that the cells of `image` inherit from the cells that they extend, by processor.

        `name` is the parent's id, in which `{processor}` stands for the processor. Record a mistake and return an empty
        mapping if no cell has this id.
        """
        names = {processor: name.replace("{processor}", processor.value) for processor in Processor}
        parents = {p: self._known[names[p]] for p in Processor if names[p] in self._known}
        # an id without {processor} names a single cell, which is a parent only for its own processor
        parents = {p: parent for p, parent in parents.items() if parent.processor is p}
        if not parents:
            hint = did_you_mean(names[Processor.CPU], self._known)
            self._report(
                (*path, "extends"), f"there is no cell '{name}' to extend, in the rows above or in the parents{hint}"
            )
            return {}
        if image.framework:
            self._report((*path, "framework"), f"the cell '{name}' already contains a framework")
        processors = self._processors(image, list(parents), f"there is no {{}} cell '{name}'", path)
        return {processor: inherit_from_cell(parents[processor]) for processor in processors}

    def _processors(
        self, image: RawImage, available: list[Processor], missing_text: str, path: KeyPath
    ) -> list[Processor]:
        """Return the processors that `image`, which is at `path`, lists; all that are `available` if it lists none.

        Record each processor that is not available, with the message `missing_text`, in which `{}` stands for the
        processor. Record each one that is listed twice.
        """
        listed = image.processors or available
        for index, processor in enumerate(listed):
            item_path = (*path, "processors", index)
            if processor not in available:
                self._report(item_path, f"{missing_text.format(processor.value)}, only {', '.join(available)}")
            elif processor in listed[:index]:
                self._report(item_path, f"'{processor.value}' is given twice")
        return [processor for processor in dict.fromkeys(listed) if processor in available]

    def _own_framework(self, image: RawImage, path: KeyPath) -> Framework | None:
        """Return the framework that `image` itself declares, or None; record a mistake if its name is unknown."""
        if image.framework is None:
            return None
        self._check_framework(image.framework.name, (*path, "framework", "name"))
        return Framework(name=image.framework.name, version=image.framework.version)

    def _cell(
        self,
        toolkit: str,
        version: str,
        row: RawVersion,
        image: RawImage,
        processor: Processor,
        inherited: Inherited,
        path: KeyPath,
    ) -> Cell | None:
        """Return the cell of `image`, which is at `path`, for one processor.

        `row` has the values that all images of the `version` share, and `inherited` those of the base image or parent.
        Record a mistake and return None if no date for the lock (`as_of`) is given.
        """
        self._check_table(image.published, (*path, "published"))
        as_of = image.as_of or row.as_of or inherited.as_of
        if as_of is None:
            self._report(
                path,
                "the key 'as_of' is missing here and in the version: it is the date as of which the lock is resolved",
            )
            return None
        direct = (*row.pip, *image.pip, *row.pip_for.get(processor, []), *image.pip_for.get(processor, []))
        line, _ = self._document.values[path]
        return Cell(
            toolkit=toolkit,
            version=version,
            framework=inherited.framework,
            processor=processor,
            line=inherited.line,
            base=inherited.base,
            requirements=PythonRequirements(
                as_of=as_of,
                direct=direct,
                overrides=(*inherited.overrides, *row.overrides, *image.overrides),
                provided=inherited.provided,
                build=(*inherited.build, *row.build_constraints, *image.build_constraints),
                verbatim=(*row.verbatim, *image.verbatim),
                excluded=inherited.excluded,
            ),
            system=SystemPackages(
                run=tuple(dict.fromkeys((*row.apt.run, *image.apt.run))),
                build=tuple(dict.fromkeys((*row.apt.build, *image.apt.build))),
            ),
            repository=image.repository,
            tag=self._tag(image.tag, processor, (*path, "tag")),
            aliases=tuple(self._tag(a, processor, (*path, "aliases", i)) for i, a in enumerate(image.aliases)),
            registry=image.published,
            env=MappingProxyType({**row.env, **image.env}),
            workdir=image.workdir or row.workdir or inherited.workdir,
            display=next((d for d in (image.display, row.display) if d is not None), inherited.display),
            inventory=MappingProxyType(expected_packages(inherited, direct, self._distribution(inherited))),
            options=MappingProxyType({**inherited.options, **row.options, **image.options}),
            extends=inherited.extends,
            timeout=image.timeout or row.timeout or DEFAULT_TIMEOUT,
            where=f"{self._name}:{line}",
        )

    def _distribution(self, inherited: Inherited) -> str | None:
        """Return the name on the package index of the framework in the base of `inherited`; None if it has none."""
        framework = inherited.base.framework
        known = self._raw.frameworks.get(framework.name) if framework else None
        return known.distribution if known else None

    def _tag(self, template: str, processor: Processor, path: KeyPath) -> str:
        """Return the tag that `template` gives for `processor`.

        Record a mistake at `path` if registries would refuse it.
        """
        tag = template.replace("{processor}", processor.value)
        if not _TAG.fullmatch(tag):
            self._report(path, f"'{tag}' is not a tag: write at most 128 letters, digits, '_', '.' and '-'")
        return tag


def _find_conflicts(
    cells: tuple[Cell, ...], paths: Mapping[int, KeyPath], document: Document, parents: Iterable[Cell] = ()
) -> Iterator[Problem]:
    """Yield a problem for each cell whose id or tag another cell has, and for each alias of an old patch version.

    `paths` maps the index of a cell in `cells` to the path of its row in `document`. `parents` are the cells of the
    parent matrix, whose ids and tags are taken too.
    """
    by_id = {cell.id: cell for cell in parents}
    by_tag = {(cell.repository, tag): cell for cell in by_id.values() for tag in cell.tags}
    for index, cell in enumerate(cells):
        path = paths[index]
        if cell.id in by_id:
            yield document.problem(path, f"two cells have the id {cell.id}; the first is at {by_id[cell.id].where}")
        by_id.setdefault(cell.id, cell)
        for tag in cell.tags:
            other = by_tag.setdefault((cell.repository, tag), cell)
            if other is not cell:
                message = f"{cell.id} and {other.id} ({other.where}) both have the tag {cell.repository}:{tag}"
                yield document.problem(path, message)
    yield from _aliases_to_old_versions(cells, paths, document)


def _aliases_to_old_versions(
    cells: tuple[Cell, ...], paths: Mapping[int, KeyPath], document: Document
) -> Iterator[Problem]:
    """Yield a problem for each cell that has aliases but is not the newest patch version of its minor version.

    `paths` maps the index of a cell in `cells` to the path of its row in `document`.
    """
    newest: dict[tuple[object, ...], Cell] = {}
    for cell in cells:
        best = newest.setdefault(_minor_version(cell), cell)
        if Version(cell.version) > Version(best.version):
            newest[_minor_version(cell)] = cell
    for index, cell in enumerate(cells):
        best = newest[_minor_version(cell)]
        if cell.aliases and best is not cell:
            message = (
                f"the alias {cell.aliases[0]} would point to {cell.version}, but {best.id} ({best.where}) is newer"
            )
            yield document.problem((*paths[index], "aliases"), message)


def _minor_version(cell: Cell) -> tuple[object, ...]:
    """Return a key that is equal for two cells if they differ only in the patch version of their toolkit."""
    release = Version(cell.version).release[:2]
    return (cell.toolkit, release, cell.framework and cell.framework.name, cell.processor, cell.line, cell.repository)
