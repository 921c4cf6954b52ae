"""A TCP relay in front of the registry that counts the bytes sent to it."""

import socketserver
import threading
from socket import create_connection, socket


class Relay:
    """Listens on a free port of 127.0.0.1 and forwards connections to another port."""

    def __init__(self, target: int) -> None:
        self._lock = threading.Lock()
        self.sent = 0
        """Bytes sent to the target since the last reset, including request lines and headers."""
        relay = self

        class Connection(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with create_connection(("127.0.0.1", target)) as registry:
                    backward = threading.Thread(target=_forward, args=(registry, self.request), daemon=True)
                    backward.start()
                    _forward(self.request, registry, relay._count)
                    backward.join()

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Connection)
        self.port: int = self._server.server_address[1]

    def start(self) -> None:
        """Accept connections in a thread until this process ends."""
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Stop accepting connections."""
        self._server.shutdown()
        self._server.server_close()

    def reset(self) -> None:
        """Set the counter to 0."""
        with self._lock:
            self.sent = 0

    def _count(self, size: int) -> None:
        with self._lock:
            self.sent += size


def _forward(source: socket, target: socket, count: object = None) -> None:
    """Forward bytes until one side closes the connection, then close the other side."""
    try:
        while chunk := source.recv(1 << 16):
            if callable(count):
                count(len(chunk))
            target.sendall(chunk)
        target.shutdown(1)
    except OSError:
        return  # a reset connection: both sides have seen it
