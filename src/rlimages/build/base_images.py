"""Get base images: from the local store, by a pull, or bootstrapped from the distribution's packages.

Bootstrapping makes `debian:<suite>-slim` on a machine that reaches a Debian mirror but no registry.
"""

import fcntl
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rlimages.errors import ToolError
from rlimages.system.process import run_program

Origin = Literal["present", "pulled", "bootstrapped", "unavailable"]
PULL_SECONDS = 60
"""Time limit of a pull that bootstrapping can replace; a slim image is about 30 MB to download."""
EXCLUDED = ("doc", "groff", "info", "lintian", "linda", "locale", "man")
"""Folders of /usr/share that the published slim images leave out, except for the copyright files."""
APT_OPTIONS = (
    'Acquire::Languages "none"',
    'Acquire::GzipIndexes "true"',
    'Apt::AutoRemove::SuggestsImportant "false"',
)
HOOKS = (
    # The published images have this file, and Dockerfiles that mount a cache for apt remove it by name.
    """echo 'APT::Keep-Downloaded-Packages "false";' >"$1"/etc/apt/apt.conf.d/docker-clean""",
    # Exit code 101 forbids packages to start their services during a build.
    r"""printf '#!/bin/sh\nexit 101\n' >"$1"/usr/sbin/policy-rc.d; chmod 755 "$1"/usr/sbin/policy-rc.d""",
    # mmdebstrap copies both from this machine; Docker writes them for each container.
    """rm -f "$1"/etc/hostname "$1"/etc/resolv.conf""",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseResult:
    """The result for one base image: how it got into the local store, or why it did not."""

    reference: str
    origin: Origin
    seconds: float
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Mirror:
    """The addresses from which this machine's apt gets Debian; None for security if there is no such archive."""

    archive: str
    security: str | None

    def pockets(self, suite: str) -> tuple[tuple[str, str], ...]:
        """Return the (address, suite) pairs of a release and its updates. A mirror may serve only some of them."""
        pairs = [(self.archive, suite), (self.archive, f"{suite}-updates")]
        if self.security is not None:
            pairs.append((self.security, f"{suite}-security"))
        return tuple(pairs)


def slim_suite(reference: str) -> str | None:
    """Return the suite of `debian:<suite>-slim`; None for any other reference, which can't be bootstrapped."""
    match = re.fullmatch(r"debian:([a-z]+)-slim", reference)
    return match and match[1]


def mirror_argv() -> list[str]:
    """Return the command that prints apt's Debian archives, one `codename address` per line."""
    return ["apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)", "Created-By: Packages", "Origin: Debian"]


def parse_mirror(listing: str) -> Mirror | None:
    """Parse the output of `mirror_argv`. Return None if apt has no Debian archive."""
    pairs = re.findall(r"^(\S+) (\S+://\S+)$", listing, re.MULTILINE)
    archives = [uri.rstrip("/") for codename, uri in pairs if not codename.endswith("-security")]
    security = [uri.rstrip("/") for codename, uri in pairs if codename.endswith("-security")]
    return Mirror(archive=archives[0], security=next(iter(security), None)) if archives else None


def release_epoch(release: str) -> int:
    """Return when a suite was published, in seconds since 1970, from the text of its InRelease file.

    Raises `ToolError` if the text has no date.
    """
    from email.utils import parsedate_to_datetime

    date = re.search(r"^Date: (.+)$", release, re.MULTILINE)
    if date is None:
        raise ToolError("the mirror's InRelease file has no Date: it is no Debian archive")
    return int(parsedate_to_datetime(date[1]).timestamp())


def mmdebstrap_argv(suite: str, pockets: Sequence[tuple[str, str]], epoch: int, tar: Path) -> list[str]:
    """Return the command that writes the root file system of `debian:<suite>-slim` to `tar`.

    No file in it is younger than `epoch`, so that every run writes the same bytes until the mirror changes.
    """
    excludes = [f"path-exclude=/usr/share/{name}/*" for name in EXCLUDED]
    return [
        "env",
        f"SOURCE_DATE_EPOCH={epoch}",
        "mmdebstrap",
        "--quiet",
        "--variant=minbase",
        "--include=ca-certificates",
        *(f"--aptopt={option}" for option in APT_OPTIONS),
        *(f"--dpkgopt={option}" for option in (*excludes, "path-include=/usr/share/doc/*/copyright")),
        *(f"--customize-hook={hook}" for hook in HOOKS),
        suite,
        str(tar),
        *(f"deb {uri} {pocket} main" for uri, pocket in pockets),
    ]


def import_argv(reference: str, tar: Path, docker: Sequence[str]) -> list[str]:
    """Return the command that imports a root file system as an image, with the settings of the published one."""
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    changes = (f"ENV PATH={path}", 'CMD ["bash"]')
    options = [word for change in changes for word in ("--change", change)]
    return [*docker, "import", *options, "--message", "bootstrapped with mmdebstrap", str(tar), reference]


def ensure_base(reference: str, docker: Sequence[str] = ("docker",)) -> BaseResult:
    """Make sure that a base image is in the local store: pull it if it is missing, or bootstrap it under the same name.

    If two processes ask for the same image at once, the second waits for the first. An image that is not available is a
    result. Raises `ToolError` if a program is missing or fails.
    """
    started = time.monotonic()
    with _reference_lock(reference):
        origin, detail = _obtain(reference, docker)
    return BaseResult(reference=reference, origin=origin, seconds=time.monotonic() - started, detail=detail)


def _obtain(reference: str, docker: Sequence[str]) -> tuple[Origin, str]:
    suite = slim_suite(reference)
    image = re.search(
        r"^sha256:\S+$", _output([*docker, "image", "ls", "--no-trunc", "--quiet", reference]), re.MULTILINE
    )
    if image is not None:
        return "present", image[0]
    problem = _pull(reference, docker, seconds=PULL_SECONDS if suite else None)
    if problem is None:
        return "pulled", f"docker pull {reference}"
    if suite is None:
        return "unavailable", f"{problem}; only debian:<suite>-slim can be bootstrapped"
    return _bootstrap(reference, suite, docker)


def _pull(reference: str, docker: Sequence[str], seconds: float | None) -> str | None:
    """Pull an image. Return the reason if that fails, else None."""
    lines: list[str] = []
    pull = run_program([*docker, "pull", "--quiet", reference], on_line=lines.append, timeout=seconds)
    if pull.timed_out:
        return f"docker pull {reference} did not finish in {seconds} s"
    return None if pull.passed else _last_lines(lines)


def _bootstrap(reference: str, suite: str, docker: Sequence[str]) -> tuple[Origin, str]:
    _install_mmdebstrap()
    mirror = parse_mirror(_output(mirror_argv()))
    if mirror is None:
        return "unavailable", "apt knows no Debian mirror; add one to its sources and run apt-get update"
    with tempfile.TemporaryDirectory(prefix="rlimages-") as folder:
        releases = {pocket: _read_release_file(*pocket, Path(folder)) for pocket in mirror.pockets(suite)}
        served = {pocket: text for pocket, text in releases.items() if text is not None}
        if (mirror.archive, suite) not in served:
            return "unavailable", f"the mirror {mirror.archive} does not serve {suite}"
        # A file, not a pipe: if mmdebstrap failed, Docker would import what it had written so far.
        tar = Path(folder) / "rootfs.tar"
        epoch = max(map(release_epoch, served.values()))
        _output(mmdebstrap_argv(suite, tuple(served), epoch, tar))
        _output(import_argv(reference, tar, docker))
    return "bootstrapped", f"mmdebstrap {suite} from {mirror.archive} ({', '.join(pocket for _, pocket in served)})"


def _read_release_file(uri: str, pocket: str, folder: Path) -> str | None:
    """Download the InRelease file of a suite with apt's own settings. Return None if the mirror has none."""
    target = folder / pocket
    # As root: apt's own user can't write into a temporary folder of this process.
    apt = ["/usr/lib/apt/apt-helper", "-o", "APT::Sandbox::User=root"]
    fetch = run_program([*apt, "download-file", f"{uri}/dists/{pocket}/InRelease", str(target)])
    return target.read_text(encoding="utf-8") if fetch.passed else None


def _install_mmdebstrap() -> None:
    """Install mmdebstrap with apt if it is missing. Raises `ToolError` if this process is not root."""
    if shutil.which("mmdebstrap") is not None:
        return
    if os.geteuid() != 0:
        raise ToolError("mmdebstrap is missing; install it with apt-get install mmdebstrap")
    apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet", "-o", "DPkg::Lock::Timeout=120"]
    _output([*apt, "update"])
    _output([*apt, "install", "--yes", "--no-install-recommends", "mmdebstrap", "debian-archive-keyring"])


@contextmanager
def _reference_lock(reference: str) -> Iterator[None]:
    """Hold a lock file for one reference while the context is open; other processes wait for it."""
    name = re.sub(r"[^A-Za-z0-9.-]", "_", reference)
    lock = Path(tempfile.gettempdir()) / f"rlimages-{os.getuid()}-{name}.lock"
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _output(argv: Sequence[str]) -> str:
    """Return the output of a program. Raises `ToolError` if it fails."""
    lines: list[str] = []
    process = run_program(argv, on_line=lines.append)
    if not process.passed:
        program = next(word for word in argv if word != "env" and "=" not in word)
        raise ToolError(f"{program} failed with exit code {process.code}: {_last_lines(lines)}")
    return "\n".join(lines)


def _last_lines(output: Sequence[str]) -> str:
    """Return the last three lines of a program's output: the reason is seldom in the very last one."""
    lines = [line.strip() for line in output if line.strip()]
    return "; ".join(lines[-3:]) or "it printed nothing"
