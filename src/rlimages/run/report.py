"""The report of a run as a table, JSON and JUnit XML."""

from collections import Counter
from collections.abc import Iterable, Sequence
from json import dumps
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from rlimages.errors import Interrupted
from rlimages.plan.results import (
    BuildResult,
    CellReport,
    FailureKind,
    Outcome,
    PublishResult,
    Result,
    RunReport,
    SmokeResult,
    tally,
)
from rlimages.system.files import write_text
from rlimages.system.units import format_duration, format_size

_WORDS = {Outcome.PASSED: "ok", Outcome.FAILED: "FAILED", Outcome.SKIPPED: "skipped", Outcome.NOT_APPLICABLE: "n/a"}
"""Outcome -> its word in the BUILD column of the table."""
_HEADER = ("CELL", "BUILD", "TIME", "SIZE", "CHECKS", "TIME", "PUBLISHED", "TIME", "")


def report_text(report: RunReport) -> str:
    """Return `report` as text for people.

    It has a table of all cells, the reasons and log lines of all failed and skipped results, the notes of the run, and
    a last line with the number of cells for each outcome.
    """
    rows = [_HEADER, *(_row(cell) for cell in report.cells)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER))]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    for cell in report.cells:
        failures = list(_failure_lines(cell))
        if failures:
            lines += ["", f"{cell.cell.id}:", *(f"  {line}" for line in failures)]
    if report.notes:
        lines += ["", *(f"note: {note}" for note in report.notes)]
    lines += ["", f"{tally(report.cells)} in {format_duration(report.seconds)}"]
    return "\n".join(lines) + "\n"


def report_json(report: RunReport) -> str:
    """Return the whole `report` as JSON text. Times are in seconds, sizes in bytes."""
    facts = {
        "run": report.run,
        "command": report.command,
        "started": report.started,
        "seconds": round(report.seconds, 3),
        "outcome": report.outcome,
        "cells": [_cell_facts(cell) for cell in report.cells],
        "notes": list(report.notes),
    }
    return dumps(facts, indent=2) + "\n"


def report_junit(report: RunReport) -> str:
    """Return `report` as JUnit XML text: one suite for each cell.

    A suite has one case for the build, each check, each requirement and each tag in a registry. A case whose outcome
    is skipped or not applicable is marked as skipped, not as passed.
    """
    suites = ElementTree.Element("testsuites", name="rlimages", time=f"{report.seconds:.3f}")
    for cell in report.cells:
        suite = ElementTree.SubElement(suites, "testsuite", name=cell.cell.id, timestamp=report.started)
        cases = list(_cases(cell))
        for name, result in cases:
            _add_case(suite, cell.cell.id, name, result)
        outcomes = Counter(result.outcome for _, result in cases)
        suite.set("tests", str(len(cases)))
        suite.set("failures", str(outcomes[Outcome.FAILED]))
        suite.set("skipped", str(outcomes[Outcome.SKIPPED] + outcomes[Outcome.NOT_APPLICABLE]))
        suite.set("errors", "0")
        suite.set("time", f"{sum(result.seconds for _, result in cases):.3f}")
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def report_exit_code(report: RunReport) -> int:
    """Return the exit code of a run: 0 if all cells passed, 130 if the run was interrupted, and 1 in all other cases.

    A skipped cell did not pass, and a run without cells is no success.
    """
    if report.outcome is Outcome.PASSED and all(cell.outcome is Outcome.PASSED for cell in report.cells):
        return 0
    return Interrupted.exit_code if any(map(_was_interrupted, report.cells)) else 1


def write_report(folder: Path, report: RunReport) -> None:
    """Write `report` into `folder`, the folder of the run, as `report.txt`, `report.json` and `junit.xml`."""
    write_text(folder / "report.txt", report_text(report))
    write_text(folder / "report.json", report_json(report))
    write_text(folder / "junit.xml", report_junit(report))


def _row(report: CellReport) -> tuple[str, ...]:
    """Return the row of one cell in the table: one text for each column of `_HEADER`."""
    build = report.build
    return (
        report.cell.id,
        _build_word(build),
        format_duration(build.seconds) if build and build.log else "-",
        format_size(report.image.size) if report.image and report.image.size else "-",
        _check_counts(report.smoke),
        _total_time(report.smoke),
        tally(report.publish) if report.publish else "-",
        _total_time(report.publish),
        "" if report.outcome is Outcome.PASSED else str(report.outcome).upper(),
    )


def _build_word(build: BuildResult | None) -> str:
    """Return the word for `build` in the table; `kept` if an existing image is used, `-` if there is no result."""
    if build is None:
        return "-"
    return "kept" if build.outcome is Outcome.PASSED and not build.log else _WORDS[build.outcome]


def _check_counts(results: Sequence[SmokeResult]) -> str:
    """Return the number of checks with each outcome, and how many were not run but taken from the check cache.

    Return `-` if there are no results.
    """
    cached = sum(result.outcome is Outcome.PASSED and not result.log for result in results)
    return (tally(results) + (f" ({cached} cached)" if cached else "")) if results else "-"


def _total_time(results: Sequence[SmokeResult] | Sequence[PublishResult]) -> str:
    """Return the sum of the durations of `results` as text; `-` if there are none."""
    return format_duration(sum(result.seconds for result in results)) if results else "-"


def _failure_lines(report: CellReport) -> Iterable[str]:
    """Yield lines about each failed or skipped result of a cell: its reason, its log lines and the path of its log."""
    for name, result in _cases(report):
        if result.outcome in (Outcome.FAILED, Outcome.SKIPPED):
            yield f"{name} {result.outcome}: {result.reason}"
            yield from (f"  | {line}" for line in _evidence(result))
            if getattr(result, "log", ""):
                yield f"  log: {getattr(result, 'log', '')}"


def _evidence(result: Result) -> tuple[str, ...]:
    """Return the log lines that show the cause of a failed build; empty for any other result."""
    return result.failure.evidence if isinstance(result, BuildResult) and result.failure else ()


def _cases(report: CellReport) -> Iterable[tuple[str, Result]]:
    """Yield (name in reports, result) for each result of a cell, such as (`build`, …) and (`check train`, …)."""
    if report.build:
        yield "build", report.build
    yield from ((f"check {result.check}", result) for result in report.smoke)
    yield from ((f"{result.requirement} in {result.registry}", result) for result in report.requirements)
    yield from ((f"push {result.reference}", result) for result in report.publish)


def _add_case(suite: ElementTree.Element, cell: str, name: str, result: Result) -> None:
    case = ElementTree.SubElement(suite, "testcase", classname=cell, name=name, time=f"{result.seconds:.3f}")
    if result.outcome is Outcome.FAILED:
        failure = result.failure if isinstance(result, BuildResult) else None
        kind = str(failure.kind) if failure else "failed"
        element = ElementTree.SubElement(case, "failure", message=printable(result.reason), type=kind)
        element.text = printable("\n".join(_evidence(result)))
    elif result.outcome is not Outcome.PASSED:
        ElementTree.SubElement(case, "skipped", message=printable(f"{result.outcome}: {result.reason}"))


def printable(line: str) -> str:
    """Return `line` with U+FFFD in place of each character that XML 1.0 does not allow or that is not printable."""
    return "".join(
        char if char in "\n\t" or (char.isprintable() and char not in "\ufffe\uffff") else "\ufffd" for char in line
    )


def _cell_facts(report: CellReport) -> dict[str, Any]:
    return {
        "id": report.cell.id,
        "image": report.cell.local_name,
        "outcome": report.outcome,
        "build": _build_facts(report.build) if report.build else None,
        "smoke": [
            {"check": r.check, "outcome": r.outcome, "reason": r.reason, "seconds": round(r.seconds, 3), "log": r.log}
            for r in report.smoke
        ],
        "demands": [
            {"demand": r.requirement, "place": r.registry, "outcome": r.outcome, "reason": r.reason}
            for r in report.requirements
        ],
        "publish": [
            {
                "reference": r.reference,
                "outcome": r.outcome,
                "reason": r.reason,
                "digest": r.digest,
                "seconds": round(r.seconds, 3),
            }
            for r in report.publish
        ],
    }


def _build_facts(build: BuildResult) -> dict[str, Any]:
    failure = build.failure
    return {
        "outcome": build.outcome,
        "reason": build.reason,
        "seconds": round(build.seconds, 3),
        "log": build.log,
        "image": {"id": build.image.id, "size": build.image.size} if build.image else None,
        "failure": {"kind": failure.kind, "evidence": list(failure.evidence), "attempts": failure.attempts}
        if failure
        else None,
    }


def _was_interrupted(report: CellReport) -> bool:
    build = report.build
    if build and build.failure and build.failure.kind is FailureKind.INTERRUPTED:
        return True
    return any(result.reason.startswith("interrupted") for _, result in _cases(report))
