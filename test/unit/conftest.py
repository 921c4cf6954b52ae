import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from rlimages.engine.container import ContainerRun
from rlimages.engine.protocol import BuildOutcome, BuildRequest, BuiltImage, InspectedImage
from rlimages.matrix.cell import Base, Cell, Framework, Processor, PythonRequirements, SystemPackages
from rlimages.plan.step import Action, BuildStep
from rlimages.project.project import Project, load_project
from rlimages.system.process import ProgramResult

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def project() -> Project:
    """Load the project in this repository."""
    return load_project(ROOT / "build_matrix.yaml", ROOT)


@pytest.fixture
def cell() -> Cell:
    return Cell(
        toolkit="ray",
        version="2.9.3",
        framework=Framework(name="tf", version="2.13.1"),
        processor=Processor.CPU,
        line="debian",
        base=Base(
            name="debian-12",
            registry=None,
            image="debian:bookworm-slim",
            os="debian12",
            packages="apt",
            python="3.11",
            python_release="3.11",
            platform="manylinux_2_28",
            interpreter="python3",
            cuda=None,
            framework=None,
        ),
        requirements=PythonRequirements(as_of="2024-03-01", direct=("ray[rllib]==2.9.3", "lz4")),
        system=SystemPackages(run=("python3",), build=("gcc",)),
        repository="sagemaker-rl-ray-container",
        tag="ray-2.9.3-tf-cpu-py311-debian12",
        aliases=("ray-2.9-tf-cpu-py311-debian12",),
    )


settings.register_profile("quick", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", max_examples=5000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


CELLS: dict[str, str] = {}
"""Local name -> cell id of every step that a test made: a build request has no cell id."""


class FakeEngine:
    """An engine without Docker: it records its calls and returns prepared results."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, ...]] = []
        self.builds: dict[str, list[BuildOutcome | Callable[[], BuildOutcome]]] = {}
        """Cell id -> the results of its builds, in order; without one a build passes."""
        self.checks: dict[str, ContainerRun | Callable[[], ContainerRun]] = {}
        """Name of a program -> its result; without one a check passes."""
        self.store: dict[str, InspectedImage] = {}
        self.orphans: tuple[str, ...] = ()
        self.dangling: frozenset[str] = frozenset()

    def version(self) -> str:
        return "Fake 1.0"

    def build(self, request: BuildRequest, root: Path, log: Path, on_progress: Callable[[str], None]) -> BuildOutcome:
        cell = CELLS[request.tag]
        self.calls.append(("build", cell))
        on_progress("[os 1/2] FROM somewhere")
        log.write_text("it was built\n")
        answers = self.builds.get(cell)
        answer = answers.pop(0) if answers else self.builds_image(request.tag)
        return answer if isinstance(answer, BuildOutcome) else answer()

    def passes(self, step: BuildStep) -> BuildOutcome:
        return self.builds_image(step.request.tag)

    def builds_image(self, tag: str) -> BuildOutcome:
        cell = CELLS[tag]
        name = f"sha256:{cell}"
        image = InspectedImage(
            image=BuiltImage(id=name, size=227_000_000),
            labels={"rlimages.cell": cell},
            env=("PATH=/usr/bin", "ODD=a=b"),
            entrypoint=("/entry",),
            command=(),
            user="",
            workdir="/opt/ml/code",
        )
        self.store[name] = self.store[tag] = image
        return BuildOutcome(process=ProgramResult(code=0, seconds=0.0), image=name)

    def run_in_image(self, image: str, argv: Sequence[str], folder: Path, log: Path, timeout: float) -> ContainerRun:
        program = argv[-1].rpartition("/")[2]
        self.calls.append(("run_in_image", image, program))
        assert (folder / program).is_file()
        answer = self.checks.get(
            program, ContainerRun(process=ProgramResult(code=0, seconds=0.5), last_line="it is so")
        )
        return answer if isinstance(answer, ContainerRun) else answer()

    def inspect(self, reference: str) -> InspectedImage | None:
        return self.store.get(reference)

    def save(self, image: str) -> Iterator[bytes]:
        self.calls.append(("save", image))
        yield b""

    def remove_orphans(self) -> tuple[str, ...]:
        self.calls.append(("remove_orphans",))
        return self.orphans

    def remove_dangling(self, images: Collection[str]) -> tuple[str, ...]:
        self.dangling = frozenset(images)
        return ()


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


@pytest.fixture
def make_step(cell: Cell) -> Callable[..., BuildStep]:
    """Make a step for the cell with another version, so that ids differ."""

    def make(version: str = "2.9.3", **changes: Any) -> BuildStep:
        mine = replace(cell, version=version, tag=f"ray-{version}", aliases=(f"ray-{version}-alias",))
        CELLS[mine.local_name] = mine.id
        request = BuildRequest(
            dockerfile=mine.dockerfile,
            tag=mine.local_name,
            arguments=(("processor", "cpu"),),
            contexts=(),
            timeout=60,
        )
        words: dict[str, Any] = {"cell": mine, "action": Action.BUILD, "reason": "chosen", "request": request}
        return BuildStep(**{**words, **changes})

    return make


@pytest.fixture
def step(make_step: Callable[..., BuildStep]) -> BuildStep:
    return make_step()
