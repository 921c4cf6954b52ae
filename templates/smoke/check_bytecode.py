"""Check that every module that this Python can compile has valid bytecode.

On bases with their own interpreter, only the modules of this project are checked.
"""

import json
import os
import struct
import sys
import sysconfig
from importlib import util

with open("/checks/cell.json") as stream:
    CELL = json.load(stream)

OWN = "/usr/local/lib/rlimages"
HASHED = 1


def valid(source, compiled):
    """Return whether the bytecode belongs to the source (PEP 552; the header has twelve bytes before Python 3.7)."""
    with open(compiled, "rb") as stream:
        header = stream.read(16)
    words = struct.unpack("<4I", header)
    found = os.stat(source)
    if sys.version_info < (3, 7):
        return words[1:3] == (int(found.st_mtime) & 0xFFFFFFFF, found.st_size & 0xFFFFFFFF)
    if words[1] & HASHED:
        with open(source, "rb") as stream:
            return header[8:] == util.source_hash(stream.read())
    return words[2:4] == (int(found.st_mtime) & 0xFFFFFFFF, found.st_size & 0xFFFFFFFF)


def compilable(source):
    try:
        with open(source, "rb") as stream:
            compile(stream.read(), source, "exec")
    except (SyntaxError, ValueError):
        return False
    return True


def sources(folder):
    for path, _, files in os.walk(folder):
        for name in files:
            if name.endswith(".py"):
                yield os.path.join(path, name)


def main():
    folders = [OWN] + ([sysconfig.get_paths()["purelib"]] if CELL["line"] == "debian" else [])
    missing, stale, count = [], [], 0
    for source in (path for folder in folders for path in sources(folder)):
        compiled = util.cache_from_source(source)
        count += 1
        if not os.path.exists(compiled):
            if compilable(source):
                missing.append(source)
        elif not valid(source, compiled):
            stale.append(source)
    if missing or stale:
        print(
            "%d not compiled, %d with stale bytecode: %s"
            % (len(missing), len(stale), ", ".join((missing + stale)[:10]))
        )
        return 1
    print("%d modules checked in %s" % (count, " and ".join(folders)))
    return 0


sys.exit(main())
