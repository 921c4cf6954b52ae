"""Make a plan: order the cells, and decide for each whether to build it, reuse a local image or retag one."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from rlimages.engine.protocol import BuildRequest, BuiltImage, LocalImage, LocalImages
from rlimages.errors import ConfigError, UsageError
from rlimages.matrix.cell import EMPTY, Cell
from rlimages.oci.labels import BUILD_LABEL, INPUTS_LABEL
from rlimages.plan.inputs import InputReader, Inputs, explain_changes
from rlimages.plan.results import BuildResult, Outcome
from rlimages.plan.step import Action, BuildPlan, BuildStep
from rlimages.project.render import image_reference

if TYPE_CHECKING:
    from rlimages.plan.history import History


_REGISTRY = re.compile(r"[\w.-]+(:\d+)?(/[a-z0-9]+([._/-]+[a-z0-9]+)*)?")
"""As references have it: a host, and the first parts of a repository's path."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseOverride:
    """Stand-in for bases: whatever the pattern is found in is taken from `reference` instead."""

    pattern: re.Pattern[str]
    """Searched in the base's reference after account, region and domain are filled in."""
    reference: str


def parse_override(text: str) -> BaseOverride:
    """Read `REGEX=REF`, split at the last `=`. Raises `UsageError` with what is wrong."""
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
    """Order the cells, parents first, and decide everything that each build needs.

    `registries` gives, by account table key (`cell.base.registry`), the build arguments `account`, `region`, `domain`;
    `skip`, by cell id, the reason not to build it.
    `caches` are registries (`host[:port][/prefix]`) whose image of the same cell lends its layers. `timeout`, in
    seconds a build, replaces what the matrix says. Raises `ConfigError` for a circle of cells, `UsageError` for an
    override that no base needs and for a cache that is no registry.
    """
    chosen = {cell.id: cell for cell in cells}
    _require_cache_names(caches)
    _require_used_overrides(overrides, [image_reference(cell.base, registries) for cell in chosen.values()])
    steps = []
    for cell in _parents_first(chosen):
        parent = chosen.get(cell.extends or "")
        reason = skip.get(cell.id, "")
        steps.append(
            BuildStep(
                cell=cell,
                action=Action.SKIP if reason else Action.BUILD,
                reason=reason or (f"after {parent.id}" if parent else "chosen"),
                base=image_reference(cell.base, registries),
                needs=(parent.id,) if parent else (),
                request=BuildRequest(
                    dockerfile=cell.recipe,
                    tag=cell.local_name,
                    arguments=(
                        ("processor", cell.processor.value),
                        *registries.get(cell.base.registry or "", EMPTY).items(),
                    ),
                    contexts=tuple(_contexts(cell, parent, registries, overrides)),
                    labels=tuple(labels.items()),
                    timeout=timeout or cell.timeout,
                    cache_from=tuple(f"{registry}/{cell.local_name}" for registry in caches),
                    inline_cache=inline_cache,
                ),
            )
        )
    return BuildPlan(steps=tuple(steps), jobs=jobs)


def with_host_contexts(plan: BuildPlan, buildhosts: Mapping[str, Path]) -> BuildPlan:
    """The same, with this machine's loans: by cell id, the folder made by `buildhost.prepare`."""
    return replace(
        plan,
        steps=tuple(
            step.with_request(contexts=(("buildhost", str(buildhosts[step.cell.id])), *step.request.contexts))
            if step.cell.id in buildhosts
            else step
            for step in plan.steps
        ),
    )


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
            own = past.estimate(step.cell) if past.has_build(step.cell) else None
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
        raise ConfigError(f"cells extend one another in a circle: {' → '.join(error.args[1])}") from error


def _contexts(
    cell: Cell,
    parent: Cell | None,
    registries: Mapping[str, Mapping[str, str]],
    overrides: Sequence[BaseOverride],
) -> Iterable[tuple[str, str]]:
    """What stands in for the base of one build. The first override wins."""
    base = image_reference(cell.base, registries)
    stand_ins = [override.reference for override in overrides if override.pattern.search(base)]
    if parent is not None and parent.local_name != base:
        stand_ins.append(parent.local_name)
    if stand_ins:
        yield base, f"docker-image://{stand_ins[0]}"


def _require_cache_names(caches: Sequence[str]) -> None:
    for registry in caches:
        if not _REGISTRY.fullmatch(registry):
            raise UsageError(f"--cache-from '{registry}': write it as host[:port][/prefix], without tag")


def _require_used_overrides(overrides: Sequence[BaseOverride], bases: Sequence[str]) -> None:
    for override in overrides:
        if not any(override.pattern.search(base) for base in bases):
            known = ", ".join(sorted(set(bases)))
            raise UsageError(f"--base-override '{override.pattern.pattern}' matches no base of: {known}")


NO_CACHE = "--no-cache asks for it"


def decide_actions(
    plan: BuildPlan, root: Path, holdings: LocalImages, *, bases: Mapping[str, str] = EMPTY, afresh: bool = False
) -> BuildPlan:
    """The same plan, with nothing built that the local store has.

    `bases` gives the locked digests, by the image as the matrix has it; `afresh` builds everything from nothing.
    """
    ledger = InputReader(root)
    known: dict[str, str] = {}
    steps = []
    for step in plan.steps:
        stands_on = base_identity(step, known, holdings, bases)
        inputs = ledger.inputs(step.cell, stands_on)
        known[step.cell.id] = inputs.build
        told = replace(
            _pin_base(step, bases),
            source=inputs.source,
            digest=inputs.build,
            base_digests=tuple(stands_on.items()),
        ).with_request(no_cache=afresh)
        steps.append(told if step.action is Action.SKIP else _decide_step(told, inputs, holdings))
    return replace(plan, steps=tuple(steps))


def with_labels(plan: BuildPlan, root: Path, labels: Mapping[str, str] = EMPTY) -> BuildPlan:
    """The same, with what each image that is built will say of its inputs; `labels` go on every image beside that."""
    ledger = InputReader(root)
    steps = []
    for step in plan.steps:
        if step.action is Action.BUILD:
            own = ledger.inputs(step.cell, dict(step.base_digests)).labels
            steps.append(step.with_request(labels=(*step.request.labels, *labels.items(), *own.items())))
        else:
            steps.append(step)
    return replace(plan, steps=tuple(steps))


def reused_result(step: BuildStep) -> BuildResult:
    """The result of a step whose image is there already."""
    return BuildResult(
        cell=step.cell,
        outcome=Outcome.PASSED,
        reason=step.reason,
        seconds=0.0,
        log="",
        image=BuiltImage(id=step.image_id, size=step.image_size),
    )


def base_identity(
    step: BuildStep, known: Mapping[str, str], holdings: LocalImages, bases: Mapping[str, str]
) -> Mapping[str, str]:
    """What a step stands on: its parent's build digest, or its base's digest; empty where nobody knows it.

    A base that is locked counts as locked. One that is not, or that something stands in for, counts as the local store
    has it. `known` has the build digests of earlier steps; a parent outside the plan counts as its image says itself.
    """
    cell = step.cell
    stand_in = dict(step.request.contexts).get(step.base, "").removeprefix("docker-image://")
    if cell.extends and cell.extends in known:
        return {f"parent {cell.extends}": known[cell.extends]}
    here = holdings.find(stand_in or step.base)
    if cell.extends:
        digest = (here.labels.get(BUILD_LABEL) or here.id) if here else ""
        return {f"parent {cell.extends}": digest}
    if not stand_in and bases.get(cell.base.image):
        return {f"base {cell.base.image}": bases[cell.base.image]}
    return {f"base {stand_in or cell.base.image}": here.id if here else ""}


def _pin_base(step: BuildStep, bases: Mapping[str, str]) -> BuildStep:
    """The step, with its base by its locked digest, where it is locked and nothing stands in for it."""
    digest = bases.get(step.cell.base.image)
    if not digest or step.cell.extends or step.base in dict(step.request.contexts):
        return step
    return step.with_request(contexts=(*step.request.contexts, (step.base, f"docker-image://{step.base}@{digest}")))


def _decide_step(step: BuildStep, inputs: Inputs, holdings: LocalImages) -> BuildStep:
    if step.request.no_cache:
        return replace(step, reason=NO_CACHE)
    named = holdings.find(step.request.tag)
    if inputs.unknown:
        unknown = inputs.unknown[0]
        return replace(step, reason=f"{unknown} is not here yet")
    same = holdings.built_from(inputs.build)
    if named in same and named is not None:
        return replace(step, action=Action.REUSE, reason="up to date", image_id=named.id, image_size=named.size)
    if same:
        one = same[0]
        reason = f"it is here as {one.names[0] if one.names else one.id}"
        return replace(step, action=Action.RETAG, reason=reason, image_id=one.id, image_size=one.size)
    changes = tuple(_changes(named, inputs))
    return replace(step, changes=changes, reason=_reason(step, named, changes))


def _changes(named: LocalImage | None, inputs: Inputs) -> Iterator[str]:
    try:
        before = json.loads(named.labels[INPUTS_LABEL]) if named else {}
    except (KeyError, ValueError):
        return
    if before:
        yield from map(str, explain_changes(before, inputs))


def _reason(step: BuildStep, named: LocalImage | None, changes: tuple[str, ...]) -> str:
    if named is None:
        return f"there is no image {step.request.tag} here"
    if changes:
        return changes[0] + (f", and {len(changes) - 1} more" if len(changes) > 1 else "")
    if INPUTS_LABEL not in named.labels:
        return f"{step.request.tag} does not say what it was built from"
    return "its inputs are not what they were"
