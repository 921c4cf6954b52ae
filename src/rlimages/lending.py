"""Lend a login to a program that reads it from a file: a DOCKER_CONFIG that only we can open, for a while."""

import base64
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from rlimages.errors import FactoryError
from rlimages.login import Credentials
from rlimages.shell import is_dead, this_process

PREFIX = "rlimages-login-"


@contextmanager
def docker_config(credentials: Credentials, hosts: Iterable[str], environ: Mapping[str, str]) -> Iterator[Path]:
    """A folder that says who we are to `hosts`, and to nobody else; it is removed at the end, whatever happens.

    What a process left that was killed, the next one removes. Raises `FactoryError` when it can't be written.
    """
    parent = place(environ)
    sweep(parent)
    found = {host: credentials.find(host) for host in hosts}
    auths = {
        host: {"auth": base64.b64encode(":".join(known).encode()).decode()} for host, known in found.items() if known
    }
    try:
        folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{this_process()}-", dir=parent))  # for us alone: 0700
    except OSError as error:
        raise FactoryError(f"{parent}: cannot make a folder for a login: {error.strerror}") from error
    try:
        _write(folder / "config.json", json.dumps({"auths": auths}))
        yield folder
    finally:
        shutil.rmtree(folder)


def place(environ: Mapping[str, str]) -> Path:
    """Where such folders are: in memory where the machine offers that, and otherwise with temporary files."""
    for name in (environ.get("XDG_RUNTIME_DIR", ""), "/dev/shm"):
        if name and os.access(name, os.W_OK):
            return Path(name)
    return Path(tempfile.gettempdir())


def sweep(parent: Path) -> None:
    """Remove the folders whose process is gone."""
    for folder in parent.glob(f"{PREFIX}*-*"):
        process = folder.name.removeprefix(PREFIX).rpartition("-")[0]
        if process.count(":") >= 2 and is_dead(process):
            shutil.rmtree(folder, ignore_errors=True)  # somebody else may be removing it, or it is another's


def _write(path: Path, text: str) -> None:
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
    except OSError as error:
        raise FactoryError(f"{path}: cannot write a login: {error.strerror}") from error
