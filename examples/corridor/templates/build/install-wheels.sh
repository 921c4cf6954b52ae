#!/bin/sh
# Install the wheels of a folder beside what the interpreter already has, byte-compiled, without an index.
#
#   install-wheels.sh PYTHON FOLDER
#
# FOLDER is what python-wheels.sh made; if a pip lies in it, that one installs.
set -eu

python=$1 folder=$2
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
if [ -d "$folder/pip" ]; then
    export PYTHONPATH="$folder/pip"
fi
"$python" -m pip install --no-index --find-links "$folder" --no-deps --no-cache-dir --compile \
    -r "$folder/requirements.txt"
