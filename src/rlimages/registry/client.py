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
"""Bytes of a blob that are read at a time."""
_TAGS_PER_PAGE = 1000
"""Tags that a registry is asked for in one request. It may send fewer, and then names the next page."""
PARALLEL_UPLOADS = 4
"""Blobs of one image that are uploaded to a registry at the same time."""
Chunks = Callable[[], Iterator[bytes]]
"""Returns the content of a blob in pieces, from its beginning. It is called again if an upload is repeated."""


class RegistryClient:
    """A client of one registry: reads, uploads and deletes manifests, blobs and tags.

    A request is repeated while the registry is busy or unreachable, until the patience (a number of seconds) ends. The
    argument `repository` of the methods is a path in the registry, such as `team/image`. All methods raise
    `RegistryError` if the registry cannot be reached, refuses the request, or sends content with another digest. May be
    used by several threads.
    """

    def __init__(
        self,
        host: str,
        *,
        login: Login | None = None,
        counter: RequestCounter | None = None,
        patience: float = PATIENCE,
    ) -> None:
        """Use the registry at `host[:port]`; the first request opens the connection.

        `login` makes the authorization headers; without it, requests have none. `counter` counts all requests and
        uploaded bytes. `patience` is the number of seconds for all attempts of one request.
        """
        self.host = host
        self._http = RegistryHttp(host, login=login, counter=counter, patience=patience)

    def close(self) -> None:
        """Close the connection to the registry. A later request opens a new one."""
        self._http.close()

    def __enter__(self) -> "RegistryClient":
        """Return this client, which is closed at the end of the `with` block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection to the registry."""
        self.close()

    def read_manifest(self, repository: str, tag_or_digest: str) -> Manifest | None:
        """Return the manifest or index that `repository` has under `tag_or_digest`; None if it has none.

        Raise `RegistryError` if the content has another digest than the registry announced, or than was requested.
        """
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
        """Store `manifest` in `repository` under `tag_or_digest`: a tag (moved if it exists) or its own digest.

        Its blobs must be in the repository already. Raise `RegistryError` if the registry refuses it, or stores it
        under another digest.
        """
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
        """Delete `tag_or_digest` of `repository`: a tag, or the manifest with this digest and all its tags.

        Return False if the registry does not allow deletes; True if it is deleted now, or did not exist.
        """
        response = self._http.request(
            "DELETE", f"{repository}/manifests/{tag_or_digest}", expected=(202, 200, 404, 405, 400)
        )
        return response.status_code not in (405, 400)

    def list_tags(self, repository: str) -> tuple[str, ...]:
        """Return all tags of `repository`, sorted; an empty tuple if the repository does not exist."""
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
        """Return whether `repository` has the blob with the digest `digest`."""
        return self._http.request("HEAD", f"{repository}/blobs/{digest}", expected=(200, 404)).status_code == 200

    def read_blob(self, repository: str, digest: str) -> bytes:
        """Return the whole content of the blob `digest` of `repository`, which must be small, as it is held in memory.

        Raise `RegistryError` if the repository does not have it, or if the content has another digest.
        """
        content = self._http.request("GET", f"{repository}/blobs/{digest}", expected=(200,)).content
        if sha256_digest(content) != digest:
            raise RegistryError(
                f"{self.host}/{repository}@{digest}: the content has the digest {sha256_digest(content)}"
            )
        return content

    def stream_blob(self, repository: str, digest: str) -> Iterator[bytes]:
        """Yield the content of the blob `digest` of `repository` in pieces. The caller must check that digest.

        The request is not repeated. Raise `RegistryError` if the repository does not have the blob.
        """
        with self._http.stream(f"{repository}/blobs/{digest}", repository) as response:
            # iter_raw: the bytes as stored. httpx must not decompress them, because the digest is that of these bytes.
            yield from response.iter_raw(_CHUNK_SIZE)

    def upload_blob(self, repository: str, blob: Blob, chunks: Chunks, *, sources: tuple[str, ...] = ()) -> bool:
        """Upload `blob` to `repository`, unless it is there already. Return True if its bytes were sent.

        `chunks` is called for its content. `sources` are other repositories of this registry: if the registry can mount
        the blob from one of them, its bytes are not sent. An upload that breaks is repeated from its beginning.
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
        """Ask the registry to store the bytes sent to the upload URL `location` as `blob` of `repository`.

        This request is repeated apart from the upload: after a lost response, the bytes need not be sent again.
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
        """Return the absolute URL at which an upload continues, from the header Location of `response`."""
        location = str(response.headers.get("location", ""))
        if not location:
            raise RegistryError(f"{self.host} sends no address for an upload; a proxy may have removed it")
        return urljoin(str(response.request.url), location)


def resolve_reference(reference: str, *, login: Login | None = None, patience: float = PATIENCE) -> Manifest | None:
    """Return the manifest or index that the image reference `reference` names; None if its registry has none.

    `login` and `patience` are those of `RegistryClient`. Raise `RegistryError` if the reference names no registry, or
    if the registry cannot be reached or refuses the request.
    """
    parsed = parse_reference(reference)
    with RegistryClient(parsed.host, login=login, patience=patience) as registry:
        return registry.read_manifest(parsed.repository, parsed.tag_or_digest)


def upload_image(
    content: PackedContent, repository: str, registry: RegistryClient, *, stop: Stop, sources: tuple[str, ...] = ()
) -> None:
    """Upload the blobs of the image `content` that `repository` of `registry` lacks, several at a time.

    No manifest and no tag is written. `sources` are other repositories of this registry; blobs that one of them has are
    mounted instead of sent. Raise `RegistryError` if an upload fails, and `Interrupted` if `stop` is set before the
    last upload starts.
    """

    def upload(blob: Blob) -> None:
        if stop.is_set():
            raise Interrupted("interrupted")
        registry.upload_blob(repository, blob, lambda: content.chunks(blob), sources=sources)

    with ThreadPoolExecutor(max_workers=PARALLEL_UPLOADS) as pool:
        for future in [pool.submit(upload, blob) for blob in content.manifest.blobs]:
            future.result()
