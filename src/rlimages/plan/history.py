"""Record how long the builds and checks of each cell took, and estimate from that how long the next ones will take."""

import fcntl
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

from rlimages.matrix.cell import Cell
from rlimages.project.state import StateFolder
from rlimages.system.files import read_text, write_text

KEPT = 5
"""Maximum number of build measurements, and of check measurements, kept for each cell. Estimates are their median."""
KEPT_IMAGES = 50
"""Maximum number of image ids kept for each cell. Images without a name are removed only if their id is kept."""
_FORMAT_VERSION = 1
"""Value of `version` in the history file. A file with any other value is not read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """The duration of one build and the size of its image, or the duration of all checks of one image."""

    seconds: float
    """Duration of the build, or the sum of the durations of all checks."""
    date: str
    """Date and time of the measurement: ISO 8601, UTC."""
    size: int = 0
    """Unpacked size in bytes of the image that was built; 0 for checks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CellHistory:
    """The measurements and the image ids of one cell, oldest first."""

    toolkit: str
    """Toolkit of the cell, such as `ray`. A cell without measurements is estimated from the cells of its toolkit."""
    builds: tuple[Measurement, ...] = ()
    """At most `KEPT` builds in which at least one RUN was executed."""
    checks: tuple[Measurement, ...] = ()
    """At most `KEPT` runs of all checks."""
    images: tuple[str, ...] = ()
    """Ids of at most `KEPT_IMAGES` images that were built on this machine."""


@dataclass(frozen=True, kw_only=True)
class History:
    """The measurements of all cells, and estimates from them."""

    records: Mapping[str, CellHistory] = field(default_factory=lambda: MappingProxyType({}))
    """Cell id -> measurements of the cell."""
    note: str = ""
    """A sentence that says why the history file cannot be read; empty if it was read or does not exist."""

    def has_build(self, cell: Cell) -> bool:
        """Return True if at least one build of `cell` itself was measured."""
        return cell.id in self.records and bool(self.records[cell.id].builds)

    def estimate(self, cell: Cell) -> float | None:
        """Return the estimated seconds of a build of `cell` and all its checks; None if no build was ever measured.

        The checks count as 0 seconds if none were ever measured.
        """
        build = self.estimate_build(cell)
        return None if build is None else build + (self.estimate_checks(cell) or 0.0)

    def estimate_build(self, cell: Cell) -> float | None:
        """Return the estimated seconds of a build of `cell`; None if no build of any cell was measured.

        The estimate is the median of the cell's builds, else the median of its toolkit, else the median of all cells.
        """
        return self._find(self._build_seconds, cell)

    def estimate_checks(self, cell: Cell) -> float | None:
        """Return the estimated seconds of all checks of `cell`, one after the other; None if no check was measured.

        The estimate is the median of the cell, else of its toolkit, else of all cells.
        """
        return self._find(self._check_seconds, cell)

    def estimate_size(self, cell: Cell) -> int | None:
        """Return the estimated unpacked size of the image of `cell` in bytes; None if no build was measured.

        The estimate is the median of the cell, else of its toolkit, else of all cells.
        """
        size = self._find(self._sizes, cell)
        return None if size is None else int(size)

    def images(self) -> frozenset[str]:
        """Return the ids of the recorded images of all cells: images that were built on this machine."""
        return frozenset(image for record in self.records.values() for image in record.images)

    @cached_property
    def _build_seconds(self) -> Mapping[str, float]:
        return self._medians({name: [it.seconds for it in record.builds] for name, record in self.records.items()})

    @cached_property
    def _check_seconds(self) -> Mapping[str, float]:
        return self._medians({name: [it.seconds for it in record.checks] for name, record in self.records.items()})

    @cached_property
    def _sizes(self) -> Mapping[str, float]:
        return self._medians({name: [it.size for it in record.builds] for name, record in self.records.items()})

    def _medians(self, values: Mapping[str, Collection[float]]) -> Mapping[str, float]:
        """Return the medians of `values` (cell id -> measured numbers) for each cell, each toolkit and all cells.

        The keys are the cell id for a cell, `<toolkit>/` for a toolkit and `/` for all cells. The medians of a toolkit
        and of all cells are medians of the cells' medians. A cell without numbers has no entry.
        """
        from statistics import median  # imports fractions and decimal, which takes longer than reading the history

        cells = {name: median(numbers) for name, numbers in values.items() if numbers}
        toolkits = {
            f"{toolkit}/": median(value for name, value in cells.items() if self.records[name].toolkit == toolkit)
            for toolkit in {self.records[name].toolkit for name in cells}
        }
        return {**cells, **toolkits, **({"/": median(cells.values())} if cells else {})}

    @staticmethod
    def _find(medians: Mapping[str, float], cell: Cell) -> float | None:
        return next((medians[key] for key in (cell.id, f"{cell.toolkit}/", "/") if key in medians), None)


def read_history(state: StateFolder) -> History:
    """Read the history of a project from its state folder `state`. Nothing is raised.

    The history is empty if there is no file, and empty with a `note` if the file cannot be read.
    """
    records, note = _read(state)
    return History(records=records, note=note)


def record_measurements(
    state: StateFolder,
    cell: Cell,
    *,
    build: Measurement | None = None,
    checks: Measurement | None = None,
    image: str = "",
) -> None:
    """Add measurements of `cell` to the history file in the state folder `state`.

    `build` is the measurement of a build, `checks` that of all checks of an image, and `image` the id of a new image;
    each may be left out. The oldest entries beyond `KEPT` and `KEPT_IMAGES` are dropped. Several runs may write at the
    same time: each holds a file lock while it reads and writes. Raises `OSError` if the file cannot be written.
    """
    if not (build or checks or image):
        return
    with _locked(state):
        records, _ = _read(state)
        old = records.get(cell.id, CellHistory(toolkit=cell.toolkit))
        new = replace(
            old,
            toolkit=cell.toolkit,
            builds=(*old.builds, *([build] if build else []))[-KEPT:],
            checks=(*old.checks, *([checks] if checks else []))[-KEPT:],
            images=(*(known for known in old.images if known != image), *([image] if image else []))[-KEPT_IMAGES:],
        )
        write_text(state.history, _format({**records, cell.id: new}))


def _read(state: StateFolder) -> tuple[Mapping[str, CellHistory], str]:
    """Read the history file in `state`. Return (cell id -> measurements, ""), or ({}, reason) if that fails.

    A file that does not exist is an empty history without a reason.
    """
    try:
        text = read_text(state.history)
        return (_parse(json.loads(text)) if text is not None else {}), ""
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return {}, f"{state.history}: cannot be read as a history ({error!r}); a new one is started"


def _format(records: Mapping[str, CellHistory]) -> str:
    """Return `records` (cell id -> measurements) as the JSON text of the history file, with one line for each cell."""
    # `json` is slow with `indent`, so only the single records are formatted by it.
    lines = ",\n".join(
        f"{json.dumps(name)}: {json.dumps(_record_facts(record))}" for name, record in sorted(records.items())
    )
    return f'{{"version": {_FORMAT_VERSION}, "cells": {{\n{lines}\n}}}}\n'


def _record_facts(record: CellHistory) -> Mapping[str, Any]:
    return {
        "toolkit": record.toolkit,
        "builds": [{"seconds": it.seconds, "on": it.date, "size": it.size} for it in record.builds],
        "checks": [{"seconds": it.seconds, "on": it.date, "size": it.size} for it in record.checks],
        "images": record.images,
    }


def _parse(document: Any) -> Mapping[str, CellHistory]:
    """Return cell id -> measurements from `document`, the parsed JSON of the history file.

    Raises `ValueError` if its format version is not `_FORMAT_VERSION`.
    """
    if document["version"] != _FORMAT_VERSION:
        raise ValueError(f"version {document['version']}")
    return {str(name): _parse_record(record) for name, record in document["cells"].items()}


def _parse_record(record: Mapping[str, Any]) -> CellHistory:
    return CellHistory(
        toolkit=str(record["toolkit"]),
        builds=tuple(map(_parse_measurement, record["builds"])),
        checks=tuple(map(_parse_measurement, record["checks"])),
        images=tuple(map(str, record["images"])),
    )


def _parse_measurement(entry: Mapping[str, Any]) -> Measurement:
    return Measurement(seconds=float(entry["seconds"]), date=str(entry["on"]), size=int(entry["size"]))


@contextmanager
def _locked(state: StateFolder) -> Iterator[None]:
    """Hold the file lock of the history in `state` while the context is open; other processes wait for it.

    The lock is a separate file beside the history file, because writing replaces the history file.
    """
    state.root.mkdir(parents=True, exist_ok=True)
    with state.history.with_name(f"{state.history.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
