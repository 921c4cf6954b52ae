"""The shape of `build_matrix.yaml`, as pydantic models."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from rlimages.matrix.cell import Processor

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9.]+)*$")]
Version = Annotated[
    str,
    Field(
        pattern=r"^\d+(\.\d+)*((a|b|rc)\d+)?(\.post\d+)?(\.dev\d+)?(\+[a-z0-9]+(\.[a-z0-9]+)*)?$",
        description="A version, in quotes, as PEP 440 writes it: '1.6.0', '1.3.0.post0'.",
    ),
]
MinorVersion = Annotated[str, Field(pattern=r"^\d+\.\d+$", description="A version of two numbers, in quotes: '3.11'.")]
OnProcessor = Annotated[Processor, Field(strict=False)]
Date = Annotated[str, Field(pattern=r"^\d{4}-\d{2}-\d{2}$", description="A day: 2024-03-01.")]
Requirement = Annotated[str, Field(min_length=1, description="A PEP 508 requirement: numpy==1.24.3")]
LockLine = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+==[^ ]+( --hash=sha256:[0-9a-f]{64})+$")]
Package = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9+._:=~-]*$", description="A distribution package.")]
Repository = Annotated[str, Field(pattern=r"^[a-z0-9]+([._-][a-z0-9]+)*(/[a-z0-9]+([._-][a-z0-9]+)*)*$")]
Tag = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_{}][A-Za-z0-9_.{}-]*$", description="An image tag; {processor} is filled in.")
]
EnvName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]


class StrictModel(BaseModel):
    """No unknown key, no silent conversion."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class RawFramework(StrictModel):
    """A deep learning framework as cells name it."""

    name: Name
    version: Version


class RawFrameworkName(StrictModel):
    """What a framework is called elsewhere."""

    title: str
    sdk: str = Field(description="Its name in the SageMaker SDK.")
    distribution: str = Field(description="Its name on the Python package index.")


class RawBase(StrictModel):
    """An image to stand on, for each processor."""

    line: Name = Field(default="sagemaker", description="Suffix of the cells' ids; 'sagemaker' adds none.")
    registry: Name | None = Field(default=None, description="Account table for images in ECR.")
    image: dict[OnProcessor, str] = Field(
        min_length=1, description="repository:tag, or a full reference without registry."
    )
    os: str = Field(description="Distribution and release: ubuntu18.04, debian12, amzn2023.")
    packages: Literal["apt", "dnf"] = "apt"
    python: MinorVersion
    python_release: str | None = Field(default=None, pattern=r"^\d+\.\d+\.\d+$", description="With its patch number.")
    platform: Literal["manylinux2014", "manylinux_2_28"] = Field(
        default="manylinux_2_28", description="The wheels that its C library can load."
    )
    interpreter: str = Field(default="python", description="How the interpreter is called inside the base.")
    cuda: MinorVersion | None = Field(default=None, description="CUDA of the gpu image.")
    framework: RawFramework | None = Field(default=None, description="What the base already brings.")
    provides: list[Requirement] = Field(default=[], description="What else the base already brings.")


class RawPackages(StrictModel):
    """Packages of the distribution."""

    run: list[Package] = Field(default=[], description="Stay in the image.")
    build: list[Package] = Field(default=[], description="Only in the build stage.")


class RawBuild(StrictModel):
    """What a version and an image may both say. Lists of an image follow those of its version; its words win."""

    as_of: Date | None = Field(default=None, description="The lock is resolved as if the index stood still that day.")
    pip: list[Requirement] = Field(default=[], description="Direct requirements; the lock has the rest.")
    pip_for: dict[OnProcessor, list[Requirement]] = Field(
        default={}, description="Direct requirements of one processor."
    )
    overrides: list[Requirement] = Field(default=[], description="Replace what packages ask for: stale bounds.")
    build_constraints: list[Requirement] = Field(default=[], description="For the build of source packages.")
    verbatim: list[LockLine] = Field(default=[], description="Lines of the lock that no resolver can give any more.")
    apt: RawPackages = Field(default=RawPackages(), description="Packages of the distribution, also where it is dnf.")
    env: dict[EnvName, str] = Field(default={})
    workdir: str | None = Field(default=None, pattern=r"^/")
    display: bool | None = Field(default=None, description="Rendering needs an X display.")
    options: dict[Name, str] = Field(default={}, description="What the toolkit's template is told.")
    timeout: int | None = Field(default=None, gt=0, description="Seconds one build may take.")


class RawImage(RawBuild):
    """One Dockerfile: a version of a toolkit on a base, for one or more processors."""

    base: str | None = Field(default=None, description="Key of bases; not where the image extends a cell.")
    framework: RawFramework | None = Field(default=None, description="Only where the base brings none.")
    processors: list[OnProcessor] = Field(default=[], description="All that the base has, if not said.")
    repository: Repository
    tag: Tag
    aliases: list[Tag] = []
    published: Name | None = Field(default=None, description="Account table under which SageMaker published it.")
    extends: str | None = Field(
        default=None, description="Id of the cell to build on, above or in the parents; {processor} is filled in."
    )


class RawVersion(RawBuild):
    """One version of a toolkit."""

    images: list[RawImage] = Field(min_length=1)


class RawMatrix(StrictModel):
    """The build matrix of `rlimages`: toolkit x version x framework x processor."""

    version: Literal[1] = Field(description="Version of this format.")
    tools: dict[Name, Version] = Field(default={}, description="Exact versions of what recipes install with.")
    frameworks: dict[Name, RawFrameworkName] = {}
    parents: str | None = Field(
        default=None,
        min_length=1,
        description="The matrix, from here, whose cells may be extended: ../build_matrix.yaml",
    )
    bases: dict[str, RawBase] = {}
    toolkits: dict[Name, Annotated[dict[Version, RawVersion], Field(min_length=1)]] = Field(min_length=1)


def json_schema() -> str:
    """The published JSON schema, for editors."""
    import json

    schema = RawMatrix.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
