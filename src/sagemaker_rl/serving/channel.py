"""Values between two processes of one Python, over a socket that both have: four bytes of length, then a pickle."""

import pickle
import struct

LENGTH = struct.Struct(">I")


class Channel:
    """One end. Raises EOFError or OSError if the other end is gone, socket.timeout if it is silent for too long."""

    def __init__(self, socket):
        self._socket = socket

    def send(self, value, seconds=None):
        """Send one value."""
        body = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        self._socket.settimeout(seconds)
        self._socket.sendall(LENGTH.pack(len(body)) + body)

    def receive(self, seconds=None):
        """The next value; `seconds` is the longest silence. After a timeout within a value the channel is of no use."""
        self._socket.settimeout(seconds)
        return pickle.loads(self._read(LENGTH.unpack(self._read(LENGTH.size))[0]))

    def _read(self, size):
        parts = []
        while size:
            part = self._socket.recv(min(size, 1 << 20))
            if not part:
                raise EOFError("the other end is gone")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def close(self):
        """Close this end; the other one gets EOFError."""
        self._socket.close()
