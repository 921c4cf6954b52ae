"""Plans of a project of two cells, with a real engine and registry: only changed cells are built, with a reason."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_project

from rlimages.registry.client import RegistryClient


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A committed project with the cells `tiny-…` and `other-…`, each with its own Dockerfile."""
    root = tmp_path / "project"
    repository = f"planned-{os.getpid()}"
    tiny_project.write_project(root, {})
    matrix = root / "build_matrix.yaml"
    text = matrix.read_text().replace(f"repository: {tiny_project.REPOSITORY}", f"repository: {repository}")
    other = text[text.index("  tiny:") :].replace("tiny", "other").replace("aliases: [other-cpu]", "aliases: []")
    matrix.write_text(text + other)
    template = root / "templates/tiny.Dockerfile.j2"
    template.write_text(template.read_text() + "COPY tiny/rootfs/ /\n")
    (root / "templates/other.Dockerfile.j2").write_text(template.read_text().replace("tiny/rootfs", "other/rootfs"))
    for name in ("tiny", "other"):
        (root / name / "rootfs").mkdir(parents=True)
        (root / name / "rootfs/file").write_text("one\n")
    (root / ".gitignore").write_text(".rlimages\n")
    for command in ("render", "lock"):
        run_rlimages(root, command)
    for arguments in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=n", "-c", "user.email=e", "commit", "-q", "-m", "one"],
    ):
        subprocess.run(["git", *arguments], cwd=root, check=True)
    yield root
    images = subprocess.run(["docker", "images", "-q", repository], capture_output=True, text=True, check=True).stdout
    if images:
        subprocess.run(["docker", "image", "rm", "--force", *set(images.split())], check=True, capture_output=True)


def run_rlimages(root: Path, *arguments: str, code: int = 0) -> str:
    result = tiny_project.rlimages(root, *arguments)
    assert result.returncode == code, result.stdout + result.stderr
    return result.stdout


def planned_actions(root: Path, *arguments: str, code: int) -> dict[str, tuple[str, str]]:
    listing = json.loads(run_rlimages(root, "plan", "--json", *arguments, code=code))
    return {cell["id"]: (cell["action"], cell["reason"]) for cell in listing["cells"]}


TINY, OTHER = "tiny-1.0-cpu-debian", "other-1.0-cpu-debian"


def test_a_run_builds_only_the_cells_that_changed(project: Path) -> None:
    assert {action for action, _ in planned_actions(project, code=10).values()} == {"build"}
    run_rlimages(project, "build")
    assert set(planned_actions(project, code=0).values()) == {("reuse", "up to date")}
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=project, capture_output=True, text=True, check=True
    ).stdout
    labels = image_labels(project, TINY)
    assert labels["org.opencontainers.image.revision"] == commit.strip()
    assert json.loads(labels["rlimages.inputs"])["file tiny/rootfs/file"]

    (project / "tiny/rootfs/file").write_text("two\n")
    assert planned_actions(project, code=10) == {
        TINY: ("build", "file tiny/rootfs/file: changed"),
        OTHER: ("reuse", "up to date"),
    }
    assert planned_actions(project, "--since", "HEAD", code=10) == {
        TINY: ("build", "file tiny/rootfs/file: changed"),
        OTHER: ("skip", "not affected since HEAD"),
    }
    image_before = image_of_cell(project, OTHER)
    report = run_rlimages(project, "build")
    assert [line.split()[:2] for line in report.splitlines() if line.startswith(("tiny", "other"))] == [
        [TINY, "ok"],
        [OTHER, "kept"],
    ]
    assert image_of_cell(project, OTHER) == image_before
    assert "org.opencontainers.image.revision" not in image_labels(project, TINY), (
        "no commit has the files it was built from"
    )
    (project / "tiny/rootfs/file").write_text("one\n")
    assert planned_actions(project, code=10)[TINY][0] == "build", "the image with this name has the other content"
    run_rlimages(project, "build", "--since", "HEAD")
    assert planned_actions(project, "--select", "tiny*", code=10)[OTHER] == (
        "skip",
        f"left out by --select 'tiny*' ({image_location(project, OTHER)})",
    )


def test_a_machine_without_local_images_reuses_those_of_the_registry(project: Path, registry: str) -> None:
    address = f"{registry}/planned-{os.getpid()}"
    run_rlimages(project, "run", "--to", address)
    first = digest(project, TINY)
    subprocess.run(
        ["docker", "image", "rm", image_of_cell(project, TINY), image_of_cell(project, OTHER)],
        check=True,
        capture_output=True,
    )
    subprocess.run(["rm", "-r", str(project / ".rlimages")], check=True)
    actions = planned_actions(project, "--to", address, code=10)
    assert {action for action, _ in actions.values()} == {"retag"}
    assert all("has it, checked on" in reason for _, reason in actions.values())
    report = run_rlimages(project, "run", "--to", address)
    assert "0 blobs (0 MB) sent" in report
    assert digest(project, TINY) == first
    with pytest.raises(AssertionError, match="No such object"):
        image_of_cell(project, TINY)

    check = project / "templates/smoke/check_good.py"
    check.write_text("echo better; exit 0\n")
    actions = planned_actions(project, "--to", address, code=10)
    assert {action for action, _ in actions.values()} == {"build"}, "the new checks passed for none of them"


def test_a_base_image_is_locked_and_a_lock_update_is_a_change(project: Path, registry: str) -> None:
    base = f"{registry}/planned-{os.getpid()}-base:1"
    matrix = project / "build_matrix.yaml"
    matrix.write_text(matrix.read_text().replace('"debian:bookworm-slim"', f'"{base}"'))
    push(base, "debian:bookworm-slim", "LABEL a=1")
    for arguments in (("render",), ("bases", "--update"), ("build",)):
        run_rlimages(project, *arguments)
    assert set(planned_actions(project, code=0).values()) == {("reuse", "up to date")}
    push(base, "debian:bookworm-slim", "LABEL a=2")
    assert set(planned_actions(project, code=0).values()) == {("reuse", "up to date")}, "the lock names the older one"
    listing = run_rlimages(project, "bases", "--update")
    assert listing.startswith(f"{base}: sha256:")
    assert {reason.partition(":")[0] for _, reason in planned_actions(project, code=10).values()} == {
        f"base {registry.split(':', maxsplit=1)[0]}"
    }
    run_rlimages(project, "build")
    assert image_labels(project, TINY)["a"] == "2"


def push(name: str, base: str, instruction: str) -> None:
    subprocess.run(
        ["docker", "buildx", "build", "--provenance=false", "--load", "--tag", name, "-"],
        input=f"FROM {base}\n{instruction}\n", text=True, check=True, capture_output=True,
    )  # fmt: skip
    subprocess.run(["docker", "push", "--quiet", name], check=True, capture_output=True)
    subprocess.run(["docker", "image", "rm", name], check=True, capture_output=True)


def image_of_cell(root: Path, cell: str) -> str:
    return inspect_image(root, cell, "{{.Id}}")


def image_labels(root: Path, cell: str) -> dict[str, str]:
    labels: dict[str, str] = json.loads(inspect_image(root, cell, "{{json .Config.Labels}}"))
    return labels


def inspect_image(root: Path, cell: str, template: str) -> str:
    (name,) = (
        f"{c['repository']}:{c['tags'][0]}" for c in json.loads(run_rlimages(root, "list", "--json")) if c["id"] == cell
    )
    result = subprocess.run(
        ["docker", "inspect", "--format", template, name], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def image_location(root: Path, cell: str) -> str:
    listing = json.loads(run_rlimages(root, "list", "--json"))
    assert any(entry["id"] == cell for entry in listing)
    return str(json.loads(run_rlimages(root, "show", cell, "--json"))[0]["where"])


def digest(root: Path, cell: str) -> str:
    report = json.loads((root / ".rlimages/runs/latest/report.json").read_text())
    (entry,) = (entry for entry in report["cells"] if entry["id"] == cell)
    return str(entry["publish"][0]["digest"])


def test_layers_are_uploaded_while_other_cells_are_built_and_no_tag_is_visible(project: Path, upstream: str) -> None:
    """If one of two cells fails, no tag of the target is released, but the layers of the other cell are uploaded."""
    target = {"registry": upstream, "accept": []}
    (project / "targets.yaml").write_text(json.dumps({"version": 1, "targets": {"all": target}}))
    template = project / "templates/other.Dockerfile.j2"
    template.write_text(template.read_text() + "RUN sleep 6; false\n")
    run_rlimages(project, "render")
    run_rlimages(project, "run", "--target", "all", "--jobs", "2", code=1)
    repository = f"planned-{os.getpid()}"
    with RegistryClient(upstream) as registry:
        assert registry.has_blob(repository, image_id(f"{repository}:tiny-1.0-cpu"))
        assert not registry.list_tags(repository)
    template.write_text(template.read_text().replace("false", "true"))
    run_rlimages(project, "render")
    output = run_rlimages(project, "run", "--target", "all", "--jobs", "2")
    assert "2 passed" in output
    with RegistryClient(upstream) as registry:
        assert "tiny-cpu" in registry.list_tags(repository)


def image_id(name: str) -> str:
    arguments = ["docker", "image", "inspect", "--format", "{{.Id}}", name]
    return subprocess.run(arguments, capture_output=True, text=True, check=True).stdout.strip()
