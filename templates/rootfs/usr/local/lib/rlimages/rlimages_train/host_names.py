"""Limit how long a job waits until the names of all its hosts resolve.

The script starts only when the hosts can find each other. The toolkit looks up one name after another for up to fifteen
minutes, without a message, and also in a job of one host.
"""

import os
import socket
import sys
import threading
import time

from rlimages_train import signals
from rlimages_train.failure_file import JobError

DEFAULT_TIMEOUT = 50.0
"""Seconds until all names must resolve. RLIMAGES_HOSTS_SECONDS overrides it."""
RETRY_PAUSE = 0.5
"""Seconds between two look-ups of one name."""
NOTICE_AFTER = 5.0
"""Seconds after which the log lists the names that do not resolve yet."""


class UnknownHost(JobError):
    """An error of a job in which the names of some hosts do not resolve. `errno` becomes the exit status of `train`."""

    errno = os.EX_NOHOST  # 68


def limit_wait(toolkit):
    """Replace the wait for the other hosts in `toolkit`, a TrainingToolkit, by one with a time limit."""
    original = toolkit.entry_point._wait_hostname_resolution

    def wait_for_hosts():
        config = toolkit.environment.read_resource_config()
        if len(config["hosts"]) > 1:
            timeout = float(os.environ.get("RLIMAGES_HOSTS_SECONDS") or DEFAULT_TIMEOUT)
            wait_for_addresses(config["hosts"], timeout)
        signals.check_not_stopped()
        signals.mark_script_started()

    wait_for_hosts.__doc__ = original.__doc__
    toolkit.entry_point._wait_hostname_resolution = wait_for_hosts


def wait_for_addresses(names, timeout, resolve=socket.gethostbyname, write=sys.stderr.write):
    """Wait until all host names in `names` resolve.

    After `timeout` seconds, raises UnknownHost with the names that do not resolve. `resolve` looks up a name and raises
    OSError if that fails. `write` prints a notice to the log.
    """
    missing = set(names)
    # One thread for each name, because a look-up takes half a minute to fail if the name server does not answer.
    for name in names:
        threading.Thread(target=_look_up, args=(name, missing, resolve), daemon=True).start()
    started = time.time()
    noticed = False
    while missing:
        waited = time.time() - started
        if waited > timeout:
            raise UnknownHost(
                "no address for %s after %.0f s: the hosts of resourceconfig.json are %s, and each must resolve"
                % (_join(missing), timeout, _join(names))
            )
        if waited > NOTICE_AFTER and not noticed:
            write("rlimages: waiting for an address of %s, at most %.0f s\n" % (_join(missing), timeout))
            noticed = True
        time.sleep(0.02)


def _look_up(name, missing, resolve):
    while name in missing:
        try:
            resolve(name)
        except (OSError, UnicodeError):
            time.sleep(RETRY_PAUSE)
        else:
            missing.discard(name)


def _join(names):
    return ", ".join(sorted(names))
