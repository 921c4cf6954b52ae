"""Read acceptance profiles, the requirements for images, from the built-in `acceptance.yaml` and a project's own."""

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
"""Name of the built-in file in the package's data, and of a project's own file beside its build matrix."""
# Binary units only: AWS states its limits in MiB and GiB, and "10 GB" in their place would be a smaller limit.
Size = Annotated[str, Field(pattern=r"^\d+ (B|KiB|MiB|GiB)$", description="10 GiB")]
Folder = Annotated[str, Field(pattern=r"^/[^\s]+$", description="An absolute path.")]
Platform = Annotated[str, Field(pattern=r"^[a-z0-9]+/[a-z0-9]+$", description="linux/amd64")]
Reasons = dict[str, str | None]
"""Name or pattern -> reason; None removes the entry of the extended profile."""


class RawProfile(StrictModel):
    """An acceptance profile as it is written in `acceptance.yaml`, before the profile that it extends is merged in."""

    extends: Name | None = None
    # Required in every profile and not inherited: somebody who changes limits must have verified them on that day.
    as_of: Date
    manifests: list[str] = Field(default=[], min_length=1, description="Accepted media types.")
    configs: list[str] = Field(default=[], min_length=1, description="Accepted media types.")
    layers: list[str] = Field(default=[], min_length=1, description="Accepted media types.")
    platforms: list[Platform] = Field(default=[], min_length=1)
    compressed: Size | None = Field(
        default=None, description="Limit of all layers together, as a registry stores them."
    )
    unpacked: Size | None = Field(default=None, description="Limit of the files of all layers together.")
    layer: Size | None = Field(default=None, description="Limit of one layer, as a registry stores it.")
    programs: dict[str, list[Folder] | None] = Field(
        default={}, description="Required program -> absolute paths where it may also be, besides PATH."
    )
    absent: dict[Folder, str | None] = Field(default={}, description="Path that must not exist -> why.")
    environment: Reasons = Field(default={}, description="Pattern of variables that must not be set -> why.")
    credential_names: Reasons = Field(
        default={}, description="Pattern of variables and build arguments -> what they hold."
    )
    credential_values: Reasons = Field(default={}, description="Regular expression -> what it finds.")
    tag: str = Field(default="", description="Regular expression that a whole tag must match.")
    tag_length: int = Field(default=0, ge=1, description="Longest tag, in characters.")
    reserved_tags: Reasons = Field(default={}, description="Pattern of tags -> who uses them.")
    labels: Reasons = Field(
        default={}, description="Required label -> regular expression that its whole value must match."
    )
    optional_labels: Reasons = Field(default={}, description="Label -> regular expression for its value, if it exists.")


class RawProfiles(StrictModel):
    """The content of `acceptance.yaml`: its version and its profiles by name, not merged yet."""

    version: Literal[1] = Field(description="Version of this format.")
    profiles: dict[Name, RawProfile] = Field(min_length=1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Profile:
    """A complete acceptance profile: its own keys and those that it inherits.

    The fields are the keys of `acceptance.yaml`, see `RawProfile`. Sizes are in bytes; None means no limit.
    """

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
_SIZE_KEYS = ("compressed", "unpacked", "layer")
_EXPRESSION_KEYS = ("labels", "optional_labels")


@dataclass(frozen=True, kw_only=True, slots=True)
class Profiles:
    """All acceptance profiles that a project can use: the built-in ones and its own."""

    by_name: Mapping[str, Profile]
    """Name of the profile -> profile."""

    def find(self, name: str) -> Profile:
        """Return the profile with this name. Raises `SelectionError` if there is no profile with this name."""
        if name not in self.by_name:
            hint = did_you_mean(name, self.by_name) or f"; there are {', '.join(self.by_name)}"
            raise SelectionError(f"there is no acceptance profile '{name}'{hint}")
        return self.by_name[name]


def parse_profiles(text: str | None = None, name: str = PROFILES_FILE) -> Profiles:
    """Return the built-in profiles, with the changes and additions of a project's own `acceptance.yaml`.

    `text` is the content of the project's file, or None if it has none; `name` is its name in messages. A profile
    inherits the keys that it does not set from the profile that it extends, or else from the existing profile with its
    name. Mappings are merged key by key, and null removes a key; any other value replaces the inherited one. Raises
    `ConfigError` that lists all mistakes with line and column.
    """
    values: dict[str, dict[str, Any]] = {}
    _add_file(values, _built_in_text(), f"{PROFILES_FILE} of rlimages")
    if text is not None:
        _add_file(values, text, name)
    return Profiles(by_name={key: _complete(key, profile) for key, profile in values.items()})


def load_profiles(root: Path | None) -> Profiles:
    """Return the built-in profiles, merged with `acceptance.yaml` in the folder `root` of a project if it exists.

    Without a project, `root` is None. Raises `ConfigError` if the file has mistakes.
    """
    return parse_profiles(read_text(root / PROFILES_FILE) if root else None)


@cache
def _built_in_text() -> str:
    return read_data(PROFILES_FILE)


def _add_file(profiles: dict[str, dict[str, Any]], text: str, name: str) -> None:
    """Merge the profiles in `text` into `profiles`, which maps a profile's name to its keys and values.

    A profile may extend the profiles above it in the file and those in `profiles`. `name` is the name of the file in
    messages. Raises `ConfigError` that lists all mistakes.
    """
    document = load_yaml(text, name)
    raw = validate_document(document, name, RawProfiles)
    problems: list[Problem] = []
    for key, profile in raw.profiles.items():
        path: KeyPath = ("profiles", key)
        parent = profile.extends or key
        if profile.extends and profile.extends not in profiles:
            message = f"there is no profile '{parent}' above or in rlimages{did_you_mean(parent, profiles)}"
            problems.append(document.problem((*path, "extends"), message))
            continue
        values = dict(profiles.get(parent, {}))
        for field_name in sorted(profile.model_fields_set - {"extends"}):
            values[field_name] = _merge(values.get(field_name), getattr(profile, field_name))
        missing = [required for required in _KEYS if required not in values]
        if missing:
            message = f"it extends no profile, and does not set {', '.join(missing)}"
            problems.append(document.problem(path, message))
        problems += _invalid_expressions(document, path, profile)
        profiles[key] = values
    if problems:
        raise config_error(name, problems)


def _merge(inherited: Any, own: Any) -> Any:
    if not isinstance(own, dict):
        return own
    return {key: value for key, value in {**(inherited or {}), **own}.items() if value is not None}


def _invalid_expressions(document: Document, path: KeyPath, profile: RawProfile) -> list[Problem]:
    expressions: list[tuple[KeyPath, str]] = [((*path, "tag"), profile.tag)]
    expressions += [((*path, "credential_values", text), text) for text in profile.credential_values]
    for key in _EXPRESSION_KEYS:
        expressions += [((*path, key, label), text or "") for label, text in getattr(profile, key).items()]
    problems = []
    for location, text in expressions:
        try:
            re.compile(text)
        except re.error as error:
            problems.append(document.problem(location, f"'{text}' is not a regular expression: {error}"))
    return problems


def _complete(name: str, values: Mapping[str, Any]) -> Profile:
    converted = {key: _freeze(values[key]) for key in _KEYS}
    for key in _SIZE_KEYS:
        size = values[key]
        converted[key] = parse_size(size) if size else None
    return Profile(name=name, as_of=values["as_of"], **converted)


def _freeze(value: Any) -> Any:
    """Return `value`, which was read from YAML, with tuples in place of all lists, also inside of mappings."""
    if isinstance(value, dict):
        return {key: _freeze(inner) for key, inner in value.items()}
    return tuple(value) if isinstance(value, list) else value
