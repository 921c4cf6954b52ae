"""List the packages installed in an image, as a CycloneDX SBOM."""

import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.utils import canonicalize_name

from rlimages import __version__
from rlimages.engine.container import CHECKS_FOLDER
from rlimages.engine.docker import DockerEngine
from rlimages.engine.protocol import Engine, InspectedImage
from rlimages.errors import Interrupted, ToolError
from rlimages.oci.labels import CELL_LABEL, TITLE_LABEL, VERSION_LABEL
from rlimages.project.lookup import find_image
from rlimages.project.project import load_project
from rlimages.system.process import Stop

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
class SbomSubject:
    """The image that a bill of materials is for."""

    id: str
    """`sha256:…` of its configuration."""
    name: str
    version: str
    created: str
    """RFC 3339; empty where it does not say."""


def compose_sbom(inventory: Inventory, image: SbomSubject) -> str:
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
        metadata=BomMetaData(component=described, timestamp=parse_time(image.created)),
    )
    bom.metadata.tools.components.add(tool)
    bom.register_dependency(described, components)
    return JsonV1Dot6(bom).output_as_string(indent=2) + "\n"


def sbom_image(bom: Mapping[str, Any]) -> str:
    """The id of the image that a bill of materials is for; empty where it does not say."""
    component = bom.get("metadata", {}).get("component", {})
    found = [entry.get("value", "") for entry in component.get("properties", ()) if entry.get("name") == IMAGE]
    return str(found[0]) if found else ""


def parse_time(text: str) -> datetime:
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


INVENTORY_PROGRAM = Path("templates/inventory/list_packages.py")
PREFIX = "rlimages-inventory: "
"""How the program's lines begin: an entrypoint may print lines of its own."""
INVENTORY_TIMEOUT = 300.0
"""Seconds; measured: 1.5 s for an image of 2 GB with a hundred Python packages, on two busy cores."""


def image_sbom(image: InspectedImage, interpreter: str, engine: Engine, *, root: Path, folder: Path) -> str:
    """What is in an image, as CycloneDX JSON: the same image gives the same text. See `take`."""
    described = SbomSubject(
        id=image.image.id,
        name=image.labels.get(TITLE_LABEL, "image"),
        version=image.labels.get(VERSION_LABEL, ""),
        created=image.created,
    )
    return compose_sbom(take_inventory(image.image.id, interpreter, engine, root=root, folder=folder), described)


def take_inventory(image: str, interpreter: str, engine: Engine, *, root: Path, folder: Path) -> Inventory:
    """What is installed in an image; `folder` gets the log. `root` is the project's.

    Raises `ToolError` where the image can't run the program, which needs some Python 3.5 or newer.
    """
    inside, log = folder / "inventory", folder / "inventory.log"
    inside.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(root / INVENTORY_PROGRAM, inside / INVENTORY_PROGRAM.name)
    log.unlink(missing_ok=True)
    checked = engine.run_in_image(
        image, (interpreter, "-u", f"{CHECKS_FOLDER}/{INVENTORY_PROGRAM.name}"), inside, log, INVENTORY_TIMEOUT
    )
    if checked.process.cancelled:
        raise Interrupted("interrupted")
    if not checked.process.passed:
        why = checked.error or checked.last_line or f"it exited with {checked.process.code} and said nothing"
        raise ToolError(f"{image}: cannot look into this image with {interpreter}: {why} ({log})")
    return parse_inventory(log.read_text(encoding="utf-8").splitlines(), image)


def parse_inventory(lines: Iterable[str], image: str) -> Inventory:
    """Understand what the program says. Raises `ToolError` naming `image` where some of it is missing."""
    try:
        records: list[dict[str, Any]] = [
            json.loads(line.removeprefix(PREFIX)) for line in lines if line.startswith(PREFIX)
        ]
        complete = bool(records) and records[-1] == {"kind": "end", "records": len(records) - 1}
        told = [record for record in records if record["kind"] == "os"]
        packages = tuple(sorted(_packages(records), key=lambda package: (package.kind, package.name, package.version)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ToolError(f"{image}: what was said about its packages cannot be read ({error!r})") from error
    if not complete:
        raise ToolError(f"{image}: what was said about its packages is not complete; is the disk full?")
    return Inventory(
        os=told[0]["id"] if told else "",
        os_version=told[0]["version"] if told else "",
        packages=packages,
        unreadable=tuple(record["path"] for record in records if record["kind"] == "unreadable"),
    )


def _packages(records: Iterable[Mapping[str, Any]]) -> Iterator[Package]:
    python: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for record in records:
        match record["kind"]:
            case "deb":
                yield _parse_package(record, source=_source(record))
            case "rpm":
                yield _parse_package(record, source=record["source"])
            case "generic":
                folders = (record["folder"],)
                yield Package(kind="generic", name=record["name"], version=record["version"], folders=folders)
            case "pypi" if record["name"]:
                python.setdefault((canonicalize_name(record["name"]), record["version"]), []).append(record)
    for found in python.values():
        yield Package(
            kind="pypi",
            name=found[0]["name"],
            version=found[0]["version"],
            licenses=_license_names(found[0]),
            folders=tuple(sorted({record["folder"] for record in found})),
        )


def _parse_package(record: Mapping[str, Any], source: str) -> Package:
    return Package(
        kind=record["kind"],
        name=record["name"],
        version=record["version"],
        licenses=tuple(record["licenses"]),
        arch=record["arch"],
        epoch=record.get("epoch", ""),
        source=source,
    )


def _source(record: Mapping[str, Any]) -> str:
    """`name@version` of a deb's source where that is not the package itself."""
    if (record["source"], record["source_version"]) == (record["name"], record["version"]):
        return ""
    same = record["source_version"] == record["version"]
    return str(record["source"]) if same else f"{record['source']}@{record['source_version']}"


def _license_names(record: Mapping[str, Any]) -> tuple[str, ...]:
    """The field that says most, in the order in which Python's metadata replaced one by the other."""
    if record["expression"]:
        return (str(record["expression"]),)
    return tuple(record["licenses"]) or tuple(record["classifiers"])


def describe_image(word: str, interpreter: str | None, *, matrix: Path | None, stop: Stop) -> str:
    """CycloneDX JSON for a cell's image, or any other with a Python. Raises `FactoryError` where there is none."""
    loaded = load_project(matrix, Path.cwd())
    engine = DockerEngine(run=f"sbom-{os.getpid()}", stop=stop)
    try:
        image = engine.inspect(find_image(word, engine, matrix, Path.cwd()))
        if image is None:
            raise ToolError(f"the image of {word} has just gone from the local store")
        known = {cell.id: cell.base.interpreter for cell in loaded.cells}
        python = interpreter or known.get(image.labels.get(CELL_LABEL, ""), "python3")
        folder = loaded.state.inventories / image.image.id.removeprefix("sha256:")[:12]
        return image_sbom(image, python, engine, root=loaded.root, folder=folder)
    finally:
        engine.close()
