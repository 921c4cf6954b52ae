"""The `doctor` command: check this machine, and say how to fix each problem."""

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

GIB = 1 << 30
_DISK_WANTED = 20 * GIB
"""The six open CPU images, their build cache and one more of each take about 18 GiB."""
_DISK_NEEDED = 9 * GIB
"""What stays free, and one build of which nothing is known: `room.FLOOR`, `booking.UNKNOWN_IMAGE`."""
_MEMORY_WANTED = 4 * GIB
"""One build at a time, and a training check beside it."""


class Health(StrEnum):
    """How well one thing does."""

    GOOD = "good"
    MISSING = "missing"
    """Something will not work without it."""
    OPTIONAL = "optional"
    """Only some cells or verbs want it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing looked at."""

    subject: str
    health: Health
    detail: str
    remedy: str = ""


def examine(root: Path, registry: str, environ: Mapping[str, str]) -> Iterator[Finding]:
    """Look at everything, one finding at a time."""
    for look in (_engine, _buildx, _gpu):
        yield look()
    yield _disk(root)
    yield _memory()
    yield _registry(registry)
    yield _bootstrap()
    yield _credentials(environ)
    yield _uv()
    yield _cosign()


def _program_output(argv: list[str]) -> str | None:
    """What a program says, or None when it fails or is not there."""
    lines: list[str] = []
    try:
        ended = run_program(argv, on_line=lines.append, timeout=20)
    except FactoryError:
        return None
    return "\n".join(lines).strip() if ended.passed else None


_ENGINE_REMEDY = 'run: eval "$(scripts/engine env)" after scripts/engine up, or install Docker Engine 23 or newer'


def _engine() -> Finding:
    version = _program_output(["docker", "version", "--format", "{{.Server.Version}}"])
    if version is None:
        return Finding(
            subject="engine", health=Health.MISSING, detail="no Docker engine answers", remedy=_ENGINE_REMEDY
        )
    if int(version.partition(".")[0]) < 23:
        detail = f"Docker {version} knows no named contexts"
        return Finding(subject="engine", health=Health.MISSING, detail=detail, remedy=_ENGINE_REMEDY)
    where = os.environ.get("DOCKER_HOST", "its default socket")
    return Finding(subject="engine", health=Health.GOOD, detail=f"Docker {version} at {where}")


def _buildx() -> Finding:
    version = _program_output(["docker", "buildx", "version"])
    if version is None:
        remedy = "install the buildx plugin of Docker (docker-buildx, or docker-buildx-plugin)"
        return Finding(subject="buildx", health=Health.MISSING, detail="no buildx", remedy=remedy)
    return Finding(subject="buildx", health=Health.GOOD, detail=" ".join(version.split()[1:2]))


def _gpu() -> Finding:
    runtimes = _program_output(["docker", "info", "--format", "{{json .Runtimes}}"]) or ""
    if "nvidia" in runtimes:
        return Finding(subject="NVIDIA runtime", health=Health.GOOD, detail="the engine has it")
    detail = "none; gpu images build, their gpu checks are not applicable"
    return Finding(
        subject="NVIDIA runtime", health=Health.OPTIONAL, detail=detail, remedy="install nvidia-container-toolkit"
    )


def _disk(root: Path) -> Finding:
    where = _program_output(["docker", "info", "--format", "{{.DockerRootDir}}"])
    place = Path(where) if where and Path(where).is_dir() else root
    free = shutil.disk_usage(place).free
    detail = f"{free / GIB:.0f} GiB free at {place}"
    if free >= _DISK_WANTED:
        return Finding(subject="disk", health=Health.GOOD, detail=detail)
    health = Health.MISSING if free < _DISK_NEEDED else Health.OPTIONAL
    remedy = f"all open images want {_DISK_WANTED / GIB:.0f} GiB; docker builder prune frees build cache"
    return Finding(subject="disk", health=health, detail=detail, remedy=remedy)


def _memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    detail = f"{total / GIB:.0f} GiB, {os.cpu_count()} cores"
    if total >= _MEMORY_WANTED:
        return Finding(subject="memory", health=Health.GOOD, detail=detail)
    remedy = "training checks want 4 GiB; use --jobs 1 and expect the larger ones to fail"
    return Finding(subject="memory", health=Health.MISSING, detail=detail, remedy=remedy)


def _registry(registry: str) -> Finding:
    from rlimages.registry.http import is_reachable

    if is_reachable(registry):
        return Finding(subject="registry", health=Health.GOOD, detail=f"{registry} answers")
    remedy = "run: scripts/engine up --registry, or name another with --to"
    return Finding(subject="registry", health=Health.OPTIONAL, detail=f"{registry} does not answer", remedy=remedy)


def _bootstrap() -> Finding:
    program = "mmdebstrap"
    if shutil.which(program):
        return Finding(subject="bases", health=Health.GOOD, detail=f"{program} can bootstrap Debian bases")
    detail = f"no {program}: Debian bases can only be pulled"
    return Finding(subject="bases", health=Health.OPTIONAL, detail=detail, remedy=f"apt-get install {program}")


def _credentials(environ: Mapping[str, str]) -> Finding:
    from botocore.session import Session

    # Where there is no metadata service the question costs seconds, so only what is set up here is asked for.
    session = Session()
    resolver = session.get_component("credential_provider")
    if not environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        resolver.remove("iam-role")
    credentials = resolver.load_credentials()
    if credentials is not None:
        return Finding(subject="AWS credentials", health=Health.GOOD, detail=f"found by {credentials.method}")
    detail = "none; SageMaker's bases can't be pulled from ECR, the open line needs none"
    return Finding(subject="AWS credentials", health=Health.OPTIONAL, detail=detail, remedy="aws configure")


def _uv() -> Finding:
    try:
        from uv import find_uv_bin

        version = _program_output([find_uv_bin(), "--version"])
    except (ImportError, FileNotFoundError):
        version = None
    if version:
        return Finding(subject="uv", health=Health.GOOD, detail=version)
    return Finding(subject="uv", health=Health.MISSING, detail="no uv: locks can't be made", remedy="pip install uv")


def _cosign() -> Finding:
    where = shutil.which("cosign")
    if where:
        return Finding(subject="cosign", health=Health.GOOD, detail=where)
    remedy = 'run: scripts/engine tools && eval "$(scripts/engine env)"'
    return Finding(subject="cosign", health=Health.OPTIONAL, detail="none: nothing can be signed", remedy=remedy)


def finding_facts(finding: Finding) -> dict[str, str]:
    """A finding for programs."""
    return {
        "subject": finding.subject,
        "health": finding.health.value,
        "detail": finding.detail,
        "remedy": finding.remedy,
    }


def findings_text(findings: Iterable[Finding]) -> Iterator[str]:
    """One line for each finding, and below it what to do."""
    marks = {Health.GOOD: "ok      ", Health.MISSING: "missing ", Health.OPTIONAL: "optional"}
    for finding in findings:
        yield f"{marks[finding.health]} {finding.subject}: {finding.detail}"
        if finding.remedy:
            yield f"         -> {finding.remedy}"


@click.command()
@click.option("--registry", default="127.0.0.1:5000", show_default=True, help="The registry to look for.")
@json_option
@click.pass_context
def doctor(ctx: click.Context, /, registry: str, as_json: bool) -> None:
    """Look at this machine: what works, and what to do about what doesn't."""
    findings = tuple(examine(Path.cwd(), registry, os.environ))
    if as_json:
        print_json([finding_facts(finding) for finding in findings])
    else:
        print_lines(findings_text(findings))
    if any(finding.health is Health.MISSING for finding in findings):
        raise ToolError("something that builds need is missing; the lines above say what to do")
