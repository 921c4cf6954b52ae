"""Amazon ECR: create repositories, get tokens, delete images, read scan findings."""

import base64
import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from rlimages.config.schema import StrictModel
from rlimages.errors import RegistryError
from rlimages.matrix.accounts import ecr_host, load_accounts
from rlimages.registry.auth import Credentials, DockerCredentials, docker_folder
from rlimages.registry.http import RequestCounter

if TYPE_CHECKING:
    from collections.abc import Iterator


class RawEncryption(StrictModel):
    """How ECR encrypts a repository that we create."""

    type: Literal["AES256", "KMS"] = "AES256"
    key: str | None = Field(default=None, description="ARN of a KMS key; by default the one of ECR.")


class RawRepositories(StrictModel):
    """What repositories are like that we create; those that exist are left alone."""

    immutable: bool = Field(default=True, description="Tags stay; but those of `floating`, where ECR can except them.")
    scan_on_push: bool = True
    encryption: RawEncryption = RawEncryption()
    lifecycle: dict[str, Any] | None = Field(default=None, description="ECR's lifecycle policy, as it takes it.")
    tags: dict[str, str] = Field(default={}, description="Cost allocation and the like.")


MAX_FILTERS = 5
"""Exclusion filters that a repository's tag mutability takes (ECR, PutImageTagMutability)."""


def mutability_arguments(floating: Sequence[str], *, immutable: bool) -> dict[str, Any]:
    """The words of CreateRepository for tags that stay, but these. Raises `RegistryError` for more than ECR takes."""
    if len(floating) > MAX_FILTERS:
        raise RegistryError(
            f"a repository would have {len(floating)} patterns of tags that may move, and ECR takes {MAX_FILTERS}; "
            f"say which with wildcards in the target's `floating`"
        )
    if not immutable or "*" in floating:
        return {"imageTagMutability": "MUTABLE"}
    if not floating:
        return {"imageTagMutability": "IMMUTABLE"}
    filters = [{"filterType": "WILDCARD", "filter": pattern} for pattern in floating]
    return {
        "imageTagMutability": "IMMUTABLE_WITH_EXCLUSION",
        "imageTagMutabilityExclusionFilters": filters,
    }


def fold_patterns(
    tags: Iterable[str], stays: Iterable[str], processors: Sequence[str] = ("cpu", "gpu")
) -> tuple[str, ...]:
    """Few patterns for many floating tags: the processor's name becomes `*`, where no tag that stays then matches."""
    kept = tuple(stays)
    patterns: dict[str, None] = {}
    for tag in tags:
        parts = ["*" if part in processors else part for part in tag.split("-")]
        pattern = "-".join(parts)
        patterns[tag if any(fnmatchcase(other, pattern) for other in kept) else pattern] = None
    return tuple(patterns)


MAX_DELETED = 100
"""Images that one BatchDeleteImage takes."""
_RENEW_SECONDS = 15 * 60
"""Seconds before its end (12 hours) at which a token is renewed, so that no upload outlives it."""
_MISSING = ("RepositoryNotFoundException", "ScanNotFoundException")
Clock = Callable[[], float]


@dataclass(frozen=True, kw_only=True, slots=True)
class EcrAddress:
    """One ECR registry."""

    account: str
    region: str

    @property
    def host(self) -> str:
        """`<account>.dkr.ecr.<region>.<DNS suffix of its partition>`."""
        return ecr_host(self.account, self.region, load_accounts().domain(self.region))


class EcrClient:
    """ECR in one region. Every method raises `RegistryError` with what AWS said."""

    def __init__(
        self, session: Any, region: str, account: str | None = None, meter: RequestCounter | None = None
    ) -> None:
        """`session` is boto3's; without `account`, that of its credentials is taken."""
        self._session = session
        self._region = region
        self._meter = meter or RequestCounter()
        self._ecr = _client(session, "ecr", region)
        self.where = EcrAddress(account=account or self._own_account(), region=region)

    def token(self) -> tuple[str, str, float]:
        """User, password, and the time (seconds since 1970) until which they hold."""
        with self._asking("GetAuthorizationToken"):
            (data,) = self._ecr.get_authorization_token()["authorizationData"]
        user, _, password = base64.b64decode(data["authorizationToken"]).decode().partition(":")
        return user, password, data["expiresAt"].timestamp()

    def ensure(self, repository: str, wanted: RawRepositories, floating: Sequence[str]) -> bool:
        """Create a repository where there is none; True when it was created. `floating`: tags that may move."""
        if self._exists(repository):
            return False
        encryption: dict[str, str] = {"encryptionType": wanted.encryption.type}
        if wanted.encryption.key:
            encryption["kmsKey"] = wanted.encryption.key
        with self._asking("CreateRepository"):
            self._ecr.create_repository(
                registryId=self.where.account,
                repositoryName=repository,
                imageScanningConfiguration={"scanOnPush": wanted.scan_on_push},
                encryptionConfiguration=encryption,
                tags=[{"Key": name, "Value": value} for name, value in wanted.tags.items()],
                **mutability_arguments(floating, immutable=wanted.immutable),
            )
        if wanted.lifecycle:
            self._set_lifecycle(repository, wanted.lifecycle)
        return True

    def _set_lifecycle(self, repository: str, policy: Mapping[str, Any]) -> None:
        """Or there is no such repository: the next run would take it for one that is as it should be."""
        place = {"registryId": self.where.account, "repositoryName": repository}
        try:
            with self._asking("PutLifecyclePolicy"):
                self._ecr.put_lifecycle_policy(**place, lifecyclePolicyText=json.dumps(policy))
        except RegistryError:
            with self._asking("DeleteRepository"):
                self._ecr.delete_repository(**place)
            raise

    def untag(self, repository: str, tag: str) -> bool:
        """Remove one tag; the image stays while it has another."""
        for reason in self.delete(repository, [tag]).values():
            raise RegistryError(f"{self.where.host}/{repository}:{tag} was not removed: {reason}")
        return True

    def delete(self, repository: str, names: Sequence[str]) -> dict[str, str]:
        """Delete images by digest, and remove tags; with the last tag its image goes. Name -> why it is still there."""
        left = {}
        for start in range(0, len(names), MAX_DELETED):
            ids = [{"imageDigest" if ":" in name else "imageTag": name} for name in names[start : start + MAX_DELETED]]
            with self._asking("BatchDeleteImage"):
                told = self._ecr.batch_delete_image(
                    registryId=self.where.account, repositoryName=repository, imageIds=ids
                )
            for failure in told.get("failures", ()):
                if failure["failureCode"] != "ImageNotFound":
                    named = failure["imageId"]
                    left[named.get("imageTag") or named["imageDigest"]] = failure["failureReason"]
        return left

    def images(self, repository: str) -> Iterable[Mapping[str, Any]]:
        """What ECR's DescribeImages tells of each image of a repository; nothing where there is no such repository."""
        try:
            with self._asking("DescribeImages"):
                pages = self._ecr.get_paginator("describe_images").paginate(
                    registryId=self.where.account, repositoryName=repository
                )
                return [image for page in pages for image in page["imageDetails"]]
        except _MissingError:
            return []

    def scan_findings(self, repository: str, digest: str) -> Mapping[str, Any] | None:
        """What DescribeImageScanFindings tells of an image, all pages as one; None where no scan was ever begun."""
        told: dict[str, Any] = {}
        found: dict[str, list[Any]] = {"findings": [], "enhancedFindings": []}
        try:
            with self._asking("DescribeImageScanFindings"):
                pages = self._ecr.get_paginator("describe_image_scan_findings").paginate(
                    registryId=self.where.account, repositoryName=repository, imageId={"imageDigest": digest}
                )
                for page in pages:
                    told = page
                    for kind in found:
                        found[kind] += page.get("imageScanFindings", {}).get(kind, ())
        except _MissingError as error:
            if error.code != "ScanNotFoundException":
                raise
            return None
        return {**told, "imageScanFindings": {**told.get("imageScanFindings", {}), **found}}

    def begin_scan(self, repository: str, digest: str) -> None:
        """Have an image scanned; ECR does so once a day."""
        with self._asking("StartImageScan"):
            self._ecr.start_image_scan(
                registryId=self.where.account, repositoryName=repository, imageId={"imageDigest": digest}
            )

    def _exists(self, repository: str) -> bool:
        try:
            with self._asking("DescribeRepositories"):
                self._ecr.describe_repositories(registryId=self.where.account, repositoryNames=[repository])
        except _MissingError:
            return False
        return True

    def _own_account(self) -> str:
        with self._asking("GetCallerIdentity"):
            return str(_client(self._session, "sts", self._region).get_caller_identity()["Account"])

    @contextmanager
    def _asking(self, call: str) -> "Iterator[None]":
        from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

        self._meter.called(call)
        try:
            yield
        except NoCredentialsError as error:
            raise RegistryError(
                "there are no AWS credentials; set AWS_PROFILE, or give the job a role that may use ECR"
            ) from error
        except ClientError as error:
            told = error.response.get("Error", {})
            code, message = told.get("Code", "?"), told.get("Message", "")
            what = f"ECR in {self._region} refused {call}: {code}: {message}"
            raise (_MissingError(what, code) if code in _MISSING else RegistryError(what)) from error
        except BotoCoreError as error:
            raise RegistryError(f"ECR in {self._region} cannot be asked for {call}: {error}") from error


class EcrCredentials(Credentials):
    """The password that ECR gives for twelve hours: asked for when it is needed, and again before it ends."""

    def __init__(self, ecr: EcrClient, *, clock: Clock = time.time) -> None:
        """For the one registry of `ecr`."""
        self._ecr = ecr
        self._clock = clock
        self._token: tuple[str, str, float] | None = None
        self._since = 0.0

    def find(self, _host: str) -> tuple[str, str]:
        """User and password."""
        now = self._clock()
        if self._token is None or (now > self._token[2] - _RENEW_SECONDS and now > self._since + _RENEW_SECONDS):
            self._token, self._since = self._ecr.token(), now
        return self._token[:2]

    def forget(self, _host: str) -> bool:
        """ECR answers 403 to a token that has ended, and another one helps."""
        self._token = None
        return True


def open_ecr(
    region: str, *, account: str | None = None, profile: str | None = None, meter: RequestCounter | None = None
) -> EcrClient:
    """ECR in one region. Raises `RegistryError` where the profile or the credentials are missing."""
    import boto3
    from botocore.exceptions import BotoCoreError

    try:
        session = boto3.Session(profile_name=profile, region_name=region)
    except BotoCoreError as error:
        raise RegistryError(f"cannot use AWS: {error}") from error
    return EcrClient(session, region, account, meter)


def _client(session: Any, service: str, region: str) -> Any:
    from botocore.config import Config

    # adaptive: the client itself slows down when AWS says that it is asked too often
    config = Config(retries={"mode": "adaptive", "max_attempts": 10}, connect_timeout=10, read_timeout=60)
    return session.client(service, region_name=region, config=config)


class _MissingError(RegistryError):
    """What was asked for does not exist."""

    def __init__(self, message: str, code: str) -> None:
        """`code`: AWS's name of the error."""
        super().__init__(message)
        self.code = code


_ECR = re.compile(r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.")


class HostCredentials(Credentials):
    """As `docker login` left it; where that knows nothing of a registry of ECR, by boto3's usual credentials."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """For any host."""
        self._docker = DockerCredentials(docker_folder(environ))
        self._ecr: dict[str, EcrCredentials] = {}

    def find(self, host: str) -> tuple[str, str] | None:
        """User and password. Raises `RegistryError` where AWS can't be asked."""
        return self._of(host).find(host)

    def forget(self, host: str) -> bool:
        """Look again the next time."""
        return self._of(host).forget(host)

    def _of(self, host: str) -> Credentials:
        found = _ECR.match(host)
        if found is None or self._docker.find(host) is not None:
            return self._docker
        if host not in self._ecr:
            self._ecr[host] = EcrCredentials(open_ecr(found["region"], account=found["account"]))
        return self._ecr[host]
