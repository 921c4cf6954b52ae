"""Find out what a cell has from its base image, or from the cell that it extends."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from rlimages.matrix.cell import DEFAULT_WORKDIR, EMPTY, Base, Cell, Framework, Processor
from rlimages.matrix.schema import RawBase


@dataclass(frozen=True, kw_only=True, slots=True)
class Inherited:
    """The defaults of a cell, from its base image or from the cell that it extends."""

    base: Base
    line: str
    framework: Framework | None
    inventory: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    as_of: str | None = None
    provided: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    build: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()
    workdir: str = DEFAULT_WORKDIR
    display: bool = False
    options: Mapping[str, str] = field(default_factory=lambda: EMPTY)
    extends: str | None = None


def inherit_from_base(name: str, base: RawBase, processor: Processor, framework: Framework | None) -> Inherited:
    """Return what a cell has from a base; `framework` is the row's, for a base that contains none."""
    contained = Framework(name=base.framework.name, version=base.framework.version) if base.framework else None
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
            framework=contained,
        ),
        line=base.line,
        framework=contained or framework,
        provided=tuple(base.provides),
    )


def inherit_from_cell(parent: Cell) -> Inherited:
    """Return what a cell has from the cell that it extends, whose image is its base image.

    If SageMaker published the parent's image, the base is that image in ECR, else the parent's local image. The
    parent's constraints on packages apply to the child too.
    """
    base, requirements = parent.base, parent.requirements
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
        as_of=requirements.as_of,
        overrides=requirements.overrides,
        build=requirements.build,
        excluded=(*requirements.excluded, *(line.partition("==")[0] for line in requirements.verbatim)),
        workdir=parent.workdir,
        display=parent.display,
        options=parent.options,
        extends=parent.id,
    )


def expected_packages(inherited: Inherited, direct: Iterable[str], distribution: str | None) -> dict[str, str]:
    """Return the Python packages that the image must have: exact pins, the parent's packages, the base's framework.

    `distribution` is the framework's name on the package index.
    """
    packages = dict(inherited.inventory)
    for text in (*inherited.provided, *direct):
        try:
            requirement = Requirement(text)
        except InvalidRequirement:
            continue  # reported with its position by _check_requirement
        pin = _pin(requirement)
        if pin:
            packages[canonicalize_name(requirement.name)] = pin
    base = inherited.base
    if base.framework and distribution and not inherited.extends:
        packages.setdefault(distribution, base.framework.version)
    return packages


def _pin(requirement: Requirement) -> str | None:
    """Return the version of an exact pin; None for any other requirement."""
    specifiers = list(requirement.specifier)
    if len(specifiers) != 1 or specifiers[0].operator not in ("==", "===") or specifiers[0].version.endswith(".*"):
        return None
    return specifiers[0].version
