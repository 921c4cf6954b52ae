"""Keep the training toolkit alive after SIGTERM until the training script has ended.

Without this the toolkit ends at once, and the container with it, while the script still writes its checkpoint. Every
process of the job gets the signal, so it need not be forwarded to the script. If the script has not started yet, the
job ends with a reason.
"""

import multiprocessing
import os
import signal


class JobStopped(Exception):
    """SIGTERM arrived before the training script started. `errno` becomes the exit status of `train`."""

    errno = 128 + signal.SIGTERM


class _State:
    launcher = os.getpid()
    stopped = False
    script_started = False


def handle_sigterm():
    """Install the handler for SIGTERM.

    It keeps this process alive, or raises JobStopped if no program of the job runs yet.
    """
    signal.signal(signal.SIGTERM, _on_sigterm)


def mark_script_started():
    """Record that the script starts now. From now on the handler raises nothing: the toolkit reports the job's end."""
    _State.script_started = True


def is_stopped():
    """Return whether SIGTERM has arrived."""
    return _State.stopped


def check_not_stopped():
    """Raise `JobStopped` if SIGTERM has arrived. Call this before a program is started."""
    if is_stopped():
        raise JobStopped("received SIGTERM before the training script started")


def _on_sigterm(number, frame):
    if os.getpid() != _State.launcher:
        # The toolkit forks a process that uploads intermediate output. It ends when the job has ended.
        return
    _State.stopped = True
    if not _State.script_started and not _has_children():
        check_not_stopped()


def _has_children():
    """Return whether this process has a child process other than the toolkit's uploading process."""
    ignored = {str(child.pid) for child in multiprocessing.active_children()}
    for name in os.listdir("/proc"):
        if name.isdigit() and name not in ignored:
            try:
                with open("/proc/" + name + "/stat") as stream:
                    # The second field is the program's name in parentheses, which may contain spaces and parentheses.
                    parent = stream.read().rpartition(")")[2].split()[1]
            except OSError:  # the process ended meanwhile
                continue
            if int(parent) == os.getpid():
                return True
    return False
