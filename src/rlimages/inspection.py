"""Find out about an image what has to be known to judge it: in the local store, or in a registry."""

import gzip
import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import IO, Protocol, cast

from rlimages.acceptance import Verdict, judge
from rlimages.distribution import (
    DOCKER_CONFIG,
    INDEXES,
    OCI_CONFIG,
    Blob,
    Configuration,
    Manifest,
    Part,
    configuration,
    parts,
)
from rlimages.engine import LocalImage
from rlimages.errors import Interrupted, RegistryError, ToolError
from rlimages.layers import Contents, Entry
from rlimages.profiles import Profile
from rlimages.registry import Reference, Registry
from rlimages.shell import Stop
from rlimages.specimen import Specimen, paths
from rlimages.tarball import Pieces

LOCAL = "local store"
_PIECE = 1 << 20


class Store(Protocol):
    """What is asked of the engine."""

    def inspect(self, reference: str) -> LocalImage | None:
        """What the local store holds under this name or id."""

    def configuration(self, reference: str) -> Configuration | None:
        """What an image says about itself."""

    def entries(self, image: str, wanted: Sequence[str]) -> Mapping[str, Entry]:
        """What is at these absolute paths of an image; those where nothing is are left out."""


def gate(
    store: Store,
    image: str,
    tags: Sequence[str],
    profiles: Sequence[Profile],
    *,
    called: str = "",
    manifest: Manifest | None = None,
) -> tuple[Verdict, ...]:
    """What the profiles say of an image of the local store, by name or id, that is to be published under these tags.

    `called` is what people know an id by. `manifest` is what it was packed as; without it the rules about manifests and
    packed layers mean nothing yet.
    """
    if not profiles:
        return ()
    specimen = replace(local(store, image, tags, profiles, manifest=manifest), reference=called or image)
    return tuple(judge(specimen, profile) for profile in profiles)


def local(
    store: Store, name: str, tags: Sequence[str], profiles: Sequence[Profile], *, manifest: Manifest | None = None
) -> Specimen:
    """An image of the local store. Nothing of it is run. Raises `ToolError` where there is none."""
    image, facts = store.inspect(name), store.configuration(name)
    if image is None or facts is None:
        raise ToolError(f"there is no image {name} in the local store")
    return Specimen(
        reference=name,
        origin=LOCAL,
        id=image.image.id,
        manifest=manifest,
        configuration=facts,
        unpacked=image.image.size,
        entries=store.entries(image.image.id, paths(facts, profiles)),
        tags=tuple(tags),
    )


def remote(
    registry: Registry,
    place: Reference,
    profiles: Sequence[Profile],
    *,
    stop: Stop,
    on_note: Callable[[str], None] = lambda _what: None,
) -> Specimen:
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
    named = parts(index, name) if index else ()
    chosen = _choose(named, profiles)
    manifest = registry.manifest(repository, chosen.digest) if chosen else None if index else held
    fetched = len(held.content)
    facts, contents = None, None
    if manifest is not None and manifest.config is not None and manifest.config.media_type in _IMAGES:
        facts = configuration(registry.blob(repository, manifest.image), name)
        contents = _contents(registry, repository, manifest, paths(facts, profiles), stop, on_note)
        fetched += manifest.config.size + (sum(layer.size for layer in manifest.layers) if contents else 0)
    return Specimen(
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


def _choose(named: Sequence[Part], profiles: Sequence[Profile]) -> Part | None:
    images = [part for part in named if not part.is_attestation and part.platform != "unknown/unknown"]
    fitting = [part for part in images if part.platform in profiles[0].platforms]
    return next(iter([*fitting, *images]), None)


def _contents(
    registry: Registry,
    repository: str,
    manifest: Manifest,
    wanted: Sequence[str],
    stop: Stop,
    on_note: Callable[[str], None],
) -> Contents | None:
    """What is in the layers; None where one is compressed in a way that this Python can't undo."""
    layers = manifest.layers
    if not all(layer.media_type.endswith(("tar", "gzip")) for layer in layers):
        return None
    megabytes = sum(layer.size for layer in layers) / 1e6
    on_note(f"reading {len(layers)} layers of {repository}, {megabytes:.0f} MB")
    contents = Contents(wanted)
    for layer in reversed(layers):
        _add(contents, layer, registry.read_blob(repository, layer.digest), stop)
    return contents


def _add(contents: Contents, layer: Blob, pieces: Iterator[bytes], stop: Stop) -> None:
    """Take one layer as it comes, and hold it against its digest at the end."""
    from zlib_ng import gzip_ng, zlib_ng

    hashed = hashlib.sha256()

    def checked() -> Iterator[bytes]:
        for piece in pieces:
            if stop.is_set():
                raise Interrupted("interrupted")
            hashed.update(piece)
            yield piece

    stream = io.BufferedReader(Pieces(checked()), _PIECE)
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
