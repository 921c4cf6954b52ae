"""Turn cells into the plan of a run: which order, which bases, how many at once. Cells in, a plan out."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from string import Template
from types import MappingProxyType
from typing import TYPE_CHECKING

from rlimages.booking import MEMORY_PER_CHECK
from rlimages.cell import Base, Cell
from rlimages.errors import MatrixError, UsageError
from rlimages.plan import Action, BuildPlan, BuildStep
from rlimages.render import base_reference

if TYPE_CHECKING:
    from rlimages.history import History

EMPTY: Mapping[str, str] = MappingProxyType({})
MOST_JOBS = 4
_REGISTRY = re.compile(r"[\w.-]+(:\d+)?(/[a-z0-9]+([._/-]+[a-z0-9]+)*)?")
"""As references have it: a host, and the first parts of a repository's path."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Override:
    """Stand-in for bases: whatever the pattern is found in is taken from `reference` instead."""

    pattern: re.Pattern[str]
    """Searched in the base's reference after account, region and domain are filled in."""
    reference: str


def parse_override(text: str) -> Override:
    """Read `REGEX=REF`, split at the last `=`. Raises `UsageError` with what is wrong."""
    pattern, equals, reference = text.rpartition("=")
    if not equals or not pattern or not reference:
        raise UsageError(f"--base-override '{text}': write it as REGEX=REFERENCE")
    try:
        return Override(pattern=re.compile(pattern), reference=reference)
    except re.error as error:
        raise UsageError(f"--base-override '{text}': '{pattern}' is not a regular expression: {error}") from error


def make_plan(
    cells: Iterable[Cell],
    *,
    registries: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
    overrides: Sequence[Override] = (),
    labels: Mapping[str, str] = EMPTY,
    skip: Mapping[str, str] = EMPTY,
    caches: Sequence[str] = (),
    inline_cache: bool = False,
    jobs: int,
    timeout: int | None = None,
) -> BuildPlan:
    """Order the cells, parents first, and decide everything that each build needs.

    `registries` gives, by account table key (`cell.base.registry`), the build arguments `account`, `region`, `domain`;
    `skip`, by cell id, the reason not to build it.
    `caches` are registries (`host[:port][/prefix]`) whose image of the same cell lends its layers. `timeout`, in
    seconds a build, replaces what the matrix says. Raises `MatrixError` for a circle of cells, `UsageError` for an
    override that no base needs and for a cache that is no registry.
    """
    chosen = {cell.id: cell for cell in cells}
    _refuse_odd(caches)
    _refuse_idle(overrides, [reference(cell.base, registries) for cell in chosen.values()])
    steps = []
    for cell in _parents_first(chosen):
        parent = chosen.get(cell.extends or "")
        reason = skip.get(cell.id, "")
        steps.append(
            BuildStep(
                cell=cell,
                action=Action.SKIP if reason else Action.BUILD,
                reason=reason or (f"after {parent.id}" if parent else "chosen"),
                recipe=cell.recipe,
                image=cell.local_name,
                base=reference(cell.base, registries),
                arguments=(
                    ("processor", cell.processor.value),
                    *registries.get(cell.base.registry or "", EMPTY).items(),
                ),
                contexts=tuple(_contexts(cell, parent, registries, overrides)),
                labels=tuple(labels.items()),
                needs=(parent.id,) if parent else (),
                timeout=timeout or cell.timeout,
                cache_from=tuple(f"{registry}/{cell.local_name}" for registry in caches),
                inline_cache=inline_cache,
            )
        )
    return BuildPlan(steps=tuple(steps), jobs=jobs)


def lend(plan: BuildPlan, buildhosts: Mapping[str, Path]) -> BuildPlan:
    """The same, with this machine's loans: by cell id, the folder made by `buildhost.prepare`."""
    return replace(
        plan,
        steps=tuple(
            replace(step, contexts=(("buildhost", str(buildhosts[step.cell.id])), *step.contexts))
            if step.cell.id in buildhosts
            else step
            for step in plan.steps
        ),
    )


def reference(base: Base, registries: Mapping[str, Mapping[str, str]]) -> str:
    """What stands after FROM when account, region and domain are filled in; as it stands where they are not known."""
    return Template(base_reference(base)).safe_substitute(registries.get(base.registry or "", EMPTY))


def default_jobs(*, cores: int, memory: int) -> int:
    """How many cells may go on at once: at most four, one a core, and no more than whose checks fit `memory` (bytes).

    Builds need more than checks: `booking.Booking` holds them back while they go on.
    """
    return max(1, min(MOST_JOBS, cores, memory // MEMORY_PER_CHECK))


def longest_first(steps: Sequence[BuildStep], past: "History") -> tuple[str, ...]:
    """Ids in the order in which ready cells are begun: first the one that most seconds of work still hang on.

    These are its own and those of the longest chain of cells that stand on it. What was never built goes before all
    that is known, for it may be the longest; of several, what has most to compile. Equals keep the order of the plan,
    so that it is always the same one.
    `steps` has parents before children.
    """
    behind: dict[str, tuple[bool, float]] = {step.cell.id: (False, 0.0) for step in steps}
    for step in reversed(steps):
        name = step.cell.id
        if step.action is Action.BUILD:
            unknown, seconds = behind[name]
            own = past.estimate(step.cell) if past.knows(step.cell) else None
            behind[name] = unknown or own is None, seconds + (_guess(step.cell) if own is None else own)
        for need in step.needs:
            if need in behind:
                behind[need] = max(behind[need], behind[name])
    return tuple(sorted(behind, key=lambda name: behind[name], reverse=True))


def _guess(cell: Cell) -> float:
    """Seconds, roughly, of a build that nobody has seen: compiling takes longest. Only the order counts."""
    return 15.0 * len(cell.system.build) + 5.0 * len(cell.requirements.direct)


def _parents_first(chosen: Mapping[str, Cell]) -> list[Cell]:
    """As the matrix has them, but no cell before the one it extends."""
    parents = {cell.id: [cell.extends] if cell.extends and cell.extends in chosen else [] for cell in chosen.values()}
    try:
        return [chosen[name] for name in TopologicalSorter(parents).static_order()]
    except CycleError as error:
        raise MatrixError(f"cells extend one another in a circle: {' → '.join(error.args[1])}") from error


def _contexts(
    cell: Cell,
    parent: Cell | None,
    registries: Mapping[str, Mapping[str, str]],
    overrides: Sequence[Override],
) -> Iterable[tuple[str, str]]:
    """What stands in for the base of one build. The first override wins."""
    base = reference(cell.base, registries)
    stand_ins = [override.reference for override in overrides if override.pattern.search(base)]
    if parent is not None and parent.local_name != base:
        stand_ins.append(parent.local_name)
    if stand_ins:
        yield base, f"docker-image://{stand_ins[0]}"


def _refuse_odd(caches: Sequence[str]) -> None:
    for registry in caches:
        if not _REGISTRY.fullmatch(registry):
            raise UsageError(f"--cache-from '{registry}': write it as host[:port][/prefix], without tag")


def _refuse_idle(overrides: Sequence[Override], bases: Sequence[str]) -> None:
    for override in overrides:
        if not any(override.pattern.search(base) for base in bases):
            known = ", ".join(sorted(set(bases)))
            raise UsageError(f"--base-override '{override.pattern.pattern}' matches no base of: {known}")
