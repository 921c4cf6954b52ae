"""A line to a registry that counts the bytes which go up it."""

import socketserver
import threading
from socket import create_connection, socket


class Relay:
    """Listens on a free port of loopback and hands on to another one."""

    def __init__(self, target: int) -> None:
        self._lock = threading.Lock()
        self.sent = 0
        """Bytes to the target since the last reset, request lines and headers included."""
        relay = self

        class Line(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with create_connection(("127.0.0.1", target)) as registry:
                    back = threading.Thread(target=_pour, args=(registry, self.request), daemon=True)
                    back.start()
                    _pour(self.request, registry, relay._count)
                    back.join()

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Line)
        self.port: int = self._server.server_address[1]

    def start(self) -> None:
        """Take calls until this process ends."""
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Take no more calls."""
        self._server.shutdown()
        self._server.server_close()

    def reset(self) -> None:
        """Count from nothing."""
        with self._lock:
            self.sent = 0

    def _count(self, size: int) -> None:
        with self._lock:
            self.sent += size


def _pour(source: socket, target: socket, count: object = None) -> None:
    """Until one side hangs up; then the other hears of it."""
    try:
        while piece := source.recv(1 << 16):
            if callable(count):
                count(len(piece))
            target.sendall(piece)
        target.shutdown(1)
    except OSError:
        return  # whoever hung up has said so to both
