"""The Docker engine, as small as we need it: build, check, inspect, push, clean up."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rlimages.plan import BuildStep
from rlimages.results import Image
from rlimages.shell import Ended, Stop

REMEDY = 'start Docker, or `eval "$(scripts/engine env)"` after `scripts/engine up`'


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """How one build ended."""

    ended: Ended
    trouble: str
    """The log of what failed, and what BuildKit said about it; empty when it passed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """How one program inside an image ended."""

    ended: Ended
    last_line: str
    """The last line it printed that is not empty."""
    trouble: str = ""
    """Why it could not start, or was killed; empty otherwise."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalImage:
    """An image of the local store, and how it is configured."""

    image: Image
    labels: Mapping[str, str]
    env: tuple[str, ...]
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    user: str
    workdir: str


class Engine(Protocol):
    """What the workshop asks of an engine. A test is another engine."""

    def version(self) -> str:
        """The engine and its builder, for people. Raises `ToolError` when none answers."""

    def build(self, step: BuildStep, root: Path, log: Path, on_progress: Callable[[str], None]) -> Built:
        """Build one image with `root` as context; `on_progress` hears the name of each step as it begins."""

    def check(self, image: str, argv: Sequence[str], folder: Path, log: Path, timeout: float) -> Checked:
        """Run a program inside an image, with `folder` read-only at /checks and no network."""

    def inspect(self, reference: str) -> LocalImage | None:
        """What the local store holds under this name or id."""

    def push(self, image: str, target: str, log: Path) -> Ended:
        """Push an image of the local store to `registry/repository:tag`."""

    def cleanup(self) -> tuple[str, ...]:
        """Remove what runs left behind whose process is dead; one sentence for each thing removed."""


class DockerEngine:
    """The engine behind `docker` and its socket, with buildx as the builder."""

    def __init__(self, *, run: str, stop: Stop) -> None:
        """`run` names the containers' owner; `stop` ends whatever is going on."""
        self._run = run
        self._stop = stop
