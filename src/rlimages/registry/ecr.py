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
"""A password is renewed this long before it expires, after 12 hours, so that it does not expire during an upload."""
_NOT_FOUND_CODES = ("RepositoryNotFoundException", "ScanNotFoundException")
_ECR_HOST = re.compile(r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.")
Clock = Callable[[], float]


@dataclass(frozen=True, kw_only=True, slots=True)
class EcrAddress:
    """The account and region of an ECR registry."""

    account: str
    region: str

    @property
    def host(self) -> str:
        """Return the host, `<account>.dkr.ecr.<region>.<DNS suffix of the region's AWS partition>`."""
        return ecr_host(self.account, self.region, load_accounts().domain(self.region))


class EcrClient:
    """A client of ECR's API in one region. All methods raise `RegistryError` with the message of AWS."""

    def __init__(
        self, session: Any, region: str, account: str | None = None, counter: RequestCounter | None = None
    ) -> None:
        """Use a session of boto3. Without `account`, the account of the session's credentials is used."""
        self._session = session
        self._region = region
        self._counter = counter or RequestCounter()
        self._ecr = _boto_client(session, "ecr", region)
        self.address = EcrAddress(account=account or self._own_account(), region=region)

    def get_password(self) -> tuple[str, str, float]:
        """Return user, password, and the time in seconds since 1970 at which the password expires."""
        with self._api_call("GetAuthorizationToken"):
            (data,) = self._ecr.get_authorization_token()["authorizationData"]
        user, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
        return user, password, data["expiresAt"].timestamp()

    def ensure_repository(self, repository: str, settings: "RawRepositories", floating: Sequence[str]) -> bool:
        """Create a repository if it does not exist. Return True if it was created.

        `floating` are the patterns of the tags that may move. The settings of an existing repository are not changed.
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
        """Set the lifecycle policy of a new repository; delete the repository if ECR refuses the policy."""
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
        """Delete one tag and return True. With its last tag, ECR deletes the image too."""
        for reason in self.delete_images(repository, [tag]).values():
            raise RegistryError(f"{self.address.host}/{repository}:{tag} was not removed: {reason}")
        return True

    def delete_images(self, repository: str, names: Sequence[str]) -> dict[str, str]:
        """Delete images by digest, and tags by name. Return the names that were not deleted, with ECR's reason.

        With its last tag, ECR deletes the image too. An image that does not exist counts as deleted.
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
        """Return ECR's `imageDetails` of all images of a repository; none if the repository does not exist."""
        try:
            with self._api_call("DescribeImages"):
                pages = self._ecr.get_paginator("describe_images").paginate(
                    registryId=self.address.account, repositoryName=repository
                )
                return [image for page in pages for image in page["imageDetails"]]
        except _NotFoundError:
            return []

    def scan_findings(self, repository: str, digest: str) -> Mapping[str, Any] | None:
        """Return ECR's scan findings of an image, all pages merged into one; None if it was never scanned."""
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
        """Start a scan of an image. ECR allows one a day for each image."""
        with self._api_call("StartImageScan"):
            self._ecr.start_image_scan(
                registryId=self.address.account, repositoryName=repository, imageId={"imageDigest": digest}
            )

    def _has_repository(self, repository: str) -> bool:
        try:
            with self._api_call("DescribeRepositories"):
                self._ecr.describe_repositories(registryId=self.address.account, repositoryNames=[repository])
        except _NotFoundError:
            return False
        return True

    def _own_account(self) -> str:
        with self._api_call("GetCallerIdentity"):
            return str(_boto_client(self._session, "sts", self._region).get_caller_identity()["Account"])

    @contextmanager
    def _api_call(self, name: str) -> Iterator[None]:
        """Count a call of the API, and turn the errors of boto3 into `RegistryError`."""
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
    """A repository or a scan does not exist."""

    def __init__(self, message: str, code: str) -> None:
        """`code` is the name that AWS gives the error."""
        super().__init__(message)
        self.code = code


def open_ecr(
    region: str, *, account: str | None = None, profile: str | None = None, counter: RequestCounter | None = None
) -> EcrClient:
    """Return a client of ECR in one region. Raise `RegistryError` if the AWS profile or the credentials are missing."""
    import boto3
    from botocore.exceptions import BotoCoreError

    try:
        session = boto3.Session(profile_name=profile, region_name=region)
    except BotoCoreError as error:
        raise RegistryError(f"cannot use AWS: {error}") from error
    return EcrClient(session, region, account, counter)


def _boto_client(session: Any, service: str, region: str) -> Any:
    from botocore.config import Config

    # adaptive: boto3 lowers its own rate of calls when AWS answers that there are too many. ECR's quotas count for the
    # whole account, so other builds of the account may use them up at the same time.
    config = Config(retries={"mode": "adaptive", "max_attempts": 10}, connect_timeout=10, read_timeout=60)
    return session.client(service, region_name=region, config=config)


class EcrCredentials(Credentials):
    """The password of an ECR registry. It is valid for 12 hours, and renewed before it expires."""

    def __init__(self, ecr: EcrClient, *, clock: Clock = time.time) -> None:
        """Get passwords from this client. `clock` returns seconds since 1970."""
        self._ecr = ecr
        self._clock = clock
        self._password: tuple[str, str, float] | None = None
        """User, password, and the time at which it expires."""
        self._fetched_at = 0.0

    def find(self, _host: str) -> tuple[str, str]:
        """Return user and password."""
        now = self._clock()
        if self._password is None or self._is_due(self._password[2], now):
            self._password, self._fetched_at = self._ecr.get_password(), now
        return self._password[:2]

    def _is_due(self, expires: float, now: float) -> bool:
        # The second condition limits the calls to one in 15 minutes if AWS or the clock of this machine gives a time of
        # expiry that has passed already.
        return now > expires - _RENEW_SECONDS and now > self._fetched_at + _RENEW_SECONDS

    def forget(self, _host: str) -> bool:
        """Drop the password and return True: ECR answers 403 to an expired one, and a new one helps."""
        self._password = None
        return True


class HostCredentials(Credentials):
    """The credentials of `docker login`; for ECR hosts without such credentials, those of boto3."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Use the Docker configuration that this environment names."""
        self._docker = DockerCredentials(docker_folder(environ))
        self._ecr: dict[str, EcrCredentials] = {}

    def find(self, host: str) -> tuple[str, str] | None:
        """Return user and password for a host; None if there are none. Raise `RegistryError` if AWS gives none."""
        return self._credentials(host).find(host)

    def forget(self, host: str) -> bool:
        """Drop a password that a registry refused. Return False if the next lookup would give the same one."""
        return self._credentials(host).forget(host)

    def _credentials(self, host: str) -> Credentials:
        address = _ECR_HOST.match(host)
        if address is None or self._docker.find(host) is not None:
            return self._docker
        if host not in self._ecr:
            self._ecr[host] = EcrCredentials(open_ecr(address["region"], account=address["account"]))
        return self._ecr[host]
