"""List the packages that are installed in an image, by running `list_packages.py` inside it."""

import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.utils import canonicalize_name

from rlimages.engine.container import CHECKS_FOLDER
from rlimages.engine.protocol import Engine
from rlimages.errors import Interrupted, ToolError

INVENTORY_PROGRAM = Path("templates/inventory/list_packages.py")
"""Path of the program that lists the packages, in a project. It runs on Python 3.5, the oldest in an image."""
LINE_PREFIX = "rlimages-inventory: "
"""Start of each line that the program prints. The entrypoint of an image may print other lines."""
INVENTORY_TIMEOUT = 300.0
"""Seconds that the program may take. Measured: 1.5 s for an image of 2 GB with 100 Python packages, on 2 busy cores."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InstalledPackage:
    """A package that is installed in an image."""

    kind: str
    """`deb`, `rpm`, `pypi`, or `generic` for a Python interpreter that no deb or rpm package installed."""
    name: str
    version: str
    licenses: tuple[str, ...] = ()
    """Licences in the package's own metadata: one SPDX expression, or several names; empty if it has none."""
    arch: str = ""
    """Architecture of a deb or rpm package, such as `amd64`; empty for other packages."""
    epoch: str = ""
    """Epoch of the version of an rpm package; empty if it has none."""
    source: str = ""
    """Source package of a deb or rpm package, with `@version` if its version differs; may be empty."""
    folders: tuple[str, ...] = ()
    """Folders in which a `pypi` or `generic` package is installed. One version may be in several folders."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PackageInventory:
    """All packages that are installed in an image, and its operating system."""

    os: str
    """`ID` of os-release(5), such as `debian` or `amzn`; empty if the image has no such file."""
    os_version: str
    """`VERSION_ID` of os-release(5), such as `12`; empty if the image has no such file."""
    packages: tuple[InstalledPackage, ...]
    unreadable: tuple[str, ...] = ()
    """Folders that the image's user cannot read, so that packages there are not listed."""


def take_inventory(image: str, interpreter: str, engine: Engine, *, root: Path, folder: Path) -> PackageInventory:
    """Return the packages that are installed in a local image, by running `list_packages.py` in a container.

    `image` is the image's id, `interpreter` the Python in the image that runs the program, and `root` the folder of the
    project that has the program. The log and a copy of the program are written to `folder`. Raises `ToolError` if
    `interpreter` does not exist in the image or the program fails, and `Interrupted` if the user stops it.
    """
    mounted, log = folder / "inventory", folder / "inventory.log"
    mounted.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(root / INVENTORY_PROGRAM, mounted / INVENTORY_PROGRAM.name)
    # The engine appends to the log, and the inventory is read from it: lines of an earlier run must go.
    log.unlink(missing_ok=True)
    argv = (interpreter, "-u", f"{CHECKS_FOLDER}/{INVENTORY_PROGRAM.name}")
    run = engine.run_in_image(image, argv, mounted, log, INVENTORY_TIMEOUT)
    if run.process.cancelled:
        raise Interrupted("interrupted")
    if not run.process.passed:
        reason = run.error or run.last_line or f"it exited with {run.process.code} and printed nothing"
        raise ToolError(f"{image}: cannot list the packages of this image with {interpreter}: {reason} ({log})")
    return parse_inventory(log.read_text(encoding="utf-8").splitlines(), image)


def parse_inventory(lines: Iterable[str], image: str) -> PackageInventory:
    """Return the packages in `lines`, the output of `list_packages.py`.

    Raises `ToolError` if a line cannot be parsed or the end of the output is missing; the message names `image`.
    """
    try:
        records: list[dict[str, Any]] = [
            json.loads(line.removeprefix(LINE_PREFIX)) for line in lines if line.startswith(LINE_PREFIX)
        ]
        # The last record has the number of the others. Without it, a full disk would pass for a smaller image.
        complete = bool(records) and records[-1] == {"kind": "end", "records": len(records) - 1}
        systems = [record for record in records if record["kind"] == "os"]
        packages = tuple(sorted(_packages(records), key=lambda package: (package.kind, package.name, package.version)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ToolError(f"{image}: the list of its packages cannot be read ({error!r})") from error
    if not complete:
        raise ToolError(f"{image}: the list of its packages is not complete; is the disk full?")
    return PackageInventory(
        os=systems[0]["id"] if systems else "",
        os_version=systems[0]["version"] if systems else "",
        packages=packages,
        unreadable=tuple(record["path"] for record in records if record["kind"] == "unreadable"),
    )


def _packages(records: Iterable[Mapping[str, Any]]) -> Iterator[InstalledPackage]:
    python: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for record in records:
        match record["kind"]:
            case "deb":
                yield _system_package(record, source=_source_of_deb(record))
            case "rpm":
                yield _system_package(record, source=record["source"])
            case "generic":
                folders = (record["folder"],)
                yield InstalledPackage(kind="generic", name=record["name"], version=record["version"], folders=folders)
            case "pypi" if record["name"]:
                python.setdefault((canonicalize_name(record["name"]), record["version"]), []).append(record)
    for copies in python.values():
        yield InstalledPackage(
            kind="pypi",
            name=copies[0]["name"],
            version=copies[0]["version"],
            licenses=_python_licenses(copies[0]),
            folders=tuple(sorted({record["folder"] for record in copies})),
        )


def _system_package(record: Mapping[str, Any], source: str) -> InstalledPackage:
    return InstalledPackage(
        kind=record["kind"],
        name=record["name"],
        version=record["version"],
        licenses=tuple(record["licenses"]),
        arch=record["arch"],
        epoch=record.get("epoch", ""),
        source=source,
    )


def _source_of_deb(record: Mapping[str, Any]) -> str:
    """Return the source package of the deb package `record` as `name`, or `name@version` if the versions differ.

    Return an empty text if the source package has the name and version of the deb package.
    """
    if (record["source"], record["source_version"]) == (record["name"], record["version"]):
        return ""
    same_version = record["source_version"] == record["version"]
    return str(record["source"]) if same_version else f"{record['source']}@{record['source_version']}"


def _python_licenses(record: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the licences of the Python package `record`, from the most precise metadata field that is not empty.

    The fields are License-Expression, License and the classifiers, in this order.
    """
    if record["expression"]:
        return (str(record["expression"]),)
    return tuple(record["licenses"]) or tuple(record["classifiers"])
