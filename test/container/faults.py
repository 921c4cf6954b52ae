"""A proxy on loopback in front of a registry. It breaks chosen requests in chosen ways and counts the stored blobs.

The fault `refused` resets the connection of a request. Then the port accepts no connection until the plan lets the next
request pass, as when a registry restarts.
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
REFUSAL_SECONDS = 0.005
"""Shortest time in seconds for which a port refuses connections: long enough that an immediate retry is refused too."""
_HOP = {"connection", "transfer-encoding", "keep-alive", "content-length"}

FaultPlan = Callable[[int], str]
"""Maps the number of a request, from 1, to its fault; an empty text means none."""


def free_port() -> int:
    """Return a TCP port of loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Proxy:
    """A proxy at `host` in front of the registry `upstream`, both `host:port`."""

    def __init__(self, upstream: str) -> None:
        self.upstream = upstream
        self.plan: FaultPlan = lambda _number: ""
        self.requests = 0
        self.stored: Counter[str] = Counter()
        """How often the registry confirmed that it stored a blob, by digest."""
        self._lock = threading.Lock()
        self._open = threading.Event()
        self._open.set()
        # bind to an explicit port: a port that the kernel chose is lost when the socket stops listening
        self._server = ThreadingHTTPServer(("127.0.0.1", free_port()), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        self.host = f"127.0.0.1:{self._server.server_address[1]}"

    def start_plan(self, plan: FaultPlan) -> None:
        """Set the plan of faults, and count requests from 1 again."""
        self._open.wait()
        with self._lock:
            self.requests, self.plan = 0, plan
            self.stored.clear()

    def stop_faults(self) -> None:
        """Let all further requests pass."""
        self.plan = lambda _number: ""
        self._open.wait()

    def next_fault(self) -> str:
        """Count a request and return its fault; an empty string lets the request pass."""
        with self._lock:
            self.requests += 1
            fault = self.plan(self.requests)
            if fault == "refused" and self._open.is_set():
                self._open.clear()
                self._server.socket.shutdown(socket.SHUT_RD)  # stops listening, but keeps the port
                threading.Thread(target=self._listen_again, daemon=True).start()
            return fault

    def close(self) -> None:
        self.stop_faults()
        self._server.shutdown()
        self._server.server_close()

    def _listen_again(self) -> None:
        time.sleep(REFUSAL_SECONDS)
        while self.plan(self.requests + 1) == "refused":
            time.sleep(REFUSAL_SECONDS)
        self._server.socket.listen()
        self._open.set()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True
            wbufsize = -1

            def log_message(self, *_: object) -> None:
                """Print nothing."""

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
                self._respond(status, headers, content)

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
                """Send a request to the registry and return its status, headers and body."""
                connection = http.client.HTTPConnection(proxy.upstream, timeout=10)
                headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
                headers["Content-Length"] = str(len(body))
                del headers["Host"]
                connection.request(self.command, self.path, body, headers)
                response = connection.getresponse()
                content = response.read()
                response_headers = {name: value for name, value in response.getheaders() if name.lower() not in _HOP}
                response_headers = {
                    name: value.replace(proxy.upstream, proxy.host) for name, value in response_headers.items()
                }
                if self.command == "HEAD" and response.getheader("content-length"):
                    response_headers["Content-Length"] = response.getheader("content-length") or "0"
                connection.close()
                return response.status, response_headers, content

            def _respond(self, status: int, headers: dict[str, str], content: bytes) -> None:
                self.send_response_only(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in headers and status != 204:
                    self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                self.wfile.flush()

            def _refuse(self, status: int) -> None:
                error = {"errors": [{"code": "FAULT", "message": "this request was chosen to fail"}]}
                self._respond(status, {}, b"" if self.command == "HEAD" else json.dumps(error).encode())

            def _reset(self) -> None:
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.close_connection = True
                self.connection.close()

        return Handler
