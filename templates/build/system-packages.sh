#!/bin/sh
# Install packages of the distribution, without recommended packages, documentation and logs.
# Package lists and downloads are on tmpfs mounts (see templates/macros/packages.j2). So they need no clean-up, and
# parallel builds do not wait for a shared cache. Files that contain the date of the build are removed.
#
#   system-packages.sh apt|dnf NAME...
set -eu

manager=$1
shift

# List the logs, backups and caches of the package managers.
list_traces() {
    ls -d /var/log/apt/* /var/log/dpkg.log /var/log/alternatives.log /var/log/fontconfig.log /var/cache/debconf/*-old \
        /var/lib/dpkg/*-old /var/cache/ldconfig/aux-cache /var/log/dnf* /var/log/hawkey.log 2>/dev/null || :
}

started=$(date +%s)
inherited=$(list_traces)
users=$(cat /etc/passwd)

case $manager in
apt)
    export DEBIAN_FRONTEND=noninteractive
    fetch="-o Acquire::Retries=3 -o Acquire::http::Timeout=60"
    # shellcheck disable=SC2086
    if ! apt-get $fetch -qq update; then
        # Old base images list archives that no longer exist, or whose signing key NVIDIA withdrew in April 2022.
        echo "system-packages.sh: trying again without the archives that the base image added to those of the distribution" >&2
        rm -f /etc/apt/sources.list.d/*.list
        # shellcheck disable=SC2086
        apt-get $fetch -qq update
    fi
    # shellcheck disable=SC2086
    apt-get $fetch -qq install --yes --no-install-recommends \
        -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-unsafe-io "$@"
    # Packages compile their modules with a random hash seed. Up to Python 3.10 bytecode depends on it, so compile again.
    find /usr/lib/python3* -name '*.pyc' -newermt "@$started" 2>/dev/null |
        sed 's,__pycache__/\(.*\)\.cpython-[0-9]*\.pyc$,\1.py,' | sort >/tmp/compiled
    if [ -s /tmp/compiled ] && /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info >= (3, 11))'; then
        PYTHONHASHSEED=0 /usr/bin/python3 -m compileall -q -f -i /tmp/compiled
    fi
    rm /tmp/compiled
    ;;
dnf)
    dnf install --assumeyes --quiet --nodocs \
        --setopt=install_weak_deps=False --setopt=retries=5 --setopt=timeout=60 "$@"
    ;;
*)
    echo "system-packages.sh: '$manager' is neither apt nor dnf" >&2
    exit 64
    ;;
esac

# Deleting a file of a layer below would leave a mark with the current time in this layer, so only empty such a file.
list_traces | while read -r trace; do
    if printf '%s\n' "$inherited" | grep -qxF -e "$trace"; then : >"$trace"; else rm -rf "$trace"; fi
done
# Each new user has the date of the last password change in /etc/shadow: replace it by a fixed day.
if [ "$users" != "$(cat /etc/passwd)" ]; then
    sed -i -E 's/^([^:]*:[^:]*):[0-9]+:/\1:10957:/' /etc/shadow
fi
