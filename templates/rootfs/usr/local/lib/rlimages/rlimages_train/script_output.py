"""Hear what the training script says on standard error: it is passed on at once, and the end of it is kept.

The toolkit lets the script write to its own standard error, so that all it knows of a failure is the exit status.
"""

import os
import select
import subprocess
import threading
import time

from rlimages_train import signals

KEPT = 16384
"""Bytes: a deep traceback of Ray or TensorFlow fits."""
PATIENCE = 1.0
"""Seconds to wait at the end for words that a process in the background goes on saying."""


class Ear:
    """A pipe whose reader writes to this process's standard error."""

    def __init__(self):
        self._reader, self.writer = os.pipe()
        self._kept = bytearray()
        self._lock = threading.Lock()
        self._ended = False

    def open(self):
        """Begin to read; the writer belongs to others now."""
        os.close(self.writer)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        deaf = False
        while True:
            select.select([self._reader], [], [])
            with self._lock:
                piece = os.read(self._reader, 65536)
                if not piece:
                    self._ended = True
                    return
                self._kept += piece
                if len(self._kept) > 4 * KEPT:
                    del self._kept[:-KEPT]
                while piece and not deaf:
                    try:
                        piece = piece[os.write(2, piece) :]
                    except OSError:  # nobody reads the log any more; that must not stop the script
                        deaf = True

    def heard(self):
        """The last words until now, all of them passed on. Not until the end: a process may hold the pipe for good."""
        latest = time.time() + PATIENCE
        while True:
            with self._lock:
                quiet = self._ended or not select.select([self._reader], [], [], 0)[0]
                if quiet or time.time() > latest:
                    return bytes(self._kept[-KEPT:])
            time.sleep(0.001)


class _Last:
    words = b""


def last_words():
    """The end of what the program that ended last said on standard error."""
    return _Last.words


class Popen(subprocess.Popen):
    """A program of the job: the script, or pip before it."""

    def __init__(self, *args, **kwargs):
        signals.insist()
        self._ear = None
        _Last.words = b""
        # On a terminal there is somebody who reads, and progress bars look for the terminal.
        if kwargs.get("stderr") is None and not os.isatty(2):
            self._ear = Ear()
            kwargs["stderr"] = self._ear.writer
            if kwargs.get("stdout") is None and _one_stream():
                kwargs["stdout"] = self._ear.writer  # one stream stays one stream, in its order
        try:
            super().__init__(*args, **kwargs)
        finally:
            if self._ear is not None:
                self._ear.open()
        if signals.stopped():
            self.terminate()  # the signal came while this program did not quite exist

    def wait(self, *args, **kwargs):
        code = super().wait(*args, **kwargs)
        if self._ear is not None:
            _Last.words = self._ear.heard()
        return code


def _one_stream():
    try:
        return os.path.sameopenfile(1, 2)
    except OSError:  # there is no standard output
        return False


class _Subprocess:
    """The module `subprocess` as the toolkit's module `process` sees it."""

    Popen = Popen

    def __getattr__(self, name):
        return getattr(subprocess, name)


def listen(toolkit):
    """Have the toolkit start its programs with an ear."""
    toolkit.process.subprocess = _Subprocess()
