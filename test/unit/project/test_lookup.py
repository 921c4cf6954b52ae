from pathlib import Path

import pytest

from rlimages.engine.protocol import BuiltImage, InspectedImage
from rlimages.errors import ConfigError, FactoryError, SelectionError, ToolError
from rlimages.oci.manifest import Reference
from rlimages.project.lookup import (
    LocalSubject,
    find_image,
    find_project,
    find_subjects,
    resolve_image,
    resolve_subjects,
)

ROOT = Path(__file__).resolve().parents[3]


class Store:
    """A local store with images of these names."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def inspect(self, reference: str) -> InspectedImage | None:
        if reference not in self.names:
            return None
        image = BuiltImage(id="sha256:x", size=1)
        return InspectedImage(image=image, labels={}, env=(), entrypoint=(), command=(), user="", workdir="")


def test_an_image_of_the_local_store_needs_no_project(engine, step, tmp_path) -> None:
    engine.passes(step)
    assert find_image(step.request.tag, engine, None, tmp_path) == step.request.tag


def test_a_cell_id_means_the_image_of_the_cell(engine, step, project) -> None:
    name = next(cell.local_name for cell in project.cells if cell.id == "vw-8.7.0-cpu")
    engine.store[name] = engine.passes(step)
    assert find_image("vw-8.7.0-cpu", engine, ROOT / "build_matrix.yaml", ROOT) == name


@pytest.mark.parametrize(
    ("argument", "kind", "message"),
    [
        ("a:1", ToolError, "no image a:1 in the local store; docker pull a:1"),
        ("vw-8.7.0-cpu", ToolError, "rlimages build --select vw-8.7.0-cpu"),
        ("vw-8.7.0-cpuu", SelectionError, "did you mean 'vw-8.7.0-cpu'"),
        ("vw-8.7.0-*", SelectionError, "this command takes one image"),
    ],
)
def test_a_missing_image_is_an_error_with_a_remedy(engine, argument, kind, message) -> None:
    with pytest.raises(kind, match=message):
        find_image(argument, engine, ROOT / "build_matrix.yaml", ROOT)


def test_a_cell_id_outside_a_project_is_an_error_about_the_matrix(engine, tmp_path) -> None:
    with pytest.raises(FactoryError, match=r"no build_matrix\.yaml"):
        find_image("vw", engine, None, tmp_path)


REFERENCE = Reference(host="127.0.0.1:5000", repository="team/vw", tag_or_digest="1.0")
ARGUMENT = "127.0.0.1:5000/team/vw:1.0"


def test_one_image_is_taken_from_the_local_store_before_the_registry(engine, step, tmp_path) -> None:
    assert resolve_image(ARGUMENT, engine, None, tmp_path) == REFERENCE
    engine.passes(step)
    engine.store[ARGUMENT] = engine.store[step.request.tag]
    assert resolve_image(ARGUMENT, engine, None, tmp_path) == ARGUMENT


def test_images_to_accept_are_taken_from_the_registry_before_the_local_store(engine, step) -> None:
    engine.passes(step)
    engine.store[ARGUMENT] = engine.store[step.request.tag]
    assert resolve_subjects(ARGUMENT, engine, None) == REFERENCE
    assert resolve_subjects(step.request.tag, engine, None) == (
        LocalSubject(name=step.request.tag, tags=(step.request.tag.rpartition(":")[2],)),
    )


def test_a_cell_means_its_image_with_all_its_tags(project) -> None:
    cell = next(cell for cell in project.cells if cell.aliases)
    subject = LocalSubject(name=cell.local_name, tags=cell.tags)
    store = Store(cell.local_name)
    assert find_subjects(cell.id, store, project) == (subject,)
    assert find_subjects(cell.local_name, store, project) == (subject,)


@pytest.mark.parametrize(("name", "tags"), [("a/b:1.0", ("1.0",)), ("sha256:x", ()), ("abc", ()), ("host:5/a", ())])
def test_an_image_of_the_local_store_has_the_tag_of_its_name(name, tags) -> None:
    assert find_subjects(name, Store(name), None)[0].tags == tags


def test_an_argument_that_means_no_image_is_an_error_with_a_remedy(project) -> None:
    with pytest.raises(
        SelectionError, match=r"'vw-9.11.9-cpu-debia' is not an image .* did you mean 'vw-9.11.9-cpu-debian'"
    ):
        find_subjects("vw-9.11.9-cpu-debia", Store(), project)
    with pytest.raises(SelectionError, match="there is no project here whose cells it could mean"):
        find_subjects("x", Store(), None)
    with pytest.raises(ToolError, match=r"rlimages build --select vw-8\.7\.0-cpu"):
        find_subjects("vw-8.7.0-cpu", Store(), project)


def test_a_folder_without_matrix_is_no_project_but_a_broken_matrix_is_an_error(project, tmp_path) -> None:
    assert find_project(None, tmp_path) is None
    matrix = tmp_path / "build_matrix.yaml"
    matrix.write_text((project.root / "build_matrix.yaml").read_text())
    assert find_project(None, tmp_path).root == tmp_path
    matrix.write_text("version: 0")
    with pytest.raises(ConfigError):
        find_project(None, tmp_path)
