"""Start the process of a model, send it requests, and replace it when it dies or does not answer."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time

from sagemaker_rl.serving.channel import Channel

LOAD_ATTEMPTS = 3  # times that the process may die while it loads the model for the first time; then the server ends
STABLE_SECONDS = 10.0  # a process that dies sooner than this is restarted after a pause, except the first time
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 30.0  # seconds; each pause is twice the one before
PING_SECONDS = 1.5  # SageMaker waits 2 seconds for /ping
MISSED_PINGS = 3  # unanswered pings in a row after which an idle process is restarted; fewer may be a busy machine
STOP_SECONDS = 8.0  # seconds that the process has to end when the server ends
LOAD_WAIT = 5.0  # seconds that a request waits for a model that is being loaded or restarted


class NotReady(Exception):
    """The model cannot answer yet: it is being loaded or started again. The message is the state of its process."""


class Busy(Exception):
    """A request waited too long in the queue."""


class ModelFailure(Exception):
    """The model's process died or did not answer a request in time."""


class _Child:
    """One process of the model and the server's end of its socket.

    It runs sagemaker_rl.serving.worker with `module` and `folder`, in the environment `environ`. Creating it raises
    OSError if the process cannot be started.
    """

    def __init__(self, module, folder, environ):
        server_end, model_end = socket.socketpair()
        try:
            argv = [sys.executable, "-m", "sagemaker_rl.serving.worker", module, folder, str(model_end.fileno())]
            self.process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, pass_fds=[model_end.fileno()], env=environ, start_new_session=True
            )
        except OSError:
            server_end.close()
            raise
        finally:
            model_end.close()
        self.channel = Channel(server_end)
        self.started = time.monotonic()
        self.missed_pings = 0

    def kill(self):
        """Kill the process and all processes that it started."""
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def describe_exit(code):
    """Return how a process ended, as text: `was ended by SIGSEGV` or `ended with status 1`.

    `code` is its exit code as `subprocess` gives it.
    """
    if code < 0:
        return "was ended by {}".format(signal.Signals(-code).name)
    return "ended with status {}".format(code)


class ModelProcess:
    """The model's process, and after a restart the next one.

    `module` has the class Model, `folder` the model, and `seconds` is the limit for one request. log(sentence) and
    give_up(sentence) are called from a thread. give_up is called once, if the model cannot be loaded. `environ` is the
    environment of the process.
    """

    def __init__(self, module, folder, seconds, log, give_up, environ=None):
        self._module, self._folder, self._environ = module, folder, environ
        self._seconds, self._log, self._give_up = seconds, log, give_up
        self._lock = threading.Lock()
        self._child = None
        self._loaded = threading.Event()
        self._number = 0
        self._state = "the model is being loaded"
        self._stopped = False
        self._facts = {}

    def start(self):
        """Start the model's process and restart it whenever it ends, in a thread."""
        threading.Thread(target=self._watch, name="model-watch", daemon=True).start()

    def stop(self):
        """End the model's process and restart it no more. It is killed if it does not end within STOP_SECONDS."""
        self._stopped = True
        child = self._child
        if child is None:
            return
        child.channel.close()
        try:
            child.process.wait(timeout=STOP_SECONDS)
        except subprocess.TimeoutExpired:
            pass
        child.kill()

    def facts(self):
        """Return what the model declares: a dictionary with `columns`, `keys` and `answers`.

        Raises NotReady if the model is not loaded within LOAD_WAIT seconds.
        """
        self._loaded_child()
        return self._facts

    def ask(self, verb, value):
        """Send one request to the model and return its answer, (outcome, value).

        The docstring of sagemaker_rl.serving.worker describes `verb`, `value` and the answer. Requests are sent one at
        a time. Raises NotReady if the model is not loaded within LOAD_WAIT seconds, Busy if the request waits longer
        than the server's `seconds`, ModelFailure if the process dies or does not answer in that time.
        """
        self._loaded_child()
        if not self._lock.acquire(timeout=self._seconds):
            raise Busy("the model was busy for {:g} s".format(self._seconds))
        try:
            while True:
                child = self._loaded_child()
                try:
                    number = self._send(child, verb, value, self._seconds)
                except (EOFError, OSError):  # the process died before it read the request: the next one gets it
                    self._lose(child)
                    continue
                return self._receive(child, number, self._seconds)
        except socket.timeout:
            self._lose(child)
            raise ModelFailure("the model gave no answer within {:g} s".format(self._seconds)) from None
        except (EOFError, OSError):
            words = self._exit_of(child)
            self._lose(child)
            raise ModelFailure("the model's process {}".format(words)) from None
        finally:
            self._lock.release()

    def health(self):
        """Return None if the model answers a ping or is busy with a request, else one sentence why it does not answer.

        A busy model counts as healthy: `ask` limits how long it can be busy.
        """
        child = self._child
        if child is None:
            return self._state
        if not self._lock.acquire(False):
            return None
        try:
            self._receive(child, self._send(child, "ping", None, PING_SECONDS), PING_SECONDS)
            child.missed_pings = 0
            return None
        except socket.timeout:
            child.missed_pings += 1
            if child.missed_pings >= MISSED_PINGS:
                self._lose(child)
            return "the model's process does not answer"
        except (EOFError, OSError):
            self._lose(child)
            return self._state
        finally:
            self._lock.release()

    def _loaded_child(self):
        self._loaded.wait(LOAD_WAIT)
        child = self._child
        if child is None:
            raise NotReady(self._state)
        return child

    def _send(self, child, verb, value, seconds):
        self._number += 1
        child.channel.send((self._number, verb, value), seconds)
        return self._number

    def _receive(self, child, number, seconds):
        answer_number = 0
        while answer_number < number:  # skip the answer to an earlier ping that timed out
            answer_number, outcome, value = child.channel.receive(seconds)
        return outcome, value

    def _lose(self, child):
        """Kill the process `child`, which is no longer usable; `_watch` notices and starts another one."""
        child.kill()
        if self._child is child:
            self._state = "the model's process was lost; it is started again"
            self._loaded.clear()
            self._child = None

    def _exit_of(self, child):
        try:
            return describe_exit(child.process.wait(timeout=1))
        except subprocess.TimeoutExpired:
            return "closed its connection"

    def _watch(self):
        """Start the model's process whenever there is none, until the server ends or the model cannot be loaded."""
        was_loaded, deaths, pause = False, 0, None
        while not self._stopped:
            try:
                child = _Child(self._module, self._folder, self._environ)
            except OSError as error:  # out of memory or processes: this may pass
                self._state = "the model's process cannot be started: {}".format(error.strerror)
                self._log(self._state)
                time.sleep(LONGEST_PAUSE)
                continue
            try:
                outcome, value = child.channel.receive()
            except (EOFError, OSError):
                outcome, value = "died", None
            if outcome == "ready":
                was_loaded, self._facts = True, value
                self._child = child
                self._loaded.set()
                self._log(
                    "the model is ready, {:.1f} s after its process started".format(time.monotonic() - child.started)
                )
            code = child.process.wait()
            self._loaded.clear()
            self._child = None
            child.kill()  # its child processes
            child.channel.close()
            if self._stopped:
                return
            if outcome == "unloadable":
                reason = value
            else:
                deaths += 1
                phase = "" if outcome == "ready" else " while it loaded the model"
                reason = "the model's process {}{}".format(describe_exit(code), phase)
            if not was_loaded and (outcome == "unloadable" or deaths == LOAD_ATTEMPTS):
                self._give_up(reason)
                return
            self._state = reason + "; it is started again"
            self._log(self._state)
            if outcome == "ready" and (pause is None or time.monotonic() - child.started > STABLE_SECONDS):
                pause = 0.0
            else:
                pause = min(LONGEST_PAUSE, 2 * pause if pause else FIRST_PAUSE)
            time.sleep(pause)
