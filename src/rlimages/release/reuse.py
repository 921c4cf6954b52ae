"""Find images in a registry that were built from the same inputs and passed their checks, so they need not be built."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from rlimages.checks.inspection import ImageFacts
from rlimages.checks.pass_record import PassRecord, find_record
from rlimages.checks.suite import check_programs, suite_digest
from rlimages.engine.protocol import BuiltImage
from rlimages.errors import RegistryError
from rlimages.oci.labels import BUILD_LABEL
from rlimages.oci.manifest import ImageConfig, Manifest, parse_config
from rlimages.plan.results import BuildResult, CellReport, Outcome, SmokeResult
from rlimages.plan.step import Action, BuildPlan, BuildStep
from rlimages.project.project import Project
from rlimages.registry.client import RegistryClient
from rlimages.release.model import RegistryConnection, release_item
from rlimages.release.tags import build_tag

PARALLEL_LOOKUPS = 8
"""Images that are looked up in the registry at the same time."""


@dataclass(frozen=True, kw_only=True)
class ReusedImage:
    """An image in a registry that was built from the current inputs of a cell, and is used in place of a build."""

    step: BuildStep
    """The step of the plan, with the action changed from BUILD to RETAG."""
    manifest: Manifest
    config: ImageConfig
    pass_record: PassRecord
    """The record that this image passed the current checks of its cell."""
    host: str
    """`host[:port]` of the registry that has the image."""

    @property
    def facts(self) -> ImageFacts:
        """The facts of the image that acceptance rules are applied to.

        The files are not among them: the rules about files were applied when the image was published.
        """
        return ImageFacts(
            reference=self.step.cell.id,
            origin=self.host,
            id=self.manifest.digest,
            manifest=self.manifest,
            config=self.config,
            unpacked_size=None,
            path_kinds=None,
            tags=self.step.cell.tags,
        )

    @property
    def report(self) -> CellReport:
        """The report of the cell in this run: build passed, checks as in the pass record, all with 0 seconds."""
        cell = self.step.cell
        image = BuiltImage(id=self.manifest.image, size=0)
        return CellReport(
            cell=cell,
            build=BuildResult(
                cell=cell, outcome=Outcome.PASSED, reason=self.step.reason, seconds=0.0, log="", image=image
            ),
            smoke=tuple(
                SmokeResult(
                    cell=cell,
                    check=check,
                    outcome=Outcome(outcome),
                    reason=f"recorded in the registry, {self.pass_record.at}",
                    seconds=0.0,
                    log="",
                )
                for check, outcome in self.pass_record.checks.items()
            ),
            image=image,
        )


def find_reusable(
    plan: BuildPlan, connection: RegistryConnection, project: Project
) -> tuple[BuildPlan, Mapping[str, ReusedImage]]:
    """Look in the registry of `connection` for images that `plan` would build from the same inputs.

    Return the plan with the action RETAG for each cell whose image was found, and cell id -> image. An image is found
    if it has the build digest (the digest of all build inputs) of its cell and a pass record for the current checks.
    Builds without cache (`--no-cache`) are not replaced. Raises `RegistryError` if the registry does not answer.
    """
    programs_of = check_programs(project)
    records = project.state.pass_records
    builds = [step for step in plan.steps_with(Action.BUILD) if step.digest and not step.request.no_cache]
    with ThreadPoolExecutor(max_workers=PARALLEL_LOOKUPS) as pool:
        found = pool.map(lambda step: _find_image(step, connection, programs_of(step.cell), records), builds)
        reused = {image.step.cell.id: image for image in found if image is not None}
    steps = tuple(reused[step.cell.id].step if step.cell.id in reused else step for step in plan.steps)
    return replace(plan, steps=steps), reused


def _find_image(
    step: BuildStep, connection: RegistryConnection, programs: Sequence[Path], records: Path
) -> ReusedImage | None:
    """Return the image that the registry has for the build digest of `step`; None if it has none that can be used.

    `programs` are the check programs of the cell, which the image's pass record must be for. `records` is the folder of
    this machine's pass records; records in the registry count too.
    """
    client = connection.client
    repository = connection.registry.repository(release_item(step.cell, ""))
    manifest = client.read_manifest(repository, build_tag(step.digest))
    if manifest is None or manifest.config is None:
        return None
    config = _read_config(client, repository, manifest)
    # Anybody who may push can set the tag, and it has only a part of the digest. The label is part of the image.
    if config is None or config.labels.get(BUILD_LABEL) != step.digest:
        return None
    suite = suite_digest(programs)
    record = find_record(manifest.image, suite, registry=client, repository=repository, folder=records)
    if record is None:
        return None
    host = connection.registry.host
    reason = f"{host}/{repository} has it, checked on {record.at[:10]}"
    reused = replace(step, action=Action.RETAG, reason=reason, changes=(), image_id=manifest.image)
    return ReusedImage(step=reused, manifest=manifest, config=config, pass_record=record, host=host)


def _read_config(client: RegistryClient, repository: str, manifest: Manifest) -> ImageConfig | None:
    """Return the configuration of the image `manifest`; None if the registry does not have it or it is not valid."""
    try:
        return parse_config(client.read_blob(repository, manifest.image), f"{repository}@{manifest.digest}")
    except RegistryError:
        return None
