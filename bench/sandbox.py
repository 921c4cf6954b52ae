"""An engine, a registry and a copy of the project of the benchmark's own: the user's are never touched."""

import fcntl
import hashlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from compileall import compile_dir
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from timed import Failed, output

ROOT = Path(__file__).resolve().parents[1]
FACTORY = (sys.executable, "-m", "rlimages")
FILES = ("--", ".", ":!bench/results")
"""What of a checkout is measured: all but what measuring writes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sandbox:
    """Where everything happens."""

    home: Path
    project: Path
    """The copy."""
    tree: str
    """Digest of its files."""
    env: Mapping[str, str]
    """For every program: the engine, the copy's factory, a cache folder of its own."""
    port: int
    """Of the registry, on 127.0.0.1."""

    @property
    def log(self) -> Path:
        """What the last timed program said."""
        return self.home / "last.log"

    @property
    def registry_log(self) -> Path:
        """One line a request."""
        return self.home / "engine/log/registry.out"

    def docker(self, *words: str) -> list[str]:
        """The lines that docker prints."""
        return output(["docker", *words], cwd=self.project, env=self.env).splitlines()

    def rlimages(self, *words: str, root: Path | None = None, passed: Sequence[int] = (0,)) -> str:
        """What the copy's factory prints."""
        return output([*FACTORY, *words], cwd=root or self.project, env=self.env, passed=passed)

    def forget(self) -> None:
        """Drop what the factory remembers of matrices."""
        shutil.rmtree(self.env["XDG_CACHE_HOME"], ignore_errors=True)

    def empty(self, keep: Sequence[str]) -> None:
        """Remove every container, every image but some, and all that builders remember, mounted caches included."""
        containers = self.docker("ps", "--all", "--quiet")
        if containers:
            self.docker("rm", "--force", *containers)
        kept = set(self.docker("image", "inspect", "--format", "{{.Id}}", *keep)) if keep else set()
        images = set(self.docker("images", "--all", "--quiet", "--no-trunc")) - kept
        if images:
            self.docker("rmi", "--force", *sorted(images))
        self.docker("builder", "prune", "--all", "--force")
        left = set(self.docker("images", "--all", "--quiet", "--no-trunc")) - kept
        if left:
            raise Failed(f"{len(left)} images could not be removed before a cold build: {', '.join(sorted(left))}")

    def ids(self, names: Sequence[str]) -> dict[str, str]:
        """Name -> id of the image that it names now; without those that name none."""
        listed = (
            line.split() for line in self.docker("images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}")
        )
        known = {name: identity for name, identity in listed}
        return {name: known[name] for name in names if name in known}


@contextmanager
def opened(folder: Path, *, keep: bool) -> Iterator[Sandbox]:
    """Start it in a folder of its own below this one; afterwards it is gone, unless it is to be kept."""
    home = folder.resolve() / "rlimages-bench"
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Failed(f"another benchmark runs in {home}; wait for it, or say another --home") from None
        port = _port(home / "port")
        own = {
            **os.environ,
            "RLIMAGES_HOME": str(home / "engine"),
            "RLIMAGES_REGISTRY_PORT": str(port),
            # where it will answer: whatever engine the user has is passed over
            "DOCKER_HOST": f"unix://{home}/engine/docker.sock",
        }
        try:
            _engine(own, "up", "--registry")
            told = output(["bash", "-c", f'eval "$("{ROOT}/scripts/engine" env)" && env -0'], cwd=ROOT, env=own)
            env = dict(entry.partition("=")[::2] for entry in told.split("\0") if entry)
            for name in ("BUILDX_BUILDER", "DOCKER_CONTEXT"):
                env.pop(name, None)  # another builder than this engine's own
            project = home / "project"
            tree = _copy(project)
            compile_dir(project / "src", quiet=1)  # as an installation does
            env.update(PYTHONPATH=str(project / "src"), XDG_CACHE_HOME=str(home / "cache"))
            yield Sandbox(home=home, project=project, tree=tree, env=env, port=port)
        finally:
            if not keep:
                _engine(own, "down", "--purge")
                shutil.rmtree(home)


def _engine(env: Mapping[str, str], *words: str) -> None:
    done = subprocess.run([str(ROOT / "scripts/engine"), *words], env=dict(env), check=False)
    if done.returncode:
        raise Failed(f"scripts/engine {' '.join(words)} ended with {done.returncode}; the lines above say why")


def _port(file: Path) -> int:
    """A port that is free, and the same the next time."""
    if not file.is_file():
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            file.write_text(str(free.getsockname()[1]))
    return int(file.read_text())


def _copy(target: Path) -> str:
    """The files that git tracks here, as they are now, and their digest; no repository.

    In one, every commit and every change would give all images another label, and plain builds would make all anew.
    """
    shutil.rmtree(target, ignore_errors=True)
    told = hashlib.sha256()
    names = output(["git", "ls-files", "-z", *FILES], cwd=ROOT, env=os.environ).split("\0")
    for name in filter(None, names):
        source = ROOT / name
        if source.is_symlink() or source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name, follow_symlinks=False)
            content = str(source.readlink()).encode() if source.is_symlink() else source.read_bytes()
            told.update(f"{name} {len(content)}\n".encode() + content)
    return told.hexdigest()
