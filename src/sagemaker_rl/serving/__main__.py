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
    """An error that ends the program with the exit status `status` and the message `sentence`."""

    def __init__(self, status, sentence):
        Exception.__init__(self, sentence)
        self.status = status


def check_port(port):
    """Raise ServeError if `port` is in use or may not be used.

    gunicorn itself would try five times and print a traceback.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError as error:
            raise ServeError(BAD_ENVIRONMENT, "port {} cannot be used: {}".format(port, error.strerror)) from None


def temporary_folder():
    """Return a writable folder for gunicorn's temporary files.

    /dev/shm is first, because it is writable also where the root file system is read-only. Raises ServeError if neither
    /dev/shm, nor TMPDIR, nor /tmp is writable.
    """
    for folder in ("/dev/shm", os.environ.get("TMPDIR"), "/tmp"):
        if folder and os.access(folder, os.W_OK | os.X_OK):
            return folder
    raise ServeError(
        BAD_ENVIRONMENT, "no folder for temporary files is writable: neither /dev/shm, nor TMPDIR, nor /tmp"
    )


def model_environment(settings):
    """Return this process's environment, with the threads of numeric libraries divided among the workers of `settings`.

    The models' processes get it. Without that, the libraries of each worker would start one thread for each processor.
    A number of threads that the environment sets is kept.
    """
    environ = dict(os.environ)
    threads = str(max(1, settings.processors // settings.workers))
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        environ.setdefault(name, threads)
    return environ


def on_exit(arbiter, worker):
    """End the model's process when the gunicorn worker `worker` exits.

    gunicorn calls this; `arbiter` is its main process.
    """
    if isinstance(getattr(worker, "wsgi", None), Server):
        worker.wsgi.close()


def on_request(worker, request):
    """Close the connection of `request` after the answer if `worker` is ending.

    gunicorn calls this before each request. So a busy client does not keep the connection open.
    """
    if not worker.alive and hasattr(request, "force_close"):
        request.force_close()


def worker_class():
    """Return the name of gunicorn's worker class: `gevent`, or `gthread` if the image has no gevent.

    With gevent, slow clients occupy no thread.
    """
    try:
        importlib.import_module("gunicorn.workers.ggevent")
    except (ImportError, RuntimeError):
        return "gthread"
    return "gevent"


class GiveUpFlag:
    """One byte of shared memory that says whether a worker found that the model cannot be loaded. True if one did."""

    def __init__(self):
        self._shared = mmap.mmap(-1, 1)

    def give_up(self, sentence):
        """Set the flag, log `sentence` unless the flag was set, and end the server. Called in a worker."""
        if not self:  # all workers fail alike: log the sentence once
            log(sentence)
        self._shared[0] = 1
        os.kill(os.getppid(), signal.SIGTERM)
        os._exit(0)  # a worker that has just started may miss gunicorn's signal

    def __bool__(self):
        return self._shared[0] == 1


def application(module, settings, give_up_flag):
    """Return gunicorn's application: the server, and in each worker a process for the model.

    `module` is the name of the module with the class Model; `give_up_flag` is set if the model cannot be loaded. Raises
    ServeError for invalid options in GUNICORN_CMD_ARGS.
    """
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
    """Serve the model with the class Model of the module named `module` until SIGTERM.

    Raises ServeError if the image cannot serve with that module, a setting or the port is invalid, there is no model
    that can be loaded, or gunicorn fails.
    """
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
    """Run the server and return the exit status of the program. `arguments` has one item, the module's name."""
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
