"""Exchange values between two processes of one Python over a socket pair: four bytes of length, then a pickle."""

import pickle
import struct

LENGTH = struct.Struct(">I")


class Channel:
    """One end of the connection between two processes, over `socket`, one socket of a connected pair.

    `send` and `receive` raise EOFError or OSError if the other end is closed, and socket.timeout after `seconds` of
    silence; without `seconds` they wait without limit.
    """

    def __init__(self, socket):
        self._socket = socket

    def send(self, value, seconds=None):
        """Send `value`, anything that can be pickled, to the other end.

        `seconds` is the longest time to wait until the other end reads.
        """
        body = pickle.dumps(value, pickle.HIGHEST_PROTOCOL)
        self._socket.settimeout(seconds)
        self._socket.sendall(LENGTH.pack(len(body)) + body)

    def receive(self, seconds=None):
        """Return the next value that the other end sent. `seconds` is the longest time without any data.

        After a timeout in the middle of a value, the channel cannot be used any more.
        """
        self._socket.settimeout(seconds)
        return pickle.loads(self._read(LENGTH.unpack(self._read(LENGTH.size))[0]))

    def _read(self, size):
        parts = []
        while size:
            part = self._socket.recv(min(size, 1 << 20))
            if not part:
                raise EOFError("the other end is closed")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def close(self):
        """Close this end; the other end gets EOFError."""
        self._socket.close()
