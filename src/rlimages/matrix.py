"""Read `build_matrix.yaml`: text in, cells out. No files, no network, no Docker."""

import re
from collections.abc import Collection, Iterator
from types import MappingProxyType

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from rlimages import located
from rlimages.cell import Base, Cell, Framework, FrameworkName, Matrix, Processor, Requirements, SystemPackages
from rlimages.clashes import clashes
from rlimages.located import Located, Path, Problem
from rlimages.schema import RawBase, RawImage, RawMatrix, RawVersion
from rlimages.validation import did_you_mean, validate

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
"""A tag of the OCI distribution specification: at most 128 characters."""
_WORKDIR = "/opt/ml/code"


def parse(text: str, name: str, tables: Collection[str]) -> Matrix:
    """Read the matrix; `tables` are the known account tables.

    Raises `MatrixError` with every mistake, each as `file:line:column: path: what; did you mean`.
    """
    document = located.load(text, name)
    raw = validate(document, name, RawMatrix)
    reader = _Reader(document, raw, name, tables)
    cells = tuple(reader.cells())
    problems = reader.problems or list(clashes(cells, reader.paths, document))
    if problems:
        raise located.fail(name, problems)
    frameworks = {
        key: FrameworkName(title=framework.title, sdk=framework.sdk, distribution=framework.distribution)
        for key, framework in raw.frameworks.items()
    }
    return Matrix(name=name, cells=cells, frameworks=MappingProxyType(frameworks), tools=MappingProxyType(raw.tools))


class _Reader:
    """Turns raw rows into cells, and collects every mistake on the way."""

    def __init__(self, document: Located, raw: RawMatrix, name: str, tables: Collection[str]) -> None:
        self._document = document
        self._raw = raw
        self._name = name
        self._tables = tables
        self.problems: list[Problem] = []
        self.paths: dict[int, Path] = {}
        """Position in the result -> where the row stands."""

    def cells(self) -> Iterator[Cell]:
        """Every cell whose row makes sense."""
        self._check_bases()
        count = 0
        for toolkit, versions in self._raw.toolkits.items():
            for version, row in versions.items():
                for index, image in enumerate(row.images):
                    path: Path = ("toolkits", toolkit, version, "images", index)
                    self._check_requirements(row, image, path)
                    for processor in self._processors(image, path):
                        cell = self._cell(toolkit, version, row, image, processor, path)
                        if cell is not None:
                            self.paths[count] = path
                            count += 1
                            yield cell

    def _complain(self, path: Path, message: str) -> None:
        self.problems.append(self._document.problem(path, message))

    def _check_bases(self) -> None:
        for name, base in self._raw.bases.items():
            path: Path = ("bases", name)
            self._check_table(base.registry, (*path, "registry"))
            if base.framework:
                self._check_framework(base.framework.name, (*path, "framework", "name"))
            for index, requirement in enumerate(base.provides):
                self._check_requirement(requirement, (*path, "provides", index))

    def _check_table(self, table: str | None, path: Path) -> None:
        if table is not None and table not in self._tables:
            hint = did_you_mean(table, self._tables) or f"; known are {', '.join(sorted(self._tables))}"
            self._complain(path, f"'{table}' is not an account table{hint}")

    def _check_framework(self, name: str, path: Path) -> None:
        if name not in self._raw.frameworks:
            known = ", ".join(self._raw.frameworks)
            hint = did_you_mean(name, self._raw.frameworks)
            self._complain(path, f"'{name}' is not one of the frameworks {known}{hint}")

    def _check_requirements(self, row: RawVersion, image: RawImage, path: Path) -> None:
        for place, build in ((path[:3], row), (path, image)):
            lists: list[tuple[Path, list[str]]] = [
                ((*place, "pip"), build.pip),
                ((*place, "overrides"), build.overrides),
                ((*place, "build_constraints"), build.build_constraints),
                *(((*place, "pip_for", p.value), items) for p, items in build.pip_for.items()),
            ]
            for list_path, items in lists:
                for index, item in enumerate(items):
                    self._check_requirement(item, (*list_path, index))

    def _check_requirement(self, text: str, path: Path) -> Requirement | None:
        try:
            return Requirement(text)
        except InvalidRequirement as error:
            reason = str(error).splitlines()[0]
            self._complain(path, f"'{text}' is not a requirement such as numpy==1.24.3: {reason}")
            return None

    def _processors(self, image: RawImage, path: Path) -> list[Processor]:
        base = self._raw.bases.get(image.base)
        if base is None:
            hint = did_you_mean(image.base, self._raw.bases)
            self._complain((*path, "base"), f"there is no base '{image.base}'{hint}")
            return []
        processors = image.processors or list(base.image)
        for index, processor in enumerate(processors):
            place = (*path, "processors", index)
            if processor not in base.image:
                has = ", ".join(base.image)
                self._complain(place, f"base '{image.base}' has no {processor.value} image, only {has}")
            elif processor in processors[:index]:
                self._complain(place, f"'{processor.value}' is given twice")
        if len(processors) > 1 and "{processor}" not in image.tag:
            self._complain((*path, "tag"), "one tag for several processors: write {processor} where it differs")
        return [p for p in dict.fromkeys(processors) if p in base.image]

    def _framework(self, image: RawImage, base: RawBase, path: Path) -> Framework | None:
        if image.framework and base.framework:
            self._complain((*path, "framework"), f"base '{image.base}' already brings {base.framework.name}")
        if image.framework:
            self._check_framework(image.framework.name, (*path, "framework", "name"))
        raw = base.framework or image.framework
        return Framework(name=raw.name, version=raw.version) if raw else None

    def _cell(
        self, toolkit: str, version: str, row: RawVersion, image: RawImage, processor: Processor, path: Path
    ) -> Cell | None:
        base = self._raw.bases[image.base]
        self._check_table(image.published, (*path, "published"))
        as_of = image.as_of or row.as_of
        if as_of is None:
            self._complain(path, "the key 'as_of' is missing here and in the version: which day may the lock see?")
            return None
        framework = self._framework(image, base, path)
        direct = (*row.pip, *image.pip, *row.pip_for.get(processor, []), *image.pip_for.get(processor, []))
        line, _ = self._document.values[path]
        return Cell(
            toolkit=toolkit,
            version=version,
            framework=framework,
            processor=processor,
            line=base.line,
            base=self._base(image.base, base, processor),
            requirements=Requirements(
                as_of=as_of,
                direct=direct,
                overrides=(*row.overrides, *image.overrides),
                provided=tuple(base.provides),
                build=(*row.build_constraints, *image.build_constraints),
                verbatim=(*row.verbatim, *image.verbatim),
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
            workdir=image.workdir or row.workdir or _WORKDIR,
            display=next((d for d in (image.display, row.display) if d is not None), False),
            inventory=MappingProxyType(self._inventory(direct, framework, base)),
            options=MappingProxyType({**row.options, **image.options}),
            extends=image.extends.replace("{processor}", processor.value) if image.extends else None,
            timeout=image.timeout or row.timeout or 3600,
            where=f"{self._name}:{line}",
        )

    def _base(self, name: str, base: RawBase, processor: Processor) -> Base:
        return Base(
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
            framework=Framework(name=base.framework.name, version=base.framework.version) if base.framework else None,
        )

    def _tag(self, template: str, processor: Processor, path: Path) -> str:
        tag = template.replace("{processor}", processor.value)
        if not _TAG.fullmatch(tag):
            self._complain(path, f"'{tag}' is not a tag: letters, digits, '_', '.', '-', at most 128")
        return tag

    def _inventory(self, direct: tuple[str, ...], framework: Framework | None, base: RawBase) -> dict[str, str]:
        """Every exact pin, and the framework where the base brings it."""
        found: dict[str, str] = {}
        for text in (*base.provides, *direct):
            try:
                requirement = Requirement(text)
            except InvalidRequirement:
                continue  # already reported with its place
            pin = _pin(requirement)
            if pin:
                found[canonicalize_name(requirement.name)] = pin
        if framework and base.framework and framework.name in self._raw.frameworks:
            found.setdefault(self._raw.frameworks[framework.name].distribution, framework.version)
        return found


def _pin(requirement: Requirement) -> str | None:
    """The version of an exact pin, else None."""
    specifiers = list(requirement.specifier)
    if len(specifiers) != 1 or specifiers[0].operator not in ("==", "===") or specifiers[0].version.endswith(".*"):
        return None
    return specifiers[0].version
