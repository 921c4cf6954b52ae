"""Write down what is in an image as a CycloneDX 1.6 bill of materials: the same image gives the same text."""

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rlimages import __version__

if TYPE_CHECKING:
    from cyclonedx.model.component import Component
    from cyclonedx.model.license import License
    from packageurl import PackageURL

IMAGE = "rlimages:image"
"""Property of the described component: the image's id, which is the digest of its configuration."""
LOCATION = "rlimages:location"
"""Property of Python and its packages: where it lies."""
_SPACE = uuid.UUID("5d7b1a4e-6a0c-5b8e-9f3d-2f6f1c1f0a11")
"""In which serial numbers are made from image ids."""
_NO_LICENCE = ("", "UNKNOWN", "OSI Approved")


@dataclass(frozen=True, kw_only=True, slots=True)
class Package:
    """One thing that is installed."""

    kind: str
    """`deb`, `rpm`, `pypi`; `generic` for what no packaging knows."""
    name: str
    version: str
    licenses: tuple[str, ...] = ()
    """As the package itself says, most exact first: one SPDX expression, or several names."""
    arch: str = ""
    epoch: str = ""
    source: str = ""
    """Of deb and rpm: the package that it was built from, `name@version` where that differs."""
    folders: tuple[str, ...] = ()
    """Of pypi and generic: where it lies; the same version may lie in several."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Inventory:
    """All that is installed in an image."""

    os: str
    """As os-release(5) has it: `debian`, `amzn`; empty where there is none."""
    os_version: str
    packages: tuple[Package, ...]
    unreadable: tuple[str, ...] = ()
    """Folders that the image's own user can't look into."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Described:
    """The image that a bill of materials is for."""

    id: str
    """`sha256:…` of its configuration."""
    name: str
    version: str
    created: str
    """RFC 3339; empty where it does not say."""


def compose(inventory: Inventory, image: Described) -> str:
    """The bill of materials, as JSON. Serial number and time are the image's own."""
    from cyclonedx.model import Property
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6

    described = Component(
        type=ComponentType.CONTAINER,
        name=image.name,
        version=image.version or None,
        bom_ref=image.id,
        properties=[Property(name=IMAGE, value=image.id)],
    )
    components = [_component(package, inventory) for package in inventory.packages]
    if inventory.os:
        version = inventory.os_version or None
        components.append(
            Component(type=ComponentType.OPERATING_SYSTEM, name=inventory.os, version=version, bom_ref="os")
        )
    tool = Component(type=ComponentType.APPLICATION, name="rlimages", version=__version__)
    bom = Bom(
        components=components,
        serial_number=uuid.uuid5(_SPACE, image.id),
        metadata=BomMetaData(component=described, timestamp=moment(image.created)),
    )
    bom.metadata.tools.components.add(tool)
    bom.register_dependency(described, components)
    return JsonV1Dot6(bom).output_as_string(indent=2) + "\n"


def image_of(bom: Mapping[str, Any]) -> str:
    """The id of the image that a bill of materials is for; empty where it does not say."""
    component = bom.get("metadata", {}).get("component", {})
    found = [entry.get("value", "") for entry in component.get("properties", ()) if entry.get("name") == IMAGE]
    return str(found[0]) if found else ""


def moment(text: str) -> datetime:
    """A time as engines write it, with nanoseconds; the beginning of 1970 where it is no time."""
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)


def _component(package: Package, inventory: Inventory) -> "Component":
    from cyclonedx.model import Property
    from cyclonedx.model.component import Component, ComponentType

    purl = _purl(package, inventory)
    return Component(
        type=ComponentType.LIBRARY,
        name=package.name,
        version=package.version or None,
        bom_ref=str(purl),
        purl=purl,
        licenses=list(_licenses(package.licenses)),
        properties=[Property(name=LOCATION, value=folder) for folder in package.folders],
    )


def _purl(package: Package, inventory: Inventory) -> "PackageURL":
    """The package's name in the world, with the qualifiers that vulnerability databases look at."""
    from packageurl import PackageURL

    if package.kind in ("pypi", "generic"):
        return PackageURL(package.kind, None, package.name, package.version or None)
    qualifiers = {
        "arch": package.arch,
        "distro": "-".join(filter(None, [inventory.os, inventory.os_version])),
        "epoch": package.epoch,
        "upstream": package.source,
    }
    told = {name: value for name, value in qualifiers.items() if value}
    return PackageURL(package.kind, inventory.os or None, package.name, package.version or None, told)


def _licenses(names: tuple[str, ...]) -> "Iterator[License]":
    """Either one SPDX expression, or licences by id or name: the format has no mixture."""
    from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
    from cyclonedx.spdx import fixup_id, is_expression

    wanted = [name for name in dict.fromkeys(names) if name not in _NO_LICENCE]
    if len(wanted) == 1 and fixup_id(wanted[0]) is None and is_expression(wanted[0]):
        yield LicenseExpression(wanted[0])
        return
    for name in wanted:
        known = fixup_id(name)
        yield DisjunctiveLicense(id=known) if known else DisjunctiveLicense(name=name)
