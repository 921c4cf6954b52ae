#!/bin/sh
# Compile Vowpal Wabbit from the source package that a lock names, once for both of its faces: the Python package,
# as a wheel, and the program `vw`, which training scripts call.
#
#   vowpal-wabbit.sh PYTHON LOCK FOLDER [REQUIREMENT]...
#
# FOLDER gets the wheel and what install-wheels.sh wants beside it, and lock.txt: the rest of the lock. The program goes
# to /own, over the one that own-files.sh has for wheels.
# REQUIREMENTs are what its setup.py needs.
set -eu
# shellcheck source=templates/build/buildhost.sh
. /run/build/buildhost.sh

python=$1 lock=$2 folder=$3
shift 3

# The library has the names of its source files in it.
work=/tmp/vowpal-wabbit
mkdir -p "$folder" "$work/source"
awk -v own="$work/own.txt" -v rest="$folder/lock.txt" '
    /^[^ \t#]/ { name = $0; sub(/[ =].*/, "", name) }
    { print > (name == "vowpalwabbit" ? own : rest) }' "$lock"

awk '/^[^ \t#]/ { print $1 }' "$work/own.txt" >"$folder/requirements.txt"

"$python" -m venv "$work/tools"
tools=$work/tools/bin
"$tools/pip" install --quiet --no-compile "$@"
"$tools/pip" download --quiet --no-deps --no-build-isolation --no-binary :all: --require-hashes \
    --dest "$work" --requirement "$work/own.txt"
tar -x -f "$work"/vowpalwabbit-*.tar.gz --strip-components 1 -C "$work/source"

# Up to Boost 1.66 the distribution names the library after its own Python; any Python 3 takes it.
for library in /usr/lib/*/libboost_python-py3?.so; do
    if [ -e "$library" ]; then
        ln -s "$library" "${library%-py3?.so}3.so"
    fi
done

cd "$work/source"
# An extension module takes Python's symbols from the interpreter that loads it, not from a libpython of its own.
sed -i 's/[$]{PYTHON_LIBRARIES} //' python/CMakeLists.txt
"$tools/python" setup.py --quiet bdist_wheel --dist-dir "$folder"
# In the same tree, where the library is compiled already.
cmake --build build/temp.* --target vw-bin -- -j "$(nproc)"
install -D --strip build/temp.*/vowpalwabbit/vw /own/usr/local/bin/vw
