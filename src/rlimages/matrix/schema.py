"""The keys of `build_matrix.yaml`, as pydantic models.

Editors show the descriptions of the keys, and these docstrings.
"""

from typing import Annotated, Literal

from pydantic import Field

from rlimages.config.schema import Date, EnvName, Name, StrictModel
from rlimages.matrix.cell import Processor

Version = Annotated[
    str,
    Field(
        pattern=r"^\d+(\.\d+)*((a|b|rc)\d+)?(\.post\d+)?(\.dev\d+)?(\+[a-z0-9]+(\.[a-z0-9]+)*)?$",
        description="A PEP 440 version, in quotes: '1.6.0', '1.3.0.post0'.",
    ),
]
MinorVersion = Annotated[str, Field(pattern=r"^\d+\.\d+$", description="Major and minor version, in quotes: '3.11'.")]
OnProcessor = Annotated[Processor, Field(strict=False)]
"""A processor by its value `cpu` or `gpu`: strict models would accept only a member of the enum."""
Requirement = Annotated[str, Field(min_length=1, description="A PEP 508 requirement: numpy==1.24.3")]
LockLine = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+==[^ ]+( --hash=sha256:[0-9a-f]{64})+$")]
Package = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9+._:=~-]*$", description="A distribution package.")]
Repository = Annotated[str, Field(pattern=r"^[a-z0-9]+([._-][a-z0-9]+)*(/[a-z0-9]+([._-][a-z0-9]+)*)*$")]
Tag = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9_{}][A-Za-z0-9_.{}-]*$", description="An image tag; {processor} is replaced by cpu or gpu."
    ),
]


class RawFramework(StrictModel):
    """A deep learning framework and its version."""

    name: Name
    version: Version


class RawFrameworkName(StrictModel):
    """The names that others use for a framework."""

    title: str
    sdk: str = Field(description="Its name in the SageMaker SDK.")
    distribution: str = Field(description="Its name on the Python package index.")


class RawBase(StrictModel):
    """A base image, with one reference for each processor."""

    line: Name = Field(
        default="sagemaker",
        description="The family of base images, and the suffix of the cells' ids; 'sagemaker' adds no suffix.",
    )
    registry: Name | None = Field(default=None, description="Account table of images in ECR.")
    image: dict[OnProcessor, str] = Field(
        min_length=1, description="repository:tag, or a full reference without registry."
    )
    os: str = Field(description="Distribution and release: ubuntu18.04, debian12, amzn2023.")
    packages: Literal["apt", "dnf"] = "apt"
    python: MinorVersion
    python_release: str | None = Field(
        default=None, pattern=r"^\d+\.\d+\.\d+$", description="The Python version with its patch number."
    )
    platform: Literal["manylinux2014", "manylinux_2_28"] = Field(
        default="manylinux_2_28", description="The newest wheels that the base's C library can load."
    )
    interpreter: str = Field(default="python", description="Name of the Python interpreter in the base.")
    cuda: MinorVersion | None = Field(default=None, description="CUDA version of the gpu image.")
    framework: RawFramework | None = Field(default=None, description="The framework that the base contains.")
    provides: list[Requirement] = Field(default=[], description="Other packages that the base contains.")


class RawPackages(StrictModel):
    """Names of packages of the Linux distribution."""

    run: list[Package] = Field(default=[], description="Packages that stay in the image.")
    build: list[Package] = Field(default=[], description="Packages of the build stage only.")


class RawBuild(StrictModel):
    """Keys that both a version and each of its images may have.

    The lists of an image are appended to those of its version; single values of an image override those of its version.
    """

    as_of: Date | None = Field(
        default=None, description="The lock is resolved with the releases that existed at the start of this day (UTC)."
    )
    pip: list[Requirement] = Field(
        default=[], description="Direct requirements. The lock also has what they depend on."
    )
    pip_for: dict[OnProcessor, list[Requirement]] = Field(
        default={}, description="Direct requirements for one processor only."
    )
    overrides: list[Requirement] = Field(
        default=[], description="Requirements that replace those of packages, such as outdated version bounds."
    )
    build_constraints: list[Requirement] = Field(default=[], description="Constraints for building source packages.")
    verbatim: list[LockLine] = Field(
        default=[], description="Lines of the lock for releases that no resolver can read any more."
    )
    apt: RawPackages = Field(
        default=RawPackages(), description="Packages of the distribution; the key is the same for dnf."
    )
    env: dict[EnvName, str] = Field(default={})
    workdir: str | None = Field(default=None, pattern=r"^/")
    display: bool | None = Field(default=None, description="True if environments need an X display for rendering.")
    options: dict[Name, str] = Field(default={}, description="Values for the toolkit's template.")
    timeout: int | None = Field(default=None, gt=0, description="Time limit of one build, in seconds.")


class RawImage(RawBuild):
    """One Dockerfile: a version of a toolkit on a base, for one or more processors."""

    base: str | None = Field(default=None, description="Key of `bases`; not allowed together with `extends`.")
    framework: RawFramework | None = Field(
        default=None, description="The framework that is installed, if the base contains none."
    )
    processors: list[OnProcessor] = Field(default=[], description="By default all processors of the base.")
    repository: Repository
    tag: Tag
    aliases: list[Tag] = Field(default=[])
    published: Name | None = Field(default=None, description="Account table under which SageMaker published the image.")
    extends: str | None = Field(
        default=None,
        description="Id of the cell that the image is built FROM, further up or in `parents`; "
        "{processor} is replaced by cpu or gpu.",
    )


class RawVersion(RawBuild):
    """One version of a toolkit, with its images."""

    images: list[RawImage] = Field(min_length=1)


class RawMatrix(StrictModel):
    """The build matrix of `rlimages`: toolkit x version x framework x processor."""

    version: Literal[1] = Field(description="Version of this format.")
    tools: dict[Name, Version] = Field(
        default={}, description="Exact versions of the tools that Dockerfiles install packages with."
    )
    frameworks: dict[Name, RawFrameworkName] = Field(default={})
    parents: str | None = Field(
        default=None,
        min_length=1,
        description="Another project's matrix, whose cells may be extended; its path from this file.",
    )
    bases: dict[str, RawBase] = Field(default={})
    toolkits: dict[Name, Annotated[dict[Version, RawVersion], Field(min_length=1)]] = Field(min_length=1)


def json_schema() -> str:
    """Return the JSON schema of `build_matrix.yaml` as indented text. Editors use it to check and complete the file."""
    import json

    schema = RawMatrix.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
