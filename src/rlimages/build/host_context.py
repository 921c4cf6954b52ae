"""Pass this machine's certificates, pip configuration and wheels to builds without leaving them in the image.

Each cell gets a folder that its build mounts as the named context `buildhost`. No file of it becomes part of a layer.
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
"""Packages that install the others. They are passed to builds by name, because no lock names them."""
_PIN = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(\[[^]]*\])?==(?P<version>[^\s;\\]+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_LINK = re.compile(r"""<a\s[^>]*?href\s*=\s*["']([^"']+)["']""", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class HostContexts:
    """The folders with this machine's files for builds, one for each cell.

    Cells do not share a folder: it would change with the wheels of any cell, and invalidate the builder's cache of all.
    """

    folders: Mapping[str, Path]
    """Cell id -> folder; a cell for which this machine has no files is missing."""
    notes: tuple[str, ...]
    """Sentences for people about what builds get from this machine, without credentials."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pin:
    """A distribution with an exact version in a lock."""

    name: str
    """Canonical name of the distribution."""
    version: Version
    hashes: frozenset[str]
    """SHA-256 of the accepted files in hexadecimal; empty if the lock has no hashes."""


def prepare_contexts(
    folder: Path,
    locks: Mapping[str, str],
    *,
    environ: Mapping[str, str],
    home: Path,
    wheels: Sequence[Path] = (),
    config_files: Sequence[Path] | None = None,
) -> HostContexts:
    """Write this machine's files for each cell of `locks` (cell id -> text of its lock) into `folder/<cell id>`.

    Return the folders, and notes about their content. A folder gets pip's configuration, the certificates, and the
    wheels and source packages that the lock names by version and hash. They come from the folders `wheels`, the
    find-links folders of this machine's pip configuration and its `file:` indexes. That configuration is found with
    the variables `environ` and the user's folder `home`, or read from `config_files` if they are given. Files of an
    earlier run that a folder does not need now are removed.
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
    """Return the exact pins (`name==version`) in the text `lock`, with their hashes. All other lines are ignored."""
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
    """Return the text of a `pip.conf` for builds, with the http(s) addresses of `settings`; empty if there are none.

    Local folders are left out, because their files are passed to builds as wheels.
    """
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
    """Return `url` as it may be printed: with `***` in place of user and password, and without query."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host if host == parts.netloc else f"***@{host}", parts.path, "", ""))


def _matching_files(pin: Pin, files: Iterable[tuple[Path, str]]) -> Iterator[Path]:
    """Yield the paths of `files` that have the name and version of `pin` and, if it has hashes, one of them.

    `files` has pairs of a path and its SHA-256, or an empty string if the digest is not known yet.
    """
    for path, digest in files:
        same_version = _name_and_version(path) == (pin.name, pin.version)
        if same_version and (not pin.hashes or (digest or _sha256(path)) in pin.hashes):
            yield path


def _only_wheels(files: Iterable[tuple[Path, str]]) -> Iterator[Path]:
    """Yield the paths of `files`, pairs of a path and its SHA-256, that are wheels."""
    return (path for path, _ in files if path.suffix == ".whl")


def _available_files(name: str, folders: Sequence[Path], indexes: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """Yield the wheels and source packages of the distribution `name` on this machine, as (path, SHA-256) pairs.

    They are in `folders` and in the local package indexes `indexes`. The SHA-256 is empty unless an index names it.
    """
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
    """Return canonical name of a distribution -> its wheels and source packages in `folder`, sorted by file name.

    The mapping is empty if there is no such folder.
    """
    files: dict[str, tuple[Path, ...]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        parsed = _name_and_version(path)
        if parsed:
            files[parsed[0]] = (*files.get(parsed[0], ()), path)
    return files


def _name_and_version(path: Path) -> tuple[str, Version] | None:
    """Return canonical name and version of the wheel or source package `path`; None for any other file."""
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
    """Write the pip configuration and certificates of `settings` and the packages `files` into a cell's `folder`.

    `files` maps file names to paths. All other packages in the folder are removed. Return False if `folder` has no
    files then.
    """
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
    """Make `target` a hard link to `source`, or a copy where that is not possible.

    Links save time and disk: wheels can have hundreds of megabytes. A `target` that is up to date is left alone.
    """
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
    """Return the size of the file `path` in bytes, and its modification time in nanoseconds."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _notes(settings: PipSettings, files: set[Path]) -> Iterator[str]:
    """Yield sentences about what builds get: certificates and indexes of `settings`, and the packages `files`."""
    if settings.certificates:
        yield f"builds trust the certificates of {settings.certificates}"
    addresses = [*filter(None, [settings.index_url]), *settings.extra_index_urls]
    for address in addresses:
        if local_path(address) is None:
            yield f"builds use the package index {without_credentials(address)}"
    if files:
        yield f"builds get {len(files)} files of {', '.join(sorted({str(path.parent) for path in files}))}"
