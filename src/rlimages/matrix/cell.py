"""The values of a build matrix. A `Cell` is one image, with every default applied. No file is read here."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from types import MappingProxyType

from rlimages.errors import SelectionError, did_you_mean

SAGEMAKER_LINE = "sagemaker"
"""The line of SageMaker's own framework images. A line is a family of base images; this one adds no suffix to ids."""
DEFAULT_WORKDIR = "/opt/ml/code"
"""The folder into which SageMaker's training toolkit copies the training script."""
DEFAULT_TIMEOUT = 3600
"""Time limit of one build, in seconds."""
EMPTY: Mapping[str, str] = MappingProxyType({})


def _empty_mapping() -> Mapping[str, str]:
    return EMPTY


class Processor(StrEnum):
    """The kind of processor that an image is made for."""

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
    """The names of a framework outside this project."""

    title: str
    sdk: str
    """Its name in the SageMaker SDK."""
    distribution: str
    """Its name on the Python package index."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    """The base image of a cell, for one processor."""

    name: str
    """Key in the matrix, or the id of the cell that is extended."""
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
    """The same version with its patch number, on which version bounds of packages may depend."""
    platform: str
    """The newest wheels that its C library can load: `manylinux2014`, `manylinux_2_28`."""
    interpreter: str
    """Name of that interpreter in the base."""
    cuda: str | None
    """CUDA version `X.Y` of the base; None for cpu, and if Python wheels contain CUDA."""
    framework: Framework | None
    """The framework that the base contains: it constrains the lock and is never installed again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PythonRequirements:
    """The Python requirements of a cell. Its lock has the exact releases that meet them."""

    as_of: str
    """`YYYY-MM-DD`: the lock is resolved with the releases that existed at the start of this day (UTC)."""
    direct: tuple[str, ...]
    """PEP 508 requirements of this cell."""
    overrides: tuple[str, ...] = ()
    """Requirements that replace those of packages (uv's --override), such as outdated bounds of old releases."""
    provided: tuple[str, ...] = ()
    """Other packages that the base contains: they constrain the lock and are never installed."""
    build: tuple[str, ...] = ()
    """Constraints on the build environment of source packages (uv's --build-constraints)."""
    verbatim: tuple[str, ...] = ()
    """Lines that go into the lock unchanged: releases whose metadata no resolver reads any more."""
    excluded: tuple[str, ...] = ()
    """Names of the packages that the parent cell's lock has as `verbatim` lines. They are not resolved."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SystemPackages:
    """Packages of the Linux distribution."""

    run: tuple[str, ...] = ()
    """Packages that stay in the image."""
    build: tuple[str, ...] = ()
    """Compilers and headers, for the build stage only."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One image of the build matrix, with every default applied."""

    toolkit: str
    version: str
    framework: Framework | None
    processor: Processor
    line: str
    base: Base
    requirements: PythonRequirements
    system: SystemPackages
    repository: str
    tag: str
    aliases: tuple[str, ...] = ()
    registry: str | None = None
    """Key of the account table under which SageMaker published this image; None if it never did."""
    env: Mapping[str, str] = field(default_factory=_empty_mapping, hash=False)
    workdir: str = DEFAULT_WORKDIR
    display: bool = False
    """True if environments need an X display for rendering. The entrypoint then provides one."""
    inventory: Mapping[str, str] = field(default_factory=_empty_mapping, hash=False)
    """Python distribution name -> version that must be installed in the image."""
    options: Mapping[str, str] = field(default_factory=_empty_mapping, hash=False)
    """Values for the toolkit's template beside the common keys."""
    extends: str | None = None
    """Id of the cell whose image this one is built FROM; None if it is built FROM a base image."""
    timeout: int = DEFAULT_TIMEOUT
    """Time limit of one build, in seconds."""
    where: str = ""
    """`file:line` of the row that declares the cell."""

    @property
    def id(self) -> str:
        """Return the name of the cell in selections, logs, paths and reports: `ray-2.9.3-tf-cpu-debian`."""
        parts = [self.toolkit, self.version, self.framework.name if self.framework else "", self.processor.value]
        return "-".join(filter(None, [*parts, self._line_suffix]))

    @property
    def _line_suffix(self) -> str:
        return "" if self.line == SAGEMAKER_LINE else self.line

    @property
    def recipe(self) -> str:
        """Return the path of its Dockerfile below the project root. The cpu and the gpu cell share one."""
        name = ".".join(filter(None, ["Dockerfile", self.framework.name if self.framework else "", self._line_suffix]))
        return f"{self.toolkit}/docker/{self.version}/{name}"

    @property
    def template(self) -> str:
        """Return the path of its template below `templates/`. All cells that extend another one share a template."""
        return f"{'derived' if self.extends else self.toolkit}.Dockerfile.j2"

    @property
    def lock(self) -> str:
        """Return the path of its lock below the project root."""
        return f"{self.toolkit}/lock/{self.id}.txt"

    @property
    def python(self) -> str:
        """Return the version `X.Y` of the interpreter that runs the training script."""
        return self.base.python

    @property
    def tags(self) -> tuple[str, ...]:
        """Return the versioned tag, then the aliases."""
        return (self.tag, *self.aliases)

    @property
    def local_name(self) -> str:
        """Return the reference of its image in the local image store, as for `docker run`."""
        return f"{self.repository}:{self.tag}"


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """The content of a build matrix."""

    name: str
    """Name of the file."""
    cells: tuple[Cell, ...]
    frameworks: Mapping[str, FrameworkName]
    tools: Mapping[str, str]
    """Exact versions of the tools that Dockerfiles install packages with."""

    def framework_name(self, name: str) -> str:
        """Return the matrix's key of a framework that is named by this key or as in the SageMaker SDK (`pytorch`)."""
        return next((key for key, framework in self.frameworks.items() if name == framework.sdk), name)


def select_cells(cells: Iterable[Cell], patterns: Sequence[str] = ("*",)) -> tuple[Cell, ...]:
    """Return the cells whose id matches any pattern (`*`, `?`, `[…]`), in the order of the matrix.

    Raise `SelectionError` if a pattern matches no cell: a run must not pass because a misspelt name selected nothing.
    """
    known = tuple(cells)
    for pattern in patterns:
        if not any(fnmatchcase(cell.id, pattern) for cell in known):
            # ids are long and similar, and patterns are short: a lower similarity than usual still finds the right one
            hint = did_you_mean(pattern, [cell.id for cell in known], cutoff=0.5) or "; `rlimages list` shows all ids"
            raise SelectionError(f"no cell matches '{pattern}'{hint}")
    return tuple(cell for cell in known if any(fnmatchcase(cell.id, pattern) for pattern in patterns))
