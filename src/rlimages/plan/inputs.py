"""The inputs of an image and their digest, and how the inputs changed since an image was built."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from rlimages.matrix.cell import EMPTY, Cell
from rlimages.oci.labels import BUILD_LABEL, INPUTS_LABEL, SOURCE_LABEL
from rlimages.plan.dockerfile import BuildScript, Instruction, read_dockerfile
from rlimages.system.files import read_text

IGNORED = (".gitkeep", "__pycache__")
"""Names that the build context leaves out."""
_COMMENT = re.compile(" #.*"), re.compile("\n#.*")
_DIGEST = re.compile("[0-9a-f]{64}")
_SHORT = 12
"""Hexadecimal digits of a digest in the label that explains: 48 bits, for eyes; the digests themselves are whole."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What decides the image of one cell."""

    cell: Cell
    script: BuildScript
    files: Mapping[str, str]
    """Path below the root -> digest."""
    lock: str
    """What of the lock installs something: its lines but the comments; empty where the recipe takes none."""
    ground: Mapping[str, str]
    """`base …` and `parent …` -> digest; empty where it is not known."""

    @cached_property
    def source(self) -> str:
        """SHA-256 of what we wrote, in hexadecimal."""
        return _digest_of({**self._written(), "lock": _sha256(self.lock.encode())})

    @cached_property
    def build(self) -> str:
        """SHA-256 of what we wrote and what it stands on, in hexadecimal."""
        return _digest_of({"source": self.source, **self.ground})

    @property
    def unknown(self) -> tuple[str, ...]:
        """What it stands on and nobody knows: such an image is never up to date."""
        return tuple(name for name, value in self.ground.items() if not value)

    @cached_property
    def entries(self) -> Mapping[str, str]:
        """Every input, its digests shortened: what the label `rlimages.inputs` says."""
        packages = {f"lock {name}": value for name, value in lock_entries(self.lock).items()}
        whole = {**self._written(), **packages, **self.ground}
        return {name: " ".join(_shorten(word) for word in value.split(" ")) for name, value in whole.items()}

    @property
    def labels(self) -> Mapping[str, str]:
        """What an image built from these inputs says of itself."""
        return {
            SOURCE_LABEL: self.source,
            BUILD_LABEL: self.build,
            INPUTS_LABEL: json.dumps(self.entries, sort_keys=True, separators=(",", ":")),
        }

    def _written(self) -> dict[str, str]:
        texts = " ".join(_sha256(each.text.encode()) for each in self.script.instructions)
        return {
            "recipe": texts,
            **{f"file {path}": value for path, value in self.files.items()},
            "argument processor": self.cell.processor.value,
        }


@dataclass(frozen=True)
class InputReader:
    """Reads the inputs of the cells below one root; what several cells share is read once."""

    root: Path
    _files: dict[str, Mapping[str, str]] = field(default_factory=dict)

    def inputs(self, cell: Cell, ground: Mapping[str, str] = EMPTY) -> Inputs:
        """The inputs of a cell as they are on disk; `ground` is what it stands on."""
        script = self.script(cell)
        files: dict[str, str] = dict(self._digests(".dockerignore"))
        for source in script.sources:
            if source != cell.lock:
                files.update(self._digests(source))
        return Inputs(
            cell=cell,
            script=script,
            files=files,
            lock=_without_comments(read_text(self.root / cell.lock) or "") if cell.lock in script.sources else "",
            ground=ground,
        )

    def script(self, cell: Cell) -> BuildScript:
        """What of a cell's recipe makes its image."""
        text = read_text(self.root / cell.recipe) or ""
        return read_dockerfile(text, {"processor": cell.processor.value})

    def _digests(self, source: str) -> Mapping[str, str]:
        if source not in self._files:
            self._files[source] = dict(_digest_tree(self.root, source))
        return self._files[source]


def lock_entries(lock: str) -> Mapping[str, str]:
    """The requirements of a lock without comments: distribution -> version and digest of all that is said of it."""
    from packaging.utils import canonicalize_name

    found: dict[str, str] = {}
    for requirement in filter(str.strip, lock.replace("\\\n", " ").splitlines()):
        pin, _, rest = requirement.strip().partition(" ")
        name, _, version = pin.partition("==")
        key = canonicalize_name(name.partition("[")[0])
        told = f"{version or '?'} {_sha256(f'{pin} {rest}'.encode())}"
        found[key] = f"{found[key]} {told}" if key in found else told
    return found


def _without_comments(lock: str) -> str:
    text = f"\n{lock}"
    for comment in _COMMENT:  # two, as a search for fixed letters is far quicker than one for either
        text = comment.sub("", text)
    return text


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """One input that is not what it was."""

    kind: str
    """`recipe`, `file`, `lock`, `argument`, `base` or `parent`."""
    name: str
    """Of the input; `path:line` for an instruction."""
    detail: str
    """What happened to it, for people."""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.detail}"


def explain_changes(before: Mapping[str, str], now: Inputs) -> Iterator[Change]:
    """What changed since an image was built whose label said `before`. Nothing when nothing did."""
    after = now.entries
    for name in sorted({*before, *after}, key=lambda name: (_ORDER.get(name.partition(" ")[0], 9), name)):
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        kind, _, what = name.partition(" ")
        if kind == "recipe":
            yield from _instructions_changed(old or "", now)
        else:
            yield Change(kind=kind, name=what, detail=_detail(kind, old, new))


_ORDER = {kind: number for number, kind in enumerate(("parent", "base", "argument", "recipe", "lock", "file"))}


def _detail(kind: str, old: str | None, new: str | None) -> str:
    if old is None:
        return f"new: {(new or '').partition(' ')[0]}" if kind in ("lock", "argument") else "new"
    if new is None:
        return "gone"
    if kind == "file":
        return "changed" if old.removesuffix("+x") != new.removesuffix("+x") else "may be executed or not, now"
    then, now = (value.partition(" ")[0] for value in (old, new))
    if then == now:
        return f"{now}, but with other hashes or conditions"
    return f"{then or 'unknown'} → {now or 'unknown'}"


def _instructions_changed(old: str, now: Inputs) -> Iterator[Change]:
    from difflib import SequenceMatcher

    present = now.script.instructions
    then, after = old.split(" "), now.entries["recipe"].split(" ")
    for what, from_old, to_old, from_new, to_new in SequenceMatcher(None, then, after, autojunk=False).get_opcodes():
        if what in ("replace", "insert"):
            for instruction in present[from_new:to_new]:
                word = "changed" if what == "replace" else "new"
                yield Change(
                    kind="recipe", name=_instruction_name(now.cell, instruction), detail=f"{word}: {_head(instruction)}"
                )
        elif what == "delete":
            at = present[min(from_new, len(present) - 1)]
            count = to_old - from_old
            text = "an instruction less" if count == 1 else f"{count} instructions less"
            yield Change(kind="recipe", name=_instruction_name(now.cell, at), detail=f"{text} before this")


def _instruction_name(cell: Cell, instruction: Instruction) -> str:
    return f"{cell.recipe}:{instruction.line}"


def _head(instruction: Instruction) -> str:
    """The part of an instruction by which people know it: mounts come first and say little."""
    words = [word for word in instruction.text.split() if not word.startswith("--mount=")]
    text = " ".join(words)
    return text if len(text) <= 72 else f"{text[:71]}…"


def _digest_tree(root: Path, source: str) -> Iterator[tuple[str, str]]:
    """Path -> digest of a file, or of all files below a folder; a link counts by where it leads."""
    top = root / source
    paths: Iterable[Path] = sorted(top.rglob("*")) if top.is_dir() and not top.is_symlink() else [top]
    for path in paths:
        relative = path.relative_to(root)
        if any(part in IGNORED for part in relative.parts):
            continue
        if path.is_symlink():
            yield relative.as_posix(), _sha256(f"link to {path.readlink()}".encode())
        elif path.is_file():
            executable = "+x" if path.stat().st_mode & 0o100 else ""
            yield relative.as_posix(), _sha256(path.read_bytes()) + executable


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest_of(entries: Mapping[str, str]) -> str:
    return _sha256(json.dumps(entries, sort_keys=True, separators=(",", ":")).encode())


def _shorten(word: str) -> str:
    """A digest's first digits; any other word as it is."""
    digits, plus, x = word.removeprefix("sha256:").partition("+")
    return f"{digits[:_SHORT]}{plus}{x}" if _DIGEST.fullmatch(digits) else word
