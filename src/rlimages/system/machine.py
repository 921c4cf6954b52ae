"""Measure what this process may use of the machine: cores, memory and free disk, within the limits of its cgroups."""

import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

DISK_FLOOR = 5 * 10**9
"""Bytes of disk that a build must leave free, unless `--disk-floor` gives another number."""
DISK_REMEDY = (
    "free some space on the disk of the engine: `docker system df` shows what uses it, and `docker builder prune` "
    "removes the build cache"
)
"""The advice in messages about a full disk, both for a disk that would become full and for a build that failed."""
_UNLIMITED = 2**60
"""Bytes from which a memory limit means "no limit": for that, cgroup v1 shows a number near 2**63."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Machine:
    """The processor cores and the memory that this process may use now."""

    cores: int
    memory: int
    """Bytes of memory that are available now, not the bytes that are installed."""


def read_machine(root: Path = Path("/")) -> Machine:
    """Return the cores and the available memory of this machine, reduced to the cgroup limits of this process.

    `root` is the folder with the kernel's folders `proc` and `sys`; tests use another one than `/`.
    """
    groups = list(_cgroup_folders(root))
    memory = min([_available_memory(root), *(left for group in groups if (left := _memory_left(group)) is not None)])
    quotas = [quota for group in groups if (quota := _cpu_quota(group)) is not None]
    # not os.cpu_count: it ignores the process's CPU affinity, which `docker run --cpuset-cpus` and taskset set
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # a quota may be a fraction of a core; one build at a time is still possible then
    return Machine(cores=min([cores, *(max(1, math.floor(quota)) for quota in quotas)]), memory=max(0, memory))


def free_disk(folder: Path) -> int | None:
    """Return the bytes that a user without privileges can still write on the disk of `folder`.

    Return None if they are unknown, for example because the folder does not exist.
    """
    try:
        status = os.statvfs(folder)
    except OSError:
        return None
    return status.f_bavail * status.f_frsize


def _available_memory(root: Path) -> int:
    """Return the machine's available memory in bytes, from `proc/meminfo` below `root`.

    On a system without that file, return the free memory, or the installed memory if the system does not report the
    free one.
    """
    match = re.search(r"^MemAvailable:\s+(\d+) kB$", _read_kernel_file(root / "proc/meminfo"), re.MULTILINE)
    if match:
        return int(match[1]) * 1024
    pages = "SC_AVPHYS_PAGES" if "SC_AVPHYS_PAGES" in os.sysconf_names else "SC_PHYS_PAGES"
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf(pages)


def _cgroup_folders(root: Path) -> Iterator[Path]:
    """Yield the folders of this process's cgroups and of all parent cgroups, below `sys/fs/cgroup` of `root`.

    In a container, `/proc/self/cgroup` may show the host's path, which does not exist below the container's own
    `/sys/fs/cgroup`. The mount's top folder is then the container's cgroup.
    """
    for line in _read_kernel_file(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        # cgroup v2 has one line without controllers; v1 mounts each controller in a folder of its own
        mounts = [name for name in controllers.split(",") if name in ("memory", "cpu")] if controllers else [""]
        for mount in mounts:
            top = root / "sys/fs/cgroup" / mount
            group = top / path.lstrip("/")
            yield from (folder for folder in (group, *group.parents) if folder == top or top in folder.parents)


def _memory_left(group: Path) -> int | None:
    """Return the bytes that processes can still allocate below the memory limit of a cgroup; None if it has no limit.

    `group` is the cgroup's folder. Page cache that the kernel can drop (`inactive_file`) does not count as used.
    """
    for limit_file, usage_file, cache_key in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    ):
        limit = _read_kernel_file(group / limit_file).strip()
        usage = _read_kernel_file(group / usage_file).strip()
        if limit.isdigit() and usage.isdigit() and int(limit) < _UNLIMITED:
            match = re.search(rf"^{cache_key} (\d+)$", _read_kernel_file(group / "memory.stat"), re.MULTILINE)
            return int(limit) - int(usage) + (int(match[1]) if match else 0)
    return None


def _cpu_quota(group: Path) -> float | None:
    """Return the number of cores that a cgroup may use, which may be a fraction; None if it has no quota.

    `group` is the cgroup's folder.
    """
    words = _read_kernel_file(group / "cpu.max").split() or [
        _read_kernel_file(group / "cpu.cfs_quota_us").strip(),
        _read_kernel_file(group / "cpu.cfs_period_us").strip(),
    ]
    # "no quota" is `max` in cgroup v2 and -1 in v1: neither is made of digits
    if len(words) == 2 and all(word.isdigit() for word in words) and int(words[1]):
        return int(words[0]) / int(words[1])
    return None


def _read_kernel_file(path: Path) -> str:
    """Return the text of the file at `path` below `/proc` or `/sys`; an empty string if it can't be read."""
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
