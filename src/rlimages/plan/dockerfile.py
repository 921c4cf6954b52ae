"""Parse a Dockerfile: find the instructions and files that the final image is built from."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

_STAGE = re.compile(r"FROM\s+(?:--\S+\s+)*(?P<base>\S+)(?:\s+AS\s+(?P<name>\S+))?\s*$", re.IGNORECASE)
_VARIABLE = re.compile(r"\$\{?(\w+)\}?")
_MOUNT = re.compile(r"--mount=(\S+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Instruction:
    """One instruction, without comments; its lines joined by newlines."""

    line: int
    """Where it begins, from 1."""
    text: str

    @property
    def word(self) -> str:
        """Its first word: `RUN`, `COPY` and so on."""
        return self.text.split(None, 1)[0].upper()


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildScript:
    """What makes one image: the instructions of the stages that lead to the last one."""

    instructions: tuple[Instruction, ...]
    bases: tuple[str, ...]
    """References after FROM that are no stage, with what is not known left as `${name}`."""
    sources: tuple[str, ...]
    """Paths below the context that are copied or mounted: files and folders."""


@dataclass(slots=True)
class _Stage:
    base: str
    instructions: list[Instruction] = field(default_factory=list)


def read_dockerfile(text: str, arguments: Mapping[str, str]) -> BuildScript:
    """What of a Dockerfile counts when it is built with these arguments; comments and other stages do not."""
    head, stages = _parse_stages(text)
    used = _stages_to(list(stages)[-1], stages, arguments) if stages else {}
    bodies = [instruction for stage in used.values() for instruction in stage.instructions]
    sources = (_substitute(source, arguments) for instruction in bodies for source in _sources(instruction))
    bases = (_substitute(stage.base, arguments) for stage in used.values())
    return BuildScript(
        instructions=tuple(sorted((*head, *bodies), key=lambda instruction: instruction.line)),
        bases=tuple(dict.fromkeys(base for base in bases if base not in stages and base != "scratch")),
        sources=tuple(dict.fromkeys(sources)),
    )


@lru_cache(maxsize=8)  # a text is read once for each processor, one right after the other
def _parse_stages(text: str) -> tuple[Sequence[Instruction], Mapping[str, _Stage]]:
    """The instructions before the first FROM, and the stages by name."""
    head: list[Instruction] = []
    stages: dict[str, _Stage] = {}
    inside = head
    for instruction in _instructions(text):
        found = _STAGE.match(instruction.text)
        if found:
            stage = _Stage(found["base"])
            stages[found["name"] or str(len(stages))] = stage
            inside = stage.instructions
        inside.append(instruction)
    return head, stages


def _instructions(text: str) -> Iterator[Instruction]:
    lines: list[str] = []
    begin = 0
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        begin = begin if lines else number
        lines.append(line.strip().removesuffix("\\").rstrip())
        if not line.rstrip().endswith("\\"):
            yield Instruction(line=begin, text="\n".join(lines))
            lines = []
    if lines:
        yield Instruction(line=begin, text="\n".join(lines))


def _stages_to(last: str, stages: Mapping[str, _Stage], arguments: Mapping[str, str]) -> dict[str, _Stage]:
    """The stages that a builder comes through on its way to the last, in the order of the file."""
    used: set[str] = set()
    waiting = [last]
    while waiting:
        name = waiting.pop()
        if name in used or name not in stages:
            continue
        used.add(name)
        stage = stages[name]
        waiting.append(_substitute(stage.base, arguments))
        waiting += [_substitute(other, arguments) for each in stage.instructions for other in _copied_stages(each)]
    return {name: stage for name, stage in stages.items() if name in used}


def _copied_stages(instruction: Instruction) -> Iterator[str]:
    """The stages that an instruction takes files from."""
    yield from re.findall(r"--from=(\S+)", instruction.text) if instruction.word in ("COPY", "ADD") else ()
    yield from (mount["from"] for mount in _mounts(instruction) if "from" in mount)


def _sources(instruction: Instruction) -> Iterator[str]:
    """The paths below the context that an instruction reads."""
    if instruction.word in ("COPY", "ADD") and "--from=" not in instruction.text:
        yield from (word.rstrip("/") for word in instruction.text.split()[1:-1] if not word.startswith("--"))
    for mount in _mounts(instruction):
        if mount.get("type", "bind") == "bind" and "from" not in mount:
            yield (mount.get("source") or mount.get("src") or ".").rstrip("/")


def _mounts(instruction: Instruction) -> Iterator[dict[str, str]]:
    if instruction.word == "RUN":
        for options in _MOUNT.findall(instruction.text):
            yield dict(option.partition("=")[::2] for option in options.split(","))


def _substitute(text: str, arguments: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda found: arguments.get(found[1], found[0]), text)
