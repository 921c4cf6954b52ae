"""Make builds and checks wait until the memory and disk that they are expected to need are free."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition

from rlimages.errors import FactoryError
from rlimages.system.machine import DISK_FLOOR, DISK_REMEDY
from rlimages.system.process import Stop
from rlimages.system.units import format_size

MEMORY_PER_BUILD = 3 * 2**30
"""Expected peak memory of a build in bytes: installing a deep learning framework, or compiling with one job."""
MEMORY_PER_CHECK = 2 * 2**30
"""Expected peak memory of an image's checks in bytes: training with Ray."""
UNKNOWN_IMAGE = 4 * 10**9
"""Bytes of disk reserved for a build if no size of its cell is known."""
GROWTH = 3
"""Disk that a build without cache adds to the engine's data, as a multiple of the image's unpacked size.

Measured were 2.7 and 2.9; see docs/building.md, "Disk".
"""
MOST_JOBS = 4
"""Maximum number of cells that are built or checked at the same time if the user gives no number (`--jobs`)."""
_POLL_SECONDS = 0.2
"""Longest time between two looks at `stop` and at the free disk while a build or check waits."""
Cleanup = Callable[[int], Iterable[str]]
"""A function that tries to free the given number of bytes of disk. It returns a sentence for each removed object."""


class DiskFullError(FactoryError):
    """Too little disk is free for a build, and waiting cannot help, because no other build is running."""


def expected_disk(size: int | None) -> int:
    """Return the bytes of disk that a build needs. `size` is the unpacked size of its image; None if unknown."""
    return UNKNOWN_IMAGE if size is None else size * GROWTH


def default_jobs(*, cores: int, memory: int) -> int:
    """Return how many cells are built or checked at the same time by default, at least 1.

    The number is limited by `MOST_JOBS`, by `cores`, and by how often `MEMORY_PER_CHECK` fits into `memory` (bytes).
    Builds need more memory than checks; `ResourceBudget` makes them wait for it.
    """
    return max(1, min(MOST_JOBS, cores, memory // MEMORY_PER_CHECK))


@dataclass(kw_only=True)
class ResourceBudget:
    """The memory and disk of a machine that all builds and checks of a run share. It may be used by several threads."""

    memory: int | None = None
    """Bytes for all builds and checks together; None for no limit, if the user chose the number of jobs (`--jobs`)."""
    disk_floor: int = DISK_FLOOR
    """Bytes that must stay free on the disk of the engine's data."""
    free_disk: Callable[[], int | None] = lambda: None
    """Function that returns the bytes free on the disk of the engine's data; None if that is not known."""
    cleanups: Sequence[Cleanup] = ()
    """Functions that free disk. They are called in this order when a build needs more, before it waits or fails."""
    stop: Stop = field(default_factory=Stop)
    """When it is set, nothing waits any longer."""
    notes: list[str] = field(default_factory=list)
    """One sentence for each object that `cleanups` removed. Functions of the run append to it."""
    _reserved_memory: int = field(default=0, init=False)
    _reserved_disk: int = field(default=0, init=False)
    _changed: Condition = field(default_factory=Condition, init=False)

    @contextmanager
    def reserve_build(self, disk: int, on_wait: Callable[[str], None] = lambda _reason: None) -> Iterator[None]:
        """Wait until a build that needs `disk` bytes fits, and reserve its memory and disk while the context is open.

        `on_wait` is called with the reason if the build has to wait. Raises `DiskFullError` if too little disk is free
        and no other build is running.
        """
        with self._reserve(MEMORY_PER_BUILD, disk, on_wait):
            yield

    @contextmanager
    def reserve_check(self, on_wait: Callable[[str], None] = lambda _reason: None) -> Iterator[None]:
        """Wait until the memory for the checks of one image is free, and reserve it while the context is open.

        `on_wait` is called with the reason if the checks have to wait.
        """
        with self._reserve(MEMORY_PER_CHECK, 0, on_wait):
            yield

    @contextmanager
    def _reserve(self, memory: int, disk: int, on_wait: Callable[[str], None]) -> Iterator[None]:
        """Wait until `memory` and `disk` bytes are free or `stop` is set; reserve them while the context is open.

        `on_wait` is called with each new reason to wait.
        """
        with self._changed:
            reported = ""
            while not self.stop.is_set():
                reason = self._memory_shortage(memory) or self._disk_shortage(disk, first_try=not reported)
                if not reason:
                    break
                if reason != reported:
                    on_wait(reason)
                    reported = reason
                self._changed.wait(_POLL_SECONDS)
            self._reserved_memory += memory
            self._reserved_disk += disk
        try:
            yield
        finally:
            with self._changed:
                self._reserved_memory -= memory
                self._reserved_disk -= disk
                self._changed.notify_all()

    def _memory_shortage(self, needed: int) -> str:
        """Return why a build or check that needs `needed` bytes of memory has to wait; empty if it can start.

        It can always start if no memory is reserved: no other build or check is running, so waiting would never end.
        """
        if self.memory is None or not self._reserved_memory or self._reserved_memory + needed <= self.memory:
            return ""
        return "waits for memory"

    def _disk_shortage(self, wanted: int, *, first_try: bool) -> str:
        """Return why a build that needs `wanted` bytes of disk has to wait; empty if it can start.

        The `cleanups` are called if too little disk is free: with `first_try`, or if no other build is running. Raises
        `DiskFullError` if that does not free enough and no other build is running.
        """
        needed = self.disk_floor + self._reserved_disk + wanted
        free = self.free_disk() if wanted else None
        # Cleaning up takes seconds to minutes, so it is not repeated at every poll while other builds run.
        for cleanup in self.cleanups if first_try or not self._reserved_disk else ():
            if free is None or free >= needed:
                break
            self.notes += cleanup(needed - free)
            free = self.free_disk()
        if free is None or free >= needed:
            return ""
        if self._reserved_disk:
            return f"waits for disk: {format_size(needed)} are needed, {format_size(free)} are free"
        raise DiskFullError(
            f"disk full: {format_size(needed)} are needed, {format_size(self.disk_floor)} of it to stay free, and "
            f"{format_size(free)} are free; {DISK_REMEDY}, or lower --disk-floor"
        )
