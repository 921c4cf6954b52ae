"""Say what happened in a run: as a table, as JSON, as JUnit XML. Values in, text out."""

from rlimages.results import RunReport


def text(report: RunReport) -> str:
    """The table that people read, and below it what failed and why."""
    raise NotImplementedError


def json(report: RunReport) -> str:
    """Everything, for programs."""
    raise NotImplementedError


def junit(report: RunReport) -> str:
    """One suite for each cell: its build, each check and each push. Skipped and not applicable are not passed."""
    raise NotImplementedError


def exit_code(report: RunReport) -> int:
    """0 when all passed, 130 when the run was interrupted, 1 otherwise: also when something was only skipped."""
    raise NotImplementedError
