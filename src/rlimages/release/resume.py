"""Resume a release from its journal, or roll it back. `promote` uses `deliver_release` too."""

from collections.abc import Mapping
from contextlib import ExitStack

from rlimages.checks.pass_record import PassRecord, newest_record
from rlimages.engine.docker import DockerEngine
from rlimages.engine.protocol import BuiltImage
from rlimages.matrix.cell import Cell
from rlimages.plan.results import CellReport
from rlimages.project.project import Project
from rlimages.release.deliver import deliver, roll_back
from rlimages.release.journal import Release, reopen_release
from rlimages.release.model import ReleaseState
from rlimages.release.packing import clear_packed
from rlimages.release.requirements import RequirementChecker
from rlimages.release.results import RegistryResult
from rlimages.release.sboms import inherited_sboms, make_sboms
from rlimages.release.sources import ImageSource, LocalStoreSource, RegistrySource
from rlimages.release.target import ReleaseTarget, open_target
from rlimages.release.targets_file import TARGETS_FILE, load_targets
from rlimages.system.context import RunContext


def resume_release(
    project: Project, name: str, *, allow_older: bool, context: RunContext
) -> tuple[RegistryResult, ...]:
    """Resume the release `name` in the registries where it is not complete. Return a result for each registry.

    The name `latest` stands for the newest release. `allow_older` lets tags move to older images. A failure of a
    registry is in its result. Raises `SelectionError` if there is no such release, or the target that it is promoted
    from does not exist any more; `ConfigError` for mistakes in `targets.yaml`, `UsageError` if the password of the
    signing key is missing, and `RegistryError` if AWS gives no credentials.
    """
    release = reopen_release(project.state.releases, name)
    target = _open_target_of(release, project, context.environ)
    newest = {item.cell: newest_record(item.image, project.state.pass_records) for item in release.items}
    pass_records = {cell: record for cell, record in newest.items() if record}
    return deliver_release(release, target, pass_records, project=project, allow_older=allow_older, context=context)


def roll_back_release(project: Project, name: str, *, context: RunContext) -> tuple[RegistryResult, ...]:
    """Undo every tag move of the release `name`: set the tag to the digest from before. Return a result per registry.

    The name `latest` stands for the newest release. A failure of a registry is in its result. Raises `SelectionError`
    if there is no such release, `ConfigError` for mistakes in `targets.yaml`, `UsageError` if the password of the
    signing key is missing, and `RegistryError` if AWS gives no credentials.
    """
    release = reopen_release(project.state.releases, name)
    target = _open_target_of(release, project, context.environ)
    return roll_back(
        release,
        target.connections,
        stop=context.stop,
        on_progress=lambda registry, line: context.note(f"{registry}: {line}"),
    )


def deliver_release(
    release: Release,
    target: ReleaseTarget,
    pass_records: Mapping[str, PassRecord],
    *,
    project: Project,
    allow_older: bool,
    context: RunContext,
) -> tuple[RegistryResult, ...]:
    """Release the images of `release` to all registries of `target`. Return a result for each registry.

    The images come from the target that the release's `source` names (a promotion), or from the local store of Docker.
    `pass_records` (by cell id) are pushed beside the images. `allow_older` lets tags move to older images. If all
    registries are released, the packed layers of the project are deleted.
    """

    def on_progress(registry: str, line: str) -> None:
        context.note(f"{registry}: {line}")

    with ExitStack() as stack:
        engine = DockerEngine(run=f"release-{release.name}", stop=context.stop)
        stack.callback(engine.close)
        source: ImageSource
        if release.source:
            promoted_from = stack.enter_context(
                open_target(project, _cells_of(release, project), target=release.source, environ=context.environ)
            )
            tags = {item.cell: item.tags[0] for item in release.items}
            source = RegistrySource(connections=promoted_from.connections, items=release.items, tags=tags)
            sboms = _attested_sboms(promoted_from, target, release, context)
        else:
            source = LocalStoreSource(engine.save, project.state)
            sboms = {}
            if target.requirements.key is not None:
                reports = [_report_of(cell, release) for cell in _cells_of(release, project)]
                sboms = make_sboms(reports, project, engine, release.folder)
        results = deliver(
            release,
            target.connections,
            source,
            pass_records=pass_records,
            requirements=RequirementChecker(
                requirements=target.requirements, release=release, sboms=sboms, context=context
            ),
            allow_older=allow_older,
            stop=context.stop,
            on_progress=on_progress,
        )
    if all(result.state is ReleaseState.RELEASED for result in results):
        # Kept until every registry has the release: a resumed release uploads the layers without packing them again.
        clear_packed(project.state)
    return results


def _open_target_of(release: Release, project: Project, environ: Mapping[str, str]) -> ReleaseTarget:
    """Return the open target of `release`: the one in `targets.yaml` with its name, or else the plain registry.

    `environ` has the key's password and Docker's settings. Raises `ConfigError`, `UsageError` or `RegistryError` for
    mistakes in files, a missing password, or missing AWS credentials.
    """
    cells = _cells_of(release, project)
    # The journal has one name for both, and a project that only uses `--to` has no targets.yaml.
    if (project.root / TARGETS_FILE).exists() and release.target in load_targets(project).by_name:
        return open_target(project, cells, target=release.target, environ=environ)
    return open_target(project, cells, to=release.target, environ=environ)


def _cells_of(release: Release, project: Project) -> list[Cell]:
    """Return the cells of the project whose images `release` has. Cells that the matrix lost since are left out."""
    return [cell for cell in project.cells if cell.id in release.cells]


def _report_of(cell: Cell, release: Release) -> CellReport:
    """Return a report for `cell` with only the id of the local image that `release` has for it."""
    image = next(item.image for item in release.items if item.cell == cell.id)
    return CellReport(cell=cell, image=BuiltImage(id=image, size=0))


def _attested_sboms(
    promoted_from: ReleaseTarget, target: ReleaseTarget, release: Release, context: RunContext
) -> Mapping[str, str]:
    """Return cell id -> SBOM (CycloneDX JSON text) from the verified attestations in the target `promoted_from`.

    They are read for the images of `release`. Empty if `promoted_from` or `target` has no key. Raises `RegistryError`
    if an image is not signed with the key of `promoted_from`, or has no attested SBOM.
    """
    key = promoted_from.requirements.key
    if target.requirements.key is None or key is None:
        return {}
    connection = promoted_from.connections[0]
    digests = {}
    for item in release.items:
        manifest = connection.client.read_manifest(connection.registry.repository(item), item.tags[0])
        if manifest is not None:
            digests[item] = manifest.digest
    return inherited_sboms(connection, digests, key, folder=release.folder / "source", context=context)
