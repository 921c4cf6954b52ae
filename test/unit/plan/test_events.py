import threading

import pytest

from rlimages.plan.events import Event, EventReporter
from rlimages.plan.results import Outcome
from rlimages.plan.step import Stage


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def reporter(events) -> EventReporter:
    return EventReporter(events.append, total=2)


def test_a_stage_reports_its_start_its_progress_and_its_end(reporter, events) -> None:
    stage = reporter.start_stage("a", Stage.BUILD)
    stage.report_progress("[os 1/2] FROM x")
    stage.report_end(Outcome.FAILED, "compile")
    assert [(event.outcome, event.detail) for event in events] == [
        (None, ""), (None, "[os 1/2] FROM x"), (Outcome.FAILED, "compile"),
    ]  # fmt: skip
    assert {(event.cell, event.stage, event.total) for event in events} == {("a", Stage.BUILD, 2)}


def test_the_time_of_an_event_counts_from_the_start_of_its_stage(reporter, events) -> None:
    stage = reporter.start_stage("a", Stage.SMOKE)
    stage.report_end(Outcome.PASSED, "")
    reporter.start_stage("b", Stage.SMOKE)
    start, end, other = (event.seconds for event in events)
    assert 0 <= start <= end
    assert 0 <= other < 5


def test_events_have_the_number_of_finished_cells(reporter, events) -> None:
    reporter.start_stage("a", Stage.BUILD).report_end(Outcome.PASSED, "")
    reporter.count_finished()
    reporter.report("b", Stage.BUILD, Outcome.SKIPPED, "its parent a failed", 0.0)
    assert [event.done for event in events] == [0, 0, 1]


def test_the_callback_is_never_called_by_two_threads_at_once() -> None:
    inside, overlaps = threading.Lock(), []

    def on_event(_event: Event) -> None:
        overlaps.append(not inside.acquire(blocking=False))
        threading.Event().wait(0.002)
        inside.release()

    reporter = EventReporter(on_event, total=4)
    threads = [threading.Thread(target=reporter.start_stage, args=(str(number), Stage.BUILD)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert overlaps == [False] * 4
