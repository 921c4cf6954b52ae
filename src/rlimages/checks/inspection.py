"""Collect facts about an image, in the local store or in a registry, for the acceptance rules."""

import gzip
import hashlib
import io
import posixpath
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, cast

from rlimages.checks.profiles import Profile
from rlimages.engine.protocol import ImageStore
from rlimages.errors import Interrupted, RegistryError, ToolError
from rlimages.oci.layers import PathIndex, PathKind
from rlimages.oci.manifest import (
    DOCKER_CONFIG,
    INDEXES,
    OCI_CONFIG,
    Blob,
    ImageConfig,
    IndexEntry,
    Manifest,
    Reference,
    index_entries,
    parse_config,
)
from rlimages.registry.client import RegistryClient
from rlimages.system.process import Stop
from rlimages.system.tar import ChunkStream
from rlimages.system.units import format_size

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where engines look for programs in an image that has no PATH."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFacts:
    """All that is known of one image."""

    reference: str
    """How people call it."""
    origin: str
    """Where it was found: `local store`, or the registry's host."""
    id: str
    """`sha256:…`: of the image in a local store, of the manifest or index in a registry."""
    manifest: Manifest | None
    """The image's own; None for one of the local store that was not packed yet."""
    index: Manifest | None = None
    """What stands under the reference, where that is an index; `manifest` is then one of its parts."""
    parts: tuple[IndexEntry, ...] = ()
    """What the index names."""
    configuration: ImageConfig | None
    """None for what is no image."""
    unpacked: int | None
    """Bytes of the files of all layers; None where they can't be read."""
    entries: Mapping[str, PathKind] | None
    """What is at the `paths` of this image; None where its layers can't be read."""
    tags: tuple[str, ...] = ()
    read: int = 0
    """Bytes that were fetched to know all this."""


def paths_to_read(configuration: ImageConfig, profiles: Sequence[Profile]) -> tuple[str, ...]:
    """What has to be known of an image's files for these profiles."""
    wanted = [path for profile in profiles for path in profile.absent]
    for profile in profiles:
        for program in profile.programs:
            wanted += program_paths(program, configuration, profile)
    return tuple(dict.fromkeys(wanted))


def program_paths(program: str, configuration: ImageConfig, profile: Profile) -> list[str]:
    """Where a program may be: as its entrypoint looks, then along PATH."""
    told = dict(entry.partition("=")[::2] for entry in configuration.env)
    folders = [folder for folder in told.get("PATH", DEFAULT_PATH).split(":") if folder.startswith("/")]
    return [*profile.programs[program], *(posixpath.join(folder, program) for folder in folders)]


LOCAL = "local store"
_PIECE = 1 << 20


def read_local_facts(
    store: ImageStore, name: str, tags: Sequence[str], profiles: Sequence[Profile], *, manifest: Manifest | None = None
) -> ImageFacts:
    """An image of the local store. Nothing of it is run. Raises `ToolError` where there is none."""
    image, facts = store.inspect(name), store.read_config(name)
    if image is None or facts is None:
        raise ToolError(f"there is no image {name} in the local store")
    return ImageFacts(
        reference=name,
        origin=LOCAL,
        id=image.image.id,
        manifest=manifest,
        configuration=facts,
        unpacked=image.image.size,
        entries=store.read_path_kinds(image.image.id, paths_to_read(facts, profiles)),
        tags=tuple(tags),
    )


def read_remote_facts(
    registry: RegistryClient,
    place: Reference,
    profiles: Sequence[Profile],
    *,
    stop: Stop,
    on_note: Callable[[str], None] = lambda _what: None,
) -> ImageFacts:
    """What a registry holds under a reference; its layers are read once, the newest first, and kept nowhere.

    Of an index, the image for the first profile's platforms is looked at. Raises `RegistryError`.
    """
    repository = place.repository
    name = f"{place.host}/{repository}{'@' if place.version.startswith('sha256:') else ':'}{place.version}"
    held = registry.manifest(repository, place.version)
    if held is None:
        below = name.partition("/")[2]
        raise RegistryError(f"{place.host} holds nothing under {below}; push it, or name a local image by its id")
    index = held if held.media_type in INDEXES else None
    named = index_entries(index, name) if index else ()
    chosen = _choose(named, profiles)
    manifest = registry.manifest(repository, chosen.digest) if chosen else None if index else held
    fetched = len(held.content)
    facts, contents = None, None
    if manifest is not None and manifest.config is not None and manifest.config.media_type in _IMAGES:
        facts = parse_config(registry.blob(repository, manifest.image), name)
        contents = _contents(registry, repository, manifest, paths_to_read(facts, profiles), stop, on_note)
        fetched += manifest.config.size + (sum(layer.size for layer in manifest.layers) if contents else 0)
    return ImageFacts(
        reference=name,
        origin=place.host,
        id=held.digest,
        manifest=manifest,
        index=index,
        parts=named,
        configuration=facts,
        unpacked=contents.size if contents else None,
        entries=contents.entries() if contents else None,
        tags=() if place.version.startswith("sha256:") else (place.version,),
        read=fetched,
    )


_IMAGES = (DOCKER_CONFIG, OCI_CONFIG)


def _choose(named: Sequence[IndexEntry], profiles: Sequence[Profile]) -> IndexEntry | None:
    images = [part for part in named if not part.is_attestation and part.platform != "unknown/unknown"]
    fitting = [part for part in images if part.platform in profiles[0].platforms]
    return next(iter([*fitting, *images]), None)


def _contents(
    registry: RegistryClient,
    repository: str,
    manifest: Manifest,
    wanted: Sequence[str],
    stop: Stop,
    on_note: Callable[[str], None],
) -> PathIndex | None:
    """What is in the layers; None where one is compressed in a way that this Python can't undo."""
    layers = manifest.layers
    if not all(layer.media_type.endswith(("tar", "gzip")) for layer in layers):
        return None
    on_note(f"reading {len(layers)} layers of {repository}, {format_size(sum(layer.size for layer in layers))}")
    contents = PathIndex(wanted)
    for layer in reversed(layers):
        _add(contents, layer, registry.read_blob(repository, layer.digest), stop)
    return contents


def _add(contents: PathIndex, layer: Blob, pieces: Iterator[bytes], stop: Stop) -> None:
    """Take one layer as it comes, and hold it against its digest at the end."""
    from zlib_ng import gzip_ng, zlib_ng

    hashed = hashlib.sha256()

    def checked() -> Iterator[bytes]:
        for piece in pieces:
            if stop.is_set():
                raise Interrupted("interrupted")
            hashed.update(piece)
            yield piece

    stream = io.BufferedReader(ChunkStream(checked()), _PIECE)
    try:
        if layer.media_type.endswith("gzip"):
            contents.add(cast(IO[bytes], gzip_ng.GzipNGFile(fileobj=stream)))  # type: ignore[no-untyped-call]
        else:
            contents.add(stream)
        while stream.read(_PIECE):
            pass
    except (tarfile.TarError, gzip.BadGzipFile, zlib_ng.error, EOFError) as error:  # type: ignore[misc]
        raise RegistryError(f"layer {layer.digest} is not what its media type says: {error}") from error
    if f"sha256:{hashed.hexdigest()}" != layer.digest:
        raise RegistryError(f"layer {layer.digest} came as sha256:{hashed.hexdigest()}; is a proxy between?")
