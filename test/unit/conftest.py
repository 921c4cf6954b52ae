import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from rlimages.cell import Base, Cell, Framework, Processor, Requirements, SystemPackages
from rlimages.container import Checked
from rlimages.engine import Built, LocalImage
from rlimages.plan import Action, BuildStep
from rlimages.project import Project, load
from rlimages.registry import Manifest
from rlimages.results import Image
from rlimages.shell import Ended

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def project() -> Project:
    """The project itself: its matrix is the best example there is."""
    return load(ROOT / "build_matrix.yaml", ROOT)


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
            interpreter="python3",
            cuda=None,
            framework=None,
        ),
        requirements=Requirements(as_of="2024-03-01", direct=("ray[rllib]==2.9.3", "lz4")),
        system=SystemPackages(run=("python3",), build=("gcc",)),
        repository="sagemaker-rl-ray-container",
        tag="ray-2.9.3-tf-cpu-py311-debian12",
        aliases=("ray-2.9-tf-cpu-py311-debian12",),
    )


settings.register_profile("quick", max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("long", max_examples=5000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))
