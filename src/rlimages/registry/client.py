"""A client of the OCI distribution API: manifests, blobs, tags, and the upload of a whole image."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from rlimages.errors import Interrupted, RegistryError
from rlimages.oci.manifest import (
    MANIFEST_TYPES,
    Blob,
    Manifest,
    PackedContent,
    parse_manifest,
    parse_reference,
    sha256_digest,
)
from rlimages.registry.http import PATIENCE, Login, RegistryHttp
from rlimages.registry.request_counter import RequestCounter
from rlimages.system.process import Stop

if TYPE_CHECKING:
    import httpx


_CHUNK_SIZE = 1 << 20
_TAGS_PER_PAGE = 1000
PARALLEL_UPLOADS = 4
"""Blobs of one image that are uploaded to a registry at the same time."""
Chunks = Callable[[], Iterator[bytes]]
"""Returns the content of a blob from its beginning; called again if an upload is repeated."""


class RegistryClient:
    """A client of one registry. Each request is repeated while the registry is busy, until the patience ends.

    All methods raise `RegistryError` if the registry cannot be reached, refuses the request, or sends content with
    another digest. May be used by several threads.
    """

    def __init__(
        self,
        host: str,
        *,
        login: Login | None = None,
        counter: RequestCounter | None = None,
        patience: float = PATIENCE,
    ) -> None:
        """Connect to `host[:port]` with the first request. `counter` counts all requests."""
        self.host = host
        self._http = RegistryHttp(host, login=login, counter=counter, patience=patience)

    def close(self) -> None:
        """Close the connection. The next request opens a new one."""
        self._http.close()

    def __enter__(self) -> "RegistryClient":
        """Return the client, which is closed at the end of the `with` block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self.close()

    def read_manifest(self, repository: str, tag_or_digest: str) -> Manifest | None:
        """Return the manifest or index under a tag or digest; None if there is none."""
        name = f"{self.host}/{repository}:{tag_or_digest}"
        response = self._http.request(
            "GET",
            f"{repository}/manifests/{tag_or_digest}",
            expected=(200, 404),
            headers={"accept": ", ".join(MANIFEST_TYPES)},
        )
        if response.status_code == 404:
            return None
        received = sha256_digest(response.content)
        announced = response.headers.get("docker-content-digest", received)
        wanted = tag_or_digest if tag_or_digest.startswith("sha256:") else announced
        if received not in (announced, wanted) or announced != wanted:
            raise RegistryError(
                f"{self.host} announces {announced} for {name} and sends {received}; "
                "a proxy may have changed the content"
            )
        return parse_manifest(response.content, response.headers.get("content-type", ""), name)

    def put_manifest(self, repository: str, tag_or_digest: str, manifest: Manifest) -> None:
        """Store a manifest under a tag or its digest. Its blobs must be in the repository already."""
        response = self._http.request(
            "PUT",
            f"{repository}/manifests/{tag_or_digest}",
            expected=(201, 200),
            headers={"content-type": manifest.media_type},
            content=manifest.content,
        )
        stored = response.headers.get("docker-content-digest", manifest.digest)
        if stored != manifest.digest:
            raise RegistryError(
                f"{self.host} stored {repository}:{tag_or_digest} as {stored}, but {manifest.digest} was sent"
            )

    def delete_manifest(self, repository: str, tag_or_digest: str) -> bool:
        """Delete a tag, or a manifest with all its tags. Return False if the registry does not allow deletes."""
        response = self._http.request(
            "DELETE", f"{repository}/manifests/{tag_or_digest}", expected=(202, 200, 404, 405, 400)
        )
        return response.status_code not in (405, 400)

    def list_tags(self, repository: str) -> tuple[str, ...]:
        """Return all tags of a repository, sorted; none if the repository does not exist."""
        tags: list[str] = []
        path: str = f"{repository}/tags/list?n={_TAGS_PER_PAGE}"
        while path:
            response = self._http.request("GET", path, expected=(200, 404))
            if response.status_code == 404:
                break
            tags += response.json().get("tags") or []  # a repository without tags may have null here
            path = response.links.get("next", {}).get("url", "")
        return tuple(sorted(set(tags)))

    def has_blob(self, repository: str, digest: str) -> bool:
        """Return whether a repository has a blob."""
        return self._http.request("HEAD", f"{repository}/blobs/{digest}", expected=(200, 404)).status_code == 200

    def read_blob(self, repository: str, digest: str) -> bytes:
        """Return the content of a small blob, such as an image configuration."""
        content = self._http.request("GET", f"{repository}/blobs/{digest}", expected=(200,)).content
        if sha256_digest(content) != digest:
            raise RegistryError(
                f"{self.host}/{repository}@{digest}: the content has the digest {sha256_digest(content)}"
            )
        return content

    def stream_blob(self, repository: str, digest: str) -> Iterator[bytes]:
        """Yield the content of a blob. The caller must check its digest."""
        with self._http.stream(f"{repository}/blobs/{digest}", repository) as response:
            # iter_raw: the bytes as stored. httpx must not decompress them, because the digest is that of these bytes.
            yield from response.iter_raw(_CHUNK_SIZE)

    def upload_blob(self, repository: str, blob: Blob, chunks: Chunks, *, sources: tuple[str, ...] = ()) -> bool:
        """Make sure that a repository has a blob. Return True if its bytes were sent.

        Nothing is sent if the repository has the blob, or if the registry can mount it from one of `sources`, other
        repositories of the same registry. An upload that breaks is repeated from its beginning.
        """
        if self.has_blob(repository, blob.digest):
            return False
        for source in sources:
            path = f"{repository}/blobs/uploads/?mount={blob.digest}&from={source}"
            # 202: the registry cannot mount the blob and has started an upload, which is left unused.
            if self._http.request("POST", path, expected=(201, 202)).status_code == 201:
                return False
        for attempt in self._http.attempts():
            with attempt:
                # The upload before this attempt may have succeeded, with only its response lost.
                if attempt.num > 1 and self.has_blob(repository, blob.digest):
                    return True
                started = self._http.request_once("POST", f"{repository}/blobs/uploads/", repository, (202,))
                headers = {"content-type": "application/octet-stream", "content-length": str(blob.size)}
                sent = self._http.request_once(
                    "PATCH", self._location(started), repository, (202, 204), headers, chunks()
                )
                self._http.counter.count_upload(blob.digest, blob.size)
                self._complete_upload(repository, blob, self._location(sent))
        return True

    def _complete_upload(self, repository: str, blob: Blob, location: str) -> None:
        """Turn the sent bytes into a blob.

        This is repeated apart from the upload: after a lost response, the bytes need not be sent again.
        """
        separator = "&" if urlsplit(location).query else "?"
        for attempt in self._http.attempts():
            with attempt:
                response = self._http.request_once(
                    "PUT", f"{location}{separator}digest={blob.digest}", repository, (201, 204, 404)
                )
                if response.status_code == 404:
                    # If the first request succeeded and its response was lost, the upload is over, and the blob exists.
                    if attempt.num > 1 and self.has_blob(repository, blob.digest):
                        return
                    raise RegistryError(f"{self.host} does not know the upload to {repository} any more; try again")
                stored = response.headers.get("docker-content-digest", blob.digest)
                if stored != blob.digest:
                    raise RegistryError(
                        f"{self.host} stored a blob of {repository} as {stored}, but {blob.digest} was sent"
                    )

    def _location(self, response: "httpx.Response") -> str:
        location = str(response.headers.get("location", ""))
        if not location:
            raise RegistryError(f"{self.host} sends no address for an upload; a proxy may have removed it")
        return urljoin(str(response.request.url), location)


def resolve_reference(reference: str, *, login: Login | None = None, patience: float = PATIENCE) -> Manifest | None:
    """Return the manifest or index that a reference names; None if there is none. Raise `RegistryError`."""
    parsed = parse_reference(reference)
    with RegistryClient(parsed.host, login=login, patience=patience) as registry:
        return registry.read_manifest(parsed.repository, parsed.tag_or_digest)


def upload_image(
    content: PackedContent, repository: str, registry: RegistryClient, *, stop: Stop, sources: tuple[str, ...] = ()
) -> None:
    """Upload the blobs of an image that a repository lacks. `sources` are repositories that they can be mounted from.

    Raise `RegistryError` if an upload fails, and `Interrupted` when `stop` is set. No manifest and no tag is written.
    """

    def upload(blob: Blob) -> None:
        if stop.is_set():
            raise Interrupted("interrupted")
        registry.upload_blob(repository, blob, lambda: content.chunks(blob), sources=sources)

    with ThreadPoolExecutor(max_workers=PARALLEL_UPLOADS) as pool:
        for future in [pool.submit(upload, blob) for blob in content.manifest.blobs]:
            future.result()
