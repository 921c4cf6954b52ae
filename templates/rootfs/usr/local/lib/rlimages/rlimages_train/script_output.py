"""Forward the training script's standard error at once, and keep its end for the failure file.

The toolkit gives the script its own standard error. So when a script fails, the toolkit only knows the exit status.
"""

import os
import select
import subprocess
import threading
import time

from rlimages_train import signals

KEPT_BYTES = 16384
"""Bytes of standard error to keep: enough for a deep traceback of Ray or TensorFlow."""
DRAIN_SECONDS = 1.0
"""Seconds to wait, after a program has ended, for a background process that keeps writing to its standard error."""


class StderrPipe:
    """A pipe that copies its input to this process's standard error and keeps the end of it.

    writer: the descriptor that a program gets as its standard error.
    """

    def __init__(self):
        self._reader, self.writer = os.pipe()
        self._kept = bytearray()
        self._lock = threading.Lock()
        self._ended = False

    def start(self):
        """Start the thread that reads the pipe.

        Closes `writer` in this process, so that only the started program holds it.
        """
        os.close(self.writer)
        threading.Thread(target=self._forward, daemon=True).start()

    def _forward(self):
        log_closed = False
        while True:
            select.select([self._reader], [], [])
            with self._lock:
                chunk = os.read(self._reader, 65536)
                if not chunk:
                    self._ended = True
                    return
                self._kept += chunk
                if len(self._kept) > 4 * KEPT_BYTES:
                    del self._kept[:-KEPT_BYTES]
                while chunk and not log_closed:
                    try:
                        chunk = chunk[os.write(2, chunk) :]
                    except OSError:  # the reader of the log is gone; the script must go on
                        log_closed = True

    def tail(self):
        """Return the last KEPT_BYTES bytes of the input, after everything that the pipe holds was forwarded.

        Waits at most DRAIN_SECONDS, and not for the end of the input: a background process may keep the pipe open
        forever.
        """
        deadline = time.time() + DRAIN_SECONDS
        while True:
            with self._lock:
                empty = self._ended or not select.select([self._reader], [], [], 0)[0]
                if empty or time.time() > deadline:
                    return bytes(self._kept[-KEPT_BYTES:])
            time.sleep(0.001)


class _LastProgram:
    stderr = b""


def last_stderr():
    """Return the end of the standard error of the program that ended last, as bytes."""
    return _LastProgram.stderr


class Popen(subprocess.Popen):
    """A program that the toolkit starts: the script, or pip before it. The arguments are those of `subprocess.Popen`.

    Creating it raises JobStopped if SIGTERM has arrived.
    """

    def __init__(self, *args, **kwargs):
        signals.check_not_stopped()
        self._stderr_pipe = None
        _LastProgram.stderr = b""
        # A terminal stays as it is: a person reads it, and progress bars look for it.
        if kwargs.get("stderr") is None and not os.isatty(2):
            self._stderr_pipe = StderrPipe()
            kwargs["stderr"] = self._stderr_pipe.writer
            if kwargs.get("stdout") is None and _stdout_is_stderr():
                kwargs["stdout"] = self._stderr_pipe.writer  # keeps the order of the lines
        try:
            super().__init__(*args, **kwargs)
        finally:
            if self._stderr_pipe is not None:
                self._stderr_pipe.start()
        if signals.is_stopped():
            self.terminate()  # SIGTERM arrived before this program could receive it

    def wait(self, *args, **kwargs):
        """Wait for the program and return its exit status. Keep the end of its standard error for `last_stderr`.

        The arguments are those of `subprocess.Popen.wait`.
        """
        code = super().wait(*args, **kwargs)
        if self._stderr_pipe is not None:
            _LastProgram.stderr = self._stderr_pipe.tail()
        return code


def _stdout_is_stderr():
    try:
        return os.path.sameopenfile(1, 2)
    except OSError:  # standard output is closed
        return False


class _Subprocess:
    """A replacement for the module `subprocess`, with this module's `Popen` in place of the original."""

    Popen = Popen

    def __getattr__(self, name):
        return getattr(subprocess, name)


def capture_stderr(toolkit):
    """Make `toolkit`, a TrainingToolkit, start its programs with this module's `Popen`."""
    toolkit.process.subprocess = _Subprocess()
