"""Make base images available in the local store (the engine's images): by a pull, or by bootstrapping.

Bootstrapping makes `debian:<suite>-slim` from Debian packages, on a machine that reaches a Debian mirror but no
registry.
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
"""Folders of /usr/share that the published slim images leave out, except for the copyright files in `doc`."""
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
    """The result of making one base image available: how it got into the local store, or why it did not."""

    reference: str
    """Reference of the base image."""
    origin: Origin
    """How the image got into the local store; `unavailable` if it is not there."""
    seconds: float
    """Time that it took, including the wait for another process that fetched the image too."""
    detail: str
    """Id of an image that was present, the command or mirror that it came from, or why it is unavailable."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mirror:
    """The addresses from which this machine's apt gets Debian packages."""

    archive: str
    """URL of the Debian archive."""
    security: str | None
    """URL of the archive with security updates; None if apt has none."""

    def pockets(self, suite: str) -> tuple[tuple[str, str], ...]:
        """Return the (URL, pocket) pairs of the release `suite`, its updates and its security updates.

        A pocket is a suite such as bookworm, bookworm-updates or bookworm-security. A mirror may serve only some.
        """
        pairs = [(self.archive, suite), (self.archive, f"{suite}-updates")]
        if self.security is not None:
            pairs.append((self.security, f"{suite}-security"))
        return tuple(pairs)


def slim_suite(reference: str) -> str | None:
    """Return the suite, such as `bookworm`, if `reference` is `debian:<suite>-slim`.

    Return None for any other reference: only slim images can be bootstrapped.
    """
    match = re.fullmatch(r"debian:([a-z]+)-slim", reference)
    return match and match[1]


def mirror_argv() -> list[str]:
    """Return the command (program and arguments) that prints apt's Debian archives, one `codename URL` per line."""
    return ["apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)", "Created-By: Packages", "Origin: Debian"]


def parse_mirror(listing: str) -> Mirror | None:
    """Parse `listing`, the output of the command of `mirror_argv`. Return None if it has no Debian archive."""
    pairs = re.findall(r"^(\S+) (\S+://\S+)$", listing, re.MULTILINE)
    archives = [uri.rstrip("/") for codename, uri in pairs if not codename.endswith("-security")]
    security = [uri.rstrip("/") for codename, uri in pairs if codename.endswith("-security")]
    return Mirror(archive=archives[0], security=next(iter(security), None)) if archives else None


def release_epoch(release: str) -> int:
    """Return the date of a suite in seconds since 1970. `release` is the text of the suite's InRelease file.

    Raises `ToolError` if the text has no line `Date:`.
    """
    from email.utils import parsedate_to_datetime

    date = re.search(r"^Date: (.+)$", release, re.MULTILINE)
    if date is None:
        raise ToolError("the mirror's InRelease file has no Date: it is no Debian archive")
    return int(parsedate_to_datetime(date[1]).timestamp())


def mmdebstrap_argv(suite: str, pockets: Sequence[tuple[str, str]], epoch: int, tar: Path) -> list[str]:
    """Return the command that writes the root file system of `debian:<suite>-slim` to the archive `tar`.

    Packages come from `pockets`, pairs of a mirror's URL and a suite such as bookworm-updates. No file is younger than
    `epoch` (seconds since 1970), so that every run writes identical bytes until the mirror changes.
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
    """Return the command that imports the root file system in the archive `tar` as the local image `reference`.

    The image gets the PATH and the command of Debian's published images. `docker` is the Docker command with its
    global options.
    """
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    changes = (f"ENV PATH={path}", 'CMD ["bash"]')
    options = [word for change in changes for word in ("--change", change)]
    return [*docker, "import", *options, "--message", "bootstrapped with mmdebstrap", str(tar), reference]


def ensure_base(reference: str, docker: Sequence[str] = ("docker",)) -> BaseResult:
    """Make sure that the base image `reference` is in the local store: pull it if it is missing, else bootstrap it.

    `docker` is the Docker command with its global options. If two processes ask for one image, the second waits for
    the first. If the image is not available, the result says so, and nothing is raised. Raises `ToolError` if a
    program is missing, or if one other than `docker pull` and the download of a mirror's InRelease file fails.
    """
    started = time.monotonic()
    with _reference_lock(reference):
        origin, detail = _obtain(reference, docker)
    return BaseResult(reference=reference, origin=origin, seconds=time.monotonic() - started, detail=detail)


def _obtain(reference: str, docker: Sequence[str]) -> tuple[Origin, str]:
    """Find, pull or bootstrap the image `reference`. Return the origin and the detail of its `BaseResult`."""
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
    """Pull the image `reference` in at most `seconds` (None: no limit).

    Return None if that succeeds, else the reason.
    """
    lines: list[str] = []
    pull = run_program([*docker, "pull", "--quiet", reference], on_line=lines.append, timeout=seconds)
    if pull.timed_out:
        return f"docker pull {reference} did not finish in {seconds} s"
    return None if pull.passed else _last_lines(lines)


def _bootstrap(reference: str, suite: str, docker: Sequence[str]) -> tuple[Origin, str]:
    """Make the local image `reference` from the Debian packages of `suite`.

    Return the origin and the detail of its `BaseResult`; the origin is `unavailable` if no mirror serves the suite.
    """
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
    """Download the InRelease file of the suite `pocket` from the mirror `uri` into `folder`, with apt's settings.

    Return the text of the file; None if the download fails, usually because the mirror does not serve the suite.
    """
    target = folder / pocket
    # As root: apt's own user can't write into a temporary folder of this process.
    apt = ["/usr/lib/apt/apt-helper", "-o", "APT::Sandbox::User=root"]
    fetch = run_program([*apt, "download-file", f"{uri}/dists/{pocket}/InRelease", str(target)])
    return target.read_text(encoding="utf-8") if fetch.passed else None


def _install_mmdebstrap() -> None:
    """Install mmdebstrap with apt if it is missing.

    Raises `ToolError` if it is missing and this process is not root, or if apt fails.
    """
    if shutil.which("mmdebstrap") is not None:
        return
    if os.geteuid() != 0:
        raise ToolError("mmdebstrap is missing; install it with apt-get install mmdebstrap")
    apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet", "-o", "DPkg::Lock::Timeout=120"]
    _output([*apt, "update"])
    _output([*apt, "install", "--yes", "--no-install-recommends", "mmdebstrap", "debian-archive-keyring"])


@contextmanager
def _reference_lock(reference: str) -> Iterator[None]:
    """Lock a temporary file for `reference` while the context is open; other processes of this user wait for it."""
    name = re.sub(r"[^A-Za-z0-9.-]", "_", reference)
    lock = Path(tempfile.gettempdir()) / f"rlimages-{os.getuid()}-{name}.lock"
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _output(argv: Sequence[str]) -> str:
    """Run the command `argv` and return its output. Raises `ToolError` if it fails."""
    lines: list[str] = []
    process = run_program(argv, on_line=lines.append)
    if not process.passed:
        program = next(word for word in argv if word != "env" and "=" not in word)
        raise ToolError(f"{program} failed with exit code {process.code}: {_last_lines(lines)}")
    return "\n".join(lines)


def _last_lines(output: Sequence[str]) -> str:
    """Return the last three lines of a program's `output` that are not empty, joined by `; `.

    Three, because the reason for a failure is seldom in the very last line.
    """
    lines = [line.strip() for line in output if line.strip()]
    return "; ".join(lines[-3:]) or "it printed nothing"
