"""Build the same cells in three ways: `rlimages build`, one `docker build` after another, `docker buildx bake`."""

import json
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import machine
from bake import bake_definition
from figures import Measurement
from sandbox import RLIMAGES, Sandbox
from timed import timed

OURS, PLAIN, BAKE = "rlimages", "docker build, one after another", "docker buildx bake"
BUILDERS = (OURS, PLAIN, BAKE)


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """Some cells of a project, which each builder can build."""

    sandbox: Sandbox
    root: Path
    """The folder of the project."""
    patterns: tuple[str, ...]

    @property
    def selection(self) -> tuple[str, ...]:
        """The arguments that select the cells."""
        return tuple(word for pattern in self.patterns for word in ("--select", pattern))

    @property
    def images(self) -> tuple[str, ...]:
        """The local names of the images."""
        cells = json.loads(self.sandbox.rlimages("list", "--json", *self.selection, root=self.root))
        return tuple(f"{cell['repository']}:{cell['tags'][0]}" for cell in cells)

    def commands(self) -> Mapping[str, tuple[str, ...]]:
        """Return the build command of each cell for the current files of the project, from `rlimages plan`."""
        words = ("plan", "--commands", "--no-cache", *self.selection)
        lines = self.sandbox.rlimages(*words, root=self.root, passed=(0, 10)).splitlines()
        commands = {}
        for title, command in zip(lines[::2], lines[1::2], strict=True):
            cell = title.removeprefix("# ").partition(":")[0]
            # The plan has a command for every cell only with --no-cache; the builders here use their caches.
            commands[cell] = tuple(
                self._metadata_outside(argument) for argument in shlex.split(command) if argument != "--no-cache"
            )
        return commands

    def build(self, who: str) -> Measurement:
        """Build the cells with one builder and measure it. `built` counts the images whose id has changed."""
        commands = {} if who == OURS else self.commands()
        file = self.sandbox.home / "bake.json"
        file.write_text(json.dumps(bake_definition(commands)) if who == BAKE else "")
        before = self.sandbox.image_ids(self.images)
        busy_before = machine.busy_seconds()
        if who == OURS:
            measurement = self.timed((*RLIMAGES, "build", *self.selection))
        elif who == BAKE:
            words = ("--load", "--provenance=false", "--sbom=false", "--progress=plain")
            measurement = self.timed(("docker", "buildx", "bake", f"--file={file}", *words))
        else:
            started = time.perf_counter()
            memory = max(self.timed(command).facts["memory"] for command in commands.values())
            measurement = Measurement(seconds=time.perf_counter() - started, facts={"memory": memory})
        cores = (machine.busy_seconds() - busy_before) / measurement.seconds
        after = self.sandbox.image_ids(self.images)
        built = sum(before.get(name) != image_id for name, image_id in after.items())
        return Measurement(seconds=measurement.seconds, facts={**measurement.facts, "built": built, "cores": cores})

    def timed(self, argv: Sequence[str]) -> Measurement:
        """Run a program in the folder of the project and measure it."""
        return timed(argv, cwd=self.root, env=self.sandbox.env, log=self.sandbox.log)

    def _metadata_outside(self, argument: str) -> str:
        """Return the argument; `--metadata-file` with a path outside the project, which must not change."""
        is_metadata = argument.startswith("--metadata-file=")
        return f"--metadata-file={self.sandbox.home}/metadata.json" if is_metadata else argument
