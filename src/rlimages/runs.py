"""The folder of a run: `.rlimages/runs/<run>/` with its logs and reports, and the link `latest`."""

import os
from datetime import UTC, datetime
from pathlib import Path

from rlimages import report, tree
from rlimages.results import RunReport

STATE = ".rlimages"
"""Folder below the project root for logs, reports, releases and what passed before. Never committed."""


def open_run(state: Path) -> Path:
    """Make the folder of a new run below `state`, point `latest` at it, and return it; its name is the run's."""
    runs = state / "runs"
    folder = runs / name_run()
    (folder / "logs").mkdir(parents=True)
    link = runs / f".latest-{os.getpid()}"
    link.symlink_to(folder.name)
    link.replace(runs / "latest")
    return folder


def name_run() -> str:
    """Start time and process: unique on this machine."""
    return f"{datetime.now(UTC).strftime('%Y%m%dT%H%M%S.%f')}-{os.getpid()}"


def write_report(folder: Path, result: RunReport) -> None:
    """Write `report.txt`, `report.json` and `junit.xml` into the folder of a run."""
    tree.write(folder / "report.txt", report.text(result))
    tree.write(folder / "report.json", report.json(result))
    tree.write(folder / "junit.xml", report.junit(result))
