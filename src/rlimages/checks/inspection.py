"""Collect the facts of an image that the acceptance rules need, from the local store or from a registry.

The two sources have different facts. A local image has no manifest and no packed layers before it is published; its
size and its files are asked of the engine. A registry has the manifest; the files are found by reading all layers once.
No program of an image is run.
"""

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlimages.checks.profiles import Profile
from rlimages.engine.protocol import ImageStore
from rlimages.errors import RegistryError, ToolError
from rlimages.oci.layers import open_layer
from rlimages.oci.manifest import (
    DOCKER_CONFIG,
    INDEX_TYPES,
    OCI_CONFIG,
    ImageConfig,
    IndexEntry,
    Manifest,
    Reference,
    index_entries,
    parse_config,
)
from rlimages.oci.path_index import PathIndex, PathKind
from rlimages.registry.client import RegistryClient
from rlimages.system.context import RunContext
from rlimages.system.units import format_size

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""PATH of a container whose image sets none, as Docker sets it."""
LOCAL = "local store"
"""The `origin` of facts that were read from the local store (the engine's images)."""
_CONFIG_TYPES = (DOCKER_CONFIG, OCI_CONFIG)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFacts:
    """The facts of one image that acceptance rules check. A rule whose fact is None (not known) does not apply."""

    reference: str
    """Name of the image in messages: the name or id of a local image, or the whole reference in a registry."""
    origin: str
    """`local store`, or the host of the registry."""
    id: str
    """`sha256:…`: the image id in the local store; in a registry the digest of the manifest or index."""
    manifest: Manifest | None
    """Manifest of the image; None for a local image that is not packed yet, and for an index without images."""
    index: Manifest | None = None
    """The index (list of manifests) that the reference names; `manifest` is then that of one of its entries. None if
    the reference names one manifest."""
    index_entries: tuple[IndexEntry, ...] = ()
    config: ImageConfig | None
    """Configuration of the image; None if the manifest is not that of an image, such as an attestation."""
    unpacked_size: int | None
    """Bytes of the files of all layers; None if the layers cannot be read."""
    path_kinds: Mapping[str, PathKind] | None
    """Path -> kind of file, for those of `paths_to_read` that exist; None if the layers cannot be read."""
    tags: tuple[str, ...] = ()
    """Tags that the image has or would get; empty for a reference by digest."""
    bytes_read: int = 0
    """Bytes that were fetched from the registry for these facts."""


def paths_to_read(config: ImageConfig, profiles: Sequence[Profile]) -> tuple[str, ...]:
    """Return the absolute paths that rules of `profiles` look up in an image, each once.

    These are the paths that must not exist, and those at which required programs may be. `config` has the image's PATH.
    """
    paths = [path for profile in profiles for path in profile.absent]
    for profile in profiles:
        for program in profile.programs:
            paths += program_paths(program, config, profile)
    return tuple(dict.fromkeys(paths))


def program_paths(program: str, config: ImageConfig, profile: Profile) -> list[str]:
    """Return the absolute paths at which `program`, which `profile` requires, is searched in an image, in order.

    First come the paths that `profile` lists for it, then the folders on the image's PATH, which is in `config`.
    """
    env = dict(entry.partition("=")[::2] for entry in config.env)
    folders = [folder for folder in env.get("PATH", DEFAULT_PATH).split(":") if folder.startswith("/")]
    return [*profile.programs[program], *(posixpath.join(folder, program) for folder in folders)]


def read_local_facts(
    store: ImageStore, name: str, tags: Sequence[str], profiles: Sequence[Profile], *, manifest: Manifest | None = None
) -> ImageFacts:
    """Return the facts of the image `name` (name or id) of the local store, which has or would get `tags`.

    Only files that rules of `profiles` need are looked up. `manifest` is the manifest to publish, if the image is
    packed already. Raises `ToolError` if the local store has no image `name`.
    """
    image, config = store.inspect(name), store.read_config(name)
    if image is None or config is None:
        raise ToolError(f"there is no image {name} in the local store")
    return ImageFacts(
        reference=name,
        origin=LOCAL,
        id=image.image.id,
        manifest=manifest,
        config=config,
        unpacked_size=image.image.size,
        path_kinds=store.read_path_kinds(image.image.id, paths_to_read(config, profiles)),
        tags=tuple(tags),
    )


def read_remote_facts(
    registry: RegistryClient, reference: Reference, profiles: Sequence[Profile], *, context: RunContext
) -> ImageFacts:
    """Return the facts of an image in a registry. All its layers are read once, and none is kept.

    If `reference` names an index (list of manifests), the facts are those of its entry for a platform of the first of
    `profiles`, or else of its first image. Only files that rules of `profiles` need are looked up. `context` gets a
    note and can stop the reading. Raises `RegistryError` if `reference` does not exist, or if the content of a layer
    does not match its digest or media type.
    """
    repository = reference.repository
    by_digest = reference.tag_or_digest.startswith("sha256:")
    name = f"{reference.host}/{repository}{'@' if by_digest else ':'}{reference.tag_or_digest}"
    referenced = registry.read_manifest(repository, reference.tag_or_digest)
    if referenced is None:
        below_host = name.partition("/")[2]
        raise RegistryError(f"{reference.host} has no {below_host}; push it, or give the name of a local image")
    index = referenced if referenced.media_type in INDEX_TYPES else None
    entries = index_entries(index, name) if index else ()
    entry = _choose_entry(entries, profiles)
    manifest = registry.read_manifest(repository, entry.digest) if entry else None if index else referenced
    bytes_read = len(referenced.content)
    config, files = None, None
    if manifest is not None and manifest.config is not None and manifest.config.media_type in _CONFIG_TYPES:
        config = parse_config(registry.read_blob(repository, manifest.image), name)
        files = _read_layers(registry, repository, manifest, paths_to_read(config, profiles), context)
        bytes_read += manifest.config.size + (sum(layer.size for layer in manifest.layers) if files else 0)
    return ImageFacts(
        reference=name,
        origin=reference.host,
        id=referenced.digest,
        manifest=manifest,
        index=index,
        index_entries=entries,
        config=config,
        unpacked_size=files.size if files else None,
        path_kinds=files.kinds() if files else None,
        tags=() if by_digest else (reference.tag_or_digest,),
        bytes_read=bytes_read,
    )


def _choose_entry(entries: Sequence[IndexEntry], profiles: Sequence[Profile]) -> IndexEntry | None:
    # BuildKit gives its attestations the platform unknown/unknown, so that no engine pulls them as an image.
    images = [entry for entry in entries if not entry.is_attestation and entry.platform != "unknown/unknown"]
    matching = [entry for entry in images if entry.platform in profiles[0].platforms]
    return next(iter([*matching, *images]), None)


def _read_layers(
    registry: RegistryClient, repository: str, manifest: Manifest, paths: Sequence[str], context: RunContext
) -> PathIndex | None:
    """Read all layers of the image `manifest` in `repository`, and return an index of the files at `paths`.

    Return None if a layer is neither plain tar nor gzip, such as a zstd layer. Nothing is read then.
    """
    layers = manifest.layers
    if not all(layer.media_type.endswith(("tar", "gzip")) for layer in layers):
        return None
    context.note(f"reading {len(layers)} layers of {repository}, {format_size(sum(layer.size for layer in layers))}")
    index = PathIndex(paths)
    # Newest first: what a newer layer hides is then known before the older layer is read, and nothing must be kept.
    for layer in reversed(layers):
        chunks = registry.stream_blob(repository, layer.digest)
        with open_layer(layer, chunks, context.check_stop) as archive:
            index.add_layer(archive)
    return index
