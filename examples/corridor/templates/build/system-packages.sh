#!/bin/sh
# Install packages of the distribution, and only those: nothing recommended, no documentation, no logs.
# The package lists and downloads belong on tmpfs mounts (see templates/macros/packages.j2), so nothing
# has to be cleaned away and builds that run side by side do not wait for one another's cache.
# Nothing stays that tells the day of the build.
#
#   system-packages.sh apt|dnf NAME...
set -eu

manager=$1
shift

# What package managers write for themselves, or to look back at.
traces() {
    ls -d /var/log/apt/* /var/log/dpkg.log /var/log/alternatives.log /var/log/fontconfig.log /var/cache/debconf/*-old \
        /var/lib/dpkg/*-old /var/cache/ldconfig/aux-cache /var/log/dnf* /var/log/hawkey.log 2>/dev/null || :
}

began=$(date +%s)
below=$(traces)
users=$(cat /etc/passwd)

case $manager in
apt)
    export DEBIAN_FRONTEND=noninteractive
    fetch="-o Acquire::Retries=3 -o Acquire::http::Timeout=60"
    # shellcheck disable=SC2086
    if ! apt-get $fetch -qq update; then
        # Old bases list archives that are gone, or signed by a key that NVIDIA withdrew in April 2022.
        echo "system-packages.sh: again, without the archives that the base added to the distribution's own" >&2
        rm -f /etc/apt/sources.list.d/*.list
        # shellcheck disable=SC2086
        apt-get $fetch -qq update
    fi
    # shellcheck disable=SC2086
    apt-get $fetch -qq install --yes --no-install-recommends \
        -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-unsafe-io "$@"
    # Packages compile their modules under a random hash seed, on which bytecode depends up to Python 3.10.
    find /usr/lib/python3* -name '*.pyc' -newermt "@$began" 2>/dev/null |
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

# To delete what a layer below has would leave a mark with the hour in it: of that, only the content goes.
traces | while read -r trace; do
    if printf '%s\n' "$below" | grep -qxF -e "$trace"; then : >"$trace"; else rm -rf "$trace"; fi
done
# The day on which a user's password was last changed.
if [ "$users" != "$(cat /etc/passwd)" ]; then
    sed -i -E 's/^([^:]*:[^:]*):[0-9]+:/\1:10957:/' /etc/shadow
fi
