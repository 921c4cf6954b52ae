#!/bin/sh
# Make a folder with the wheels of a lock: download them, or build them from source if there is none. Install nothing.
#
#   python-wheels.sh PYTHON FOLDER LOCK PIP [--build-constraint REQUIREMENT]...
#
# PYTHON is the interpreter of the base image. PIP is the version of pip to use, because the pip of an old base image does
# not support newer kinds of wheels; it stays in FOLDER/pip for install-wheels.sh. `-` means the base image's own pip.
# Hashes in the lock are checked.
set -eu
# shellcheck source=templates/build/buildhost.sh
. /run/build/buildhost.sh

python=$1 folder=$2 lock=$3 pip=$4
shift 4

mkdir -p "$folder"
work=$(mktemp -d)
: >"$work/build-constraints.txt"
while [ $# -gt 0 ]; do
    case $1 in
    --build-constraint) echo "$2" >>"$work/build-constraints.txt" ;;
    *) echo "python-wheels.sh: unknown option '$1'" >&2 && exit 64 ;;
    esac
    shift 2
done
if [ -s "$work/build-constraints.txt" ]; then
    # Both variables mean the same; pip 25.3 and later read only the second.
    export PIP_CONSTRAINT="$work/build-constraints.txt" PIP_BUILD_CONSTRAINT="$work/build-constraints.txt"
fi
if [ "$pip" != - ]; then
    env -u PIP_CONSTRAINT "$python" -m pip install --quiet --target "$folder/pip" "pip==$pip" wheel
    export PYTHONPATH="$folder/pip"
fi

# --use-pep517 builds source packages in an isolated environment, so the tools of the base image do not matter.
"$python" -m pip wheel --use-pep517 --no-deps --wheel-dir "$folder" -r "$lock"
# The same pins without hashes, because a wheel that was built here has a hash that the lock does not know.
sed -e '/^[A-Za-z0-9]/!d' -e 's/ --hash=.*//' -e 's/ *\\$//' "$lock" >"$folder/requirements.txt"
