import time
from dataclasses import replace
from pathlib import Path

import pytest

from rlimages.errors import TemplateError
from rlimages.matrix.cell import Cell, Framework, Processor
from rlimages.project.generated import diff_generated, generate_files
from rlimages.project.project import Project
from rlimages.project.render import Renderer, base_reference, group_by_dockerfile, tidy_blank_lines


def test_cpu_and_gpu_cells_share_one_dockerfile(cell: Cell) -> None:
    gpu = replace(cell, processor=Processor.GPU)
    (dockerfile,) = group_by_dockerfile([gpu, cell])
    assert list(dockerfile.cells) == ["cpu", "gpu"]
    assert dockerfile.cell is cell
    assert dockerfile.lock == "ray/lock/ray-2.9.3-tf-${processor}-debian.txt"


def test_account_region_and_domain_of_a_base_image_in_ecr_are_build_arguments(cell: Cell) -> None:
    base = replace(cell.base, registry="deep-learning-containers", image="pytorch:2")
    assert base_reference(base) == "${account}.dkr.ecr.${region}.${domain}/pytorch:2"
    assert base_reference(cell.base) == "debian:bookworm-slim"


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        ("FROM x\n\n{{ nothing }}\n", r"templates/ray\.Dockerfile\.j2:?\d*: 'nothing' is undefined .*Dockerfile\.tf\.debian"),
        ("FROM x\n{% if %}\n", r"templates/ray\.Dockerfile\.j2:2: "),
    ],
)  # fmt: skip
def test_a_broken_template_is_an_error_with_its_name_and_line(
    cell: Cell, tmp_path: Path, template: str, expected: str
) -> None:
    (tmp_path / "ray.Dockerfile.j2").write_text(template)
    with pytest.raises(TemplateError, match=expected):
        Renderer([tmp_path], {}).render(group_by_dockerfile([cell])[0])


def test_repeated_blank_lines_are_removed() -> None:
    assert tidy_blank_lines("\n\na  \n\n\n\nb\n\n") == "a\n\nb\n"


def test_the_documented_paths_are_rendered(project: Project) -> None:
    documented = {
        "coach/docker/0.11.0/Dockerfile.mxnet",
        "coach/docker/0.11.0/Dockerfile.tf",
        "ray/docker/0.6.5/Dockerfile.tf",
        "vw/docker/8.7.0/Dockerfile",
    }
    assert documented <= set(generate_files(project))


def test_every_dockerfile_has_the_documented_build_arguments(project: Project) -> None:
    for path, text in generate_files(project).items():
        if "/docker/" in path:
            first = text.index("\nFROM ")
            assert "\nARG processor=cpu\n" in text[:first], path
            in_ecr = ".dkr.ecr." in text
            assert in_ecr == ("\nARG region=us-west-2\n" in text[:first]), path


def test_no_dockerfile_fetches_a_frontend_or_names_a_package_index(project: Project) -> None:
    for path, text in generate_files(project).items():
        if "/docker/" in path:
            assert "syntax=" not in text, path
            assert "pypi" not in text, path


def test_the_generated_files_of_this_project_are_up_to_date(project: Project) -> None:
    assert not list(diff_generated(project))


def test_the_time_to_render_grows_linearly(project: Project) -> None:
    """A thousand Dockerfiles take less than twenty times as long as a hundred."""
    one = next(cell for cell in project.cells if cell.id == "ray-2.9.3-tf-cpu-debian")

    def measure(count: int) -> float:
        cells = [replace(one, version=f"2.9.{n}", framework=Framework(name="tf", version="2")) for n in range(count)]
        renderer = Renderer([project.root / "templates"], {}, project.matrix.tools)
        started = time.process_time()
        for dockerfile in group_by_dockerfile(cells):
            renderer.render(dockerfile)
        return time.process_time() - started

    assert measure(1000) < 20 * measure(100)
