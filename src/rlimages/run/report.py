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

_MARK = {Outcome.PASSED: "ok", Outcome.FAILED: "FAILED", Outcome.SKIPPED: "skipped", Outcome.NOT_APPLICABLE: "n/a"}
_HEAD = ("CELL", "BUILD", "TIME", "SIZE", "CHECKS", "TIME", "PUBLISHED", "TIME", "")


def report_text(report: RunReport) -> str:
    """The table that people read, below it what did not pass and why, and the notes of the run."""
    rows = [_HEAD, *(_row(cell) for cell in report.cells)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEAD))]
    lines = ["  ".join(word.ljust(w) for word, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    for cell in report.cells:
        troubles = list(_troubles(cell))
        if troubles:
            lines += ["", f"{cell.cell.id}:", *(f"  {line}" for line in troubles)]
    if report.notes:
        lines += ["", *(f"note: {note}" for note in report.notes)]
    lines += ["", f"{tally(report.cells)} in {format_duration(report.seconds)}"]
    return "\n".join(lines) + "\n"


def report_json(report: RunReport) -> str:
    """Everything, for programs."""
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
    """One suite for each cell: its build, each check, scan, signature and push. Skipped is not passed."""
    suites = ElementTree.Element("testsuites", name="rlimages", time=f"{report.seconds:.3f}")
    for cell in report.cells:
        suite = ElementTree.SubElement(suites, "testsuite", name=cell.cell.id, timestamp=report.started)
        cases = list(_cases(cell))
        for name, result in cases:
            _case(suite, cell.cell.id, name, result)
        outcomes = Counter(result.outcome for _, result in cases)
        suite.set("tests", str(len(cases)))
        suite.set("failures", str(outcomes[Outcome.FAILED]))
        suite.set("skipped", str(outcomes[Outcome.SKIPPED] + outcomes[Outcome.NOT_APPLICABLE]))
        suite.set("errors", "0")
        suite.set("time", f"{sum(result.seconds for _, result in cases):.3f}")
    ElementTree.indent(suites)
    return ElementTree.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def report_exit_code(report: RunReport) -> int:
    """0 when all passed, 130 when the run was interrupted, 1 otherwise: also when something was only skipped."""
    if report.outcome is Outcome.PASSED and all(cell.outcome is Outcome.PASSED for cell in report.cells):
        return 0
    return Interrupted.exit_code if any(map(_was_interrupted, report.cells)) else 1


def _row(report: CellReport) -> tuple[str, ...]:
    built = report.build
    return (
        report.cell.id,
        _built(built),
        format_duration(built.seconds) if built and built.log else "-",
        format_size(report.image.size) if report.image and report.image.size else "-",
        _checks(report.smoke),
        _seconds(report.smoke),
        tally(report.publish) if report.publish else "-",
        _seconds(report.publish),
        "" if report.outcome is Outcome.PASSED else str(report.outcome).upper(),
    )


def _built(built: BuildResult | None) -> str:
    """What was not built because its inputs are the same is said: it is no news of today."""
    if built is None:
        return "-"
    return "kept" if built.outcome is Outcome.PASSED and not built.log else _MARK[built.outcome]


def _checks(results: Sequence[SmokeResult]) -> str:
    """What was not run because it had passed before is said: it is no news of today."""
    before = sum(result.outcome is Outcome.PASSED and not result.log for result in results)
    return (tally(results) + (f" ({before} before)" if before else "")) if results else "-"


def _seconds(results: Sequence[SmokeResult] | Sequence[PublishResult]) -> str:
    return format_duration(sum(result.seconds for result in results)) if results else "-"


def _troubles(report: CellReport) -> Iterable[str]:
    for name, result in _cases(report):
        if result.outcome in (Outcome.FAILED, Outcome.SKIPPED):
            yield f"{name} {result.outcome}: {result.reason}"
            yield from (f"  | {line}" for line in _evidence(result))
            if getattr(result, "log", ""):
                yield f"  log: {getattr(result, 'log', '')}"


def _evidence(result: Result) -> tuple[str, ...]:
    return result.failure.evidence if isinstance(result, BuildResult) and result.failure else ()


def _cases(report: CellReport) -> Iterable[tuple[str, Result]]:
    if report.build:
        yield "build", report.build
    yield from ((f"check {result.check}", result) for result in report.smoke)
    yield from ((f"{result.requirement} in {result.registry}", result) for result in report.requirements)
    yield from ((f"push {result.reference}", result) for result in report.publish)


def _case(suite: ElementTree.Element, cell: str, name: str, result: Result) -> None:
    case = ElementTree.SubElement(suite, "testcase", classname=cell, name=name, time=f"{result.seconds:.3f}")
    if result.outcome is Outcome.FAILED:
        failure = result.failure if isinstance(result, BuildResult) else None
        kind = str(failure.kind) if failure else "failed"
        element = ElementTree.SubElement(case, "failure", message=printable(result.reason), type=kind)
        element.text = printable("\n".join(_evidence(result)))
    elif result.outcome is not Outcome.PASSED:
        ElementTree.SubElement(case, "skipped", message=printable(f"{result.outcome}: {result.reason}"))


def printable(line: str) -> str:
    """Without the control characters that XML 1.0 has no way to write."""
    return "".join(
        sign if sign in "\n\t" or (sign.isprintable() and sign not in "\ufffe\uffff") else "\ufffd" for sign in line
    )


def _cell_facts(report: CellReport) -> dict[str, Any]:
    built = report.build
    return {
        "id": report.cell.id,
        "image": report.cell.local_name,
        "outcome": report.outcome,
        "build": _build_facts(built) if built else None,
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


def _build_facts(built: BuildResult) -> dict[str, Any]:
    failure = built.failure
    return {
        "outcome": built.outcome,
        "reason": built.reason,
        "seconds": round(built.seconds, 3),
        "log": built.log,
        "image": {"id": built.image.id, "size": built.image.size} if built.image else None,
        "failure": {"kind": failure.kind, "evidence": list(failure.evidence), "attempts": failure.attempts}
        if failure
        else None,
    }


def _was_interrupted(report: CellReport) -> bool:
    built = report.build
    if built and built.failure and built.failure.kind is FailureKind.INTERRUPTED:
        return True
    return any(result.reason.startswith("interrupted") for _, result in _cases(report))


def write_report(folder: Path, result: RunReport) -> None:
    """Write `report.txt`, `report.json` and `junit.xml` into the folder of a run."""
    write_text(folder / "report.txt", report_text(result))
    write_text(folder / "report.json", report_json(result))
    write_text(folder / "junit.xml", report_junit(result))
