"""Every module that this Python can compile was compiled when the image was built, and the bytecode is still valid."""

import json
import os
import struct
import sys
import sysconfig
from importlib.util import cache_from_source

with open("/checks/cell.json") as stream:
    CELL = json.load(stream)

HASHED = 1


def valid(source, compiled):
    """Whether Python would take the bytecode as it is (PEP 552; twelve bytes of header before Python 3.7)."""
    with open(compiled, "rb") as stream:
        header = stream.read(16)
    words = struct.unpack("<4I", header)
    found = os.stat(source)
    if sys.version_info < (3, 7):
        return words[1:3] == (int(found.st_mtime) & 0xFFFFFFFF, found.st_size & 0xFFFFFFFF)
    if words[1] & HASHED:
        return True
    return words[2:4] == (int(found.st_mtime) & 0xFFFFFFFF, found.st_size & 0xFFFFFFFF)


def compilable(source):
    try:
        with open(source, "rb") as stream:
            compile(stream.read(), source, "exec")
    except (SyntaxError, ValueError):
        return False
    return True


def main():
    if CELL["line"] != "debian":
        print("the interpreter and most of its modules are the base's")
        return 77
    missing, stale, count = [], [], 0
    for folder, _, files in os.walk(sysconfig.get_paths()["purelib"]):
        for name in files:
            if not name.endswith(".py"):
                continue
            source = os.path.join(folder, name)
            compiled = cache_from_source(source)
            count += 1
            if not os.path.exists(compiled):
                if compilable(source):
                    missing.append(source)
            elif not valid(source, compiled):
                stale.append(source)
    if missing or stale:
        print("%d not compiled, %d stale: %s" % (len(missing), len(stale), ", ".join((missing + stale)[:10])))
        return 1
    print("%d modules" % count)
    return 0


sys.exit(main())
