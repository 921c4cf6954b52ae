"""Record how long the builds and checks of each cell took, and estimate the next ones from that."""

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
"""Number of builds, and of check suites, that are kept for each cell. Estimates are their median."""
KEPT_IMAGES = 50
"""Number of image ids that are kept for each cell. Only these images are removed once they have no name."""
_FORMAT_VERSION = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """Duration and result size of one build, or the duration of all checks of one image."""

    seconds: float
    date: str
    """ISO 8601, UTC."""
    size: int = 0
    """Unpacked size of the new image in bytes; 0 for checks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CellHistory:
    """The measurements of one cell, oldest first."""

    toolkit: str
    builds: tuple[Measurement, ...] = ()
    checks: tuple[Measurement, ...] = ()
    images: tuple[str, ...] = ()
    """Ids of the images that were built on this machine."""


@dataclass(frozen=True, kw_only=True)
class History:
    """The measurements of all cells, and estimates from them."""

    records: Mapping[str, CellHistory] = field(default_factory=lambda: MappingProxyType({}))
    """By cell id."""
    note: str = ""
    """Why the history is empty, if its file exists and cannot be read."""

    def has_build(self, cell: Cell) -> bool:
        """Return whether a build of this cell was measured."""
        return cell.id in self.records and bool(self.records[cell.id].builds)

    def estimate(self, cell: Cell) -> float | None:
        """Return the seconds that a build of the cell and all its checks will take; None if no build was measured."""
        build = self.estimate_build(cell)
        return None if build is None else build + (self.estimate_checks(cell) or 0.0)

    def estimate_build(self, cell: Cell) -> float | None:
        """Return the seconds that a build will take: the median of the cell, else of its toolkit, else of all cells.

        Returns None if no build was measured.
        """
        return self._find(self._build_seconds, cell)

    def estimate_checks(self, cell: Cell) -> float | None:
        """Return the seconds that all checks of an image take one after the other; None if none were measured."""
        return self._find(self._check_seconds, cell)

    def estimate_size(self, cell: Cell) -> int | None:
        """Return the unpacked size of the image in bytes; None if no build was measured."""
        size = self._find(self._sizes, cell)
        return None if size is None else int(size)

    def images(self) -> frozenset[str]:
        """Return the ids of all recorded images of all cells."""
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
        """Return the median of each cell by id, of each toolkit by `toolkit/`, and of all cells by `/`.

        The medians of toolkits and of all cells are taken from the medians of their cells.
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
    """Read the history of a project. If the file cannot be read, return an empty history with a note."""
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
    """Add the measurements of one cell and the id of its new image to the history.

    Several runs may write at the same time: each holds a file lock while it reads and writes. Raises `OSError` if the
    file cannot be written.
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
    """Return the records, or no records and the reason."""
    try:
        text = read_text(state.history)
        return (_parse(json.loads(text)) if text is not None else {}), ""
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return {}, f"{state.history}: cannot be read as a history ({error!r}); a new one is started"


def _format(records: Mapping[str, CellHistory]) -> str:
    """Return the records as JSON, with one line for each cell."""
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
    """Hold the file lock of the history. It is a file of its own, as writing replaces the history file."""
    state.root.mkdir(parents=True, exist_ok=True)
    with state.history.with_name(f"{state.history.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
