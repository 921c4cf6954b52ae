#!/bin/sh
# Put the image's own files in their places, where all can read and run them, and byte-compile the modules, so that a
# container that can write nothing starts as fast as any other.
#
#   own-files.sh PYTHON WORKDIR FOLDER...
#
# WORKDIR is made. Each FOLDER is a picture of the image's file system; what a later one has goes over what an earlier one has.
# Bytecode tells by a hash of its source that it is valid, so that it does not depend on when the files were checked
# out, and an edited module counts. Python before 3.7 knows time stamps only: all get the one that stamped.sh gives.
set -eu

python=$1 workdir=$2
shift 2

own=/usr/local/lib/rlimages
work=$(mktemp -d)
for folder; do
    cp -R "$folder/." "$work"
done
# A repository has no empty folders: they are in one checkout and not in another.
find "$work" -depth -mindepth 1 -type d -empty -exec rmdir {} \;
chmod -R 755 "$work"
cp -R "$work/." /
mkdir -p "$workdir"

# Last on the interpreter's path, whatever PYTHONPATH says; a job's own folder `sagemaker_rl` goes before it.
echo "$own/python" >"$("$python" -c 'import site; print(site.getsitepackages()[0])')/sagemaker_rl.pth"

export PYTHONHASHSEED=0
if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 7))'; then
    "$python" -m compileall -q --invalidation-mode checked-hash "$own"
else
    find "$own" -name '*.py' -exec touch --date=2000-01-01T00:00:00Z {} +
    "$python" -m compileall -q "$own"
fi
