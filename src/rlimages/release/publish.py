"""Publish the images that a run built and checked.

A release goes like this:

1. `publish_images` applies the target's acceptance profiles to every image, packs it, and applies them to it as packed.
2. It starts the journal (`journal`) and gets what is stored beside the images: pass records and SBOMs (`sboms`).
3. `deliver.deliver` serves all registries of the target at once; in each, `transaction.ReleaseTransaction` records the
   digest of every tag, uploads the images and reads them back.
4. `requirements` scans, signs and attests them. Then the transaction moves the tags: own tags first, aliases last.
5. The result of each registry goes into the run's report, with the command that resumes the release or rolls it back.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import monotonic

from rlimages.checks.acceptance import apply_profile, check_local_image, require_accepted
from rlimages.checks.pass_record import PassRecord, make_record, store_record
from rlimages.checks.profiles import Profile
from rlimages.checks.suite import check_programs
from rlimages.engine.docker import DockerEngine
from rlimages.errors import Interrupted
from rlimages.oci.labels import BUILD_LABEL
from rlimages.oci.manifest import Manifest
from rlimages.plan.events import Event, EventReporter
from rlimages.plan.results import CellReport, Outcome, RunReport
from rlimages.plan.step import Stage
from rlimages.project.project import Project
from rlimages.release.deliver import deliver
from rlimages.release.journal import start_release
from rlimages.release.model import ReleaseItem, ReleaseState, release_item
from rlimages.release.packing import EarlyUploader, clear_packed, pack_all
from rlimages.release.requirements import RequirementChecker
from rlimages.release.results import release_notes, with_results
from rlimages.release.reuse import ReusedImage
from rlimages.release.sboms import inherited_sboms, make_sboms
from rlimages.release.sources import ImageSource, LocalStoreSource, MixedSource, RegistrySource
from rlimages.release.tags import build_tag
from rlimages.release.target import ReleaseTarget
from rlimages.system.context import RunContext
from rlimages.system.process import Stop


def publish_images(
    report: RunReport,
    target: ReleaseTarget,
    *,
    project: Project,
    engine: DockerEngine,
    folder: Path,
    reused: Mapping[str, ReusedImage],
    allow_older: bool,
    context: RunContext,
    on_event: Callable[[Event], None],
) -> RunReport:
    """Release to `target` the images of the cells that passed. Return `report` with the results and notes added.

    If a cell did not pass, nothing is released to a target of `targets.yaml`, and the other images to a plain registry.
    `reused` (by cell id) are the images that are not local: the first registry of the target has them. `folder` is the
    run's folder and gets the logs of the SBOMs. `allow_older` lets tags move to older images. `on_event` gets the
    progress of the stage `publish`. A failure of a registry is in the returned report. Raises `AcceptanceError`, before
    any registry is changed, if an image breaks a rule of the target's acceptance profiles.
    """
    passed = [cell for cell in report.cells if cell.outcome is Outcome.PASSED and cell.image]
    failed = [cell.cell.id for cell in report.cells if cell not in passed]
    if not passed:
        return report
    if failed and target.name:
        note = f"nothing is published to {target.name}, because these did not pass: {', '.join(failed)}"
        return replace(report, notes=(*report.notes, note))
    started = monotonic()
    built = [cell for cell in passed if cell.cell.id not in reused]
    items = [_release_item(cell, reused, engine) for cell in passed]
    local = LocalStoreSource(engine.save, project.state)
    events = EventReporter(on_event, total=len(target.connections))

    def report_progress(name: str, detail: str, outcome: Outcome | None = None) -> None:
        events.report(name, Stage.PUBLISH, outcome, detail, monotonic() - started)

    profiles = target.profiles(project)
    if profiles:
        # Judged twice: packing takes minutes, and most rules do not depend on it.
        _require_accepted(built, reused.values(), profiles, engine, packed={})
        built_items = [item for item in items if item.cell not in reused]
        packed = pack_all(built_items, target.connections, local, stop=context.stop, on_progress=report_progress)
        # Reused images are not packed: their manifests were known to the first check.
        _require_accepted(built, (), profiles, engine, packed)

    release = start_release(project.state.releases, target.label, items)
    for connection in target.connections:
        report_progress(connection.registry.name, "")
    sboms: Mapping[str, str] = {}
    if target.requirements.key is not None:
        sboms = {
            **make_sboms(built, project, engine, folder),
            **_reused_sboms(reused, target, folder / "recalled", context),
        }
    pass_records = {
        **_store_pass_records(built, project),
        **{cell: image.pass_record for cell, image in reused.items()},
    }
    source: ImageSource = local
    if reused:
        tags = {cell: build_tag(image.step.digest) for cell, image in reused.items()}
        registry_source = RegistrySource(connections=target.connections[:1], items=items, tags=tags)
        source = MixedSource(local=local, registry=registry_source, in_registry=reused)

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
        on_progress=report_progress,
    )
    for result in results:
        events.count_finished()
        released = result.state is ReleaseState.RELEASED
        report_progress(result.registry, result.reason, Outcome.PASSED if released else Outcome.FAILED)
    if all(result.state is ReleaseState.RELEASED for result in results):
        clear_packed(project.state)
    return replace(
        report,
        cells=tuple(with_results(cell, results) if cell in passed else cell for cell in report.cells),
        notes=(*report.notes, *release_notes(release.name, results)),
        seconds=report.seconds + monotonic() - started,
    )


def early_uploader(target: ReleaseTarget, project: Project, engine: DockerEngine, stop: Stop) -> EarlyUploader:
    """Return an uploader of layers for the time of the builds. It sends only images that `target` accepts.

    The images are read from the local store of `engine`. Packing and uploading end when `stop` is set.
    """
    profiles = target.profiles(project)

    def save(image: str) -> Iterator[bytes]:
        for chunk in engine.save(image):
            if stop.is_set():
                raise Interrupted("interrupted")
            yield chunk

    def require_accepted(cell: CellReport, manifest: Manifest) -> None:
        _require_accepted([cell], (), profiles, engine, {cell.cell.id: manifest})

    return EarlyUploader(
        source=LocalStoreSource(save, project.state),
        connections=target.connections,
        require_accepted=require_accepted,
        stop=stop,
    )


def _release_item(cell: CellReport, reused: Mapping[str, ReusedImage], engine: DockerEngine) -> ReleaseItem:
    """Return the release item for the image of `cell`, with its build digest (the digest of all build inputs).

    The build digest comes from the plan for an image in `reused`, and from the image's label for a local image; empty
    if it has no label.
    """
    assert cell.image is not None
    if cell.cell.id in reused:
        return release_item(cell.cell, cell.image.id, reused[cell.cell.id].step.digest)
    image = engine.inspect(cell.image.id)
    return release_item(cell.cell, cell.image.id, image.labels.get(BUILD_LABEL, "") if image else "")


def _require_accepted(
    built: Sequence[CellReport],
    reused: Iterable[ReusedImage],
    profiles: Sequence[Profile],
    engine: DockerEngine,
    packed: Mapping[str, Manifest],
) -> None:
    """Raise `AcceptanceError` that lists every rule of `profiles` that an image breaks.

    `built` are cells with a local image, `reused` are images in a registry. `packed` has, by cell id, the manifest that
    will be uploaded for a local image; without it, rules about manifests and compressed sizes are not applied.
    """
    local = (
        result
        for cell in built
        if cell.image
        for result in check_local_image(
            engine, cell.image.id, cell.cell.tags, profiles, name=cell.cell.id, manifest=packed.get(cell.cell.id)
        )
    )
    remote = (apply_profile(image.facts, profile) for image in reused for profile in profiles)
    require_accepted((*local, *remote))


def _reused_sboms(
    reused: Mapping[str, ReusedImage], target: ReleaseTarget, folder: Path, context: RunContext
) -> Mapping[str, str]:
    """Return cell id -> SBOM (CycloneDX JSON text) from the attestations that the target's key verifies.

    They are read from the first registry of `target`, which has the images of `reused`. `folder` gets the public key.
    Empty if the target has no key or nothing is reused. Raises `RegistryError` if an image has no valid attestation.
    """
    if target.requirements.key is None or not reused:
        return {}
    digests = {release_item(image.step.cell, image.manifest.image): image.manifest.digest for image in reused.values()}
    return inherited_sboms(target.connections[0], digests, target.requirements.key, folder=folder, context=context)


def _store_pass_records(built: Sequence[CellReport], project: Project) -> Mapping[str, PassRecord]:
    """Write a pass record for each cell whose image passed all checks. Return cell id -> pass record.

    The records are written to the folder for pass records in the project's state folder.
    """
    programs_of = check_programs(project)
    records = {}
    for cell in built:
        programs = programs_of(cell.cell)
        record = make_record(cell.image.id, programs, cell.smoke) if cell.image else None
        if record is not None:
            store_record(record, project.state.pass_records)
            records[cell.cell.id] = record
    return records
