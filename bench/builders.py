"""Three ways to build the same cells: the factory, one `docker build` after another, and `docker buildx bake`."""

import json
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import machine
from bake import bake_file
from figures import Taken
from sandbox import FACTORY, Sandbox
from timed import timed

OURS, PLAIN, BAKE = "rlimages", "docker build, one after another", "docker buildx bake"
BUILDERS = (OURS, PLAIN, BAKE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """Cells of a project, to be built by any of them."""

    sandbox: Sandbox
    root: Path
    """The project."""
    patterns: tuple[str, ...]

    @property
    def selection(self) -> tuple[str, ...]:
        """The words of the command line that choose the cells."""
        return tuple(word for pattern in self.patterns for word in ("--select", pattern))

    @property
    def images(self) -> tuple[str, ...]:
        """What is built, by name."""
        cells = json.loads(self.sandbox.rlimages("list", "--json", *self.selection, root=self.root))
        return tuple(f"{cell['repository']}:{cell['tags'][0]}" for cell in cells)

    def commands(self) -> Mapping[str, tuple[str, ...]]:
        """Cell -> the exact command of its build as the project is now, from the factory's own plan."""
        words = ("plan", "--commands", "--no-cache", *self.selection)
        said = self.sandbox.rlimages(*words, root=self.root, passed=(0, 10)).splitlines()
        found = {}
        for title, command in zip(said[::2], said[1::2], strict=True):
            cell = title.removeprefix("# ").partition(":")[0]
            found[cell] = tuple(self._own(word) for word in shlex.split(command) if word != "--no-cache")
        return found

    def build(self, who: str) -> Taken:
        """Build with one of them; `built` counts the images that are not what they were."""
        commands = {} if who == OURS else self.commands()
        file = self.sandbox.home / "bake.json"
        file.write_text(json.dumps(bake_file(commands)) if who == BAKE else "")
        before = self.sandbox.ids(self.images)
        busy = machine.busy()
        if who == OURS:
            taken = self.timed((*FACTORY, "build", *self.selection))
        elif who == BAKE:
            words = ("--load", "--provenance=false", "--sbom=false", "--progress=plain")
            taken = self.timed(("docker", "buildx", "bake", f"--file={file}", *words))
        else:
            began = time.perf_counter()
            memory = max(self.timed(command).facts["memory"] for command in commands.values())
            taken = Taken(seconds=time.perf_counter() - began, facts={"memory": memory})
        cores = (machine.busy() - busy) / taken.seconds
        after = self.sandbox.ids(self.images)
        built = sum(before.get(name) != identity for name, identity in after.items())
        return Taken(seconds=taken.seconds, facts={**taken.facts, "built": built, "cores": cores})

    def timed(self, argv: Sequence[str]) -> Taken:
        """Run a program in the project."""
        return timed(argv, cwd=self.root, env=self.sandbox.env, log=self.sandbox.log)

    def _own(self, word: str) -> str:
        """Metadata goes where it makes no checkout dirty."""
        return f"--metadata-file={self.sandbox.home}/metadata.json" if word.startswith("--metadata-file=") else word
