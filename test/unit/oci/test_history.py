"""Each layer of an image is listed with the instruction that made it and the cells that share it."""

from rlimages.oci.history import LayerStack, StoredImage, explain_layers, layer_lines

BASE = ("/bin/sh -c #(nop) ADD file:1 in / ", 100)
CMD = ('/bin/sh -c #(nop)  CMD ["bash"]', 0)
PACKAGES = ("RUN /bin/sh -c apt-get install python3 # buildkit", 30)
ENVIRONMENT = ("RUN |1 processor=cpu /bin/sh -c cp -a   /run/venv /opt/venv # buildkit", 500)
LABEL = ("LABEL rlimages.cell=x", 0)
WORKDIR = ("WORKDIR /opt/ml/code", 0)


def image(name: str, layers: str, *history: tuple[str, int]) -> StoredImage:
    return StoredImage(name=name, id=f"id of {name}", layers=tuple(layers), history=history)


def made_by(stack: LayerStack) -> list[tuple[str, int]]:
    return [(layer.made_by, layer.size) for layer in stack.layers]


IMAGE = image("ray", "abcd", BASE, CMD, PACKAGES, ENVIRONMENT, LABEL, WORKDIR)


def test_each_layer_has_the_instruction_that_made_it() -> None:
    assert made_by(explain_layers(IMAGE, {})) == [
        ("ADD file:1 in /", 100),
        ("RUN apt-get install python3", 30),
        ("RUN cp -a /run/venv /opt/venv", 500),
        ("WORKDIR /opt/ml/code", 0),
    ]


def test_a_step_without_a_layer_is_left_out() -> None:
    stack = explain_layers(image("ray", "abc", BASE, CMD, PACKAGES, ENVIRONMENT, LABEL), {})
    assert [size for _, size in made_by(stack)] == [100, 30, 500]


def test_a_layer_of_a_base_image_without_a_history_has_no_instruction() -> None:
    assert made_by(explain_layers(image("bare", "ab"), {})) == [("", 0), ("", 0)]


def test_a_layer_counts_as_shared_only_if_the_layers_below_are_the_same() -> None:
    others = {
        "itself": IMAGE,
        "sibling": image("sibling", "abx", BASE, PACKAGES, ENVIRONMENT),
        "stranger": image("stranger", "zbcd", BASE, PACKAGES, ENVIRONMENT, WORKDIR),
    }
    stack = explain_layers(IMAGE, others)
    assert [layer.shared_with for layer in stack.layers] == [("sibling",), ("sibling",), (), ()]
    assert (stack.size, stack.shared) == (630, 130)


def test_the_table_has_megabytes_and_the_number_of_other_cells_that_share_a_layer() -> None:
    stack = explain_layers(IMAGE, {"sibling": image("sibling", "a", BASE)})
    head, _, first, *_, last = layer_lines(stack)
    assert head == "ray id of ray"
    assert first == "       0.0  a             1 cell     ADD file:1 in /"
    assert last == "       0.0  in all, 0.0 of it shared with other cells"
