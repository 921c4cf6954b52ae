import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlimages.engine.buildx import ProgressParser

START, END = "2026-01-01T00:00:00.000000000Z", "2026-01-01T00:00:02.500000000Z"


def vertex(name: str, **facts: Any) -> dict[str, Any]:
    return {"vertexes": [{"digest": f"sha256:{name}", "name": name, **facts}]}


def output(name: str, text: str) -> dict[str, Any]:
    return {
        "logs": [{"vertex": f"sha256:{name}", "timestamp": START, "data": base64.b64encode(text.encode()).decode()}]
    }


def parse(*parts: dict[str, Any] | str) -> tuple[list[str], list[str], str]:
    """Return the log, the names of the steps that started, and the error."""
    log: list[str] = []
    steps: list[str] = []
    parser = ProgressParser(log.append, steps.append)
    for part in parts:
        for line in (part if isinstance(part, str) else json.dumps(part, indent=2)).splitlines():
            parser.feed(line)
    parser.close()
    return log, steps, parser.error


def test_a_step_is_named_when_it_starts_and_timed_when_it_ends() -> None:
    log, steps, _ = parse(
        vertex("RUN make"), vertex("RUN make", started=START), vertex("RUN make", started=START, completed=END)
    )
    assert log == ["#1 RUN make", "#1 done in 2.5 s"]
    assert steps == ["RUN make"]


def test_a_cached_step_is_logged_as_cached() -> None:
    log, _, _ = parse(vertex("RUN make", started=START, completed=START, cached=True))
    assert log[-1] == "#1 cached"


def test_output_in_several_events_is_joined_to_lines() -> None:
    log, _, _ = parse(
        vertex("a", started=START), output("a", "par"), output("a", "tial\nnext"), vertex("a", completed=END)
    )
    assert [line.split(maxsplit=2)[2] for line in log[1:3]] == ["partial", "next"]


def test_only_the_last_state_of_a_progress_bar_is_logged() -> None:
    log, _, _ = parse(vertex("a", started=START), output("a", "1%\r50%\r100%\n"))
    assert log[-1].endswith(" 100%")


def test_the_error_is_the_output_and_the_error_of_the_failed_step() -> None:
    _, _, error = parse(
        vertex("good", started=START),
        output("good", "all is well\n"),
        vertex("bad", started=START),
        output("bad", "no such thing\n"),
        vertex("good", completed=END, error="context canceled"),
        vertex("bad", completed=END, error="exit code: 2"),
        "ERROR: failed to solve: exit code: 2",
    )
    assert error.splitlines() == ["no such thing", "exit code: 2", "ERROR: failed to solve: exit code: 2"]


def test_plain_text_after_the_events_is_copied() -> None:
    log, _, error = parse(vertex("a", started=START), "Dockerfile:1\n-----\nERROR: x")
    assert log[1:] == ["Dockerfile:1", "-----", "ERROR: x"]
    assert error.endswith("ERROR: x")


def test_an_incomplete_event_is_copied_to_the_log() -> None:
    log, _, _ = parse('{\n  "vertexes": [')
    assert log == ["{", '  "vertexes": [']


def test_text_in_braces_that_is_not_json_is_copied() -> None:
    log, _, _ = parse("{\n not json\n}")
    assert log == ["{", " not json", "}"]


@given(st.lists(st.text(alphabet="ab é✓", max_size=9), min_size=1, max_size=9), st.data())
def test_the_lines_do_not_depend_on_where_the_output_is_split(lines: list[str], data: st.DataObject) -> None:
    text = "".join(f"{line}\n" for line in lines)
    at = data.draw(st.integers(0, len(text)))
    log, _, _ = parse(vertex("a", started=START), output("a", text[:at]), output("a", text[at:]))
    assert log[1:] == [f"#1    0.0 {line}" for line in lines]


@pytest.mark.parametrize(
    ("name", "facts", "ran_steps"),
    [
        ("[build 2/7] RUN make", {}, True),
        ("[build 2/7] RUN make", {"cached": True}, False),
        ("[stage-3 4/4] COPY RUN /", {}, False),
        ("[internal] load build definition from Dockerfile", {}, False),
        ("exporting to image", {}, False),
    ],
)
def test_only_an_executed_run_instruction_counts_as_a_step_that_ran(name, facts, ran_steps) -> None:
    parser = ProgressParser(lambda _line: None)
    for line in json.dumps(vertex(name, started=START, completed=END, **facts), indent=2).splitlines():
        parser.feed(line)
    assert parser.ran_steps is ran_steps
