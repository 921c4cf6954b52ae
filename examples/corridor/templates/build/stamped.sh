#!/bin/sh
# Run a command of a recipe, then give all that it made or changed in the image one time stamp: two builds of a
# recipe, on two days, make the same layer.
#
#   stamped.sh COMMAND [ARGUMENT]...
#
# What a package brings keeps the stamps of the package, by which its bytecode is valid. A deletion cannot be stamped:
# a command deletes what it made itself, nothing of a layer below.
set -eu

# BuildKit makes the mount points, and so changes folders, shortly before the command runs.
began=$(($(date +%s) - 60))
"$@"

if command -v find >/dev/null; then
    find / -xdev \( -path /dev -o -path /proc -o -path /sys -o -path '/run/build*' -o -path /run/wheels -o -path /root/.cache \
        -o -path /etc/hosts -o -path /etc/hostname -o -path /etc/resolv.conf \) -prune \
        -o -newermt "@$began" -exec touch --no-dereference --date=2000-01-01T00:00:00Z {} +
else
    echo "stamped.sh: this image has no find; the layer keeps the hour in which it was built" >&2
fi
