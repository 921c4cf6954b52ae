#!/bin/sh
# Install every wheel of a folder beside what the interpreter already has, byte-compiled, without an index.
#
#   install-wheels.sh PYTHON FOLDER
#
# The base's own pip does it: what pip has to learn of newer wheels it learned in the build stage, and a wheel
# that was fetched there by name is installed here by path.
set -eu

python=$1 folder=$2
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
"$python" -m pip install --no-index --no-deps --no-cache-dir --compile "$folder"/*.whl
