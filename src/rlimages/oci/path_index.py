"""Read single paths from image layers, and attribute each layer to the instruction that made it."""

import posixpath
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import IO, Any

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_EXECUTABLE = 0o111
_HOPS = 40
"""Links followed for one path; Linux follows as many."""


class PathKind(StrEnum):
    """What is at a path, its links followed."""

    PROGRAM = "program"
    """A file that may be executed."""
    FILE = "file"
    FOLDER = "folder"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Known:
    entry: PathKind | None
    """None for a link."""
    target: str = ""


class PathIndex:
    """Collects what is known of some paths. Takes as much memory as there are whiteouts, whatever the layers' size."""

    def __init__(self, paths: Iterable[str]) -> None:
        """`paths` are absolute."""
        self._paths = tuple(paths)
        self._wanted = {above for path in self._paths for above in (path.strip("/"), *_above(path.strip("/")))}
        self._names = {posixpath.basename(path) for path in self._paths}
        self._known: dict[str, _Known] = {}
        self._hidden: set[str] = set()
        self._opaque: set[str] = set()
        self.size = 0
        """Bytes of all files of all layers, also of those that a newer layer hides: an engine stores them all."""

    def add(self, layer: IO[bytes]) -> None:
        """Take the next older layer, an unpacked archive. Raises `tarfile.TarError` for anything else."""
        own: dict[str, _Known] = {}
        hidden: set[str] = set()
        opaque: set[str] = set()
        with tarfile.open(fileobj=layer, mode="r|") as archive:
            for member in archive:
                archive.members = []  # type: ignore[attr-defined]  # else it keeps every member of the layer
                path = posixpath.normpath("/" + member.name).strip("/")
                folder, name = posixpath.split(path)
                if name == _OPAQUE:
                    opaque.add(folder)
                elif name.startswith(_WHITEOUT):
                    hidden.add(posixpath.join(folder, name.removeprefix(_WHITEOUT)))
                else:
                    self.size += member.size if member.isreg() else 0
                    if (path in self._wanted or name in self._names) and not self._is_hidden(path):
                        own[path] = _read_member(member, folder)
        self._known = own | self._known
        self._hidden |= hidden
        self._opaque |= opaque

    def entries(self) -> Mapping[str, PathKind]:
        """What is at each of the paths; those where nothing is are left out."""
        found = {path: self._resolve(path.strip("/")) for path in self._paths}
        return {path: entry for path, entry in found.items() if entry is not None}

    def _is_hidden(self, path: str) -> bool:
        """Whether a newer layer removed it, or put something else in its way."""
        above = tuple(_above(path))
        in_the_way = any(folder in self._known and self._known[folder].entry is not PathKind.FOLDER for folder in above)
        return in_the_way or not self._hidden.isdisjoint((path, *above)) or not self._opaque.isdisjoint(("", *above))

    def _resolve(self, path: str) -> PathKind | None:
        """Follow links. What a link leads to that nobody asked for counts as a program: a listing can't say more."""
        for _ in range(_HOPS):
            link = next((part for part in (*_above(path), path) if self._is_link(part)), None)
            if link is None:
                known = self._known.get(path)
                return known.entry if known else None
            rest = path[len(link) :].strip("/")
            target = posixpath.normpath(posixpath.join("/", self._known[link].target, rest)).strip("/")
            if not rest and target not in self._known and posixpath.basename(target) not in self._names:
                return PathKind.PROGRAM
            path = target
        return None

    def _is_link(self, path: str) -> bool:
        return path in self._known and self._known[path].entry is None


def _above(path: str) -> Iterator[str]:
    """The folders that a path is in, the outermost first: usr, usr/bin."""
    parts = path.split("/")
    return ("/".join(parts[:count]) for count in range(1, len(parts)))


def _read_member(member: tarfile.TarInfo, folder: str) -> _Known:
    if member.issym():
        return _Known(entry=None, target=posixpath.join("/", folder, member.linkname))
    if member.isdir():
        return _Known(entry=PathKind.FOLDER)
    return _Known(entry=PathKind.PROGRAM if member.mode & _EXECUTABLE else PathKind.FILE)


_MAKES_LAYERS = ("RUN", "COPY", "ADD", "WORKDIR")
_SHORT = 12
_WIDE = 96
"""Characters of an instruction that people see."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredImage:
    """An image as the local store has it."""

    name: str
    """How it was asked for."""
    id: str
    layers: tuple[str, ...]
    """`sha256:…` of each layer's unpacked bytes, the oldest first."""
    history: tuple[tuple[str, int], ...]
    """Instruction and bytes of each step, the oldest first; steps without a layer have 0 bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageLayer:
    """One layer of an image."""

    digest: str
    size: int
    """Bytes, unpacked."""
    made_by: str
    """The instruction; empty for a base that does not say."""
    shared_with: tuple[str, ...]
    """Cells whose image in the local store has it too, on the same layers below."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerStack:
    """An image, layer by layer, the oldest first."""

    name: str
    id: str
    strata: tuple[ImageLayer, ...]

    @property
    def size(self) -> int:
        """Bytes, unpacked."""
        return sum(each.size for each in self.strata)

    @property
    def shared(self) -> int:
        """Bytes that an engine which has the other cells has already."""
        return sum(each.size for each in self.strata if each.shared_with)


def explain_layers(image: StoredImage, others: Mapping[str, StoredImage]) -> LayerStack:
    """Explain an image by its history; `others` has the images of cells, by cell id."""
    steps = tuple(_steps(image.history, len(image.layers)))
    return LayerStack(
        name=image.name,
        id=image.id,
        strata=tuple(
            ImageLayer(
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


def layer_lines(told: LayerStack) -> Iterator[str]:
    """A stack for people, in columns: bytes, digest, how many other cells have it, instruction."""
    yield f"{told.name} {told.id.removeprefix('sha256:')[:_SHORT]}"
    yield f"  {'MB':>8}  {'LAYER':<{_SHORT}}  {'ALSO IN':<9}  MADE BY"
    for each in told.strata:
        also = f"{len(each.shared_with)} cell{'' if len(each.shared_with) == 1 else 's'}" if each.shared_with else "-"
        made_by = each.made_by if len(each.made_by) <= _WIDE else f"{each.made_by[: _WIDE - 1]}…"
        digest = each.digest.removeprefix("sha256:")[:_SHORT]
        yield f"  {each.size / 1e6:>8.1f}  {digest:<{_SHORT}}  {also:<9}  {made_by or '(the base)'}"
    yield f"  {told.size / 1e6:>8.1f}  in all, {told.shared / 1e6:.1f} of it shared with other cells"


def layer_facts(told: Iterable[LayerStack]) -> list[dict[str, Any]]:
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
