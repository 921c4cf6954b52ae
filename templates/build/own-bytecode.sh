#!/bin/sh
# Byte-compile the image's own modules, so that a container that can write nothing starts as fast as any other.
#
#   own-bytecode.sh PYTHON FOLDER
#
# Bytecode tells by a hash of its source that it is valid, so that it does not depend on when the files were checked
# out, and an edited module counts. Python before 3.7 knows time stamps only: all get the same one.
set -eu

python=$1 folder=$2
export PYTHONHASHSEED=0
if "$python" -c 'import sys; sys.exit(sys.version_info < (3, 7))'; then
    "$python" -m compileall -q --invalidation-mode checked-hash "$folder"
else
    find "$folder" -name '*.py' -exec touch --date=2000-01-01 {} +
    "$python" -m compileall -q "$folder"
fi
