"""Parse a build matrix: text in, cells out. No Docker, no network."""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from rlimages.config.validation import did_you_mean, validate_document
from rlimages.config.yaml import Document, KeyPath, Problem, config_error, load_yaml
from rlimages.errors import FactoryError
from rlimages.matrix.cell import (
    EMPTY,
    Base,
    Cell,
    Framework,
    FrameworkName,
    Matrix,
    Processor,
    Requirements,
    SystemPackages,
)
from rlimages.matrix.schema import RawBase, RawImage, RawMatrix, RawVersion

_WORKDIR = "/opt/ml/code"


@dataclass(frozen=True, kw_only=True, slots=True)
class Inherited:
    """What a cell has before its own row says anything."""

    base: Base
    line: str
    framework: Framework | None
    inventory: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    as_of: str | None = None
    provided: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    build: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    workdir: str = _WORKDIR
    display: bool = False
    options: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    extends: str | None = None


def inherit_from_base(name: str, base: RawBase, processor: Processor, framework: Framework | None) -> Inherited:
    """A row that names a base; `framework` is what the row brings where the base brings none."""
    brought = Framework(name=base.framework.name, version=base.framework.version) if base.framework else None
    return Inherited(
        base=Base(
            name=name,
            registry=base.registry,
            image=base.image[processor],
            os=base.os,
            packages=base.packages,
            python=base.python,
            python_release=base.python_release or base.python,
            platform=base.platform,
            interpreter=base.interpreter,
            cuda=base.cuda if processor is Processor.GPU else None,
            framework=brought,
        ),
        line=base.line,
        framework=brought or framework,
        provided=tuple(base.provides),
    )


def inherit_from_cell(parent: Cell) -> Inherited:
    """A row that extends a cell: the parent's image is its base.

    In ECR that is the image which SageMaker published; an image that it never did goes by the parent's local name.
    Whatever bound the parent's packages binds those of the child.
    """
    base, asked = parent.base, parent.requirements
    return Inherited(
        base=Base(
            name=parent.id,
            registry=parent.registry,
            image=parent.local_name,
            os=base.os,
            packages=base.packages,
            python=base.python,
            python_release=base.python_release,
            platform=base.platform,
            interpreter=base.interpreter,
            cuda=base.cuda,
            framework=parent.framework,
        ),
        line=parent.line,
        framework=parent.framework,
        inventory=parent.inventory,
        as_of=asked.as_of,
        overrides=asked.overrides,
        build=asked.build,
        excluded=(*asked.excluded, *(line.partition("==")[0] for line in asked.verbatim)),
        workdir=parent.workdir,
        display=parent.display,
        options=parent.options,
        extends=parent.id,
    )


def expected_packages(on: Inherited, direct: Iterable[str], distribution: str | None) -> dict[str, str]:
    """What must be found inside: every exact pin, what the parent promises, and the base's framework.

    `distribution` is that framework's name on the package index.
    """
    found = dict(on.inventory)
    for text in (*on.provided, *direct):
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue  # reported with its place elsewhere
        pin = _pin(requirement)
        if pin:
            found[canonicalize_name(requirement.name)] = pin
    if on.base.framework and distribution and not on.extends:
        found.setdefault(distribution, on.base.framework.version)
    return found


def _pin(requirement: Requirement) -> str | None:
    """The version of an exact pin, else None."""
    specifiers = list(requirement.specifier)
    if len(specifiers) != 1 or specifiers[0].operator not in ("==", "===") or specifiers[0].version.endswith(".*"):
        return None
    return specifiers[0].version


def find_conflicts(
    cells: tuple[Cell, ...], paths: Mapping[int, KeyPath], document: Document, parents: Iterable[Cell] = ()
) -> Iterator[Problem]:
    """Every clash, also with the cells of another matrix; `paths` gives, for each cell, where its row stands."""
    by_id = {cell.id: cell for cell in parents}
    by_tag = {(cell.repository, tag): cell for cell in by_id.values() for tag in cell.tags}
    for index, cell in enumerate(cells):
        path = paths[index]
        if cell.id in by_id:
            yield document.problem(path, f"two cells are called {cell.id}; the first is at {by_id[cell.id].where}")
        by_id.setdefault(cell.id, cell)
        for tag in cell.tags:
            other = by_tag.setdefault((cell.repository, tag), cell)
            if other is not cell:
                message = f"{cell.id} and {other.id} ({other.where}) both claim the tag {cell.repository}:{tag}"
                yield document.problem(path, message)
    yield from _backward_aliases(cells, paths, document)


def _backward_aliases(cells: tuple[Cell, ...], paths: Mapping[int, KeyPath], document: Document) -> Iterator[Problem]:
    newest: dict[tuple[object, ...], Cell] = {}
    for cell in cells:
        best = newest.setdefault(_minor(cell), cell)
        if Version(cell.version) > Version(best.version):
            newest[_minor(cell)] = cell
    for index, cell in enumerate(cells):
        best = newest[_minor(cell)]
        if cell.aliases and best is not cell:
            message = f"the alias {cell.aliases[0]} would go back to {cell.version}; {best.id} ({best.where}) is newer"
            yield document.problem((*paths[index], "aliases"), message)


def _minor(cell: Cell) -> tuple[object, ...]:
    release = Version(cell.version).release[:2]
    return (cell.toolkit, release, cell.framework and cell.framework.name, cell.processor, cell.line, cell.repository)


_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
"""A tag of the OCI distribution specification: at most 128 characters."""
Relatives = Callable[[str], tuple[Cell, ...]]
"""The cells of another matrix, by its path from this one."""


def _no_relatives(path: str) -> tuple[Cell, ...]:
    raise FactoryError(f"'{path}' is not read here")


def parse_matrix(text: str, name: str, tables: Collection[str], relatives: Relatives = _no_relatives) -> Matrix:
    """Read the matrix; `tables` are the known account tables, `relatives` reads the matrix of `parents`.

    Raises `ConfigError` with every mistake, each as `file:line:column: path: what; did you mean`.
    """
    document = load_yaml(text, name)
    raw = validate_document(document, name, RawMatrix)
    try:
        parents = relatives(raw.parents) if raw.parents else ()
    except FactoryError as error:
        raise config_error(name, [document.problem(("parents",), str(error))]) from error
    reader = _MatrixReader(document, raw, name, tables, parents)
    cells = tuple(reader.cells())
    problems = reader.problems or list(find_conflicts(cells, reader.paths, document, parents))
    if problems:
        raise config_error(name, problems)
    frameworks = {
        key: FrameworkName(title=framework.title, sdk=framework.sdk, distribution=framework.distribution)
        for key, framework in raw.frameworks.items()
    }
    return Matrix(name=name, cells=cells, frameworks=MappingProxyType(frameworks), tools=MappingProxyType(raw.tools))


class _MatrixReader:
    """Turns raw rows into cells, and collects every mistake on the way."""

    def __init__(
        self, document: Document, raw: RawMatrix, name: str, tables: Collection[str], parents: tuple[Cell, ...]
    ) -> None:
        self._document = document
        self._raw = raw
        self._name = name
        self._tables = tables
        self.problems: list[Problem] = []
        self.paths: dict[int, KeyPath] = {}
        """Position in the result -> where the row stands."""
        self._known = {cell.id: cell for cell in parents}
        """What a row may extend: the cells of the parents, and those of the rows above it."""

    def cells(self) -> Iterator[Cell]:
        """Every cell whose row makes sense."""
        self._check_bases()
        count = 0
        for toolkit, versions in self._raw.toolkits.items():
            for version, row in versions.items():
                for index, image in enumerate(row.images):
                    path: KeyPath = ("toolkits", toolkit, version, "images", index)
                    self._check_requirements(row, image, path)
                    for processor, stands_on in self._grounds(image, path):
                        cell = self._cell(toolkit, version, row, image, processor, stands_on, path)
                        if cell is not None:
                            self.paths[count] = path
                            count += 1
                            self._known.setdefault(cell.id, cell)
                            yield cell

    def _complain(self, path: KeyPath, message: str) -> None:
        self.problems.append(self._document.problem(path, message))

    def _check_bases(self) -> None:
        for name, base in self._raw.bases.items():
            path: KeyPath = ("bases", name)
            self._check_table(base.registry, (*path, "registry"))
            if base.framework:
                self._check_framework(base.framework.name, (*path, "framework", "name"))
            for index, requirement in enumerate(base.provides):
                self._check_requirement(requirement, (*path, "provides", index))

    def _check_table(self, table: str | None, path: KeyPath) -> None:
        if table is not None and table not in self._tables:
            hint = did_you_mean(table, self._tables) or f"; known are {', '.join(sorted(self._tables))}"
            self._complain(path, f"'{table}' is not an account table{hint}")

    def _check_framework(self, name: str, path: KeyPath) -> None:
        if name not in self._raw.frameworks:
            known = ", ".join(self._raw.frameworks)
            hint = did_you_mean(name, self._raw.frameworks)
            self._complain(path, f"'{name}' is not one of the frameworks {known}{hint}")

    def _check_requirements(self, row: RawVersion, image: RawImage, path: KeyPath) -> None:
        for place, build in ((path[:3], row), (path, image)):
            lists: list[tuple[KeyPath, list[str]]] = [
                ((*place, "pip"), build.pip),
                ((*place, "overrides"), build.overrides),
                ((*place, "build_constraints"), build.build_constraints),
                *(((*place, "pip_for", p.value), items) for p, items in build.pip_for.items()),
            ]
            for list_path, items in lists:
                for index, item in enumerate(items):
                    self._check_requirement(item, (*list_path, index))

    def _check_requirement(self, text: str, path: KeyPath) -> Requirement | None:
        try:
            return Requirement(text)
        except InvalidRequirement as error:
            reason = str(error).splitlines()[0]
            self._complain(path, f"'{text}' is not a requirement such as numpy==1.24.3: {reason}")
            return None

    def _grounds(self, image: RawImage, path: KeyPath) -> list[tuple[Processor, Inherited]]:
        """What the row stands on, for each of its processors."""
        if image.extends and image.base:
            self._complain((*path, "base"), "an image stands on a base or extends a cell, not both")
            return []
        if image.extends:
            grounds = self._extended(image.extends, image, path)
        elif image.base:
            grounds = self._based(image.base, image, path)
        else:
            self._complain(path, "the key 'base' is missing, or 'extends': what does it stand on?")
            return []
        if len(grounds) > 1 and "{processor}" not in image.tag:
            self._complain((*path, "tag"), "one tag for several processors: write {processor} where it differs")
        return list(grounds.items())

    def _based(self, name: str, image: RawImage, path: KeyPath) -> dict[Processor, Inherited]:
        base = self._raw.bases.get(name)
        if base is None:
            self._complain((*path, "base"), f"there is no base '{name}'{did_you_mean(name, self._raw.bases)}")
            return {}
        if image.framework and base.framework:
            self._complain((*path, "framework"), f"base '{name}' already brings {base.framework.name}")
        chosen = self._chosen(image, list(base.image), f"base '{name}' has no {{}} image", path)
        return {
            processor: inherit_from_base(name, base, processor, self._own_framework(image, path))
            for processor in chosen
        }

    def _extended(self, name: str, image: RawImage, path: KeyPath) -> dict[Processor, Inherited]:
        names = {processor: name.replace("{processor}", processor.value) for processor in Processor}
        parents = {p: self._known[names[p]] for p in Processor if names[p] in self._known}
        parents = {p: parent for p, parent in parents.items() if parent.processor is p}
        if not parents:
            hint = did_you_mean(names[Processor.CPU], self._known)
            self._complain((*path, "extends"), f"there is no cell '{name}' to extend, above or in the parents{hint}")
            return {}
        if image.framework:
            self._complain((*path, "framework"), f"the cell '{name}' brings its own")
        chosen = self._chosen(image, list(parents), f"there is no {{}} cell '{name}'", path)
        return {processor: inherit_from_cell(parents[processor]) for processor in chosen}

    def _chosen(self, image: RawImage, there: list[Processor], lack: str, path: KeyPath) -> list[Processor]:
        """The processors of a row: all that are there, if it does not say."""
        chosen = image.processors or there
        for index, processor in enumerate(chosen):
            place = (*path, "processors", index)
            if processor not in there:
                self._complain(place, f"{lack.format(processor.value)}, only {', '.join(there)}")
            elif processor in chosen[:index]:
                self._complain(place, f"'{processor.value}' is given twice")
        return [processor for processor in dict.fromkeys(chosen) if processor in there]

    def _own_framework(self, image: RawImage, path: KeyPath) -> Framework | None:
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
        on: Inherited,
        path: KeyPath,
    ) -> Cell | None:
        self._check_table(image.published, (*path, "published"))
        as_of = image.as_of or row.as_of or on.as_of
        if as_of is None:
            self._complain(path, "the key 'as_of' is missing here and in the version: which day may the lock see?")
            return None
        direct = (*row.pip, *image.pip, *row.pip_for.get(processor, []), *image.pip_for.get(processor, []))
        line, _ = self._document.values[path]
        return Cell(
            toolkit=toolkit,
            version=version,
            framework=on.framework,
            processor=processor,
            line=on.line,
            base=on.base,
            requirements=Requirements(
                as_of=as_of,
                direct=direct,
                overrides=(*on.overrides, *row.overrides, *image.overrides),
                provided=on.provided,
                build=(*on.build, *row.build_constraints, *image.build_constraints),
                verbatim=(*row.verbatim, *image.verbatim),
                excluded=on.excluded,
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
            workdir=image.workdir or row.workdir or on.workdir,
            display=next((d for d in (image.display, row.display) if d is not None), on.display),
            inventory=MappingProxyType(expected_packages(on, direct, self._distribution(on))),
            options=MappingProxyType({**on.options, **row.options, **image.options}),
            extends=on.extends,
            timeout=image.timeout or row.timeout or 3600,
            where=f"{self._name}:{line}",
        )

    def _distribution(self, on: Inherited) -> str | None:
        """The index's name of the framework that the base brings."""
        known = self._raw.frameworks.get(on.base.framework.name) if on.base.framework else None
        return known.distribution if known else None

    def _tag(self, template: str, processor: Processor, path: KeyPath) -> str:
        tag = template.replace("{processor}", processor.value)
        if not _TAG.fullmatch(tag):
            self._complain(path, f"'{tag}' is not a tag: letters, digits, '_', '.', '-', at most 128")
        return tag
