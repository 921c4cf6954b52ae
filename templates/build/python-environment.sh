#!/bin/sh
# Create a virtual environment and install the packages of a lock into it. Each file is checked against its hash.
#
#   python-environment.sh ENVIRONMENT LOCK UV [--build-constraint REQUIREMENT]...
#
# Nothing but the packages of the lock is installed; pip must be one of them. UV is the version of uv that installs them,
# from a temporary environment.
# Each REQUIREMENT constrains the environments that source packages are built in. uv's cache distinguishes the wheels that
# it built by their config settings, but not by these constraints. So a config setting contains a checksum of them:
# otherwise a cell could get a wheel that the build tools of another cell made.
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
configure_uv

"$work/tools/bin/uv" pip install --python "$python" --require-hashes --no-deps \
    --build-constraints "$work/build-constraints.txt" \
    --config-setting "built-under=$(cksum <"$work/build-constraints.txt" | tr ' ' -)" -r "$lock"
rm -f "$environment/.lock"
if ! "$python" -m pip --version; then
    echo "python-environment.sh: the lock has no pip, but a job needs pip to install its requirements.txt" >&2
    exit 1
fi

# Remove files that no module imports: tests, headers (the image has no compiler) and jars (it has no Java). In images
# with PyTorch they are a sixth of the size.
site=$("$python" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
for package in gevent matplotlib networkx numpy pandas psutil pyarrow pywt scipy skimage sympy zope; do
    if [ -d "$site/$package" ]; then
        find "$site/$package" -type d -name tests -prune -exec rm -rf {} +
    fi
done
rm -rf "$site/tensorflow/include" "$site/torch/include" "$site/torch/test" "$site"/torch/bin/test_* \
    "$site/onnx/backend/test" "$site/ray/jars"

# uv records the time at which a local wheel was written, which is different on each machine.
for record in "$site"/*.dist-info/uv_cache.json; do
    if [ -f "$record" ]; then
        sed -i '/\/uv_cache\.json,/d' "${record%/*}/RECORD"
        rm "$record"
    fi
done

# Compile now; otherwise every start of a container would compile again (10 s with TensorFlow). Bytecode contains the time
# stamp of its source, so set that first. If a user edits a file, Python compiles it again.
find "$environment" -exec touch --no-dereference --date=2000-01-01T00:00:00Z {} +
# Bytecode depends on which of its strings other objects of the process refer to. Two kinds of such objects differ between
# builds. Up to Python 3.10, the cache of method look-ups depends on memory addresses, so it is emptied before each file.
# And files that the same process compiled before count, so each of the four processes always gets the same files.
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
for process in $running; do
    wait "$process" || echo "python-environment.sh: some files above do not compile with this Python and stay without bytecode"
done
find "$environment" -newermt 2000-01-02 -exec touch --no-dereference --date=2000-01-01T00:00:00Z {} +
