"""What is measured, with whom. A scenario is prepared once and then taken many times, by its contenders in turn."""

import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import synthetic
from builders import BAKE, BUILDERS, OURS, PLAIN, Job
from figures import Taken
from relay import Relay
from sandbox import FACTORY
from timed import Failed, output, timed

SMALL = 200
SIZES = (10, 100, 1_000, 10_000)
PUSH = "docker push"
PEERS = (PLAIN, BAKE, PUSH)


class Scenario:
    """One row of the result."""

    name: str
    title: str
    contenders: tuple[str, ...] = BUILDERS
    cheap = False
    """Takes seconds a round, not minutes."""

    def prepare(self, job: Job) -> None:
        """Bring about what every attempt begins with."""
        raise NotImplementedError

    def take(self, job: Job, who: str) -> Taken:
        """One attempt."""
        raise NotImplementedError


class Program(Scenario):
    """Another program of this folder that prints a table of its own."""

    contenders = (OURS,)

    def __init__(self, name: str, title: str, *, repeats: bool) -> None:
        """`repeats` says whether it knows rounds."""
        self.name, self.title = name, title
        self._repeats = repeats

    def prepare(self, job: Job) -> None:
        _built(job)

    def table(self, job: Job, rounds: int) -> str:
        """What it prints; one that finds something too slow or too large says so with exit code 1."""
        words = [sys.executable, str(job.root / f"bench/{self.name}.py"), *job.patterns]
        words += ["--rounds", str(rounds)] if self._repeats else []
        return output(words, cwd=job.root, env=job.sandbox.env, passed=(0, 1))


class Cold(Scenario):
    """Everything from nothing but the bases: no image, no layer, no package that a builder remembers."""

    name, title = "cold", "cold build"

    def prepare(self, job: Job) -> None:
        job.sandbox.rlimages("bases", *job.selection)

    def take(self, job: Job, who: str) -> Taken:
        job.sandbox.empty(_bases(job))
        shutil.rmtree(job.root / ".rlimages", ignore_errors=True)
        job.sandbox.forget()
        os.sync()
        taken = job.build(who)
        _insist(job, taken, len(job.images), who)
        return taken


class Unchanged(Scenario):
    """All is up to date, and is asked to be built again."""

    name, title, cheap = "unchanged", "nothing changed", True

    def prepare(self, job: Job) -> None:
        _built(job)

    def take(self, job: Job, who: str) -> Taken:
        taken = job.build(who)
        _insist(job, taken, 0, who)
        return taken


class Planned(Scenario):
    """All cells of the matrix, most of which were never built here, are asked what would be done."""

    name, title, cheap = "plan", "`rlimages plan`, the whole matrix", True
    contenders = (OURS,)

    def prepare(self, job: Job) -> None:
        _built(job)

    def take(self, job: Job, who: str) -> Taken:
        argv = (*FACTORY, "plan")
        return timed(argv, cwd=job.root, env=job.sandbox.env, log=job.sandbox.log, passed=(0, 10))


class Small(Scenario):
    """Many small cells, none of which changed."""

    name, title = "small", f"nothing changed, {SMALL} small cells"

    def prepare(self, job: Job) -> None:
        job.sandbox.rlimages("bases", *job.selection)
        self._job = Job(sandbox=job.sandbox, root=job.sandbox.home / "small", patterns=("*",))
        shutil.rmtree(self._job.root, ignore_errors=True)
        synthetic.small(self._job.root, SMALL, _bases(job)[0])
        job.sandbox.rlimages("render", root=self._job.root)
        _built(self._job)

    def take(self, job: Job, who: str) -> Taken:
        taken = self._job.build(who)
        _insist(self._job, taken, 0, who)
        return taken


class Changed(Scenario):
    """One input that one cell uses is another each time; before, all was up to date."""

    def __init__(self) -> None:
        self._count = 0

    def prepare(self, job: Job) -> None:
        _built(job)
        self._file = self._chosen(job)
        self._before = self._file.read_text()

    def take(self, job: Job, who: str) -> Taken:
        self._count += 1
        self._file.write_text(self._edited(self._before, os.getpid() * 1000 + self._count))
        try:
            taken = job.build(who)
        finally:
            self._file.write_text(self._before)
        _insist(job, taken, 1, who)
        return taken

    def _chosen(self, job: Job) -> Path:
        raise NotImplementedError

    def _edited(self, text: str, number: int) -> str:
        raise NotImplementedError


class File(Changed):
    """A script that is copied into one image."""

    name, title = "file", "one file of one cell changed"

    def _chosen(self, job: Job) -> Path:
        toolkit = _toolkit(_alone(job))
        files = sorted(path for path in (job.root / toolkit / "rootfs").rglob("*") if path.is_file())
        scripts = [path for path in files if path.suffix == ".py" or path.read_bytes()[:2] == b"#!"]
        if not scripts:
            raise Failed(f"{toolkit}/rootfs has no script to change")
        return scripts[0]

    def _edited(self, text: str, number: int) -> str:
        return f"{text}# {number}\n"


class LockLine(Changed):
    """One more hash that a package may have: its image is installed again, with the packages that it had."""

    name, title = "lock", "one line of a lock changed"

    def _chosen(self, job: Job) -> Path:
        return job.root / str(_alone(job)["lock"])

    def _edited(self, text: str, number: int) -> str:
        before, hash_line, after = text.partition("    --hash=sha256:")
        return f"{before}{hash_line}{number:064x} \\\n{hash_line}{after}"


class Published(Scenario):
    """A release that the registry has already."""

    name, title, cheap = "publish", "publish an unchanged release", True
    contenders = (OURS, PUSH)

    def prepare(self, job: Job) -> None:
        _built(job)
        self._relay = Relay(job.sandbox.port)
        self._relay.start()
        for who in self.contenders:
            self.take(job, who)

    def take(self, job: Job, who: str) -> Taken:
        place = f"127.0.0.1:{self._relay.port}"
        self._relay.reset()
        before = self._requests(job)
        if who == OURS:
            taken = job.timed((*FACTORY, "publish", *job.selection, "--to", place))
        else:
            commands = []
            for name in job.images:
                job.sandbox.docker("tag", name, f"{place}/{name}")
                commands.append(f"docker push --quiet {place}/{name}")
            taken = job.timed(("sh", "-c", " && ".join(commands)))
        facts = {"sent": self._relay.sent, "requests": self._requests(job) - before}
        return Taken(seconds=taken.seconds, facts=facts)

    def _requests(self, job: Job) -> int:
        return sum(b" HTTP/1." in line for line in job.sandbox.registry_log.read_bytes().splitlines())


class Growth(Scenario):
    """One verb on synthetic matrices of several sizes: a contender is a size."""

    contenders, cheap = tuple(map(str, SIZES)), True

    def __init__(self, name: str, title: str, words: Sequence[str], *, first: bool = False) -> None:
        """`first` forgets the matrix before each attempt, as after an edit of it."""
        self.name, self.title = name, title
        self._words, self._first = words, first

    def prepare(self, job: Job) -> None:
        for size in SIZES:
            root = job.sandbox.home / f"cells-{size}"
            if not (root / "done").is_file():
                shutil.rmtree(root, ignore_errors=True)
                synthetic.large(root, size)
                job.sandbox.rlimages("render", root=root)
                (root / "done").touch()
            job.sandbox.rlimages("list", root=root)

    def take(self, job: Job, who: str) -> Taken:
        if self._first:
            job.sandbox.forget()
        argv, root = (*FACTORY, *self._words), job.sandbox.home / f"cells-{who}"
        return timed(argv, cwd=root, env=job.sandbox.env, log=job.sandbox.log, passed=(0, 10))


def growths() -> tuple[Growth, ...]:
    """The verbs whose time must grow no faster than the matrix."""
    return (
        Growth("list-first", "`list`, the matrix just edited", ["list"], first=True),
        Growth("list", "`list`", ["list"]),
        Growth("render", "`render --check`", ["render", "--check"]),
        Growth("plan-cells", "`plan`", ["plan"]),
    )


def everything() -> tuple[Scenario, ...]:
    """All that is measured, in this order."""
    building = (Cold(), Unchanged(), Planned(), File(), LockLine(), Published(), Small())
    programs = (
        Program("startup", "from `docker run` to the first line of a script", repeats=True),
        Program("sizes", "images beside a plain installation", repeats=False),
    )
    there = [program for program in programs if (Path(__file__).parent / f"{program.name}.py").is_file()]
    return (*growths(), *building, *there)


def _built(job: Job) -> None:
    """All cells up to date, as the factory sees it and as Docker does."""
    job.build(OURS)
    job.build(PLAIN)


def _bases(job: Job) -> tuple[str, ...]:
    shown = json.loads(job.sandbox.rlimages("list", "--json", *job.selection))
    return tuple(dict.fromkeys(str(cell["base"]) for cell in shown))


def _alone(job: Job) -> dict[str, Any]:
    """A chosen cell that is the only one of its toolkit: what lies in the toolkit's folder is in no other image."""
    shown = json.loads(job.sandbox.rlimages("list", "--json", *job.selection))
    toolkits = [_toolkit(cell) for cell in shown]
    found = [cell for cell, toolkit in zip(shown, toolkits, strict=True) if toolkits.count(toolkit) == 1]
    if not found:
        raise Failed("no chosen cell is the only one of its toolkit; choose others with --select")
    return dict(found[0])


def _toolkit(cell: dict[str, Any]) -> str:
    return str(cell["recipe"].partition("/")[0])


def _insist(job: Job, taken: Taken, wanted: int, who: str) -> None:
    """A figure for something else than what was asked is no figure."""
    if taken.facts["built"] != wanted:
        raise Failed(f"{who} made {taken.facts['built']:.0f} new images, not {wanted}; see {job.sandbox.log}")
