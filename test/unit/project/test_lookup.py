from pathlib import Path

import pytest

from rlimages.errors import FactoryError, SelectionError, ToolError
from rlimages.project.lookup import find_image

ROOT = Path(__file__).resolve().parents[3]


def test_an_image_of_the_store_needs_no_project(engine, step, tmp_path) -> None:
    engine.passes(step)
    assert find_image(step.request.tag, engine, None, tmp_path) == step.request.tag


def test_a_cell_is_its_image(engine, step, project) -> None:
    name = next(cell.local_name for cell in project.cells if cell.id == "vw-8.7.0-cpu")
    engine.store[name] = engine.passes(step)
    assert find_image("vw-8.7.0-cpu", engine, ROOT / "build_matrix.yaml", ROOT) == name


@pytest.mark.parametrize(
    ("word", "kind", "sentence"),
    [
        ("a:1", ToolError, "no image a:1 in the local store; docker pull a:1"),
        ("vw-8.7.0-cpu", ToolError, "rlimages build --select vw-8.7.0-cpu"),
        ("vw-8.7.0-cpuu", SelectionError, "did you mean 'vw-8.7.0-cpu'"),
        ("vw-8.7.0-*", SelectionError, "this runs in one image"),
    ],
)
def test_an_image_that_is_not_there_has_a_remedy(engine, word, kind, sentence) -> None:
    with pytest.raises(kind, match=sentence):
        find_image(word, engine, ROOT / "build_matrix.yaml", ROOT)


def test_a_word_outside_a_project_is_told_of_the_matrix(engine, tmp_path) -> None:
    with pytest.raises(FactoryError, match=r"no build_matrix\.yaml"):
        find_image("vw", engine, None, tmp_path)
