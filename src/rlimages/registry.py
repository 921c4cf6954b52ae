"""Ask an OCI registry what it holds. With `invocation`, the only module that speaks HTTP."""

import hashlib
import ipaddress
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlimages.errors import RegistryError

if TYPE_CHECKING:
    import httpx

Authorize = Callable[[str], Mapping[str, str]]
"""Gives, for a registry's host, the headers that it wants of us."""

MEDIA_TYPES = (
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.index.v1+json",
)
_ATTEMPTS = 4
PATIENCE = 10.0
"""Seconds for all attempts of one question: a run that is being stopped must not wait longer."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Manifest:
    """What a registry holds under a reference."""

    digest: str
    """`sha256:…` of its bytes."""
    media_type: str
    config: str
    """Digest of the configuration, which is the image's id in a local store; empty for an index."""
    layers: tuple[int, ...]
    """Compressed sizes in bytes, the base's first."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reference:
    """`host[:port]/repository:tag` or `…@sha256:…`, taken apart."""

    host: str
    repository: str
    version: str
    """A tag or a digest."""

    @property
    def url(self) -> str:
        """Where its manifest is. Loopback speaks plain http, as Docker assumes too."""
        scheme = "http" if is_loopback(self.host) else "https"
        return f"{scheme}://{self.host}/v2/{self.repository}/manifests/{self.version}"


def parse_reference(text: str) -> Reference:
    """Take a reference apart. Raises `RegistryError` where no registry is named: we guess none."""
    host, slash, rest = text.partition("/")
    if not slash or not ("." in host or ":" in host or host == "localhost"):
        raise RegistryError(f"'{text}' names no registry; write it as host[:port]/repository:tag")
    name, _, digest = rest.partition("@")
    repository, _, tag = name.partition(":")
    return Reference(host=host, repository=repository, version=digest or tag or "latest")


def no_authorization(_host: str) -> Mapping[str, str]:
    """For registries that ask nothing."""
    return {}


def resolve(reference: str, *, authorize: Authorize = no_authorization, patience: float = PATIENCE) -> Manifest | None:
    """What a registry holds under a reference; None when it holds nothing there. Asks for `patience` seconds at most.

    Raises `RegistryError` when it can't be asked, refuses, or answers with something else than it announces.
    """
    place = parse_reference(reference)
    answer = _get(place, authorize(place.host), patience)
    if answer.status_code == 404:
        return None
    if answer.status_code in (401, 403):
        raise RegistryError(
            f"{place.host} wants a login to show {reference} ({answer.status_code}); try `docker login`"
        )
    if answer.status_code != 200:
        raise RegistryError(
            f"{place.host} answered {answer.status_code} to a question for {reference}; try again later"
        )
    digest = "sha256:" + hashlib.sha256(answer.content).hexdigest()
    announced = answer.headers.get("docker-content-digest", digest)
    if announced != digest:
        raise RegistryError(
            f"{place.host} announces {announced} for {reference} and sends {digest}; is a proxy between?"
        )
    return _read(answer.content, answer.headers.get("content-type", ""), digest, reference)


def _read(content: bytes, media_type: str, digest: str, reference: str) -> Manifest:
    try:
        manifest: dict[str, Any] = json.loads(content)
        return Manifest(
            digest=digest,
            media_type=manifest.get("mediaType") or media_type,
            config=manifest.get("config", {}).get("digest", ""),
            layers=tuple(int(layer["size"]) for layer in manifest.get("layers", ())),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RegistryError(f"{reference}: what answers there is not a registry ({error})") from error


def _get(place: Reference, headers: Mapping[str, str], patience: float) -> "httpx.Response":
    """One answer, asked for again while the registry is busy or unreachable."""
    import httpx
    import stamina
    from stamina.instrumentation import set_on_retry_hooks

    set_on_retry_hooks([])  # it would log into the progress view; the report says what came of it
    asked = {"accept": ", ".join(MEDIA_TYPES), **headers}
    busy = (httpx.TransportError, httpx.HTTPStatusError)
    try:
        with httpx.Client(timeout=5.0, trust_env=not is_loopback(place.host), follow_redirects=True) as client:
            for attempt in stamina.retry_context(on=busy, attempts=_ATTEMPTS, timeout=patience, wait_jitter=0.2):
                with attempt:
                    answer = client.get(place.url, headers=asked)
                    if answer.status_code == 429 or answer.status_code >= 500:
                        answer.raise_for_status()
    except httpx.HTTPStatusError as error:
        return error.response
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        hint = "is it running?" if is_loopback(place.host) else "check the name, the network and the proxy"
        raise RegistryError(f"cannot reach the registry {place.host} ({error}); {hint}") from error
    return answer


def answers(host: str) -> bool:
    """True when a registry is there, whatever it thinks of us."""
    import httpx

    scheme = "http" if is_loopback(host) else "https"
    try:
        status = httpx.get(f"{scheme}://{host}/v2/", timeout=5.0, trust_env=not is_loopback(host)).status_code
    except (httpx.HTTPError, httpx.InvalidURL):
        return False
    return status in (200, 401, 403)


def is_loopback(host: str) -> bool:
    """True for `localhost`, `127.0.0.0/8` and `[::1]`, with or without a port."""
    name = host.rsplit(":", 1)[0] if not host.endswith("]") else host
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name.strip("[]")).is_loopback
    except ValueError:
        return False
