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


def listen(*said: dict[str, Any] | str) -> tuple[list[str], list[str], str]:
    """The log, the steps that began, the trouble."""
    log: list[str] = []
    steps: list[str] = []
    listener = ProgressParser(log.append, steps.append)
    for part in said:
        for line in (part if isinstance(part, str) else json.dumps(part, indent=2)).splitlines():
            listener.hear(line)
    listener.close()
    return log, steps, listener.trouble


def test_a_step_is_named_when_it_begins_and_timed_when_it_ends() -> None:
    log, steps, _ = listen(
        vertex("RUN make"), vertex("RUN make", started=START), vertex("RUN make", started=START, completed=END)
    )
    assert log == ["#1 RUN make", "#1 done in 2.5 s"]
    assert steps == ["RUN make"]


def test_a_cached_step_says_so() -> None:
    log, _, _ = listen(vertex("RUN make", started=START, completed=START, cached=True))
    assert log[-1] == "#1 cached"


def test_output_is_put_together_to_lines() -> None:
    log, _, _ = listen(
        vertex("a", started=START), output("a", "par"), output("a", "tial\nnext"), vertex("a", completed=END)
    )
    assert [line.split(maxsplit=2)[2] for line in log[1:3]] == ["partial", "next"]


def test_of_a_progress_bar_the_last_state_stays() -> None:
    log, _, _ = listen(vertex("a", started=START), output("a", "1%\r50%\r100%\n"))
    assert log[-1].endswith(" 100%")


def test_trouble_is_the_output_and_the_error_of_what_failed() -> None:
    _, _, trouble = listen(
        vertex("good", started=START),
        output("good", "all is well\n"),
        vertex("bad", started=START),
        output("bad", "no such thing\n"),
        vertex("good", completed=END, error="context canceled"),
        vertex("bad", completed=END, error="exit code: 2"),
        "ERROR: failed to solve: exit code: 2",
    )
    assert trouble.splitlines() == ["no such thing", "exit code: 2", "ERROR: failed to solve: exit code: 2"]


def test_a_plain_tail_is_kept_as_it_is() -> None:
    log, _, trouble = listen(vertex("a", started=START), "Dockerfile:1\n-----\nERROR: x")
    assert log[1:] == ["Dockerfile:1", "-----", "ERROR: x"]
    assert trouble.endswith("ERROR: x")


def test_an_unfinished_object_is_not_lost() -> None:
    log, _, _ = listen('{\n  "vertexes": [')
    assert log == ["{", '  "vertexes": [']


def test_what_only_looks_like_an_object_is_text() -> None:
    log, _, _ = listen("{\n not json\n}")
    assert log == ["{", " not json", "}"]


@given(st.lists(st.text(alphabet="ab é✓", max_size=9), min_size=1, max_size=9), st.data())
def test_however_the_output_is_cut_the_lines_are_the_same(lines: list[str], data: st.DataObject) -> None:
    text = "".join(f"{line}\n" for line in lines)
    at = data.draw(st.integers(0, len(text)))
    log, _, _ = listen(vertex("a", started=START), output("a", text[:at]), output("a", text[at:]))
    assert log[1:] == [f"#1    0.0 {line}" for line in lines]


@pytest.mark.parametrize(
    ("name", "facts", "worked"),
    [
        ("[build 2/7] RUN make", {}, True),
        ("[build 2/7] RUN make", {"cached": True}, False),
        ("[stage-3 4/4] COPY RUN /", {}, False),
        ("[internal] load build definition from Dockerfile", {}, False),
        ("exporting to image", {}, False),
    ],
)
def test_only_a_step_that_was_really_run_is_work(name, facts, worked) -> None:
    listener = ProgressParser(lambda _line: None)
    for line in json.dumps(vertex(name, started=START, completed=END, **facts), indent=2).splitlines():
        listener.hear(line)
    assert listener.worked is worked
