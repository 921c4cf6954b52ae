"""Define the command `doctor`: it checks this machine, and shows how to fix each problem."""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import click

from rlimages.cli.common import json_option, print_json, print_lines
from rlimages.errors import FactoryError, ToolError
from rlimages.system.process import run_program
from rlimages.system.units import format_binary_size

_GIB = 2**30
_DISK_WANTED = 20 * _GIB
"""Free disk in bytes for all Debian CPU images: six images, their build cache and one rebuild of each take 18 GiB."""
_DISK_NEEDED = 9 * _GIB
"""Free disk in bytes for one build: the default of --disk-floor plus the expected size of an image not built yet."""
_MEMORY_WANTED = 4 * _GIB
"""Memory in bytes for one build at a time and a training check beside it."""


class Health(StrEnum):
    """The state of one subject of `doctor`, such as the engine or the disk."""

    GOOD = "good"
    MISSING = "missing"
    """Builds do not work, because the subject is missing or not sufficient."""
    OPTIONAL = "optional"
    """The subject is missing or not sufficient, but only some cells or commands need it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """The result of one check of this machine."""

    subject: str
    """Subject of the check: `engine`, `disk`, `AWS credentials`."""
    health: Health
    detail: str
    """The state that was found, for people: a version, a size or a problem."""
    remedy: str = ""
    """How to fix the problem; empty if there is none."""


def examine(root: Path, registry: str, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Check this machine, and yield the finding of each check when it has ended.

    `root` is a folder of the project; the free space of its disk is checked if the engine is on another machine.
    `registry` is the `host[:port]` to connect to. `environ` decides whether the metadata service is asked for AWS
    credentials.
    """
    for check in (_engine, _buildx, _gpu):
        yield check()
    yield _disk(root)
    yield _memory()
    yield _registry(registry)
    yield _bootstrap()
    yield _credentials(environ)
    yield _uv()
    yield _cosign()


def _program_output(argv: list[str]) -> str | None:
    """Run the program `argv` for at most 20 seconds, and return its output; None if it fails or does not exist."""
    lines: list[str] = []
    try:
        result = run_program(argv, on_line=lines.append, timeout=20)
    except FactoryError:
        return None
    return "\n".join(lines).strip() if result.passed else None


_ENGINE_REMEDY = 'run: eval "$(scripts/engine env)" after scripts/engine up, or install Docker Engine 23 or newer'


def _engine() -> Finding:
    version = _program_output(["docker", "version", "--format", "{{.Server.Version}}"])
    if version is None:
        return Finding(
            subject="engine", health=Health.MISSING, detail="no Docker engine answers", remedy=_ENGINE_REMEDY
        )
    if int(version.partition(".")[0]) < 23:
        detail = f"Docker {version} is too old: it has no named build contexts"
        return Finding(subject="engine", health=Health.MISSING, detail=detail, remedy=_ENGINE_REMEDY)
    address = os.environ.get("DOCKER_HOST", "its default socket")
    return Finding(subject="engine", health=Health.GOOD, detail=f"Docker {version} at {address}")


def _buildx() -> Finding:
    version = _program_output(["docker", "buildx", "version"])
    if version is None:
        remedy = "install the buildx plugin of Docker (docker-buildx, or docker-buildx-plugin)"
        return Finding(subject="buildx", health=Health.MISSING, detail="not installed", remedy=remedy)
    return Finding(subject="buildx", health=Health.GOOD, detail=" ".join(version.split()[1:2]))


def _gpu() -> Finding:
    runtimes = _program_output(["docker", "info", "--format", "{{json .Runtimes}}"]) or ""
    if "nvidia" in runtimes:
        return Finding(subject="NVIDIA runtime", health=Health.GOOD, detail="installed in the engine")
    detail = "not installed: gpu images can be built, but their gpu checks do not run"
    return Finding(
        subject="NVIDIA runtime", health=Health.OPTIONAL, detail=detail, remedy="install nvidia-container-toolkit"
    )


def _disk(root: Path) -> Finding:
    # if the engine is on another machine, only the disk of this folder can be checked
    data = _program_output(["docker", "info", "--format", "{{.DockerRootDir}}"])
    folder = Path(data) if data and Path(data).is_dir() else root
    free = shutil.disk_usage(folder).free
    detail = f"{format_binary_size(free)} free at {folder}"
    if free >= _DISK_WANTED:
        return Finding(subject="disk", health=Health.GOOD, detail=detail)
    health = Health.MISSING if free < _DISK_NEEDED else Health.OPTIONAL
    remedy = (
        f"all Debian images need {format_binary_size(_DISK_WANTED)}; `docker builder prune` removes the build cache"
    )
    return Finding(subject="disk", health=health, detail=detail, remedy=remedy)


def _memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    detail = f"{format_binary_size(total)}, {os.cpu_count()} cores"
    if total >= _MEMORY_WANTED:
        return Finding(subject="memory", health=Health.GOOD, detail=detail)
    remedy = (
        f"training checks need {format_binary_size(_MEMORY_WANTED)}; use --jobs 1, and expect the larger ones to fail"
    )
    return Finding(subject="memory", health=Health.MISSING, detail=detail, remedy=remedy)


def _registry(registry: str) -> Finding:
    from rlimages.registry.http import is_reachable

    if is_reachable(registry):
        return Finding(subject="registry", health=Health.GOOD, detail=f"{registry} answers")
    remedy = "run: scripts/engine up --registry, or publish to another registry"
    return Finding(subject="registry", health=Health.OPTIONAL, detail=f"{registry} does not answer", remedy=remedy)


def _bootstrap() -> Finding:
    program = "mmdebstrap"
    if shutil.which(program):
        return Finding(subject="bases", health=Health.GOOD, detail=f"{program} can bootstrap Debian base images")
    detail = f"no {program}: Debian base images can only be pulled"
    return Finding(subject="bases", health=Health.OPTIONAL, detail=detail, remedy=f"apt-get install {program}")


def _credentials(environ: Mapping[str, str]) -> Finding:
    from botocore.session import Session

    # Asking a metadata service that does not exist takes seconds. So it is asked only in a container that has a role.
    session = Session()
    resolver = session.get_component("credential_provider")
    if not environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        resolver.remove("iam-role")
    credentials = resolver.load_credentials()
    if credentials is not None:
        return Finding(subject="AWS credentials", health=Health.GOOD, detail=f"found by {credentials.method}")
    detail = "none found: SageMaker's base images can't be pulled from ECR; Debian images need no credentials"
    return Finding(subject="AWS credentials", health=Health.OPTIONAL, detail=detail, remedy="aws configure")


def _uv() -> Finding:
    try:
        from uv import find_uv_bin

        version = _program_output([find_uv_bin(), "--version"])
    except (ImportError, FileNotFoundError):
        version = None
    if version:
        return Finding(subject="uv", health=Health.GOOD, detail=version)
    return Finding(
        subject="uv", health=Health.MISSING, detail="not installed: locks can't be resolved", remedy="pip install uv"
    )


def _cosign() -> Finding:
    path = shutil.which("cosign")
    if path:
        return Finding(subject="cosign", health=Health.GOOD, detail=path)
    remedy = 'run: scripts/engine tools && eval "$(scripts/engine env)"'
    return Finding(
        subject="cosign",
        health=Health.OPTIONAL,
        detail="not installed: images can't be signed or verified",
        remedy=remedy,
    )


def finding_facts(finding: Finding) -> dict[str, str]:
    """Return the fields of `finding` as a JSON object, for `doctor --json`."""
    return {
        "subject": finding.subject,
        "health": finding.health.value,
        "detail": finding.detail,
        "remedy": finding.remedy,
    }


def findings_text(findings: Iterable[Finding]) -> Iterator[str]:
    """Yield the lines that show `findings` to people: one for each finding, and below it the remedy if it has one."""
    marks = {Health.GOOD: "ok      ", Health.MISSING: "missing ", Health.OPTIONAL: "optional"}
    for finding in findings:
        yield f"{marks[finding.health]} {finding.subject}: {finding.detail}"
        if finding.remedy:
            yield f"         -> {finding.remedy}"


@click.command()
@click.option(
    "--registry",
    default="127.0.0.1:5000",
    show_default=True,
    metavar="REGISTRY",
    help="The registry to check: host[:port].",
)
@json_option
@click.pass_context
def doctor(ctx: click.Context, /, registry: str, as_json: bool) -> None:
    """Check this machine and show how to fix problems.

    The exit code is 4 if something is missing that builds need.
    """
    findings = tuple(examine(Path.cwd(), registry, os.environ))
    if as_json:
        print_json([finding_facts(finding) for finding in findings])
    else:
        print_lines(findings_text(findings))
    if any(finding.health is Health.MISSING for finding in findings):
        raise ToolError("something that builds need is missing; the lines above show how to fix it")
