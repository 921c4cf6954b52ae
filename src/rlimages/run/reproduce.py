"""Rebuild an image from the commit and date in its labels, and compare the two."""

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rlimages.build.base_images import ensure_base
from rlimages.build.builder import build_cell
from rlimages.build.git import export_commit, revision_labels
from rlimages.build.host_context import prepare_contexts
from rlimages.engine.docker import DockerEngine
from rlimages.engine.protocol import BuiltImage
from rlimages.errors import FactoryError, Interrupted, RegistryError, ToolError, UsageError
from rlimages.matrix.cell import Cell
from rlimages.oci.compare import Comparison, Similarity, compare_images
from rlimages.oci.contents import ImageContents, LayerContents, merge_layers, read_archive, read_layer
from rlimages.oci.labels import REVISION_LABEL, BuildOrigin, base_differences, read_origin, source_difference
from rlimages.oci.layers import open_layer
from rlimages.oci.manifest import DOCKER_CONFIG, OCI_CONFIG, Blob, Manifest, Reference, parse_config
from rlimages.plan.decisions import add_input_labels, decide_actions
from rlimages.plan.planner import add_host_contexts, make_plan
from rlimages.plan.results import Outcome
from rlimages.plan.step import Action, BuildStep, RunOptions
from rlimages.project.lookup import resolve_image
from rlimages.project.project import Project, load_project
from rlimages.project.state import new_run_name
from rlimages.registry.auth import RegistryLogin
from rlimages.registry.client import RegistryClient
from rlimages.registry.ecr import HostCredentials
from rlimages.run.prepare import bootstrappable_bases, read_overrides, without_orphans
from rlimages.system.files import read_text
from rlimages.system.process import Stop

Read = Callable[[Callable[[], None], MutableMapping[str, LayerContents]], ImageContents]
"""Reads an image: what is called for each path and may raise, and the layers that are known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceImage:
    """An image, and how to read what is in it."""

    origin: BuildOrigin
    read: Read


@contextmanager
def open_image(
    word: str, engine: DockerEngine, matrix: Path | None, environ: Mapping[str, str]
) -> Iterator[SourceImage]:
    """The image that a word means: of the local store by name, id or cell, or of a registry by its reference.

    What the local store has under a name is taken from there. Raises `FactoryError` where there is none.
    """
    found = resolve_image(word, engine, matrix, Path.cwd())
    if isinstance(found, str):
        yield open_local_image(found, engine)
        return
    with RegistryClient(found.host, login=RegistryLogin(HostCredentials(environ))) as registry:
        yield _open_remote_image(registry, found, word)


def open_local_image(name: str, engine: DockerEngine) -> SourceImage:
    """An image of the local store, by name or id."""
    found = engine.inspect(name)
    if found is None:
        raise ToolError(f"there is no image {name} in the local store")
    image = found.image.id

    def read(check: Callable[[], None], known: MutableMapping[str, LayerContents]) -> ImageContents:
        return read_archive(engine.save(image), name, check_stop=check, known=known)

    return SourceImage(origin=read_origin(name, image, found.created, found.labels), read=read)


def _open_remote_image(registry: RegistryClient, place: Reference, word: str) -> SourceImage:
    manifest = registry.read_manifest(place.repository, place.tag_or_digest)
    if manifest is None:
        raise RegistryError(f"{place.host} holds nothing under {word.partition('/')[2]}")
    if manifest.config is None or manifest.config.media_type not in (DOCKER_CONFIG, OCI_CONFIG):
        raise RegistryError(f"{word} is no image of one platform; name one by its digest")
    content = registry.read_blob(place.repository, manifest.image)
    told = parse_config(content, word)

    def read(check: Callable[[], None], known: MutableMapping[str, LayerContents]) -> ImageContents:
        return merge_layers(content, _layers(registry, place.repository, manifest, content, check, known))

    return SourceImage(origin=read_origin(word, manifest.image, told.created, told.labels), read=read)


def _layers(
    registry: RegistryClient,
    repository: str,
    manifest: Manifest,
    config: bytes,
    check: Callable[[], None],
    known: MutableMapping[str, LayerContents],
) -> Iterator[LayerContents]:
    told: dict[str, Any] = json.loads(config)
    for name, blob in zip(told["rootfs"]["diff_ids"], manifest.layers, strict=True):
        if name not in known:
            known[name] = _layer(registry, repository, blob, check)
        yield known[name]


def _layer(registry: RegistryClient, repository: str, blob: Blob, check: Callable[[], None]) -> LayerContents:
    """Read the contents of one layer, and check its digest."""
    with open_layer(blob, registry.stream_blob(repository, blob.digest), check) as archive:
        return read_layer(archive, check)


REPOSITORY = "rlimages-reproduction"
"""Of the new image, as long as it is there."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reproduction:
    """What came of making an image again."""

    origin: BuildOrigin
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
    wishes: RunOptions,
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
    here = load_project(matrix, Path.cwd())
    engine = DockerEngine(run=new_run_name(), stop=stop)
    try:
        engine.version()
        with open_image(word, engine, matrix, environ) as first, _source_project(here, first.origin, as_is) as source:
            return _rebuild(first, source, here, engine, wishes, as_is, keep, environ, stop, on_note)
    finally:
        engine.close()


@contextmanager
def _source_project(here: Project, origin: BuildOrigin, as_is: bool) -> Iterator[Project]:
    """The project as it was when the image was built: taken out of its repository into a folder that goes again."""
    if as_is:
        yield here
        return
    if not origin.revision:
        raise UsageError(
            f"{origin.name} was built from files that no commit has (no label {REVISION_LABEL}); "
            "--as-is builds it from this checkout"
        )
    with tempfile.TemporaryDirectory(prefix="rlimages-") as folder:
        root = export_commit(here.root, origin.revision, Path(folder))
        yield load_project(root / here.matrix.name, root)


def _rebuild(
    first: SourceImage,
    source: Project,
    here: Project,
    engine: DockerEngine,
    wishes: RunOptions,
    as_is: bool,
    keep: bool,
    environ: Mapping[str, str],
    stop: Stop,
    on_note: Callable[[str], None],
) -> Reproduction:
    origin = first.origin
    cell = _cell(source, origin, as_is)
    folder = here.state.reproductions / cell.id
    step, ground = _step(source, cell, origin, engine, wishes, as_is, environ, on_note)
    on_note(f"building {cell.id} from nothing, as of {origin.revision[:12] if not as_is else 'this checkout'}")
    built = build_cell(step, engine, folder, root=source.root, stop=stop)
    if stop.is_set():
        raise Interrupted("interrupted")
    if built.outcome is not Outcome.PASSED or built.image is None:
        raise FactoryError(f"{cell.id} cannot be built again: {built.reason}; {built.log} says more")
    try:
        found = _compare(first, built.image, engine, stop, on_note)
    finally:
        if not keep:
            engine.remove_image(step.request.tag)
    return Reproduction(origin=origin, image=built.image.id, comparison=found, seconds=built.seconds, ground=ground)


def _cell(source: Project, origin: BuildOrigin, as_is: bool) -> Cell:
    where = "this checkout" if as_is else f"commit {origin.revision[:12]}"
    for cell in source.cells:
        if cell.id == origin.cell:
            return cell
    raise UsageError(f"{where} has no cell {origin.cell}, which {origin.name} says it is")


def _step(
    source: Project,
    cell: Cell,
    origin: BuildOrigin,
    engine: DockerEngine,
    wishes: RunOptions,
    as_is: bool,
    environ: Mapping[str, str],
    on_note: Callable[[str], None],
) -> tuple[BuildStep, tuple[str, ...]]:
    """The one step of the build, and what it stands on that the image did not."""
    plan = make_plan(
        (cell,),
        registries=source.base_arguments((cell,), wishes.region),
        overrides=read_overrides(wishes),
        jobs=1,
        timeout=wishes.timeout,
    )
    holdings = engine.local_images()
    for reference in bootstrappable_bases(plan):
        if reference not in source.locked_bases and holdings.find(reference) is None:
            on_note(f"base {reference}: bringing it, which takes a minute")
            ensure_base(reference)
    holdings = engine.local_images()
    plan = without_orphans(plan, holdings, source)
    if plan.steps[0].action is Action.SKIP:
        raise ToolError(plan.steps[0].reason)
    labels = revision_labels(source.root) if as_is else {REVISION_LABEL: origin.revision}
    plan = decide_actions(plan, source.root, holdings, bases=source.locked_bases, no_cache=True)
    plan = add_input_labels(plan, source.root, labels)
    own = dict(plan.steps[0].request.labels)
    unlike = source_difference(origin, own)
    if unlike and not as_is:
        raise UsageError(f"{origin.name} was not built from commit {origin.revision[:12]}: {unlike}")
    if unlike:
        on_note(f"this checkout is not what {origin.name} was built from: {unlike}")
    locks = {cell.id: read_text(source.root / cell.lock) or ""}
    hosts = prepare_contexts(source.state.host_contexts, locks, environ=environ, home=Path.home(), wheels=wishes.wheels)
    (step,) = add_host_contexts(plan, hosts.folders).steps
    return step.with_request(tag=f"{REPOSITORY}:{cell.id}", epoch=origin.epoch), base_differences(origin, own)


def _compare(
    first: SourceImage, second: BuiltImage, engine: DockerEngine, stop: Stop, on_note: Callable[[str], None]
) -> Comparison:
    if first.origin.id == second.id:
        return Comparison(level=Similarity.DIGEST)

    def check() -> None:
        if stop.is_set():
            raise Interrupted("interrupted")

    on_note("the digests differ: reading both images")
    known: dict[str, LayerContents] = {}
    after = open_local_image(second.id, engine).read(check, known)
    return compare_images(first.read(check, known), after)
