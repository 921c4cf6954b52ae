"""Decide what of a plan need not be done, and say why the rest must be. Asks nobody: what is held is told.

Unsure means build: an image that does not say what it was made from, or stands on a base that nobody knows, is built.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from rlimages.cell import EMPTY
from rlimages.digest import INPUTS_LABEL, Inputs, Ledger, explain
from rlimages.holdings import BUILD_LABEL, Holding, Holdings
from rlimages.plan import Action, BuildPlan, BuildStep
from rlimages.results import BuildResult, Image, Outcome

NO_CACHE = "--no-cache asks for it"


def decide(
    plan: BuildPlan, root: Path, holdings: Holdings, *, bases: Mapping[str, str] = EMPTY, afresh: bool = False
) -> BuildPlan:
    """The same plan, with nothing built that the local store has.

    `bases` gives the locked digests, by the image as the matrix has it; `afresh` builds everything from nothing.
    """
    ledger = Ledger(root)
    known: dict[str, str] = {}
    steps = []
    for step in plan.steps:
        stands_on = ground(step, known, holdings, bases)
        inputs = ledger.inputs(step.cell, stands_on)
        known[step.cell.id] = inputs.build
        told = replace(
            _pinned(step, bases),
            source=inputs.source,
            digest=inputs.build,
            ground=tuple(stands_on.items()),
            no_cache=afresh,
        )
        steps.append(told if step.action is Action.SKIP else _judged(told, inputs, holdings))
    return replace(plan, steps=tuple(steps))


def labelled(plan: BuildPlan, root: Path, labels: Mapping[str, str] = EMPTY) -> BuildPlan:
    """The same, with what each image that is built will say of its inputs; `labels` go on every image beside that."""
    ledger = Ledger(root)
    steps = []
    for step in plan.steps:
        if step.action is Action.BUILD:
            own = ledger.inputs(step.cell, dict(step.ground)).labels
            steps.append(replace(step, labels=(*step.labels, *labels.items(), *own.items())))
        else:
            steps.append(step)
    return replace(plan, steps=tuple(steps))


def kept(step: BuildStep) -> BuildResult:
    """The result of a step whose image is there already."""
    return BuildResult(
        cell=step.cell,
        outcome=Outcome.PASSED,
        reason=step.reason,
        seconds=0.0,
        log="",
        image=Image(id=step.held, size=step.held_size),
    )


def ground(
    step: BuildStep, known: Mapping[str, str], holdings: Holdings, bases: Mapping[str, str]
) -> Mapping[str, str]:
    """What a step stands on: its parent's build digest, or its base's digest; empty where nobody knows it.

    A base that is locked counts as locked. One that is not, or that something stands in for, counts as the local store
    has it. `known` has the build digests of earlier steps; a parent outside the plan counts as its image says itself.
    """
    cell = step.cell
    stand_in = dict(step.contexts).get(step.base, "").removeprefix("docker-image://")
    if cell.extends and cell.extends in known:
        return {f"parent {cell.extends}": known[cell.extends]}
    here = holdings.find(stand_in or step.base)
    if cell.extends:
        digest = (here.labels.get(BUILD_LABEL) or here.id) if here else ""
        return {f"parent {cell.extends}": digest}
    if not stand_in and bases.get(cell.base.image):
        return {f"base {cell.base.image}": bases[cell.base.image]}
    return {f"base {stand_in or cell.base.image}": here.id if here else ""}


def _pinned(step: BuildStep, bases: Mapping[str, str]) -> BuildStep:
    """The step, with its base by its locked digest, where it is locked and nothing stands in for it."""
    digest = bases.get(step.cell.base.image)
    if not digest or step.cell.extends or step.base in dict(step.contexts):
        return step
    return replace(step, contexts=(*step.contexts, (step.base, f"docker-image://{step.base}@{digest}")))


def _judged(step: BuildStep, inputs: Inputs, holdings: Holdings) -> BuildStep:
    if step.no_cache:
        return replace(step, reason=NO_CACHE)
    named = holdings.find(step.image)
    if inputs.unknown:
        unknown = inputs.unknown[0]
        return replace(step, reason=f"{unknown} is not here yet")
    same = holdings.built_from(inputs.build)
    if named in same and named is not None:
        return replace(step, action=Action.REUSE, reason="up to date", held=named.id, held_size=named.size)
    if same:
        one = same[0]
        reason = f"it is here as {one.names[0] if one.names else one.id}"
        return replace(step, action=Action.RETAG, reason=reason, held=one.id, held_size=one.size)
    changes = tuple(_changes(named, inputs))
    return replace(step, changes=changes, reason=_reason(step, named, changes))


def _changes(named: Holding | None, inputs: Inputs) -> Iterator[str]:
    try:
        before = json.loads(named.labels[INPUTS_LABEL]) if named else {}
    except (KeyError, ValueError):
        return
    if before:
        yield from map(str, explain(before, inputs))


def _reason(step: BuildStep, named: Holding | None, changes: tuple[str, ...]) -> str:
    if named is None:
        return f"there is no image {step.image} here"
    if changes:
        return changes[0] + (f", and {len(changes) - 1} more" if len(changes) > 1 else "")
    if INPUTS_LABEL not in named.labels:
        return f"{step.image} does not say what it was built from"
    return "its inputs are not what they were"
