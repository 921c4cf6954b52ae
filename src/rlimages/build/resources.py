"""Admit builds and checks by the memory and disk that they are expected to need."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition

from rlimages.errors import FactoryError
from rlimages.system.machine import DISK_FLOOR, DISK_REMEDY
from rlimages.system.process import Stop
from rlimages.system.units import format_size

MEMORY_PER_BUILD = 3 * 2**30
"""Bytes: what installing a deep learning framework, or compiling with one job, takes at its height."""
MEMORY_PER_CHECK = 2 * 2**30
"""Bytes: what a check that trains with Ray takes at its height."""
UNKNOWN_IMAGE = 4 * 10**9
"""Bytes that a build is expected to take of whose cell nothing is known."""
GROWTH = 3
"""What a cold build adds to the engine's data, in sizes of its image: see docs/building.md, "Disk"."""
_POLL_SECONDS = 0.2
"""Seconds between two looks at `stop`."""
Relief = Callable[[int], Iterable[str]]
"""Tries to free that many bytes; one sentence for each thing removed."""


class DiskFullError(FactoryError):
    """There is not enough disk for one build, and nothing that goes on will free any."""


def expected_disk(size: int | None) -> int:
    """Bytes that the build of an image of this size (unpacked; None for unknown) will take of the engine's disk."""
    return UNKNOWN_IMAGE if size is None else size * GROWTH


@dataclass(kw_only=True)
class ResourceBudget:
    """What all cells of a run share of a machine."""

    memory: int | None = None
    """Bytes for builds and checks together; None where the user has said how many may run at once."""
    floor: int = DISK_FLOOR
    free: Callable[[], int | None] = lambda: None
    """Bytes free where the engine keeps its data; None where that is not known."""
    reliefs: Sequence[Relief] = ()
    """Tried in this order when there is too little disk, before anybody waits."""
    stop: Stop = field(default_factory=Stop)
    notes: list[str] = field(default_factory=list)
    """What was removed to make room."""
    _memory: int = field(default=0, init=False)
    _disk: int = field(default=0, init=False)
    _changed: Condition = field(default_factory=Condition, init=False)

    @contextmanager
    def build(self, disk: int, on_wait: Callable[[str], None] = lambda _why: None) -> Iterator[None]:
        """Let a build that will take `disk` bytes go on when there is room. Raises `NoRoomError` if there never is."""
        with self._booked(MEMORY_PER_BUILD, disk, on_wait):
            yield

    @contextmanager
    def check(self, on_wait: Callable[[str], None] = lambda _why: None) -> Iterator[None]:
        """Let the checks of an image go on when there is room."""
        with self._booked(MEMORY_PER_CHECK, 0, on_wait):
            yield

    @contextmanager
    def _booked(self, memory: int, disk: int, on_wait: Callable[[str], None]) -> Iterator[None]:
        with self._changed:
            told = ""
            while not self.stop.is_set():
                lacks = self._lacks_memory(memory) or self._lacks_disk(disk, may_free=not told)
                if not lacks:
                    break
                if lacks != told:
                    on_wait(told := lacks)
                self._changed.wait(_POLL_SECONDS)
            self._memory += memory
            self._disk += disk
        try:
            yield
        finally:
            with self._changed:
                self._memory -= memory
                self._disk -= disk
                self._changed.notify_all()

    def _lacks_memory(self, wanted: int) -> str:
        """Why it has to wait, or nothing. Alone, everything may go on: there is nothing to wait for."""
        if self.memory is None or not self._memory or self._memory + wanted <= self.memory:
            return ""
        return "waits for memory"

    def _lacks_disk(self, wanted: int, *, may_free: bool) -> str:
        """Why it has to wait, or nothing; it waits only while another build goes on, whose end may free some."""
        needed = self.floor + self._disk + wanted
        left = self.free() if wanted else None
        for relief in self.reliefs if may_free or not self._disk else ():
            if left is None or left >= needed:
                break
            self.notes += relief(needed - left)
            left = self.free()
        if left is None or left >= needed:
            return ""
        if self._disk:
            return f"waits for disk: {format_size(needed)} are needed, {format_size(left)} are free"
        raise DiskFullError(
            f"disk full: {format_size(needed)} are needed, {format_size(self.floor)} of it to stay free, and {format_size(left)} are "
            f"free; {DISK_REMEDY}, or lower --disk-floor"
        )


MOST_JOBS = 4


def default_jobs(*, cores: int, memory: int) -> int:
    """How many cells may go on at once: at most four, one a core, and no more than whose checks fit `memory` (bytes).

    Builds need more than checks: `booking.Booking` holds them back while they go on.
    """
    return max(1, min(MOST_JOBS, cores, memory // MEMORY_PER_CHECK))
