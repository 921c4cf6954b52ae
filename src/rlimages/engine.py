"""The Docker engine, as small as we need it: build, check, inspect, save, clean up.

buildx builds, because the engine's Python client has no BuildKit (docker/docker-py issue 2230); that client runs,
watches, inspects and saves. Pushing is ours: see `release`.
"""

import json
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from rlimages import leftovers, peek, yard
from rlimages.buildkit import Listener
from rlimages.container import Checked, engine_errors, run_confined
from rlimages.distribution import Configuration
from rlimages.errors import ToolError
from rlimages.holdings import Holding, Holdings
from rlimages.host import ContainerHost, open_hosts
from rlimages.hosting import Endpoint
from rlimages.instance import Instance, open_instance, published
from rlimages.job import Job
from rlimages.layers import Entry
from rlimages.plan import BuildStep
from rlimages.results import Image
from rlimages.shell import Ended, Stop, run, this_process
from rlimages.stack import Stored

if TYPE_CHECKING:
    from docker import DockerClient

REMEDY = 'start Docker, or: scripts/engine up && eval "$(scripts/engine env)"'
ENDPOINT_LABEL = "rlimages.endpoint"
"""On the containers of endpoints that anyone may invoke: the name of the endpoint."""
_PIECE = 1 << 20
"""Bytes of a saved image at a time."""
_PRUNING = 600
"""Seconds that an engine may take to remove build cache: it deletes file by file."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Built:
    """How one build ended."""

    ended: Ended
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

    def check(self, image: str, argv: Sequence[str], folder: Path, log: Path, timeout: float) -> Checked:
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


class DockerEngine:
    """The engine behind `docker` and its socket, with buildx as the builder."""

    def __init__(self, *, run: str, stop: Stop, memory: int | None = None) -> None:
        """`run` names the containers' owner; `stop` ends whatever is going on; `memory` (bytes) caps each check."""
        self._run = run
        self._stop = stop
        self._cap = memory

    def close(self) -> None:
        """Hang up."""
        if "_client" in self.__dict__:
            self._client.close()

    def version(self) -> str:
        """The engine and its builder, for people. Raises `ToolError` when none answers."""
        with _answering():
            return f"Docker {self._client.version()['Version']}, buildx {'.'.join(map(str, self._buildx))}"

    def build(self, step: BuildStep, root: Path, log: Path, on_progress: Callable[[str], None]) -> Built:
        """Build one image with `root` as context; the log is appended to, BuildKit's metadata goes beside it."""
        progress = "rawjson" if self._buildx >= (0, 13) else "plain"
        metadata = log.with_suffix(".json").resolve()
        before = self.inspect(step.image)
        with log.open("a", encoding="utf-8") as file:
            listener = Listener(lambda line: print(line, file=file, flush=True), on_progress)
            argv = build_argv(step, metadata=metadata, progress=progress)
            ended = run(argv, on_line=listener.hear, timeout=step.timeout, stop=self._stop, cwd=root, remedy=REMEDY)
            listener.close()
        if not ended.passed:
            return Built(ended=ended, trouble=listener.trouble)
        self._forget(before)
        image = json.loads(metadata.read_text())["containerimage.config.digest"]
        return Built(ended=ended, image=image, worked=listener.worked)

    def check(self, image: str, argv: Sequence[str], folder: Path, log: Path, timeout: float) -> Checked:
        """Run a program inside an image, without network, and always remove the container afterwards."""
        return run_confined(
            self._client,
            image,
            argv,
            folder=folder,
            log=log,
            labels=self._labels,
            memory=self._memory,
            timeout=timeout,
            stop=self._stop,
        )

    def inspect(self, reference: str) -> LocalImage | None:
        """What the local store holds under this name or id."""
        from docker.errors import APIError

        with _answering():
            try:
                facts: dict[str, Any] = self._client.images.get(reference).attrs
            except APIError as error:
                if error.status_code in (400, 404):  # 400: no image can be called so
                    return None
                raise
        config = facts.get("Config") or {}
        return LocalImage(
            image=Image(id=facts["Id"], size=facts["Size"]),
            labels=config.get("Labels") or {},
            env=tuple(config.get("Env") or ()),
            entrypoint=tuple(config.get("Entrypoint") or ()),
            command=tuple(config.get("Cmd") or ()),
            user=config.get("User") or "",
            workdir=config.get("WorkingDir") or "",
            created=facts.get("Created") or "",
        )

    def holdings(self) -> Holdings:
        """All that the local store holds, in one question."""
        with _answering():
            found = self._client.api.images()
        return Holdings(
            tuple(
                Holding(
                    id=image["Id"],
                    names=tuple(name for name in image["RepoTags"] or () if "<none>" not in name),
                    digests=tuple(name for name in image["RepoDigests"] or () if "<none>" not in name),
                    labels=image["Labels"] or {},
                    size=image["Size"],
                )
                for image in found
            )
        )

    def name(self, image: str, reference: str) -> None:
        """Give an image of the local store a name, which another may have had."""
        repository, _, tag = reference.rpartition(":")
        before = self.inspect(reference)
        with _answering():
            self._client.api.tag(image, repository, tag, force=True)
        self._forget(before)

    def stored(self, reference: str) -> Stored | None:
        """The layers of an image of the local store, and how they came; None where there is none."""
        with _answering():
            return peek.stored(self._client, reference)

    def discard(self, reference: str) -> None:
        """Take a name from an image of the local store, which is gone when that was its last."""
        with suppress(*engine_errors()):  # gone already, or something stands on it
            self._client.api.remove_image(reference)

    def configuration(self, reference: str) -> Configuration | None:
        """What an image of the local store says about itself; None where there is none."""
        with _answering():
            return peek.configuration(self._client, reference)

    def entries(self, image: str, wanted: Sequence[str]) -> Mapping[str, Entry]:
        """What is at these absolute paths of an image, of which nothing is started."""
        with _answering():
            return peek.entries(self._client, image, wanted, self._labels)

    def save(self, image: str) -> Iterator[bytes]:
        """An image of the local store as `docker image save` gives it."""
        with _answering():
            yield from self._client.images.get(image).save(chunk_size=_PIECE)

    @contextmanager
    def hosts(self, job: Job) -> Iterator[tuple[ContainerHost, ...]]:
        """The hosts of a training job, not yet started; they and their network are gone at the end."""
        with _answering(), open_hosts(self._client, job, self._labels) as hosts:
            yield hosts

    @contextmanager
    def instance(self, endpoint: Endpoint) -> Iterator[Instance]:
        """The container of an endpoint, not yet started; it and its volume are gone at the end."""
        labels = self._labels if endpoint.is_batch else {**self._labels, ENDPOINT_LABEL: endpoint.name}
        with _answering(), open_instance(self._client, endpoint, labels) as instance:
            yield instance

    def endpoints(self) -> Mapping[str, str]:
        """Name -> address of the endpoints that run on this machine."""
        with _answering():
            running = self._client.containers.list(filters={"label": ENDPOINT_LABEL}, ignore_removed=True)
            found = {container.labels[ENDPOINT_LABEL]: published(container) for container in running}
        return {name: address for name, address in sorted(found.items()) if address}

    def cleanup(self) -> tuple[str, ...]:
        """Remove the containers, networks and volumes of runs whose process is dead."""
        with _answering():
            return tuple(leftovers.remove(self._client))

    def forget(self, images: Collection[str]) -> tuple[str, ...]:
        """Of these images, by id, remove those of a cell that have no name any more; one sentence for each."""
        with _answering():
            return tuple(leftovers.forget(self._client, images))

    def data(self) -> Path | None:
        """The folder that the engine keeps its data in; None where that is not on this machine."""
        with _answering():
            return yard.data(self._client, os.environ)

    def shrink(self, wanted: int) -> tuple[str, ...]:
        """Remove `wanted` bytes of old build cache, on an engine that `scripts/engine` started; else nothing."""
        import docker

        with _answering(), closing(docker.from_env(timeout=_PRUNING)) as client:
            return tuple(yard.shrink(client, wanted, os.environ))

    def _forget(self, image: LocalImage | None) -> None:
        """Remove an image that lost its last name to a newer one, or every rebuild would leave gigabytes behind."""
        with suppress(*engine_errors()):  # it never was, is gone already, or something still stands on it
            if image and not self._client.images.get(image.image.id).tags:
                self._client.api.remove_image(image.image.id)

    @cached_property
    def _labels(self) -> Mapping[str, str]:
        """What everything of this run carries, so that a later one knows whose it was."""
        return {leftovers.RUN_LABEL: self._run, leftovers.PROCESS_LABEL: this_process()}

    @cached_property
    def _client(self) -> "DockerClient":
        import docker

        try:
            client = docker.from_env(timeout=60, max_pool_size=32)
            client.ping()
        except engine_errors() as error:
            raise ToolError(f"no Docker engine answers ({error}); {REMEDY}") from error
        return client

    @cached_property
    def _buildx(self) -> tuple[int, ...]:
        said: list[str] = []
        ended = run(["docker", "buildx", "version"], on_line=said.append, remedy=REMEDY)
        found = re.search(r"\bv?(\d+)\.(\d+)\.(\d+)", "\n".join(said))
        if not ended.passed or found is None:
            raise ToolError(f"docker has no buildx plugin; install docker-buildx, or {REMEDY}")
        return tuple(map(int, found.groups()))

    @cached_property
    def _memory(self) -> int:
        """What one check may use, in bytes: three quarters of the machine's where nothing else was said."""
        with _answering():
            return self._cap or int(self._client.info()["MemTotal"]) * 3 // 4


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except engine_errors() as error:
        raise ToolError(f"the Docker engine does not answer any more ({error}); {REMEDY}") from error


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
