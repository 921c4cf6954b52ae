"""A client of the OCI distribution API: manifests, blobs, tags, and the upload of a whole image."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from rlimages.errors import Interrupted, RegistryError
from rlimages.oci.manifest import (
    MEDIA_TYPES,
    Blob,
    Manifest,
    PackedContent,
    parse_manifest,
    parse_reference,
    sha256_digest,
)
from rlimages.registry.http import PATIENCE, Login, RegistryHttp, RequestCounter
from rlimages.system.process import Stop

if TYPE_CHECKING:
    import httpx


_CHUNK = 1 << 20
_PAGE = 1000
Chunks = Callable[[], Iterator[bytes]]
"""Begins to give a blob's bytes; asked again when an upload is tried again."""


class RegistryClient:
    """One registry. Every question is asked again while the registry is busy, until patience ends.

    All methods raise `RegistryError` when it can't be reached, refuses, or answers with something else than it
    announces. May be used by several threads.
    """

    def __init__(
        self, host: str, *, login: Login | None = None, meter: RequestCounter | None = None, patience: float = PATIENCE
    ) -> None:
        """`host[:port]`; `meter` counts each request."""
        self.host = host
        self._wire = RegistryHttp(host, login=login, meter=meter, patience=patience)

    def close(self) -> None:
        """Hang up."""
        self._wire.close()

    def __enter__(self) -> "RegistryClient":
        """For `with`, which hangs up."""
        return self

    def __exit__(self, *_: object) -> None:
        """Hang up."""
        self.close()

    def manifest(self, repository: str, version: str) -> Manifest | None:
        """What is there under a tag or digest; None when nothing is."""
        where = f"{self.host}/{repository}:{version}"
        answer = self._wire.ask(
            "GET", f"{repository}/manifests/{version}", takes=(200, 404), headers={"accept": ", ".join(MEDIA_TYPES)}
        )
        if answer.status_code == 404:
            return None
        sent = sha256_digest(answer.content)
        announced = answer.headers.get("docker-content-digest", sent)
        wanted = version if version.startswith("sha256:") else announced
        if sent not in (announced, wanted) or announced != wanted:
            raise RegistryError(f"{self.host} announces {announced} for {where} and sends {sent}; is a proxy between?")
        return parse_manifest(answer.content, answer.headers.get("content-type", ""), where)

    def put_manifest(self, repository: str, version: str, manifest: Manifest) -> None:
        """Put a manifest, whose blobs are there, under a tag."""
        answer = self._wire.ask(
            "PUT",
            f"{repository}/manifests/{version}",
            takes=(201, 200),
            headers={"content-type": manifest.media_type},
            content=manifest.content,
        )
        got = answer.headers.get("docker-content-digest", manifest.digest)
        if got != manifest.digest:
            raise RegistryError(f"{self.host} stored {repository}:{version} as {got}, sent was {manifest.digest}")

    def delete_manifest(self, repository: str, version: str) -> bool:
        """Delete a tag, or a manifest with all its tags; False where the registry doesn't offer that."""
        answer = self._wire.ask("DELETE", f"{repository}/manifests/{version}", takes=(202, 200, 404, 405, 400))
        return answer.status_code not in (405, 400)

    def tags(self, repository: str) -> tuple[str, ...]:
        """All tags of a repository, sorted; none where it does not exist."""
        found: list[str] = []
        path: str = f"{repository}/tags/list?n={_PAGE}"
        while path:
            answer = self._wire.ask("GET", path, takes=(200, 404))
            if answer.status_code == 404:
                break
            found += answer.json().get("tags") or []
            path = answer.links.get("next", {}).get("url", "")
        return tuple(sorted(set(found)))

    def has_blob(self, repository: str, name: str) -> bool:
        """Whether a blob is there already."""
        return self._wire.ask("HEAD", f"{repository}/blobs/{name}", takes=(200, 404)).status_code == 200

    def blob(self, repository: str, name: str) -> bytes:
        """A small blob, such as an image's configuration."""
        content = self._wire.ask("GET", f"{repository}/blobs/{name}", takes=(200,)).content
        if sha256_digest(content) != name:
            raise RegistryError(f"{self.host}/{repository}@{name}: what came is {sha256_digest(content)}")
        return content

    def read_blob(self, repository: str, name: str) -> Iterator[bytes]:
        """A blob piece by piece; who reads it must check the digest."""
        with self._wire.opened(f"{repository}/blobs/{name}", repository) as answer:
            yield from answer.iter_raw(_CHUNK)

    def upload(self, repository: str, blob: Blob, chunks: Chunks, *, sources: tuple[str, ...] = ()) -> bool:
        """Bring a blob here; True when its bytes had to travel.

        It does not travel where it is already, or can be mounted from one of `sources`, repositories of this registry.
        An upload that breaks is begun anew, unless the registry has the blob after all.
        """
        if self.has_blob(repository, blob.digest):
            return False
        for source in sources:
            path = f"{repository}/blobs/uploads/?mount={blob.digest}&from={source}"
            if self._wire.ask("POST", path, takes=(201, 202)).status_code == 201:
                return False
        for attempt in self._wire.attempts():
            with attempt:
                if attempt.num > 1 and self.has_blob(repository, blob.digest):
                    return True
                place = self._location(self._wire.once("POST", f"{repository}/blobs/uploads/", repository, (202,)))
                octets = {"content-type": "application/octet-stream", "content-length": str(blob.size)}
                sent = self._location(self._wire.once("PATCH", place, repository, (202, 204), octets, chunks()))
                self._wire.meter.uploaded(blob.digest, blob.size)
                self._finish(repository, blob, sent)
        return True

    def _finish(self, repository: str, blob: Blob, place: str) -> None:
        """Make a blob of what was sent; where that was done, but its answer lost, the blob is there."""
        joint = "&" if urlsplit(place).query else "?"
        for attempt in self._wire.attempts():
            with attempt:
                answer = self._wire.once("PUT", f"{place}{joint}digest={blob.digest}", repository, (201, 204, 404))
                if answer.status_code == 404:
                    if attempt.num > 1 and self.has_blob(repository, blob.digest):
                        return
                    raise RegistryError(f"{self.host} has forgotten an upload to {repository}; try again")
                got = answer.headers.get("docker-content-digest", blob.digest)
                if got != blob.digest:
                    raise RegistryError(f"{self.host} stored a blob of {repository} as {got}, sent was {blob.digest}")

    def _location(self, answer: "httpx.Response") -> str:
        place = str(answer.headers.get("location", ""))
        if not place:
            raise RegistryError(f"{self.host} does not say where to upload to; is a proxy between?")
        return urljoin(str(answer.request.url), place)


def resolve_reference(reference: str, *, login: Login | None = None, patience: float = PATIENCE) -> Manifest | None:
    """What a registry holds under a reference; None when it holds nothing there. Raises `RegistryError`."""
    place = parse_reference(reference)
    with RegistryClient(place.host, login=login, patience=patience) as registry:
        return registry.manifest(place.repository, place.tag_or_digest)


PARALLEL_UPLOADS = 4
"""Layers that travel to one registry at once."""


def upload_image(
    content: PackedContent, repository: str, registry: RegistryClient, *, stop: Stop, sources: tuple[str, ...] = ()
) -> None:
    """Bring what a repository lacks of an image; `sources` are repositories there that may have it already.

    Raises `RegistryError` where the registry does not take it, `Interrupted` when `stop` is set.
    """

    def upload(blob: Blob) -> None:
        if stop.is_set():
            raise Interrupted("interrupted")
        registry.upload(repository, blob, lambda: content.chunks(blob), sources=sources)

    with ThreadPoolExecutor(max_workers=PARALLEL_UPLOADS) as pool:
        for done in [pool.submit(upload, blob) for blob in content.manifest.blobs]:
            done.result()
