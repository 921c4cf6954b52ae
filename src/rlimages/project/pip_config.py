"""Read the pip configuration of this machine: package indexes, certificates, and folders with wheels."""

import configparser
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True, kw_only=True, slots=True)
class PipSettings:
    """The settings of pip on this machine: where it finds packages, and which certificates it trusts."""

    index_url: str | None = None
    """URL or folder of the main package index; None for pip's default."""
    extra_index_urls: tuple[str, ...] = ()
    """URLs or folders of further package indexes."""
    find_links: tuple[str, ...] = ()
    """Folders, or URLs of pages, with packages."""
    certificates: Path | None = None
    """File with the certificates to trust; None for pip's own."""

    @property
    def wheel_folders(self) -> tuple[Path, ...]:
        """The folders of this machine among `find_links`; those that do not exist are left out."""
        paths = (local_path(link) for link in self.find_links)
        return tuple(path for path in paths if path is not None and path.is_dir())

    @property
    def local_indexes(self) -> tuple[Path, ...]:
        """The folders of this machine among all package indexes; those that do not exist are left out."""
        paths = (local_path(url) for url in filter(None, (self.index_url, *self.extra_index_urls)))
        return tuple(path for path in paths if path is not None and path.is_dir())

    def for_uv(self) -> Mapping[str, str]:
        """Return environment variable of uv -> value, for these settings: uv does not read pip's configuration.

        Indexes in local folders are left out: their files have no upload times, so uv cannot resolve as of a date
        there.
        """
        remote = [url for url in self.extra_index_urls if local_path(url) is None]
        variables = {
            "UV_DEFAULT_INDEX": self.index_url if self.index_url and local_path(self.index_url) is None else "",
            "UV_INDEX": " ".join(remote),
            "UV_INDEX_STRATEGY": "unsafe-best-match",  # pip also takes the best version of all indexes
            "UV_FIND_LINKS": ",".join(link for link in self.find_links if _exists(link)),
            "SSL_CERT_FILE": str(self.certificates or ""),
        }
        return {name: value for name, value in variables.items() if value}


def _exists(link: str) -> bool:
    """Return True if `link` is an existing folder, or a URL, which is not looked up."""
    path = local_path(link)
    return path is None or path.is_dir()


def local_path(link: str) -> Path | None:
    """Return the path of `link`, a folder or a `file:` URL; None if it is an http or https URL."""
    parts = urlsplit(link)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return None if parts.scheme in ("http", "https") else Path(link).expanduser()


def configuration_files(environ: Mapping[str, str], home: Path) -> tuple[Path, ...]:
    """Return the configuration files that pip would read, existing or not.

    Settings of later files replace those of earlier ones: global files, those in the home folder `home`, then the one
    that PIP_CONFIG_FILE of `environ` names. If that is `os.devnull`, pip reads no file, and the tuple is empty.
    """
    dirs = environ.get("XDG_CONFIG_DIRS") or "/etc/xdg"
    config_home = Path(environ.get("XDG_CONFIG_HOME") or home / ".config")
    files = [Path(folder) / "pip" / "pip.conf" for folder in reversed(dirs.split(":")) if folder]
    files += [Path("/etc/pip.conf"), home / ".pip" / "pip.conf", config_home / "pip" / "pip.conf"]
    extra = environ.get("PIP_CONFIG_FILE")
    if extra == os.devnull:
        return ()
    return (*files, *([Path(extra)] if extra else []))


def read_pip_settings(environ: Mapping[str, str], files: Iterable[Path]) -> PipSettings:
    """Return pip's settings from its configuration files `files` and the variables `PIP_…` of `environ`.

    Settings of later files replace those of earlier ones, and variables replace those of all files. If pip has no
    existing file of certificates, SSL_CERT_FILE or REQUESTS_CA_BUNDLE of `environ` names it. A missing or malformed
    file is ignored.
    """
    merged: dict[str, str] = {}
    for file in files:
        # Raw, as in pip: `%` is part of URLs and no interpolation.
        parser = configparser.RawConfigParser()
        try:
            parser.read(file, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError, OSError):
            continue
        for section in ("global", "download", "install"):
            if parser.has_section(section):
                merged.update(parser.items(section))
    for name in ("index-url", "extra-index-url", "find-links", "cert"):
        value = environ.get("PIP_" + name.replace("-", "_").upper())
        if value:
            merged[name] = value
    certificates = next(
        (
            Path(value)
            for value in (merged.get("cert"), environ.get("SSL_CERT_FILE"), environ.get("REQUESTS_CA_BUNDLE"))
            if value and Path(value).is_file()
        ),
        None,
    )
    return PipSettings(
        index_url=merged.get("index-url"),
        extra_index_urls=tuple(merged.get("extra-index-url", "").split()),
        find_links=tuple(merged.get("find-links", "").split()),
        certificates=certificates,
    )
