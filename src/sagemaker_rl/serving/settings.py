"""What the environment says about serving: SageMaker's variables and the server's own, see docs/serving.md."""

import os

from sagemaker_rl.serving import formats

MIB = 1024 * 1024
PORT, SECONDS, QUEUE = 8080, 60, 64
PAYLOAD = 6 * MIB  # what SageMaker lets through to an endpoint
BATCH_PAYLOAD = 100 * MIB  # the largest MaxPayloadInMB of a batch transform; 0 there means no limit
MOST_WORKERS = 4


class SettingsError(Exception):
    """A variable of the environment is not what it should be: one sentence."""


def processors():
    """How many processors this process may run on."""
    return len(os.sched_getaffinity(0))


def _number(environ, name, default, least, most=None, kind=int):
    text = environ.get(name, "").strip()
    if not text:
        return default
    try:
        value = kind(text)
    except ValueError:
        value = None
    # A number that is not one (nan) is not at least anything.
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
    wanted = environ.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT", "").strip()
    if not wanted:
        return None
    kind = formats.media_type(wanted)
    if kind not in formats.KINDS:
        raise SettingsError(
            "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT is {!r}, not one of {}".format(wanted, ", ".join(formats.KINDS))
        )
    return kind


class Settings:
    """One server's settings.

    port: of HTTP. workers: HTTP processes, each with one process for the model. seconds: the longest that a model may
    take for one request, and that a request may wait for its turn. payload: bytes of a request's body. queue: requests
    that a worker has at a time, served or waiting. accept: the type of a reply if the client has no wish, or None.
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
        # A batch transform says how many requests it will send at a time.
        at_once = _number(environ, "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS", 1, 0)
        self.queue = max(_number(environ, "RLIMAGES_SERVE_QUEUE", QUEUE, 1, 4096), at_once)
        self.accept = _accept(environ)
        self.folder = os.path.join(environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"), "model")

    def execution_parameters(self):
        """What a batch transform asks before it begins; MaxPayloadInMB is at least 1, as SageMaker wants it."""
        return {
            "MaxConcurrentTransforms": self.workers,
            "BatchStrategy": "MULTI_RECORD",
            "MaxPayloadInMB": max(1, self.payload // MIB),
        }
