"""Make an image again from what its labels say, and hold the two against each other."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from rlimages import ancestry, bases, buildhost, compare, original, planning, preparing, revision, schedule, tree
from rlimages import origin as origins
from rlimages import project as projects
from rlimages.build import build
from rlimages.cell import Cell
from rlimages.census import Layer
from rlimages.compare import Comparison, Level
from rlimages.docker_engine import DockerEngine
from rlimages.errors import FactoryError, Interrupted, ToolError, UsageError
from rlimages.origin import Origin
from rlimages.original import Original
from rlimages.plan import Action, BuildStep
from rlimages.preparing import Wishes
from rlimages.project import Project
from rlimages.results import Image, Outcome
from rlimages.runs import STATE, name_run
from rlimages.shell import Stop

REPOSITORY = "rlimages-reproduction"
"""Of the new image, as long as it is there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reproduction:
    """What came of making an image again."""

    origin: Origin
    image: str
    """Id of the new image."""
    comparison: Comparison
    seconds: float
    """Of the build."""
    ground: tuple[str, ...]
    """What the new one stands on that is not what the first one stood on."""


def reproduce(
    word: str,
    *,
    matrix: Path | None,
    wishes: Wishes,
    as_is: bool,
    keep: bool,
    environ: Mapping[str, str],
    stop: Stop,
    on_note: Callable[[str], None],
) -> Reproduction:
    """Build the cell of an image from its commit, at its date, from nothing, and compare.

    The checkout is not touched; with `as_is` it is what is built, whatever the labels say. Raises `FactoryError`
    where there is no such image, commit or cell, or the build fails.
    """
    here = projects.load(matrix, Path.cwd())
    engine = DockerEngine(run=name_run(), stop=stop)
    try:
        engine.version()
        with original.opened(word, engine, matrix, environ) as first, _source(here, first.origin, as_is) as source:
            return _again(first, source, here, engine, wishes, as_is, keep, environ, stop, on_note)
    finally:
        engine.close()


@contextmanager
def _source(here: Project, origin: Origin, as_is: bool) -> Iterator[Project]:
    """The project as it was when the image was built: taken out of its repository into a folder that goes again."""
    if as_is:
        yield here
        return
    if not origin.revision:
        raise UsageError(
            f"{origin.called} was built from files that no commit has (no label {revision.LABEL}); "
            "--as-is builds it from this checkout"
        )
    with tempfile.TemporaryDirectory(prefix="rlimages-") as folder:
        root = ancestry.taken_out(here.root, origin.revision, Path(folder))
        yield projects.load(root / here.matrix.name, root)


def _again(
    first: Original,
    source: Project,
    here: Project,
    engine: DockerEngine,
    wishes: Wishes,
    as_is: bool,
    keep: bool,
    environ: Mapping[str, str],
    stop: Stop,
    on_note: Callable[[str], None],
) -> Reproduction:
    origin = first.origin
    cell = _cell(source, origin, as_is)
    folder = here.root / STATE / "reproductions" / cell.id
    step, ground = _step(source, cell, origin, engine, wishes, as_is, environ, on_note)
    on_note(f"building {cell.id} from nothing, as of {origin.revision[:12] if not as_is else 'this checkout'}")
    built = build(step, engine, folder, root=source.root, stop=stop)
    if stop.is_set():
        raise Interrupted("interrupted")
    if built.outcome is not Outcome.PASSED or built.image is None:
        raise FactoryError(f"{cell.id} cannot be built again: {built.reason}; {built.log} says more")
    try:
        found = _compared(first, built.image, engine, stop, on_note)
    finally:
        if not keep:
            engine.discard(step.image)
    return Reproduction(origin=origin, image=built.image.id, comparison=found, seconds=built.seconds, ground=ground)


def _cell(source: Project, origin: Origin, as_is: bool) -> Cell:
    where = "this checkout" if as_is else f"commit {origin.revision[:12]}"
    for cell in source.cells:
        if cell.id == origin.cell:
            return cell
    raise UsageError(f"{where} has no cell {origin.cell}, which {origin.called} says it is")


def _step(
    source: Project,
    cell: Cell,
    origin: Origin,
    engine: DockerEngine,
    wishes: Wishes,
    as_is: bool,
    environ: Mapping[str, str],
    on_note: Callable[[str], None],
) -> tuple[BuildStep, tuple[str, ...]]:
    """The one step of the build, and what it stands on that the image did not."""
    plan = schedule.make_plan(
        (cell,),
        registries=source.base_arguments((cell,), wishes.region),
        overrides=preparing.overrides(wishes),
        jobs=1,
        timeout=wishes.timeout,
    )
    holdings = engine.holdings()
    for reference in preparing.open_bases(plan):
        if reference not in source.locked_bases and holdings.find(reference) is None:
            on_note(f"base {reference}: bringing it, which takes a minute")
            bases.ensure(reference)
    holdings = engine.holdings()
    plan = preparing.without_orphans(plan, holdings, source)
    if plan.steps[0].action is Action.SKIP:
        raise ToolError(plan.steps[0].reason)
    labels = revision.labels(source.root) if as_is else {revision.LABEL: origin.revision}
    plan = planning.decide(plan, source.root, holdings, bases=source.locked_bases, afresh=True)
    plan = planning.labelled(plan, source.root, labels)
    own = dict(plan.steps[0].labels)
    unlike = origins.unlike_source(origin, own)
    if unlike and not as_is:
        raise UsageError(f"{origin.called} was not built from commit {origin.revision[:12]}: {unlike}")
    if unlike:
        on_note(f"this checkout is not what {origin.called} was built from: {unlike}")
    locks = {cell.id: tree.read(source.root / cell.lock) or ""}
    hosts = buildhost.prepare(
        source.root / STATE / "buildhost", locks, environ=environ, home=Path.home(), wheels=wishes.wheels
    )
    (step,) = schedule.lend(plan, hosts.folders).steps
    return replace(step, image=f"{REPOSITORY}:{cell.id}", epoch=origin.epoch), origins.unlike_ground(origin, own)


def _compared(
    first: Original, second: Image, engine: DockerEngine, stop: Stop, on_note: Callable[[str], None]
) -> Comparison:
    if first.origin.id == second.id:
        return Comparison(level=Level.DIGEST)

    def check() -> None:
        if stop.is_set():
            raise Interrupted("interrupted")

    on_note("the digests differ: reading both images")
    known: dict[str, Layer] = {}
    after = original.of_store(second.id, engine).read(check, known)
    return compare.compare(first.read(check, known), after)
