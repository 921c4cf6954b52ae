"""Measure what this process may use of the machine: cores, memory and free disk, within cgroup limits."""

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DISK_FLOOR = 5 * 10**9
"""Bytes of disk that builds leave free unless told otherwise."""
DISK_REMEDY = (
    "make room where the engine keeps its data: `docker system df` says what fills it, `docker builder prune` empties "
    "the build cache"
)
"""What to do about a full disk, whether it was foreseen or met."""
_UNLIMITED = 2**60
"""cgroup v1 has no word for no limit, but a number near 2**63."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """What can be had now."""

    cores: int
    memory: int
    """Bytes."""


def read_machine(root: Path = Path("/")) -> Machine:
    """What this process can have of the machine whose `/proc` and `/sys` are below `root`."""
    groups = list(_groups(root))
    memory = min([_available(root), *(left for group in groups if (left := _memory_left(group)) is not None)])
    quotas = [quota for group in groups if (quota := _quota(group)) is not None]
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = min([own, *(max(1, math.floor(quota)) for quota in quotas)])
    return Machine(cores=cores, memory=max(0, memory))


def free_disk(folder: Path) -> int | None:
    """Bytes that anyone may still write where this folder is; None where it cannot be asked."""
    try:
        left = os.statvfs(folder)
    except OSError:
        return None
    return left.f_bavail * left.f_frsize


def _available(root: Path) -> int:
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", _read_kernel_file(root / "proc/meminfo"), re.MULTILINE)
    if found:
        return int(found[1]) * 1024
    pages = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf(pages)


def _groups(root: Path) -> Iterator[Path]:
    """The folders of this process's control groups and of all above them.

    In a container the path may be the host's and not to be seen here; the mount's own folder is then the container's.
    """
    for line in _read_kernel_file(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        wanted = [name for name in controllers.split(",") if name in ("memory", "cpu")]
        for mount in wanted if controllers else [""]:
            top = root / "sys/fs/cgroup" / mount
            at = top / path.lstrip("/")
            yield from (folder for folder in (at, *at.parents) if folder == top or top in folder.parents)


def _memory_left(group: Path) -> int | None:
    """Bytes up to a group's limit; page cache that can be dropped is not counted as taken. None where none is set."""
    for limit, usage, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        most, taken = _read_kernel_file(group / limit).strip(), _read_kernel_file(group / usage).strip()
        if most.isdigit() and taken.isdigit() and int(most) < _UNLIMITED:
            found = re.search(rf"^{cache} (\d+)$", _read_kernel_file(group / "memory.stat"), re.MULTILINE)
            return int(most) - int(taken) + (int(found[1]) if found else 0)
    return None


def _quota(group: Path) -> float | None:
    """Cores that a group may use; None where it may use all."""
    words = _read_kernel_file(group / "cpu.max").split() or [
        _read_kernel_file(group / "cpu.cfs_quota_us").strip(),
        _read_kernel_file(group / "cpu.cfs_period_us").strip(),
    ]
    if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]):
        return int(words[0]) / int(words[1])
    return None


def _read_kernel_file(path: Path) -> str:
    """Of a file of the kernel; empty where there is none."""
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
