"""Push one image under all its tags, and ask the registry afterwards what it got."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

from rlimages.cell import Cell
from rlimages.diagnose import diagnose
from rlimages.distribution import Manifest
from rlimages.engine import Engine
from rlimages.errors import RegistryError
from rlimages.results import Image, Outcome, PublishResult
from rlimages.shell import Stop

Resolve = Callable[[str], Manifest | None]
_LOOKS = 4
"""How often the registry is asked before a push counts as lost: some answer 404 for a moment after a push."""
FIRST_WAIT = 0.25
"""Seconds before the second look; each further wait is twice as long."""


def publish(
    cell: Cell,
    image: Image,
    engine: Engine,
    folder: Path,
    *,
    to: str,
    resolve: Resolve,
    stop: Stop,
    on_progress: Callable[[str], None] = lambda _reference: None,
    first_wait: float = FIRST_WAIT,
) -> tuple[PublishResult, ...]:
    """Push an image to `to/repository:tag` for its tag and each alias; aliases only once the tag is there.

    What the registry holds already is not pushed again. Passed means: the registry itself named this image's digest.
    """
    log = folder / "publish.log"
    folder.mkdir(parents=True, exist_ok=True)
    results: list[PublishResult] = []
    for tag in cell.tags:
        reference = f"{to}/{cell.repository}:{tag}"
        started = time.monotonic()
        if stop.is_set():
            answer = Answer(Outcome.SKIPPED, "interrupted")
        elif results and results[0].outcome is not Outcome.PASSED:
            answer = Answer(Outcome.SKIPPED, f"{cell.tag} was not published")
        else:
            on_progress(reference)
            answer = _push(reference, image, engine, log, resolve, partial(_look, resolve, stop, first_wait))
        results.append(
            PublishResult(
                cell=cell,
                reference=reference,
                outcome=answer.outcome,
                reason=answer.reason,
                digest=answer.digest,
                seconds=time.monotonic() - started,
            )
        )
    return tuple(results)


class Answer(NamedTuple):
    """What came of one tag."""

    outcome: Outcome
    reason: str
    digest: str = ""


def _push(reference: str, image: Image, engine: Engine, log: Path, before: Resolve, afterwards: Resolve) -> Answer:
    try:
        there = before(reference)
        if there is not None and image.id in (there.image, there.digest):
            return Answer(Outcome.PASSED, "was there already", there.digest)
        at = log.stat().st_size if log.exists() else 0
        ended = engine.push(image.id, reference, log)
        if not ended.passed:
            said = log.read_bytes()[at:].decode("utf-8", errors="replace") if log.exists() else ""
            return Answer(Outcome.FAILED, "interrupted" if ended.cancelled else _why(said))
        return _verify(image, afterwards(reference))
    except RegistryError as error:
        return Answer(Outcome.FAILED, str(error))


def _verify(image: Image, there: Manifest | None) -> Answer:
    if there is None:
        return Answer(Outcome.FAILED, "the registry does not know it after the push")
    if image.id not in (there.image, there.digest):
        return Answer(Outcome.FAILED, f"the registry holds {there.image or there.digest}, pushed was {image.id}")
    return Answer(Outcome.PASSED, "", there.digest)


def _look(resolve: Resolve, stop: Stop, first_wait: float, reference: str) -> Manifest | None:
    for look in range(_LOOKS):
        there = resolve(reference)
        if there is not None or stop.wait(first_wait * 2**look):
            return there
    return None


def _why(said: str) -> str:
    failure = diagnose(said)
    last = failure.evidence[-1] if failure.evidence else "docker push failed and said nothing"
    return f"{failure.kind}: {last}"
