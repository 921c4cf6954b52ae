"""Answer SageMaker's requests: /ping, /invocations and /execution-parameters. See docs/serving.md.

This is a plain WSGI application. Every answer to a request that fails is a status and one sentence, never a traceback.
"""

import json
import socket
import sys
import threading

from sagemaker_rl.serving import formats
from sagemaker_rl.serving.process import Busy, ModelFailure, NotReady

STATUS = {
    200: "200 OK",
    204: "204 No Content",
    400: "400 Bad Request",
    404: "404 Not Found",
    405: "405 Method Not Allowed",
    406: "406 Not Acceptable",
    408: "408 Request Timeout",
    413: "413 Payload Too Large",
    415: "415 Unsupported Media Type",
    500: "500 Internal Server Error",
    503: "503 Service Unavailable",
}
PATHS = {"/ping": ("GET", "HEAD"), "/invocations": ("POST",), "/execution-parameters": ("GET", "HEAD")}
RETRY_AFTER = ("Retry-After", "1")
TEXT = "text/plain; charset=utf-8"
CHUNK = 1 << 16
BATCH = 1000  # observations of one request that the model gets at a time; other requests are served in between


class RequestError(Exception):
    """An error that answers a request with the HTTP status `status`, the text `sentence` and further `headers`.

    Each header is a pair of name and value.
    """

    def __init__(self, status, sentence, *headers):
        Exception.__init__(self, sentence)
        self.status, self.headers = status, list(headers)


def log(sentence):
    """Write `sentence` as one line to the container's log."""
    sys.stderr.write("rlimages: " + sentence + "\n")
    sys.stderr.flush()


class Server:
    """The WSGI application of one HTTP process.

    `settings` is a Settings, `model` a ModelProcess or an object with its methods, and log(sentence) is called for each
    request that fails.
    """

    def __init__(self, settings, model, log=log):
        self._settings, self._model, self._log = settings, model, log
        self._slots = threading.BoundedSemaphore(settings.queue)

    def __call__(self, environ, start_response):
        path = environ.get("PATH_INFO", "")
        try:
            status, kind, text, headers = self._answer(path, environ)
        except RequestError as refusal:
            status, kind, headers = refusal.status, TEXT, refusal.headers
            text = " ".join(str(refusal).split()) + "\n"  # the sentence may quote the request, line breaks included
        except Exception as error:  # noqa: BLE001 - a fault of the server fails one request only
            self._log("{!r}: {!r}".format(path[:80], error))
            status, kind, text, headers = 500, TEXT, "the server failed: {}\n".format(type(error).__name__), []
        if status >= 400 and (path, status) != ("/ping", 503):
            self._log("{} {}: {}".format(status, path if path in PATHS else "-", text.strip()))
        body = text.encode("utf-8")
        headers = headers + [("Content-Length", str(len(body)))]
        if body:
            headers.append(("Content-Type", kind))
        start_response(STATUS[status], headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    def close(self):
        """End the model's process."""
        self._model.stop()

    def _answer(self, path, environ):
        """Return (status, type, text, headers): the answer to the request `environ` (a WSGI environment) for `path`.

        `headers` is a list of further pairs. Raises RequestError for a request that fails.
        """
        if path not in PATHS:
            raise RequestError(404, "no such path {!r}; known are {}".format(path[:80], ", ".join(sorted(PATHS))))
        methods = PATHS[path]
        if environ["REQUEST_METHOD"] not in methods:
            raise RequestError(405, "{} must be called with {}".format(path, methods[0]), ("Allow", ", ".join(methods)))
        if path == "/ping":
            reason = self._model.health()
            return (503, TEXT, reason + "\n", [RETRY_AFTER]) if reason else (200, TEXT, "", [])
        if path == "/execution-parameters":
            return 200, formats.JSON, json.dumps(self._settings.execution_parameters()), []
        return self._invoke(environ)

    def _invoke(self, environ):
        kind = formats.media_type(environ.get("CONTENT_TYPE") or formats.JSON)
        if kind not in formats.TYPES:
            raise RequestError(415, "the type {} is not one of {}".format(kind[:80], ", ".join(formats.TYPES)))
        default = self._settings.accept or kind
        reply_type = formats.negotiate(environ.get("HTTP_ACCEPT", ""), default)
        if reply_type is None:
            raise RequestError(406, "Accept allows none of {}".format(", ".join(formats.TYPES)))
        if not self._slots.acquire(False):
            raise RequestError(503, "the queue is full: it holds {} requests".format(self._settings.queue), RETRY_AFTER)
        try:
            body = self._body(environ)
            if not body:
                return 204, TEXT, "", []
            return self._decide(kind, reply_type, body)
        finally:
            self._slots.release()

    def _body(self, environ):
        """Return the whole body of the request `environ` as bytes.

        Raises RequestError if the body is too long, cannot be read or does not arrive in time.
        """
        limit = self._settings.payload
        too_large = RequestError(413, "the body is longer than {} bytes".format(limit))
        length = int(environ.get("CONTENT_LENGTH") or 0)
        if length > limit:
            raise too_large
        # gunicorn's name for the socket; `wsgi.input` has no timeout of its own.
        client = environ.get("gunicorn.socket")
        parts, size = [], 0
        try:
            if client is not None:
                client.settimeout(self._settings.seconds)
            while True:
                part = environ["wsgi.input"].read(min(CHUNK, limit + 1 - size))
                size += len(part)
                if size > limit:  # a chunked body has no Content-Length
                    raise too_large
                if not part and size < length:
                    raise RequestError(400, "the body ended after {} of {} bytes".format(size, length))
                if not part:
                    return b"".join(parts)
                parts.append(part)
        except socket.timeout:
            raise RequestError(408, "the body did not arrive within {:g} s".format(self._settings.seconds)) from None
        except RequestError:
            raise
        except Exception as error:  # noqa: BLE001 - gunicorn has its own exceptions for invalid chunks
            raise RequestError(400, "the body cannot be read: {}".format(type(error).__name__)) from None
        finally:
            if client is not None:
                client.settimeout(None)

    def _decide(self, kind, reply_type, body):
        try:
            facts = self._model.facts()
        except NotReady as error:
            raise RequestError(503, str(error), RETRY_AFTER) from None
        try:
            request = formats.decode(kind, body, facts["keys"])
            if request.request is not None:
                if not facts["answers"]:
                    raise formats.FormatError("the only request_type of this model is observation")
                texts = self._ask("answer", request.request)
                reply_type = formats.JSON
            elif request.observations:
                texts = []
                for start in range(0, len(request.observations), BATCH):
                    texts += self._ask("decide", request.observations[start : start + BATCH])
            else:
                return 204, TEXT, "", []
        except formats.FormatError as error:
            raise RequestError(400, str(error)) from None
        except RecursionError:
            raise RequestError(400, "the JSON is nested too deeply") from None
        return 200, reply_type, formats.encode(reply_type, texts, request, facts["columns"]), []

    def _ask(self, verb, value):
        try:
            outcome, result = self._model.ask(verb, value)
        except (NotReady, Busy) as error:
            raise RequestError(503, str(error), RETRY_AFTER) from None
        except ModelFailure as error:
            raise RequestError(500, str(error)) from None
        if outcome == "bad":
            raise RequestError(400, result)
        if outcome == "failed":
            raise RequestError(500, "the model failed: " + result)
        return result
