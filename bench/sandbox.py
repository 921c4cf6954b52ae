"""Provide an engine, a registry and a copy of the project for the benchmark. Those of the user are not changed."""

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

from timed import BenchmarkError, output

ROOT = Path(__file__).resolve().parents[1]
RLIMAGES = (sys.executable, "-m", "rlimages")
FILES = ("--", ".", ":!bench/results")
"""The measured files of the checkout, as arguments of git: all but the results of the benchmark."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sandbox:
    """The environment of the benchmark."""

    home: Path
    project: Path
    """The copy of the project."""
    tree: str
    """Digest of its files."""
    env: Mapping[str, str]
    """Environment variables of all programs: they name the engine, the copied source and an own cache folder."""
    port: int
    """Port of the registry on 127.0.0.1."""

    @property
    def log(self) -> Path:
        """File with the output of the last measured program."""
        return self.home / "last.log"

    @property
    def registry_log(self) -> Path:
        """The log of the registry, with one line for each request."""
        return self.home / "engine/log/registry.out"

    def docker(self, *arguments: str) -> list[str]:
        """Run docker, and return the lines that it prints."""
        return output(["docker", *arguments], cwd=self.project, env=self.env).splitlines()

    def rlimages(self, *arguments: str, root: Path | None = None, passed: Sequence[int] = (0,)) -> str:
        """Run the copied `rlimages`, and return what it prints."""
        return output([*RLIMAGES, *arguments], cwd=root or self.project, env=self.env, passed=passed)

    def clear_matrix_cache(self) -> None:
        """Remove the cache of parsed matrices."""
        shutil.rmtree(self.env["XDG_CACHE_HOME"], ignore_errors=True)

    def remove_images(self, keep: Sequence[str]) -> None:
        """Remove all containers, all images except `keep`, and the whole build cache with its cache mounts."""
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
            raise BenchmarkError(
                f"{len(left)} images could not be removed before a cold build: {', '.join(sorted(left))}"
            )

    def image_ids(self, names: Sequence[str]) -> dict[str, str]:
        """Return name -> image id, for the names that exist."""
        listed = (
            line.split() for line in self.docker("images", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}")
        )
        known = {name: image_id for name, image_id in listed}
        return {name: known[name] for name in names if name in known}


@contextmanager
def open_sandbox(folder: Path, *, keep: bool) -> Iterator[Sandbox]:
    """Start an engine and a registry below `folder`, and copy the project. All is removed at the end unless `keep`."""
    home = folder.resolve() / "rlimages-bench"
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise BenchmarkError(
                f"another benchmark runs in {home}; wait for it, or name another folder with --home"
            ) from None
        port = _port(home / "port")
        engine_env = {
            **os.environ,
            "RLIMAGES_HOME": str(home / "engine"),
            "RLIMAGES_REGISTRY_PORT": str(port),
            # Where this engine will answer. scripts/engine then does not use an engine of the user.
            "DOCKER_HOST": f"unix://{home}/engine/docker.sock",
        }
        try:
            _engine(engine_env, "up", "--registry")
            exported = output(
                ["bash", "-c", f'eval "$("{ROOT}/scripts/engine" env)" && env -0'], cwd=ROOT, env=engine_env
            )
            env = dict(entry.partition("=")[::2] for entry in exported.split("\0") if entry)
            for name in ("BUILDX_BUILDER", "DOCKER_CONTEXT"):
                env.pop(name, None)  # they would select another builder or engine
            project = home / "project"
            tree = _copy(project)
            compile_dir(project / "src", quiet=1)  # An installation has bytecode, too.
            env.update(PYTHONPATH=str(project / "src"), XDG_CACHE_HOME=str(home / "cache"))
            yield Sandbox(home=home, project=project, tree=tree, env=env, port=port)
        finally:
            if not keep:
                _engine(engine_env, "down", "--purge")
                shutil.rmtree(home)


def _engine(env: Mapping[str, str], *arguments: str) -> None:
    """Run scripts/engine. Raises `BenchmarkError` if it fails."""
    engine = subprocess.run([str(ROOT / "scripts/engine"), *arguments], env=dict(env), check=False)
    if engine.returncode:
        raise BenchmarkError(
            f"scripts/engine {' '.join(arguments)} failed with {engine.returncode}; see the lines above"
        )


def _port(file: Path) -> int:
    """Return a free port. It is written to `file`, so that the next benchmark uses it again."""
    if not file.is_file():
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            file.write_text(str(free.getsockname()[1]))
    return int(file.read_text())


def _copy(target: Path) -> str:
    """Copy the files that git tracks, with their changes. Return the digest of all of them.

    The copy is not a git repository: otherwise every commit and every change would give all images another label, and
    plain Docker would build all of them again.
    """
    shutil.rmtree(target, ignore_errors=True)
    digest = hashlib.sha256()
    names = output(["git", "ls-files", "-z", *FILES], cwd=ROOT, env=os.environ).split("\0")
    for name in filter(None, names):
        source = ROOT / name
        if source.is_symlink() or source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name, follow_symlinks=False)
            content = str(source.readlink()).encode() if source.is_symlink() else source.read_bytes()
            digest.update(f"{name} {len(content)}\n".encode() + content)
    return digest.hexdigest()
