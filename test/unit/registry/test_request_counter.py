"""Requests to a registry are counted under the names of ECR's quotas."""

import pytest

from rlimages.registry.request_counter import RequestCounter


@pytest.mark.parametrize(
    ("method", "path", "name"),
    [
        ("GET", "/v2/team/x/manifests/1.0", "BatchGetImage"),
        ("PUT", "/v2/team/x/manifests/1.0", "PutImage"),
        ("DELETE", "/v2/team/x/manifests/1.0", "BatchDeleteImage"),
        ("HEAD", "/v2/team/x/blobs/sha256:a", "BatchCheckLayerAvailability"),
        ("GET", "/v2/team/x/blobs/sha256:a", "GetDownloadUrlForLayer"),
        ("POST", "/v2/team/x/blobs/uploads/", "InitiateLayerUpload"),
        ("PATCH", "/v2/team/x/blobs/uploads/1", "UploadLayerPart"),
        ("PUT", "/v2/team/x/blobs/uploads/1", "CompleteLayerUpload"),
        ("GET", "/v2/team/x/tags/list", "ListImages"),
        ("GET", "/v2/", "GET /v2/"),
    ],
)
def test_a_request_has_the_name_of_its_api_call(method, path, name) -> None:
    counter = RequestCounter()
    counter.count_request(method, path)
    assert counter.calls == {name: 1}


def test_calls_are_listed_with_the_most_frequent_first() -> None:
    counter = RequestCounter()
    for name in ("PutImage", "GetAuthorizationToken", "PutImage"):
        counter.count_call(name)
    assert list(counter.calls.items()) == [("PutImage", 2), ("GetAuthorizationToken", 1)]


def test_uploads_are_counted_by_digest_with_the_sum_of_their_bytes() -> None:
    counter = RequestCounter()
    for digest, size in (("sha256:a", 10), ("sha256:b", 5), ("sha256:a", 10)):
        counter.count_upload(digest, size)
    assert (counter.uploads, counter.bytes) == ({"sha256:a": 2, "sha256:b": 1}, 25)
