"""Pack the model of an endpoint into a tar archive, to be unpacked in the container."""

import posixpath
import tarfile
import tempfile
import zlib
from copy import copy
from pathlib import Path
from typing import IO

from rlimages.errors import FactoryError, JobError


def pack_model(source: Path | None, target: str) -> IO[bytes]:
    """Return an open tar archive, to unpack at `/` of a container, with a model below the absolute path `target`.

    `source` is a model.tar.gz, or a folder with the content of one, in which symbolic links are followed; None stands
    for no model, and the archive has only the folder `target`. All entries belong to root, and every user may read
    them. The archive is a temporary file without a name. Raises `JobError` if `source` is not a complete .tar.gz, or
    has an entry that would be unpacked outside `target`, and `FactoryError` if it cannot be read.
    """
    stream = tempfile.TemporaryFile()  # noqa: SIM115 - returned to the caller, who closes it
    folder = target.lstrip("/")
    try:
        with tarfile.open(fileobj=stream, mode="w", dereference=True) as archive:
            root = tarfile.TarInfo(folder)
            root.type = tarfile.DIRTYPE
            archive.addfile(_readable_for_all(root))
            if source is not None and source.is_dir():
                for path in sorted(source.iterdir()):
                    archive.add(path, f"{folder}/{path.name}", filter=_readable_for_all)
            elif source is not None:
                _copy_entries(source, folder, archive)
    except OSError as error:
        stream.close()
        raise FactoryError(f"cannot unpack {error.filename or source}: {error.strerror}") from error
    except BaseException:
        stream.close()
        raise
    stream.seek(0)
    return stream


def _copy_entries(source: Path, folder: str, archive: tarfile.TarFile) -> None:
    """Copy all entries of the .tar.gz file `source` into `archive`, with names below `folder`.

    Raises `JobError` if `source` is not a complete .tar.gz, or has an entry that would be unpacked outside `folder`,
    and `OSError` if it cannot be read.
    """
    try:
        with tarfile.open(source, "r:gz") as packed:
            for entry in packed:
                moved = _move_entry(entry, folder, source)
                archive.addfile(_readable_for_all(moved), packed.extractfile(entry) if entry.isreg() else None)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        # gzip raises OSError for damaged content, without an errno; an error of the disk has one.
        if getattr(error, "errno", None) is not None:
            raise
        raise JobError(f"{source} is not a complete gzip-compressed tar archive: {error}") from error


def _move_entry(entry: tarfile.TarInfo, folder: str, source: Path) -> tarfile.TarInfo:
    """Return a copy of `entry` with its name below `folder`. `source` is its archive, for messages.

    Raises `JobError` if its name or the target of its link is outside `folder`, or if it is not a file, folder or link.
    A path that leads through a link of the archive is not checked here: the engine unpacks the archive inside the
    container.
    """
    name = posixpath.normpath(entry.name)
    if not (entry.isreg() or entry.isdir() or entry.issym() or entry.islnk()):
        raise JobError(f"{source}: {entry.name} is not a file, folder or link")
    target = ""
    if entry.issym():  # relative to the folder of the link
        target = posixpath.normpath(posixpath.join(posixpath.dirname(name), entry.linkname))
    elif entry.islnk():  # relative to the root of the archive
        target = posixpath.normpath(entry.linkname)
    for path in (name, target):
        if path.startswith(("/", "../")) or path == "..":
            raise JobError(f"{source}: {entry.name} points outside the model folder")
    moved = copy(entry)
    moved.name = f"{folder}/{name}" if name != "." else folder
    moved.linkname = f"{folder}/{target}" if entry.islnk() else entry.linkname
    # A long name is also in the pax headers, which would take precedence over the new name.
    moved.pax_headers = {key: value for key, value in entry.pax_headers.items() if key not in ("path", "linkpath")}
    return moved


def _readable_for_all(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """Give `entry` to root, let every user read it, and return it.

    SageMaker gives these permissions when it unpacks a model, because the image may run as any user.
    """
    entry.mode |= 0o555 if entry.isdir() or entry.mode & 0o100 else 0o444
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry
