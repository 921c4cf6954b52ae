"""SIGTERM. The toolkit dies of it at once, and with it the container, while the script still writes its checkpoint.

Every process of the job gets the signal, so the script needs nothing passed on: here the toolkit is kept alive until
the script has ended. Before there is a script, the job ends with a reason.
"""

import multiprocessing
import os
import signal


class Stopped(Exception):
    """The job was stopped before its script ran."""

    errno = 128 + signal.SIGTERM


class _State:
    launcher = os.getpid()
    stopped = False
    begun = False


def listen():
    """From now on SIGTERM ends what runs, not the one that reports how it ended."""
    signal.signal(signal.SIGTERM, _on_terminate)


def begin():
    """The script starts now: whatever ends the job from here on is for the toolkit to report."""
    _State.begun = True


def stopped():
    """Whether SIGTERM has come."""
    return _State.stopped


def insist():
    """Start nothing more once the job was stopped. Raises `Stopped`."""
    if stopped():
        raise Stopped("SIGTERM came before the training script had started")


def _on_terminate(number, frame):
    if os.getpid() != _State.launcher:
        # The toolkit's copy of itself that uploads intermediate output; it ends when the job has.
        return
    _State.stopped = True
    if not _State.begun and not _has_children():
        insist()


def _has_children():
    """Whether a process exists whose parent this is, the uploading one apart."""
    aside = {str(child.pid) for child in multiprocessing.active_children()}
    for name in os.listdir("/proc"):
        if name.isdigit() and name not in aside:
            try:
                with open("/proc/" + name + "/stat") as stream:
                    # The second field is the program's name in parentheses, and may hold anything.
                    parent = stream.read().rpartition(")")[2].split()[1]
            except OSError:  # ended meanwhile
                continue
            if int(parent) == os.getpid():
                return True
    return False
