"""Update the requirement locks and the base lock: the part of the commands `lock` and `bases` that uses the network."""

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
    """Yield one sentence for each requirement lock of `cells` that is missing or out of date. Uses no network.

    With `everything`, yield one also for each lock that belongs to none of `cells`.
    """
    toolkits = project.toolkits if everything else ()
    yield from stale_locks(project.lock_inputs(cells), project.root, toolkits)


def update_locks(
    project: Project, cells: tuple[Cell, ...], *, environ: Mapping[str, str], force: bool
) -> Iterator[str]:
    """Resolve and write the requirement locks of `cells` that are out of date, or all of them with `force`.

    Yield one line for each lock, written or kept. `environ` is the environment of uv, and has the settings of pip.
    Raises `ToolError` with uv's output if the requirements of a cell cannot be resolved.
    """
    from uv import find_uv_bin

    resolved: dict[str, str] = {}  # by digest: the cpu and gpu cells usually have the same inputs
    # Inputs are read cell by cell: those of a derived cell depend on its parent's lock, which may just have changed.
    for inputs in (inputs for cell in cells for inputs in project.lock_inputs((cell,))):
        path = project.root / inputs.cell.lock
        if not force and inputs.header in (read_text(path) or ""):
            yield f"kept {inputs.cell.lock}"
            continue
        if inputs.digest not in resolved:
            resolved[inputs.digest] = _resolve(inputs, find_uv_bin(), environ)
        write_text(path, lock_text(inputs, resolved[inputs.digest]))
        yield f"wrote {inputs.cell.lock}"


def _resolve(inputs: LockInputs, uv: str, environ: Mapping[str, str]) -> str:
    """Resolve the lock of `inputs` with the program `uv`, and return its text without the header.

    `environ` is the environment of uv; the package indexes are those of pip's configuration. Raises `ToolError` with
    uv's output if it fails.
    """
    from rlimages.project.pip_config import configuration_files, read_pip_settings

    with tempfile.TemporaryDirectory(prefix="rlimages-lock-") as name:
        folder = Path(name)
        for file, content in inputs.files().items():
            write_text(folder / file, content)
        settings = read_pip_settings(environ, configuration_files(environ, Path.home()))
        env = {**settings.for_uv(), **environ, "TMPDIR": name}  # uv leaves lock files there
        env.pop("PYTHONPATH", None)  # it would change the builds of source packages
        for command in uv_commands(uv, sys.executable, inputs, folder):
            output: list[str] = []
            if not run_program(command, on_line=output.append, env=env).passed:
                raise resolution_error(inputs.cell, "\n".join(output))
        # uv writes the paths of its input files into comments, and the name of the temporary folder changes every time.
        return (folder / "lock.txt").read_text(encoding="utf-8").replace(f"{folder}/", "")


_PARALLEL_REQUESTS = 8
"""Requests to registries at the same time."""
_TIMEOUT = 30.0
"""Seconds for one request to a registry."""
_REASONS = {
    "no such host|server misbehaving|name resolution": "its registry cannot be found from here",
    "connection refused|i/o timeout|no route|unreachable|deadline": "its registry does not answer",
    "unauthorized|forbidden|denied|no basic auth|authorization": "its registry requires a login: docker login",
    "not found|manifest unknown|name unknown": "its registry has no such image",
}
"""Regular expression for the output of `docker buildx imagetools inspect` -> the reason in our words.

BuildKit's messages contain addresses of this machine. The reasons are committed, so they must be equal everywhere.
"""
FetchDigest = Callable[[str], tuple[str | None, str]]
"""Takes an image reference; returns its digest and an empty string, or None and the reason why there is none."""


def update_base_lock(
    project: Project, cells: Sequence[Cell], *, region: str | None = None, fetch: FetchDigest | None = None
) -> Mapping[str, LockedBase]:
    """Get the digests of the base images of `cells` from their registries, and write them to the base lock.

    Return base image, as the matrix names it -> its new entry. `region` is the AWS region of images in ECR; without it,
    the default region is used. `fetch` gets one digest; without it, `registry_digest` does. An image whose registry
    does not answer keeps its digest, and its entry gets the reason. Base images of other cells keep their entries, and
    entries that no cell of the project uses are removed. Cells that extend others have no base image in a registry.
    """
    registries = project.base_arguments(tuple(cells), region)
    wanted = {cell.base.image: image_reference(cell.base, registries) for cell in cells if not cell.extends}
    today = datetime.now(UTC).date().isoformat()
    with ThreadPoolExecutor(max_workers=_PARALLEL_REQUESTS) as pool:
        answers = dict(zip(wanted, pool.map(fetch or registry_digest, wanted.values()), strict=True))
    known = dict(project.base_lock)
    updated = {
        name: LockedBase(digest=digest, date=today)
        if digest
        else LockedBase(digest=known[name].digest if name in known else None, date=today, unreachable=reason)
        for name, (digest, reason) in answers.items()
    }
    used = {cell.base.image for cell in project.cells if not cell.extends}
    kept = {name: base for name, base in known.items() if name in used}
    write_text(project.root / BASE_LOCK, format_base_lock({**kept, **updated}))
    return updated


def registry_digest(reference: str) -> tuple[str | None, str]:
    """Return the digest of the image `reference` in its registry, and an empty string; or None and the reason.

    For an image with an index, it is the digest of the index. The request is made by buildx with the credentials of
    `docker login`, as in a build. Raises `ToolError` if Docker is not installed.
    """
    output: list[str] = []
    argv = ["docker", "buildx", "imagetools", "inspect", "--format", "{{json .Manifest}}", reference]
    process = run_program(argv, on_line=output.append, timeout=_TIMEOUT, remedy=ENGINE_REMEDY)
    found = re.search(r'"digest": *"(sha256:[0-9a-f]{64})"', "\n".join(output))
    if process.passed and found:
        return found[1], ""
    if process.timed_out:
        return None, f"no answer in {_TIMEOUT:.0f} s"
    return None, _failure_reason(output)


def _failure_reason(output: Sequence[str]) -> str:
    """Return the reason why buildx failed, from `output`, its lines, in words that are equal on every machine.

    An unknown reason is the end of the last line of output.
    """
    text = "\n".join(output)
    for pattern, reason in _REASONS.items():
        if re.search(pattern, text, re.IGNORECASE):
            return reason
    line = next((line.strip() for line in reversed(output) if line.strip()), "no answer")
    return line.rpartition(": ")[2]


def base_lock_lines(bases: Mapping[str, LockedBase]) -> Iterator[str]:
    """Yield one line for people for each entry of `bases`: its digest, or why its registry did not answer."""
    for name, base in bases.items():
        if base.unreachable is None:
            yield f"{name}: {base.digest}"
        else:
            kept = f"stays at {base.digest}" if base.digest else "is not locked"
            yield f"{name}: {kept}; unreachable: {base.unreachable}"
