"""The nouns of a release: what goes where, under which names, and how a place stands afterwards."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Protocol

from rlimages.distribution import Blob, Manifest


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """One image of a release, and what it will be called."""

    cell: str
    repository: str
    image: str
    """Its id in the local store, which is the digest of its configuration."""
    tags: tuple[str, ...]
    build: str = ""
    """Its build digest (`digest.Inputs`); empty where it does not say."""


def build_tag(build: str) -> str:
    """The tag by which a registry is asked for an image with this build digest."""
    return f"build-{build[:32]}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """One registry of a release."""

    name: str
    """How people call it: `production/us-west-2`."""
    host: str
    prefix: str = ""
    floating: tuple[str, ...] = ("*",)
    """Patterns of tags that may move; all others hold one image for ever."""

    held_by_tag: bool = False
    """Whether a tag of this run holds an image until its own tags come: where a registry clears away what has none."""

    def repository(self, item: Item) -> str:
        """An item's repository here."""
        return f"{self.prefix}/{item.repository}" if self.prefix else item.repository

    def may_move(self, tag: str) -> bool:
        """Whether a tag may go from one image to another."""
        return any(fnmatchcase(tag, pattern) for pattern in self.floating)


class Content(Protocol):
    """An image that can be brought to a registry."""

    @property
    def manifest(self) -> Manifest:
        """What it is."""

    def chunks(self, blob: Blob) -> Iterator[bytes]:
        """A blob, piece by piece."""


Fetch = Callable[[Item, Callable[[Blob], bool]], Content]
"""Gives an item's content; blobs to which the function says no are not needed."""
Untag = Callable[[str, str], bool]
"""Removes one tag of a repository; False where the registry does not offer that."""


class State(StrEnum):
    """How a place stands at the end."""

    RELEASED = "released"
    UNTOUCHED = "untouched"
    """No tag was moved."""
    BETWEEN = "in between"
    """Some tags were moved and some were not: to be resumed, or rolled back."""
    ROLLED_BACK = "rolled back"
