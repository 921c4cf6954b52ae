"""Build an image again, from the commit in its labels and with its creation date, and compare both images."""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rlimages.build.base_images import ensure_base
from rlimages.build.builder import build_cell
from rlimages.build.git import export_commit, revision_labels
from rlimages.build.host_context import prepare_contexts
from rlimages.engine.docker import DockerEngine
from rlimages.engine.protocol import BuiltImage
from rlimages.errors import FactoryError, ToolError, UsageError
from rlimages.matrix.cell import Cell
from rlimages.oci.compare import Comparison, Similarity, compare_images
from rlimages.oci.contents import LayerContents
from rlimages.oci.labels import REVISION_LABEL, BuildOrigin, base_differences, source_difference
from rlimages.plan.decisions import add_input_labels, decide_actions
from rlimages.plan.planner import add_host_contexts, make_plan
from rlimages.plan.results import Outcome
from rlimages.plan.step import Action, BuildStep, RunOptions
from rlimages.project.project import Project, load_project
from rlimages.project.state import new_run_name
from rlimages.run.prepare import missing_bases, read_overrides, skip_without_parent
from rlimages.run.source_image import SourceImage, open_image, open_local_image
from rlimages.system.context import RunContext
from rlimages.system.files import read_text

REPOSITORY = "rlimages-reproduction"
"""Repository of the new image in the local store. Its tag is the id of the cell."""
_SHOWN_DIGITS = 12
"""Number of digits of a commit in messages."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reproduction:
    """The result of building an image (the source image) again."""

    origin: BuildOrigin
    """Cell, commit, creation date and labels of the source image."""
    image: str
    """Id of the new image, which may have been removed after the comparison."""
    comparison: Comparison
    """Similarity and differences of the source image and the new image."""
    seconds: float
    """Duration of the build."""
    base_differences: tuple[str, ...]
    """Base and parent images with another digest than for the source image: `<name>: <old digest> -> <new digest>`."""


def reproduce(
    image: str, *, matrix: Path | None, options: RunOptions, as_is: bool, keep: bool, context: RunContext
) -> Reproduction:
    """Build the cell of `image` again, without cache, and compare the new image with `image`.

    `image` is a local name or id, a cell id or a registry reference. `matrix` is the path of the matrix; None finds it
    from the current folder. The build has the commit and the creation date of `image`. The commit is exported into a
    temporary folder; the checkout is not changed. With `as_is`, the checkout is built instead of the commit. The new
    image is removed after the comparison unless `keep` is set.

    Raises `FactoryError` if the image, the commit or the cell does not exist, if the files of the commit are not those
    that the image was built from, or if the build fails.
    """
    project = load_project(matrix, Path.cwd())
    engine = DockerEngine(run=new_run_name(), stop=context.stop)
    try:
        engine.version()  # raises if no engine answers
        with (
            open_image(image, engine, matrix, context.environ) as source_image,
            _source_project(project, source_image.origin, as_is) as source,
        ):
            origin = source_image.origin
            version = "this checkout" if as_is else _commit(origin)
            cell = _find_cell(source, origin, version)
            step = _make_step(cell, source, origin, options=options, as_is=as_is, engine=engine, context=context)
            context.note(f"building {cell.id} without cache, from {version}")
            logs = project.state.reproductions / cell.id
            build = build_cell(step, engine, logs, root=source.root, stop=context.stop)
            context.check_stop()
            if build.outcome is not Outcome.PASSED or build.image is None:
                raise FactoryError(f"{cell.id} cannot be built again: {build.reason}; see {build.log}")
            try:
                comparison = _compare(source_image, build.image, engine, context)
            finally:
                if not keep:
                    engine.remove_image(step.request.tag)
            return Reproduction(
                origin=origin,
                image=build.image.id,
                comparison=comparison,
                seconds=build.seconds,
                base_differences=base_differences(origin, dict(step.request.labels)),
            )
    finally:
        engine.close()


@contextmanager
def _source_project(project: Project, origin: BuildOrigin, as_is: bool) -> Iterator[Project]:
    """Provide the project to build from: `project` itself with `as_is`, else the commit of `origin`.

    The commit is exported into a temporary folder, which is removed when the context ends. Raises `UsageError` if
    `origin` has no commit, or the commit does not exist.
    """
    if as_is:
        yield project
        return
    if not origin.revision:
        raise UsageError(
            f"{origin.name} was built from files that no commit has (no label {REVISION_LABEL}); "
            "--as-is builds it from this checkout"
        )
    with tempfile.TemporaryDirectory(prefix="rlimages-") as folder:
        root = export_commit(project.root, origin.revision, Path(folder))
        yield load_project(root / project.matrix.name, root)


def _find_cell(source: Project, origin: BuildOrigin, version: str) -> Cell:
    """Return the cell of `source` from which the image of `origin` was built.

    Raises `UsageError` if there is no such cell; `version` names the commit or checkout in the message.
    """
    for cell in source.cells:
        if cell.id == origin.cell:
            return cell
    raise UsageError(f"{version} has no cell {origin.cell}, which is the cell of {origin.name} by its label")


def _make_step(
    cell: Cell,
    source: Project,
    origin: BuildOrigin,
    *,
    options: RunOptions,
    as_is: bool,
    engine: DockerEngine,
    context: RunContext,
) -> BuildStep:
    """Return the step that builds `cell` from the project `source`, with the creation date of `origin`.

    A Debian base image that the local store lacks is pulled or bootstrapped; other bases are left to the build. If
    the files of `source` are not those that the image of `origin` was built from, raises `UsageError`; with
    `as_is`, prints a note instead. Raises `ToolError` if the local store has no image of the cell that `cell`
    extends.
    """
    plan = make_plan(
        (cell,),
        registries=source.base_arguments((cell,), options.region),
        overrides=read_overrides(options),
        jobs=1,
        timeout=options.timeout,
    )
    for reference in missing_bases(plan, source, engine.local_images()):
        context.note(f"base {reference}: fetching it, which takes a minute")
        ensure_base(reference)
    local_images = engine.local_images()
    plan = skip_without_parent(plan, source, local_images)
    if plan.steps[0].action is Action.SKIP:
        raise ToolError(plan.steps[0].reason)
    plan = decide_actions(plan, source.root, local_images, bases=source.locked_bases, no_cache=True)

    plan = add_input_labels(plan, source.root, revision_labels(source.root) if as_is else _revision_label(origin))
    difference = source_difference(origin, dict(plan.steps[0].request.labels))
    if difference and not as_is:
        raise UsageError(f"{origin.name} was not built from {_commit(origin)}: {difference}")
    if difference:
        context.note(f"this checkout is not what {origin.name} was built from: {difference}")

    locks = {cell.id: read_text(source.root / cell.lock) or ""}
    host_contexts = prepare_contexts(
        source.state.host_contexts, locks, environ=context.environ, home=Path.home(), wheels=options.wheels
    )
    (step,) = add_host_contexts(plan, host_contexts.folders).steps
    return step.with_request(tag=f"{REPOSITORY}:{cell.id}", epoch=origin.epoch)


def _revision_label(origin: BuildOrigin) -> Mapping[str, str]:
    """Return name -> value of the label with the commit of `origin`.

    An exported commit is not a git repository, so git cannot be asked for it.
    """
    return {REVISION_LABEL: origin.revision}


def _commit(origin: BuildOrigin) -> str:
    """Return `commit 0123456789ab`, for messages: the first digits of the commit that `origin` was built from."""
    return f"commit {origin.revision[:_SHOWN_DIGITS]}"


def _compare(source_image: SourceImage, built: BuiltImage, engine: DockerEngine, context: RunContext) -> Comparison:
    """Compare the local image `built` with the source image: by digest and, if the digests differ, by all contents."""
    if source_image.origin.id == built.id:
        return Comparison(level=Similarity.DIGEST)
    context.note("the digests differ: reading both images")
    known_layers: dict[str, LayerContents] = {}
    # The local image first: the layers that it shares with an image in a registry need not be downloaded then.
    new = open_local_image(built.id, engine).read_contents(context.check_stop, known_layers)
    return compare_images(source_image.read_contents(context.check_stop, known_layers), new)
