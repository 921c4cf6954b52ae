#!/bin/sh
# Copy this project's files into the image, readable and executable for all users, and byte-compile the modules: on a
# read-only file system Python could not store bytecode, and every start would compile again.
#
#   own-files.sh PYTHON WORKDIR LIBRARY FOLDER...
#
# WORKDIR is created. LIBRARY has the content of the package `sagemaker_rl`; it may be missing. Each FOLDER is copied to
# the root of the image; a file of a later FOLDER replaces the same file of an earlier one.
# Bytecode is validated by a hash of its source. So it does not depend on the time of the checkout, and an edited module
# is compiled again. Python before 3.7 validates by time stamp only, so all files get the one that stamped.sh sets.
set -eu

python=$1 workdir=$2 library=$3
shift 3

target=/usr/local/lib/rlimages
work=$(mktemp -d)
if [ -d "$library" ]; then
    mkdir -p "$work$target/python/sagemaker_rl"
    cp -R "$library/." "$work$target/python/sagemaker_rl"
fi
for folder; do
    cp -R "$folder/." "$work"
done
# Git does not store empty folders. Remove them, so that every checkout makes the same image.
find "$work" -depth -mindepth 1 -type d -empty -exec rmdir {} \;
chmod -R 755 "$work"
cp -R "$work/." /
mkdir -p "$workdir"

# A .pth file puts the folder last on the interpreter's path, even if PYTHONPATH is set. So a folder `sagemaker_rl` in the
# job's own code takes precedence.
echo "$target/python" >"$("$python" -c 'import site; print(site.getsitepackages()[0])')/sagemaker_rl.pth"

export PYTHONHASHSEED=0
if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 7))'; then
    "$python" -m compileall -q --invalidation-mode checked-hash "$target"
else
    find "$target" -name '*.py' -exec touch --date=2000-01-01T00:00:00Z {} +
    "$python" -m compileall -q "$target"
fi
