#!/bin/sh
# Compile Vowpal Wabbit from the source package in a lock: the Python package, as a wheel, and the program `vw`, which
# training scripts call.
#
#   vowpal-wabbit.sh PYTHON LOCK FOLDER [REQUIREMENT]...
#
# FOLDER gets the wheel, the requirements.txt that install-wheels.sh reads, and lock.txt with the rest of the lock. The
# program is installed below /own, from where own-files.sh copies it over the `vw` of images with a published wheel.
# Each REQUIREMENT is a package that setup.py needs.
set -eu
# shellcheck source=templates/build/buildhost.sh
. /run/build/buildhost.sh

python=$1 lock=$2 folder=$3
shift 3

# The compiled library contains the paths of its source files, so this path must be the same in every build.
work=/tmp/vowpal-wabbit
mkdir -p "$folder" "$work/source"
awk -v vw="$work/vw.txt" -v rest="$folder/lock.txt" '
    /^[^ \t#]/ { name = $0; sub(/[ =].*/, "", name) }
    { print > (name == "vowpalwabbit" ? vw : rest) }' "$lock"

awk '/^[^ \t#]/ { print $1 }' "$work/vw.txt" >"$folder/requirements.txt"

"$python" -m venv "$work/tools"
tools=$work/tools/bin
"$tools/pip" install --quiet --no-compile "$@"
"$tools/pip" download --quiet --no-deps --no-build-isolation --no-binary :all: --require-hashes \
    --dest "$work" --requirement "$work/vw.txt"
tar -x -f "$work"/vowpalwabbit-*.tar.gz --strip-components 1 -C "$work/source"

# Up to Boost 1.66 the distribution names the library after its own Python 3. It works with any Python 3.
for library in /usr/lib/*/libboost_python-py3?.so; do
    if [ -e "$library" ]; then
        ln -s "$library" "${library%-py3?.so}3.so"
    fi
done

cd "$work/source"
# Do not link libpython: an extension module gets Python's symbols from the interpreter that loads it.
sed -i 's/[$]{PYTHON_LIBRARIES} //' python/CMakeLists.txt
"$tools/python" setup.py --quiet bdist_wheel --dist-dir "$folder"
# Build in the same tree, because the library is compiled there already.
cmake --build build/temp.* --target vw-bin -- -j "$(nproc)"
install -D --strip build/temp.*/vowpalwabbit/vw /own/usr/local/bin/vw
