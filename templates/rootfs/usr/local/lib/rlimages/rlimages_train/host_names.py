"""The hosts of a job must know each other by name before the script starts.

That takes a moment, or something is wrong. The toolkit asks for each name in turn, for fifteen minutes and without a
word, also in a job of one host.
"""

import os
import socket
import sys
import threading
import time

from rlimages_train import signals
from rlimages_train.failure import JobError

SECONDS = 50.0
"""How long names may take, unless RLIMAGES_HOSTS_SECONDS says otherwise."""
PAUSE = 0.5
"""Seconds between two questions for one name."""
SILENCE = 5.0
"""Seconds before the log says what is waited for."""


class UnknownHost(JobError):
    """A host's name does not resolve."""

    errno = os.EX_NOHOST  # 68


def limit(toolkit):
    """Have the toolkit wait for the names of the other hosts for a limited time."""
    original = toolkit.entry_point._wait_hostname_resolution

    def wait_for_names():
        config = toolkit.environment.read_resource_config()
        if len(config["hosts"]) > 1:
            wait(config["hosts"], float(os.environ.get("RLIMAGES_HOSTS_SECONDS") or SECONDS))
        signals.insist()
        signals.begin()

    wait_for_names.__doc__ = original.__doc__
    toolkit.entry_point._wait_hostname_resolution = wait_for_names


def wait(names, seconds, resolve=socket.gethostbyname, say=sys.stderr.write):
    """Wait until all names resolve. Raises `UnknownHost`, which names those that don't, after some seconds.

    One thread for each name: a name server that does not answer takes half a minute to say so.
    """
    missing = set(names)
    for name in names:
        threading.Thread(target=_look_up, args=(name, missing, resolve), daemon=True).start()
    began = time.time()
    told = False
    while missing:
        waited = time.time() - began
        if waited > seconds:
            raise UnknownHost(
                "no address for %s after %.0f s: the hosts of resourceconfig.json are %s, and each must resolve"
                % (_listed(missing), seconds, _listed(names))
            )
        if waited > SILENCE and not told:
            say("rlimages: waiting for an address of %s, at most %.0f s\n" % (_listed(missing), seconds))
            told = True
        time.sleep(0.02)


def _look_up(name, missing, resolve):
    while name in missing:
        try:
            resolve(name)
        except (OSError, UnicodeError):
            time.sleep(PAUSE)
        else:
            missing.discard(name)


def _listed(names):
    return ", ".join(sorted(names))
