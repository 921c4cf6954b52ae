"""Find in a registry what was built and checked before: such an image gets its tags there, and is never pulled.

A release leaves the tag `build-<digest>` on each image. An image counts if it says the same build digest of itself and
the PASS of the checks as they are now is recorded for it; whatever else a registry says means build.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from rlimages import proof
from rlimages.cell import Cell
from rlimages.distribution import Configuration, Manifest, configuration
from rlimages.errors import RegistryError
from rlimages.holdings import BUILD_LABEL
from rlimages.places import Opened
from rlimages.plan import Action, BuildPlan, BuildStep
from rlimages.proof import Proof
from rlimages.registry import Registry
from rlimages.results import BuildResult, CellReport, Image, Outcome, SmokeResult
from rlimages.shipment import Item, build_tag
from rlimages.specimen import Specimen

AT_ONCE = 8


@dataclass(frozen=True, kw_only=True)
class Recalled:
    """An image of a registry that need not be built."""

    step: BuildStep
    manifest: Manifest
    facts: Configuration
    proof: Proof
    opened: Opened
    repository: str

    @property
    def specimen(self) -> Specimen:
        """As the acceptance gate sees it: its files were judged when it came here."""
        return Specimen(
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
        image = Image(id=self.manifest.image, size=0)
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


def recall(
    plan: BuildPlan, opened: Opened, suite: Callable[[Cell], Sequence[Path]], proofs: Path
) -> tuple[BuildPlan, Mapping[str, Recalled]]:
    """The same plan, with nothing built that a place has; and what that is, by cell.

    `suite` gives the programs that check a cell, `proofs` is where this machine's records of them are. Raises
    `RegistryError` where the registry does not answer.
    """
    asked = [step for step in plan.of(Action.BUILD) if step.digest and not step.no_cache]
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        found = {
            one.step.cell.id: one
            for one in pool.map(lambda step: _find(step, opened, suite(step.cell), proofs), asked)
            if one is not None
        }
    steps = tuple(found[step.cell.id].step if step.cell.id in found else step for step in plan.steps)
    return replace(plan, steps=steps), found


def _find(step: BuildStep, opened: Opened, programs: Sequence[Path], proofs: Path) -> Recalled | None:
    registry = opened.registry
    cell = step.cell
    item = Item(cell=cell.id, repository=cell.repository, image="", tags=cell.tags, build=step.digest)
    repository = opened.place.repository(item)
    tag = build_tag(step.digest)
    manifest = registry.manifest(repository, tag)
    if manifest is None or manifest.config is None:
        return None
    facts = _facts(registry, repository, manifest)
    if facts is None or facts.labels.get(BUILD_LABEL) != step.digest:
        return None
    suite = proof.suite_of(programs)
    record = proof.find(manifest.image, suite, registry=registry, repository=repository, folder=proofs)
    if record is None:
        return None
    reason = f"{opened.place.host}/{repository} has it, checked on {record.at[:10]}"
    told = replace(step, action=Action.RETAG, reason=reason, changes=(), held=manifest.image)
    return Recalled(step=told, manifest=manifest, facts=facts, proof=record, opened=opened, repository=repository)


def _facts(registry: Registry, repository: str, manifest: Manifest) -> Configuration | None:
    try:
        return configuration(registry.blob(repository, manifest.image), f"{repository}@{manifest.digest}")
    except RegistryError:
        return None
