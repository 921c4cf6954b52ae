"""The values of a build matrix: `Cell` is one image with every default applied. Pure values; no file is read here."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import StrEnum
from fnmatch import fnmatchcase
from types import MappingProxyType

from rlimages.errors import SelectionError

SAGEMAKER_LINE = "sagemaker"
"""The base line that adds no suffix to a cell's id: SageMaker's own framework images."""
EMPTY: Mapping[str, str] = MappingProxyType({})


def _empty_mapping() -> Mapping[str, str]:
    return EMPTY


class Processor(StrEnum):
    """What an image computes on."""

    CPU = "cpu"
    GPU = "gpu"


@dataclass(frozen=True, kw_only=True, slots=True)
class Framework:
    """A deep learning framework, spelled as in the documented tags: `tf`, `torch`, `mxnet`."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameworkName:
    """What a framework is called elsewhere."""

    title: str
    sdk: str
    """Its name in the SageMaker SDK."""
    distribution: str
    """Its name on the Python package index."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    """The image that a cell stands on, for one processor."""

    name: str
    """Key in the matrix."""
    registry: str | None
    """Key of the account table (`accounts.yaml`) for images in ECR; None when `image` is a plain reference."""
    image: str
    """`repository:tag`; a full reference when `registry` is None."""
    os: str
    """Distribution and release as tags spell it: `ubuntu18.04`, `debian12`, `amzn2023`."""
    packages: str
    """The package manager: `apt` or `dnf`."""
    python: str
    """`X.Y` of the interpreter that the toolkit is installed for."""
    python_release: str
    """The same with its patch number, where the bounds of packages look at it."""
    platform: str
    """The wheels that its C library can load: `manylinux2014`, `manylinux_2_28`."""
    interpreter: str
    """How that interpreter is called inside the base."""
    cuda: str | None
    """CUDA `X.Y` of the base; None for cpu, and where wheels bring CUDA."""
    framework: Framework | None
    """What the base already brings: a constraint for the lock, never reinstalled."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Requirements:
    """What is asked of the Python package index. The lock says what was got."""

    as_of: str
    """`YYYY-MM-DD`: the lock is resolved as if the index stood still at the start of that day (UTC)."""
    direct: tuple[str, ...]
    """PEP 508 requirements of this cell."""
    overrides: tuple[str, ...] = ()
    """Requirements that replace what packages ask for (uv's --override): stale bounds of old releases."""
    provided: tuple[str, ...] = ()
    """What the base already brings beside its framework: constraints that are never installed."""
    build: tuple[str, ...] = ()
    """Constraints on the build environment of source packages (uv's --build-constraints)."""
    verbatim: tuple[str, ...] = ()
    """Lines of the lock as they stand, kept out of resolving: releases whose metadata no resolver reads any more."""
    excluded: tuple[str, ...] = ()
    """Names of such releases that the parent has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SystemPackages:
    """Packages of the distribution."""

    run: tuple[str, ...] = ()
    """Stay in the image."""
    build: tuple[str, ...] = ()
    """Compilers and headers; only ever in the build stage."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One square of the build matrix: one image, fully decided.

    By the time a `Cell` exists every default has been applied; nothing is optional-until-later.
    """

    toolkit: str
    version: str
    framework: Framework | None
    processor: Processor
    line: str
    base: Base
    requirements: Requirements
    system: SystemPackages
    repository: str
    tag: str
    aliases: tuple[str, ...] = ()
    registry: str | None = None
    """Key of the account table under which SageMaker published this image; None when it never did."""
    env: Mapping[str, str] = field(default_factory=_empty_mapping, hash=False)
    workdir: str = "/opt/ml/code"
    display: bool = False
    """True where rendering environments need an X display; the entrypoint then offers one."""
    inventory: Mapping[str, str] = field(default_factory=_empty_mapping, hash=False)
    """Python distribution name -> version that must be found inside the image."""
    options: Mapping[str, str] = field(default_factory=_empty_mapping, hash=False)
    """What the toolkit's template is told about this version beyond the common keys."""
    extends: str | None = None
    """Id of the cell this one is built on."""
    timeout: int = 3600
    """Seconds one build of this cell may take."""
    where: str = ""
    """`file:line` of the row that promises it."""

    @property
    def id(self) -> str:
        """How people, selectors, logs, paths and reports name this cell."""
        parts = [self.toolkit, self.version, self.framework.name if self.framework else "", self.processor.value]
        return "-".join(filter(None, [*parts, self._line_suffix]))

    @property
    def _line_suffix(self) -> str:
        return "" if self.line == SAGEMAKER_LINE else self.line

    @property
    def recipe(self) -> str:
        """Path of its Dockerfile below the project root; cpu and gpu share one."""
        name = ".".join(filter(None, ["Dockerfile", self.framework.name if self.framework else "", self._line_suffix]))
        return f"{self.toolkit}/docker/{self.version}/{name}"

    @property
    def template(self) -> str:
        """Path of its template below `templates/`; one is for all that extend another cell."""
        return f"{'derived' if self.extends else self.toolkit}.Dockerfile.j2"

    @property
    def lock(self) -> str:
        """Path of its lock below the project root."""
        return f"{self.toolkit}/lock/{self.id}.txt"

    @property
    def python(self) -> str:
        """`X.Y` of the interpreter that runs the training script."""
        return self.base.python

    @property
    def tags(self) -> tuple[str, ...]:
        """The versioned tag first, then its aliases."""
        return (self.tag, *self.aliases)

    @property
    def local_name(self) -> str:
        """The reference in the local image store: what a user types after `docker run`."""
        return f"{self.repository}:{self.tag}"


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """All that a build matrix promises."""

    name: str
    cells: tuple[Cell, ...]
    frameworks: Mapping[str, FrameworkName]
    tools: Mapping[str, str]
    """Exact versions of what recipes install with."""

    def framework_name(self, word: str) -> str:
        """The matrix's own spelling of a framework: `tensorflow` and `pytorch` are understood too."""
        return next((name for name, known in self.frameworks.items() if word == known.sdk), word)


def select_cells(cells: Iterable[Cell], patterns: Sequence[str] = ("*",)) -> tuple[Cell, ...]:
    """Keep the cells whose id matches any pattern (`*`, `?`, `[…]`), in the order of the matrix.

    A run that builds nothing and says "passed" is the worst kind of green, and so is one that leaves out what was
    asked for: every pattern must match. Raises `SelectionError`.
    """
    known = tuple(cells)
    for pattern in patterns:
        if not any(fnmatchcase(cell.id, pattern) for cell in known):
            near = get_close_matches(pattern, [cell.id for cell in known], n=1, cutoff=0.5)
            hint = f"; did you mean '{near[0]}'?" if near else "; `rlimages list` shows all ids"
            raise SelectionError(f"no cell matches '{pattern}'{hint}")
    return tuple(cell for cell in known if any(fnmatchcase(cell.id, pattern) for pattern in patterns))
