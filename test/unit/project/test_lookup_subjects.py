import pytest

from rlimages.engine.protocol import BuiltImage, InspectedImage
from rlimages.errors import ConfigError, SelectionError, ToolError
from rlimages.project.lookup import LocalSubject, find_project, find_subjects


class Store:
    """A local store with images of these names."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def inspect(self, reference: str) -> InspectedImage | None:
        if reference not in self.names:
            return None
        image = BuiltImage(id="sha256:x", size=1)
        return InspectedImage(image=image, labels={}, env=(), entrypoint=(), command=(), user="", workdir="")


def test_a_cell_means_its_local_image_with_all_tags_of_the_cell(project) -> None:
    cell = next(cell for cell in project.cells if cell.aliases)
    subject = LocalSubject(name=cell.local_name, tags=cell.tags)
    store = Store(cell.local_name)
    assert find_subjects(cell.id, store, project) == (subject,)
    assert find_subjects(cell.local_name, store, project) == (subject,)


@pytest.mark.parametrize(("name", "tags"), [("a/b:1.0", ("1.0",)), ("sha256:x", ()), ("abc", ()), ("host:5/a", ())])
def test_another_local_image_has_the_tag_of_its_name(name, tags) -> None:
    assert find_subjects(name, Store(name), None)[0].tags == tags


def test_an_argument_that_means_no_image_is_an_error_with_a_remedy(project) -> None:
    with pytest.raises(
        SelectionError, match=r"'vw-9.11.9-cpu-debia' is not an image .* did you mean 'vw-9.11.9-cpu-debian'"
    ):
        find_subjects("vw-9.11.9-cpu-debia", Store(), project)
    with pytest.raises(SelectionError, match="there is no project here"):
        find_subjects("x", Store(), None)
    with pytest.raises(ToolError, match=r"rlimages build --select vw-8\.7\.0-cpu"):
        find_subjects("vw-8.7.0-cpu", Store(), project)


def test_a_command_works_without_a_project_but_not_with_a_broken_one(project, tmp_path) -> None:
    assert find_project(None, tmp_path) is None
    matrix = tmp_path / "build_matrix.yaml"
    matrix.write_text((project.root / "build_matrix.yaml").read_text())
    assert find_project(None, tmp_path).root == tmp_path
    matrix.write_text("version: 0")
    with pytest.raises(ConfigError):
        find_project(None, tmp_path)
