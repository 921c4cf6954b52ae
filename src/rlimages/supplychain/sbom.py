"""Compose the CycloneDX SBOM of an image from its installed packages."""

import os
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlimages import __version__
from rlimages.engine.docker import DockerEngine
from rlimages.engine.protocol import Engine, InspectedImage
from rlimages.errors import ToolError
from rlimages.oci.labels import CELL_LABEL, TITLE_LABEL, VERSION_LABEL
from rlimages.project.lookup import find_image
from rlimages.project.project import load_project
from rlimages.supplychain.inventory import InstalledPackage, PackageInventory, take_inventory
from rlimages.system.process import Stop

if TYPE_CHECKING:
    from cyclonedx.model.component import Component
    from cyclonedx.model.license import License
    from packageurl import PackageURL


IMAGE_PROPERTY = "rlimages:image"
"""Name of the property with the id of the image that an SBOM describes. The id is the digest of its configuration."""
LOCATION_PROPERTY = "rlimages:location"
"""Name of the property with the folder in which Python or a Python package is installed."""
_SERIAL_NAMESPACE = uuid.UUID("5d7b1a4e-6a0c-5b8e-9f3d-2f6f1c1f0a11")
"""Namespace of the serial numbers (UUID version 5). Another value would change the SBOM of every image."""
_NO_LICENSE = ("", "UNKNOWN", "OSI Approved")
"""Values of licence fields that name no licence."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SbomSubject:
    """The image that an SBOM describes."""

    id: str
    """`sha256:…` of the image's configuration."""
    name: str
    """Title in the image's labels, or `image`."""
    version: str
    """Version in the image's labels; empty if it has none."""
    created: str
    """Creation time of the image, RFC 3339; empty if the image has none."""


def local_image_sbom(argument: str, interpreter: str | None, *, matrix: Path | None, stop: Stop) -> str:
    """Return the SBOM (CycloneDX JSON text) of the local image that `argument` names, by running a container from it.

    `argument` is the name or id of a local image that contains Python, or the id of a cell. `interpreter` is the Python
    in the image; None means that of the image's cell, or `python3` if it has no cell. `matrix` is the path of the build
    matrix; None searches it upwards from the working folder. Raises `FactoryError` if there is no project or no image,
    or if the packages of the image cannot be listed.
    """
    project = load_project(matrix, Path.cwd())
    engine = DockerEngine(run=f"sbom-{os.getpid()}", stop=stop)
    try:
        image = engine.inspect(find_image(argument, engine, matrix, Path.cwd()))
        if image is None:
            raise ToolError(f"the image of {argument} was removed from the local store meanwhile")
        interpreters = {cell.id: cell.base.interpreter for cell in project.cells}
        python = interpreter or interpreters.get(image.labels.get(CELL_LABEL, ""), "python3")
        folder = project.state.inventories / image.image.id.removeprefix("sha256:")[:12]
        return image_sbom(image, python, engine, root=project.root, folder=folder)
    finally:
        engine.close()


def image_sbom(image: InspectedImage, interpreter: str, engine: Engine, *, root: Path, folder: Path) -> str:
    """Return the SBOM (CycloneDX JSON text) of the local image `image`. The text is always equal for one image.

    `interpreter` is the Python in the image that lists the packages. `root` is the folder of the project, and the log
    is written to `folder`. Raises `ToolError` if the packages cannot be listed.
    """
    subject = SbomSubject(
        id=image.image.id,
        name=image.labels.get(TITLE_LABEL, "image"),
        version=image.labels.get(VERSION_LABEL, ""),
        created=image.created,
    )
    return compose_sbom(take_inventory(image.image.id, interpreter, engine, root=root, folder=folder), subject)


def compose_sbom(inventory: PackageInventory, image: SbomSubject) -> str:
    """Return the SBOM (CycloneDX JSON text) of `image`, with the packages in `inventory`.

    Serial number and time are derived from `image`, so that a new SBOM equals one that was attested before.
    """
    from cyclonedx.model import Property
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType
    from cyclonedx.output.json import JsonV1Dot6

    described = Component(
        type=ComponentType.CONTAINER,
        name=image.name,
        version=image.version or None,
        bom_ref=image.id,
        properties=[Property(name=IMAGE_PROPERTY, value=image.id)],
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
        serial_number=uuid.uuid5(_SERIAL_NAMESPACE, image.id),
        metadata=BomMetaData(component=described, timestamp=_parse_time(image.created)),
    )
    bom.metadata.tools.components.add(tool)
    bom.register_dependency(described, components)
    return JsonV1Dot6(bom).output_as_string(indent=2) + "\n"


def sbom_image_id(sbom: Mapping[str, Any]) -> str:
    """Return the id of the image that `sbom` (CycloneDX JSON) describes.

    Return an empty text if `sbom` does not have the property `rlimages:image`, because another program made it.
    """
    component = sbom.get("metadata", {}).get("component", {})
    values = [
        entry.get("value", "") for entry in component.get("properties", ()) if entry.get("name") == IMAGE_PROPERTY
    ]
    return str(values[0]) if values else ""


def _parse_time(text: str) -> datetime:
    """Return the time that `text` states in the format RFC 3339; the beginning of 1970 if it has another format."""
    try:
        # Engines write nanoseconds; Python drops what is smaller than a microsecond.
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)


def _component(package: InstalledPackage, inventory: PackageInventory) -> "Component":
    from cyclonedx.model import Property
    from cyclonedx.model.component import Component, ComponentType

    purl = _package_url(package, inventory)
    return Component(
        type=ComponentType.LIBRARY,
        name=package.name,
        version=package.version or None,
        bom_ref=str(purl),
        purl=purl,
        licenses=list(_licenses(package.licenses)),
        properties=[Property(name=LOCATION_PROPERTY, value=folder) for folder in package.folders],
    )


def _package_url(package: InstalledPackage, inventory: PackageInventory) -> "PackageURL":
    """Return the package URL (purl) of `package`, with the qualifiers by which vulnerability scanners find it.

    The operating system that is part of the URL of a deb or rpm package is taken from `inventory`.
    """
    from packageurl import PackageURL

    if package.kind in ("pypi", "generic"):
        return PackageURL(package.kind, None, package.name, package.version or None)
    qualifiers = {
        "arch": package.arch,
        "distro": "-".join(filter(None, [inventory.os, inventory.os_version])),
        "epoch": package.epoch,
        # Debian's security tracker lists source packages, which often have another name: libc6 is built from glibc.
        "upstream": package.source,
    }
    known = {name: value for name, value in qualifiers.items() if value}
    return PackageURL(package.kind, inventory.os or None, package.name, package.version or None, known)


def _licenses(names: tuple[str, ...]) -> "Iterator[License]":
    """Yield the CycloneDX licences for `names`, the licences in a package's metadata.

    If `names` has only an SPDX expression, it is the result; else there is one licence for each name, with its SPDX id
    if the name has one. CycloneDX allows no expression together with other licences.
    """
    from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
    from cyclonedx.spdx import fixup_id, is_expression

    named = [name for name in dict.fromkeys(names) if name not in _NO_LICENSE]
    if len(named) == 1 and fixup_id(named[0]) is None and is_expression(named[0]):
        yield LicenseExpression(named[0])
        return
    for name in named:
        spdx_id = fixup_id(name)
        yield DisjunctiveLicense(id=spdx_id) if spdx_id else DisjunctiveLicense(name=name)
