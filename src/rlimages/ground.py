"""What a row of the matrix stands on: a base, or the image of another cell, from which it then has the rest."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from rlimages.cell import EMPTY, Base, Cell, Framework, Processor
from rlimages.schema import RawBase

_WORKDIR = "/opt/ml/code"


@dataclass(frozen=True, kw_only=True, slots=True)
class Ground:
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


def on_base(name: str, base: RawBase, processor: Processor, framework: Framework | None) -> Ground:
    """A row that names a base; `framework` is what the row brings where the base brings none."""
    brought = Framework(name=base.framework.name, version=base.framework.version) if base.framework else None
    return Ground(
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


def on_cell(parent: Cell) -> Ground:
    """A row that extends a cell: the parent's image is its base.

    In ECR that is the image which SageMaker published; an image that it never did goes by the parent's local name.
    Whatever bound the parent's packages binds those of the child.
    """
    base, asked = parent.base, parent.requirements
    return Ground(
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


def inventory(on: Ground, direct: Iterable[str], distribution: str | None) -> dict[str, str]:
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
