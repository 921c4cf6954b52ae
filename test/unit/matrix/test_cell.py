from dataclasses import replace

from rlimages.matrix.cell import Cell, Processor


def test_the_id_has_toolkit_version_framework_processor_and_line(cell: Cell) -> None:
    assert cell.id == "ray-2.9.3-tf-cpu-debian"


def test_the_line_sagemaker_adds_no_suffix(cell: Cell) -> None:
    cell = replace(cell, line="sagemaker")
    assert cell.id == "ray-2.9.3-tf-cpu"
    assert cell.dockerfile == "ray/docker/2.9.3/Dockerfile.tf"


def test_a_cell_without_a_framework_has_none_in_its_id(cell: Cell) -> None:
    cell = replace(cell, toolkit="vw", version="8.7.0", framework=None, line="sagemaker")
    assert cell.id == "vw-8.7.0-cpu"
    assert cell.dockerfile == "vw/docker/8.7.0/Dockerfile"


def test_cpu_and_gpu_share_a_dockerfile_and_have_a_lock_each(cell: Cell) -> None:
    gpu = replace(cell, processor=Processor.GPU)
    assert cell.dockerfile == gpu.dockerfile == "ray/docker/2.9.3/Dockerfile.tf.debian"
    assert cell.lock == "ray/lock/ray-2.9.3-tf-cpu-debian.txt"
    assert gpu.lock == "ray/lock/ray-2.9.3-tf-gpu-debian.txt"


def test_the_versioned_tag_comes_before_its_aliases(cell: Cell) -> None:
    assert cell.tags == ("ray-2.9.3-tf-cpu-py311-debian12", "ray-2.9-tf-cpu-py311-debian12")
    assert cell.local_name == "sagemaker-rl-ray-container:ray-2.9.3-tf-cpu-py311-debian12"


def test_a_cell_is_hashable(cell: Cell) -> None:
    assert {cell: 1}[replace(cell)] == 1
