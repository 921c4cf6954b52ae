"""Acceptance profiles: the limits that a target sets for images, read from `acceptance.yaml`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from rlimages.config.schema import Date, Name, StrictModel
from rlimages.config.validation import validate_document
from rlimages.config.yaml import Document, KeyPath, Problem, config_error, load_yaml
from rlimages.errors import SelectionError, did_you_mean
from rlimages.system.files import read_data, read_text
from rlimages.system.units import parse_size

PROFILES_FILE = "acceptance.yaml"
Size = Annotated[str, Field(pattern=r"^\d+ (B|KiB|MiB|GiB)$", description="10 GiB")]
Folder = Annotated[str, Field(pattern=r"^/[^\s]+$", description="An absolute path.")]
Platform = Annotated[str, Field(pattern=r"^[a-z0-9]+/[a-z0-9]+$", description="linux/amd64")]
Reasons = dict[str, str | None]
"""Name or pattern -> why; None takes away what the extended profile says."""


class RawProfile(StrictModel):
    """A profile as a file has it. What it does not say, it takes from the one that it extends."""

    extends: Name | None = None
    as_of: Date
    manifests: list[str] = Field(default=[], min_length=1, description="Media types.")
    configs: list[str] = Field(default=[], min_length=1, description="Media types.")
    layers: list[str] = Field(default=[], min_length=1, description="Media types.")
    platforms: list[Platform] = Field(default=[], min_length=1)
    compressed: Size | None = Field(default=None, description="Of all layers, as a registry stores them.")
    unpacked: Size | None = Field(default=None, description="Of all layers' files.")
    layer: Size | None = Field(default=None, description="Of one layer, as a registry stores it.")
    programs: dict[str, list[Folder] | None] = Field(default={}, description="Name -> where else than on PATH.")
    absent: dict[Folder, str | None] = Field(default={}, description="Path that may not be there -> why.")
    environment: Reasons = Field(default={}, description="Pattern of variables that may not be set -> why.")
    credential_names: Reasons = Field(default={}, description="Pattern of variables and build arguments -> what it is.")
    credential_values: Reasons = Field(default={}, description="Regular expression -> what it finds.")
    tag: str = Field(default="", description="Regular expression.")
    tag_length: int = Field(default=0, ge=1, description="Characters.")
    reserved_tags: Reasons = Field(default={}, description="Pattern -> whose they are.")
    labels: Reasons = Field(default={}, description="Label that must be there -> regular expression of its value.")
    optional_labels: Reasons = Field(default={}, description="Label -> regular expression, where it is there.")


class RawProfiles(StrictModel):
    """What an image must be like, for each target."""

    version: Literal[1] = Field(description="Version of this format.")
    profiles: dict[Name, RawProfile] = Field(min_length=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """What one target takes. Every key is that of the file; sizes are bytes, None is no limit."""

    name: str
    as_of: str
    manifests: tuple[str, ...]
    configs: tuple[str, ...]
    layers: tuple[str, ...]
    platforms: tuple[str, ...]
    compressed: int | None
    unpacked: int | None
    layer: int | None
    programs: Mapping[str, tuple[str, ...]]
    absent: Mapping[str, str]
    environment: Mapping[str, str]
    credential_names: Mapping[str, str]
    credential_values: Mapping[str, str]
    tag: str
    tag_length: int
    reserved_tags: Mapping[str, str]
    labels: Mapping[str, str]
    optional_labels: Mapping[str, str]


_KEYS = tuple(field.name for field in fields(Profile) if field.name not in ("name", "as_of"))
_EXPRESSIONS = ("labels", "optional_labels")


@dataclass(frozen=True, kw_only=True, slots=True)
class Profiles:
    """All profiles there are, by name."""

    by_name: Mapping[str, Profile]

    def find(self, name: str) -> Profile:
        """The profile of this name. Raises `SelectionError`."""
        if name not in self.by_name:
            hint = did_you_mean(name, self.by_name) or f"; there are {', '.join(self.by_name)}"
            raise SelectionError(f"there is no acceptance profile '{name}'{hint}")
        return self.by_name[name]


def parse_profiles(text: str | None = None, name: str = PROFILES_FILE) -> Profiles:
    """The profiles that ship with the factory, changed and added to by a project's own file.

    A profile takes what it does not say from the one that it extends, or whose name it has. Mappings are joined key by
    key, and null takes a key away; anything else replaces. Raises `ConfigError` with every mistake and its place.
    """
    known: dict[str, dict[str, Any]] = {}
    _add(known, _shipped(), f"{PROFILES_FILE} of rlimages")
    if text is not None:
        _add(known, text, name)
    return Profiles(by_name={key: _profile(key, told) for key, told in known.items()})


def load_profiles(root: Path | None) -> Profiles:
    """The profiles, as the project in a folder changes them; None is no project. Raises `ConfigError`."""
    return parse_profiles(read_text(root / PROFILES_FILE) if root else None)


@cache
def _shipped() -> str:
    return read_data(PROFILES_FILE)


def _add(known: dict[str, dict[str, Any]], text: str, name: str) -> None:
    """Join the profiles of one file to those that are known. One may extend what stands above it."""
    document = load_yaml(text, name)
    raw = validate_document(document, name, RawProfiles)
    problems: list[Problem] = []
    for key, profile in raw.profiles.items():
        path: KeyPath = ("profiles", key)
        parent = profile.extends or key
        if profile.extends and profile.extends not in known:
            what = f"there is no profile '{parent}' above or in rlimages{did_you_mean(parent, known)}"
            problems.append(document.problem((*path, "extends"), what))
            continue
        told = dict(known.get(parent, {}))
        for word in sorted(profile.model_fields_set - {"extends"}):
            told[word] = _merge(told.get(word), getattr(profile, word))
        missing = [word for word in _KEYS if word not in told]
        if missing:
            what = f"it extends nothing, and does not say {', '.join(missing)}"
            problems.append(document.problem(path, what))
        problems += _bad_expressions(document, path, profile)
        known[key] = told
    if problems:
        raise config_error(name, problems)


def _merge(old: Any, new: Any) -> Any:
    if not isinstance(new, dict):
        return new
    return {key: value for key, value in {**(old or {}), **new}.items() if value is not None}


def _bad_expressions(document: Document, path: KeyPath, profile: RawProfile) -> list[Problem]:
    places: list[tuple[KeyPath, str]] = [((*path, "tag"), profile.tag)]
    places += [((*path, "credential_values", text), text) for text in profile.credential_values]
    for word in _EXPRESSIONS:
        places += [((*path, word, label), text or "") for label, text in getattr(profile, word).items()]
    problems = []
    for place, text in places:
        try:
            re.compile(text)
        except re.error as error:
            problems.append(document.problem(place, f"'{text}' is no regular expression: {error}"))
    return problems


def _profile(name: str, told: Mapping[str, Any]) -> Profile:
    plain = {word: _plain(told[word]) for word in _KEYS}
    for word in ("compressed", "unpacked", "layer"):
        size = told[word]
        plain[word] = parse_size(size) if size else None
    return Profile(name=name, as_of=told["as_of"], **plain)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return tuple(value) if isinstance(value, list) else value
