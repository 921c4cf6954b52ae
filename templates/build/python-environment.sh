#!/bin/sh
# Make a virtual environment and install a lock into it, each file checked against its hash.
#
#   python-environment.sh ENVIRONMENT LOCK UV [--build-constraint REQUIREMENT]...
#
# Only what the lock names gets in, pip included. UV is the version of uv that installs, from a throw-away place.
# REQUIREMENTs bind the environments that source packages are built in. uv keeps wheels that it built apart by the settings
# of their builds, not by these: so that no cell gets what another one's tools built, a setting says them.
set -eu
# shellcheck source=templates/build/buildhost.sh
. /run/build/buildhost.sh

environment=$1 lock=$2 uv=$3
shift 3

work=$(mktemp -d)
: >"$work/build-constraints.txt"
while [ $# -gt 0 ]; do
    case $1 in
    --build-constraint) echo "$2" >>"$work/build-constraints.txt" ;;
    *) echo "python-environment.sh: unknown option '$1'" >&2 && exit 64 ;;
    esac
    shift 2
done

python3 -m venv --without-pip "$environment"
python="$environment/bin/python"
python3 -m venv "$work/tools"
"$work/tools/bin/pip" install --quiet --no-compile "uv==$uv"
lend_to_uv

"$work/tools/bin/uv" pip install --python "$python" --require-hashes --no-deps \
    --build-constraints "$work/build-constraints.txt" \
    --config-setting "built-under=$(cksum <"$work/build-constraints.txt" | tr ' ' -)" -r "$lock"
rm -f "$environment/.lock"
if ! "$python" -m pip --version; then
    echo "python-environment.sh: the lock brings no pip, with which a job installs its requirements.txt" >&2
    exit 1
fi

# What only serves to compile against a package (the image has no compiler), to run it with Java (nor that) or to test
# it, and what none of its modules imports: a sixth of the image beside PyTorch.
site=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
for package in gevent matplotlib networkx numpy pandas psutil pyarrow pywt scipy skimage sympy zope; do
    if [ -d "$site/$package" ]; then
        find "$site/$package" -type d -name tests -prune -exec rm -rf {} +
    fi
done
rm -rf "$site/tensorflow/include" "$site/torch/include" "$site/torch/test" "$site"/torch/bin/test_* \
    "$site/onnx/backend/test" "$site/ray/jars"

# When the file of a local wheel was written: another time on each machine.
for note in "$site"/*.dist-info/uv_cache.json; do
    if [ -f "$note" ]; then
        sed -i '/\/uv_cache\.json,/d' "${note%/*}/RECORD"
        rm "$note"
    fi
done

# Byte-compiled here, or every start of a container would do it again (10 s beside TensorFlow). The stamps of
# source and bytecode agree, and an edited file is compiled anew.
find "$environment" -exec touch --no-dereference --date=2000-01-01T00:00:00Z {} +
# Bytecode says which of its strings something else refers to as well. Up to Python 3.10, that may be the cache of method
# look-ups, whose content depends on addresses: it is emptied before each file. Or it is a file compiled before: each of
# four processes always has the same ones.
cat >"$work/compile.py" <<'END'
import compileall, sys

passed = True
for path in open(sys.argv[1]).read().splitlines():
    sys._clear_type_cache()
    passed = compileall.compile_file(path, quiet=2) and passed
sys.exit(not passed)
END
find "$environment/lib" -name '*.py' | LC_ALL=C sort >"$work/modules"
split --number=r/4 "$work/modules" "$work/part."
running=
for part in "$work"/part.*; do
    env -u SOURCE_DATE_EPOCH PYTHONHASHSEED=0 "$python" -W ignore "$work/compile.py" "$part" &
    running="$running $!"
done
for each in $running; do
    wait "$each" || echo "python-environment.sh: some files above are not for this Python and stay uncompiled"
done
find "$environment" -newermt 2000-01-02 -exec touch --no-dereference --date=2000-01-01T00:00:00Z {} +
