#!/bin/sh
# Turn a lock into a folder of wheels: fetch what exists as one, compile what does not. Nothing is installed.
#
#   python-wheels.sh PYTHON FOLDER LOCK PIP [--build-constraint REQUIREMENT]...
#
# PYTHON is the interpreter that the base brings. PIP is the version of pip that does it (`-` for the base's own): an
# old base's pip knows no newer kinds of wheels. It is left in FOLDER/pip for install-wheels.sh. Whatever hash the
# lock gives is checked.
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
    # Two names for one thing: pip from 25.3 on listens to the second only.
    export PIP_CONSTRAINT="$work/build-constraints.txt" PIP_BUILD_CONSTRAINT="$work/build-constraints.txt"
fi
if [ "$pip" != - ]; then
    env -u PIP_CONSTRAINT "$python" -m pip install --quiet --target "$folder/pip" "pip==$pip" wheel
    export PYTHONPATH="$folder/pip"
fi

# --use-pep517: source packages are built in an environment of their own, whatever tools the base has.
"$python" -m pip wheel --use-pep517 --no-deps --wheel-dir "$folder" -r "$lock"
# The same pins without hashes: what was compiled here has one of its own.
sed -e '/^[A-Za-z0-9]/!d' -e 's/ --hash=.*//' -e 's/ *\\$//' "$lock" >"$folder/requirements.txt"
