"""Derive the values that a cell inherits from its base image, or from the cell that it extends."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from rlimages.matrix.cell import DEFAULT_WORKDIR, EMPTY, Base, Cell, Framework, Processor
from rlimages.matrix.schema import RawBase


@dataclass(frozen=True, kw_only=True, slots=True)
class Inherited:
    """The values that a cell inherits from its base image, or from its parent (the cell that it extends).

    A field has the meaning of the field with its name in `Cell` or `PythonRequirements`. Fields with a default, except
    `provided`, keep it for a cell that is built FROM a base image.
    """

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
    """Return the values that the cell for `processor` inherits from `base`, the base image with the key `name`.

    `framework` is the one that the cell's row in the matrix installs; it is used only if the base contains none.
    """
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
    """Return the values that a cell inherits from `parent`, the cell whose image it is built FROM.

    If SageMaker published the parent's image, the base image is the published image in ECR, else the parent's image in
    the local store (the engine's images). The parent's constraints on Python packages apply to the child too.
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
    """Return the Python packages that a cell's image must contain, as a mapping from distribution name to version.

    They are the parent's packages, the exact pins among the packages of the base and the requirements `direct`, and the
    framework of the base. `distribution` is this framework's name on the package index, or None if the base has none.
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
    # the parent's packages include its framework already
    if base.framework and distribution and not inherited.extends:
        packages.setdefault(distribution, base.framework.version)
    return packages


def _pin(requirement: Requirement) -> str | None:
    """Return the version of a requirement that allows only one (`numpy==1.24.3`); None for any other requirement."""
    specifiers = list(requirement.specifier)
    if len(specifiers) != 1 or specifiers[0].operator not in ("==", "===") or specifiers[0].version.endswith(".*"):
        return None
    return specifiers[0].version
