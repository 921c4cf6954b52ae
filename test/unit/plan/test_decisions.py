"""Images with the same inputs are reused; for every other cell the plan has the reason to build it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rlimages.engine.protocol import LocalImage, LocalImages
from rlimages.oci.labels import BUILD_LABEL, INPUTS_LABEL
from rlimages.plan.decisions import add_input_labels, decide_actions
from rlimages.plan.step import Action, BuildPlan, BuildStep

DIGEST = "sha256:" + "b" * 64
BASE = LocalImage(id="sha256:" + "a" * 64, names=("debian:bookworm-slim",), digests=(), labels={}, size=1)


@pytest.fixture
def write_step(tmp_path: Path, make_step: Callable[..., BuildStep]) -> Callable[..., BuildStep]:
    """Make a step, and write its Dockerfile."""

    def write(
        version: str = "2.9.3", dockerfile: str = "FROM debian:bookworm-slim\nRUN one\n", **changes: object
    ) -> BuildStep:
        step = make_step(version, base="debian:bookworm-slim", **changes)
        path = tmp_path / step.request.dockerfile
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dockerfile)
        return step

    return write


def decide(root: Path, step: BuildStep, *images: LocalImage, **options: object) -> BuildStep:
    decided = decide_actions(BuildPlan(steps=(step,), jobs=1), root, LocalImages((BASE, *images)), **options)  # type: ignore[arg-type]
    return add_input_labels(decided, root).steps[0]


def image_of(step: BuildStep, *names: str) -> LocalImage:
    """Return the local image that the build of a step would make."""
    return LocalImage(id="sha256:" + "c" * 64, names=names, digests=(), labels=dict(step.request.labels), size=1)


def test_an_image_with_the_same_inputs_is_reused_or_retagged(tmp_path: Path, write_step) -> None:
    step = write_step()
    first = decide(tmp_path, step)
    assert (first.action, first.reason) == (Action.BUILD, f"there is no image {step.request.tag} in the local store")
    image = image_of(first, step.request.tag)
    again = decide(tmp_path, step, image)
    assert (again.action, again.reason, again.image_id) == (Action.REUSE, "up to date", image.id)
    elsewhere = decide(tmp_path, step, replace(image, names=("other:tag",)))
    assert (elsewhere.action, elsewhere.reason) == (Action.RETAG, "the same image exists as other:tag")
    nameless = decide(tmp_path, step, replace(image, names=()))
    assert (nameless.action, nameless.reason) == (Action.RETAG, f"the same image exists as {image.id}")
    rebuilt = decide(tmp_path, step, image, no_cache=True)
    assert (rebuilt.action, rebuilt.reason) == (Action.BUILD, "--no-cache rebuilds every cell")
    assert rebuilt.request.no_cache


def test_an_image_with_unknown_or_other_inputs_is_rebuilt(tmp_path: Path, write_step) -> None:
    step = write_step()
    image = image_of(decide(tmp_path, step), step.request.tag)
    unlabelled = decide(tmp_path, step, replace(image, labels={}))
    assert unlabelled.reason == f"{step.request.tag} has no label rlimages.inputs"
    broken = decide(tmp_path, step, replace(image, labels={BUILD_LABEL: "x", INPUTS_LABEL: "{"}))
    assert broken.reason == "its inputs changed"
    (without_base,) = decide_actions(BuildPlan(steps=(step,), jobs=1), tmp_path, LocalImages((image,))).steps
    assert without_base.reason == "base debian:bookworm-slim is not in the local store yet"
    write_step(dockerfile="FROM debian:bookworm-slim\nRUN two\nENV A=1\n")
    changed = decide(tmp_path, step, image)
    assert changed.action is Action.BUILD
    assert changed.reason == f"instruction {step.request.dockerfile}:2: changed: RUN two, and 1 more"
    assert changed.changes[1] == f"instruction {step.request.dockerfile}:3: changed: ENV A=1"


def test_a_locked_base_image_is_built_from_by_digest_unless_it_is_overridden(tmp_path: Path, write_step) -> None:
    step = write_step()
    floating = decide(tmp_path, step)
    locked = decide(tmp_path, step, bases={"debian:bookworm-slim": DIGEST})
    assert locked.request.contexts == (("debian:bookworm-slim", f"docker-image://debian:bookworm-slim@{DIGEST}"),)
    assert locked.reason == f"there is no image {step.request.tag} in the local store"
    then = decide(tmp_path, step, image_of(floating, step.request.tag), bases={"debian:bookworm-slim": DIGEST})
    assert then.reason == "base debian:bookworm-slim: aaaaaaaaaaaa → bbbbbbbbbbbb"
    overridden = write_step().with_request(contexts=(("debian:bookworm-slim", "docker-image://mine:1"),))
    mine = LocalImage(id="sha256:" + "d" * 64, names=("mine:1",), digests=(), labels={}, size=1)
    replaced = decide(tmp_path, overridden, mine, bases={"debian:bookworm-slim": DIGEST})
    assert replaced.request.contexts == overridden.request.contexts
    assert '"base mine:1":"dddddddddddd"' in dict(replaced.request.labels)[INPUTS_LABEL]


def test_a_changed_parent_changes_the_images_that_extend_it(tmp_path: Path, write_step) -> None:
    parent = write_step("1.0")
    child = write_step("2.0", dockerfile=f"FROM {parent.request.tag}\n", needs=(parent.cell.id,))
    child = replace(
        child, cell=replace(child.cell, extends=parent.cell.id, base=replace(child.cell.base, image=parent.request.tag))
    )
    plan = BuildPlan(steps=(parent, child), jobs=1)
    first = add_input_labels(decide_actions(plan, tmp_path, LocalImages((BASE,))), tmp_path)
    images = [replace(image_of(step, step.request.tag), id=f"sha256:{index}") for index, step in enumerate(first.steps)]
    kept = decide_actions(plan, tmp_path, LocalImages((BASE, *images)))
    assert [step.action for step in kept.steps] == [Action.REUSE, Action.REUSE]
    write_step("1.0", dockerfile="FROM debian:bookworm-slim\nRUN two\n")
    changed = decide_actions(plan, tmp_path, LocalImages((BASE, *images))).steps
    assert [step.action for step in changed] == [Action.BUILD, Action.BUILD]
    assert changed[1].reason.startswith(f"parent {parent.cell.id}: ")
    alone = decide_actions(
        replace(plan, steps=(replace(child, base=parent.request.tag),)), tmp_path, LocalImages((BASE, *images))
    )
    assert alone.steps[0].action is Action.REUSE
