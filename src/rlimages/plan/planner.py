"""Make a plan: put the cells in build order, and compose the build request of each."""

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
"""Pattern of `host[:port][/prefix]`, where the prefix is the start of a repository's path."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseOverride:
    """A rule that replaces base images: images are built FROM `reference` in place of each base that matches."""

    pattern: re.Pattern[str]
    """Regular expression, searched in the base image's reference after account, region and domain are filled in."""
    reference: str
    """Reference of the image that replaces the base image."""


def parse_override(text: str) -> BaseOverride:
    """Parse `text`, a base override `REGEX=REFERENCE`, which is split at the last `=`.

    Raises `UsageError` if one of the two parts is missing or REGEX is not a regular expression.
    """
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
    """Return a plan that builds every cell of `cells`, parents first; `plan.decisions` then finds images to reuse.

    `registries` maps account tables (`cell.base.registry`) to the build arguments `account`, `region`, `domain`.
    Of `overrides`, the first that matches a base image replaces it. `labels` are set on every image. `skip` maps the
    ids of cells that are not built to the reason. `caches` are registries (`host[:port][/prefix]`) whose image of
    a cell serves as layer cache for that cell. With `inline_cache`, cache metadata is written into the images. `jobs`
    is the number of builds at the same time. `timeout`, in seconds for each build, replaces the timeout of the matrix.

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
                    dockerfile=cell.dockerfile,
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
    """Return `plan` with the named context `buildhost` in the build request of each cell in `folders`.

    `folders` maps cell ids to folders with this machine's certificates, pip settings and wheels, which
    `build.host_context.prepare_contexts` writes.
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
    """Return the cell ids of `steps` in the order in which builds should start: the longest chain of builds first.

    The length of a cell's chain is the time of its own build and checks, estimated from `history`, plus that of the
    longest chain of cells that extend it. A chain with a cell that was never measured comes before all others, because
    it may be the longest. Cells with chains of equal length keep the order of `steps`, which has parents before
    children.
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
    """Return a rough duration in seconds of a build of `cell` that was never measured.

    It only serves to put such builds in order, and is never shown.
    """
    # Cells with build packages compile, which takes longest.
    return 15.0 * len(cell.system.build) + 5.0 * len(cell.requirements.direct)


def _parents_first(selected: Mapping[str, Cell]) -> list[Cell]:
    """Return the cells of `selected` (cell id -> cell) in their order, but each after the cell that it extends.

    Raises `ConfigError` if cells extend one another in a circle.
    """
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
    """Yield the named context (base image, `docker-image://<reference>`) that replaces the base image of `cell`.

    The replacement is the first matching one of `overrides`, else the local image of `parent`, the cell that `cell`
    extends. `registries` maps account tables to the build arguments in the base's reference. Nothing is yielded if the
    base is not replaced.
    """
    base = image_reference(cell.base, registries)
    replacements = [override.reference for override in overrides if override.pattern.search(base)]
    if parent is not None and parent.local_name != base:
        replacements.append(parent.local_name)
    if replacements:
        yield base, f"docker-image://{replacements[0]}"


def _require_cache_registries(caches: Sequence[str]) -> None:
    """Raise `UsageError` for the first of `caches` that is not `host[:port][/prefix]`."""
    for registry in caches:
        if not _CACHE_REGISTRY.fullmatch(registry):
            raise UsageError(f"--cache-from '{registry}': write it as host[:port][/prefix], without tag")


def _require_used_overrides(overrides: Sequence[BaseOverride], bases: Sequence[str]) -> None:
    """Raise `UsageError` for the first of `overrides` whose pattern matches none of the references `bases`."""
    for override in overrides:
        if not any(override.pattern.search(base) for base in bases):
            known = ", ".join(sorted(set(bases)))
            raise UsageError(f"--base-override '{override.pattern.pattern}' matches no base image of: {known}")
