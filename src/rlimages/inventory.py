"""Look into an image of the local store: what is installed there. A program runs inside, without network."""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from rlimages.container import FOLDER
from rlimages.engine import Engine, LocalImage
from rlimages.errors import Interrupted, ToolError
from rlimages.sbom import Described, Inventory, Package, compose

PROGRAM = Path("templates/inventory/list_packages.py")
PREFIX = "rlimages-inventory: "
"""How the program's lines begin: an entrypoint may print lines of its own."""
TITLE = "org.opencontainers.image.title"
VERSION = "org.opencontainers.image.version"
TIMEOUT = 300.0
"""Seconds; measured: 1.5 s for an image of 2 GB with a hundred Python packages, on two busy cores."""


def bill_of_materials(image: LocalImage, interpreter: str, engine: Engine, *, root: Path, folder: Path) -> str:
    """What is in an image, as CycloneDX JSON: the same image gives the same text. See `take`."""
    described = Described(
        id=image.image.id,
        name=image.labels.get(TITLE, "image"),
        version=image.labels.get(VERSION, ""),
        created=image.created,
    )
    return compose(take(image.image.id, interpreter, engine, root=root, folder=folder), described)


def take(image: str, interpreter: str, engine: Engine, *, root: Path, folder: Path) -> Inventory:
    """What is installed in an image; `folder` gets the log. `root` is the project's.

    Raises `ToolError` where the image can't run the program, which needs some Python 3.5 or newer.
    """
    inside, log = folder / "inventory", folder / "inventory.log"
    inside.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(root / PROGRAM, inside / PROGRAM.name)
    log.unlink(missing_ok=True)
    checked = engine.check(image, (interpreter, "-u", f"{FOLDER}/{PROGRAM.name}"), inside, log, TIMEOUT)
    if checked.ended.cancelled:
        raise Interrupted("interrupted")
    if not checked.ended.passed:
        why = checked.trouble or checked.last_line or f"it exited with {checked.ended.code} and said nothing"
        raise ToolError(f"{image}: cannot look into this image with {interpreter}: {why} ({log})")
    return read(log.read_text(encoding="utf-8").splitlines(), image)


def read(lines: Iterable[str], image: str) -> Inventory:
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
                yield _package(record, source=_source(record))
            case "rpm":
                yield _package(record, source=record["source"])
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
            licenses=_licenses(found[0]),
            folders=tuple(sorted({record["folder"] for record in found})),
        )


def _package(record: Mapping[str, Any], source: str) -> Package:
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


def _licenses(record: Mapping[str, Any]) -> tuple[str, ...]:
    """The field that says most, in the order in which Python's metadata replaced one by the other."""
    if record["expression"]:
        return (str(record["expression"]),)
    return tuple(record["licenses"]) or tuple(record["classifiers"])
