"""Define the paths in the state folder of a project, `.rlimages`."""

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

STATE = ".rlimages"
"""Name of the state folder below the project root. It is never committed, and may be deleted between runs."""


@dataclass(frozen=True)
class StateFolder:
    """The paths of the state folder, with the logs, reports, journals and caches of a project on this machine.

    A property returns a path, which need not exist.
    """

    root: Path
    """Path of the folder `.rlimages` itself."""

    @property
    def runs(self) -> Path:
        """The folder with one folder for each run, with its logs and reports; `latest` is a link to the newest."""
        return self.root / "runs"

    @property
    def history(self) -> Path:
        """The file with the durations and sizes of earlier builds and checks."""
        return self.root / "history.json"

    @property
    def check_cache(self) -> Path:
        """The folder with one file for each image and check program that passed, so that it is not run again."""
        return self.root / "proofs"

    @property
    def pass_records(self) -> Path:
        """The folder with the pass records: a file for each image and set of checks, all of which it passed."""
        return self.root / "passes"

    @property
    def releases(self) -> Path:
        """The folder with one folder for each release, with its journal."""
        return self.root / "releases"

    @property
    def blobs(self) -> Path:
        """The folder that keeps compressed layers until they are uploaded. It is emptied after a release."""
        return self.root / "blobs"

    @property
    def packed(self) -> Path:
        """The folder with the digests of compressed layers, so that no layer is compressed twice. Releases keep it."""
        return self.root / "packed"

    @property
    def host_contexts(self) -> Path:
        """The folder with a build context for each cell: certificates, pip configuration and wheels of this machine."""
        return self.root / "buildhost"

    @property
    def reproductions(self) -> Path:
        """The folder with the logs of `rlimages reproduce`, in one folder for each cell."""
        return self.root / "reproductions"

    @property
    def inventories(self) -> Path:
        """The folder with the logs of `rlimages sbom`, in one folder for each image."""
        return self.root / "inventory"

    @property
    def jobs(self) -> Path:
        """The folder with the results of `rlimages train`, in one folder for each job."""
        return self.root / "jobs"

    @property
    def transforms(self) -> Path:
        """The folder with the results of `rlimages transform`, in one folder for each job."""
        return self.root / "transforms"

    def open_run(self) -> Path:
        """Create the folder of a new run, with a folder `logs` in it, and point the link `latest` at it.

        Return the folder, whose name is the name of the run.
        """
        folder = self.runs / new_run_name()
        (folder / "logs").mkdir(parents=True)
        # A rename replaces the link in one step: `latest` exists at every moment, also for other processes.
        link = self.runs / f".latest-{os.getpid()}"
        link.symlink_to(folder.name)
        link.replace(self.runs / "latest")
        return folder


def current_state_folder() -> StateFolder:
    """Return the state folder in the current directory, for commands that work without a project.

    Its paths are relative, because these commands print them. The folder is not created.
    """
    return StateFolder(Path(STATE))


def new_run_name() -> str:
    """Return a name for a run from the time in UTC and the process id.

    It is unique on this machine, and names sort by time.
    """
    return f"{datetime.now(UTC).strftime('%Y%m%dT%H%M%S.%f')}-{os.getpid()}"
