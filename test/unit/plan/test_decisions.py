"""Images with the same inputs are reused; for every other cell the plan has the reason to build it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rlimages.engine.protocol import LocalImage, LocalImages
from rlimages.oci.labels import BUILD_LABEL, INPUTS_LABEL
from rlimages.plan.decisions import add_input_labels, decide_actions
from rlimages.plan.step import Action, BuildPlan, BuildStep
from rlimages.run.forecast import CellForecast, Forecast, forecast_text

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


def test_a_forecast_reads_as_a_table_and_its_sums(make_step) -> None:
    def outlook(version: str, action: Action, reason: str, **words: object) -> CellForecast:
        step = make_step(version, action=action, reason=reason, changes=words.pop("changes", ()))
        facts = {"seconds": None, "space": None, "checks": (), "proven": 0, "publishes": (), **words}
        return CellForecast(step=step, **facts)

    told = Forecast(
        cells=(
            outlook("1.0", Action.BUILD, "lock six: 1 → 2, and 1 more", changes=("lock six: 1 → 2", "file a: new"),
                    seconds=60.0, space=2_000_000_000, checks=("a", "b"), publishes=("r/x:1", "r/x:2")),
            outlook("2.0", Action.BUILD, "there is no image", checks=("a",)),
            outlook("3.0", Action.REUSE, "up to date", proven=2),
            outlook("4.0", Action.SKIP, "left out by --select '1*' (build_matrix.yaml:9)"),
        ),
        jobs=2, free=40_000_000_000, send=480_000_000, unknown=("ray-2.0-tf-cpu-debian",),
    )  # fmt: skip
    assert forecast_text(told) == (
        "ACTION  CELL                   WHY\n"
        "build   ray-1.0-tf-cpu-debian  lock six: 1 → 2, and 1 more\n"
        "                                 file a: new\n"
        "build   ray-2.0-tf-cpu-debian  there is no image\n"
        "reuse   ray-3.0-tf-cpu-debian  up to date\n"
        "skip    ray-4.0-tf-cpu-debian  left out by --select '1*' (build_matrix.yaml:9)\n"
        "\n"
        "2 to build, 1 up to date, 1 left out\n"
        "time: about 1 min 00 s beside 1 cell never built here\n"
        "disk: about 2 GB needed beside 1 cell never built here, 40 GB free\n"
        "checks: 3 to run, 2 passed before for the very same images\n"
        "publish: 2 names; at most 480 MB of layers to send, and what 1 cell will have\n"
    )
    assert told.changes
    assert not replace(told, cells=told.cells[2:]).changes
