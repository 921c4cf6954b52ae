"""Which of two images of one tag is the newer one: tags never move backwards."""

from packaging.version import InvalidVersion, Version

from rlimages.distribution import Configuration, Manifest, configuration
from rlimages.errors import RegistryError
from rlimages.registry import Registry

VERSION = "org.opencontainers.image.version"


def insist(registry: Registry, repository: str, name: str, present: Manifest, wanted: Manifest) -> None:
    """Raise `RegistryError` where a tag, `name`, would go from `present` back to an older image; both are there."""
    if present.config is None or wanted.config is None:
        return
    now, then = (
        configuration(registry.blob(repository, image), f"{name} ({image})") for image in (wanted.image, present.image)
    )
    if age(then) > age(now):
        told = [
            f"version {facts.labels.get(VERSION, '?')} of {facts.created or 'unknown age'}" for facts in (then, now)
        ]
        raise RegistryError(
            f"{name} holds {told[0]}, this release has {told[1]}: tags never move backwards, but with --allow-older"
        )


def age(facts: Configuration) -> tuple[Version, str]:
    """What orders two images of one tag: the toolkit's version, then when they were built."""
    try:
        version = Version(facts.labels.get(VERSION, ""))
    except InvalidVersion:
        version = Version("0")
    return version, facts.created
