from dataclasses import replace

import pytest

from rlimages.errors import SelectionError
from rlimages.matrix.cell import Cell, Processor, select_cells


def test_selected_cells_have_the_order_of_the_matrix(cell: Cell) -> None:
    gpu = replace(cell, processor=Processor.GPU)
    assert select_cells((gpu, cell), ("*-cpu-*", "ray-*")) == (gpu, cell)


def test_a_pattern_without_a_match_is_an_error_with_a_suggestion(cell: Cell) -> None:
    with pytest.raises(SelectionError, match=r"no cell matches 'ray-2.9.3-tf-cpuu-debian'; did you mean 'ray-2.9.3-tf"):
        select_cells((cell,), ("ray-2.9.3-tf-cpuu-debian",))


def test_every_pattern_must_match(cell: Cell) -> None:
    with pytest.raises(SelectionError, match="no cell matches 'vw-"):
        select_cells((cell,), ("ray-*", "vw-*"))


def test_selecting_from_no_cells_is_an_error() -> None:
    with pytest.raises(SelectionError):
        select_cells(())
