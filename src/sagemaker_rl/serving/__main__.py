"""Run the model server: gunicorn with the application of sagemaker_rl.serving.app. See docs/serving.md.

    python -m sagemaker_rl.serving MODULE      MODULE has the class Model that sagemaker_rl.serving describes

It ends with one sentence and an exit status: 0 SIGTERM, 64 an argument, 65 no model that can be loaded, 69 the image
cannot serve, 70 the server failed, 78 the environment is invalid or the port is in use.
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

USAGE, NO_MODEL, UNSUPPORTED, SERVER_FAILED, BAD_ENVIRONMENT = 64, 65, 69, 70, 78
GRACE = 20  # seconds for open requests, and then for the model to end; SageMaker kills after 30
KEEPALIVE = 5  # seconds that an idle connection stays open; after SIGTERM the server waits for it
WORKER_CONNECTIONS = 1000  # of one worker; further ones wait in the kernel's queue
WORKER_TIMEOUT = 60  # seconds without a heartbeat after which gunicorn replaces a worker


class ServeError(Exception):
    """The program ends with a status and one sentence."""

    def __init__(self, status, sentence):
        Exception.__init__(self, sentence)
        self.status = status


def check_port(port):
    """Raise ServeError if the port is in use. gunicorn itself would try five times and print a traceback."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise ServeError(BAD_ENVIRONMENT, "port {} cannot be used: {}".format(port, error.strerror)) from None


def temporary_folder():
    """Return a writable folder for gunicorn's temporary files.

    /dev/shm is first, because it is writable also where the root file system is read-only. Raises ServeError.
    """
    for folder in ("/dev/shm", os.environ.get("TMPDIR"), "/tmp"):
        if folder and os.access(folder, os.W_OK | os.X_OK):
            return folder
    raise ServeError(
        BAD_ENVIRONMENT, "no folder for temporary files is writable: neither /dev/shm, nor TMPDIR, nor /tmp"
    )


def model_environment(settings):
    """Return the environment of the models' processes, with the threads of numeric libraries divided among the workers.

    Without that, the libraries of each worker would start one thread for each processor.
    """
    environ = dict(os.environ)
    threads = str(max(1, settings.processors // settings.workers))
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        environ.setdefault(name, threads)
    return environ


def on_exit(arbiter, worker):
    """End the model's process when a gunicorn worker exits."""
    if isinstance(getattr(worker, "wsgi", None), Server):
        worker.wsgi.close()


def on_request(worker, request):
    """Close the connection after this answer if the worker is ending, so that a busy client does not keep it open."""
    if not worker.alive and hasattr(request, "force_close"):
        request.force_close()


def worker_class():
    """Return gunicorn's worker class: gevent, where slow clients occupy no thread, or gthread without gevent."""
    try:
        importlib.import_module("gunicorn.workers.ggevent")
    except (ImportError, RuntimeError):
        return "gthread"
    return "gevent"


class GiveUpFlag:
    """One byte of shared memory that says whether a worker found that the model cannot be loaded."""

    def __init__(self):
        self._shared = mmap.mmap(-1, 1)

    def give_up(self, sentence):
        """Set the flag and end the server; called in a worker."""
        if not self:  # all workers fail alike: log the sentence once
            log(sentence)
        self._shared[0] = 1
        os.kill(os.getppid(), signal.SIGTERM)
        os._exit(0)  # a worker that has just started may miss gunicorn's signal

    def __bool__(self):
        return self._shared[0] == 1


def application(module, settings, give_up_flag):
    """Return gunicorn's application: the server, and in each worker a process for the model. Raises ServeError."""
    from gunicorn.app.base import BaseApplication

    options = {
        "bind": "0.0.0.0:{}".format(settings.port),
        "workers": settings.workers,
        "worker_class": worker_class(),
        "threads": settings.queue + 16,  # for gthread: the whole queue, and some for /ping
        "worker_connections": WORKER_CONNECTIONS,
        "keepalive": KEEPALIVE,
        "graceful_timeout": GRACE,
        "timeout": WORKER_TIMEOUT,
        "worker_tmp_dir": temporary_folder(),
        "pre_request": on_request,
        "worker_exit": on_exit,
        "control_socket_disable": True,
        "loglevel": "warning",  # gunicorn's own messages: only warnings and errors
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
            # Created in the worker: locks that are created before gevent patches `threading` would block it.
            environ = model_environment(settings)
            model = ModelProcess(module, settings.folder, settings.seconds, log, give_up_flag.give_up, environ)
            model.start()
            return Server(settings, model)

    try:
        return Application()
    except SystemExit:
        raise ServeError(
            BAD_ENVIRONMENT,
            "GUNICORN_CMD_ARGS is {!r}: see gunicorn's message above".format(os.environ.get("GUNICORN_CMD_ARGS")),
        ) from None


def serve(module):
    """Serve models with the given module until SIGTERM. Raises ServeError."""
    try:
        adapter = importlib.import_module(module)
        import gunicorn  # noqa: F401
    except ImportError as error:
        raise ServeError(UNSUPPORTED, "this image cannot serve: {}".format(error)) from None
    try:
        settings = Settings(os.environ, getattr(adapter.Model, "workers", None))
    except SettingsError as error:
        raise ServeError(BAD_ENVIRONMENT, str(error)) from None
    check_port(settings.port)
    tempfile.tempdir = temporary_folder()
    log("port {}, {} worker(s), model in {}".format(settings.port, settings.workers, settings.folder))
    give_up_flag, arbiter_pid = GiveUpFlag(), os.getpid()
    try:
        application(module, settings, give_up_flag).run()
    except SystemExit as error:
        if os.getpid() != arbiter_pid:  # this is a worker: gunicorn decides its exit status
            raise
        if give_up_flag:
            raise ServeError(NO_MODEL, "without a model there is nothing to serve") from None
        if error.code:
            raise ServeError(SERVER_FAILED, "the server ended with status {}".format(error.code)) from None


def main(arguments):
    """Run the server and return the exit status of the program."""
    try:
        if len(arguments) != 1:
            raise ServeError(USAGE, "serve takes no arguments, not {!r}".format(" ".join(arguments[1:])))
        serve(arguments[0])
    except ServeError as error:
        log(str(error))
        return error.status
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
