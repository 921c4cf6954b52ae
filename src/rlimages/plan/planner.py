"""Make a plan: order the cells, and compose the build request of each."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from rlimages.engine.protocol import BuildRequest
from rlimages.errors import ConfigError, UsageError
from rlimages.matrix.cell import EMPTY, Cell
from rlimages.plan.step import Action, BuildPlan, BuildStep
from rlimages.project.render import image_reference

if TYPE_CHECKING:
    from rlimages.plan.history import History


_CACHE_REGISTRY = re.compile(r"[\w.-]+(:\d+)?(/[a-z0-9]+([._/-]+[a-z0-9]+)*)?")
"""`host[:port][/prefix]`, where the prefix is the start of a repository's path."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseOverride:
    """A rule that replaces base images: every base whose reference matches the pattern becomes `reference`."""

    pattern: re.Pattern[str]
    """Searched in the reference of the base image after account, region and domain are filled in."""
    reference: str


def parse_override(text: str) -> BaseOverride:
    """Parse `REGEX=REFERENCE`, split at the last `=`. Raises `UsageError` with the mistake."""
    pattern, equals, reference = text.rpartition("=")
    if not equals or not pattern or not reference:
        raise UsageError(f"--base-override '{text}': write it as REGEX=REFERENCE")
    try:
        return BaseOverride(pattern=re.compile(pattern), reference=reference)
    except re.error as error:
        raise UsageError(f"--base-override '{text}': '{pattern}' is not a regular expression: {error}") from error


def make_plan(
    cells: Iterable[Cell],
    *,
    registries: Mapping[str, Mapping[str, str]] = MappingProxyType({}),
    overrides: Sequence[BaseOverride] = (),
    labels: Mapping[str, str] = EMPTY,
    skip: Mapping[str, str] = EMPTY,
    caches: Sequence[str] = (),
    inline_cache: bool = False,
    jobs: int,
    timeout: int | None = None,
) -> BuildPlan:
    """Return a plan that builds every cell, parents first. `plan.decisions` then decides what need not be built.

    `registries` has, by account table (`cell.base.registry`), the build arguments `account`, `region`, `domain`.
    `skip` has, by cell id, the reason not to build it. `caches` are registries (`host[:port][/prefix]`) whose image of
    the same cell serves as layer cache. `timeout`, in seconds for each build, replaces the timeout of the matrix.

    Raises `ConfigError` if cells extend one another in a circle, and `UsageError` for an override that matches no base
    image and for a cache that is not a registry.
    """
    selected = {cell.id: cell for cell in cells}
    _require_cache_registries(caches)
    _require_used_overrides(overrides, [image_reference(cell.base, registries) for cell in selected.values()])
    steps = []
    for cell in _parents_first(selected):
        parent = selected.get(cell.extends or "")
        skip_reason = skip.get(cell.id, "")
        steps.append(
            BuildStep(
                cell=cell,
                action=Action.SKIP if skip_reason else Action.BUILD,
                reason=skip_reason or (f"after {parent.id}" if parent else "selected"),
                base=image_reference(cell.base, registries),
                needs=(parent.id,) if parent else (),
                request=BuildRequest(
                    dockerfile=cell.recipe,
                    tag=cell.local_name,
                    arguments=(
                        ("processor", cell.processor.value),
                        *registries.get(cell.base.registry or "", EMPTY).items(),
                    ),
                    contexts=tuple(_base_contexts(cell, parent, registries, overrides)),
                    labels=tuple(labels.items()),
                    timeout=timeout or cell.timeout,
                    cache_from=tuple(f"{registry}/{cell.local_name}" for registry in caches),
                    inline_cache=inline_cache,
                ),
            )
        )
    return BuildPlan(steps=tuple(steps), jobs=jobs)


def add_host_contexts(plan: BuildPlan, folders: Mapping[str, Path]) -> BuildPlan:
    """Return the plan with the named context `buildhost`: this machine's certificates, pip settings and wheels.

    `folders` has the folder of each context by cell id (`build.host_context.prepare_contexts`).
    """
    return replace(
        plan,
        steps=tuple(
            step.with_request(contexts=(("buildhost", str(folders[step.cell.id])), *step.request.contexts))
            if step.cell.id in folders
            else step
            for step in plan.steps
        ),
    )


def longest_first(steps: Sequence[BuildStep], history: "History") -> tuple[str, ...]:
    """Return the cell ids in the order in which builds should start: the longest chain of dependent builds first.

    The length of a chain is the seconds of the cell itself and of the longest chain of cells that extend it. A chain
    with a cell that was never measured comes before all others, because it may be the longest. Cells with equal chains
    keep the order of the plan. `steps` must have parents before children.
    """
    chains: dict[str, tuple[bool, float]] = {step.cell.id: (False, 0.0) for step in steps}
    for step in reversed(steps):
        name = step.cell.id
        if step.action is Action.BUILD:
            unmeasured, seconds = chains[name]
            estimate = history.estimate(step.cell) if history.has_build(step.cell) else None
            chains[name] = (
                unmeasured or estimate is None,
                seconds + (_guess_seconds(step.cell) if estimate is None else estimate),
            )
        for need in step.needs:
            if need in chains:
                chains[need] = max(chains[need], chains[name])
    return tuple(sorted(chains, key=lambda name: chains[name], reverse=True))


def _guess_seconds(cell: Cell) -> float:
    """Return a rough duration of a build that was never measured. It only serves to order such builds."""
    # Cells with build packages compile, which takes longest.
    return 15.0 * len(cell.system.build) + 5.0 * len(cell.requirements.direct)


def _parents_first(selected: Mapping[str, Cell]) -> list[Cell]:
    """Return the cells in the order of the matrix, but each after the cell that it extends."""
    parents = {
        cell.id: [cell.extends] if cell.extends and cell.extends in selected else [] for cell in selected.values()
    }
    try:
        return [selected[name] for name in TopologicalSorter(parents).static_order()]
    except CycleError as error:
        raise ConfigError(f"cells extend one another in a circle: {' → '.join(error.args[1])}") from error


def _base_contexts(
    cell: Cell,
    parent: Cell | None,
    registries: Mapping[str, Mapping[str, str]],
    overrides: Sequence[BaseOverride],
) -> Iterable[tuple[str, str]]:
    """Yield the named context that replaces the base image: the first matching override, or the parent's image."""
    base = image_reference(cell.base, registries)
    replacements = [override.reference for override in overrides if override.pattern.search(base)]
    if parent is not None and parent.local_name != base:
        replacements.append(parent.local_name)
    if replacements:
        yield base, f"docker-image://{replacements[0]}"


def _require_cache_registries(caches: Sequence[str]) -> None:
    for registry in caches:
        if not _CACHE_REGISTRY.fullmatch(registry):
            raise UsageError(f"--cache-from '{registry}': write it as host[:port][/prefix], without tag")


def _require_used_overrides(overrides: Sequence[BaseOverride], bases: Sequence[str]) -> None:
    for override in overrides:
        if not any(override.pattern.search(base) for base in bases):
            known = ", ".join(sorted(set(bases)))
            raise UsageError(f"--base-override '{override.pattern.pattern}' matches no base image of: {known}")
