"""The digests of base images are requested from registries and written to the base lock."""

from pathlib import Path

import pytest

from rlimages.project import update
from rlimages.project.project import Project, load_project
from rlimages.project.update import base_lock_lines, registry_digest, update_base_lock
from rlimages.system.process import ProgramResult

ROOT = Path(__file__).resolve().parents[3]
ONE, TWO = ("sha256:" + letter * 64 for letter in "ab")


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "build_matrix.yaml").write_text((ROOT / "build_matrix.yaml").read_text())
    return load_project(tmp_path / "build_matrix.yaml", tmp_path)


def test_a_base_image_is_locked_or_has_the_reason_why_not(project: Project) -> None:
    cells = [cell for cell in project.cells if cell.line == "debian"]
    updated = update_base_lock(
        project, cells, fetch=lambda name: (ONE, "") if "bookworm" in name else (None, "no answer")
    )
    assert updated["debian:bookworm-slim"].digest == ONE
    assert list(base_lock_lines(updated)) == [
        "debian:bullseye-slim: is not locked; unreachable: no answer",
        f"debian:bookworm-slim: {ONE}",
    ]
    again = load_project(project.root / "build_matrix.yaml", project.root)
    assert again.locked_bases == {"debian:bookworm-slim": ONE}
    assert again.base_lock["debian:bullseye-slim"].unreachable == "no answer"


def test_a_digest_is_kept_if_its_registry_does_not_answer(project: Project) -> None:
    bookworm, bullseye = (
        [cell for cell in project.cells if cell.base.image == f"debian:{suite}-slim"]
        for suite in ("bookworm", "bullseye")
    )
    update_base_lock(project, [*bookworm, *bullseye], fetch=lambda _name: (ONE, ""))
    again = load_project(project.root / "build_matrix.yaml", project.root)
    updated = update_base_lock(again, bookworm, fetch=lambda _name: (None, "gone"))
    assert list(base_lock_lines(updated)) == [f"debian:bookworm-slim: stays at {ONE}; unreachable: gone"]
    last = load_project(project.root / "build_matrix.yaml", project.root)
    assert last.locked_bases == {"debian:bookworm-slim": ONE, "debian:bullseye-slim": ONE}


def test_a_base_image_in_ecr_is_requested_in_the_given_region(project: Project) -> None:
    requests: list[str] = []
    cells = [cell for cell in project.cells if cell.id == "ray-1.6.0-torch-gpu"]
    update_base_lock(project, cells, region="eu-west-1", fetch=lambda name: (requests.append(name), (TWO, ""))[1])
    assert requests == [
        "763104351884.dkr.ecr.eu-west-1.amazonaws.com/pytorch-training:1.8.1-gpu-py36-cu111-ubuntu18.04"
    ]
    assert list(load_project(project.root / "build_matrix.yaml", project.root).locked_bases) == [
        "pytorch-training:1.8.1-gpu-py36-cu111-ubuntu18.04"
    ]


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("dial tcp: lookup a.example on 10.0.0.1:53: no such host", "its registry cannot be found from here"),
        ("dial tcp 127.0.0.1:1: connect: connection refused", "its registry does not answer"),
        ("unexpected status: 401 Unauthorized", "its registry requires a login: docker login"),
        ("a.example/b:c: not found", "its registry has no such image"),
        ("something: quite else", "quite else"),
    ],
)
def test_the_reason_contains_no_address_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, output: str, reason: str
) -> None:
    def run(_argv, *, on_line, **_options):
        on_line(f"ERROR: {output}")
        return ProgramResult(code=1, seconds=0.1)

    monkeypatch.setattr(update, "run_program", run)
    assert registry_digest("a.example/b:c") == (None, reason)
