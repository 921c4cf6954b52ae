"""Amazon ECR: create repositories, get passwords, list, delete and scan images."""

import base64
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlimages.errors import RegistryError
from rlimages.matrix.accounts import ecr_host, load_accounts
from rlimages.registry.auth import Credentials, DockerCredentials, docker_folder
from rlimages.registry.request_counter import RequestCounter

if TYPE_CHECKING:
    from rlimages.registry.repository_settings import RawRepositories

MAX_DELETED = 100
"""Images that one call of BatchDeleteImage accepts."""
_RENEW_SECONDS = 15 * 60
"""Seconds before it expires at which a password is renewed, so that it does not expire during an upload."""
_NOT_FOUND_CODES = ("RepositoryNotFoundException", "ScanNotFoundException")
"""AWS's names of the errors about a repository or scan that does not exist."""
_ECR_HOST = re.compile(r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.")
Clock = Callable[[], float]
"""Returns the current time in seconds since 1970."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EcrAddress:
    """The AWS account and region of an ECR registry."""

    account: str
    region: str

    @property
    def host(self) -> str:
        """Return the host of the registry, `<account>.dkr.ecr.<region>.<DNS suffix of the region's AWS partition>`."""
        return ecr_host(self.account, self.region, load_accounts().domain(self.region))


class EcrClient:
    """A client of ECR's API for the registry of one account in one region.

    The argument `repository` of the methods is a path in that registry, such as `team/image`. All methods raise
    `RegistryError` if there are no credentials, or if AWS refuses the call (with its message) or does not answer.
    """

    def __init__(
        self, session: Any, region: str, account: str | None = None, counter: RequestCounter | None = None
    ) -> None:
        """Call the API of `region` with the credentials of the boto3 session `session`. `counter` counts the calls.

        Without `account`, the registry of the account that the session's credentials belong to is used.
        """
        self._session = session
        self._region = region
        self._counter = counter or RequestCounter()
        self._ecr = _boto_client(session, "ecr", region)
        self.address = EcrAddress(account=account or self._own_account(), region=region)

    def get_password(self) -> tuple[str, str, float]:
        """Return user name, a new password, and the time in seconds since 1970 at which the password expires."""
        with self._api_call("GetAuthorizationToken"):
            (data,) = self._ecr.get_authorization_token()["authorizationData"]
        user, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
        return user, password, data["expiresAt"].timestamp()

    def ensure_repository(self, repository: str, settings: "RawRepositories", floating: Sequence[str]) -> bool:
        """Create `repository` with `settings` if it does not exist. Return True if it was created.

        `floating` has the patterns of the tags that may move. An existing repository is not changed. Raise
        `RegistryError` for more patterns than ECR accepts.
        """
        from rlimages.registry.repository_settings import mutability_arguments

        if self._has_repository(repository):
            return False
        encryption: dict[str, str] = {"encryptionType": settings.encryption.type}
        if settings.encryption.key:
            encryption["kmsKey"] = settings.encryption.key
        with self._api_call("CreateRepository"):
            self._ecr.create_repository(
                registryId=self.address.account,
                repositoryName=repository,
                imageScanningConfiguration={"scanOnPush": settings.scan_on_push},
                encryptionConfiguration=encryption,
                tags=[{"Key": name, "Value": value} for name, value in settings.tags.items()],
                **mutability_arguments(floating, immutable=settings.immutable),
            )
        if settings.lifecycle:
            self._put_lifecycle_policy(repository, settings.lifecycle)
        return True

    def _put_lifecycle_policy(self, repository: str, policy: Mapping[str, Any]) -> None:
        """Set the lifecycle policy of a new repository; `policy` is in ECR's own format.

        If ECR refuses it, delete the repository and raise `RegistryError`.
        """
        arguments = {"registryId": self.address.account, "repositoryName": repository}
        try:
            with self._api_call("PutLifecyclePolicy"):
                self._ecr.put_lifecycle_policy(**arguments, lifecyclePolicyText=json.dumps(policy))
        except RegistryError:
            # The settings of existing repositories are never changed: if the repository stayed, the next run would use
            # it without its policy.
            with self._api_call("DeleteRepository"):
                self._ecr.delete_repository(**arguments)
            raise

    def delete_tag(self, repository: str, tag: str) -> bool:
        """Delete `tag` of `repository` and return True. If it is the last tag of an image, ECR deletes the image too.

        A tag that does not exist counts as deleted. Raise `RegistryError` with ECR's reason if it was not deleted.
        """
        for reason in self.delete_images(repository, [tag]).values():
            raise RegistryError(f"{self.address.host}/{repository}:{tag} was not removed: {reason}")
        return True

    def delete_images(self, repository: str, names: Sequence[str]) -> dict[str, str]:
        """Delete images and tags of `repository`. Return name -> ECR's reason for those that were not deleted.

        Each of `names` is a digest, which deletes the image, or a tag, which deletes the tag and, if it is the last tag
        of its image, the image too. A name that does not exist counts as deleted.
        """
        failed = {}
        for start in range(0, len(names), MAX_DELETED):
            ids = [{"imageDigest" if ":" in name else "imageTag": name} for name in names[start : start + MAX_DELETED]]
            with self._api_call("BatchDeleteImage"):
                answer = self._ecr.batch_delete_image(
                    registryId=self.address.account, repositoryName=repository, imageIds=ids
                )
            for failure in answer.get("failures", ()):
                if failure["failureCode"] != "ImageNotFound":
                    image_id = failure["imageId"]
                    failed[image_id.get("imageTag") or image_id["imageDigest"]] = failure["failureReason"]
        return failed

    def describe_images(self, repository: str) -> Iterable[Mapping[str, Any]]:
        """Return ECR's description of each image of `repository`: the entries `imageDetails` of DescribeImages.

        Return an empty list if the repository does not exist.
        """
        try:
            with self._api_call("DescribeImages"):
                pages = self._ecr.get_paginator("describe_images").paginate(
                    registryId=self.address.account, repositoryName=repository
                )
                return [image for page in pages for image in page["imageDetails"]]
        except _NotFoundError:
            return []

    def scan_findings(self, repository: str, digest: str) -> Mapping[str, Any] | None:
        """Return ECR's answer to DescribeImageScanFindings for the image `digest` of `repository`.

        The findings of all its pages are merged. Return None if the image was never scanned.
        """
        merged: dict[str, Any] = {}
        # Basic scanning fills the first list, enhanced scanning (Amazon Inspector) the second.
        findings: dict[str, list[Any]] = {"findings": [], "enhancedFindings": []}
        try:
            with self._api_call("DescribeImageScanFindings"):
                pages = self._ecr.get_paginator("describe_image_scan_findings").paginate(
                    registryId=self.address.account, repositoryName=repository, imageId={"imageDigest": digest}
                )
                for page in pages:
                    merged = page
                    for kind in findings:
                        findings[kind] += page.get("imageScanFindings", {}).get(kind, ())
        except _NotFoundError as error:
            if error.code != "ScanNotFoundException":
                raise
            return None
        return {**merged, "imageScanFindings": {**merged.get("imageScanFindings", {}), **findings}}

    def start_scan(self, repository: str, digest: str) -> None:
        """Start a scan of the image `digest` of `repository`. Raise `RegistryError` at the second scan of a day."""
        with self._api_call("StartImageScan"):
            self._ecr.start_image_scan(
                registryId=self.address.account, repositoryName=repository, imageId={"imageDigest": digest}
            )

    def _has_repository(self, repository: str) -> bool:
        """Return whether `repository` exists in the registry."""
        try:
            with self._api_call("DescribeRepositories"):
                self._ecr.describe_repositories(registryId=self.address.account, repositoryNames=[repository])
        except _NotFoundError:
            return False
        return True

    def _own_account(self) -> str:
        """Return the id of the account that the session's credentials belong to."""
        with self._api_call("GetCallerIdentity"):
            return str(_boto_client(self._session, "sts", self._region).get_caller_identity()["Account"])

    @contextmanager
    def _api_call(self, name: str) -> Iterator[None]:
        """Count one call of the API operation `name`; turn errors of boto3 in the `with` block into `RegistryError`.

        A missing repository or scan becomes a `_NotFoundError`.
        """
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        self._counter.count_call(name)
        try:
            yield
        except NoCredentialsError as error:
            raise RegistryError(
                "there are no AWS credentials; set AWS_PROFILE, or give the job a role that may use ECR"
            ) from error
        except ClientError as error:
            details = error.response.get("Error", {})
            code = details.get("Code", "?")
            message = f"ECR in {self._region} refused {name}: {code}: {details.get('Message', '')}"
            raise (_NotFoundError(message, code) if code in _NOT_FOUND_CODES else RegistryError(message)) from error
        except BotoCoreError as error:
            raise RegistryError(f"ECR in {self._region} does not answer to {name}: {error}") from error


class _NotFoundError(RegistryError):
    """An answer of ECR that a repository or a scan does not exist."""

    def __init__(self, message: str, code: str) -> None:
        """Take the text `message`, and AWS's name `code` for the error, such as `ScanNotFoundException`."""
        super().__init__(message)
        self.code = code


def open_ecr(
    region: str, *, account: str | None = None, profile: str | None = None, counter: RequestCounter | None = None
) -> EcrClient:
    """Return a client of ECR in `region`, with the AWS credentials of this machine.

    `profile` is the name of an AWS profile; without it, boto3 searches credentials in its usual order. Without
    `account`, the registry of the credentials' own account is used. `counter` counts the calls. Raise `RegistryError`
    if the profile does not exist, or if the account is asked for and there are no credentials.
    """
    import boto3
    from botocore.exceptions import BotoCoreError

    try:
        session = boto3.Session(profile_name=profile, region_name=region)
    except BotoCoreError as error:
        raise RegistryError(f"cannot use AWS: {error}") from error
    return EcrClient(session, region, account, counter)


def _boto_client(session: Any, service: str, region: str) -> Any:
    """Return a client of the AWS service `service` in `region` that repeats refused calls at a lower rate.

    `session` is a session of boto3; its credentials are used.
    """
    from botocore.config import Config

    # adaptive: boto3 lowers its own rate of calls when AWS answers that there are too many. ECR's quotas count for the
    # whole account, so other builds of the account may use them up at the same time.
    config = Config(retries={"mode": "adaptive", "max_attempts": 10}, connect_timeout=10, read_timeout=60)
    return session.client(service, region_name=region, config=config)


class EcrCredentials(Credentials):
    """The credentials for one ECR registry. A password is valid for 12 hours, and is renewed before it expires."""

    def __init__(self, ecr: EcrClient, *, clock: Clock = time.time) -> None:
        """Get passwords from the registry's client `ecr`, the first one when it is needed.

        `clock` returns the time by which passwords expire.
        """
        self._ecr = ecr
        self._clock = clock
        self._password: tuple[str, str, float] | None = None
        """User name, password, and the time at which it expires; None before the first, and after `forget`."""
        self._fetched_at = 0.0

    def find(self, _host: str) -> tuple[str, str]:
        """Return user name and password of the registry. Raise `RegistryError` if AWS gives no new password.

        `_host` is ignored: an instance belongs to one registry.
        """
        now = self._clock()
        if self._password is None or self._is_due(self._password[2], now):
            self._password, self._fetched_at = self._ecr.get_password(), now
        return self._password[:2]

    def _is_due(self, expires: float, now: float) -> bool:
        """Return whether, at the time `now`, a password that expires at the time `expires` must be renewed."""
        # The second condition limits the calls to one in 15 minutes if AWS or the clock of this machine gives a time of
        # expiry that has passed already.
        return now > expires - _RENEW_SECONDS and now > self._fetched_at + _RENEW_SECONDS

    def forget(self, _host: str) -> bool:
        """Drop the password and return True: the registry refused it because it expired, and the next one is new."""
        self._password = None
        return True


class HostCredentials(Credentials):
    """The credentials for any registry: those of `docker login`, or for an ECR host without a login, those of AWS."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Read the Docker configuration in the folder DOCKER_CONFIG of `environ`, or else in `~/.docker`."""
        self._docker = DockerCredentials(docker_folder(environ))
        self._ecr: dict[str, EcrCredentials] = {}

    def find(self, host: str) -> tuple[str, str] | None:
        """Return user name and password for the registry at `host`; None if there are none.

        Raise `RegistryError` if AWS gives no password for an ECR host, or if Docker's configuration is broken.
        """
        return self._credentials(host).find(host)

    def forget(self, host: str) -> bool:
        """Drop the password for `host`, which the registry refused.

        Return True if the next `find` may give another one.
        """
        return self._credentials(host).forget(host)

    def _credentials(self, host: str) -> Credentials:
        """Return the source of the credentials for `host`: AWS for an ECR host without `docker login`, else Docker."""
        address = _ECR_HOST.match(host)
        if address is None or self._docker.find(host) is not None:
            return self._docker
        if host not in self._ecr:
            self._ecr[host] = EcrCredentials(open_ecr(address["region"], account=address["account"]))
        return self._ecr[host]
