"""Turn cells into the plan of a run: which order, which bases, how many at once. Cells in, a plan out."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from rlimages.cell import Cell
from rlimages.plan import BuildPlan

NOTHING: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, kw_only=True, slots=True)
class Override:
    """Stand-in for bases: whatever matches the pattern is taken from `reference`."""

    pattern: re.Pattern[str]
    """Searched in the base's reference after account, region and domain are filled in."""
    reference: str


def parse_override(text: str) -> Override:
    r"""Read `REGEX=REF`, split at the last `=`. Raises `SelectionError`... with the place of the mistake."""
    raise NotImplementedError


def make_plan(
    cells: Iterable[Cell],
    *,
    registries: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
    overrides: Sequence[Override] = (),
    buildhosts: Mapping[str, Path] = MappingProxyType({}),
    labels: Mapping[str, str] = NOTHING,
    skip: Mapping[str, str] = NOTHING,
    jobs: int | None = None,
    timeout: int | None = None,
) -> BuildPlan:
    """Order the cells, parents first, and decide everything that each build needs.

    `registries` gives, by account table key (`cell.base.registry`), the build arguments `account`, `region`, `domain`;
    `buildhosts` by cell id the folder made by `buildhost.prepare`; `skip` by cell id the reason not to build it;
    `jobs` and `timeout` (seconds a build) replace what the machine and the matrix suggest.
    """
    raise NotImplementedError


def default_jobs(*, cores: int, memory: int) -> int:
    """How many builds fit a machine: at most four, one a core, 3 GiB of memory (bytes) each, and never none."""
    raise NotImplementedError
