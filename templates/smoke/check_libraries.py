"""Check that every shared library of the Python environment finds the libraries that it needs."""

import json
import os
import re
import subprocess
import sys
import sysconfig

with open("/checks/cell.json") as stream:
    CELL = json.load(stream)

# Libraries of the NVIDIA driver come from the host, when the container gets a GPU.
FROM_HOST = re.compile(r"^lib(cuda|nvidia-.*|nvcuvid|nvoptix)\.so")
# Plugins that NVIDIA's wheels try at run time, one for each cluster network and MPI: most lack their library.
PLUGIN = re.compile(r"/nvidia/.*/(nvshmem_(transport|bootstrap)_|libcufile_rdma)[^/]*$")
AT_ONCE = 100


def libraries(top):
    for folder, _, files in os.walk(top):
        for name in files:
            if name.endswith(".so") or ".so." in name:
                path = os.path.join(folder, name)
                with open(path, "rb") as stream:
                    if stream.read(4) == b"\x7fELF":
                        yield path


def main():
    if CELL["line"] != "debian":
        print("the libraries belong to the base image")
        return 77
    top = sysconfig.get_paths()["platlib"]
    found = sorted(libraries(top))
    paths = [path for path in found if not PLUGIN.search(path)]
    # Packages of one framework load each other's libraries by path before they are needed.
    brought = {os.path.basename(path) for path in paths}
    missing = {}
    for start in range(0, len(paths), AT_ONCE):
        batch = paths[start : start + AT_ONCE]
        child = subprocess.Popen(["ldd"] + batch, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        asking = batch[0]
        for line in child.communicate()[0].decode("utf-8", "replace").splitlines():
            if not line.startswith("\t"):
                asking = line.rstrip(":")
            elif line.endswith("not found"):
                name = line.split()[0]
                if name not in brought and not FROM_HOST.match(name):
                    missing.setdefault(name, []).append(os.path.relpath(asking, top))
    if missing:
        print(
            "; ".join(
                "%s is missing, needed by %s" % (name, ", ".join(needed[:3]))
                for name, needed in sorted(missing.items())
            )
        )
        return 1
    print(
        "%d libraries find what they need; %d plugins for cluster networks were not checked"
        % (len(paths), len(found) - len(paths))
    )
    return 0


sys.exit(main())
