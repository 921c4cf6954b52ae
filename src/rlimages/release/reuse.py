"""Find images in a registry that are already built and checked, so that a run need not build them."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from rlimages.checks.inspection import ImageFacts
from rlimages.checks.pass_record import PassRecord, find_record, suite_digest
from rlimages.engine.protocol import BuiltImage
from rlimages.errors import RegistryError
from rlimages.matrix.cell import Cell
from rlimages.oci.labels import BUILD_LABEL
from rlimages.oci.manifest import ImageConfig, Manifest, parse_config
from rlimages.plan.results import BuildResult, CellReport, Outcome, SmokeResult
from rlimages.plan.step import Action, BuildPlan, BuildStep
from rlimages.registry.client import RegistryClient
from rlimages.release.model import RegistryConnection, ReleaseItem, build_tag

PARALLEL_LOOKUPS = 8


@dataclass(frozen=True, kw_only=True)
class ReusedImage:
    """An image of a registry that need not be built."""

    step: BuildStep
    manifest: Manifest
    facts: ImageConfig
    proof: PassRecord
    opened: RegistryConnection
    repository: str

    @property
    def specimen(self) -> ImageFacts:
        """As the acceptance gate sees it: its files were judged when it came here."""
        return ImageFacts(
            reference=self.step.cell.id,
            origin=self.opened.place.host,
            id=self.manifest.digest,
            manifest=self.manifest,
            configuration=self.facts,
            unpacked=None,
            entries=None,
            tags=self.step.cell.tags,
        )

    @property
    def report(self) -> CellReport:
        """As a run reports it: nothing was done today."""
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
                    reason=f"recorded in the registry, {self.proof.at}",
                    seconds=0.0,
                    log="",
                )
                for check, outcome in self.proof.checks.items()
            ),
            image=image,
        )


def find_reusable(
    plan: BuildPlan, opened: RegistryConnection, suite: Callable[[Cell], Sequence[Path]], proofs: Path
) -> tuple[BuildPlan, Mapping[str, ReusedImage]]:
    """The same plan, with nothing built that a place has; and what that is, by cell.

    `suite` gives the programs that check a cell, `proofs` is where this machine's records of them are. Raises
    `RegistryError` where the registry does not answer.
    """
    asked = [step for step in plan.of(Action.BUILD) if step.digest and not step.request.no_cache]
    with ThreadPoolExecutor(max_workers=PARALLEL_LOOKUPS) as pool:
        found = {
            one.step.cell.id: one
            for one in pool.map(lambda step: _find_image(step, opened, suite(step.cell), proofs), asked)
            if one is not None
        }
    steps = tuple(found[step.cell.id].step if step.cell.id in found else step for step in plan.steps)
    return replace(plan, steps=steps), found


def _find_image(
    step: BuildStep, opened: RegistryConnection, programs: Sequence[Path], proofs: Path
) -> ReusedImage | None:
    registry = opened.registry
    cell = step.cell
    item = ReleaseItem(cell=cell.id, repository=cell.repository, image="", tags=cell.tags, build=step.digest)
    repository = opened.place.repository(item)
    tag = build_tag(step.digest)
    manifest = registry.manifest(repository, tag)
    if manifest is None or manifest.config is None:
        return None
    facts = _image_facts(registry, repository, manifest)
    if facts is None or facts.labels.get(BUILD_LABEL) != step.digest:
        return None
    suite = suite_digest(programs)
    record = find_record(manifest.image, suite, registry=registry, repository=repository, folder=proofs)
    if record is None:
        return None
    reason = f"{opened.place.host}/{repository} has it, checked on {record.at[:10]}"
    told = replace(step, action=Action.RETAG, reason=reason, changes=(), image_id=manifest.image)
    return ReusedImage(step=told, manifest=manifest, facts=facts, proof=record, opened=opened, repository=repository)


def _image_facts(registry: RegistryClient, repository: str, manifest: Manifest) -> ImageConfig | None:
    try:
        return parse_config(registry.blob(repository, manifest.image), f"{repository}@{manifest.digest}")
    except RegistryError:
        return None
