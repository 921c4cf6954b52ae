"""Check that the image contains nothing that only its build needed."""

import glob
import json
import os
import shutil
import sys

with open("/checks/cell.json") as stream:
    CELL = json.load(stream)

# Paths that Dockerfiles mount, or create in their build stage.
MOUNTED = ("/run/build", "/run/buildhost", "/run/wheels", "/wheels")
COMPILERS = ("cc", "gcc", "g++", "c++", "clang", "cmake", "make", "ld", "as", "rustc", "go")
# The Debian bases have none of these files, so our build would have left them. SageMaker's images contain caches.
EMPTY = (
    "/var/lib/apt/lists/*",
    "/var/cache/apt/*.bin",
    "/var/cache/apt/archives/*.deb",
    "/var/log/apt/*",
    "/var/log/dpkg.log",
    "/root/.cache/*",
    "/tmp/*",
    "/var/tmp/*",
)


def wheels():
    for top in ("/opt", "/usr", "/root", "/home", "/tmp", "/var", "/srv"):
        for folder, _, files in os.walk(top):
            if "ensurepip" not in folder:
                for name in files:
                    if name.endswith((".whl", ".tar.gz", ".deb", ".rpm")) and "site-packages" not in folder:
                        yield os.path.join(folder, name)


def main():
    wrong = [path for path in MOUNTED if os.path.exists(path)]
    if CELL["line"] == "debian":
        wrong += ["the build tool " + shutil.which(name) for name in COMPILERS if shutil.which(name)]
        for pattern in EMPTY:
            wrong += [path for path in glob.glob(pattern) if os.path.basename(path) not in ("partial", "lock")]
        wrong += sorted(wheels())
    if wrong:
        print("found: " + "; ".join(wrong[:20]))
        return 1
    print("no compiler, package list, cache or wheel is left")
    return 0


sys.exit(main())
