import io

import pytest

from rlimages.cli.progress import event_line, progress_reporter
from rlimages.plan.events import Event
from rlimages.plan.results import Outcome
from rlimages.plan.step import Stage


def event(outcome=None, detail="", stage=Stage.BUILD, done=2) -> Event:
    return Event(
        cell="ray-2.9.3-tf-cpu", stage=stage, outcome=outcome, detail=detail, seconds=41.3, done=done, total=12
    )


@pytest.mark.parametrize(
    ("item", "line"),
    [
        (event(), "[ 2/12] ray-2.9.3-tf-cpu builds"),
        (event(detail="[os 2/5] RUN apt-get"), ""),
        (event(Outcome.PASSED), "[ 2/12] ray-2.9.3-tf-cpu built in 41 s"),
        (event(Outcome.PASSED, "3 passed", Stage.SMOKE, 12), "[12/12] ray-2.9.3-tf-cpu checked in 41 s: 3 passed"),
        (event(Outcome.FAILED, "compile"), "[ 2/12] ray-2.9.3-tf-cpu build failed after 41 s: compile"),
        (event(Outcome.SKIPPED, "its parent"), "[ 2/12] ray-2.9.3-tf-cpu build skipped after 41 s: its parent"),
    ],
)
def test_there_is_a_line_for_the_start_and_the_end_of_a_stage(item, line) -> None:
    assert event_line(item) == line


def test_without_a_terminal_progress_is_plain_lines() -> None:
    stream = io.StringIO()
    with progress_reporter(stream, live=False) as show:
        show(event())
        show(event(detail="RUN x"))
        show(event(Outcome.PASSED))
    assert stream.getvalue() == "[ 2/12] ray-2.9.3-tf-cpu builds\n[ 2/12] ray-2.9.3-tf-cpu built in 41 s\n"


def test_on_a_terminal_the_line_of_an_ended_stage_stays() -> None:
    stream = io.StringIO()
    with progress_reporter(stream, live=True) as show:
        show(event())
        show(event(detail="RUN [red]x"))
        show(event(Outcome.FAILED, "compile"))
    assert "[ 2/12] ray-2.9.3-tf-cpu build failed after 41 s: compile" in stream.getvalue()
