"""A project of one tiny cell. As a program, `one_cell.py ROOT RUN` builds and checks the cell once."""

import os
import sys
from dataclasses import replace
from pathlib import Path

from rlimages.engine.docker import DockerEngine
from rlimages.matrix.cell import Cell
from rlimages.plan.planner import make_plan
from rlimages.plan.step import BuildPlan, Stage
from rlimages.project.project import load_project
from rlimages.run.report import report_exit_code, report_text
from rlimages.run.scheduler import run_plan
from rlimages.run.stages import StageContext
from rlimages.system.process import Stop, stopping_on_signals

ROOT = Path(__file__).resolve().parents[2]
IMAGE = "debian:bookworm-slim"
WORKER = os.environ.get("PYTEST_XDIST_WORKER", "")
REPOSITORY = f"rlimages-test-{WORKER}" if WORKER else "rlimages-test"
"""Workers share one engine, so each worker has its own image names."""
TOOLKIT = f"tiny{WORKER}"


def make_cell(version: str = "1.0") -> Cell:
    """Return a small variant of a cell of the matrix. Its checks are shell scripts, because the image has no Python."""
    cell = next(cell for cell in load_project(ROOT / "build_matrix.yaml", ROOT).cells if cell.base.image == IMAGE)
    return replace(
        cell,
        toolkit=TOOLKIT,
        version=version,
        framework=None,
        base=replace(cell.base, interpreter="sh"),
        repository=REPOSITORY,
        tag=version,
        aliases=(f"{version}-alias",),
    )


def write_project(root: Path, dockerfile: str, checks: dict[str, str], version: str = "1.0") -> Cell:
    """Write the Dockerfile and the checks of a cell, and return the cell."""
    cell = make_cell(version)
    path = root / cell.dockerfile
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dockerfile)
    folder = root / "templates" / "smoke"
    folder.mkdir(parents=True, exist_ok=True)
    for name, program in checks.items():
        (folder / f"check_{name}.py").write_text(program)
    return cell


def plan(*cells: Cell, timeout: int = 60) -> BuildPlan:
    """Return the build plan of some cells; `timeout` is in seconds."""
    return make_plan(cells, jobs=2, timeout=timeout)


def print_now(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def main(root: Path, name: str) -> int:
    stop = Stop()
    folder = root / "runs" / name
    folder.mkdir(parents=True)
    with stopping_on_signals(stop):
        context = StageContext(
            plan=plan(make_cell()),
            stages=(Stage.BUILD, Stage.SMOKE),
            roots=(root,),
            folder=folder,
            engine=DockerEngine(run=name, stop=stop),
            stop=stop,
        )
        report = run_plan(context, on_event=lambda event: print_now(f"{event.stage} {event.detail}\n"))
    print_now(report_text(report))
    return report_exit_code(report)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2]))
