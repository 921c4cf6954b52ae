#!/bin/sh
# Install the image's own files, readable and executable for all users, and byte-compile the modules, so that a
# container with a read-only file system starts as fast as any other.
#
#   own-files.sh PYTHON WORKDIR LIBRARY FOLDER...
#
# WORKDIR is created. LIBRARY holds the content of the package `sagemaker_rl`; it may be missing. Each FOLDER is laid
# out like the root of the image; a file of a later one replaces the same file of an earlier one.
# Bytecode is validated by a hash of its source. So it does not depend on the time of the checkout, and an edited module
# is compiled again. Python before 3.7 validates by time stamp only: all files get the one that stamped.sh sets.
set -eu

python=$1 workdir=$2 library=$3
shift 3

own=/usr/local/lib/rlimages
work=$(mktemp -d)
if [ -d "$library" ]; then
    mkdir -p "$work$own/python/sagemaker_rl"
    cp -R "$library/." "$work$own/python/sagemaker_rl"
fi
for folder; do
    cp -R "$folder/." "$work"
done
# Git has no empty folders, so a fresh checkout would lack them.
find "$work" -depth -mindepth 1 -type d -empty -exec rmdir {} \;
chmod -R 755 "$work"
cp -R "$work/." /
mkdir -p "$workdir"

# A .pth file puts the folder last on the interpreter's path, whatever PYTHONPATH is, so that a folder `sagemaker_rl` in
# the job's own code is imported instead.
echo "$own/python" >"$("$python" -c 'import site; print(site.getsitepackages()[0])')/sagemaker_rl.pth"

export PYTHONHASHSEED=0
if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 7))'; then
    "$python" -m compileall -q --invalidation-mode checked-hash "$own"
else
    find "$own" -name '*.py' -exec touch --date=2000-01-01T00:00:00Z {} +
    "$python" -m compileall -q "$own"
fi
