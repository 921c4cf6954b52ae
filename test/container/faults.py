"""A proxy on loopback before a registry, which breaks chosen requests in chosen ways and counts what was stored.

`refused`: the request is cut off, and the port takes no connections until the next request may pass, as when a registry
is started anew.
"""

import http.client
import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

STATUSES = {"401": 401, "403": 403, "429": 429, "500": 500, "503": 503}
FAULTS = (*STATUSES, "reset", "refused", "answer lost", "slow", "truncated", "wrong digest")
REFUSING = 0.005
"""Seconds for which a port refuses at least: who asks again at once meets it."""
_HOP = {"connection", "transfer-encoding", "keep-alive", "content-length"}

Plan = Callable[[int], str]
"""Number of a request, from 1 -> the fault for it, or nothing."""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class Proxy:
    """Stands before `upstream` (`host:port`) at `host`."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.plan: Plan = lambda _number: ""
        self.requests = 0
        self.stored: Counter[str] = Counter()
        """Digest of a blob -> how often the registry said that it stored it."""
        self._lock = threading.Lock()
        self._open = threading.Event()
        self._open.set()
        # a port of its own choice: one that the kernel chose is lost when it stops listening
        self._server = ThreadingHTTPServer(("127.0.0.1", free_port()), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.host = f"127.0.0.1:{self._server.server_address[1]}"

    def begin(self, plan: Plan) -> None:
        """Count from 1 again, and break by this plan."""
        self._open.wait()
        with self._lock:
            self.requests, self.plan = 0, plan
            self.stored.clear()

    def mend(self) -> None:
        """Break nothing from now on."""
        self.plan = lambda _number: ""
        self._open.wait()

    def next_fault(self) -> str:
        with self._lock:
            self.requests += 1
            fault = self.plan(self.requests)
            if fault == "refused" and self._open.is_set():
                self._open.clear()
                self._server.socket.shutdown(socket.SHUT_RD)  # it listens no more, and keeps its port
                threading.Thread(target=self._listen_again, daemon=True).start()
            return fault

    def close(self) -> None:
        self.mend()
        self._server.shutdown()
        self._server.server_close()

    def _listen_again(self) -> None:
        time.sleep(REFUSING)
        while self.plan(self.requests + 1) == "refused":
            time.sleep(REFUSING)
        self._server.socket.listen()
        self._open.set()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1

            def log_message(self, *_: object) -> None:
                """Nothing."""

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except OSError:
                    self.close_connection = True

            def do_any(self) -> None:
                fault = proxy.next_fault()
                body = self._body()
                if fault in STATUSES:
                    return self._refuse(STATUSES[fault])
                if fault in ("reset", "refused"):
                    return self._reset()
                if fault == "slow":
                    time.sleep(0.02)
                if fault == "truncated":
                    body = body[: len(body) // 2]
                status, headers, content = self._forward(body, declared=fault != "truncated")
                if self.command == "PUT" and status == 201 and "digest=" in self.path:
                    proxy.stored[self.path.rpartition("digest=")[2]] += 1
                if fault == "answer lost":
                    return self._reset()
                if fault == "truncated" and self.command in ("GET", "HEAD"):
                    return self._reset()
                if fault == "wrong digest":
                    headers = {
                        name: "sha256:" + "0" * 64 if name.lower() == "docker-content-digest" else value
                        for name, value in headers.items()
                    }
                self._answer(status, headers, content)

            do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = do_any

            def _body(self) -> bytes:
                if self.headers.get("transfer-encoding", "") == "chunked":
                    parts = []
                    while size := int(self.rfile.readline().strip(), 16):
                        parts.append(self.rfile.read(size))
                        self.rfile.readline()
                    self.rfile.readline()
                    return b"".join(parts)
                return self.rfile.read(int(self.headers.get("content-length") or 0))

            def _forward(self, body: bytes, *, declared: bool) -> tuple[int, dict[str, str], bytes]:
                """Truncated: an upload that says that it is longer than it is."""
                connection = http.client.HTTPConnection(proxy.upstream, timeout=10)
                headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
                headers["Content-Length"] = str(len(body))
                del headers["Host"]
                connection.request(self.command, self.path, body, headers)
                answer = connection.getresponse()
                content = answer.read()
                told = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP}
                told = {name: value.replace(proxy.upstream, proxy.host) for name, value in told.items()}
                if self.command == "HEAD" and answer.getheader("content-length"):
                    told["Content-Length"] = answer.getheader("content-length") or "0"
                connection.close()
                return answer.status, told, content

            def _answer(self, status: int, headers: dict[str, str], content: bytes) -> None:
                self.send_response_only(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in headers and status != 204:
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                self.wfile.flush()

            def _refuse(self, status: int) -> None:
                words = {"errors": [{"code": "FAULT", "message": "this request was chosen to fail"}]}
                self._answer(status, {}, b"" if self.command == "HEAD" else json.dumps(words).encode())

            def _reset(self) -> None:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
                self.connection.close()

        return Handler
