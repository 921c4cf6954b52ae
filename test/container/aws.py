"""AWS on loopback: moto for ECR and STS, and for each region a registry with TLS and a password.

Clients use the names of ECR, such as `123456789012.dkr.ecr.us-west-2.amazonaws.com`. An HTTP proxy, given as
`HTTPS_PROXY`, connects these names to the registries on loopback.
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
"""The password that moto's GetAuthorizationToken returns."""
REGIONS = ("us-west-2", "eu-west-1")


def free_port() -> int:
    """Return a TCP port of loopback that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def host(region: str) -> str:
    """Return the host name of ECR in a region."""
    return f"{ACCOUNT}.dkr.ecr.{region}.amazonaws.com"


class Region:
    """The registry of one region. It requires the password of ECR."""

    def __init__(self, name: str, ca: trustme.CA, folder: Path) -> None:
        self.port = free_port()
        self.folder = folder / name
        self.folder.mkdir()
        ca.issue_cert(host(name)).private_key_and_cert_chain_pem.write_to_path(self.folder / "tls.pem")
        password_hash = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
        (self.folder / "htpasswd").write_text(f"AWS:{password_hash}\n")
        config = {
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
        (self.folder / "config.yml").write_text(json.dumps(config))
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
    """AWS on loopback. `environ` is the environment with which a process uses it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        ca = trustme.CA()
        ca.cert_pem.write_to_path(folder / "ca.pem")
        self.regions = {name: Region(name, ca, folder) for name in REGIONS}
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
        inherited = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        return {
            **inherited,
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
    """An HTTP proxy that supports only CONNECT, and only to the given `host:port` names."""

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
        responses = threading.Thread(target=_pump, args=(upstream, self.connection), daemon=True)
        responses.start()
        _pump(self.connection, upstream)
        responses.join(timeout=5)
        upstream.close()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return


def wait_for(port: int) -> None:
    """Wait until something listens on a port of loopback."""
    for _ in range(400):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"nothing listens on port {port}")


def secrets() -> tuple[bytes, ...]:
    """Return the secrets that no file and no printed line may contain."""
    return PASSWORD.encode(), base64.b64encode(f"AWS:{PASSWORD}".encode())
