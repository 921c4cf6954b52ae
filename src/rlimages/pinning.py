"""Ask registries which digest each base has now, and write that down in `build_matrix.lock.yaml`."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

from rlimages import baselock, shell, tree
from rlimages.baselock import Asked
from rlimages.cell import Cell
from rlimages.engine import REMEDY
from rlimages.project import Project
from rlimages.schedule import reference

AT_ONCE = 8
PATIENCE = 30.0
"""Seconds for one answer."""

_REASONS = {
    "no such host|server misbehaving|name resolution": "its registry cannot be found from here",
    "connection refused|i/o timeout|no route|unreachable|deadline": "its registry does not answer",
    "unauthorized|forbidden|denied|no basic auth|authorization": "its registry wants a log-in: docker login",
    "not found|manifest unknown|name unknown": "its registry has no such image",
}
"""What BuildKit's client says -> what that means."""

Ask = Callable[[str], tuple[str | None, str]]
"""Reference -> its digest, or None and why there is none."""


def update(
    project: Project, cells: Sequence[Cell], *, region: str | None = None, ask: Ask | None = None
) -> Mapping[str, Asked]:
    """Ask for the bases of these cells, and write the file; what is not asked for stays. Base -> what was said.

    A base that does not answer keeps the digest it had, and says since when nobody answered. The images of other cells
    are no bases: what is built here has no digest in a registry.
    """
    registries = project.base_arguments(tuple(cells), region)
    wanted = {cell.base.image: reference(cell.base, registries) for cell in cells if not cell.extends}
    today = datetime.now(UTC).date().isoformat()
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        answers = dict(zip(wanted, pool.map(ask or of_registry, wanted.values()), strict=True))
    known = dict(project.asked_bases)
    told = {
        name: Asked(digest=digest, asked=today)
        if digest
        else Asked(digest=known[name].digest if name in known else None, asked=today, unreachable=why)
        for name, (digest, why) in answers.items()
    }
    used = {cell.base.image for cell in project.cells if not cell.extends}
    kept = {name: asked for name, asked in known.items() if name in used}
    tree.write(project.root / tree.BASES, baselock.text({**kept, **told}))
    return told


def of_registry(name: str) -> tuple[str | None, str]:
    """The digest of what a reference names in its registry, or None and why: of an index, where it has one.

    Asked as builds ask, with what `docker login` knows: what can be pulled can be locked.
    """
    said: list[str] = []
    argv = ["docker", "buildx", "imagetools", "inspect", "--format", "{{json .Manifest}}", name]
    ended = shell.run(argv, on_line=said.append, timeout=PATIENCE, remedy=REMEDY)
    found = re.search(r'"digest": *"(sha256:[0-9a-f]{64})"', "\n".join(said))
    if ended.passed and found:
        return found[1], ""
    if ended.timed_out:
        return None, f"no answer in {PATIENCE:.0f} s"
    return None, _reason(said)


def _reason(said: Sequence[str]) -> str:
    """Why there was no answer, in words that are the same on every machine; else the end of what the client said."""
    text = "\n".join(said)
    for pattern, words in _REASONS.items():
        if re.search(pattern, text, re.IGNORECASE):
            return words
    line = next((line.strip() for line in reversed(said) if line.strip()), "no answer")
    return line.rpartition(": ")[2]


def lines(told: Mapping[str, Asked]) -> Iterator[str]:
    """One for each base; what could not be reached is said, not hidden."""
    for name, asked in told.items():
        if asked.unreachable is None:
            yield f"{name}: {asked.digest}"
        else:
            kept = f"stays at {asked.digest}" if asked.digest else "is not locked"
            yield f"{name}: {kept}; unreachable: {asked.unreachable}"
