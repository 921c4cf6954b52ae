"""The Docker engine behind the `Engine` interface: builds with buildx, runs and inspects with the Docker client."""

import json
import os
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlimages.engine.buildx import build_argv
from rlimages.engine.container import CheckRun, engine_errors, run_confined
from rlimages.engine.protocol import (
    ENGINE_REMEDY,
    BuildOutcome,
    BuildRequest,
    BuiltImage,
    InspectedImage,
    LocalImage,
    LocalImages,
)
from rlimages.engine.store import remove_orphans, remove_unnamed_images
from rlimages.engine.survey import has_label, list_images
from rlimages.errors import ToolError
from rlimages.oci.labels import CELL_LABEL, PROCESS_LABEL, RUN_LABEL
from rlimages.system.process import Stop, run_program, this_process

if TYPE_CHECKING:
    from docker import DockerClient

    from rlimages.oci.layers import PathKind, StoredImage
    from rlimages.oci.manifest import ImageConfig


_PIECE = 1 << 20
"""Bytes of a saved image at a time."""
_PRUNING = 600
"""Seconds that an engine may take to remove build cache: it deletes file by file."""


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
        with translating_errors():
            return f"Docker {self._client.version()['Version']}, buildx {'.'.join(map(str, self._buildx))}"

    def build(self, request: BuildRequest, root: Path, log: Path, on_progress: Callable[[str], None]) -> BuildOutcome:
        """Build one image with `root` as context; the log is appended to, BuildKit's metadata goes beside it."""
        from rlimages.engine.buildx import ProgressParser

        progress = "rawjson" if self._buildx >= (0, 13) else "plain"
        metadata = log.with_suffix(".json").resolve()
        before = self.inspect(request.tag)
        with log.open("a", encoding="utf-8") as file:
            listener = ProgressParser(lambda line: print(line, file=file, flush=True), on_progress)
            argv = build_argv(request, metadata=metadata, progress=progress)
            ended = run_program(
                argv, on_line=listener.hear, timeout=request.timeout, stop=self._stop, cwd=root, remedy=ENGINE_REMEDY
            )
            listener.close()
        if not ended.passed:
            return BuildOutcome(ended=ended, trouble=listener.trouble)
        self._forget(before)
        image = json.loads(metadata.read_text())["containerimage.config.digest"]
        return BuildOutcome(ended=ended, image=image, worked=listener.worked)

    def check(self, image: str, argv: Sequence[str], folder: Path, log: Path, timeout: float) -> CheckRun:
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

    def inspect(self, reference: str) -> InspectedImage | None:
        """What the local store holds under this name or id."""
        from docker.errors import APIError

        with translating_errors():
            try:
                facts: dict[str, Any] = self._client.images.get(reference).attrs
            except APIError as error:
                if error.status_code in (400, 404):  # 400: no image can be called so
                    return None
                raise
        config = facts.get("Config") or {}
        return InspectedImage(
            image=BuiltImage(id=facts["Id"], size=facts["Size"]),
            labels=config.get("Labels") or {},
            env=tuple(config.get("Env") or ()),
            entrypoint=tuple(config.get("Entrypoint") or ()),
            command=tuple(config.get("Cmd") or ()),
            user=config.get("User") or "",
            workdir=config.get("WorkingDir") or "",
            created=facts.get("Created") or "",
        )

    def holdings(self) -> LocalImages:
        """All that the local store holds, in one question."""
        found = list_images(os.environ)
        if found is None:
            with translating_errors():
                found = self._client.api.images()
        return LocalImages(
            tuple(
                LocalImage(
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
        with translating_errors():
            self._client.api.tag(image, repository, tag, force=True)
        self._forget(before)

    def stored(self, reference: str) -> "StoredImage | None":
        """The layers of an image of the local store, and how they came; None where there is none."""
        from rlimages.engine.store import read_stored_image

        with translating_errors():
            return read_stored_image(self._client, reference)

    def discard(self, reference: str) -> None:
        """Take a name from an image of the local store, which is gone when that was its last."""
        with suppress(*engine_errors()):  # gone already, or something stands on it
            self._client.api.remove_image(reference)

    def configuration(self, reference: str) -> "ImageConfig | None":
        """What an image of the local store says about itself; None where there is none."""
        from rlimages.engine.store import read_config

        with translating_errors():
            return read_config(self._client, reference)

    def entries(self, image: str, wanted: Sequence[str]) -> "Mapping[str, PathKind]":
        """What is at these absolute paths of an image, of which nothing is started."""
        from rlimages.engine.store import read_entries

        with translating_errors():
            return read_entries(self._client, image, wanted, self._labels)

    def save(self, image: str) -> Iterator[bytes]:
        """An image of the local store as `docker image save` gives it."""
        with translating_errors():
            yield from self._client.images.get(image).save(chunk_size=_PIECE)

    def cleanup(self) -> tuple[str, ...]:
        """Remove the containers, networks and volumes of runs whose process is dead."""
        if has_label(PROCESS_LABEL, os.environ) is False:
            return ()
        with translating_errors():
            return tuple(remove_orphans(self._client))

    def forget(self, images: Collection[str]) -> tuple[str, ...]:
        """Of these images, by id, remove those of a cell that have no name any more; one sentence for each."""
        nameless = list_images(os.environ, label=CELL_LABEL, dangling="true") if images else []
        if nameless is not None and not any(image["Id"] in images for image in nameless):
            return ()
        with translating_errors():
            return tuple(remove_unnamed_images(self._client, images))

    def data(self) -> Path | None:
        """The folder that the engine keeps its data in; None where that is not on this machine."""
        from rlimages.engine.store import data_folder

        with translating_errors():
            return data_folder(self._client, os.environ)

    def shrink(self, wanted: int) -> tuple[str, ...]:
        """Remove `wanted` bytes of old build cache, on an engine that `scripts/engine` started; else nothing."""
        import docker

        from rlimages.engine.store import prune_build_cache

        with translating_errors(), closing(docker.from_env(timeout=_PRUNING)) as client:
            return tuple(prune_build_cache(client, wanted, os.environ))

    def _forget(self, image: InspectedImage | None) -> None:
        """Remove an image that lost its last name to a newer one, or every rebuild would leave gigabytes behind."""
        with suppress(*engine_errors()):  # it never was, is gone already, or something still stands on it
            if image and not self._client.images.get(image.image.id).tags:
                self._client.api.remove_image(image.image.id)

    @cached_property
    def _labels(self) -> Mapping[str, str]:
        """What everything of this run carries, so that a later one knows whose it was."""
        return {RUN_LABEL: self._run, PROCESS_LABEL: this_process()}

    @cached_property
    def _client(self) -> "DockerClient":
        import docker

        try:
            client = docker.from_env(timeout=60, max_pool_size=32)
            client.ping()
        except engine_errors() as error:
            raise ToolError(f"no Docker engine answers ({error}); {ENGINE_REMEDY}") from error
        return client

    @cached_property
    def _buildx(self) -> tuple[int, ...]:
        said: list[str] = []
        ended = run_program(["docker", "buildx", "version"], on_line=said.append, remedy=ENGINE_REMEDY)
        found = re.search(r"\bv?(\d+)\.(\d+)\.(\d+)", "\n".join(said))
        if not ended.passed or found is None:
            raise ToolError(f"docker has no buildx plugin; install docker-buildx, or {ENGINE_REMEDY}")
        return tuple(map(int, found.groups()))

    @cached_property
    def _memory(self) -> int:
        """What one check may use, in bytes: three quarters of the machine's where nothing else was said."""
        with translating_errors():
            return self._cap or int(self._client.info()["MemTotal"]) * 3 // 4


@contextmanager
def translating_errors() -> Iterator[None]:
    """Whatever the client raises when the engine goes away becomes a `ToolError`."""
    try:
        yield
    except engine_errors() as error:
        raise ToolError(f"the Docker engine does not answer any more ({error}); {ENGINE_REMEDY}") from error
