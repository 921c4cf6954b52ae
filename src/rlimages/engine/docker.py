"""The Docker engine behind the `Engine` interface: builds with buildx, all else with the Docker client."""

import json
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlimages.engine.cleanup import data_folder, prune_build_cache, remove_dangling_images, remove_orphans
from rlimages.engine.container import ContainerRun, engine_errors, run_confined
from rlimages.engine.protocol import (
    ENGINE_REMEDY,
    BuildOutcome,
    BuildRequest,
    BuiltImage,
    InspectedImage,
    LocalImage,
    LocalImages,
)
from rlimages.engine.socket_api import has_label, list_images
from rlimages.errors import ToolError
from rlimages.oci.labels import CELL_LABEL, PROCESS_LABEL, RUN_LABEL
from rlimages.system.process import Stop, run_program, this_process

if TYPE_CHECKING:
    from docker import DockerClient

    from rlimages.oci.history import StoredImage
    from rlimages.oci.manifest import ImageConfig
    from rlimages.oci.path_index import PathKind


_SAVE_CHUNK = 1 << 20
"""Bytes of a saved image that are read at a time."""
_PRUNE_TIMEOUT = 600
"""Seconds for the engine to answer a request that removes build cache, which it does file by file."""
_RAWJSON_SINCE = (0, 13)
"""The first buildx version with `--progress=rawjson`."""


class DockerEngine:
    """The Docker engine of the environment (`DOCKER_HOST`), with buildx as the builder.

    The connection is made when it is first needed, so that a command with nothing to do never loads the client.
    """

    def __init__(self, *, run: str, stop: Stop, memory: int | None = None) -> None:
        """Label everything that is created with the name `run`; end builds and containers when `stop` is set.

        `memory` is the memory limit in bytes of a container that runs one check. Without it, the limit is three
        quarters of the memory of the engine's machine.
        """
        self._run = run
        self._stop = stop
        self._memory_cap = memory

    def client(self) -> "DockerClient":
        """Return the Docker client; the first call connects it. Raises `ToolError` if no engine answers."""
        return self._connection

    def labels(self) -> Mapping[str, str]:
        """Return the labels of the containers and networks that this run creates.

        If the run is killed, a later run finds by them what it left behind.
        """
        return {RUN_LABEL: self._run, PROCESS_LABEL: self._process}

    def close(self) -> None:
        """Close the connection to the engine, if one was made."""
        if "_connection" in self.__dict__:
            self._connection.close()

    def version(self) -> str:
        """Return a text for people with the versions of Docker and buildx. Raises `ToolError` if no engine answers."""
        with translating_errors():
            return f"Docker {self.client().version()['Version']}, buildx {'.'.join(map(str, self._buildx))}"

    def build(self, request: BuildRequest, root: Path, log: Path, on_progress: Callable[[str], None]) -> BuildOutcome:
        """Build the image of `request` with the folder `root` as context; remove the image that had its name before.

        The output is appended to `log`; BuildKit's metadata is written to the `.json` file beside it. `on_progress` is
        called with the name of each step that starts. A failed build is a result. Raises `ToolError` if the builder or
        the engine is missing.
        """
        from rlimages.engine.buildx import ProgressParser, build_argv

        progress = "rawjson" if self._buildx >= _RAWJSON_SINCE else "plain"
        metadata = log.with_suffix(".json").resolve()
        # Before the build, because the build gives this name to the new image.
        previous = self.inspect(request.tag)
        with log.open("a", encoding="utf-8") as file:
            parser = ProgressParser(lambda line: print(line, file=file, flush=True), on_progress)
            argv = build_argv(request, metadata=metadata, progress=progress)
            process = run_program(
                argv, on_line=parser.feed, timeout=request.timeout, stop=self._stop, cwd=root, remedy=ENGINE_REMEDY
            )
            parser.close()
        if not process.passed:
            return BuildOutcome(process=process, error=parser.error)
        self._remove_untagged(previous)
        image = json.loads(metadata.read_text())["containerimage.config.digest"]
        return BuildOutcome(process=process, image=image, ran_steps=parser.ran_steps)

    def run_in_image(self, image: str, argv: Sequence[str], folder: Path, log: Path, timeout: float) -> ContainerRun:
        """Run the program `argv` in a new container of `image` without network; append its output to `log`.

        `folder` is mounted read-only at /checks. The container is killed after `timeout` seconds. If it cannot be
        started, the result has the exit code 125.
        """
        return run_confined(
            self.client(),
            image,
            argv,
            folder=folder,
            log=log,
            labels=self.labels(),
            memory=self._memory,
            timeout=timeout,
            stop=self._stop,
        )

    def inspect(self, reference: str) -> InspectedImage | None:
        """Return the image `reference` (name or id) of the local store (the engine's images); None if there is none."""
        from docker.errors import APIError

        with translating_errors():
            try:
                image: dict[str, Any] = self.client().images.get(reference).attrs
            except APIError as error:
                if error.status_code in (400, 404):  # 400: the reference is not a valid image name
                    return None
                raise
        config = image.get("Config") or {}
        return InspectedImage(
            image=BuiltImage(id=image["Id"], size=image["Size"]),
            labels=config.get("Labels") or {},
            env=tuple(config.get("Env") or ()),
            entrypoint=tuple(config.get("Entrypoint") or ()),
            command=tuple(config.get("Cmd") or ()),
            user=config.get("User") or "",
            workdir=config.get("WorkingDir") or "",
            created=image.get("Created") or "",
        )

    def local_images(self) -> LocalImages:
        """Return the list of all images in the local store (the engine's images)."""
        listed = list_images(os.environ)
        if listed is None:
            with translating_errors():
                listed = self.client().api.images()
        return LocalImages(
            tuple(
                LocalImage(
                    id=image["Id"],
                    names=tuple(name for name in image["RepoTags"] or () if "<none>" not in name),
                    digests=tuple(name for name in image["RepoDigests"] or () if "<none>" not in name),
                    labels=image["Labels"] or {},
                    size=image["Size"],
                )
                for image in listed
            )
        )

    def tag(self, image: str, reference: str) -> None:
        """Give `image`, a name or id in the local store, the name `reference` (`repository:tag`).

        An image that loses its last name by this is removed.
        """
        repository, _, tag = reference.rpartition(":")
        previous = self.inspect(reference)
        with translating_errors():
            self.client().api.tag(image, repository, tag, force=True)
        self._remove_untagged(previous)

    def read_layers(self, reference: str) -> "StoredImage | None":
        """Return the layers and the history of the local image `reference` (name or id); None if there is none."""
        from rlimages.engine.store import read_stored_image

        with translating_errors():
            return read_stored_image(self.client(), reference)

    def remove_image(self, reference: str) -> None:
        """Remove the name `reference` from its local image, and the image with its last name. Ignore errors."""
        with suppress(*engine_errors()):  # already removed, or in use by a container or another image
            self.client().api.remove_image(reference)

    def read_config(self, reference: str) -> "ImageConfig | None":
        """Return the configuration and history of the local image `reference` (name or id); None if there is none."""
        from rlimages.engine.store import read_config

        with translating_errors():
            return read_config(self.client(), reference)

    def read_path_kinds(self, image: str, paths: Sequence[str]) -> "Mapping[str, PathKind]":
        """Return path -> what exists there in the local image `image`, without running it.

        `paths` are absolute. Paths at which nothing exists are left out.
        """
        from rlimages.engine.store import read_path_kinds

        with translating_errors():
            return read_path_kinds(self.client(), image, paths, self.labels())

    def save(self, image: str) -> Iterator[bytes]:
        """Yield the local image `image` (name or id) in pieces, as the archive that `docker image save` writes."""
        with translating_errors():
            yield from self.client().images.get(image).save(chunk_size=_SAVE_CHUNK)

    def remove_orphans(self) -> tuple[str, ...]:
        """Remove the containers, networks and volumes that runs of this machine left behind when their process died.

        Return one line for each that was removed, for people.
        """
        # Usually there is none, and asking over the socket does not load the Docker client.
        if has_label(PROCESS_LABEL, os.environ) is False:
            return ()
        with translating_errors():
            return tuple(remove_orphans(self.client()))

    def remove_dangling(self, images: Collection[str]) -> tuple[str, ...]:
        """Remove the images of `images` (ids) that have the label of a cell and no name.

        Return one line for each that was removed, for people. Images in use are kept.
        """
        dangling = list_images(os.environ, label=CELL_LABEL, dangling="true") if images else []
        if dangling is not None and not any(image["Id"] in images for image in dangling):
            return ()
        with translating_errors():
            return tuple(remove_dangling_images(self.client(), images))

    def data_folder(self) -> Path | None:
        """Return the folder in which the engine stores its images; None if the engine is on another machine."""
        with translating_errors():
            return data_folder(self.client(), os.environ)

    def prune_build_cache(self, size: int) -> tuple[str, ...]:
        """Remove `size` bytes of build cache, the oldest first; return one line for people if anything was removed.

        Nothing is removed from an engine that `scripts/engine` did not start.
        """
        import docker

        # A client of its own: pruning takes longer than any other request may.
        with translating_errors(), closing(docker.from_env(timeout=_PRUNE_TIMEOUT)) as client:
            return tuple(prune_build_cache(client, size, os.environ))

    def _remove_untagged(self, image: InspectedImage | None) -> None:
        """Remove `image` if it has no name any more. If it stayed, every rebuild would leave gigabytes behind."""
        with suppress(*engine_errors()):  # already removed, or in use by a container or another image
            if image and not self.client().images.get(image.image.id).tags:
                self.client().api.remove_image(image.image.id)

    @cached_property
    def _process(self) -> str:
        """The id of this process, which stays unique when the operating system uses its number again."""
        return this_process()

    @cached_property
    def _connection(self) -> "DockerClient":
        """The connected Docker client. Raises `ToolError` if no engine answers."""
        import docker

        try:
            client = docker.from_env(timeout=60, max_pool_size=32)
            client.ping()
        except engine_errors() as error:
            raise ToolError(f"no Docker engine answers ({error}); {ENGINE_REMEDY}") from error
        return client

    @cached_property
    def _buildx(self) -> tuple[int, ...]:
        """The version of the buildx plugin, as numbers. Raises `ToolError` if it is not installed."""
        output: list[str] = []
        process = run_program(["docker", "buildx", "version"], on_line=output.append, remedy=ENGINE_REMEDY)
        found = re.search(r"\bv?(\d+)\.(\d+)\.(\d+)", "\n".join(output))
        if not process.passed or found is None:
            raise ToolError(f"docker has no buildx plugin; install docker-buildx, or {ENGINE_REMEDY}")
        return tuple(map(int, found.groups()))

    @cached_property
    def _memory(self) -> int:
        """Memory limit in bytes of a container that runs one check."""
        with translating_errors():
            return self._memory_cap or int(self.client().info()["MemTotal"]) * 3 // 4


@contextmanager
def translating_errors() -> Iterator[None]:
    """Turn every error of the Docker client in the `with` block into a `ToolError`."""
    try:
        yield
    except engine_errors() as error:
        raise ToolError(f"the Docker engine does not answer any more ({error}); {ENGINE_REMEDY}") from error
