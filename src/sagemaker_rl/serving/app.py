"""The web application: /ping, /invocations and /execution-parameters, as SageMaker asks for them. See docs/serving.md.

Plain WSGI. Whatever comes in, the answer is a status and one sentence, never a traceback.
"""

import json
import socket
import sys
import threading

from sagemaker_rl.serving import formats
from sagemaker_rl.serving.process import Busy, Failure, NotReady

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
RETRY = ("Retry-After", "1")
TEXT = "text/plain; charset=utf-8"
CHUNK = 1 << 16
AT_ONCE = 1000  # observations of one request that the model gets before another request has its turn


class Refusal(Exception):
    """A request that gets no answer but a status and a sentence."""

    def __init__(self, status, sentence, *headers):
        Exception.__init__(self, sentence)
        self.status, self.headers = status, list(headers)


def log(sentence):
    """One line in the container's log."""
    sys.stderr.write("rlimages: " + sentence + "\n")
    sys.stderr.flush()


class Server:
    """The application. `model` is a ModelProcess, or what answers like one."""

    def __init__(self, settings, model, log=log):
        self._settings, self._model, self._log = settings, model, log
        self._places = threading.BoundedSemaphore(settings.queue)

    def __call__(self, environ, start_response):
        path = environ.get("PATH_INFO", "")
        try:
            status, kind, text, headers = self._answer(path, environ)
        except Refusal as refusal:
            status, kind, headers = refusal.status, TEXT, refusal.headers
            text = " ".join(str(refusal).split()) + "\n"  # one line, whatever of the request is in it
        except Exception as error:  # noqa: BLE001 - a fault of ours: it costs one request
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
        """The status, type, text and further headers of an answer. Raises Refusal."""
        if path not in PATHS:
            raise Refusal(404, "there is no {!r}; there are {}".format(path[:80], ", ".join(sorted(PATHS))))
        methods = PATHS[path]
        if environ["REQUEST_METHOD"] not in methods:
            raise Refusal(405, "{} is asked for with {}".format(path, methods[0]), ("Allow", ", ".join(methods)))
        if path == "/ping":
            trouble = self._model.health()
            return (503, TEXT, trouble + "\n", [RETRY]) if trouble else (200, TEXT, "", [])
        if path == "/execution-parameters":
            return 200, formats.JSON, json.dumps(self._settings.execution_parameters()), []
        return self._invoke(environ)

    def _invoke(self, environ):
        kind = formats.media_type(environ.get("CONTENT_TYPE") or formats.JSON)
        if kind not in formats.KINDS:
            raise Refusal(415, "the type {} is not one of {}".format(kind[:80], ", ".join(formats.KINDS)))
        default = self._settings.accept or kind
        wanted = formats.accepted(environ.get("HTTP_ACCEPT", ""), default)
        if wanted is None:
            raise Refusal(406, "a reply can be {}".format(", ".join(formats.KINDS)))
        if not self._places.acquire(False):
            raise Refusal(503, "{} requests are waiting already".format(self._settings.queue), RETRY)
        try:
            body = self._body(environ)
            if not body:
                return 204, TEXT, "", []
            return self._decide(kind, wanted, body)
        finally:
            self._places.release()

    def _body(self, environ):
        """The whole body. Raises Refusal if it is too long, or does not come."""
        limit = self._settings.payload
        too_large = Refusal(413, "the body is longer than {} bytes".format(limit))
        promised = int(environ.get("CONTENT_LENGTH") or 0)
        if promised > limit:
            raise too_large
        # gunicorn's own name for it; the stream has no timeout of its own.
        client = environ.get("gunicorn.socket")
        parts, size = [], 0
        try:
            if client is not None:
                client.settimeout(self._settings.seconds)
            while True:
                part = environ["wsgi.input"].read(min(CHUNK, limit + 1 - size))
                size += len(part)
                if size > limit:  # of a body in chunks, which says no length
                    raise too_large
                if not part and size < promised:
                    raise Refusal(400, "the body ended after {} of {} bytes".format(size, promised))
                if not part:
                    return b"".join(parts)
                parts.append(part)
        except socket.timeout:
            raise Refusal(408, "the body did not come within {:g} s".format(self._settings.seconds)) from None
        except Refusal:
            raise
        except Exception as error:  # noqa: BLE001 - gunicorn has its own for chunks that are none
            raise Refusal(400, "the body cannot be read: {}".format(type(error).__name__)) from None
        finally:
            if client is not None:
                client.settimeout(None)

    def _decide(self, kind, wanted, body):
        try:
            facts = self._model.facts()
        except NotReady as error:
            raise Refusal(503, str(error), RETRY) from None
        try:
            asked = formats.decode(kind, body, facts["keys"])
            if asked.request is not None:
                if not facts["answers"]:
                    raise formats.FormatError("this model knows no request_type but observation")
                texts = self._ask("answer", asked.request)
                wanted = formats.JSON
            elif asked.observations:
                texts = []
                for start in range(0, len(asked.observations), AT_ONCE):
                    texts += self._ask("decide", asked.observations[start : start + AT_ONCE])
            else:
                return 204, TEXT, "", []
        except formats.FormatError as error:
            raise Refusal(400, str(error)) from None
        except RecursionError:
            raise Refusal(400, "it is nested too deeply") from None
        return 200, wanted, formats.encode(wanted, texts, asked, facts["columns"]), []

    def _ask(self, verb, value):
        try:
            outcome, said = self._model.ask(verb, value)
        except (NotReady, Busy) as error:
            raise Refusal(503, str(error), RETRY) from None
        except Failure as error:
            raise Refusal(500, str(error)) from None
        if outcome == "bad":
            raise Refusal(400, said)
        if outcome == "failed":
            raise Refusal(500, "the model failed: " + said)
        return said
