from pathlib import Path

import pytest

from rlimages.system.machine import free_disk, read_machine

GIB = 2**30
MEMINFO = "MemTotal:       24684084 kB\nMemFree:         1000000 kB\nMemAvailable:   16777216 kB\n"


@pytest.fixture
def machine(tmp_path):
    """Return a function that writes these files below a folder that stands for `/`."""

    def machine(**files: str) -> Path:
        for name, text in {"proc/meminfo": MEMINFO, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return machine


def test_memory_is_the_available_memory_not_the_installed_one(machine) -> None:
    assert read_machine(machine()).memory == 16 * GIB


def test_without_meminfo_memory_comes_from_sysconf(tmp_path) -> None:
    assert read_machine(tmp_path).memory > 0


def test_memory_is_limited_by_a_parent_cgroup(machine) -> None:
    root = machine(**{
        "proc/self/cgroup": "0::/a/b\n",
        "sys/fs/cgroup/a/memory.max": f"{4 * GIB}\n",
        "sys/fs/cgroup/a/memory.current": f"{3 * GIB}\n",
        "sys/fs/cgroup/a/memory.stat": f"active_file 5\ninactive_file {2 * GIB}\n",
        "sys/fs/cgroup/a/b/memory.max": "max\n",
        "sys/fs/cgroup/a/b/memory.current": "7\n",
    })  # fmt: skip
    assert read_machine(root).memory == 3 * GIB


def test_a_cgroup_path_of_the_host_means_the_top_cgroup_of_the_container(machine) -> None:
    root = machine(**{
        "proc/self/cgroup": "0::/../../kubepods/x\n",
        "sys/fs/cgroup/memory.max": f"{2 * GIB}\n",
        "sys/fs/cgroup/memory.current": "0\n",
    })  # fmt: skip
    assert read_machine(root).memory == 2 * GIB


@pytest.mark.parametrize(("limit", "left"), [(6 * GIB, 5 * GIB), (9223372036854771712, 16 * GIB)])
def test_cgroup_v1_limits_memory_and_shows_no_limit_as_a_huge_number(machine, limit, left) -> None:
    root = machine(**{
        "proc/self/cgroup": "4:memory:/docker/x\n2:cpu,cpuacct:/docker/x\n0::/\n",
        "sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes": f"{limit}\n",
        "sys/fs/cgroup/memory/docker/x/memory.usage_in_bytes": f"{2 * GIB}\n",
        "sys/fs/cgroup/memory/docker/x/memory.stat": f"inactive_file 9\ntotal_inactive_file {GIB}\n",
    })  # fmt: skip
    assert read_machine(root).memory == left


@pytest.mark.parametrize(
    "files",
    [
        {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"},
        {
            "proc/self/cgroup": "2:cpu,cpuacct:/\n",
            "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n",
            "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
        },
    ],
)
def test_a_cpu_quota_is_rounded_down_to_at_least_one_core(machine, files) -> None:
    assert read_machine(machine(**files)).cores == 1


@pytest.mark.parametrize("quota", ["max 100000\n", "-1 100000\n", ""])
def test_without_a_cpu_quota_all_cores_count(machine, quota) -> None:
    root = machine(**{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": quota})
    assert read_machine(root).cores == read_machine(Path("/nonexistent")).cores


def test_a_cgroup_above_its_limit_has_no_memory_left(machine) -> None:
    root = machine(**{
        "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "5", "sys/fs/cgroup/memory.current": "9",
    })  # fmt: skip
    assert read_machine(root).memory == 0


def test_free_disk_is_that_of_the_folders_disk(tmp_path) -> None:
    assert free_disk(tmp_path)
    assert free_disk(tmp_path / "none") is None
