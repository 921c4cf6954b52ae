"""Find the Dockerfile instruction that made each layer of an image, and the cells whose images share the layer."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_LAYER_INSTRUCTIONS = ("RUN", "COPY", "ADD", "WORKDIR")
_DIGEST_WIDTH = 12
"""Characters of a digest that are printed, as by `docker image ls`."""
_INSTRUCTION_WIDTH = 96
"""Characters of an instruction that are printed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredImage:
    """An image of the local store (the engine's images): its layers and its history."""

    name: str
    """The argument by which the user gave the image: a name, an image id or a cell id."""
    id: str
    """Image id: `sha256:…` of its configuration."""
    layers: tuple[str, ...]
    """Digest (`sha256:…`) of each layer's unpacked bytes, the oldest layer first."""
    history: tuple[tuple[str, int], ...]
    """Instruction of each step of the build, as the engine reports it, and bytes of its layer; the oldest step first.

    A step without a layer has 0 bytes.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageLayer:
    """One layer of an image, with the instruction that made it."""

    digest: str
    """Digest (`sha256:…`) of its unpacked bytes."""
    size: int
    """Size in bytes when unpacked."""
    made_by: str
    """The Dockerfile instruction that made the layer; empty if the base image has no history."""
    shared_with: tuple[str, ...]
    """Ids of the cells whose local image has this layer, on top of equal layers."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerStack:
    """All layers of one image."""

    name: str
    """The argument by which the user gave the image."""
    id: str
    """Image id: `sha256:…` of its configuration."""
    layers: tuple[ImageLayer, ...]
    """The oldest first."""

    @property
    def size(self) -> int:
        """The size of all layers in bytes when unpacked."""
        return sum(layer.size for layer in self.layers)

    @property
    def shared(self) -> int:
        """The unpacked bytes of the layers that other cells have too.

        An engine stores and pulls these layers only once.
        """
        return sum(layer.size for layer in self.layers if layer.shared_with)


def explain_layers(image: StoredImage, others: Mapping[str, StoredImage]) -> LayerStack:
    """Return the layers of `image` with the instructions that made them and the cells that share them.

    `others` maps a cell id to the local image of that cell.
    """
    steps = tuple(_layer_steps(image.history, len(image.layers)))
    return LayerStack(
        name=image.name,
        id=image.id,
        layers=tuple(
            ImageLayer(
                digest=digest,
                size=size,
                made_by=_instruction(made_by),
                shared_with=tuple(
                    name
                    for name, other in others.items()
                    if other.id != image.id and other.layers[: index + 1] == image.layers[: index + 1]
                ),
            )
            for index, (digest, (made_by, size)) in enumerate(zip(image.layers, steps, strict=True))
        ),
    )


def _layer_steps(history: Sequence[tuple[str, int]], count: int) -> Iterator[tuple[str, int]]:
    """Yield the steps of `history` that made a layer, as (instruction, bytes), the oldest first.

    Exactly `count` steps are yielded. If the history has fewer, the last ones have an empty instruction and 0 bytes.
    """
    # The engine does not report which steps made a layer, and a layer may have 0 bytes. A step with bytes made one. So
    # did the first steps without bytes whose instruction can make a layer, as many as are still missing.
    empty = count - sum(size > 0 for _, size in history)
    found = 0
    for made_by, size in history:
        if size == 0 and empty > 0 and _instruction(made_by).startswith(_LAYER_INSTRUCTIONS):
            empty -= 1
        elif size == 0:
            continue
        found += 1
        yield made_by, size
    yield from (("", 0) for _ in range(count - found))


def _instruction(made_by: str) -> str:
    """Return the instruction of a step as the Dockerfile has it. `made_by` is the engine's text for the step.

    BuildKit writes `RUN |1 processor=cpu /bin/sh -c x # buildkit`; the legacy builder writes `/bin/sh -c #(nop) CMD x`.
    """
    text = " ".join(made_by.removesuffix("# buildkit").split())
    if text.startswith("/bin/sh -c #(nop) "):
        return text.removeprefix("/bin/sh -c #(nop) ").strip()
    head, shell, rest = text.partition("/bin/sh -c ")
    return f"RUN {rest}" if shell and (not head or head.startswith("RUN")) else text


def layer_lines(stack: LayerStack) -> Iterator[str]:
    """Yield the lines of a table of an image's layers, for people.

    The columns are megabytes, digest, number of other cells that share the layer, and instruction.
    """
    yield f"{stack.name} {stack.id.removeprefix('sha256:')[:_DIGEST_WIDTH]}"
    yield f"  {'MB':>8}  {'LAYER':<{_DIGEST_WIDTH}}  {'ALSO IN':<9}  MADE BY"
    for layer in stack.layers:
        count = len(layer.shared_with)
        also_in = f"{count} cell{'' if count == 1 else 's'}" if count else "-"
        made_by = layer.made_by
        if len(made_by) > _INSTRUCTION_WIDTH:
            made_by = f"{made_by[: _INSTRUCTION_WIDTH - 1]}…"
        digest = layer.digest.removeprefix("sha256:")[:_DIGEST_WIDTH]
        yield f"  {layer.size / 1e6:>8.1f}  {digest:<{_DIGEST_WIDTH}}  {also_in:<9}  {made_by or '(the base)'}"
    yield f"  {stack.size / 1e6:>8.1f}  in all, {stack.shared / 1e6:.1f} of it shared with other cells"


def layer_facts(stacks: Iterable[LayerStack]) -> list[dict[str, Any]]:
    """Return the layers of several images as a list of JSON objects, one for each image."""
    return [
        {
            "image": stack.name,
            "id": stack.id,
            "size": stack.size,
            "shared": stack.shared,
            "layers": [
                {
                    "digest": layer.digest,
                    "size": layer.size,
                    "made by": layer.made_by,
                    "shared with": list(layer.shared_with),
                }
                for layer in stack.layers
            ],
        }
        for stack in stacks
    ]
