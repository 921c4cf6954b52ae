#!/bin/sh
# Run a command of a Dockerfile, then set one fixed time stamp on everything that it created or changed in the image.
# So two builds of a Dockerfile, on two days, make the same layer.
#
#   stamped.sh COMMAND [ARGUMENT]...
#
# Older files that a package installs keep the package's time stamps, because their bytecode contains them. The mark of a
# deletion in a layer has a time stamp too, which cannot be set: a command may delete its own files, but nothing of a
# layer below.
set -eu

# BuildKit creates the mount points shortly before the command runs, which changes their parent folders too.
started=$(($(date +%s) - 60))
"$@"

if command -v find >/dev/null; then
    find / -xdev \( -path /dev -o -path /proc -o -path /sys -o -path '/run/build*' -o -path /run/wheels -o -path /root/.cache \
        -o -path /etc/hosts -o -path /etc/hostname -o -path /etc/resolv.conf \) -prune \
        -o -newermt "@$started" -exec touch --no-dereference --date=2000-01-01T00:00:00Z {} +
else
    echo "stamped.sh: this image has no find; the layer keeps the time stamps of this build" >&2
fi
