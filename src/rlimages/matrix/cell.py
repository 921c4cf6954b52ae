"""The types of a parsed build matrix, and the selection of its cells. A `Cell` is one image. No file is read here."""

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
"""An empty mapping that cannot be changed: the default of several fields."""


def _empty_mapping() -> Mapping[str, str]:
    """Return `EMPTY`: a dataclass field takes a mapping as its default only from a function."""
    return EMPTY


class Processor(StrEnum):
    """The kind of processor that an image is made for."""

    CPU = "cpu"
    GPU = "gpu"


@dataclass(frozen=True, kw_only=True, slots=True)
class Framework:
    """A deep learning framework with its version."""

    name: str
    """Its name in tags and ids: `tf`, `torch`, `mxnet`."""
    version: str

    def __str__(self) -> str:
        """Return name and version for people: `torch 2.1.0`."""
        return f"{self.name} {self.version}"


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameworkName:
    """The names that others use for a framework."""

    title: str
    """Its name for people, as in descriptions of images: `TensorFlow`."""
    sdk: str
    """Its name in the SageMaker SDK: `tensorflow`."""
    distribution: str
    """Name of its distribution on the Python package index: `tensorflow`, `torch`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    """The base image of a cell, for one processor."""

    name: str
    """Its key under `bases` in the matrix; the id of the parent cell if the base image is another cell's image."""
    registry: str | None
    """Key of the account table (`accounts.yaml`) for images in ECR; None if `image` is a full reference."""
    image: str
    """`repository:tag` in the registry; a full reference if `registry` is None."""
    os: str
    """Distribution and release as tags spell it: `ubuntu18.04`, `debian12`, `amzn2023`."""
    packages: str
    """The package manager: `apt` or `dnf`."""
    python: str
    """Version `X.Y` of the Python interpreter that the toolkit is installed for."""
    python_release: str
    """Version `X.Y.Z` of this interpreter, on which version bounds of packages may depend; `X.Y` if Z is not known."""
    platform: str
    """The newest kind of wheels that the C library of the base can load: `manylinux2014`, `manylinux_2_28`."""
    interpreter: str
    """Name of the program that is this interpreter in the base: `python`, `python3.11`."""
    cuda: str | None
    """CUDA version `X.Y` of the base; None for cpu, and if Python wheels contain CUDA."""
    framework: Framework | None
    """The framework that the base contains; None if it has none.

    It constrains the lock and is never installed again.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class PythonRequirements:
    """The Python requirements of a cell. Its lock (a requirements file) has the exact releases that meet them."""

    as_of: str
    """`YYYY-MM-DD`: the lock is resolved with the releases that existed at the start of this day (UTC)."""
    direct: tuple[str, ...]
    """PEP 508 requirements that the cell declares. The lock also has what these packages depend on."""
    overrides: tuple[str, ...] = ()
    """Requirements that replace those of packages (uv's --override), such as outdated bounds of old releases."""
    provided: tuple[str, ...] = ()
    """Requirements for packages, other than the framework, that the base contains.

    They constrain the lock and are never installed.
    """
    build: tuple[str, ...] = ()
    """Constraints on the packages with which source packages are built (uv's --build-constraints)."""
    verbatim: tuple[str, ...] = ()
    """Lines that go into the lock unchanged, for releases whose metadata resolvers can't read any more."""
    excluded: tuple[str, ...] = ()
    """Names of the packages that the parent cell's lock has as `verbatim` lines. They are not resolved."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SystemPackages:
    """Names of packages of the Linux distribution that a cell needs."""

    run: tuple[str, ...] = ()
    """Packages that stay in the image."""
    build: tuple[str, ...] = ()
    """Packages, such as compilers and headers, that are installed only in the build stage of the Dockerfile."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Cell:
    """One image of the build matrix, with every default applied."""

    toolkit: str
    """Name of the reinforcement learning toolkit: `ray`, `coach`, `vw`."""
    version: str
    """Version of the toolkit."""
    framework: Framework | None
    """The deep learning framework in the image, from the base or installed; None if there is none."""
    processor: Processor
    line: str
    """The family of base images: SageMaker's (`sagemaker`), `debian`, `amzn2023` or `public`."""
    base: Base
    requirements: PythonRequirements
    system: SystemPackages
    repository: str
    """Repository of the image, without a registry."""
    tag: str
    """Versioned tag of the image."""
    aliases: tuple[str, ...] = ()
    """Further tags, which move to a newer patch version when the matrix has one."""
    registry: str | None = None
    """Key of the account table under which SageMaker published this image; None if it never did."""
    env: Mapping[str, str] = field(default_factory=_empty_mapping, hash=False)
    """Environment variables that the image sets."""
    workdir: str = DEFAULT_WORKDIR
    """Working folder of the image."""
    display: bool = False
    """True if environments need an X display for rendering. The entrypoint then provides one."""
    inventory: Mapping[str, str] = field(default_factory=_empty_mapping, hash=False)
    """Python distribution name -> version that must be installed in the image."""
    options: Mapping[str, str] = field(default_factory=_empty_mapping, hash=False)
    """Values for the toolkit's Dockerfile template, beside the keys that all toolkits have."""
    extends: str | None = None
    """Id of the cell whose image this one is built FROM; None if it is built FROM a base image."""
    timeout: int = DEFAULT_TIMEOUT
    """Time limit of one build, in seconds."""
    where: str = ""
    """Position of the row that declares the cell, as `file:line` of the matrix."""

    @property
    def id(self) -> str:
        """Return the name of the cell in selections, logs, paths and reports: `ray-2.9.3-tf-cpu-debian`."""
        parts = [self.toolkit, self.version, self.framework.name if self.framework else "", self.processor.value]
        return "-".join(filter(None, [*parts, self._line_suffix]))

    @property
    def _line_suffix(self) -> str:
        """The last part of the cell's id: the name of its line, or an empty string for SageMaker's own base images."""
        return "" if self.line == SAGEMAKER_LINE else self.line

    @property
    def dockerfile(self) -> str:
        """Return the path of the cell's Dockerfile below the project root.

        The cpu and the gpu cell share one Dockerfile.
        """
        name = ".".join(filter(None, ["Dockerfile", self.framework.name if self.framework else "", self._line_suffix]))
        return f"{self.toolkit}/docker/{self.version}/{name}"

    @property
    def template(self) -> str:
        """Return the path of the cell's Dockerfile template below `templates/`.

        Each toolkit has a template, and all cells that extend another cell share one.
        """
        return f"{'derived' if self.extends else self.toolkit}.Dockerfile.j2"

    @property
    def lock(self) -> str:
        """Return the path of the cell's lock, the requirements file with exact versions, below the project root."""
        return f"{self.toolkit}/lock/{self.id}.txt"

    @property
    def python(self) -> str:
        """Return the version `X.Y` of the interpreter that runs the training script."""
        return self.base.python

    @property
    def tags(self) -> tuple[str, ...]:
        """Return all tags of the image: the versioned tag, then the aliases."""
        return (self.tag, *self.aliases)

    @property
    def local_name(self) -> str:
        """Return `repository:tag`, the reference of the cell's image in the local store (the engine's images)."""
        return f"{self.repository}:{self.tag}"


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """The content of a build matrix."""

    name: str
    """Name of the matrix file."""
    cells: tuple[Cell, ...]
    """All images, in the order of the file."""
    frameworks: Mapping[str, FrameworkName]
    """Name of a framework in the matrix, such as `torch` -> the names that others use for it."""
    tools: Mapping[str, str]
    """Tool with which Dockerfiles install packages, such as `uv` -> its exact version."""

    def framework_name(self, name: str) -> str:
        """Return the name that a framework has in the matrix (`torch`) for its `name` in the SageMaker SDK (`pytorch`).

        Return `name` itself if it is no name of the SDK.
        """
        return next((key for key, framework in self.frameworks.items() if name == framework.sdk), name)


def select_cells(cells: Iterable[Cell], patterns: Sequence[str] = ("*",)) -> tuple[Cell, ...]:
    """Return those of `cells` whose id matches any of `patterns` (with `*`, `?`, `[…]`), in the order of `cells`.

    Raise `SelectionError` if a pattern matches no cell: a run must not pass because a misspelt name selected nothing.
    """
    known = tuple(cells)
    for pattern in patterns:
        if not any(fnmatchcase(cell.id, pattern) for cell in known):
            # ids are long and similar, and patterns are short: a lower similarity than usual still finds the right one
            hint = did_you_mean(pattern, [cell.id for cell in known], cutoff=0.5) or "; `rlimages list` shows all ids"
            raise SelectionError(f"no cell matches '{pattern}'{hint}")
    return tuple(cell for cell in known if any(fnmatchcase(cell.id, pattern) for pattern in patterns))
