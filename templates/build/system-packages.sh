#!/bin/sh
# Install packages of the distribution, and only those: nothing recommended, no documentation, no logs.
# The package lists and downloads belong on tmpfs mounts (see templates/macros/packages.j2), so nothing
# has to be cleaned away and builds that run side by side do not wait for one another's cache.
#
#   system-packages.sh apt|dnf NAME...
set -eu

manager=$1
shift

case $manager in
apt)
    # Old GPU bases carry package lists signed with a key that NVIDIA withdrew in April 2022, and apt-get
    # update stops at them. Their packages are in the base already.
    rm -f /etc/apt/sources.list.d/cuda*.list /etc/apt/sources.list.d/nvidia-ml*.list
    export DEBIAN_FRONTEND=noninteractive
    apt-get -o Acquire::Retries=5 -o Acquire::http::Timeout=60 -qq update
    apt-get -o Acquire::Retries=5 -o Acquire::http::Timeout=60 -qq install \
        --yes --no-install-recommends -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-unsafe-io "$@"
    rm -rf /var/log/apt/* /var/log/dpkg.log /var/log/alternatives.log \
        /var/cache/debconf/*-old /var/lib/dpkg/*-old /var/cache/ldconfig/aux-cache
    ;;
dnf)
    dnf install --assumeyes --quiet --nodocs \
        --setopt=install_weak_deps=False --setopt=retries=5 --setopt=timeout=60 "$@"
    rm -rf /var/log/dnf* /var/log/hawkey.log
    ;;
*)
    echo "system-packages.sh: '$manager' is neither apt nor dnf" >&2
    exit 64
    ;;
esac
