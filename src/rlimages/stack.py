"""The layers of an image, what made each, and who else has it: an engine's answers in, values out."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_MAKES_LAYERS = ("RUN", "COPY", "ADD", "WORKDIR")
_SHORT = 12
_WIDE = 96
"""Characters of an instruction that people see."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stored:
    """An image as the local store has it."""

    name: str
    """How it was asked for."""
    id: str
    layers: tuple[str, ...]
    """`sha256:…` of each layer's unpacked bytes, the oldest first."""
    history: tuple[tuple[str, int], ...]
    """Instruction and bytes of each step, the oldest first; steps without a layer have 0 bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stratum:
    """One layer of an image."""

    digest: str
    size: int
    """Bytes, unpacked."""
    made_by: str
    """The instruction; empty for a base that does not say."""
    shared_with: tuple[str, ...]
    """Cells whose image in the local store has it too, on the same layers below."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stack:
    """An image, layer by layer, the oldest first."""

    name: str
    id: str
    strata: tuple[Stratum, ...]

    @property
    def size(self) -> int:
        """Bytes, unpacked."""
        return sum(each.size for each in self.strata)

    @property
    def shared(self) -> int:
        """Bytes that an engine which has the other cells has already."""
        return sum(each.size for each in self.strata if each.shared_with)


def stack(image: Stored, others: Mapping[str, Stored]) -> Stack:
    """Explain an image by its history; `others` has the images of cells, by cell id."""
    steps = tuple(_steps(image.history, len(image.layers)))
    return Stack(
        name=image.name,
        id=image.id,
        strata=tuple(
            Stratum(
                digest=digest,
                size=size,
                made_by=_instruction(made_by),
                shared_with=tuple(
                    name
                    for name, other in others.items()
                    if other.id != image.id and other.layers[: place + 1] == image.layers[: place + 1]
                ),
            )
            for place, (digest, (made_by, size)) in enumerate(zip(image.layers, steps, strict=True))
        ),
    )


def _steps(history: Sequence[tuple[str, int]], count: int) -> Iterator[tuple[str, int]]:
    """The steps that made the `count` layers. An engine does not say which: a layer may have 0 bytes."""
    empty = count - sum(size > 0 for _, size in history)
    found = 0
    for made_by, size in history:
        if size == 0 and empty > 0 and _instruction(made_by).startswith(_MAKES_LAYERS):
            empty -= 1
        elif size == 0:
            continue
        found += 1
        yield made_by, size
    yield from (("", 0) for _ in range(count - found))


def _instruction(made_by: str) -> str:
    """As the recipe has it: `RUN |1 processor=cpu /bin/sh -c x # buildkit` is `RUN x`."""
    text = " ".join(made_by.removesuffix("# buildkit").split())
    if text.startswith("/bin/sh -c #(nop) "):
        return text.removeprefix("/bin/sh -c #(nop) ").strip()
    head, shell, rest = text.partition("/bin/sh -c ")
    return f"RUN {rest}" if shell and (not head or head.startswith("RUN")) else text


def lines(told: Stack) -> Iterator[str]:
    """A stack for people, in columns: bytes, digest, how many other cells have it, instruction."""
    yield f"{told.name} {told.id.removeprefix('sha256:')[:_SHORT]}"
    yield f"  {'MB':>8}  {'LAYER':<{_SHORT}}  {'ALSO IN':<9}  MADE BY"
    for each in told.strata:
        also = f"{len(each.shared_with)} cell{'' if len(each.shared_with) == 1 else 's'}" if each.shared_with else "-"
        made_by = each.made_by if len(each.made_by) <= _WIDE else f"{each.made_by[: _WIDE - 1]}…"
        digest = each.digest.removeprefix("sha256:")[:_SHORT]
        yield f"  {each.size / 1e6:>8.1f}  {digest:<{_SHORT}}  {also:<9}  {made_by or '(the base)'}"
    yield f"  {told.size / 1e6:>8.1f}  in all, {told.shared / 1e6:.1f} of it shared with other cells"


def facts(told: Iterable[Stack]) -> list[dict[str, Any]]:
    """Stacks for programs."""
    return [
        {
            "image": each.name,
            "id": each.id,
            "size": each.size,
            "shared": each.shared,
            "layers": [
                {
                    "digest": layer.digest,
                    "size": layer.size,
                    "made by": layer.made_by,
                    "shared with": list(layer.shared_with),
                }
                for layer in each.strata
            ],
        }
        for each in told
    ]
