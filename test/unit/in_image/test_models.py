"""Models of the in-image library: reading observations, loading folders and exporting, without any toolkit."""

import json
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[3] / "src"


@pytest.fixture
def spaces(library: Any) -> ModuleType:
    found: ModuleType = library.spaces
    return found


class Box:
    def __init__(self, *shape: int, dtype: Any = np.float32) -> None:
        self.shape, self.dtype = shape, np.dtype(dtype)


class Discrete:
    def __init__(self, n: int, start: int = 0) -> None:
        self.n, self.start = n, start


class MultiDiscrete:
    def __init__(self, *nvec: int) -> None:
        self.nvec, self.shape, self.dtype = np.array(nvec), (len(nvec),), np.dtype(np.int64)


class Dict:
    def __init__(self, **spaces: Any) -> None:
        self.spaces = OrderedDict(spaces)


class Tuple:
    def __init__(self, *spaces: Any) -> None:
        self.spaces = spaces


class Graph:
    """A space that JSON has no form for."""


def test_numbers_become_an_array_of_the_spaces_kind(spaces: Any) -> None:
    found = spaces.read(Box(2), [1, 0.5])
    assert found.dtype == np.float32
    assert found.tolist() == [1.0, 0.5]


def test_a_flat_list_is_taken_for_a_picture_as_csv_has_no_other_form(spaces: Any) -> None:
    assert spaces.read(Box(2, 2, dtype=np.uint8), [1.0, 2.0, 3.0, 4.0]).tolist() == [[1, 2], [3, 4]]


def test_members_keep_the_order_of_the_space(spaces: Any) -> None:
    found = spaces.read(Dict(a=Discrete(3), b=Tuple(Discrete(2, start=5), Box(1))), {"b": [6, [0.5]], "a": 2.0})
    assert list(found) == ["a", "b"]
    assert (found["a"], found["b"][0], found["b"][1].tolist()) == (2, 6, [0.5])


@pytest.mark.parametrize(
    ("space", "given", "sentence"),
    [
        (Box(4), [1, 2], "observation: expected 4 numbers, given 2 numbers"),
        (Box(4), [[1, 2, 3, 4]], "observation: expected 4 numbers, given 1 x 4 numbers"),
        (Box(4), None, "observation: expected 4 numbers, given null"),
        (Box(4), "1,2,3,4", "observation: expected 4 numbers, given text"),
        (Box(1), [True, None], "observation: expected 1 number, given 2 numbers that are not all numbers"),
        (Box(2), [[1], [2, 3]], "given a list with rows of different lengths that are not all numbers"),
        (Box(2), [1, float("nan")], "observation: expected 2 numbers, given some that are not finite"),
        (Box(2, dtype=np.uint8), [1, 256], "observation: expected integers from 0 to 255"),
        (Box(2), {"x": 1}, "observation: expected 2 numbers, given an object with 'x'"),
        (Discrete(3), 3, "observation: expected an integer from 0 to 2, given 3"),
        (Discrete(3), 0.5, "observation: expected whole numbers, given 0.5"),
        (MultiDiscrete(2, 3), [1, 3], r"observation: expected integers from \[0, 0\] to \[1, 2\], given \[1, 3\]"),
        (Tuple(Discrete(2), Box(2)), [0, [1]], r"observation\[1\]: expected 2 numbers, given 1 number"),
        (Tuple(Discrete(2)), [0, 1], "observation: expected a list of 1, given 2 numbers"),
        (Dict(a=Box(2)), {"a": [1]}, r"observation\.a: expected 2 numbers, given 1 number"),
        (Dict(a=Box(2)), {"b": [1]}, "observation: expected an object with 'a', given an object with 'b'"),
        (Graph(), [1], "observation: a space of the kind Graph is not read from JSON"),
    ],
)
def test_what_is_no_observation_gets_a_sentence(spaces: Any, space: Any, given: Any, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        spaces.read(space, given)


def test_actions_are_written_as_json_has_them(spaces: Any) -> None:
    action = (np.int64(1), {"force": np.array([0.5, 1.0])})
    assert json.loads(json.dumps(spaces.write(action))) == [1, {"force": [0.5, 1.0]}]


def test_a_memory_that_comes_back_has_the_shapes_of_the_first(library: Any) -> None:
    first = {"h": np.zeros((1, 2), np.float32)}
    assert library.ray.model._like(first, {"h": [[1, 2]]})["h"].tolist() == [[1.0, 2.0]]
    with pytest.raises(ValueError, match=r"state_in\.h: expected 1 x 2 numbers, given 1 number"):
        library.ray.model._like(first, {"h": [1]})
    with pytest.raises(ValueError, match="state_in: expected an object with h, given 1 number"):
        library.ray.model._like(first, [1])


def test_one_of_several_policies_is_chosen_by_name(library: Any) -> None:
    choose = library.ray.policy.choose
    assert choose(["default_policy"], None) == "default_policy"
    assert choose(["left", "right"], "right") == "right"
    with pytest.raises(library.serving.ModelError, match="has 2 policies: set RLIMAGES_POLICY to one of left, right"):
        choose(["right", "left"], None)
    with pytest.raises(library.serving.ModelError, match="no policy 'up': set RLIMAGES_POLICY"):
        choose(["left"], "up")


def test_a_folder_without_a_model_is_no_model(library: Any, tmp_path: Path) -> None:
    with pytest.raises(library.serving.ModelError, match="holds no checkpoint of RLlib"):
        library.ray.model.Model(str(tmp_path))
    with pytest.raises(library.serving.ModelError, match=r"network\.json is missing: .*save_model=1"):
        library.coach.model.Model(str(tmp_path))


@pytest.mark.parametrize("settings", [None, {"framework": "torch"}, {"use_pytorch": True}])
def test_what_is_no_model_of_tensorflow_becomes_no_saved_model(library: Any, tmp_path: Path, settings: Any) -> None:
    if settings is not None:
        (tmp_path / "params.json").write_text(json.dumps(settings))
    assert not library.ray.export.is_exportable(str(tmp_path))


def test_a_model_of_the_new_stack_becomes_a_program_of_torch(library: Any, tmp_path: Path) -> None:
    (tmp_path / "checkpoint/learner_group").mkdir(parents=True)
    assert library.ray.export.is_exportable(str(tmp_path))
    assert library.ray.export.export(str(tmp_path)).startswith("no policy.pt2: ")


def test_an_export_that_fails_is_a_sentence_and_leaves_nothing(library: Any, tmp_path: Path) -> None:
    (tmp_path / "1").mkdir()
    said = library.ray.export.export(str(tmp_path))
    assert said.startswith("no SavedModel: ")
    assert not (tmp_path / "1").exists()
