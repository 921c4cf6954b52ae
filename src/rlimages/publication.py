"""The end of a run that publishes: what the registry has already, packing while others build, the release."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rlimages import destination, forwarding, packing, recall, releasing
from rlimages.cell import Cell
from rlimages.destination import PROOFS, Destination
from rlimages.distribution import Manifest
from rlimages.docker_engine import DockerEngine
from rlimages.errors import Interrupted
from rlimages.event import Event
from rlimages.plan import BuildPlan
from rlimages.preparing import Wishes
from rlimages.project import Project
from rlimages.recall import Recalled
from rlimages.results import CellReport, RunReport
from rlimages.runs import STATE
from rlimages.shell import Stop


@dataclass(kw_only=True)
class Publication:
    """Where the images of one run go."""

    project: Project
    there: Destination
    wishes: Wishes
    environ: Mapping[str, str]
    stop: Stop
    recalled: Mapping[str, Recalled] = field(default_factory=dict)
    """By cell, what the first place has already."""

    def __enter__(self) -> "Publication":
        """Itself; for those who only ask."""
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up. A release does so by itself."""
        for opened in self.there.places:
            opened.registry.close()

    def take_over(self, todo: BuildPlan) -> BuildPlan:
        """The same plan, with nothing built that the first place has, checked."""
        if self.wishes.fresh:
            return todo
        state = self.project.root / STATE
        todo, self.recalled = recall.recall(
            todo, self.there.places[0], destination.checks_of(self.project), state / PROOFS
        )
        return todo

    @property
    def elsewhere(self) -> Mapping[str, CellReport]:
        """What need not be done here, by cell."""
        return {name: one.report for name, one in self.recalled.items()}

    def forwarder(self, engine: DockerEngine) -> Callable[[CellReport], None]:
        """Sends the layers of an image as soon as it passed and the target's profiles have nothing against it."""
        wanted = releasing.profiles_of(self.there, self.project)

        def pieces(image: str) -> Iterator[bytes]:
            for piece in engine.save(image):
                if self.stop.is_set():
                    raise Interrupted("interrupted")
                yield piece

        def judge(cell: CellReport, manifest: Manifest) -> None:
            releasing.insist([cell], (), wanted, engine, {cell.cell.id: manifest})

        fetch = packing.from_store(lambda image: lambda: pieces(image), self.project.root / STATE)
        return forwarding.forwarder(fetch, self.there.places, judge=judge, stop=self.stop)

    def release(
        self, report: RunReport, engine: DockerEngine, folder: Path, on_event: Callable[[Event], None]
    ) -> RunReport:
        """Release what passed. Raises what stops a release before its first move."""
        report, _ = releasing.release(
            report,
            self.there,
            project=self.project,
            engine=engine,
            folder=folder,
            environ=self.environ,
            stop=self.stop,
            on_event=on_event,
            may_go_back=self.wishes.allow_older,
            recalled=self.recalled,
        )
        return report


def open_publication(
    project: Project, wishes: Wishes, cells: tuple[Cell, ...], *, environ: Mapping[str, str], stop: Stop
) -> Publication:
    """Look at where it goes, before anything is done. Raises what `destination.destination` raises."""
    there = destination.destination(project, cells, to=wishes.to, target=wishes.target, environ=environ)
    return Publication(project=project, there=there, wishes=wishes, environ=environ, stop=stop)
