"""Decide for each cell of a plan whether to build it, reuse its local image, or give an existing image its name."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from rlimages.engine.protocol import BuiltImage, LocalImage, LocalImages
from rlimages.matrix.cell import EMPTY
from rlimages.oci.labels import BUILD_LABEL, INPUTS_LABEL
from rlimages.plan.inputs import CellInputs, InputReader, explain_changes
from rlimages.plan.results import BuildResult, Outcome
from rlimages.plan.step import Action, BuildPlan, BuildStep


def decide_actions(
    plan: BuildPlan, root: Path, local_images: LocalImages, *, bases: Mapping[str, str] = EMPTY, no_cache: bool = False
) -> BuildPlan:
    """Return `plan` with the action, the reason, the digests and the locked base image of each step.

    A step is built only if `local_images` has no image with its build digest (the digest of all its build inputs). A
    step that is skipped stays skipped. The inputs are read from files below the project folder `root`. `bases` maps
    each locked base image, as the matrix names it, to its digest. With `no_cache`, all steps are built, without cache.
    """
    reader = InputReader(root)
    build_digests: dict[str, str] = {}
    steps = []
    for step in plan.steps:  # parents come first: the digest of a child includes that of its parent
        base_digests = _base_digests(step, build_digests, local_images, bases)
        inputs = reader.read(step.cell, base_digests)
        build_digests[step.cell.id] = inputs.build
        described = replace(
            _pin_base(step, bases),
            source=inputs.source,
            digest=inputs.build,
            base_digests=tuple(base_digests.items()),
        ).with_request(no_cache=no_cache)
        steps.append(described if step.action is Action.SKIP else _decide_step(described, inputs, local_images))
    return replace(plan, steps=tuple(steps))


def add_input_labels(plan: BuildPlan, root: Path, labels: Mapping[str, str] = EMPTY) -> BuildPlan:
    """Return `plan` with more labels in the build request of each step that is built; other steps are unchanged.

    The new labels are `labels` (name -> value) and those that describe the step's inputs: source digest, build digest
    and the digest of each input. The inputs are read from files below the project folder `root`.
    """
    reader = InputReader(root)
    steps = []
    for step in plan.steps:
        if step.action is Action.BUILD:
            own = reader.read(step.cell, dict(step.base_digests)).labels
            steps.append(step.with_request(labels=(*step.request.labels, *labels.items(), *own.items())))
        else:
            steps.append(step)
    return replace(plan, steps=tuple(steps))


def reused_result(step: BuildStep) -> BuildResult:
    """Return a passed result, of 0 seconds and without log, for a `step` whose image exists already (REUSE, RETAG)."""
    return BuildResult(
        cell=step.cell,
        outcome=Outcome.PASSED,
        reason=step.reason,
        seconds=0.0,
        log="",
        image=BuiltImage(id=step.image_id, size=step.image_size),
    )


def _base_digests(
    step: BuildStep, build_digests: Mapping[str, str], local_images: LocalImages, bases: Mapping[str, str]
) -> Mapping[str, str]:
    """Return a mapping with one entry: what the image of `step` is built FROM -> its digest, empty if not known.

    The key is `parent <cell id>` for a cell that extends another cell, else `base <reference>`. `build_digests` maps
    the cell ids of earlier steps to their build digests, and `bases` maps locked base images to their digests. The
    digest of a parent in `build_digests` is taken from there; of another parent, from the label of its image in
    `local_images`, or else it is that image's id. The digest of a base image is the locked one; without lock, or with
    a base override, it is the id of the base image in `local_images`.
    """
    cell = step.cell
    override = dict(step.request.contexts).get(step.base, "").removeprefix("docker-image://")
    if cell.extends and cell.extends in build_digests:
        return {f"parent {cell.extends}": build_digests[cell.extends]}
    image = local_images.find(override or step.base)
    if cell.extends:
        digest = (image.labels.get(BUILD_LABEL) or image.id) if image else ""
        return {f"parent {cell.extends}": digest}
    if not override and bases.get(cell.base.image):
        return {f"base {cell.base.image}": bases[cell.base.image]}
    return {f"base {override or cell.base.image}": image.id if image else ""}


def _pin_base(step: BuildStep, bases: Mapping[str, str]) -> BuildStep:
    """Return `step` with a named context that replaces its base image by the locked digest.

    `bases` maps locked base images to their digests. The step is returned unchanged if its base image is not locked, is
    the image of another cell, or is replaced already by a base override.
    """
    digest = bases.get(step.cell.base.image)
    if not digest or step.cell.extends or step.base in dict(step.request.contexts):
        return step
    # A named context replaces the reference after FROM, so Dockerfiles keep their readable tags.
    return step.with_request(contexts=(*step.request.contexts, (step.base, f"docker-image://{step.base}@{digest}")))


def _decide_step(step: BuildStep, inputs: CellInputs, local_images: LocalImages) -> BuildStep:
    """Return `step` with its action (BUILD, REUSE or RETAG), the reason, and the image in `local_images` to use.

    An image is used only if it was built from the build digest of `inputs`.
    """
    if step.request.no_cache:
        return replace(step, reason="--no-cache rebuilds every cell")
    if inputs.unknown:
        return replace(step, reason=f"{inputs.unknown[0]} is not in the local store yet")
    named = local_images.find(step.request.tag)
    same = local_images.built_from(inputs.build)
    if named in same and named is not None:
        return replace(step, action=Action.REUSE, reason="up to date", image_id=named.id, image_size=named.size)
    if same:
        image = same[0]
        reason = f"the same image exists as {image.names[0] if image.names else image.id}"
        return replace(step, action=Action.RETAG, reason=reason, image_id=image.id, image_size=image.size)
    changes = tuple(_changes(named, inputs))
    return replace(step, changes=changes, reason=_build_reason(step, named, changes))


def _changes(named: LocalImage | None, inputs: CellInputs) -> Iterator[str]:
    """Yield one sentence for each input that differs between `inputs` and the labels of the image `named`.

    `named` is the local image with the cell's name. Nothing is yielded if it is None or has no readable input labels.
    """
    try:
        before = json.loads(named.labels[INPUTS_LABEL]) if named else {}
    except (KeyError, ValueError):
        return
    if before:
        yield from map(str, explain_changes(before, inputs))


def _build_reason(step: BuildStep, named: LocalImage | None, changes: tuple[str, ...]) -> str:
    """Return a clause that says why `step` is built, for example the first of `changes`, its changed inputs.

    `named` is the local image with the cell's name; None if there is none.
    """
    if named is None:
        return f"there is no image {step.request.tag} in the local store"
    if changes:
        return changes[0] + (f", and {len(changes) - 1} more" if len(changes) > 1 else "")
    if INPUTS_LABEL not in named.labels:
        return f"{step.request.tag} has no label {INPUTS_LABEL}"
    return "its inputs changed"
