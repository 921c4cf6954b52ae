"""Count the requests to a registry under the names of ECR's API calls, because ECR limits them by these names."""

from collections import Counter
from collections.abc import Mapping
from threading import Lock

QUOTAS: Mapping[str, int] = {
    "BatchCheckLayerAvailability": 1000,
    "BatchGetImage": 2000,
    "CompleteLayerUpload": 100,
    "GetAuthorizationToken": 500,
    "GetDownloadUrlForLayer": 3000,
    "InitiateLayerUpload": 100,
    "PutImage": 10,
    "UploadLayerPart": 500,
}
"""API call of ECR -> calls per second that it allows an account in a region: the default of its service quota."""
_ECR_CALLS = {
    ("HEAD", "blobs"): "BatchCheckLayerAvailability",
    ("GET", "blobs"): "GetDownloadUrlForLayer",
    ("POST", "uploads"): "InitiateLayerUpload",
    ("PATCH", "uploads"): "UploadLayerPart",
    ("PUT", "uploads"): "CompleteLayerUpload",
    ("GET", "manifests"): "BatchGetImage",
    ("HEAD", "manifests"): "BatchGetImage",
    ("PUT", "manifests"): "PutImage",
    ("DELETE", "manifests"): "BatchDeleteImage",
    ("GET", "tags"): "ListImages",
}
"""Method and resource of a request of the OCI distribution protocol -> the API call that ECR counts for it.

The resource is the part of the path that says what is read or written.
"""


class RequestCounter:
    """The numbers of requests to one registry and of bytes uploaded to it. May be used by several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._calls: Counter[str] = Counter()
        self._uploads: Counter[str] = Counter()
        self.bytes = 0
        """Bytes of all uploaded blobs."""

    def count_request(self, method: str, path: str) -> None:
        """Count one request of the OCI distribution protocol under the name of ECR's API call.

        `method` is its HTTP method, `path` the path of its URL. A request that ECR has no call for is counted as its
        method and resource.
        """
        parts = path.split("/")
        # "uploads" first: the path of an upload contains "blobs" too.
        resource = next((name for name in ("uploads", "blobs", "manifests", "tags") if name in parts), "")
        self.count_call(_ECR_CALLS.get((method, resource), f"{method} {resource or path}"))

    def count_call(self, name: str) -> None:
        """Count one call of ECR's API; `name` is its name, such as `CreateRepository`."""
        with self._lock:
            self._calls[name] += 1

    def count_upload(self, digest: str, size: int) -> None:
        """Count one upload of the blob `digest`, with `size` bytes."""
        with self._lock:
            self._uploads[digest] += 1
            self.bytes += size

    @property
    def calls(self) -> Mapping[str, int]:
        """Return API call of ECR -> number of calls until now, the most frequent first."""
        with self._lock:
            return dict(self._calls.most_common())

    @property
    def uploads(self) -> Mapping[str, int]:
        """Return digest of a blob -> number of its uploads. More than one means that an upload was repeated."""
        with self._lock:
            return dict(self._uploads)
