"""An image layer by layer: which instruction made each, and who else has it."""

from rlimages.oci.history import LayerStack, StoredImage, explain_layers, layer_lines

BASE = ("/bin/sh -c #(nop) ADD file:1 in / ", 100)
CMD = ('/bin/sh -c #(nop)  CMD ["bash"]', 0)
PACKAGES = ("RUN /bin/sh -c apt-get install python3 # buildkit", 30)
ENVIRONMENT = ("RUN |1 processor=cpu /bin/sh -c cp -a   /run/venv /opt/venv # buildkit", 500)
LABEL = ("LABEL rlimages.cell=x", 0)
WORKDIR = ("WORKDIR /opt/ml/code", 0)


def image(name: str, layers: str, *history: tuple[str, int]) -> StoredImage:
    return StoredImage(name=name, id=f"id of {name}", layers=tuple(layers), history=history)


def made_by(told: LayerStack) -> list[tuple[str, int]]:
    return [(each.made_by, each.size) for each in told.layers]


IMAGE = image("ray", "abcd", BASE, CMD, PACKAGES, ENVIRONMENT, LABEL, WORKDIR)


def test_each_layer_has_the_instruction_that_made_it() -> None:
    assert made_by(explain_layers(IMAGE, {})) == [
        ("ADD file:1 in /", 100),
        ("RUN apt-get install python3", 30),
        ("RUN cp -a /run/venv /opt/venv", 500),
        ("WORKDIR /opt/ml/code", 0),
    ]


def test_a_step_without_a_layer_is_none() -> None:
    told = explain_layers(image("ray", "abc", BASE, CMD, PACKAGES, ENVIRONMENT, LABEL), {})
    assert [size for _, size in made_by(told)] == [100, 30, 500]


def test_a_layer_of_a_base_without_a_history_is_still_a_layer() -> None:
    assert made_by(explain_layers(image("bare", "ab"), {})) == [("", 0), ("", 0)]


def test_a_layer_is_shared_only_on_the_same_layers_below() -> None:
    others = {
        "itself": IMAGE,
        "sibling": image("sibling", "abx", BASE, PACKAGES, ENVIRONMENT),
        "stranger": image("stranger", "zbcd", BASE, PACKAGES, ENVIRONMENT, WORKDIR),
    }
    told = explain_layers(IMAGE, others)
    assert [each.shared_with for each in told.layers] == [("sibling",), ("sibling",), (), ()]
    assert (told.size, told.shared) == (630, 130)


def test_people_see_megabytes_and_how_many_others_have_it() -> None:
    told = explain_layers(IMAGE, {"sibling": image("sibling", "a", BASE)})
    head, _, first, *_, last = layer_lines(told)
    assert head == "ray id of ray"
    assert first == "       0.0  a             1 cell     ADD file:1 in /"
    assert last == "       0.0  in all, 0.0 of it shared with other cells"
