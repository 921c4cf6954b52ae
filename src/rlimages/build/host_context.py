"""Pass this machine's certificates, pip configuration and wheels to builds, without a trace in the image.

Each cell gets a folder that its build mounts as the named context `buildhost`. Nothing of it becomes part of a layer.
"""

import hashlib
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from packaging.utils import (
    InvalidSdistFilename,
    InvalidWheelFilename,
    canonicalize_name,
    parse_sdist_filename,
    parse_wheel_filename,
)
from packaging.version import InvalidVersion, Version

from rlimages.project.pip_config import PipSettings, configuration_files, local_path, read_pip_settings
from rlimages.system.files import read_text, write_text

TOOLS = ("pip", "setuptools", "uv", "wheel")
"""The packages that install the others. No lock names them."""
_PIN = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(\[[^]]*\])?==(?P<version>[^\s;\\]+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_LINK = re.compile(r"""<a\s[^>]*?href\s*=\s*["']([^"']+)["']""", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class HostContexts:
    """The folders with this machine's files, one for each cell.

    A folder shared by all cells would change with the wheels of any cell, and the builder's cache with it.
    """

    folders: Mapping[str, Path]
    """By cell id; a cell for which this machine has no files is missing."""
    notes: tuple[str, ...]
    """Sentences that say what builds get from this machine, without credentials."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pin:
    """An exact version in a lock."""

    name: str
    version: Version
    hashes: frozenset[str]
    """SHA-256 in hexadecimal; empty if the lock has no hashes."""


def prepare_contexts(
    folder: Path,
    locks: Mapping[str, str],
    *,
    environ: Mapping[str, str],
    home: Path,
    wheels: Sequence[Path] = (),
    config_files: Sequence[Path] | None = None,
) -> HostContexts:
    """Write one folder below `folder` for each cell of `locks` (cell id -> text of its lock), and return them.

    A folder gets only the wheels and source packages that the lock names by version and hash. They come from `wheels`,
    the find-links folders of this machine's pip configuration and its `file:` indexes. `config_files` replaces the
    files of that configuration. Files that a folder has from an earlier run and does not need now are removed.
    """
    files = configuration_files(environ, home) if config_files is None else config_files
    settings = read_pip_settings(environ, files)
    wheel_folders, indexes = (*wheels, *settings.wheel_folders), settings.local_indexes
    folders: dict[str, Path] = {}
    passed: set[Path] = set()

    @cache
    def available(name: str) -> tuple[tuple[Path, str], ...]:
        return tuple(_available_files(name, wheel_folders, indexes))

    for cell, lock in locks.items():
        pins = parse_pins(lock) if wheel_folders or indexes else ()
        chosen = {path.name: path for pin in pins for path in _matching_files(pin, available(pin.name))}
        if chosen:
            chosen.update({path.name: path for tool in TOOLS for path in _only_wheels(available(tool))})
        passed.update(chosen.values())
        if _write_folder(folder / cell, settings, chosen):
            folders[cell] = folder / cell
    return HostContexts(folders=folders, notes=tuple(_notes(settings, passed)))


def parse_pins(lock: str) -> tuple[Pin, ...]:
    """Return the exact pins (`name==version`) of a lock with their hashes. All other lines are ignored."""
    pins: list[Pin] = []
    for line in lock.replace("\\\n", " ").splitlines():
        match = _PIN.match(line.strip())
        if match:
            try:
                version = Version(match["version"])
            except InvalidVersion:
                continue
            hashes = frozenset(_HASH.findall(line))
            pins.append(Pin(name=canonicalize_name(match["name"]), version=version, hashes=hashes))
    return tuple(pins)


def pip_conf(settings: PipSettings) -> str:
    """Return the text of a `pip.conf` for builds. It has only remote addresses: local folders are passed as wheels."""
    remote = {
        "index-url": [settings.index_url or ""],
        "extra-index-url": list(settings.extra_index_urls),
        "find-links": list(settings.find_links),
    }
    lines = [
        f"{key} =" + "".join(f"\n    {address}" for address in addresses)
        for key, values in remote.items()
        if (addresses := [value for value in values if local_path(value) is None])
    ]
    return "\n".join(["[global]", *lines]) + "\n" if lines else ""


def without_credentials(url: str) -> str:
    """Return an address that may be printed: `***` in place of user and password, and no query."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host if host == parts.netloc else f"***@{host}", parts.path, "", ""))


def _matching_files(pin: Pin, files: Iterable[tuple[Path, str]]) -> Iterator[Path]:
    """Yield the files of a pin's version that have one of its hashes."""
    for path, digest in files:
        same_version = _name_and_version(path) == (pin.name, pin.version)
        if same_version and (not pin.hashes or (digest or _sha256(path)) in pin.hashes):
            yield path


def _only_wheels(files: Iterable[tuple[Path, str]]) -> Iterator[Path]:
    return (path for path, _ in files if path.suffix == ".whl")


def _available_files(name: str, folders: Sequence[Path], indexes: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Yield this machine's files of one distribution, each with its SHA-256 if the index names it, else with ''."""
    for folder in folders:
        yield from ((path, "") for path in _files_by_name(folder).get(name, ()))
    for index in indexes:
        page = read_text(index / name / "index.html")
        if page is None:
            yield from ((path, "") for path in _files_by_name(index / name).get(name, ()))
            continue
        for link in _LINK.findall(page):
            parts = urlsplit(link)
            path = (index / name / unquote(parts.path)).resolve()
            if not parts.netloc and path.is_file() and (_name_and_version(path) or ("",))[0] == name:
                yield path, parts.fragment.removeprefix("sha256=") if parts.fragment.startswith("sha256=") else ""


@cache
def _files_by_name(folder: Path) -> Mapping[str, tuple[Path, ...]]:
    """Return the wheels and source packages of a folder by canonical name of the distribution."""
    files: dict[str, tuple[Path, ...]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        parsed = _name_and_version(path)
        if parsed:
            files[parsed[0]] = (*files.get(parsed[0], ()), path)
    return files


def _name_and_version(path: Path) -> tuple[str, Version] | None:
    """Return name and version of a wheel or source package; None for any other file."""
    try:
        if path.suffix == ".whl":
            return parse_wheel_filename(path.name)[:2]
        if path.name.endswith((".tar.gz", ".zip")):
            return parse_sdist_filename(path.name)
    except (InvalidWheelFilename, InvalidSdistFilename):
        return None
    return None


@cache
def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_folder(folder: Path, settings: PipSettings, files: Mapping[str, Path]) -> bool:
    """Bring the folder of one cell up to date. Return False if there is nothing in it."""
    wheels = folder / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    for old in wheels.iterdir():
        if old.name not in files:
            old.unlink()
    for name, path in files.items():
        _link_or_copy(path, wheels / name)
    conf = pip_conf(settings)
    if conf:
        write_text(folder / "pip.conf", conf)
        (folder / "pip.conf").chmod(0o600)  # an address may hold a password
    else:
        (folder / "pip.conf").unlink(missing_ok=True)
    certificates = folder / "ca-certificates.crt"
    if settings.certificates:
        _link_or_copy(settings.certificates.resolve(), certificates)
    else:
        certificates.unlink(missing_ok=True)
    return bool(conf or files or settings.certificates)


def _link_or_copy(source: Path, target: Path) -> None:
    """Make `target` the same file as `source`, by a hard link if possible: wheels can have hundreds of megabytes."""
    if target.exists() and (target.samefile(source) or _size_and_time(target) == _size_and_time(source)):
        return
    part = target.with_name(f".{target.name}.{os.getpid()}")
    part.unlink(missing_ok=True)
    try:
        os.link(source, part)
    except OSError:  # another file system, or a file of another user (the kernel's protected_hardlinks)
        shutil.copy2(source, part)
    part.replace(target)


def _size_and_time(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _notes(settings: PipSettings, files: set[Path]) -> Iterator[str]:
    if settings.certificates:
        yield f"builds trust the certificates of {settings.certificates}"
    addresses = [*filter(None, [settings.index_url]), *settings.extra_index_urls]
    for address in addresses:
        if local_path(address) is None:
            yield f"builds use the package index {without_credentials(address)}"
    if files:
        yield f"builds get {len(files)} files of {', '.join(sorted({str(path.parent) for path in files}))}"
