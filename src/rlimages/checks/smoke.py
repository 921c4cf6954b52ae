"""Run the check programs of a cell inside its image, and cache the results of those that passed.

`cell.json` is the file that a check gets: the properties of the cell and the configuration of the image.

The check cache is not a pass record (`pass_record`). An entry of the cache is one check that passed for one image with
one `cell.json`. It stays on this machine, only saves time, and may be deleted. A pass record states that all checks of
a cell passed; it is stored in registries too, and a promotion requires it.
"""

import hashlib
import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from rlimages.checks.suite import SmokeCheck, check_input
from rlimages.engine.container import CHECKS_FOLDER, ContainerRun
from rlimages.engine.protocol import Engine, InspectedImage
from rlimages.matrix.cell import Cell
from rlimages.plan.results import Outcome, SmokeResult
from rlimages.system.files import read_text, write_text
from rlimages.system.process import Stop

NOT_APPLICABLE = 77
"""Exit status of a check that does not apply to this image; automake's test driver uses it for a skipped test."""
CHECK_TIMEOUT = 600.0
"""Seconds that one check may take."""


def run_checks(
    cell: Cell,
    image: InspectedImage,
    checks: tuple[SmokeCheck, ...],
    engine: Engine,
    folder: Path,
    *,
    stop: Stop,
    timeout: float = CHECK_TIMEOUT,
    cache: Path | None = None,
    on_progress: Callable[[str], None] = lambda _check: None,
) -> tuple[SmokeResult, ...]:
    """Run all `checks` inside `image`, one after the other, and return one result for each.

    The other checks run even if one fails. After `stop` is set, the remaining checks are SKIPPED. Without `checks`,
    there is one result, FAILED. `cell` is the cell of the image. Logs are written to `folder`, and so are the files
    below `checks/` that are mounted into the containers. `cache` is the folder of the check cache; a check that passed
    before for this image is read from it and not run. None uses no cache. `timeout` is in seconds, for each check.
    `on_progress` is called with the name of each check that starts.
    """
    if not checks:
        return (_result(cell, "any", Outcome.FAILED, "there is no check for this cell"),)
    # One folder for each cell: a parent's checks get the `cell.json` of the parent.
    for check in checks:
        mounted = folder / "checks" / check.cell.id
        write_text(mounted / "cell.json", json.dumps(check_input(check.cell, image), indent=2) + "\n")
        shutil.copyfile(check.program, mounted / check.program.name)
    results = []
    for check in checks:
        if stop.is_set():
            results.append(_result(cell, check.name, Outcome.SKIPPED, "interrupted before it started"))
            continue
        on_progress(check.name)
        cached = cached_result(cell, image, check, cache)
        result = cached or _run_check(cell, image, check, engine, folder, timeout)
        results.append(result)
        # "Not applicable" is not cached: it may depend on this machine, such as on a GPU.
        if cache and not cached and result.outcome is Outcome.PASSED:
            _cache_result(image, check, cache, result)
    return tuple(results)


def _run_check(
    cell: Cell, image: InspectedImage, check: SmokeCheck, engine: Engine, folder: Path, timeout: float
) -> SmokeResult:
    log = folder / f"{check.program.stem}.log"
    # -u: unbuffered, so that the log of a check that is killed has all that it printed.
    argv = (cell.base.interpreter, "-u", f"{CHECKS_FOLDER}/{check.program.name}")
    run = engine.run_in_image(image.image.id, argv, folder / "checks" / check.cell.id, log, timeout)
    outcome, reason = _outcome_of(run, timeout)
    return _result(cell, check.name, outcome, reason, run.process.seconds, str(log))


def _result(cell: Cell, check: str, outcome: Outcome, reason: str, seconds: float = 0.0, log: str = "") -> SmokeResult:
    return SmokeResult(cell=cell, check=check, outcome=outcome, reason=reason, seconds=seconds, log=log)


def _outcome_of(run: ContainerRun, timeout: float) -> tuple[Outcome, str]:
    """Return the outcome and the reason of the check that `run` is the result of; `timeout` was its limit in seconds.

    The exit status decides the outcome: 0 is PASSED, 77 NOT_APPLICABLE, and any other FAILED. The reason is the last
    line that the check printed. An interrupted check, one that took too long and one that did not start are FAILED.
    """
    process = run.process
    if process.cancelled:
        return Outcome.FAILED, "interrupted"
    if process.timed_out:
        return Outcome.FAILED, f"took longer than {timeout:.0f} s; its last line: {run.last_line or 'none'}"
    if run.error:
        return Outcome.FAILED, run.error
    outcome = {0: Outcome.PASSED, NOT_APPLICABLE: Outcome.NOT_APPLICABLE}.get(process.code, Outcome.FAILED)
    return outcome, run.last_line or f"exited with {process.code} and printed nothing"


def cached_result(cell: Cell, image: InspectedImage, check: SmokeCheck, cache: Path | None) -> SmokeResult | None:
    """Return a PASSED result of `check` for `image` from the folder `cache` of the check cache.

    Return None if `cache` is None or has no entry for them. The result belongs to `cell`, the cell of the image.
    """
    text = read_text(_cache_path(image, check, cache)) if cache else None
    if text is None:
        return None
    entry = json.loads(text)
    reason = f"{entry['reason']} (cached: the same image passed on {entry['on']}, in {entry['seconds']:.1f} s)"
    return _result(cell, check.name, Outcome.PASSED, reason)


def _cache_result(image: InspectedImage, check: SmokeCheck, cache: Path, result: SmokeResult) -> None:
    entry = {
        "cell": result.cell.id,
        "check": result.check,
        "reason": result.reason,
        "seconds": result.seconds,
        "on": datetime.now(UTC).date().isoformat(),
    }
    write_text(_cache_path(image, check, cache), json.dumps(entry) + "\n")


def _cache_path(image: InspectedImage, check: SmokeCheck, cache: Path) -> Path:
    """Return the path of the cache entry for `image` and `check`, in the folder `cache`.

    Its name is a hash of all that the result of a check depends on: image, program and `cell.json`.
    """
    key = json.dumps([image.image.id, check.program.name, check_input(check.cell, image)], sort_keys=True)
    return cache / f"{hashlib.sha256(key.encode() + check.program.read_bytes()).hexdigest()}.json"
