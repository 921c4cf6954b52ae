"""Read this machine's pip configuration: indexes, certificates and wheel folders."""

import configparser
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True, kw_only=True, slots=True)
class PipSettings:
    """Where pip on this machine finds packages, and which certificates it trusts."""

    index_url: str | None = None
    extra_index_urls: tuple[str, ...] = ()
    find_links: tuple[str, ...] = ()
    """Folders or URLs."""
    certificates: Path | None = None
    """A file with the certificates to trust."""

    @property
    def wheel_folders(self) -> tuple[Path, ...]:
        """The local folders among the find-links."""
        paths = (local_path(link) for link in self.find_links)
        return tuple(path for path in paths if path is not None and path.is_dir())

    @property
    def local_indexes(self) -> tuple[Path, ...]:
        """The local folders among the indexes."""
        paths = (local_path(url) for url in filter(None, (self.index_url, *self.extra_index_urls)))
        return tuple(path for path in paths if path is not None and path.is_dir())

    def for_uv(self) -> Mapping[str, str]:
        """Return these settings as environment variables of uv, which does not read pip's configuration.

        Local indexes are left out: their files have no upload times, so uv cannot resolve them as of a date.
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
    path = local_path(link)
    return path is None or path.is_dir()


def local_path(link: str) -> Path | None:
    """Return the path of a folder or `file:` URL; None for an http or https URL."""
    parts = urlsplit(link)
    if parts.scheme == "file":
        return Path(unquote(parts.path))
    return None if parts.scheme in ("http", "https") else Path(link).expanduser()


def configuration_files(environ: Mapping[str, str], home: Path) -> tuple[Path, ...]:
    """Return the configuration files that pip reads, the weakest first: global, user, PIP_CONFIG_FILE.

    If PIP_CONFIG_FILE is `os.devnull`, pip reads none.
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
    """Merge the settings of the files, weakest first, and of the environment variables `PIP_…`.

    A file that cannot be read is ignored, as by pip.
    """
    merged: dict[str, str] = {}
    for file in files:
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
