"""A release to all registries of a target: the order of the steps, and failures that stay in one registry."""

from dataclasses import dataclass, field, replace

import pytest

from rlimages.checks.pass_record import PassRecord
from rlimages.errors import RegistryError
from rlimages.release import deliver as module
from rlimages.release.deliver import deliver, roll_back
from rlimages.release.journal import Failed, Release, RequirementChecked
from rlimages.release.model import ReleaseState
from rlimages.release.results import release_exit_code, release_lines
from rlimages.system.process import Stop

RECORD = PassRecord(
    cell="a", image=f"sha256:{'a' * 64}", suite=f"sha256:{'b' * 64}", checks={"c": "passed"}, at="2026-11-21T00:00:00Z"
)


@dataclass
class Checker:
    """Records in the log when the requirements are checked, and fails if it has an error."""

    error: str = ""
    release: Release | None = None
    digests: dict[str, str] = field(default_factory=dict)

    def check(self, connection, digests, _on_progress) -> None:
        self.release.journal.log.append("requirements")
        self.digests = {item.cell: digest for item, digest in digests.items()}
        self.release.journal.write(
            RequirementChecked(
                registry=connection.registry.name, cell="a", requirement="scan", passed=not self.error, detail="d"
            )
        )
        if self.error:
            raise RegistryError(self.error)


@pytest.fixture(autouse=True)
def reachable(monkeypatch) -> set[str]:
    hosts = {"registry"}
    monkeypatch.setattr(module, "is_reachable", lambda host: host in hosts)
    return hosts


def run(scene, checker=None, connections=(), stop: Stop | None = None):
    release = scene.release
    checker = checker or Checker()
    checker.release = release
    return deliver(
        release,
        connections or [scene.connection],
        scene,
        pass_records={"a": RECORD},
        requirements=checker,
        allow_older=False,
        stop=stop or Stop(),
        on_progress=lambda _registry, line: scene.log.append(line),
    )


def test_repositories_then_uploads_then_pass_records_then_requirements_then_tags(scene) -> None:
    made = scene()
    made.connection = replace(made.connection, ensure_repository=lambda _repository: True)
    checker = Checker()
    (result,) = run(made, checker)
    steps = [
        "created the repository team/a", "created the repository team/b", "Staged a", "Staged b",
        f"put team/a:{RECORD.tag}", "requirements", "Moving a 2.0", "Released", "close",
    ]  # fmt: skip
    assert [line for line in made.log if line in steps] == steps
    assert checker.digests == made.new == result.digests
    assert result.state is ReleaseState.RELEASED
    assert result.moved == {"a": ("2.0", "latest"), "b": ("2.0", "latest")}


def test_a_requirement_that_is_not_met_leaves_all_tags_where_they_are(scene) -> None:
    made = scene()
    (result,) = run(made, Checker(error="the scanner found something"))
    assert (result.state, result.reason) == (ReleaseState.UNTOUCHED, "the scanner found something")
    assert made.digests("2.0") == made.digests("latest") == {"a": None, "b": None}
    assert list(release_lines([result]))[-1] == "  a: scan FAILED: d"
    assert release_exit_code([result]) == 7


def test_a_registry_that_cannot_be_reached_does_not_stop_the_others(scene) -> None:
    made = scene()
    down = replace(made.connection, registry=replace(made.connection.registry, name="target/eu", host="down"))
    up, failed = run(made, connections=[made.connection, down])
    assert (up.state, failed.state) == (ReleaseState.RELEASED, ReleaseState.UNTOUCHED)
    assert failed.reason == "cannot reach the registry down; check the name, the network and the proxy"
    assert [event.registry for event in made.release.journal.find(Failed)] == ["target/eu"]


def test_a_registry_that_is_released_is_not_contacted_again(scene, reachable) -> None:
    made = scene()
    run(made)
    reachable.clear()
    made.log.clear()
    (result,) = run(made)
    assert (result.state, result.reason, made.log) == (ReleaseState.RELEASED, "", ["close"])


def test_a_release_that_the_user_stopped_has_exit_code_130(scene) -> None:
    stop = Stop()
    stop.set()
    results = run(scene(), stop=stop)
    assert results[0].reason == "interrupted"
    assert release_exit_code(results) == 130


def test_a_later_run_finds_the_image_by_its_build_digest(scene, image) -> None:
    made = scene()
    item = replace(made.release.items[0], build="f" * 64)
    release = replace(made.release, items=(item,))
    deliver(
        release,
        [made.connection],
        made,
        pass_records={},
        requirements=Checker(release=release),
        allow_older=False,
        stop=Stop(),
        on_progress=lambda _registry, _line: None,
    )
    assert made.client.tag_digest("team/a", f"build-{'f' * 32}") == made.new["a"]


def test_a_rollback_undoes_the_release_in_each_registry(scene) -> None:
    made = scene()
    run(made)
    (result,) = roll_back(made.release, [made.connection], stop=Stop(), on_progress=lambda _registry, _line: None)
    assert (result.state, result.reason) == (ReleaseState.ROLLED_BACK, "")
    assert made.digests("2.0") == {"a": None, "b": None}
