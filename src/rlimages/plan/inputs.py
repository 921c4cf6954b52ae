"""Read the build inputs of a cell, compute their digests, and explain how they changed since an image was built."""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from rlimages.matrix.cell import EMPTY, Cell
from rlimages.oci.labels import BUILD_LABEL, INPUTS_LABEL, SOURCE_LABEL
from rlimages.plan.dockerfile import Instruction, ParsedDockerfile, parse_dockerfile
from rlimages.system.files import read_text

IGNORED = (".gitkeep", "__pycache__")
"""Names of files and folders that are not inputs, because `.dockerignore` keeps them out of the build context."""
_COMMENTS = re.compile(" #.*"), re.compile("\n#.*")
"""Two patterns for comments in a lock. Each begins with fixed text, which is much faster than one pattern for both."""
_INSTRUCTIONS = "recipe"
"""Name of the input with the digests of all Dockerfile instructions.

It is part of the labels and build digests of every image, so another name would rebuild all of them.
"""
_ORDER = {kind: number for number, kind in enumerate(("parent", "base", "argument", _INSTRUCTIONS, "lock", "file"))}
"""Kind of input -> its position in the list of changes. A kind that explains more, such as a new base, comes first."""
_DIGEST = re.compile("[0-9a-f]{64}")
_SHORT = 12
"""Number of digits of each digest in the label `rlimages.inputs`.

They only serve to list what changed. Whether an image is reused is decided by its whole build digest.
"""


@dataclass(frozen=True, kw_only=True)
class CellInputs:
    """The build inputs of one cell: everything that decides the content of its image."""

    cell: Cell
    dockerfile: ParsedDockerfile
    """The stages and files of the cell's Dockerfile that its image is built from."""
    files: Mapping[str, str]
    """Path below the project folder -> SHA-256, for every file that the Dockerfile copies or mounts, except the lock.

    `.dockerignore` is included. The digest of an executable file ends with `+x`.
    """
    lock: str
    """Text of the cell's lock without comments; empty if the Dockerfile does not use the lock."""
    base_digests: Mapping[str, str]
    """The base image (`base <reference>`) or parent cell (`parent <cell id>`) -> its digest; empty if not known."""

    @cached_property
    def source(self) -> str:
        """The source digest: hexadecimal SHA-256 of the project's own inputs (Dockerfile, lock, files)."""
        return _digest_of({**self._source_entries(), "lock": _sha256(self.lock.encode())})

    @cached_property
    def build(self) -> str:
        """The build digest: hexadecimal SHA-256 of all inputs, that is, of the source digest and `base_digests`."""
        return _digest_of({"source": self.source, **self.base_digests})

    @property
    def unknown(self) -> tuple[str, ...]:
        """The keys of `base_digests` whose digest is not known; empty if all are known.

        An image whose base has no known digest is never up to date.
        """
        return tuple(name for name, value in self.base_digests.items() if not value)

    @cached_property
    def entries(self) -> Mapping[str, str]:
        """Name of each input -> its short digest or value: the content of the label `rlimages.inputs`.

        Names are, for example, `recipe` (the Dockerfile's instructions), `lock numpy`, `file ray/start.sh` and
        `base debian:bookworm-slim`.
        """
        packages = {f"lock {name}": value for name, value in lock_entries(self.lock).items()}
        entries = {**self._source_entries(), **packages, **self.base_digests}
        return {name: " ".join(_shorten(part) for part in value.split(" ")) for name, value in entries.items()}

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels of an image built from these inputs: source digest, build digest, and each input's digest."""
        return {
            SOURCE_LABEL: self.source,
            BUILD_LABEL: self.build,
            INPUTS_LABEL: json.dumps(self.entries, sort_keys=True, separators=(",", ":")),
        }

    def _source_entries(self) -> dict[str, str]:
        """Return name -> whole digest or value of each input in the project except the lock."""
        instructions = " ".join(_sha256(each.text.encode()) for each in self.dockerfile.instructions)
        return {
            _INSTRUCTIONS: instructions,
            **{f"file {path}": value for path, value in self.files.items()},
            "argument processor": self.cell.processor.value,
        }


@dataclass(frozen=True)
class InputReader:
    """A reader of the build inputs of a project's cells. Files and folders that cells share are read only once."""

    root: Path
    """The project folder, which is the build context."""
    _files: dict[str, Mapping[str, str]] = field(default_factory=dict)

    def read(self, cell: Cell, base_digests: Mapping[str, str] = EMPTY) -> CellInputs:
        """Read the Dockerfile, the lock and the files of `cell`, and return its inputs.

        `base_digests` is what the image is built FROM -> its digest, and becomes the field of this name. A file that
        does not exist counts as empty.
        """
        dockerfile = self._parse_dockerfile(cell)
        # .dockerignore decides which files a COPY of a folder copies, so it is an input of every image.
        files: dict[str, str] = dict(self._digests(".dockerignore"))
        for source in dockerfile.sources:
            if source != cell.lock:  # compared by its packages, so that a comment in it rebuilds nothing
                files.update(self._digests(source))
        return CellInputs(
            cell=cell,
            dockerfile=dockerfile,
            files=files,
            lock=_without_comments(read_text(self.root / cell.lock) or "") if cell.lock in dockerfile.sources else "",
            base_digests=base_digests,
        )

    def _parse_dockerfile(self, cell: Cell) -> ParsedDockerfile:
        """Parse the Dockerfile of `cell` for its processor; a Dockerfile that does not exist counts as empty."""
        text = read_text(self.root / cell.dockerfile) or ""
        return parse_dockerfile(text, {"processor": cell.processor.value})

    def _digests(self, source: str) -> Mapping[str, str]:
        """Return path -> digest of the file `source`, or of all files below the folder `source`, both below `root`."""
        if source not in self._files:
            self._files[source] = dict(_digest_tree(self.root, source))
        return self._files[source]


def lock_entries(lock: str) -> Mapping[str, str]:
    """Parse `lock`, the text of a lock without comments. Return canonical distribution name -> `<version> <digest>`.

    The digest is the SHA-256 of the whole requirement with its hashes and conditions. The version is `?` if it is not
    pinned with `==`. If a distribution occurs several times, for different environments, its entries are joined by
    spaces.
    """
    from packaging.utils import canonicalize_name

    entries: dict[str, str] = {}
    for requirement in filter(str.strip, lock.replace("\\\n", " ").splitlines()):
        pin, _, rest = requirement.strip().partition(" ")
        name, _, version = pin.partition("==")
        key = canonicalize_name(name.partition("[")[0])
        entry = f"{version or '?'} {_sha256(f'{pin} {rest}'.encode())}"
        entries[key] = f"{entries[key]} {entry}" if key in entries else entry
    return entries


def _without_comments(lock: str) -> str:
    text = f"\n{lock}"
    for pattern in _COMMENTS:
        text = pattern.sub("", text)
    return text


@dataclass(frozen=True, kw_only=True, slots=True)
class InputChange:
    """One build input that differs from the input of an earlier image."""

    kind: str
    """Kind of input: `instruction` (of the Dockerfile), `file`, `lock`, `argument`, `base` or `parent`."""
    name: str
    """Name of the input: a path, a distribution, a reference or a cell id; `path:line` for an instruction."""
    detail: str
    """The change as a clause for people, such as `1.2.0 → 1.3.0` or `removed`."""

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: {self.detail}"


def explain_changes(before: Mapping[str, str], inputs: CellInputs) -> Iterator[InputChange]:
    """Yield each change from an image's inputs to the current `inputs` of its cell.

    `before` has the inputs of the image: the content of its label `rlimages.inputs`, input name -> short digest or
    value.
    """
    after = inputs.entries
    for name in sorted({*before, *after}, key=lambda name: (_ORDER.get(name.partition(" ")[0], 9), name)):
        old, new = before.get(name), after.get(name)
        if old == new:
            continue
        kind, _, rest = name.partition(" ")
        if kind == _INSTRUCTIONS:
            yield from _changed_instructions(old or "", inputs)
        else:
            yield InputChange(kind=kind, name=rest, detail=_detail(kind, old, new))


def _detail(kind: str, old: str | None, new: str | None) -> str:
    """Return a clause about the change of one input from the value `old` to `new`; None is a missing input.

    `kind` is the kind of the input, such as `lock` or `file` (see `InputChange.kind`).
    """
    if old is None:
        return f"new: {(new or '').partition(' ')[0]}" if kind in ("lock", "argument") else "new"
    if new is None:
        return "removed"
    if kind == "file":
        return "changed" if old.removesuffix("+x") != new.removesuffix("+x") else "its execute permission changed"
    old_value, new_value = (value.partition(" ")[0] for value in (old, new))
    if old_value == new_value:
        return f"{new_value}, but with other hashes or conditions"
    return f"{old_value or 'unknown'} → {new_value or 'unknown'}"


def _changed_instructions(before: str, inputs: CellInputs) -> Iterator[InputChange]:
    """Yield the changes between the Dockerfile instructions of an image and those of the current `inputs`.

    `before` has the short digests of the image's instructions, separated by spaces. Removed instructions are reported
    at the line of the instruction that follows them.
    """
    from difflib import SequenceMatcher

    instructions = inputs.dockerfile.instructions
    old, new = before.split(" "), inputs.entries[_INSTRUCTIONS].split(" ")
    for tag, old_start, old_end, new_start, new_end in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if tag in ("replace", "insert"):
            for instruction in instructions[new_start:new_end]:
                detail = f"{'changed' if tag == 'replace' else 'new'}: {_summary(instruction)}"
                yield _instruction_change(inputs.cell, instruction, detail)
        elif tag == "delete":
            following = instructions[min(new_start, len(instructions) - 1)]
            count = old_end - old_start
            detail = f"{count} {'instruction' if count == 1 else 'instructions'} removed before this"
            yield _instruction_change(inputs.cell, following, detail)


def _instruction_change(cell: Cell, instruction: Instruction, detail: str) -> InputChange:
    return InputChange(kind="instruction", name=f"{cell.dockerfile}:{instruction.line}", detail=detail)


def _summary(instruction: Instruction) -> str:
    """Return the first 72 characters of `instruction`, on one line and without its `--mount` options.

    Mounts come first and are almost alike in all instructions, so they do not help to recognize one.
    """
    text = " ".join(word for word in instruction.text.split() if not word.startswith("--mount="))
    return text if len(text) <= 72 else f"{text[:71]}…"


def _digest_tree(root: Path, source: str) -> Iterator[tuple[str, str]]:
    """Yield (path below `root`, SHA-256) of the file `source`, or of every file below the folder `source`.

    The digest of a symbolic link is that of its target's path, not of the target's content. `+x` is appended to the
    digest of an executable file. Files in `IGNORED` are left out. A missing `source` yields nothing.
    """
    top = root / source
    paths: Iterable[Path] = sorted(top.rglob("*")) if top.is_dir() and not top.is_symlink() else [top]
    for path in paths:
        relative = path.relative_to(root)
        if any(part in IGNORED for part in relative.parts):
            continue
        if path.is_symlink():
            yield relative.as_posix(), _sha256(f"link to {path.readlink()}".encode())
        elif path.is_file():
            # COPY keeps the permission to execute; the others depend on the umask of the checkout.
            executable = "+x" if path.stat().st_mode & 0o100 else ""
            yield relative.as_posix(), _sha256(path.read_bytes()) + executable


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _digest_of(entries: Mapping[str, str]) -> str:
    return _sha256(json.dumps(entries, sort_keys=True, separators=(",", ":")).encode())


def _shorten(text: str) -> str:
    """Return the first 12 hexadecimal digits of `text` if it is a SHA-256 digest, else `text` unchanged.

    A `+x` after the digest, which marks an executable file, is kept.
    """
    digits, plus, flag = text.removeprefix("sha256:").partition("+")
    return f"{digits[:_SHORT]}{plus}{flag}" if _DIGEST.fullmatch(digits) else text
