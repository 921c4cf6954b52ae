"""Update requirement locks and locked base digests: the part of `lock` and `bases` that uses the network."""

import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

from rlimages.engine.protocol import ENGINE_REMEDY
from rlimages.matrix.cell import Cell
from rlimages.project.base_lock import BASE_LOCK, LockedBase, format_base_lock
from rlimages.project.project import Project
from rlimages.project.render import image_reference
from rlimages.project.requirements_lock import LockInputs, lock_text, resolution_error, stale_locks, uv_commands
from rlimages.system.files import read_text, write_text
from rlimages.system.process import run_program


def find_stale_locks(project: Project, cells: tuple[Cell, ...], *, everything: bool) -> Iterator[str]:
    """One sentence for each stale lock; with `everything`, also for locks that belong to no cell."""
    toolkits = project.toolkits if everything else ()
    yield from stale_locks(project.lock_inputs(cells), project.root, toolkits)


def update_locks(
    project: Project, cells: tuple[Cell, ...], *, environ: Mapping[str, str], force: bool
) -> Iterator[str]:
    """Resolve stale locks, all with `force`; one line for each. Raises `ToolError` with uv's words."""
    from uv import find_uv_bin

    done: dict[str, str] = {}  # cpu and gpu mostly ask for the same
    # one by one: what a cell that extends another asks for is in the lock that its parent has just got
    for asked in (asked for cell in cells for asked in project.lock_inputs((cell,))):
        path = project.root / asked.cell.lock
        if not force and asked.header in (read_text(path) or ""):
            yield f"kept {asked.cell.lock}"
            continue
        if asked.digest not in done:
            done[asked.digest] = _resolve(asked, find_uv_bin(), environ)
        write_text(path, lock_text(asked, done[asked.digest]))
        yield f"wrote {asked.cell.lock}"


def _resolve(asked: LockInputs, uv: str, environ: Mapping[str, str]) -> str:
    from rlimages.project.pip_config import configuration_files, read_pip_settings
    from rlimages.system.process import run_program

    with tempfile.TemporaryDirectory(prefix="rlimages-lock-") as name:
        folder = Path(name)
        for file, content in asked.files().items():
            write_text(folder / file, content)
        settings = read_pip_settings(environ, configuration_files(environ, Path.home()))
        env = {**settings.for_uv(), **environ, "TMPDIR": name}  # uv leaves lock files of its builds behind
        env.pop("PYTHONPATH", None)  # it would leak into the builds of source packages
        for command in uv_commands(uv, sys.executable, asked, folder):
            said: list[str] = []
            if not run_program(command, on_line=said.append, env=env).passed:
                raise resolution_error(asked.cell, "\n".join(said))
        return (folder / "lock.txt").read_text(encoding="utf-8").replace(f"{folder}/", "")


PARALLEL_REQUESTS = 8
PATIENCE = 30.0
"""Seconds for one answer."""
_REASONS = {
    "no such host|server misbehaving|name resolution": "its registry cannot be found from here",
    "connection refused|i/o timeout|no route|unreachable|deadline": "its registry does not answer",
    "unauthorized|forbidden|denied|no basic auth|authorization": "its registry wants a log-in: docker login",
    "not found|manifest unknown|name unknown": "its registry has no such image",
}
"""What BuildKit's client says -> what that means."""
AskRegistry = Callable[[str], tuple[str | None, str]]
"""Reference -> its digest, or None and why there is none."""


def update_base_lock(
    project: Project, cells: Sequence[Cell], *, region: str | None = None, ask: AskRegistry | None = None
) -> Mapping[str, LockedBase]:
    """Ask for the bases of these cells, and write the file; what is not asked for stays. Base -> what was said.

    A base that does not answer keeps the digest it had, and says since when nobody answered. The images of other cells
    are no bases: what is built here has no digest in a registry.
    """
    registries = project.base_arguments(tuple(cells), region)
    wanted = {cell.base.image: image_reference(cell.base, registries) for cell in cells if not cell.extends}
    today = datetime.now(UTC).date().isoformat()
    with ThreadPoolExecutor(max_workers=PARALLEL_REQUESTS) as pool:
        answers = dict(zip(wanted, pool.map(ask or registry_digest, wanted.values()), strict=True))
    known = dict(project.base_lock)
    told = {
        name: LockedBase(digest=digest, asked=today)
        if digest
        else LockedBase(digest=known[name].digest if name in known else None, asked=today, unreachable=why)
        for name, (digest, why) in answers.items()
    }
    used = {cell.base.image for cell in project.cells if not cell.extends}
    kept = {name: asked for name, asked in known.items() if name in used}
    write_text(project.root / BASE_LOCK, format_base_lock({**kept, **told}))
    return told


def registry_digest(name: str) -> tuple[str | None, str]:
    """The digest of what a reference names in its registry, or None and why: of an index, where it has one.

    Asked as builds ask, with what `docker login` knows: what can be pulled can be locked.
    """
    said: list[str] = []
    argv = ["docker", "buildx", "imagetools", "inspect", "--format", "{{json .Manifest}}", name]
    ended = run_program(argv, on_line=said.append, timeout=PATIENCE, remedy=ENGINE_REMEDY)
    found = re.search(r'"digest": *"(sha256:[0-9a-f]{64})"', "\n".join(said))
    if ended.passed and found:
        return found[1], ""
    if ended.timed_out:
        return None, f"no answer in {PATIENCE:.0f} s"
    return None, _refusal_reason(said)


def _refusal_reason(said: Sequence[str]) -> str:
    """Why there was no answer, in words that are the same on every machine; else the end of what the client said."""
    text = "\n".join(said)
    for pattern, words in _REASONS.items():
        if re.search(pattern, text, re.IGNORECASE):
            return words
    line = next((line.strip() for line in reversed(said) if line.strip()), "no answer")
    return line.rpartition(": ")[2]


def base_lock_lines(told: Mapping[str, LockedBase]) -> Iterator[str]:
    """One for each base; what could not be reached is said, not hidden."""
    for name, asked in told.items():
        if asked.unreachable is None:
            yield f"{name}: {asked.digest}"
        else:
            kept = f"stays at {asked.digest}" if asked.digest else "is not locked"
            yield f"{name}: {kept}; unreachable: {asked.unreachable}"
