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
"""Calls per second that ECR allows an account in a region: the default values of its service quotas."""
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
"""Method and resource of a request of the OCI distribution protocol -> the API call that ECR counts for it."""


class RequestCounter:
    """The number of requests and uploaded bytes of one registry. May be used by several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._calls: Counter[str] = Counter()
        self._uploads: Counter[str] = Counter()
        self.bytes = 0
        """Bytes of all uploaded blobs."""

    def count_request(self, method: str, path: str) -> None:
        """Count one request of the OCI distribution protocol."""
        parts = path.split("/")
        # "uploads" first: the path of an upload contains "blobs" too.
        resource = next((name for name in ("uploads", "blobs", "manifests", "tags") if name in parts), "")
        self.count_call(_ECR_CALLS.get((method, resource), f"{method} {resource or path}"))

    def count_call(self, name: str) -> None:
        """Count one call of ECR's API."""
        with self._lock:
            self._calls[name] += 1

    def count_upload(self, digest: str, size: int) -> None:
        """Count one uploaded blob."""
        with self._lock:
            self._uploads[digest] += 1
            self.bytes += size

    @property
    def calls(self) -> Mapping[str, int]:
        """Return the number of calls by name, the most frequent first."""
        with self._lock:
            return dict(self._calls.most_common())

    @property
    def uploads(self) -> Mapping[str, int]:
        """Return by digest how often a blob was uploaded. More than once means that work was wasted."""
        with self._lock:
            return dict(self._uploads)
