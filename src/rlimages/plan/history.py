"""Past durations and sizes of each cell, and the estimates made from them."""

import fcntl
import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rlimages.matrix.cell import Cell
from rlimages.system.files import read_text, write_text

KEPT = 5
"""Builds, and checks, that are remembered of each cell; their median counts."""
KEPT_IMAGES = 50
"""Images of each cell of which is known that they were made here."""
FILE = "history.json"
_FORM = 1


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """What one build took, or all checks of one image."""

    seconds: float
    on: str
    """ISO 8601, UTC."""
    size: int = 0
    """Bytes of the image that was built, unpacked."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CellHistory:
    """What is known of one cell, the newest last."""

    toolkit: str
    builds: tuple[Measurement, ...] = ()
    checks: tuple[Measurement, ...] = ()
    images: tuple[str, ...] = ()
    """Ids of what was built here."""


@dataclass(frozen=True, kw_only=True)
class History:
    """What is known of all cells. Nothing here asks the disk."""

    records: Mapping[str, CellHistory] = field(default_factory=lambda: MappingProxyType({}))
    """By cell id."""
    note: str = ""
    """Why nothing is known, where the file is there and cannot be read."""

    def knows(self, cell: Cell) -> bool:
        """True when this very cell was built before."""
        return cell.id in self.records and bool(self.records[cell.id].builds)

    def estimate(self, cell: Cell) -> float | None:
        """Seconds that a build of the cell and all its checks will take; None where nothing was ever built."""
        build = self.estimate_build(cell)
        return None if build is None else build + (self.estimate_checks(cell) or 0.0)

    def estimate_build(self, cell: Cell) -> float | None:
        """Seconds: the cell's median, for an unknown one its toolkit's, else that of all; None where there is none."""
        return self._find(self._builds, cell)

    def estimate_checks(self, cell: Cell) -> float | None:
        """Seconds of all checks of an image, one after the other."""
        return self._find(self._checks, cell)

    def estimate_size(self, cell: Cell) -> int | None:
        """Bytes of the unpacked image."""
        size = self._find(self._sizes, cell)
        return None if size is None else int(size)

    def images(self) -> frozenset[str]:
        """Ids of all images that were made here, as far as is known."""
        return frozenset(image for record in self.records.values() for image in record.images)

    @cached_property
    def _builds(self) -> Mapping[str, float]:
        return self._medians({name: [it.seconds for it in record.builds] for name, record in self.records.items()})

    @cached_property
    def _checks(self) -> Mapping[str, float]:
        return self._medians({name: [it.seconds for it in record.checks] for name, record in self.records.items()})

    @cached_property
    def _sizes(self) -> Mapping[str, float]:
        return self._medians({name: [it.size for it in record.builds] for name, record in self.records.items()})

    def _medians(self, known: Mapping[str, Collection[float]]) -> Mapping[str, float]:
        """By cell id; by `toolkit/` and by `/` the median of those below it."""
        from statistics import median  # brings exact fractions, which take longer than reading the file

        cells = {name: median(values) for name, values in known.items() if values}
        toolkits = {self.records[name].toolkit for name in cells}
        below = {
            f"{toolkit}/": median(value for name, value in cells.items() if self.records[name].toolkit == toolkit)
            for toolkit in toolkits
        }
        return {**cells, **below, **({"/": median(cells.values())} if cells else {})}

    @staticmethod
    def _find(medians: Mapping[str, float], cell: Cell) -> float | None:
        return next((medians[key] for key in (cell.id, f"{cell.toolkit}/", "/") if key in medians), None)


def read_history(folder: Path) -> History:
    """What the folder `.rlimages` remembers. A broken file counts as none, and the note says so."""
    records, note = _read(folder)
    return History(records=records, note=note)


def record_measurements(
    folder: Path, cell: Cell, *, build: Measurement | None = None, checks: Measurement | None = None, image: str = ""
) -> None:
    """Write down what became of one cell. Two runs that do so at once both get in. Raises `OSError` for a full disk."""
    if not (build or checks or image):
        return
    with _locked(folder):
        records, _ = _read(folder)
        old = records.get(cell.id, CellHistory(toolkit=cell.toolkit))
        new = replace(
            old,
            toolkit=cell.toolkit,
            builds=(*old.builds, *([build] if build else []))[-KEPT:],
            checks=(*old.checks, *([checks] if checks else []))[-KEPT:],
            images=(*(known for known in old.images if known != image), *([image] if image else []))[-KEPT_IMAGES:],
        )
        write_text(folder / FILE, _text({**records, cell.id: new}))


def _read(folder: Path) -> tuple[Mapping[str, CellHistory], str]:
    file = folder / FILE
    try:
        text = read_text(file)
        return (_parse(json.loads(text)) if text is not None else {}), ""
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return {}, f"{file}: not readable as a history ({error!r}); it is begun anew"


def _text(records: Mapping[str, CellHistory]) -> str:
    """JSON with a line for each cell: `json` is slow where it has to break lines itself."""
    lines = ",\n".join(
        f"{json.dumps(name)}: {json.dumps(_record_facts(record))}" for name, record in sorted(records.items())
    )
    return f'{{"version": {_FORM}, "cells": {{\n{lines}\n}}}}\n'


def _record_facts(record: CellHistory) -> Mapping[str, Any]:
    return {
        "toolkit": record.toolkit,
        "builds": [{"seconds": it.seconds, "on": it.on, "size": it.size} for it in record.builds],
        "checks": [{"seconds": it.seconds, "on": it.on, "size": it.size} for it in record.checks],
        "images": record.images,
    }


def _parse(said: Any) -> Mapping[str, CellHistory]:
    if said["version"] != _FORM:
        raise ValueError(f"version {said['version']}")
    return {str(name): _record(record) for name, record in said["cells"].items()}


def _record(said: Mapping[str, Any]) -> CellHistory:
    return CellHistory(
        toolkit=str(said["toolkit"]),
        builds=tuple(map(_measurement, said["builds"])),
        checks=tuple(map(_measurement, said["checks"])),
        images=tuple(map(str, said["images"])),
    )


def _measurement(said: Mapping[str, Any]) -> Measurement:
    return Measurement(seconds=float(said["seconds"]), on=str(said["on"]), size=int(said["size"]))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{FILE}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
