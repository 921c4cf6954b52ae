"""The server's side of a model's process: it is started, asked, watched, and replaced when it dies or hangs."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

from sagemaker_rl.serving.channel import Channel

LOADS = 3  # deaths while the model is loaded, before the first success, until the server gives up
STABLE = 10.0  # seconds; a process that dies sooner, and not for the first time, is started again after a pause
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 30.0  # seconds; each is twice the one before
PING = 1.5  # seconds; SageMaker waits 2
SILENCES = 3  # pings in a row without an answer, until an idle process is started again: one may be a busy machine
LAST = 8.0  # seconds that a process has to end when the server does
PATIENCE = 5.0  # seconds that a request waits for a model that is being loaded or started again


class NotReady(Exception):
    """The model is being loaded, or was lost and is not back yet."""


class Busy(Exception):
    """A request waited for its turn in vain."""


class Failure(Exception):
    """The model died, hung, or failed while it was asked."""


class _Child:
    """One process and its socket."""

    def __init__(self, module, folder, environ):
        mine, its = socket.socketpair()
        try:
            argv = [sys.executable, "-m", "sagemaker_rl.serving.worker", module, folder, str(its.fileno())]
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, pass_fds=[its.fileno()], env=environ, start_new_session=True
            )
        except OSError:
            mine.close()
            raise
        finally:
            its.close()
        self.channel = Channel(mine)
        self.began = time.monotonic()
        self.silences = 0

    def kill(self):
        """End the process and whatever it started."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def ending(code):
    """`was ended by SIGSEGV`, `ended with status 1`."""
    if code < 0:
        return "was ended by {}".format(signal.Signals(-code).name)
    return "ended with status {}".format(code)


class ModelProcess:
    """The model's process, whichever one it is at present.

    log(sentence) and give_up(sentence) are called from a thread: the second once, if the model cannot be loaded at all.
    """

    def __init__(self, module, folder, seconds, log, give_up, environ=None):
        self._module, self._folder, self._environ = module, folder, environ
        self._seconds, self._log, self._give_up = seconds, log, give_up
        self._turn = threading.Lock()
        self._child = None
        self._up = threading.Event()
        self._number = 0
        self._state = "the model is being loaded"
        self._stopped = False
        self._facts = {}

    def start(self):
        """Start the process and its watch."""
        threading.Thread(target=self._watch, name="model-watch", daemon=True).start()

    def stop(self):
        """End the process, which has a few seconds for that."""
        self._stopped = True
        child = self._child
        if child is None:
            return
        child.channel.close()
        try:
            child.process.wait(timeout=LAST)
        except subprocess.TimeoutExpired:
            pass
        child.kill()

    def facts(self):
        """What the model said of itself: its columns, keys, and whether it answers. Raises NotReady after PATIENCE."""
        self._ready()
        return self._facts

    def ask(self, verb, value):
        """What the model says to one request: (outcome, value) of `model_worker`; one request at a time.

        Raises NotReady after PATIENCE, Busy after the server's seconds in the queue, Failure.
        """
        self._ready()
        if not self._turn.acquire(timeout=self._seconds):
            raise Busy("the model was busy for {:g} s".format(self._seconds))
        try:
            while True:
                child = self._ready()
                try:
                    number = self._send(child, verb, value, self._seconds)
                except (EOFError, OSError):  # it was dead before it could read the question
                    self._lose(child)
                    continue
                return self._receive(child, number, self._seconds)
        except socket.timeout:
            self._lose(child)
            raise Failure("the model gave no answer within {:g} s".format(self._seconds)) from None
        except (EOFError, OSError):
            words = self._last_words(child)
            self._lose(child)
            raise Failure("the model's process {}".format(words)) from None
        finally:
            self._turn.release()

    def health(self):
        """None if the model answers, else why not. A busy model is healthy: `ask` sees to it that that ends."""
        child = self._child
        if child is None:
            return self._state
        if not self._turn.acquire(False):
            return None
        try:
            self._receive(child, self._send(child, "ping", None, PING), PING)
            child.silences = 0
            return None
        except socket.timeout:
            child.silences += 1
            if child.silences >= SILENCES:
                self._lose(child)
            return "the model's process does not answer"
        except (EOFError, OSError):
            self._lose(child)
            return self._state
        finally:
            self._turn.release()

    def _ready(self):
        self._up.wait(PATIENCE)
        child = self._child
        if child is None:
            raise NotReady(self._state)
        return child

    def _send(self, child, verb, value, seconds):
        self._number += 1
        child.channel.send((self._number, verb, value), seconds)
        return self._number

    def _receive(self, child, number, seconds):
        its_number = 0
        while its_number < number:  # the answer to a ping that came too late
            its_number, outcome, said = child.channel.receive(seconds)
        return outcome, said

    def _lose(self, child):
        """End a process that is of no more use; `_watch` sees that, and starts another."""
        child.kill()
        if self._child is child:
            self._state = "the model's process was lost; it is started again"
            self._up.clear()
            self._child = None

    def _last_words(self, child):
        try:
            return ending(child.process.wait(timeout=1))
        except subprocess.TimeoutExpired:
            return "closed its socket"

    def _watch(self):
        """Start a process whenever there is none, for ever."""
        loaded, deaths, pause = False, 0, None
        while not self._stopped:
            try:
                child = _Child(self._module, self._folder, self._environ)
            except OSError as error:  # no memory or no process left for it; later there may be
                self._state = "the model's process cannot be started: {}".format(error.strerror)
                self._log(self._state)
                time.sleep(LONGEST_PAUSE)
                continue
            try:
                outcome, said = child.channel.receive()
            except (EOFError, OSError):
                outcome, said = "died", None
            if outcome == "ready":
                loaded, self._facts = True, said
                self._child = child
                self._up.set()
                self._log("the model is ready, {:.1f} s after its process began".format(time.monotonic() - child.began))
            code = child.process.wait()
            self._up.clear()
            self._child = None
            child.kill()  # what it started
            child.channel.close()
            if self._stopped:
                return
            if outcome == "unloadable":
                reason = said
            else:
                deaths += 1
                doing = "" if outcome == "ready" else " while it loaded the model"
                reason = "the model's process {}{}".format(ending(code), doing)
            if not loaded and (outcome == "unloadable" or deaths == LOADS):
                self._give_up(reason)
                return
            self._state = reason + "; it is started again"
            self._log(self._state)
            if outcome == "ready" and (pause is None or time.monotonic() - child.began > STABLE):
                pause = 0.0
            else:
                pause = min(LONGEST_PAUSE, 2 * pause if pause else FIRST_PAUSE)
            time.sleep(pause)
