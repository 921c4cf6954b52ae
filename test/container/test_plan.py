"""Only what changed is built, and the plan says why: a project of two cells, a real engine, a real registry."""

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
    """A committed project with the cells `tiny-…` and `other-…`, each with a recipe of its own."""
    root = tmp_path / "project"
    repository = f"planned-{os.getpid()}"
    tiny_project.write(root, {})
    matrix = root / "build_matrix.yaml"
    text = matrix.read_text().replace("repository: tiny", f"repository: {repository}")
    other = text[text.index("  tiny:") :].replace("tiny", "other").replace("aliases: [other-cpu]", "aliases: []")
    matrix.write_text(text + other)
    template = root / "templates/tiny.Dockerfile.j2"
    template.write_text(template.read_text() + "COPY tiny/rootfs/ /\n")
    (root / "templates/other.Dockerfile.j2").write_text(template.read_text().replace("tiny/rootfs", "other/rootfs"))
    for name in ("tiny", "other"):
        (root / name / "rootfs").mkdir(parents=True)
        (root / name / "rootfs/file").write_text("one\n")
    (root / ".gitignore").write_text(".rlimages\n")
    for word in ("render", "lock"):
        done(root, word)
    for words in (
        ["init", "-q"],
        ["add", "."],
        ["-c", "user.name=n", "-c", "user.email=e", "commit", "-q", "-m", "one"],
    ):
        subprocess.run(["git", *words], cwd=root, check=True)
    yield root
    images = subprocess.run(["docker", "images", "-q", repository], capture_output=True, text=True, check=True).stdout
    if images:
        subprocess.run(["docker", "image", "rm", "--force", *set(images.split())], check=True, capture_output=True)


def done(root: Path, *words: str, code: int = 0) -> str:
    ended = tiny_project.rlimages(root, *words)
    assert ended.returncode == code, ended.stdout + ended.stderr
    return ended.stdout


def planned(root: Path, *words: str, code: int) -> dict[str, tuple[str, str]]:
    told = json.loads(done(root, "plan", "--json", *words, code=code))
    return {cell["id"]: (cell["action"], cell["reason"]) for cell in told["cells"]}


TINY, OTHER = "tiny-1.0-cpu-debian", "other-1.0-cpu-debian"


def test_a_run_builds_what_changed_and_nothing_else(project: Path) -> None:
    assert {action for action, _ in planned(project, code=10).values()} == {"build"}
    done(project, "build")
    assert set(planned(project, code=0).values()) == {("reuse", "up to date")}
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=project, capture_output=True, text=True, check=True
    ).stdout
    labels = label(project, TINY)
    assert labels["org.opencontainers.image.revision"] == commit.strip()
    assert json.loads(labels["rlimages.inputs"])["file tiny/rootfs/file"]

    (project / "tiny/rootfs/file").write_text("two\n")
    assert planned(project, code=10) == {
        TINY: ("build", "file tiny/rootfs/file: changed"),
        OTHER: ("reuse", "up to date"),
    }
    assert planned(project, "--since", "HEAD", code=10) == {
        TINY: ("build", "file tiny/rootfs/file: changed"),
        OTHER: ("skip", "not affected since HEAD"),
    }
    before = image(project, OTHER)
    report = done(project, "build")
    assert [line.split()[:2] for line in report.splitlines() if line.startswith(("tiny", "other"))] == [
        [TINY, "ok"],
        [OTHER, "kept"],
    ]
    assert image(project, OTHER) == before
    assert "org.opencontainers.image.revision" not in label(project, TINY), "no commit has what this was built from"
    (project / "tiny/rootfs/file").write_text("one\n")
    assert planned(project, code=10)[TINY][0] == "build", "the image with this name has the other content"
    done(project, "build", "--since", "HEAD")
    assert planned(project, "--select", "tiny*", code=10)[OTHER] == (
        "skip",
        f"left out by --select 'tiny*' ({where(project, OTHER)})",
    )


def test_a_machine_that_starts_empty_takes_what_the_registry_has(project: Path, registry: str) -> None:
    address = f"{registry}/planned-{os.getpid()}"
    done(project, "run", "--to", address)
    first = digest(project, TINY)
    subprocess.run(
        ["docker", "image", "rm", image(project, TINY), image(project, OTHER)], check=True, capture_output=True
    )
    subprocess.run(["rm", "-r", str(project / ".rlimages")], check=True)
    actions = planned(project, "--to", address, code=10)
    assert {action for action, _ in actions.values()} == {"retag"}
    assert all("has it, checked on" in reason for _, reason in actions.values())
    report = done(project, "run", "--to", address)
    assert "0 blobs (0 MB) sent" in report
    assert digest(project, TINY) == first
    with pytest.raises(AssertionError, match="No such object"):
        image(project, TINY)

    check = project / "templates/smoke/check_good.py"
    check.write_text("echo better; exit 0\n")
    actions = planned(project, "--to", address, code=10)
    assert {action for action, _ in actions.values()} == {"build"}, "the new checks passed for none of them"


def test_a_base_of_a_registry_is_locked_and_a_newer_one_is_a_change(project: Path, registry: str) -> None:
    base = f"{registry}/planned-{os.getpid()}-base:1"
    matrix = project / "build_matrix.yaml"
    matrix.write_text(matrix.read_text().replace('"debian:bookworm-slim"', f'"{base}"'))
    push(base, "debian:bookworm-slim", "LABEL a=1")
    for word in (("render",), ("bases", "--update"), ("build",)):
        done(project, *word)
    assert set(planned(project, code=0).values()) == {("reuse", "up to date")}
    push(base, "debian:bookworm-slim", "LABEL a=2")
    assert set(planned(project, code=0).values()) == {("reuse", "up to date")}, "the lock says which one"
    told = done(project, "bases", "--update")
    assert told.startswith(f"{base}: sha256:")
    assert {reason.partition(":")[0] for _, reason in planned(project, code=10).values()} == {
        f"base {registry.split(':', maxsplit=1)[0]}"
    }
    done(project, "build")
    assert label(project, TINY)["a"] == "2"


def push(name: str, base: str, line: str) -> None:
    subprocess.run(
        ["docker", "buildx", "build", "--provenance=false", "--load", "--tag", name, "-"],
        input=f"FROM {base}\n{line}\n", text=True, check=True, capture_output=True,
    )  # fmt: skip
    subprocess.run(["docker", "push", "--quiet", name], check=True, capture_output=True)
    subprocess.run(["docker", "image", "rm", name], check=True, capture_output=True)


def image(root: Path, cell: str) -> str:
    return inspected(root, cell, "{{.Id}}")


def label(root: Path, cell: str) -> dict[str, str]:
    labels: dict[str, str] = json.loads(inspected(root, cell, "{{json .Config.Labels}}"))
    return labels


def inspected(root: Path, cell: str, form: str) -> str:
    (name,) = (f"{c['repository']}:{c['tags'][0]}" for c in json.loads(done(root, "list", "--json")) if c["id"] == cell)
    ended = subprocess.run(["docker", "inspect", "--format", form, name], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def where(root: Path, cell: str) -> str:
    told = json.loads(done(root, "list", "--json"))
    assert any(one["id"] == cell for one in told)
    return str(json.loads(done(root, "show", cell, "--json"))[0]["where"])


def digest(root: Path, cell: str) -> str:
    report = json.loads((root / ".rlimages/runs/latest/report.json").read_text())
    (found,) = (one for one in report["cells"] if one["id"] == cell)
    return str(found["publish"][0]["digest"])


def test_layers_travel_while_others_are_built_and_show_nothing(project: Path, upstream: str) -> None:
    """Of two cells one passes and one fails: nothing of the target is released, and layers of the first are there."""
    target = {"registry": upstream, "accept": []}
    (project / "targets.yaml").write_text(json.dumps({"version": 1, "targets": {"all": target}}))
    recipe = project / "templates/other.Dockerfile.j2"
    recipe.write_text(recipe.read_text() + "RUN sleep 6; false\n")
    done(project, "render")
    done(project, "run", "--target", "all", "--jobs", "2", code=1)
    repository = f"planned-{os.getpid()}"
    with RegistryClient(upstream) as there:
        assert there.has_blob(repository, image_id(f"{repository}:tiny-1.0-cpu"))
        assert not there.list_tags(repository)
    recipe.write_text(recipe.read_text().replace("false", "true"))
    done(project, "render")
    said = done(project, "run", "--target", "all", "--jobs", "2")
    assert "2 passed" in said
    with RegistryClient(upstream) as there:
        assert "tiny-cpu" in there.list_tags(repository)


def image_id(name: str) -> str:
    words = ["docker", "image", "inspect", "--format", "{{.Id}}", name]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()
