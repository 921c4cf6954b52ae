"""A release to a real registry, through a proxy that breaks each of its requests in every way."""

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
"""Seconds that a broken registry is given: as little as lets single faults pass."""
AT_ONCE = 4
"""Cases that run side by side, each through a proxy of its own: most of the time they wait."""
_case = itertools.count()


@pytest.fixture
def proxy(upstream) -> Iterator[Proxy]:
    proxy = Proxy(upstream)
    yield proxy
    proxy.close()


@dataclass(frozen=True)
class Made:
    """A small image, made of nothing."""

    manifest: Manifest
    content: dict[str, bytes]

    def chunks(self, blob: Blob) -> Iterator[bytes]:
        content = self.content[blob.digest]
        yield content[: len(content) // 2]
        yield content[len(content) // 2 :]


def make(name: str, version: str) -> Made:
    shared, own = b"the base of all" * 300, f"{name} {version} ".encode() * 300
    labels = {"org.opencontainers.image.version": version}
    config = json.dumps(
        {"os": "linux", "architecture": "amd64", "config": {"Labels": labels}, "name": name, "version": version}
    ).encode()
    layers = [Blob(media_type=DOCKER_LAYER, digest=sha256_digest(part), size=len(part)) for part in (shared, own)]
    manifest = compose_manifest(Blob(media_type=DOCKER_CONFIG, digest=sha256_digest(config), size=len(config)), layers)
    return Made(manifest=manifest, content={sha256_digest(part): part for part in (shared, own, config)})


class Images:
    """The images of a release, by cell, as its source."""

    def __init__(self, images: dict[str, Made]) -> None:
        self.images = images

    def fetch(self, item: ReleaseItem, _destination: RegistryConnection, _wanted) -> Made:
        return self.images[item.cell]

    def mountable_from(self, _destination: RegistryConnection) -> tuple[str, ...]:
        return ()


class Release:
    """Three images under two tags each; the first one is new, the others replace what was released before."""

    def __init__(self, proxy: Proxy, upstream: str, folder) -> None:
        self.proxy = proxy
        self.case = f"case{os.getpid()}-{next(_case)}"
        self.journal = folder / self.case / "journal.jsonl"
        self.images = {name: make(f"{self.case}/{name}", "2.0") for name in "abc"}
        self.items = [
            ReleaseItem(cell=name, repository=name, image=image.manifest.image, tags=("2.0", "latest"))
            for name, image in self.images.items()
        ]
        self.open = [RegistryClient(upstream)]
        self.direct = self.open[0]
        self.old = {name: make(f"{self.case}/{name}", "1.0") for name in "bc"}
        for name, image in self.old.items():
            for blob in image.manifest.blobs:
                self.direct.upload_blob(f"{self.case}/{name}", blob, lambda image=image, blob=blob: image.chunks(blob))
            self.direct.put_manifest(f"{self.case}/{name}", "latest", image.manifest)

    def transaction(self) -> ReleaseTransaction:
        """The transaction as a new process starts it: only the journal is known."""
        counter = RequestCounter()
        client = RegistryClient(self.proxy.host, patience=PATIENCE, counter=counter)
        self.open.append(client)
        registry = TargetRegistry(name="here", host=self.proxy.host, prefix=self.case, floating=("latest",))
        connection = RegistryConnection(
            registry=registry, client=client, counter=counter, credentials=DockerCredentials(self.journal.parent)
        )
        release = JournaledRelease(
            name=self.case, target="here", items=tuple(self.items), journal=Journal(self.journal)
        )
        return ReleaseTransaction(connection, release, stop=Stop())

    def go(self) -> ReleaseState:
        """Release, or resume the release."""
        transaction = self.transaction()
        transaction.upload(Images(self.images))
        transaction.move_tags()
        return transaction.state

    def visible(self) -> dict[str, str | None]:
        found = {}
        for item in self.items:
            for tag in item.tags:
                held = self.direct.read_manifest(f"{self.case}/{item.repository}", tag)
                found[f"{item.repository}:{tag}"] = held.digest if held else None
        return found

    @property
    def all_new(self) -> dict[str, str | None]:
        return {f"{i.repository}:{tag}": self.images[i.cell].manifest.digest for i in self.items for tag in i.tags}

    @property
    def all_old(self) -> dict[str, str | None]:
        was = {f"{name}:latest": image.manifest.digest for name, image in self.old.items()}
        return {name: was.get(name) for name in self.all_new}

    def close(self) -> None:
        for registry in self.open:
            registry.close()


@pytest.fixture
def release(proxy, upstream, tmp_path):
    made = []

    def begin() -> Release:
        made.append(Release(proxy, upstream, tmp_path))
        return made[-1]

    yield begin
    for one in made:
        one.close()


@pytest.fixture
def length(proxy, release) -> int:
    """How many requests a release takes when nothing breaks."""
    proxy.begin(lambda _number: "")
    assert release().go() is ReleaseState.RELEASED
    return proxy.requests


def examine(made: Release, proxy: Proxy, plan) -> str:
    """Release while requests break by the plan, look, go on without faults, look again. What came of the first part."""
    proxy.begin(plan)
    try:
        made.go()
        came = "released"
    except FactoryError:
        came = "broke"
    state = made.transaction().state
    visible = made.visible()
    if state is ReleaseState.UNTOUCHED:
        assert visible == made.all_old
    elif state is ReleaseState.RELEASED:
        assert visible == made.all_new
    else:
        assert came == "broke"
        came = "in between"
        assert set(visible.items()) <= {*made.all_old.items(), *made.all_new.items()}
    proxy.mend()
    assert made.go() is ReleaseState.RELEASED
    assert made.visible() == made.all_new
    twice = {name: count for name, count in proxy.stored.items() if count > 1}
    assert not twice
    return came


def faults_of(number: int) -> tuple[str, ...]:
    """All of them when asked for; else each request meets one, and its neighbours meet others."""
    return FAULTS if os.environ.get("RLIMAGES_ALL_FAULTS") else (FAULTS[number % len(FAULTS)],)


@pytest.mark.parametrize("lasting", [False, True], ids=["one fault", "broken from then on"])
def test_whichever_request_fails_tags_are_all_old_or_all_new_or_the_journal_says_so(
    upstream, length, lasting, record_property, tmp_path
) -> None:
    def case(number: int, fault: str) -> str:
        with closing(Proxy(upstream)) as proxy, closing(Release(proxy, upstream, tmp_path)) as made:
            return examine(made, proxy, lambda n: fault if n == number or (lasting and n > number) else "")

    cases = [(number, fault) for number in range(1, length + 1) for fault in faults_of(number)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        came = list(pool.map(case, *zip(*cases, strict=True)))
    told = {word: came.count(word) for word in sorted(set(came))}
    record_property("cases", len(came))
    (tmp_path / "cases.txt").write_text(f"{len(came)} cases of {length} requests: {told}\n")
    if lasting:
        assert {"broke", "in between"} <= set(came)


def test_killed_at_any_request_a_release_is_finished_by_the_next_process(proxy, release, length) -> None:
    came: list[ReleaseState] = []
    for number in range(1, length + 1, 1 if os.environ.get("RLIMAGES_ALL_FAULTS") else 4):
        made = release()
        child = os.fork()
        if child == 0:
            try:
                time.sleep(0.05)  # until the parent has told the proxy whom to kill
                made.go()
            finally:
                os._exit(0)

        def kill(n: int, at: int = number, child: int = child) -> str:
            if n == at:
                os.kill(child, signal.SIGKILL)
            return ""

        proxy.begin(kill)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        came.append(made.transaction().state)
        old, new = made.all_old, made.all_new
        assert came[-1] is ReleaseState.BETWEEN or made.visible() in (old, new)
        proxy.mend()
        assert made.go() is ReleaseState.RELEASED
        assert made.visible() == new
        assert not [name for name, count in proxy.stored.items() if count > 1]
        made.close()
    assert {ReleaseState.UNTOUCHED, ReleaseState.BETWEEN} <= set(came)


def test_a_release_that_is_done_asks_and_sends_nothing_new(proxy, release) -> None:
    made = release()
    proxy.begin(lambda _number: "")
    made.go()
    proxy.begin(lambda _number: "")
    assert made.go() is ReleaseState.RELEASED
    assert not proxy.stored


def test_shared_layers_travel_once(proxy, release) -> None:
    made = release()
    proxy.begin(lambda _number: "")
    made.go()
    shared = made.images["a"].manifest.layers[0].digest
    assert proxy.stored[shared] == 1
    assert sum(proxy.stored.values()) == 1 + 3 + 3


def test_what_somebody_else_released_meanwhile_is_not_overwritten(proxy, release) -> None:
    made = release()
    transaction = made.transaction()
    transaction.upload(Images(made.images))
    made.direct.put_manifest(f"{made.case}/b", "latest", made.images["b"].manifest)
    other = make("other", "9.0")
    for blob in other.manifest.blobs:
        made.direct.upload_blob(f"{made.case}/c", blob, lambda blob=blob: other.chunks(blob))
    made.direct.put_manifest(f"{made.case}/c", "latest", other.manifest)
    with pytest.raises(FactoryError, match="somebody else releases too"):
        transaction.move_tags()
    assert transaction.state is ReleaseState.UNTOUCHED
    assert made.direct.read_manifest(f"{made.case}/c", "latest").digest == other.manifest.digest


def test_tags_never_move_backwards(proxy, release) -> None:
    made = release()
    newer = make("newer", "10.0")
    for blob in newer.manifest.blobs:
        made.direct.upload_blob(f"{made.case}/b", blob, lambda blob=blob: newer.chunks(blob))
    made.direct.put_manifest(f"{made.case}/b", "latest", newer.manifest)
    with pytest.raises(FactoryError, match="never move backwards"):
        made.go()
    assert made.transaction().state is ReleaseState.UNTOUCHED


def test_a_tag_that_must_stay_is_refused_before_anything_moves(proxy, release) -> None:
    made = release()
    other = made.old["c"]
    made.direct.put_manifest(f"{made.case}/c", "2.0", other.manifest)
    with pytest.raises(FactoryError, match="must never move"):
        made.go()
    assert made.transaction().state is ReleaseState.UNTOUCHED


def test_the_same_image_under_a_tag_that_must_stay_is_success(proxy, release) -> None:
    made = release()
    made.go()
    again = Release.__new__(Release)
    again.__dict__ = {**made.__dict__, "journal": made.journal.parent / "second" / "journal.jsonl"}
    assert again.go() is ReleaseState.RELEASED


def test_rolling_back_gives_moved_tags_what_they_held(proxy, release) -> None:
    made = release()
    proxy.begin(lambda _number: "")
    made.go()
    assert len(Journal(made.journal).find(Moving)) == 6
    with pytest.raises(FactoryError, match="can't be removed"):  # this registry removes no tags
        made.transaction().roll_back()
    assert {made.visible()[f"{name}:latest"] for name in "bc"} == {made.all_old[f"{name}:latest"] for name in "bc"}


def test_the_registry_has_every_byte_of_what_was_released(proxy, release) -> None:
    made = release()
    made.go()
    for item in made.items:
        held = made.direct.read_manifest(f"{made.case}/{item.repository}", "2.0")
        assert held.content == made.images[item.cell].manifest.content
        for blob in held.blobs:
            content = b"".join(made.direct.stream_blob(f"{made.case}/{item.repository}", blob.digest))
            assert f"sha256:{hashlib.sha256(content).hexdigest()}" == blob.digest
