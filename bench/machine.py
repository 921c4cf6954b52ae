"""Describe the machine and the checkout that are measured, and check the free disk."""

import os
import platform
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sandbox import FILES, ROOT, Sandbox
from timed import BenchmarkError, output

IMAGE = 4
"""GB for one image, its layers and its build cache."""
SPARE = 2
"""GB for synthetic projects and the programs of the engine."""


def describe_machine(sandbox: Sandbox) -> dict[str, Any]:
    """Return the machine, the versions of the programs and the state of the checkout."""
    clean = not output(["git", "status", "--porcelain", *FILES], cwd=ROOT, env=os.environ).strip()
    return {
        "cores": os.cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "processor": _processor(),
        "system": f"Linux {platform.release()}",
        "engine": sandbox.docker("version", "--format", "{{.Server.Version}}")[0],
        "buildx": sandbox.docker("buildx", "version")[0].split()[1],
        "python": platform.python_version(),
        "date": datetime.now(UTC).date().isoformat(),
        "revision": output(["git", "rev-parse", "--short=10", "HEAD"], cwd=ROOT, env=os.environ).strip()
        + ("" if clean else " and changes"),
        "tree": sandbox.tree,
    }


def machine_text(machine: dict[str, Any]) -> str:
    """Return the description of the machine as one line of text."""
    return (
        f"{machine['cores']} cores ({machine['processor']}), {machine['memory'] / 2**30:.0f} GiB, {machine['system']}, "
        f"Docker {machine['engine']}, buildx {machine['buildx']}, Python {machine['python']}; "
        f"{machine['date']}, revision {machine['revision']}"
    )


def require_space(folder: Path, *, images: int) -> str:
    """Return a sentence about the free and the needed disk. Raises `BenchmarkError` if too little is free."""
    needed = IMAGE * images + SPARE
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free / 1e9
    if free < needed:
        raise BenchmarkError(
            f"{existing} has {free:.0f} GB free, and this needs {needed} GB; name a folder on a larger disk with --home"
        )
    return f"{free:.0f} GB free in {existing}, about {needed} GB needed"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def busy_seconds() -> float:
    """Return the seconds that all processors together have worked since the machine started; see proc_stat(5)."""
    user, nice, system, _idle, _waiting, interrupts, soft_interrupts, *_ = map(
        int, Path("/proc/stat").read_text().split()[1:9]
    )
    return (user + nice + system + interrupts + soft_interrupts) / os.sysconf("SC_CLK_TCK")
