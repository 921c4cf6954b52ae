"""What is asked of a container engine, and what it answers: values and a protocol. `docker_engine` is one."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from rlimages.holdings import Holdings
from rlimages.plan import BuildStep
from rlimages.results import Image

if TYPE_CHECKING:
    from rlimages.container import Checked
    from rlimages.shell import Ended

REMEDY = 'start Docker, or: scripts/engine up && eval "$(scripts/engine env)"'


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """How one build ended."""

    ended: "Ended"
    image: str = ""
    """Id of what was built; empty when nothing was."""
    trouble: str = ""
    """The output of what failed, and what BuildKit said about it; empty when it passed."""
    worked: bool = False
    """True when a step was really run; False when all came from the builder's cache."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalImage:
    """An image of the local store, and how it is configured."""

    image: Image
    labels: Mapping[str, str]
    env: tuple[str, ...]
    """`NAME=value`."""
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    user: str
    workdir: str
    created: str = ""
    """RFC 3339; empty where it does not say."""


class Engine(Protocol):
    """What the workshop asks of an engine. A test is another engine."""

    def version(self) -> str:
        """The engine and its builder, for people. Raises `ToolError` when none answers."""

    def build(self, step: BuildStep, root: Path, log: Path, on_progress: Callable[[str], None]) -> Built:
        """Build one image with `root` as context; `on_progress` hears the name of each step as it begins."""

    def check(self, image: str, argv: Sequence[str], folder: Path, log: Path, timeout: float) -> "Checked":
        """Run a program inside an image, with `folder` read-only at /checks and no network."""

    def inspect(self, reference: str) -> LocalImage | None:
        """What the local store holds under this name or id."""

    def holdings(self) -> Holdings:
        """All that the local store holds."""

    def name(self, image: str, reference: str) -> None:
        """Give an image of the local store a name, which another may have had."""

    def save(self, image: str) -> Iterator[bytes]:
        """An image of the local store as `docker image save` gives it."""

    def cleanup(self) -> tuple[str, ...]:
        """Remove what runs left behind whose process is dead; one sentence for each thing removed."""

    def forget(self, images: Collection[str]) -> tuple[str, ...]:
        """Of these images, by id, remove those of a cell that have no name any more; one sentence for each."""


def build_argv(step: BuildStep, *, metadata: Path, progress: str = "rawjson") -> list[str]:
    """The exact command of one build, to be run in the project's root, which is its context."""
    argv = ["docker", "buildx", "build", f"--progress={progress}", "--provenance=false", "--sbom=false", "--load"]
    argv += [f"--metadata-file={metadata}", f"--file={step.recipe}", f"--tag={step.image}"]
    argv += ["--no-cache"] if step.no_cache else []
    argv += [f"--cache-from=type=registry,ref={image}" for image in step.cache_from]
    argv += ["--cache-to=type=inline"] if step.inline_cache else []
    argv += [f"--build-arg={name}={value}" for name, value in step.arguments]
    argv += [f"--build-arg=SOURCE_DATE_EPOCH={step.epoch}"] if step.epoch is not None else []
    argv += [f"--build-context={name}={source}" for name, source in step.contexts]
    argv += [f"--label={name}={value}" for name, value in step.labels]
    return [*argv, "."]
