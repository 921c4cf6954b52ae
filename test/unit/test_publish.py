import pytest

from rlimages.distribution import Blob, Manifest, digest
from rlimages.errors import RegistryError
from rlimages.publish import publish
from rlimages.results import Image, Outcome
from rlimages.shell import Ended, Stop

IMAGE = Image(id="sha256:config", size=1)
FAILED = Ended(code=1, seconds=0)


@pytest.fixture
def run(step, engine, tmp_path):
    def run(resolve=engine.resolve, stop=None):
        place = "127.0.0.1:5000/team"
        return publish(
            step.cell, IMAGE, engine, tmp_path, to=place, resolve=resolve, stop=stop or Stop(), first_wait=0.001
        )

    return run


@pytest.fixture
def references(step):
    return [f"127.0.0.1:5000/team/{step.cell.repository}:{tag}" for tag in step.cell.tags]


def test_the_tag_and_every_alias_are_pushed(run, references, engine) -> None:
    results = run()
    assert [result.reference for result in results] == references
    assert engine.calls == [("push", IMAGE.id, reference) for reference in references]


def test_passed_means_that_the_registry_named_this_image(run) -> None:
    assert {(result.outcome, result.digest) for result in run()} == {(Outcome.PASSED, digest(b"manifest"))}


def test_what_the_registry_holds_already_is_not_pushed_again(run, engine) -> None:
    run()
    engine.calls.clear()
    assert {result.outcome for result in run()} == {Outcome.PASSED}
    assert not engine.calls


def test_a_tag_that_holds_something_else_is_pushed(run, references, engine) -> None:
    engine.registry[references[0]] = Manifest(
        content=b"another", media_type="", config=Blob(media_type="", digest="sha256:older", size=1)
    )
    run()
    assert engine.calls[0] == ("push", IMAGE.id, references[0])


def test_a_push_that_the_registry_does_not_know_of_has_failed(run) -> None:
    result = run(resolve=lambda _reference: None)[0]
    assert result.outcome is Outcome.FAILED
    assert "does not know it" in result.reason
    assert not result.digest


def test_a_registry_that_is_slow_to_show_a_push_is_asked_again(run, engine) -> None:
    asked: list[str] = []

    def slow(reference: str) -> Manifest | None:
        asked.append(reference)
        return engine.resolve(reference) if asked.count(reference) > 2 else None

    assert {result.outcome for result in run(resolve=slow)} == {Outcome.PASSED}


def test_a_registry_that_holds_another_image_afterwards_is_a_failure(run) -> None:
    other = Manifest(content=b"another", media_type="", config=Blob(media_type="", digest="sha256:other", size=1))
    result = run(resolve=lambda _reference: other)[0]
    assert result.outcome is Outcome.FAILED
    assert "sha256:other" in result.reason


def test_a_refused_push_says_what_the_registry_said(run, references, engine) -> None:
    engine.pushes[references[0]] = FAILED
    assert run()[0].reason == "auth: denied: requested access to the resource is denied"


def test_aliases_wait_for_the_tag(run, references, engine) -> None:
    engine.pushes[references[0]] = FAILED
    assert run()[1].outcome is Outcome.SKIPPED
    assert len(engine.calls) == 1


def test_a_registry_that_does_not_answer_is_a_failure_of_this_cell(run) -> None:
    def unreachable(_reference: str) -> Manifest | None:
        raise RegistryError("cannot reach the registry")

    result = run(resolve=unreachable)[0]
    assert (result.outcome, result.reason) == (Outcome.FAILED, "cannot reach the registry")


def test_nothing_is_pushed_once_the_run_was_stopped(run, engine) -> None:
    stop = Stop()
    stop.set()
    assert {result.outcome for result in run(stop=stop)} == {Outcome.SKIPPED}
    assert not engine.calls
