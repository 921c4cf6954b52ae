"""The folder of a run: `.rlimages/runs/<run>/` with its logs and reports, and the link `latest`."""

from pathlib import Path

from rlimages.results import RunReport


def open_run(root: Path) -> Path:
    """Make the folder of a new run, point `latest` at it, and return it; its name is the name of the run."""
    raise NotImplementedError


def write_report(folder: Path, report: RunReport) -> None:
    """Write `report.txt`, `report.json` and `junit.xml` into the folder of a run."""
    raise NotImplementedError
