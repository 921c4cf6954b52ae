"""Run the check programs of a cell inside its image."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rlimages.engine.container import CHECKS_FOLDER, ContainerRun
from rlimages.engine.protocol import Engine, InspectedImage
from rlimages.matrix.cell import Cell
from rlimages.plan.results import Outcome, SmokeResult
from rlimages.project.project import Project
from rlimages.system.files import read_text, write_text
from rlimages.system.process import Stop

NOT_APPLICABLE = 77
"""How a check says that its fact means nothing here; automake's number for a skipped test."""
CHECK_TIMEOUT = 600.0
"""Seconds one check may take."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Check:
    """A program, and the cell whose promises it is told."""

    program: Path
    cell: Cell

    @property
    def name(self) -> str:
        """`check_<name>.py`."""
        return self.program.stem.removeprefix("check_")


def find_checks(roots: Sequence[Path], cell: Cell, ancestors: Mapping[str, Cell]) -> tuple[Check, ...]:
    """The programs that check a cell: those for all images, its toolkit's, and those of the cells it is built on.

    A toolkit's program replaces the common one of the same name. The checks of a parent's toolkit are told what the
    parent promises: its version, not the child's. `roots` are the project and its parents; `ancestors` has all cells
    that may be extended, by id.
    """
    about: dict[str, Cell] = {}
    at: Cell | None = cell
    while at is not None and at.toolkit not in about:
        about[at.toolkit] = at
        at = ancestors.get(at.extends or "")
    found: dict[str, Check] = {}
    folders = [("templates", cell), *reversed(about.items())]
    for name, told in folders:
        for root in reversed(roots):
            programs = sorted((root / name / "smoke").glob("check_*.py"))
            found.update({path.name: Check(program=path, cell=told) for path in programs})
    return tuple(found.values())


def run_checks(
    cell: Cell,
    image: InspectedImage,
    checks: tuple[Check, ...],
    engine: Engine,
    folder: Path,
    *,
    stop: Stop,
    timeout: float = CHECK_TIMEOUT,
    proofs: Path | None = None,
    on_progress: Callable[[str], None] = lambda _check: None,
) -> tuple[SmokeResult, ...]:
    """Run every check inside an image, one after the other; `folder` gets a log for each, and their folder `checks/`.

    That has one for each cell whose promises are told. With `proofs`, a check that passed before for this image and
    this program is not run again.
    """
    if not checks:
        return (_result(cell, "any", Outcome.FAILED, "there is no check for it"),)
    for check in checks:
        inside = folder / "checks" / check.cell.id
        write_text(inside / "cell.json", json.dumps(check_card(check.cell, image), indent=2) + "\n")
        shutil.copyfile(check.program, inside / check.program.name)
    results = []
    for check in checks:
        if stop.is_set():
            results.append(_result(cell, check.name, Outcome.SKIPPED, "interrupted before it began"))
            continue
        on_progress(check.name)
        results.append(
            cached_result(cell, image, check, proofs) or _run_check(cell, image, check, engine, folder, timeout)
        )
        if proofs and results[-1].outcome is Outcome.PASSED and results[-1].log:
            _cache_result(image, check, proofs, results[-1])
    return tuple(results)


def check_card(cell: Cell, image: InspectedImage) -> dict[str, Any]:
    """What a check is told as `/checks/cell.json`: what the matrix promises, and the image's own configuration."""
    framework = cell.framework
    return {
        "id": cell.id,
        "toolkit": cell.toolkit,
        "version": cell.version,
        "framework": {"name": framework.name, "version": framework.version} if framework else None,
        "processor": cell.processor.value,
        "python": cell.python,
        "interpreter": cell.base.interpreter,
        "cuda": cell.base.cuda,
        "os": cell.base.os,
        "line": cell.line,
        "inventory": dict(cell.inventory),
        "promised_env": dict(cell.env),
        "workdir": cell.workdir,
        "display": cell.display,
        "labels": dict(image.labels),
        "entrypoint": list(image.entrypoint),
        "command": list(image.command),
        "user": image.user,
        "env": dict(entry.partition("=")[::2] for entry in image.env),
        "size": image.image.size,
    }


def _run_check(
    cell: Cell, image: InspectedImage, check: Check, engine: Engine, folder: Path, timeout: float
) -> SmokeResult:
    log = folder / f"{check.program.stem}.log"
    # -u: what a check that is killed has said until then must be in the log
    argv = (cell.base.interpreter, "-u", f"{CHECKS_FOLDER}/{check.program.name}")
    checked = engine.run_in_image(image.image.id, argv, folder / "checks" / check.cell.id, log, timeout)
    outcome, reason = _outcome_of(checked, timeout)
    return _result(cell, check.name, outcome, reason, checked.process.seconds, str(log))


def _result(cell: Cell, check: str, outcome: Outcome, reason: str, seconds: float = 0.0, log: str = "") -> SmokeResult:
    return SmokeResult(cell=cell, check=check, outcome=outcome, reason=reason, seconds=seconds, log=log)


def _outcome_of(checked: ContainerRun, timeout: float) -> tuple[Outcome, str]:
    """The exit status says which, the last line printed says why."""
    ended = checked.process
    if ended.cancelled:
        return Outcome.FAILED, "interrupted"
    if ended.timed_out:
        return Outcome.FAILED, f"took longer than {timeout:.0f} s; it last said: {checked.last_line or 'nothing'}"
    if checked.error:
        return Outcome.FAILED, checked.error
    outcome = {0: Outcome.PASSED, NOT_APPLICABLE: Outcome.NOT_APPLICABLE}.get(ended.code, Outcome.FAILED)
    return outcome, checked.last_line or f"exited with {ended.code} and said nothing"


def cached_result(cell: Cell, image: InspectedImage, check: Check, proofs: Path | None) -> SmokeResult | None:
    """The result of the same check of the same image in an earlier run, when it passed."""
    text = read_text(_cache_path(image, check, proofs)) if proofs else None
    if text is None:
        return None
    before = json.loads(text)
    reason = f"{before['reason']} (this very image, {before['on']}, in {before['seconds']:.1f} s)"
    return _result(cell, check.name, Outcome.PASSED, reason)


def _cache_result(image: InspectedImage, check: Check, proofs: Path, result: SmokeResult) -> None:
    today = datetime.now(UTC).date().isoformat()
    words = {
        "cell": result.cell.id,
        "check": result.check,
        "reason": result.reason,
        "seconds": result.seconds,
        "on": today,
    }
    write_text(_cache_path(image, check, proofs), json.dumps(words) + "\n")


def _cache_path(image: InspectedImage, check: Check, proofs: Path) -> Path:
    """Named after this image, this program, and all that the program is told."""
    told = json.dumps([image.image.id, check.program.name, check_card(check.cell, image)], sort_keys=True)
    return proofs / f"{hashlib.sha256(told.encode() + check.program.read_bytes()).hexdigest()}.json"


ChecksOf = Callable[[Cell], Sequence[Path]]
"""Gives the programs that check a cell."""


def checks_of(project: Project) -> ChecksOf:
    """Finds the programs that check a cell of a project."""
    known = project.cells_by_id
    return lambda cell: [check.program for check in find_checks(project.roots, cell, known)]
