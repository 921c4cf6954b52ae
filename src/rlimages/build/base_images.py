"""Get base images: from the local store, by a pull, or bootstrapped from the distribution's packages."""

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
"""How long a pull may take before bootstrapping is the quicker way; a slim image has 30 MB to fetch."""
EXCLUDED = ("doc", "groff", "info", "lintian", "linda", "locale", "man")
"""What the published slim images leave out of /usr/share; they keep the copyright files."""
APT_OPTIONS = (
    'Acquire::Languages "none"',
    'Acquire::GzipIndexes "true"',
    'Apt::AutoRemove::SuggestsImportant "false"',
)
HOOKS = (
    # the name that Dockerfiles remove when they mount a cache for apt
    """echo 'APT::Keep-Downloaded-Packages "false";' >"$1"/etc/apt/apt.conf.d/docker-clean""",
    # no service starts while an image is built
    r"""printf '#!/bin/sh\nexit 101\n' >"$1"/usr/sbin/policy-rc.d; chmod 755 "$1"/usr/sbin/policy-rc.d""",
    # both come from this machine, Docker writes its own
    """rm -f "$1"/etc/hostname "$1"/etc/resolv.conf""",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class BaseResult:
    """How one base image came to be in the local store, or why it is not there."""

    reference: str
    origin: Origin
    seconds: float
    detail: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Mirror:
    """Where this machine's apt gets Debian from. The security archive may be missing."""

    archive: str
    security: str | None

    def pockets(self, suite: str) -> tuple[tuple[str, str], ...]:
        """The (address, suite) pairs that a Debian machine subscribes to; not every mirror serves all of them."""
        pairs = [(self.archive, suite), (self.archive, f"{suite}-updates")]
        if self.security is not None:
            pairs.append((self.security, f"{suite}-security"))
        return tuple(pairs)


def slim_suite(reference: str) -> str | None:
    """The suite of `debian:<suite>-slim`, the only references that can be bootstrapped."""
    match = re.fullmatch(r"debian:([a-z]+)-slim", reference)
    return match and match[1]


def mirror_argv() -> list[str]:
    """The command that lists the Debian archives apt reads, one `codename address` a line."""
    return ["apt-get", "indextargets", "--format", "$(CODENAME) $(REPO_URI)", "Created-By: Packages", "Origin: Debian"]


def parse_mirror(listing: str) -> Mirror | None:
    """Read what `mirror_argv` prints; None if apt knows no Debian archive."""
    pairs = re.findall(r"^(\S+) (\S+://\S+)$", listing, re.MULTILINE)
    archives = [uri.rstrip("/") for codename, uri in pairs if not codename.endswith("-security")]
    security = [uri.rstrip("/") for codename, uri in pairs if codename.endswith("-security")]
    return Mirror(archive=archives[0], security=next(iter(security), None)) if archives else None


def release_epoch(release: str) -> int:
    """When a suite was published, in seconds since 1970, from the text of its InRelease file."""
    from email.utils import parsedate_to_datetime

    date = re.search(r"^Date: (.+)$", release, re.MULTILINE)
    if date is None:
        raise ToolError("the mirror's InRelease file has no Date: it is no Debian archive")
    return int(parsedate_to_datetime(date[1]).timestamp())


def mmdebstrap_argv(suite: str, pockets: Sequence[tuple[str, str]], epoch: int, tar: Path) -> list[str]:
    """The exact command that makes the root file system of `debian:<suite>-slim`.

    Nothing in it is younger than `epoch`: as long as the mirror stands still, every run writes the same bytes.
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
    """The command that turns the root file system into an image which answers like the published one."""
    path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    changes = (f"ENV PATH={path}", 'CMD ["bash"]')
    options = [word for change in changes for word in ("--change", change)]
    return [*docker, "import", *options, "--message", "bootstrapped with mmdebstrap", str(tar), reference]


def ensure_base(reference: str, docker: Sequence[str] = ("docker",)) -> BaseResult:
    """Have a base image in the local store: it is there, or it is pulled, or it is bootstrapped under the same name.

    Two callers do the work once. Raises ToolError if a program is missing or breaks; a reference that cannot be had
    is a result.
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
    refusal = _pull(reference, docker, seconds=PULL_SECONDS if suite else None)
    if refusal is None:
        return "pulled", f"docker pull {reference}"
    if suite is None:
        return "unavailable", f"{refusal}; only debian:<suite>-slim can be bootstrapped"
    return _bootstrap(reference, suite, docker)


def _pull(reference: str, docker: Sequence[str], seconds: float | None) -> str | None:
    """Pull, or say why not."""
    said: list[str] = []
    pull = run_program([*docker, "pull", "--quiet", reference], on_line=said.append, timeout=seconds)
    if pull.timed_out:
        return f"docker pull {reference} did not finish in {seconds} s"
    return None if pull.passed else _last_words(said)


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
        # A file, not a pipe: docker would import what a broken mmdebstrap had written so far.
        tar = Path(folder) / "rootfs.tar"
        epoch = max(map(release_epoch, served.values()))
        _output(mmdebstrap_argv(suite, tuple(served), epoch, tar))
        _output(import_argv(reference, tar, docker))
    return "bootstrapped", f"mmdebstrap {suite} from {mirror.archive} ({', '.join(pocket for _, pocket in served)})"


def _read_release_file(uri: str, pocket: str, folder: Path) -> str | None:
    """The InRelease file of a pocket, fetched as apt would fetch it; None if the mirror does not serve it."""
    target = folder / pocket
    apt = ["/usr/lib/apt/apt-helper", "-o", "APT::Sandbox::User=root"]
    fetch = run_program([*apt, "download-file", f"{uri}/dists/{pocket}/InRelease", str(target)])
    return target.read_text(encoding="utf-8") if fetch.passed else None


def _install_mmdebstrap() -> None:
    if shutil.which("mmdebstrap") is not None:
        return
    if os.geteuid() != 0:
        raise ToolError("mmdebstrap is missing; install it with apt-get install mmdebstrap")
    apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet", "-o", "DPkg::Lock::Timeout=120"]
    _output([*apt, "update"])
    _output([*apt, "install", "--yes", "--no-install-recommends", "mmdebstrap", "debian-archive-keyring"])


@contextmanager
def _reference_lock(reference: str) -> Iterator[None]:
    """Hold the lock of one reference; the next caller waits and then finds the image."""
    name = re.sub(r"[^A-Za-z0-9.-]", "_", reference)
    lock = Path(tempfile.gettempdir()) / f"rlimages-{os.getuid()}-{name}.lock"
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def _output(argv: Sequence[str]) -> str:
    """What a program printed; its failure is ours."""
    said: list[str] = []
    ended = run_program(argv, on_line=said.append)
    if not ended.passed:
        program = next(word for word in argv if word != "env" and "=" not in word)
        raise ToolError(f"{program} failed with exit code {ended.code}: {_last_words(said)}")
    return "\n".join(said)


def _last_words(said: Sequence[str]) -> str:
    """The last words of a program: the reason is seldom in the very last line."""
    lines = [line.strip() for line in said if line.strip()]
    return "; ".join(lines[-3:]) or "it said nothing"
