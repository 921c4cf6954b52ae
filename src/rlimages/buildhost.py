"""Make the folder through which a build gets this machine's certificates, pip configuration and wheels.

The layout is `ca-certificates.crt`, `pip.conf`, `wheels/`; each is there only when there is something to say.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Buildhost:
    """The folders of a run, one for each cell so that one cell's wheels never disturb another's cache."""

    folders: Mapping[str, Path]
    """By cell id."""
    notes: tuple[str, ...]
    """What was taken from this machine, without credentials."""


def prepare(
    folder: Path,
    locks: Mapping[str, str],
    *,
    environ: Mapping[str, str],
    home: Path,
    wheels: Sequence[Path] = (),
    config_files: Iterable[Path] | None = None,
) -> Buildhost:
    """Write one buildhost folder below `folder` for each cell of `locks` (cell id -> text of its lock).

    Only wheels that the cell's lock names are taken, from `wheels`, the machine's find-links folders and its `file://`
    indexes. What is no longer wanted in a folder is removed.
    """
    raise NotImplementedError
