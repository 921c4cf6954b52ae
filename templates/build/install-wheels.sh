#!/bin/sh
# Install the wheels of a folder for an interpreter, without an index, and byte-compile them.
#
#   install-wheels.sh PYTHON FOLDER
#
# FOLDER is the output of python-wheels.sh. If it has a folder `pip`, that version of pip installs.
set -eu

python=$1 folder=$2
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1
if [ -d "$folder/pip" ]; then
    export PYTHONPATH="$folder/pip"
fi

started=$(date +%s)
"$python" -m pip install --no-index --find-links "$folder" --no-deps --no-cache-dir --no-compile \
    -r "$folder/requirements.txt"

# Bytecode contains the time stamp of its source, so set the one of stamped.sh before compiling.
"$python" - "$started" <<'END'
import compileall, os, sys, sysconfig

for top in sorted(set(sysconfig.get_paths()[name] for name in ("purelib", "platlib"))):
    for folder, folders, files in os.walk(top):
        folders.sort()
        for path in sorted(os.path.join(folder, name) for name in files if name.endswith(".py")):
            if os.stat(path).st_mtime >= int(sys.argv[1]):
                os.utime(path, (946684800, 946684800))
                sys._clear_type_cache()  # see python-environment.sh
                compileall.compile_file(path, quiet=2)
END
