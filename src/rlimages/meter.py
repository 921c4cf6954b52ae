"""Count what a run asks of registries: calls against ECR's quotas, and bytes sent."""

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
"""Calls a second that ECR allows an account in a region: the defaults of its service quotas."""

_CALLS = {
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


class Meter:
    """Counts for one registry. May be used by several threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._calls: Counter[str] = Counter()
        self._uploads: Counter[str] = Counter()
        self.bytes = 0
        """Of blobs, sent."""

    def counted(self, method: str, path: str) -> None:
        """One request of the distribution protocol."""
        parts = path.split("/")
        kind = next((word for word in ("uploads", "blobs", "manifests", "tags") if word in parts), "")
        self.called(_CALLS.get((method, kind), f"{method} {kind or path}"))

    def called(self, name: str) -> None:
        """One call of ECR's API by its name."""
        with self._lock:
            self._calls[name] += 1

    def uploaded(self, digest: str, size: int) -> None:
        """A blob has travelled."""
        with self._lock:
            self._uploads[digest] += 1
            self.bytes += size

    @property
    def calls(self) -> Mapping[str, int]:
        """Name of ECR's API call -> how often, the most frequent first."""
        with self._lock:
            return dict(self._calls.most_common())

    @property
    def uploads(self) -> Mapping[str, int]:
        """Digest -> how often its bytes have travelled: once, or something is wrong."""
        with self._lock:
            return dict(self._uploads)
