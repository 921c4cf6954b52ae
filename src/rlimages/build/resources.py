"""Start builds and checks only if the memory and disk that they are expected to need are free."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition

from rlimages.errors import FactoryError
from rlimages.system.machine import DISK_FLOOR, DISK_REMEDY
from rlimages.system.process import Stop
from rlimages.system.units import format_size

MEMORY_PER_BUILD = 3 * 2**30
"""Peak memory in bytes of a build: installing a deep learning framework, or compiling with one job."""
MEMORY_PER_CHECK = 2 * 2**30
"""Peak memory in bytes of a check: training with Ray."""
UNKNOWN_IMAGE = 4 * 10**9
"""Bytes of disk reserved for a build if no size of its cell is known."""
GROWTH = 3
"""Disk that a cold build adds to the engine's data, as a multiple of the image size; see docs/building.md, "Disk"."""
MOST_JOBS = 4
"""Maximum default number of cells that run at once."""
_POLL_SECONDS = 0.2
"""Time between two checks of `stop`."""
Cleanup = Callable[[int], Iterable[str]]
"""Tries to free that many bytes of disk. Returns one sentence for each thing that it removed."""


class DiskFullError(FactoryError):
    """Too little disk is free for a build, and no other build is running whose end could free some."""


def expected_disk(size: int | None) -> int:
    """Return the bytes of disk that a build needs, from the unpacked size of its image (None if unknown)."""
    return UNKNOWN_IMAGE if size is None else size * GROWTH


def default_jobs(*, cores: int, memory: int) -> int:
    """Return how many cells run at once by default: at most four, one per core, and as many as `memory` (bytes) allows.

    Memory is counted per check. Builds need more; `ResourceBudget` makes them wait when they run.
    """
    return max(1, min(MOST_JOBS, cores, memory // MEMORY_PER_CHECK))


@dataclass(kw_only=True)
class ResourceBudget:
    """The memory and disk of a machine, shared by all builds and checks of a run."""

    memory: int | None = None
    """Bytes for builds and checks together; None if the user chose the number of jobs (`--jobs`)."""
    disk_floor: int = DISK_FLOOR
    """Bytes of disk that builds leave free."""
    free_disk: Callable[[], int | None] = lambda: None
    """Returns the bytes free on the disk of the engine's data; None if that is not known."""
    cleanups: Sequence[Cleanup] = ()
    """Called in this order when a build needs more disk than is free, before the build waits or fails."""
    stop: Stop = field(default_factory=Stop)
    notes: list[str] = field(default_factory=list)
    """One sentence for each thing that was removed to free disk."""
    _reserved_memory: int = field(default=0, init=False)
    _reserved_disk: int = field(default=0, init=False)
    _changed: Condition = field(default_factory=Condition, init=False)

    @contextmanager
    def reserve_build(self, disk: int, on_wait: Callable[[str], None] = lambda _reason: None) -> Iterator[None]:
        """Wait until a build that needs `disk` bytes fits, and reserve its memory and disk while the context is open.

        `on_wait` is called with the reason if the build has to wait. Raises `DiskFullError` if waiting can't help.
        """
        with self._reserve(MEMORY_PER_BUILD, disk, on_wait):
            yield

    @contextmanager
    def reserve_check(self, on_wait: Callable[[str], None] = lambda _reason: None) -> Iterator[None]:
        """Wait until the checks of an image fit, and reserve their memory while the context is open."""
        with self._reserve(MEMORY_PER_CHECK, 0, on_wait):
            yield

    @contextmanager
    def _reserve(self, memory: int, disk: int, on_wait: Callable[[str], None]) -> Iterator[None]:
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
        """Return why something that needs this memory has to wait; empty if it can start.

        If nothing else is running, it starts whatever it needs: waiting would never end.
        """
        if self.memory is None or not self._reserved_memory or self._reserved_memory + needed <= self.memory:
            return ""
        return "waits for memory"

    def _disk_shortage(self, wanted: int, *, first_try: bool) -> str:
        """Return why a build that adds `wanted` bytes has to wait; empty if it can start.

        Raises `DiskFullError` if no other build is running: then nothing will free any disk.
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
