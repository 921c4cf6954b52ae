"""How a release ended, in a run's report and in its notes."""

from rlimages.plan.results import CellReport, Outcome
from rlimages.release.journal import RequirementChecked
from rlimages.release.model import ReleaseState
from rlimages.release.results import RegistryResult, release_exit_code, release_lines, release_notes, with_results


def result(cell, state: ReleaseState = ReleaseState.RELEASED, reason: str = "") -> RegistryResult:
    check = RequirementChecked(registry="target/us", cell=cell.id, requirement="scan", passed=True, detail="0 findings")
    return RegistryResult(
        registry="target/us",
        state=state,
        reason=reason,
        digests={cell.id: "sha256:d"},
        references={cell.id: tuple(f"host/r:{tag}" for tag in cell.tags)},
        moved={cell.id: cell.tags[:1]},
        requirements=(check,),
        calls={"PutImage": 2},
        uploads=3,
        bytes=2_000_000,
        seconds=4.0,
    )


def test_a_cell_has_one_result_for_each_tag_and_each_requirement(cell) -> None:
    report = with_results(CellReport(cell=cell), [result(cell)])
    assert [(each.reference, each.outcome, each.reason, each.digest) for each in report.publish] == [
        (f"host/r:{tag}", Outcome.PASSED, "" if tag == cell.tag else "was there already", "sha256:d")
        for tag in cell.tags
    ]
    assert [(each.requirement, each.registry, each.reason) for each in report.requirements] == [
        ("scan", "target/us", "0 findings")
    ]


def test_a_registry_that_failed_gives_its_reason_and_no_digest(cell) -> None:
    failed = result(cell, ReleaseState.UNTOUCHED, "cannot reach the registry")
    report = with_results(CellReport(cell=cell), [failed])
    assert {(each.outcome, each.reason, each.digest) for each in report.publish} == {
        (Outcome.FAILED, "cannot reach the registry", "")
    }


def test_the_notes_give_the_commands_that_resume_a_release_or_roll_it_back(cell) -> None:
    assert not [note for note in release_notes("r1", [result(cell)]) if "--resume" in note]
    notes = list(release_notes("r1", [result(cell, ReleaseState.BETWEEN, "interrupted")]))
    assert notes[0].startswith("target/us: in between; 3 blobs (2 MB) sent in 4.0 s; 2 PutImage")
    assert notes[1:] == [
        "resume it with `rlimages publish --resume r1`",
        "or roll it back with `rlimages publish --rollback r1`",
    ]


def test_lines_for_people_have_state_traffic_and_requirements(cell) -> None:
    lines = list(release_lines([result(cell, ReleaseState.BETWEEN, "interrupted")]))
    assert lines[0] == "target/us: in between: interrupted"
    assert lines[1].startswith("  3 blobs (2 MB) sent in 4.0 s; 2 PutImage")
    assert lines[2:] == [f"  {cell.id}: scan passed: 0 findings"]


def test_the_exit_code_is_130_if_the_user_stopped_one_registry_and_7_for_any_other_reason(cell) -> None:
    refused = result(cell, ReleaseState.UNTOUCHED, "refused")
    interrupted = result(cell, ReleaseState.UNTOUCHED, "interrupted")
    assert release_exit_code([result(cell)]) == 0
    assert release_exit_code([result(cell), refused]) == 7
    assert release_exit_code([refused, interrupted]) == 130
