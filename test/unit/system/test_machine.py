from pathlib import Path

import pytest

from rlimages.errors import UsageError
from rlimages.system.machine import free_disk, read_machine
from rlimages.system.units import format_memory, parse_size

GIB = 2**30
MEMINFO = "MemTotal:       24684084 kB\nMemFree:         1000000 kB\nMemAvailable:   16777216 kB\n"


@pytest.fixture
def machine(tmp_path):
    """A machine with these files."""

    def machine(**files: str) -> Path:
        for name, text in {"proc/meminfo": MEMINFO, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return machine


def test_memory_is_what_is_available_now_not_what_is_built_in(machine) -> None:
    assert read_machine(machine()).memory == 16 * GIB


def test_without_meminfo_the_c_library_is_asked(tmp_path) -> None:
    assert read_machine(tmp_path).memory > 0


def test_a_container_has_what_its_group_leaves(machine) -> None:
    here = machine(**{
        "proc/self/cgroup": "0::/a/b\n",
        "sys/fs/cgroup/a/memory.max": f"{4 * GIB}\n",
        "sys/fs/cgroup/a/memory.current": f"{3 * GIB}\n",
        "sys/fs/cgroup/a/memory.stat": f"active_file 5\ninactive_file {2 * GIB}\n",
        "sys/fs/cgroup/a/b/memory.max": "max\n",
        "sys/fs/cgroup/a/b/memory.current": "7\n",
    })  # fmt: skip
    assert read_machine(here).memory == 3 * GIB


def test_a_path_that_is_the_hosts_leaves_the_mounts_own_group(machine) -> None:
    here = machine(**{
        "proc/self/cgroup": "0::/../../kubepods/x\n",
        "sys/fs/cgroup/memory.max": f"{2 * GIB}\n",
        "sys/fs/cgroup/memory.current": "0\n",
    })  # fmt: skip
    assert read_machine(here).memory == 2 * GIB


@pytest.mark.parametrize(("limit", "left"), [(6 * GIB, 5 * GIB), (9223372036854771712, 16 * GIB)])
def test_the_older_groups_count_too_and_know_no_word_for_no_limit(machine, limit, left) -> None:
    here = machine(**{
        "proc/self/cgroup": "4:memory:/docker/x\n2:cpu,cpuacct:/docker/x\n0::/\n",
        "sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes": f"{limit}\n",
        "sys/fs/cgroup/memory/docker/x/memory.usage_in_bytes": f"{2 * GIB}\n",
        "sys/fs/cgroup/memory/docker/x/memory.stat": f"inactive_file 9\ntotal_inactive_file {GIB}\n",
    })  # fmt: skip
    assert read_machine(here).memory == left


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
def test_a_quota_of_processor_time_is_as_many_whole_cores_and_never_none(machine, files) -> None:
    assert read_machine(machine(**files)).cores == 1


@pytest.mark.parametrize("quota", ["max 100000\n", "-1 100000\n", ""])
def test_no_quota_is_every_core(machine, quota) -> None:
    here = machine(**{"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": quota})
    assert read_machine(here).cores == read_machine(Path("/nonexistent")).cores


def test_a_group_that_is_over_its_limit_leaves_nothing(machine) -> None:
    here = machine(**{
        "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "5", "sys/fs/cgroup/memory.current": "9",
    })  # fmt: skip
    assert read_machine(here).memory == 0


@pytest.mark.parametrize(
    ("text", "count"),
    [("5GB", 5 * 10**9), ("0", 0), ("1.5 GB", 1_500_000_000), ("20GiB", 20 * GIB), ("500m", 500_000_000), ("7B", 7)],
)
def test_a_size_is_read_as_people_write_it(text, count) -> None:
    assert parse_size(text) == count


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "5 apples", "5PB", "1e9"])
def test_what_is_no_size_says_how_to_write_one(text) -> None:
    with pytest.raises(UsageError, match=r"is no size; write it as 5GB"):
        parse_size(text)


def test_a_size_that_was_said_can_be_read_again() -> None:
    assert parse_size(format_memory(5 * 10**9)) == 5 * 10**9


def test_space_is_asked_of_the_folders_disk(tmp_path) -> None:
    assert free_disk(tmp_path)
    assert free_disk(tmp_path / "none") is None
