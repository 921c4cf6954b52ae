"""The scenarios of the benchmark. A scenario is prepared once and measured several times, by its contenders in turn."""

import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import synthetic
from builders import BAKE, BUILDERS, OURS, PLAIN, Job
from figures import Measurement
from relay import Relay
from sandbox import RLIMAGES
from timed import BenchmarkError, output, timed

SMALL = 200
SIZES = (10, 100, 1_000, 10_000)
PUSH = "docker push"
PEERS = (PLAIN, BAKE, PUSH)


class Scenario:
    """Something that is measured: one row of the results."""

    name: str
    title: str
    contenders: tuple[str, ...] = BUILDERS
    cheap = False
    """True if a round takes seconds, not minutes."""

    def prepare(self, job: Job) -> None:
        """Create the state with which every attempt starts."""
        raise NotImplementedError

    def measure(self, job: Job, who: str) -> Measurement:
        """Measure one attempt of a contender."""
        raise NotImplementedError


class Program(Scenario):
    """Another program of this folder, which prints its own table."""

    contenders = (OURS,)

    def __init__(self, name: str, title: str, *, repeats: bool) -> None:
        """Describe the program `<name>.py`; `repeats` is true if it has the option `--rounds`."""
        self.name, self.title = name, title
        self._repeats = repeats

    def prepare(self, job: Job) -> None:
        _build_all(job)

    def table(self, job: Job, rounds: int) -> str:
        """Return the table that the program prints. Its exit code 1 means that an image is too slow or missing."""
        argv = [sys.executable, str(job.root / f"bench/{self.name}.py"), *job.patterns]
        argv += ["--rounds", str(rounds)] if self._repeats else []
        return output(argv, cwd=job.root, env=job.sandbox.env, passed=(0, 1))


class Cold(Scenario):
    """Build with nothing but the base images: no image, no layer, no cached package."""

    name, title = "cold", "cold build"

    def prepare(self, job: Job) -> None:
        job.sandbox.rlimages("bases", *job.selection)

    def measure(self, job: Job, who: str) -> Measurement:
        job.sandbox.remove_images(_bases(job))
        shutil.rmtree(job.root / ".rlimages", ignore_errors=True)
        job.sandbox.clear_matrix_cache()
        os.sync()
        measurement = job.build(who)
        _require_built(job, measurement, len(job.images), who)
        return measurement


class Unchanged(Scenario):
    """Build when all images are up to date."""

    name, title, cheap = "unchanged", "nothing changed", True

    def prepare(self, job: Job) -> None:
        _build_all(job)

    def measure(self, job: Job, who: str) -> Measurement:
        measurement = job.build(who)
        _require_built(job, measurement, 0, who)
        return measurement


class Planned(Scenario):
    """Plan all cells of the matrix, most of which were never built here."""

    name, title, cheap = "plan", "`rlimages plan`, the whole matrix", True
    contenders = (OURS,)

    def prepare(self, job: Job) -> None:
        _build_all(job)

    def measure(self, job: Job, who: str) -> Measurement:
        argv = (*RLIMAGES, "plan")
        return timed(argv, cwd=job.root, env=job.sandbox.env, log=job.sandbox.log, passed=(0, 10))


class Small(Scenario):
    """Build many small cells, none of which changed."""

    name, title = "small", f"nothing changed, {SMALL} small cells"

    def prepare(self, job: Job) -> None:
        job.sandbox.rlimages("bases", *job.selection)
        self._job = Job(sandbox=job.sandbox, root=job.sandbox.home / "small", patterns=("*",))
        shutil.rmtree(self._job.root, ignore_errors=True)
        synthetic.small(self._job.root, SMALL, _bases(job)[0])
        job.sandbox.rlimages("render", root=self._job.root)
        _build_all(self._job)

    def measure(self, job: Job, who: str) -> Measurement:
        measurement = self._job.build(who)
        _require_built(self._job, measurement, 0, who)
        return measurement


class Changed(Scenario):
    """Build after one input of one cell changed. Before, all images were up to date."""

    def __init__(self) -> None:
        self._count = 0

    def prepare(self, job: Job) -> None:
        _build_all(job)
        self._file = self._changed_file(job)
        self._before = self._file.read_text()

    def measure(self, job: Job, who: str) -> Measurement:
        self._count += 1
        self._file.write_text(self._edit(self._before, os.getpid() * 1000 + self._count))
        try:
            measurement = job.build(who)
        finally:
            self._file.write_text(self._before)
        _require_built(job, measurement, 1, who)
        return measurement

    def _changed_file(self, job: Job) -> Path:
        raise NotImplementedError

    def _edit(self, text: str, number: int) -> str:
        raise NotImplementedError


class File(Changed):
    """Change a script that is copied into one image."""

    name, title = "file", "one file of one cell changed"

    def _changed_file(self, job: Job) -> Path:
        toolkit = _toolkit(_only_cell_of_toolkit(job))
        files = sorted(path for path in (job.root / toolkit / "rootfs").rglob("*") if path.is_file())
        scripts = [path for path in files if path.suffix == ".py" or path.read_bytes()[:2] == b"#!"]
        if not scripts:
            raise BenchmarkError(f"{toolkit}/rootfs has no script to change")
        return scripts[0]

    def _edit(self, text: str, number: int) -> str:
        return f"{text}# {number}\n"


class LockLine(Changed):
    """Add an allowed hash to a package of a lock. The same packages are then installed again."""

    name, title = "lock", "one line of a lock changed"

    def _changed_file(self, job: Job) -> Path:
        return job.root / str(_only_cell_of_toolkit(job)["lock"])

    def _edit(self, text: str, number: int) -> str:
        before, hash_line, after = text.partition("    --hash=sha256:")
        return f"{before}{hash_line}{number:064x} \\\n{hash_line}{after}"


class Published(Scenario):
    """Publish images that the registry already has."""

    name, title, cheap = "publish", "publish an unchanged release", True
    contenders = (OURS, PUSH)

    def prepare(self, job: Job) -> None:
        _build_all(job)
        self._relay = Relay(job.sandbox.port)
        self._relay.start()
        for who in self.contenders:
            self.measure(job, who)

    def measure(self, job: Job, who: str) -> Measurement:
        registry = f"127.0.0.1:{self._relay.port}"
        self._relay.reset()
        before = self._requests(job)
        if who == OURS:
            measurement = job.timed((*RLIMAGES, "publish", *job.selection, "--to", registry))
        else:
            commands = []
            for name in job.images:
                job.sandbox.docker("tag", name, f"{registry}/{name}")
                commands.append(f"docker push --quiet {registry}/{name}")
            measurement = job.timed(("sh", "-c", " && ".join(commands)))
        facts = {"sent": self._relay.sent, "requests": self._requests(job) - before}
        return Measurement(seconds=measurement.seconds, facts=facts)

    def _requests(self, job: Job) -> int:
        return sum(b" HTTP/1." in line for line in job.sandbox.registry_log.read_bytes().splitlines())


class Growth(Scenario):
    """Run one command on synthetic matrices of several sizes. A contender is a number of cells."""

    contenders, cheap = tuple(map(str, SIZES)), True

    def __init__(self, name: str, title: str, arguments: Sequence[str], *, first: bool = False) -> None:
        """With `first`, the cache of the matrix is removed before each attempt, as if the matrix had been edited."""
        self.name, self.title = name, title
        self._arguments, self._first = arguments, first

    def prepare(self, job: Job) -> None:
        for size in SIZES:
            root = job.sandbox.home / f"cells-{size}"
            if not (root / "done").is_file():
                shutil.rmtree(root, ignore_errors=True)
                synthetic.large(root, size)
                job.sandbox.rlimages("render", root=root)
                (root / "done").touch()
            job.sandbox.rlimages("list", root=root)

    def measure(self, job: Job, who: str) -> Measurement:
        if self._first:
            job.sandbox.clear_matrix_cache()
        argv, root = (*RLIMAGES, *self._arguments), job.sandbox.home / f"cells-{who}"
        return timed(argv, cwd=root, env=job.sandbox.env, log=job.sandbox.log, passed=(0, 10))


def growth_scenarios() -> tuple[Growth, ...]:
    """Return the commands whose time must not grow faster than the matrix."""
    return (
        Growth("list-first", "`list`, the matrix just edited", ["list"], first=True),
        Growth("list", "`list`", ["list"]),
        Growth("render", "`render --check`", ["render", "--check"]),
        Growth("plan-cells", "`plan`", ["plan"]),
    )


def all_scenarios() -> tuple[Scenario, ...]:
    """Return all scenarios, in the order in which they are measured."""
    building = (Cold(), Unchanged(), Planned(), File(), LockLine(), Published(), Small())
    programs = (
        Program("startup", "from `docker run` to the first line of a script", repeats=True),
        Program("sizes", "images beside a plain installation", repeats=False),
    )
    available = [program for program in programs if (Path(__file__).parent / f"{program.name}.py").is_file()]
    return (*growth_scenarios(), *building, *available)


def _build_all(job: Job) -> None:
    """Build all cells with `rlimages` and with plain Docker, so that both find them up to date."""
    job.build(OURS)
    job.build(PLAIN)


def _bases(job: Job) -> tuple[str, ...]:
    cells = json.loads(job.sandbox.rlimages("list", "--json", *job.selection))
    return tuple(dict.fromkeys(str(cell["base"]) for cell in cells))


def _only_cell_of_toolkit(job: Job) -> dict[str, Any]:
    """Return a selected cell that is the only one of its toolkit: no other image has files of the toolkit's folder."""
    cells = json.loads(job.sandbox.rlimages("list", "--json", *job.selection))
    toolkits = [_toolkit(cell) for cell in cells]
    single = [cell for cell, toolkit in zip(cells, toolkits, strict=True) if toolkits.count(toolkit) == 1]
    if not single:
        raise BenchmarkError("no selected cell is the only one of its toolkit; select others with --select")
    return dict(single[0])


def _toolkit(cell: dict[str, Any]) -> str:
    return str(cell["recipe"].partition("/")[0])


def _require_built(job: Job, measurement: Measurement, expected: int, who: str) -> None:
    """Raise `BenchmarkError` if the builder made another number of images: then something else was measured."""
    built = measurement.facts["built"]
    if built != expected:
        raise BenchmarkError(f"{who} made {built:.0f} new images, not {expected}; see {job.sandbox.log}")
