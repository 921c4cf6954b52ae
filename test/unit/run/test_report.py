import json
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlimages.engine.protocol import BuiltImage
from rlimages.plan.results import (
    BuildResult,
    CellReport,
    Failure,
    FailureKind,
    Outcome,
    PublishResult,
    RequirementResult,
    RunReport,
    SmokeResult,
)
from rlimages.run.report import printable, report_exit_code, report_json, report_junit, report_text
from rlimages.system.units import format_duration


@pytest.fixture
def make(cell):
    """Return the report of a run of one cell, with these outcomes of its checks, requirements and tags."""

    def make(build=Outcome.PASSED, smoke=(), requirements=(), publish=(), failure=None, reason="", notes=()):
        image = BuiltImage(id="sha256:a", size=1_930_000_000) if build is Outcome.PASSED else None
        built = BuildResult(
            cell=cell, outcome=build, reason=reason, seconds=41.2, log="logs/build.log", failure=failure, image=image
        )
        checks = tuple(
            SmokeResult(cell=cell, check=f"c{n}", outcome=outcome, reason=f"why {n}", seconds=1.0, log="c.log")
            for n, outcome in enumerate(smoke)
        )
        pushes = tuple(
            PublishResult(cell=cell, reference=f"r:{n}", outcome=outcome, reason="", digest="sha256:d", seconds=2.0)
            for n, outcome in enumerate(publish)
        )
        asked = tuple(
            RequirementResult(cell=cell, requirement="scan", registry=f"p/{n}", outcome=outcome, reason=f"found {n}")
            for n, outcome in enumerate(requirements)
        )
        cells = (CellReport(cell=cell, build=built, smoke=checks, requirements=asked, publish=pushes, image=image),)
        return RunReport(
            run="r1", command="run", started="2026-01-01T00:00:00+00:00", seconds=50, cells=cells, notes=notes
        )

    return make


BROKEN = Failure(kind=FailureKind.COMPILE, evidence=("main.cc:1:1: error: no", "make: *** Error 1"))


def test_the_table_has_the_time_the_size_and_the_outcome_of_each_stage(make) -> None:
    text = report_text(make(smoke=[Outcome.PASSED] * 3 + [Outcome.NOT_APPLICABLE], publish=[Outcome.PASSED]))
    row = text.splitlines()[1]
    for word in ("ray-2.9.3-tf-cpu-debian", "41 s", "1.93 GB", "3 passed, 1 not applicable", "1 passed"):
        assert word in row


def test_the_failure_its_log_lines_and_its_log_are_below_the_table(make) -> None:
    text = report_text(make(build=Outcome.FAILED, failure=BROKEN, reason="compile"))
    assert "build failed: compile" in text
    assert "| main.cc:1:1: error: no" in text
    assert "logs/build.log" in text


def test_notes_are_part_of_the_report(make) -> None:
    assert "note: removed container x" in report_text(make(notes=("removed container x",)))


def test_json_has_every_result(make) -> None:
    facts = json.loads(report_json(make(smoke=[Outcome.FAILED], publish=[Outcome.SKIPPED])))
    (cell,) = facts["cells"]
    assert facts["outcome"] == cell["outcome"] == "failed"
    assert cell["build"]["image"] == {"id": "sha256:a", "size": 1_930_000_000}
    assert cell["smoke"][0]["reason"] == "why 0"
    assert cell["publish"][0]["digest"] == "sha256:d"


def test_json_has_the_kind_evidence_and_attempts_of_a_failure(make) -> None:
    facts = json.loads(report_json(make(build=Outcome.FAILED, failure=BROKEN)))
    assert facts["cells"][0]["build"]["failure"] == {
        "kind": "compile", "evidence": list(BROKEN.evidence), "attempts": 1,
    }  # fmt: skip


def test_junit_counts_not_applicable_as_skipped(make) -> None:
    every = [Outcome.PASSED, Outcome.FAILED, Outcome.NOT_APPLICABLE, Outcome.SKIPPED]
    suite = ElementTree.fromstring(report_junit(make(smoke=every, publish=[Outcome.PASSED]))).find("testsuite")
    assert {key: suite.get(key) for key in ("tests", "failures", "skipped", "errors")} == {
        "tests": "6", "failures": "1", "skipped": "2", "errors": "0",
    }  # fmt: skip
    assert [case.get("name") for case in suite] == ["build", "check c0", "check c1", "check c2", "check c3", "push r:0"]


def test_each_requirement_of_a_target_has_a_line_for_each_registry(make) -> None:
    report = make(requirements=[Outcome.PASSED, Outcome.FAILED], publish=[Outcome.FAILED])
    cases = ElementTree.fromstring(report_junit(report)).findall("testsuite/testcase")
    assert [case.get("name") for case in cases] == ["build", "scan in p/0", "scan in p/1", "push r:0"]
    assert [case.find("failure") is None for case in cases] == [True, True, False, False]
    (cell,) = json.loads(report_json(report))["cells"]
    assert cell["demands"][1] == {"demand": "scan", "place": "p/1", "outcome": "failed", "reason": "found 1"}
    assert "scan in p/1 failed: found 1" in report_text(report)


def test_junit_has_the_kind_and_the_evidence_of_a_failure(make) -> None:
    tree = ElementTree.fromstring(report_junit(make(build=Outcome.FAILED, failure=BROKEN, reason="compile")))
    failure = tree.find("testsuite/testcase/failure")
    assert failure.get("type") == "compile"
    assert failure.text == "\n".join(BROKEN.evidence)


@given(st.text())
def test_junit_is_valid_xml_whatever_a_tool_printed(text) -> None:
    tree = ElementTree.fromstring(f"<x>{ElementTree.tostring(element(text), encoding='unicode')}</x>")
    assert tree.find("y") is not None


def element(text: str) -> ElementTree.Element:
    made = ElementTree.Element("y", message=printable(text))
    made.text = printable(text)
    return made


@pytest.mark.parametrize(
    ("results", "code"),
    [
        ({}, 0),
        ({"smoke": [Outcome.PASSED, Outcome.NOT_APPLICABLE]}, 0),
        ({"smoke": [Outcome.FAILED]}, 1),
        ({"smoke": [Outcome.SKIPPED]}, 1),
        ({"publish": [Outcome.FAILED]}, 1),
        ({"requirements": [Outcome.FAILED]}, 1),
        ({"build": Outcome.FAILED, "failure": BROKEN}, 1),
        ({"build": Outcome.SKIPPED, "reason": "its parent x failed"}, 1),
        ({"build": Outcome.FAILED, "failure": Failure(kind=FailureKind.INTERRUPTED, evidence=())}, 130),
        ({"build": Outcome.SKIPPED, "reason": "interrupted before it started"}, 130),
    ],
)
def test_the_exit_code_is_that_of_the_worst_outcome(make, results, code) -> None:
    assert report_exit_code(make(**results)) == code


def test_a_run_without_cells_has_not_passed(make) -> None:
    empty = RunReport(run="r", command="", started="", seconds=0, cells=())
    assert report_exit_code(empty) == 1
    assert "nothing" in report_text(empty)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (9.9, "9.9 s"), (41.2, "41 s"), (59.6, "1 min 00 s"), (3725, "1 h 02 min")]
)
def test_durations_are_for_people(seconds, text) -> None:
    assert format_duration(seconds) == text
