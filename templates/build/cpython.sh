#!/bin/sh
# Compile a source release of CPython that the distribution has no package of, and install it to /usr/local.
#
#   cpython.sh VERSION SHA256
#
# SHA256 is the checksum of Python-VERSION.tar.xz. The test suite is removed. pip is the version in the release.
set -eu
# shellcheck source=templates/build/buildhost.sh
. /run/build/buildhost.sh

version=$1 checksum=$2

work=$(mktemp -d)
cd "$work"
curl --fail --silent --show-error --location --retry 5 --output source.tar.xz \
    "https://www.python.org/ftp/python/$version/Python-$version.tar.xz"
echo "$checksum  source.tar.xz" | sha256sum --check --strict --quiet
mkdir source
tar -x -f source.tar.xz --strip-components 1 -C source

cd source
./configure --quiet --prefix=/usr/local
make --quiet -j "$(nproc)"
make --quiet install
rm -rf /usr/local/lib/python*/test
ln -s python3 /usr/local/bin/python
# If a header is missing, the build succeeds without these modules.
python3 -c 'import bz2, ctypes, lzma, readline, sqlite3, ssl, zlib'
