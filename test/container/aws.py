"""AWS on loopback: moto's server for ECR and STS, a registry with TLS and a password for each region, under ECR's names.

A name like `123456789012.dkr.ecr.us-west-2.amazonaws.com` is reached as companies reach the world: through a proxy.
"""

import base64
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer

import bcrypt
import trustme

ACCOUNT = "123456789012"
PASSWORD = f"{ACCOUNT}-auth-token"
"""What moto's GetAuthorizationToken gives."""
REGIONS = ("us-west-2", "eu-west-1")


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def host(region: str) -> str:
    return f"{ACCOUNT}.dkr.ecr.{region}.amazonaws.com"


class Region:
    """A registry that asks for ECR's password."""

    def __init__(self, name: str, authority: trustme.CA, folder: Path) -> None:
        self.port = free_port()
        self.folder = folder / name
        self.folder.mkdir()
        authority.issue_cert(host(name)).private_key_and_cert_chain_pem.write_to_path(self.folder / "tls.pem")
        hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
        (self.folder / "htpasswd").write_text(f"AWS:{hashed}\n")
        words = {
            "version": 0.1,
            "log": {"level": "error", "accesslog": {"disabled": True}},
            "storage": {"filesystem": {"rootdirectory": str(self.folder / "data")}, "delete": {"enabled": True}},
            "auth": {"htpasswd": {"realm": "ecr", "path": str(self.folder / "htpasswd")}},
            "http": {
                "addr": f"127.0.0.1:{self.port}",
                "host": f"https://{host(name)}",
                "tls": {"certificate": str(self.folder / "tls.pem"), "key": str(self.folder / "tls.pem")},
            },
        }
        (self.folder / "config.yml").write_text(json.dumps(words))
        self.start()

    def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["docker-registry", "serve", self.folder / "config.yml"], stdout=log, stderr=log
            )
        wait_for(self.port)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


class Cloud:
    """All of it. `environ` is what a process needs to live in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        authority = trustme.CA()
        authority.cert_pem.write_to_path(folder / "ca.pem")
        self.regions = {name: Region(name, authority, folder) for name in REGIONS}
        self.moto_port = free_port()
        with (folder / "moto.log").open("wb") as log:
            self._moto = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.moto_port)],
                stdout=log,
                stderr=log,
            )
        self._proxy = _Proxy({f"{host(name)}:443": region.port for name, region in self.regions.items()})
        wait_for(self.moto_port)

    @property
    def environ(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        return {
            **kept,
            "HTTPS_PROXY": f"http://127.0.0.1:{self._proxy.server_address[1]}",
            "NO_PROXY": "127.0.0.1,localhost",
            "SSL_CERT_FILE": str(self.folder / "ca.pem"),
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.moto_port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def close(self) -> None:
        self._proxy.shutdown()
        self._proxy.server_close()
        for region in self.regions.values():
            region.stop()
        self._moto.terminate()
        self._moto.wait()


class _Proxy(ThreadingTCPServer):
    """An HTTP proxy that knows only CONNECT, and only these names."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, ports: dict[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _Tunnel)
        self.ports = ports
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


class _Tunnel(StreamRequestHandler):
    server: _Proxy
    rbufsize = 0

    def handle(self) -> None:
        method, name, _ = self.rfile.readline().decode().split(" ", 2)
        while self.rfile.readline().strip():
            pass
        port = self.server.ports.get(name) if method == "CONNECT" else None
        try:
            upstream = socket.create_connection(("127.0.0.1", port or 0), timeout=5)
        except OSError:
            self.wfile.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            return
        upstream.settimeout(None)
        self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        back = threading.Thread(target=_pump, args=(upstream, self.connection), daemon=True)
        back.start()
        _pump(self.connection, upstream)
        back.join(timeout=5)
        upstream.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return


def wait_for(port: int) -> None:
    for _ in range(400):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"nothing came up at port {port}")


def secrets() -> tuple[bytes, ...]:
    """What must stand in no file and in no line that is printed."""
    return PASSWORD.encode(), base64.b64encode(f"AWS:{PASSWORD}".encode())
