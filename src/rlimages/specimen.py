"""What is known of an image that is to be judged, and what has to be known."""

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rlimages.distribution import Configuration, Manifest, Part
from rlimages.layers import Entry
from rlimages.profiles import Profile

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""Where engines look for programs in an image that has no PATH."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Specimen:
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
    parts: tuple[Part, ...] = ()
    """What the index names."""
    configuration: Configuration | None
    """None for what is no image."""
    unpacked: int | None
    """Bytes of the files of all layers; None where they can't be read."""
    entries: Mapping[str, Entry] | None
    """What is at the `paths` of this image; None where its layers can't be read."""
    tags: tuple[str, ...] = ()
    read: int = 0
    """Bytes that were fetched to know all this."""


def paths(configuration: Configuration, profiles: Sequence[Profile]) -> tuple[str, ...]:
    """What has to be known of an image's files for these profiles."""
    wanted = [path for profile in profiles for path in profile.absent]
    for profile in profiles:
        for program in profile.programs:
            wanted += places(program, configuration, profile)
    return tuple(dict.fromkeys(wanted))


def places(program: str, configuration: Configuration, profile: Profile) -> list[str]:
    """Where a program may be: as its entrypoint looks, then along PATH."""
    told = dict(entry.partition("=")[::2] for entry in configuration.env)
    folders = [folder for folder in told.get("PATH", DEFAULT_PATH).split(":") if folder.startswith("/")]
    return [*profile.programs[program], *(posixpath.join(folder, program) for folder in folders)]
