"""The program behind `serve`: gunicorn with our application, sized by the environment. See docs/serving.md.

    python -m sagemaker_rl.serve MODULE      MODULE has the class Model of sagemaker_rl.serving

What ends it is one sentence and a status: 0 SIGTERM, 64 an argument, 65 no model or one that cannot be loaded, 69 the
image cannot serve, 70 the server itself failed, 78 the environment is wrong or the port taken.
"""

import importlib
import mmap
import os
import signal
import socket
import sys
import tempfile

from sagemaker_rl.serving.app import Server, log
from sagemaker_rl.serving.process import ModelProcess
from sagemaker_rl.serving.settings import Settings, SettingsError

USAGE, NO_MODEL, UNAVAILABLE, FAILED, WRONG = 64, 65, 69, 70, 78
GRACE = 20  # seconds for what is under way, and then for the model to end; SageMaker kills after 30
KEEPALIVE = 5  # seconds that an idle connection stays open, and with it, after SIGTERM, the server
CONNECTIONS = 1000  # of one worker; further ones wait in the kernel
SILENCE = 60  # seconds after which gunicorn replaces a worker that gives no sign of life


class Ending(Exception):
    """The program ends with a status and a sentence."""

    def __init__(self, status, sentence):
        Exception.__init__(self, sentence)
        self.status = status


def check_port(port):
    """Say now, and in one sentence, what gunicorn would try five times."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise Ending(WRONG, "port {} cannot be had: {}".format(port, error.strerror)) from None


def scratch():
    """A folder for gunicorn's small files. /dev/shm is there, and writable, also where the root is read-only."""
    for folder in ("/dev/shm", os.environ.get("TMPDIR"), "/tmp"):
        if folder and os.access(folder, os.W_OK | os.X_OK):
            return folder
    raise Ending(WRONG, "no folder for temporary files is writable: neither /dev/shm, nor TMPDIR, nor /tmp")


def environment_of_models(settings):
    """Without these the numeric libraries of each worker would start a thread for each processor."""
    environ = dict(os.environ)
    threads = str(max(1, settings.processors // settings.workers))
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        environ.setdefault(name, threads)
    return environ


def on_exit(arbiter, worker):
    """The model's process ends before the container does."""
    if isinstance(getattr(worker, "wsgi", None), Server):
        worker.wsgi.close()


def on_request(worker, request):
    """A worker that was told to end closes each connection after its answer, however busy its client is."""
    if not worker.alive and hasattr(request, "force_close"):
        request.force_close()


def worker_class():
    """gevent, in which no slow client keeps a thread; every image should have it. Without it, threads."""
    try:
        importlib.import_module("gunicorn.workers.ggevent")
    except (ImportError, RuntimeError):
        return "gthread"
    return "gevent"


class Verdict:
    """One byte that all processes of the server see: whether a worker found that there is nothing to serve."""

    def __init__(self):
        self._shared = mmap.mmap(-1, 1)

    def give_up(self, sentence):
        """End the server; called in a worker."""
        if not self:  # the other workers find the same
            log(sentence)
        self._shared[0] = 1
        os.kill(os.getppid(), signal.SIGTERM)
        os._exit(0)  # at once: a worker that has just begun may miss the signal that gunicorn sends it

    def __bool__(self):
        return self._shared[0] == 1


def application(module, settings, verdict):
    """The application of gunicorn: our server, and in each worker a process for the model."""
    from gunicorn.app.base import BaseApplication

    options = {
        "bind": "0.0.0.0:{}".format(settings.port),
        "workers": settings.workers,
        "worker_class": worker_class(),
        "threads": settings.queue + 16,  # of gthread: what waits for the model, and some for /ping
        "worker_connections": CONNECTIONS,
        "keepalive": KEEPALIVE,
        "graceful_timeout": GRACE,
        "timeout": SILENCE,
        "worker_tmp_dir": scratch(),
        "pre_request": on_request,
        "worker_exit": on_exit,
        "control_socket_disable": True,
        "loglevel": "warning",  # from here on, in the words of gunicorn: what is wrong
    }

    class Application(BaseApplication):
        def load_config(self):
            for name, value in options.items():
                if name in self.cfg.settings:
                    self.cfg.set(name, value)
            words = self.cfg.get_cmd_args_from_env()
            for name, value in vars(self.cfg.parser().parse_args(words)).items() if words else ():
                if value is not None and name != "args":
                    self.cfg.set(name, value)

        def load(self):
            # In the worker: locks made before gevent has patched them would stop it.
            environ = environment_of_models(settings)
            model = ModelProcess(module, settings.folder, settings.seconds, log, verdict.give_up, environ)
            model.start()
            return Server(settings, model)

    try:
        return Application()
    except SystemExit:
        raise Ending(
            WRONG, "GUNICORN_CMD_ARGS is {!r}: see above".format(os.environ.get("GUNICORN_CMD_ARGS"))
        ) from None


def serve(module):
    """Serve until SIGTERM. Raises Ending."""
    try:
        adapter = importlib.import_module(module)
        import gunicorn  # noqa: F401
    except ImportError as error:
        raise Ending(UNAVAILABLE, "this image cannot serve: {}".format(error)) from None
    try:
        settings = Settings(os.environ, getattr(adapter.Model, "workers", None))
    except SettingsError as error:
        raise Ending(WRONG, str(error)) from None
    check_port(settings.port)
    tempfile.tempdir = scratch()
    log("port {}, {} worker(s), model in {}".format(settings.port, settings.workers, settings.folder))
    verdict, own = Verdict(), os.getpid()
    try:
        application(module, settings, verdict).run()
    except SystemExit as ended:
        if os.getpid() != own:  # a worker, which ends as gunicorn says
            raise
        if verdict:
            raise Ending(NO_MODEL, "without a model there is nothing to serve") from None
        if ended.code:
            raise Ending(FAILED, "the server ended with status {}".format(ended.code)) from None


def main(arguments):
    """The exit status of the program."""
    try:
        if len(arguments) != 1:
            raise Ending(USAGE, "serve takes no arguments, not {!r}".format(" ".join(arguments[1:])))
        serve(arguments[0])
    except Ending as ending:
        log(str(ending))
        return ending.status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
