"""The client of ECR's API, against a session that answers like boto3, and the credentials that use it."""

import base64
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from rlimages.errors import RegistryError
from rlimages.registry.ecr import MAX_DELETED, EcrClient, EcrCredentials
from rlimages.registry.repository_settings import RawRepositories

ACCOUNT, REGION = "123456789012", "us-west-2"
HOUR = 3600


class Api:
    """ECR's API. Calls are recorded; an answer may be an error code, which is raised as boto3 does."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.answers: dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        def call(**arguments: Any) -> Any:
            from botocore.exceptions import ClientError

            self.calls.append((name, arguments))
            answer = self.answers.get(name, {})
            if isinstance(answer, str):
                raise ClientError({"Error": {"Code": answer, "Message": "a reason"}}, name)
            return answer

        return call

    def named(self, name: str) -> list[dict[str, Any]]:
        return [arguments for called, arguments in self.calls if called == name]


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def ecr(api) -> EcrClient:
    return EcrClient(SimpleNamespace(client=lambda *_arguments, **_options: api), REGION, ACCOUNT)


def test_an_existing_repository_is_not_changed(ecr, api) -> None:
    assert not ecr.ensure_repository("team/x", RawRepositories(lifecycle={"rules": []}), ())
    assert [name for name, _ in api.calls] == ["describe_repositories"]


def test_a_new_repository_has_the_settings_of_the_target(ecr, api) -> None:
    api.answers["describe_repositories"] = "RepositoryNotFoundException"
    assert ecr.ensure_repository("team/x", RawRepositories(lifecycle={"rules": []}, tags={"team": "rl"}), ["ray-*"])
    (created,) = api.named("create_repository")
    assert created["imageTagMutability"] == "IMMUTABLE_WITH_EXCLUSION"
    assert created["encryptionConfiguration"] == {"encryptionType": "AES256"}
    assert created["tags"] == [{"Key": "team", "Value": "rl"}]
    (policy,) = api.named("put_lifecycle_policy")
    assert policy["lifecyclePolicyText"] == '{"rules": []}'


def test_a_repository_whose_policy_ecr_refuses_is_deleted_again(ecr, api) -> None:
    api.answers |= {
        "describe_repositories": "RepositoryNotFoundException",
        "put_lifecycle_policy": "InvalidParameterException",
    }
    with pytest.raises(RegistryError, match="ECR in us-west-2 refused PutLifecyclePolicy: InvalidParameterException"):
        ecr.ensure_repository("team/x", RawRepositories(lifecycle={"rules": []}), ())
    assert api.named("delete_repository") == [{"registryId": ACCOUNT, "repositoryName": "team/x"}]


def test_images_are_deleted_in_batches_by_digest_or_tag(ecr, api) -> None:
    names = [f"sha256:{number}" for number in range(MAX_DELETED)] + ["1.0"]
    assert ecr.delete_images("team/x", names) == {}
    first, second = (arguments["imageIds"] for arguments in api.named("batch_delete_image"))
    assert (len(first), first[0], second) == (MAX_DELETED, {"imageDigest": "sha256:0"}, [{"imageTag": "1.0"}])


def test_images_that_are_not_deleted_are_returned_with_the_reason(ecr, api) -> None:
    api.answers["batch_delete_image"] = {
        "failures": [
            {"imageId": {"imageDigest": "sha256:a"}, "failureCode": "ImageNotFound", "failureReason": "gone"},
            {"imageId": {"imageTag": "1.0"}, "failureCode": "KmsError", "failureReason": "no key"},
        ]
    }
    assert ecr.delete_images("team/x", ["sha256:a", "1.0"]) == {"1.0": "no key"}
    with pytest.raises(RegistryError, match=r"us-west-2\.amazonaws\.com/team/x:1\.0 was not removed: no key"):
        ecr.delete_tag("team/x", "1.0")


def password(expires: float) -> dict[str, Any]:
    token = base64.b64encode(b"AWS:word").decode()
    return {"authorizationData": [{"authorizationToken": token, "expiresAt": datetime.fromtimestamp(expires, tz=UTC)}]}


def test_a_password_is_fetched_once_and_renewed_15_minutes_before_it_expires(ecr, api) -> None:
    now = [1_000_000.0]
    api.answers["get_authorization_token"] = password(now[0] + 12 * HOUR)
    credentials = EcrCredentials(ecr, clock=lambda: now[0])
    assert credentials.find("any host") == credentials.find("any host") == ("AWS", "word")
    now[0] += 11.75 * HOUR
    credentials.find("any host")
    assert len(api.named("get_authorization_token")) == 1
    now[0] += 1
    credentials.find("any host")
    assert len(api.named("get_authorization_token")) == 2


def test_a_password_that_seems_to_have_expired_is_fetched_at_most_once_in_15_minutes(ecr, api) -> None:
    now = [1_000_000.0]
    api.answers["get_authorization_token"] = password(0)
    credentials = EcrCredentials(ecr, clock=lambda: now[0])
    for seconds in (0, 60, 14 * 60 - 1, 60, 2):
        now[0] += seconds
        credentials.find("any host")
    assert len(api.named("get_authorization_token")) == 2


def test_a_refused_password_is_fetched_again(ecr, api) -> None:
    api.answers["get_authorization_token"] = password(2_000_000_000)
    credentials = EcrCredentials(ecr, clock=lambda: 1_000_000.0)
    credentials.find("any host")
    assert credentials.forget("any host")
    credentials.find("any host")
    assert len(api.named("get_authorization_token")) == 2
