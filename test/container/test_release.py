"""A release to a real registry through a proxy that breaks each request in every way."""

import hashlib
import itertools
import json
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import pytest
from faults import FAULTS, Proxy

from rlimages.errors import FactoryError
from rlimages.oci.manifest import DOCKER_CONFIG, DOCKER_LAYER, Blob, Manifest, compose_manifest, sha256_digest
from rlimages.registry.auth import DockerCredentials
from rlimages.registry.client import RegistryClient
from rlimages.registry.request_counter import RequestCounter
from rlimages.release.journal import Journal, Moving
from rlimages.release.journal import Release as JournaledRelease
from rlimages.release.model import RegistryConnection, ReleaseItem, ReleaseState, TargetRegistry
from rlimages.release.transaction import ReleaseTransaction
from rlimages.system.process import Stop

PATIENCE = 0.05
"""Seconds of retries: the shortest time in which a single fault passes."""
PARALLEL_CASES = 4
"""Number of cases that run in parallel, each with its own proxy. They mostly wait."""
_case = itertools.count()


@pytest.fixture
def proxy(upstream) -> Iterator[Proxy]:
    proxy = Proxy(upstream)
    yield proxy
    proxy.close()


@dataclass(frozen=True)
class FakeImage:
    """A small image with invented content."""

    manifest: Manifest
    content: dict[str, bytes]

    def chunks(self, blob: Blob) -> Iterator[bytes]:
        content = self.content[blob.digest]
        yield content[: len(content) // 2]
        yield content[len(content) // 2 :]


def make_image(name: str, version: str) -> FakeImage:
    shared, own = b"shared by all   " * 300, f"{name} {version} ".encode() * 300
    labels = {"org.opencontainers.image.version": version}
    config = json.dumps(
        {"os": "linux", "architecture": "amd64", "config": {"Labels": labels}, "name": name, "version": version}
    ).encode()
    layers = [Blob(media_type=DOCKER_LAYER, digest=sha256_digest(part), size=len(part)) for part in (shared, own)]
    manifest = compose_manifest(Blob(media_type=DOCKER_CONFIG, digest=sha256_digest(config), size=len(config)), layers)
    return FakeImage(manifest=manifest, content={sha256_digest(part): part for part in (shared, own, config)})


class Images:
    """The source of a release: its images by cell."""

    def __init__(self, images: dict[str, FakeImage]) -> None:
        self.images = images

    def fetch(self, item: ReleaseItem, _destination: RegistryConnection, _digests) -> FakeImage:
        return self.images[item.cell]

    def mountable_from(self, _destination: RegistryConnection) -> tuple[str, ...]:
        return ()


class Release:
    """A release of three images with two tags each. The first image is new; the others replace released ones."""

    def __init__(self, proxy: Proxy, upstream: str, folder) -> None:
        self.proxy = proxy
        self.case = f"case{os.getpid()}-{next(_case)}"
        self.journal = folder / self.case / "journal.jsonl"
        self.images = {name: make_image(f"{self.case}/{name}", "2.0") for name in "abc"}
        self.items = [
            ReleaseItem(cell=name, repository=name, image=image.manifest.image, tags=("2.0", "latest"))
            for name, image in self.images.items()
        ]
        self.clients = [RegistryClient(upstream)]
        self.direct = self.clients[0]
        self.old_images = {name: make_image(f"{self.case}/{name}", "1.0") for name in "bc"}
        for name, image in self.old_images.items():
            for blob in image.manifest.blobs:
                self.direct.upload_blob(f"{self.case}/{name}", blob, lambda image=image, blob=blob: image.chunks(blob))
            self.direct.put_manifest(f"{self.case}/{name}", "latest", image.manifest)

    def transaction(self) -> ReleaseTransaction:
        """Return a transaction as a new process starts it, which knows only the journal."""
        counter = RequestCounter()
        client = RegistryClient(self.proxy.host, patience=PATIENCE, counter=counter)
        self.clients.append(client)
        registry = TargetRegistry(name="here", host=self.proxy.host, prefix=self.case, floating=("latest",))
        connection = RegistryConnection(
            registry=registry, client=client, counter=counter, credentials=DockerCredentials(self.journal.parent)
        )
        release = JournaledRelease(
            name=self.case, target="here", items=tuple(self.items), journal=Journal(self.journal)
        )
        return ReleaseTransaction(connection, release, stop=Stop())

    def run(self) -> ReleaseState:
        """Start or resume the release, and return its state."""
        transaction = self.transaction()
        transaction.upload(Images(self.images))
        transaction.move_tags()
        return transaction.state

    def tag_digests(self) -> dict[str, str | None]:
        digests = {}
        for item in self.items:
            for tag in item.tags:
                manifest = self.direct.read_manifest(f"{self.case}/{item.repository}", tag)
                digests[f"{item.repository}:{tag}"] = manifest.digest if manifest else None
        return digests

    @property
    def new_digests(self) -> dict[str, str | None]:
        return {f"{i.repository}:{tag}": self.images[i.cell].manifest.digest for i in self.items for tag in i.tags}

    @property
    def old_digests(self) -> dict[str, str | None]:
        old_tags = {f"{name}:latest": image.manifest.digest for name, image in self.old_images.items()}
        return {name: old_tags.get(name) for name in self.new_digests}

    def close(self) -> None:
        for registry in self.clients:
            registry.close()


@pytest.fixture
def make_release(proxy, upstream, tmp_path):
    releases = []

    def make() -> Release:
        releases.append(Release(proxy, upstream, tmp_path))
        return releases[-1]

    yield make
    for release in releases:
        release.close()


@pytest.fixture
def request_count(proxy, make_release) -> int:
    """The number of requests of a release without faults."""
    proxy.start_plan(lambda _number: "")
    assert make_release().run() is ReleaseState.RELEASED
    return proxy.requests


def release_with_faults(release: Release, proxy: Proxy, plan) -> str:
    """Release with faults and check the tags, then resume without faults and check them again.

    Return the outcome of the first part: "released", "failed" or "in between".
    """
    proxy.start_plan(plan)
    try:
        release.run()
        outcome = "released"
    except FactoryError:
        outcome = "failed"
    state = release.transaction().state
    tag_digests = release.tag_digests()
    if state is ReleaseState.UNTOUCHED:
        assert tag_digests == release.old_digests
    elif state is ReleaseState.RELEASED:
        assert tag_digests == release.new_digests
    else:
        assert outcome == "failed"
        outcome = "in between"
        assert set(tag_digests.items()) <= {*release.old_digests.items(), *release.new_digests.items()}
    proxy.stop_faults()
    assert release.run() is ReleaseState.RELEASED
    assert release.tag_digests() == release.new_digests
    twice = {name: count for name, count in proxy.stored.items() if count > 1}
    assert not twice
    return outcome


def faults_of(number: int) -> tuple[str, ...]:
    """Return the faults to try at the request `number`: all with RLIMAGES_ALL_FAULTS, else one of them in turn."""
    return FAULTS if os.environ.get("RLIMAGES_ALL_FAULTS") else (FAULTS[number % len(FAULTS)],)


@pytest.mark.parametrize("permanent", [False, True], ids=["one fault", "permanent fault"])
def test_after_any_failed_request_all_tags_are_old_or_new_or_the_journal_says_between(
    upstream, request_count, permanent, record_property, tmp_path
) -> None:
    def case(number: int, fault: str) -> str:
        with closing(Proxy(upstream)) as proxy, closing(Release(proxy, upstream, tmp_path)) as release:
            return release_with_faults(
                release, proxy, lambda n: fault if n == number or (permanent and n > number) else ""
            )

    cases = [(number, fault) for number in range(1, request_count + 1) for fault in faults_of(number)]
    with ThreadPoolExecutor(PARALLEL_CASES) as pool:
        outcomes = list(pool.map(case, *zip(*cases, strict=True)))
    counts = {outcome: outcomes.count(outcome) for outcome in sorted(set(outcomes))}
    record_property("cases", len(outcomes))
    (tmp_path / "cases.txt").write_text(f"{len(outcomes)} cases of {request_count} requests: {counts}\n")
    if permanent:
        assert {"failed", "in between"} <= set(outcomes)


def test_a_release_that_is_killed_at_any_request_is_completed_by_the_next_process(
    proxy, make_release, request_count
) -> None:
    states: list[ReleaseState] = []
    for number in range(1, request_count + 1, 1 if os.environ.get("RLIMAGES_ALL_FAULTS") else 4):
        release = make_release()
        child = os.fork()
        if child == 0:
            try:
                time.sleep(0.05)  # wait until the parent has given the proxy the process to kill
                release.run()
            finally:
                os._exit(0)

        def kill(n: int, at: int = number, child: int = child) -> str:
            if n == at:
                os.kill(child, signal.SIGKILL)
            return ""

        proxy.start_plan(kill)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        states.append(release.transaction().state)
        old, new = release.old_digests, release.new_digests
        assert states[-1] is ReleaseState.BETWEEN or release.tag_digests() in (old, new)
        proxy.stop_faults()
        assert release.run() is ReleaseState.RELEASED
        assert release.tag_digests() == new
        assert not [name for name, count in proxy.stored.items() if count > 1]
        release.close()
    assert {ReleaseState.UNTOUCHED, ReleaseState.BETWEEN} <= set(states)


def test_a_completed_release_uploads_nothing_when_it_is_resumed(proxy, make_release) -> None:
    release = make_release()
    proxy.start_plan(lambda _number: "")
    release.run()
    proxy.start_plan(lambda _number: "")
    assert release.run() is ReleaseState.RELEASED
    assert not proxy.stored


def test_shared_layers_are_uploaded_once(proxy, make_release) -> None:
    release = make_release()
    proxy.start_plan(lambda _number: "")
    release.run()
    shared = release.images["a"].manifest.layers[0].digest
    assert proxy.stored[shared] == 1
    assert sum(proxy.stored.values()) == 1 + 3 + 3


def test_a_tag_that_another_release_moved_meanwhile_is_not_overwritten(proxy, make_release) -> None:
    release = make_release()
    transaction = release.transaction()
    transaction.upload(Images(release.images))
    release.direct.put_manifest(f"{release.case}/b", "latest", release.images["b"].manifest)
    other = make_image("other", "9.0")
    for blob in other.manifest.blobs:
        release.direct.upload_blob(f"{release.case}/c", blob, lambda blob=blob: other.chunks(blob))
    release.direct.put_manifest(f"{release.case}/c", "latest", other.manifest)
    with pytest.raises(FactoryError, match="somebody else releases too"):
        transaction.move_tags()
    assert transaction.state is ReleaseState.UNTOUCHED
    assert release.direct.read_manifest(f"{release.case}/c", "latest").digest == other.manifest.digest


def test_tags_never_move_backwards(proxy, make_release) -> None:
    release = make_release()
    newer = make_image("newer", "10.0")
    for blob in newer.manifest.blobs:
        release.direct.upload_blob(f"{release.case}/b", blob, lambda blob=blob: newer.chunks(blob))
    release.direct.put_manifest(f"{release.case}/b", "latest", newer.manifest)
    with pytest.raises(FactoryError, match="never move backwards"):
        release.run()
    assert release.transaction().state is ReleaseState.UNTOUCHED


def test_a_fixed_tag_of_another_image_is_refused_before_any_tag_moves(proxy, make_release) -> None:
    release = make_release()
    other = release.old_images["c"]
    release.direct.put_manifest(f"{release.case}/c", "2.0", other.manifest)
    with pytest.raises(FactoryError, match="must never move"):
        release.run()
    assert release.transaction().state is ReleaseState.UNTOUCHED


def test_a_fixed_tag_that_has_the_same_image_is_no_error(proxy, make_release) -> None:
    release = make_release()
    release.run()
    second_release = Release.__new__(Release)
    second_release.__dict__ = {**release.__dict__, "journal": release.journal.parent / "second" / "journal.jsonl"}
    assert second_release.run() is ReleaseState.RELEASED


def test_a_rollback_moves_tags_back_to_their_old_images(proxy, make_release) -> None:
    release = make_release()
    proxy.start_plan(lambda _number: "")
    release.run()
    assert len(Journal(release.journal).find(Moving)) == 6
    with pytest.raises(FactoryError, match="can't be removed"):  # this registry cannot delete a tag
        release.transaction().roll_back()
    assert {release.tag_digests()[f"{name}:latest"] for name in "bc"} == {
        release.old_digests[f"{name}:latest"] for name in "bc"
    }


def test_the_registry_has_all_bytes_of_a_released_image(proxy, make_release) -> None:
    release = make_release()
    release.run()
    for item in release.items:
        manifest = release.direct.read_manifest(f"{release.case}/{item.repository}", "2.0")
        assert manifest.content == release.images[item.cell].manifest.content
        for blob in manifest.blobs:
            content = b"".join(release.direct.stream_blob(f"{release.case}/{item.repository}", blob.digest))
            assert f"sha256:{hashlib.sha256(content).hexdigest()}" == blob.digest
