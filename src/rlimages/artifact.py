"""A model as SageMaker takes it: a model.tar.gz, or the folder that one is made of, as an archive for a container."""

import posixpath
import tarfile
import tempfile
import zlib
from copy import copy
from pathlib import Path
from typing import IO

from rlimages.errors import FactoryError, JobError


def pack(source: Path | None, target: str) -> IO[bytes]:
    """An archive for `/` with the model's files below `target`, all of them root's and readable for everyone.

    Links of a folder are followed. It is a file without a name, which leaves nothing behind. Raises `JobError` where
    the source is no model, or has what would land outside `target`.
    """
    stream = tempfile.TemporaryFile()  # noqa: SIM115 - it is the answer
    try:
        with tarfile.open(fileobj=stream, mode="w", dereference=True) as archive:
            root = tarfile.TarInfo(target.lstrip("/"))
            root.type = tarfile.DIRTYPE
            archive.addfile(_readable(root))
            if source is not None and source.is_dir():
                for path in sorted(source.iterdir()):
                    archive.add(path, f"{target.lstrip('/')}/{path.name}", filter=_readable)
            elif source is not None:
                _copy(source, target.lstrip("/"), archive)
    except OSError as error:
        stream.close()
        raise FactoryError(f"cannot unpack {error.filename or source}: {error.strerror}") from error
    except BaseException:
        stream.close()
        raise
    stream.seek(0)
    return stream


def _copy(source: Path, folder: str, archive: tarfile.TarFile) -> None:
    try:
        with tarfile.open(source, "r:gz") as packed:
            for entry in packed:
                moved = _moved(entry, folder, source)
                archive.addfile(_readable(moved), packed.extractfile(entry) if entry.isreg() else None)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        if getattr(error, "errno", None) is not None:  # it is the disk's: gzip and tar have no numbers
            raise
        raise JobError(f"{source} is no gzip-compressed tar archive, or not a whole one: {error}") from error


def _moved(entry: tarfile.TarInfo, folder: str, source: Path) -> tarfile.TarInfo:
    """An entry with its place below `folder`, which it must not leave; the engine watches over links of links."""
    name = posixpath.normpath(entry.name)
    if not (entry.isreg() or entry.isdir() or entry.issym() or entry.islnk()):
        raise JobError(f"{source}: {entry.name} is neither a file, a folder nor a link")
    goal = ""
    if entry.issym():
        goal = posixpath.normpath(posixpath.join(posixpath.dirname(name), entry.linkname))
    elif entry.islnk():
        goal = posixpath.normpath(entry.linkname)
    for path in (name, goal):
        if path.startswith(("/", "../")) or path == "..":
            raise JobError(f"{source}: {entry.name} leads out of the model's folder")
    moved = copy(entry)
    moved.name = f"{folder}/{name}" if name != "." else folder
    moved.linkname = f"{folder}/{goal}" if entry.islnk() else entry.linkname
    # a long name stands in these headers too, and would go before the new one
    moved.pax_headers = {key: value for key, value in entry.pax_headers.items() if key not in ("path", "linkpath")}
    return moved


def _readable(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """As SageMaker's own unpacking leaves it: whichever user the image has can read the model."""
    entry.mode |= 0o555 if entry.isdir() or entry.mode & 0o100 else 0o444
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry
