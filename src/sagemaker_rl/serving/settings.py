"""Read the server's settings from environment variables: see docs/serving.md."""

import os

from sagemaker_rl.serving import formats

MIB = 1024 * 1024
PORT, SECONDS, QUEUE = 8080, 60, 64
PAYLOAD = 6 * MIB  # SageMaker's limit for requests to an endpoint
BATCH_PAYLOAD = 100 * MIB  # SageMaker's limit for MaxPayloadInMB of a batch transform; 0 means no limit there
MOST_WORKERS = 4


class SettingsError(Exception):
    """An invalid value of an environment variable. The message is one sentence that names the variable."""


def processors():
    """Return the number of processors that this process may run on."""
    return len(os.sched_getaffinity(0))


def _number(environ, name, default, least, most=None, kind=int):
    text = environ.get(name, "").strip()
    if not text:
        return default
    try:
        value = kind(text)
    except ValueError:
        value = None
    # `not value >= least` is also true for NaN.
    if value is None or not value >= least or (most is not None and value > most):
        span = "from {} to {}".format(least, most) if most is not None else "of {} or more".format(least)
        what = "a whole number" if kind is int else "a number"
        raise SettingsError("{} is {!r}, not {} {}".format(name, text, what, span))
    return value


def _payload(environ):
    limit = _number(environ, "MAX_CONTENT_LENGTH", None, 1)
    if limit is None:
        limit = _number(environ, "SAGEMAKER_MAX_PAYLOAD_IN_MB", None, 0)
        if limit is not None:
            limit = limit * MIB or BATCH_PAYLOAD
    return limit or PAYLOAD


def _accept(environ):
    accept = environ.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "").strip()
    if not accept:
        return None
    kind = formats.media_type(accept)
    if kind not in formats.TYPES:
        raise SettingsError(
            "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT is {!r}, not one of {}".format(accept, ", ".join(formats.TYPES))
        )
    return kind


class Settings:
    """The settings of one server, read from the environment variables in `environ`.

    port: the HTTP port. workers: the number of HTTP processes, each with one process for the model; the argument
    `workers` is its default for this kind of model. processors: the number of processors of this host that may be used.
    seconds: the longest time that a model may take for one request, and that a request may wait in the queue. payload:
    the largest request body, in bytes. queue: the most requests that a worker holds at a time, being served or waiting.
    accept: the type of a reply to clients that send no Accept header, or None for the type of the request. folder: the
    model's folder.

    Creating it raises SettingsError for an invalid value.
    """

    def __init__(self, environ, workers=None):
        self.port = _number(environ, "SAGEMAKER_BIND_TO_PORT", PORT, 1, 65535)
        self.processors = processors()
        self.workers = (
            _number(environ, "SAGEMAKER_MODEL_SERVER_WORKERS", None, 1, 256)
            or _number(environ, "NUM_WORKERS", None, 1, 256)
            or workers
            or min(self.processors, MOST_WORKERS)
        )
        self.seconds = _number(environ, "SAGEMAKER_MODEL_SERVER_TIMEOUT", SECONDS, 0.1, 86400, float)
        self.payload = _payload(environ)
        # A batch transform announces how many requests it sends at a time: all of them must fit in the queue.
        transforms = _number(environ, "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS", 1, 0)
        self.queue = max(_number(environ, "RLIMAGES_SERVE_QUEUE", QUEUE, 1, 4096), transforms)
        self.accept = _accept(environ)
        self.folder = os.path.join(environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"), "model")

    def execution_parameters(self):
        """Return the reply, a dictionary, to a batch transform that asks for its parameters before it starts.

        MaxPayloadInMB is at least 1, the least that SageMaker accepts.
        """
        return {
            "MaxConcurrentTransforms": self.workers,
            "BatchStrategy": "MULTI_RECORD",
            "MaxPayloadInMB": max(1, self.payload // MIB),
        }
