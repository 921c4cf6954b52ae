"""Pass this machine's certificates, pip configuration and wheels to builds, without a trace in the image."""

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
"""What installs the others, and is named in no lock."""
_PIN = re.compile(r"^(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(\[[^]]*\])?==(?P<version>[^\s;\\]+)")
_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
_LINK = re.compile(r"""<a\s[^>]*?href\s*=\s*["']([^"']+)["']""", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True, slots=True)
class HostContexts:
    """The folders of a run, one for each cell so that one cell's wheels never disturb another's cache."""

    folders: Mapping[str, Path]
    """By cell id; a cell to which this machine lends nothing has none."""
    notes: tuple[str, ...]
    """What was taken from this machine, without credentials."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Pin:
    """One line of a lock."""

    name: str
    version: Version
    hashes: frozenset[str]
    """SHA-256 in hexadecimal; empty where the lock has none."""


def prepare_contexts(
    folder: Path,
    locks: Mapping[str, str],
    *,
    environ: Mapping[str, str],
    home: Path,
    wheels: Sequence[Path] = (),
    config_files: Sequence[Path] | None = None,
) -> HostContexts:
    """Write one folder below `folder` for each cell of `locks` (cell id -> text of its lock).

    Only files that the lock names are taken, by version and hash: from `wheels`, the machine's find-links folders
    and its `file:` indexes. What a folder held before and does not need now is removed.
    """
    files = configuration_files(environ, home) if config_files is None else config_files
    settings = read_pip_settings(environ, files)
    lenders, indexes = (*wheels, *settings.wheel_folders), settings.local_indexes
    folders: dict[str, Path] = {}
    lent: set[Path] = set()

    @cache
    def offered(name: str) -> tuple[tuple[Path, str], ...]:
        return tuple(_offered(name, lenders, indexes))

    for name, lock in locks.items():
        wanted = parse_pins(lock) if lenders or indexes else ()
        found = {path.name: path for pin in wanted for path in _files(pin, offered(pin.name))}
        if found:
            found.update({path.name: path for tool in TOOLS for path in _wheels(offered(tool))})
        lent.update(found.values())
        if _fill(folder / name, settings, found):
            folders[name] = folder / name
    return HostContexts(folders=folders, notes=tuple(_notes(settings, lent)))


def parse_pins(lock: str) -> tuple[Pin, ...]:
    """The exact pins of a lock, with the hashes that follow each. Lines of another kind are passed over."""
    found: list[Pin] = []
    for line in lock.replace("\\\n", " ").splitlines():
        match = _PIN.match(line.strip())
        if match:
            try:
                version = Version(match["version"])
            except InvalidVersion:
                continue
            hashes = frozenset(_HASH.findall(line))
            found.append(Pin(name=canonicalize_name(match["name"]), version=version, hashes=hashes))
    return tuple(found)


def pip_conf(settings: PipSettings) -> str:
    """The settings that mean something inside a build: addresses. Local folders travel as wheels."""
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
    """An address as it may be printed."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host if host == parts.netloc else f"***@{host}", parts.path, "", ""))


def _files(pin: Pin, offered: Iterable[tuple[Path, str]]) -> Iterator[Path]:
    for path, digest in offered:
        if _names(path) == (pin.name, pin.version) and (not pin.hashes or (digest or _sha256(path)) in pin.hashes):
            yield path


def _wheels(offered: Iterable[tuple[Path, str]]) -> Iterator[Path]:
    return (path for path, _ in offered if path.suffix == ".whl")


def _offered(name: str, folders: Sequence[Path], indexes: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """The files of one distribution, with their SHA-256 where the index says it."""
    for folder in folders:
        yield from ((path, "") for path in _by_name(folder).get(name, ()))
    for index in indexes:
        page = read_text(index / name / "index.html")
        if page is None:
            yield from ((path, "") for path in _by_name(index / name).get(name, ()))
            continue
        for link in _LINK.findall(page):
            parts = urlsplit(link)
            path = (index / name / unquote(parts.path)).resolve()
            if not parts.netloc and path.is_file() and (_names(path) or ("",))[0] == name:
                yield path, parts.fragment.removeprefix("sha256=") if parts.fragment.startswith("sha256=") else ""


@cache
def _by_name(folder: Path) -> Mapping[str, tuple[Path, ...]]:
    """The distributions' files of a folder, by canonical name."""
    found: dict[str, tuple[Path, ...]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        names = _names(path)
        if names:
            found[names[0]] = (*found.get(names[0], ()), path)
    return found


def _names(path: Path) -> tuple[str, Version] | None:
    """Name and version of a wheel or source package; None for any other file."""
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


def _fill(folder: Path, settings: PipSettings, wheels: Mapping[str, Path]) -> bool:
    """Bring one folder up to date; False when it has nothing to say."""
    shelf = folder / "wheels"
    shelf.mkdir(parents=True, exist_ok=True)
    for old in shelf.iterdir():
        if old.name not in wheels:
            old.unlink()
    for name, path in wheels.items():
        _link_or_copy(path, shelf / name)
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
    return bool(conf or wheels or settings.certificates)


def _link_or_copy(source: Path, target: Path) -> None:
    """Have the same file there: by a hard link where that is possible, for wheels are large."""
    if target.exists() and (target.samefile(source) or _stamp(target) == _stamp(source)):
        return
    part = target.with_name(f".{target.name}.{os.getpid()}")
    part.unlink(missing_ok=True)
    try:
        os.link(source, part)
    except OSError:  # another file system, or not ours to link
        shutil.copy2(source, part)
    part.replace(target)


def _stamp(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_size, facts.st_mtime_ns


def _notes(settings: PipSettings, lent: set[Path]) -> Iterator[str]:
    if settings.certificates:
        yield f"builds trust the certificates of {settings.certificates}"
    addresses = [*filter(None, [settings.index_url]), *settings.extra_index_urls]
    for address in addresses:
        if local_path(address) is None:
            yield f"builds ask the package index {without_credentials(address)}"
    if lent:
        yield f"builds get {len(lent)} files of {', '.join(sorted({str(path.parent) for path in lent}))}"
