"""Name every path in the state folder of a project, `.rlimages`."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

STATE = ".rlimages"
"""Name of the state folder below the project root. It is never committed, and may be deleted between runs."""


@dataclass(frozen=True)
class StateFolder:
    """Logs, reports, journals and caches of a project on this machine."""

    root: Path
    """The folder `.rlimages` itself."""

    @property
    def runs(self) -> Path:
        """One folder for each run, with its logs and reports; `latest` is a link to the newest."""
        return self.root / "runs"

    @property
    def history(self) -> Path:
        """The file with the durations and sizes of earlier builds and checks."""
        return self.root / "history.json"

    @property
    def check_cache(self) -> Path:
        """Checks that passed, one file for each image and program, so that they are not run again."""
        return self.root / "proofs"

    @property
    def pass_records(self) -> Path:
        """Pass records: one file for each image and set of checks."""
        return self.root / "passes"

    @property
    def releases(self) -> Path:
        """One folder for each release, with its journal."""
        return self.root / "releases"

    @property
    def blobs(self) -> Path:
        """Compressed layers that wait for their upload. Emptied after a release."""
        return self.root / "blobs"

    @property
    def packed(self) -> Path:
        """Digests of packed layers, so that no layer is compressed twice. Kept after a release."""
        return self.root / "packed"

    @property
    def host_contexts(self) -> Path:
        """One build context for each cell, with this machine's certificates, pip configuration and wheels."""
        return self.root / "buildhost"

    @property
    def reproductions(self) -> Path:
        """Logs of `rlimages reproduce`, one folder for each cell."""
        return self.root / "reproductions"

    @property
    def inventories(self) -> Path:
        """Logs of `rlimages sbom`, one folder for each image."""
        return self.root / "inventory"

    @property
    def jobs(self) -> Path:
        """Results of `rlimages train`, one folder for each job."""
        return self.root / "jobs"

    @property
    def transforms(self) -> Path:
        """Results of `rlimages transform`, one folder for each job."""
        return self.root / "transforms"

    def open_run(self) -> Path:
        """Create the folder of a new run, point `latest` at it, and return it. Its name is the run's name."""
        folder = self.runs / new_run_name()
        (folder / "logs").mkdir(parents=True)
        # A rename replaces the link in one step: `latest` exists at every moment, also for other processes.
        link = self.runs / f".latest-{os.getpid()}"
        link.symlink_to(folder.name)
        link.replace(self.runs / "latest")
        return folder


def current_state_folder() -> StateFolder:
    """Return the state folder in the current directory, for commands that work without a project.

    Its paths are relative, as the results of these commands are shown to people.
    """
    return StateFolder(Path(STATE))


def new_run_name() -> str:
    """Return a name from the time and the process id: unique on this machine, and sorted by time."""
    return f"{datetime.now(UTC).strftime('%Y%m%dT%H%M%S.%f')}-{os.getpid()}"
