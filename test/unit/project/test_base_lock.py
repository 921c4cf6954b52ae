"""The digests of bases: asked for, written down, and read back."""

from pathlib import Path

import pytest

from rlimages.errors import ConfigError
from rlimages.project import update
from rlimages.project.base_lock import LockedBase, format_base_lock, parse_base_lock
from rlimages.project.project import Project, load_project
from rlimages.project.update import base_lock_lines, registry_digest, update_base_lock
from rlimages.system.process import ProgramResult

ROOT = Path(__file__).resolve().parents[3]
ONE, TWO = ("sha256:" + letter * 64 for letter in "ab")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "build_matrix.yaml").write_text((ROOT / "build_matrix.yaml").read_text())
    return load_project(tmp_path / "build_matrix.yaml", tmp_path)


def test_what_answers_is_locked_and_what_does_not_is_said(project: Project) -> None:
    cells = [cell for cell in project.cells if cell.line == "debian"]
    told = update_base_lock(project, cells, fetch=lambda name: (ONE, "") if "bookworm" in name else (None, "no answer"))
    assert told["debian:bookworm-slim"].digest == ONE
    assert list(base_lock_lines(told)) == [
        "debian:bullseye-slim: is not locked; unreachable: no answer",
        f"debian:bookworm-slim: {ONE}",
    ]
    again = load_project(project.root / "build_matrix.yaml", project.root)
    assert again.locked_bases == {"debian:bookworm-slim": ONE}
    assert again.base_lock["debian:bullseye-slim"].unreachable == "no answer"


def test_a_digest_outlives_a_registry_that_is_gone_and_the_others_stay(project: Project) -> None:
    bookworm, bullseye = (
        [cell for cell in project.cells if cell.base.image == f"debian:{suite}-slim"]
        for suite in ("bookworm", "bullseye")
    )
    update_base_lock(project, [*bookworm, *bullseye], fetch=lambda _name: (ONE, ""))
    again = load_project(project.root / "build_matrix.yaml", project.root)
    told = update_base_lock(again, bookworm, fetch=lambda _name: (None, "gone"))
    assert list(base_lock_lines(told)) == [f"debian:bookworm-slim: stays at {ONE}; unreachable: gone"]
    last = load_project(project.root / "build_matrix.yaml", project.root)
    assert last.locked_bases == {"debian:bookworm-slim": ONE, "debian:bullseye-slim": ONE}


def test_ecr_is_asked_in_the_region_that_is_named(project: Project) -> None:
    asked: list[str] = []
    cells = [cell for cell in project.cells if cell.id == "ray-1.6.0-torch-gpu"]
    update_base_lock(project, cells, region="eu-west-1", fetch=lambda name: (asked.append(name), (TWO, ""))[1])
    assert asked == ["763104351884.dkr.ecr.eu-west-1.amazonaws.com/pytorch-training:1.8.1-gpu-py36-cu111-ubuntu18.04"]
    assert list(load_project(project.root / "build_matrix.yaml", project.root).locked_bases) == [
        "pytorch-training:1.8.1-gpu-py36-cu111-ubuntu18.04"
    ]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("dial tcp: lookup a.example on 10.0.0.1:53: no such host", "its registry cannot be found from here"),
        ("dial tcp 127.0.0.1:1: connect: connection refused", "its registry does not answer"),
        ("unexpected status: 401 Unauthorized", "its registry requires a login: docker login"),
        ("a.example/b:c: not found", "its registry has no such image"),
        ("something: quite else", "quite else"),
    ],
)
def test_the_reason_names_no_machine(monkeypatch: pytest.MonkeyPatch, said: str, reason: str) -> None:
    def run(_argv, *, on_line, **_words):
        on_line(f"ERROR: {said}")
        return ProgramResult(code=1, seconds=0.1)

    monkeypatch.setattr(update, "run_program", run)
    assert registry_digest("a.example/b:c") == (None, reason)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("version: 2\nbases: {}\n", "version: "),
        ("version: 1\nbases: {a: {digest: abc, asked: '2026-01-01'}}\n", "bases.a.digest: "),
        ("version: 1\nbases: {a: {digest: null, asked: '2026-01-01', more: 1}}\n", "bases.a.more: "),
        ("[", "is not YAML"),
    ],
)
def test_a_broken_file_is_one_sentence_with_its_place(text: str, place: str) -> None:
    with pytest.raises(ConfigError, match=f"build_matrix.lock.yaml: {place}.*`rlimages bases --update`"):
        parse_base_lock(text)


def test_what_is_written_is_read_back() -> None:
    told = {
        "b": LockedBase(digest=ONE, date="2026-01-01"),
        "a": LockedBase(digest=None, date="2026-01-02", unreachable="x: y"),
    }
    assert parse_base_lock(format_base_lock(told)) == told
    assert format_base_lock(told).index("  a:") < format_base_lock(told).index("  b:")
