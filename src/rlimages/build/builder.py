"""Build the image of one cell, and try again if the build failed for a transient reason such as a network error."""

import time
from collections.abc import Callable
from pathlib import Path

from rlimages.engine.protocol import Engine
from rlimages.plan.results import BuildResult, Outcome
from rlimages.plan.step import BuildStep
from rlimages.system.machine import DISK_REMEDY
from rlimages.system.process import Stop

ATTEMPTS = 3
"""Maximum number of attempts for a build whose failure may be transient."""
FIRST_WAIT = 5.0
"""Seconds before the second attempt; each further wait is four times as long, so 5 s and then 20 s."""


def build_cell(
    step: BuildStep,
    engine: Engine,
    folder: Path,
    *,
    root: Path,
    stop: Stop,
    on_progress: Callable[[str], None] = lambda _detail: None,
    first_wait: float = FIRST_WAIT,
) -> BuildResult:
    """Build the image of the cell of `step` with `engine`, and return the result. A failed build is not raised.

    `root` is the project folder and the build context. A build that fails for a transient reason is tried again, at
    most `ATTEMPTS` times in all, the second time after `first_wait` seconds, unless `stop` is set. The log of all
    attempts is `folder/build.log`. `on_progress` is called with each Dockerfile step that starts and each wait.
    """
    started = time.monotonic()
    log = folder / "build.log"
    folder.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, ATTEMPTS + 1):
        built = engine.build(step.request, root, log, on_progress)
        seconds = time.monotonic() - started
        if built.process.passed:
            # By id first: another build may have taken the tag by now.
            image = engine.inspect(built.image) or engine.inspect(step.request.tag)
            return BuildResult(
                cell=step.cell,
                outcome=Outcome.PASSED,
                reason=f"at attempt {attempt}" if attempt > 1 else "",
                seconds=seconds,
                log=str(log),
                image=image.image if image else None,
                work_seconds=built.process.seconds if built.ran_steps else 0.0,
            )
        # Imported here because it compiles dozens of regular expressions, which only a failed build needs.
        from rlimages.build.failures import diagnose_failure, is_transient

        ended = built.process
        failure = diagnose_failure(built.error, timed_out=ended.timed_out, cancelled=ended.cancelled, attempts=attempt)
        if attempt == ATTEMPTS or not is_transient(failure):
            break
        wait = first_wait * 4 ** (attempt - 1)
        on_progress(f"waits {wait:.0f} s to try again ({failure.kind})")
        with log.open("a", encoding="utf-8") as file:
            file.write(f"\n--- attempt {attempt} failed: {failure.kind}; the next in {wait:.0f} s ---\n\n")
        if stop.wait(wait):
            break
    reasons = {
        "timeout": f"took longer than {step.request.timeout} s",
        "interrupted": "interrupted",
        "unknown": f"buildx exited with {ended.code}",
        "disk full": f"disk full; {DISK_REMEDY}",
    }
    reason = reasons.get(failure.kind, str(failure.kind))
    return BuildResult(
        cell=step.cell,
        outcome=Outcome.FAILED,
        reason=reason if attempt == 1 else f"{reason}, at each of {attempt} attempts",
        seconds=seconds,
        log=str(log),
        failure=failure,
    )
