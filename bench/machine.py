"""What was measured, on what: the line under every table."""

import os
import platform
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sandbox import FILES, ROOT, Sandbox
from timed import Failed, output

IMAGE = 4
"""GB: one image, its layers and what the builder remembers of it."""
SPARE = 2
"""GB: synthetic projects and the programs of the engine."""


def described(sandbox: Sandbox) -> dict[str, Any]:
    """The machine, the programs and the state of the checkout."""
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


def sentence(machine: dict[str, Any]) -> str:
    """One line for people."""
    return (
        f"{machine['cores']} cores ({machine['processor']}), {machine['memory'] / 2**30:.0f} GiB, {machine['system']}, "
        f"Docker {machine['engine']}, buildx {machine['buildx']}, Python {machine['python']}; "
        f"{machine['date']}, revision {machine['revision']}"
    )


def insist_on_space(folder: Path, *, images: int) -> str:
    """How much is free, and needed for so many images. Raises `Failed` where it is too little."""
    needed = IMAGE * images + SPARE
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free / 1e9
    if free < needed:
        raise Failed(f"{there} has {free:.0f} GB free, and this needs {needed}; say a larger place with --home")
    return f"{free:.0f} GB free in {there}, about {needed} needed"


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def busy() -> float:
    """Seconds that processors of this machine have worked since it was started, all together: proc_stat(5)."""
    user, nice, system, _idle, _waiting, interrupts, softly, *_ = map(int, Path("/proc/stat").read_text().split()[1:9])
    return (user + nice + system + interrupts + softly) / os.sysconf("SC_CLK_TCK")
