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
    """One instruction of a Dockerfile."""

    line: int
    """Line number, from 1, of the instruction's first line in the Dockerfile."""
    text: str
    """The instruction without comments. Its lines are joined by newlines, without the backslashes at their ends."""

    @property
    def keyword(self) -> str:
        """The first word of the instruction in capitals: `FROM`, `RUN`, `COPY` and so on."""
        return self.text.split(None, 1)[0].upper()


@dataclass(frozen=True, kw_only=True, slots=True)
class ParsedDockerfile:
    """The part of a Dockerfile that one image is built from.

    It is the last stage, and every stage that the last stage is built from or copies or mounts files from.
    """

    instructions: tuple[Instruction, ...]
    """The instructions before the first FROM and those of the used stages, in the order of the Dockerfile."""
    bases: tuple[str, ...]
    """References after FROM that name an image, not a stage. A variable without a known value stays as `${name}`."""
    sources: tuple[str, ...]
    """Files and folders that COPY, ADD or RUN read: paths below the build context, without those of other stages."""


@dataclass(slots=True)
class _Stage:
    base: str
    instructions: list[Instruction] = field(default_factory=list)


def parse_dockerfile(text: str, arguments: Mapping[str, str]) -> ParsedDockerfile:
    """Parse the Dockerfile `text`, without comments and without stages that the last stage does not use.

    `arguments` are the build arguments (name -> value) that fill in variables after FROM and in paths.
    """
    head, stages = _parse_stages(text)
    used = _stages_to(list(stages)[-1], stages, arguments) if stages else {}
    bodies = [instruction for stage in used.values() for instruction in stage.instructions]
    sources = (_substitute(source, arguments) for instruction in bodies for source in _sources(instruction))
    bases = (_substitute(stage.base, arguments) for stage in used.values())
    return ParsedDockerfile(
        instructions=tuple(sorted((*head, *bodies), key=lambda instruction: instruction.line)),
        bases=tuple(dict.fromkeys(base for base in bases if base not in stages and base != "scratch")),
        sources=tuple(dict.fromkeys(sources)),
    )


@lru_cache(maxsize=8)  # the cells of both processors share a Dockerfile, and are read one after the other
def _parse_stages(text: str) -> tuple[Sequence[Instruction], Mapping[str, _Stage]]:
    """Split the Dockerfile `text` into the instructions before the first FROM, and a mapping from name to stage.

    The name of a stage without `AS` is its number as text, from `0`.
    """
    head: list[Instruction] = []
    stages: dict[str, _Stage] = {}
    current = head
    for instruction in _instructions(text):
        found = _STAGE.match(instruction.text)
        if found:
            stage = _Stage(found["base"])
            stages[found["name"] or str(len(stages))] = stage
            current = stage.instructions
        current.append(instruction)
    return head, stages


def _instructions(text: str) -> Iterator[Instruction]:
    lines: list[str] = []
    start = 0
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        start = start if lines else number
        lines.append(line.strip().removesuffix("\\").rstrip())
        if not line.rstrip().endswith("\\"):
            yield Instruction(line=start, text="\n".join(lines))
            lines = []
    if lines:
        yield Instruction(line=start, text="\n".join(lines))


def _stages_to(last: str, stages: Mapping[str, _Stage], arguments: Mapping[str, str]) -> dict[str, _Stage]:
    """Return the stage named `last` and every stage that it is built from or copies or mounts files from.

    The result maps names to stages, in the order of the Dockerfile. `stages` are all stages by name. `arguments` are
    the build arguments that fill in variables of FROM and `--from=`.
    """
    used: set[str] = set()
    waiting = [last]
    while waiting:
        name = waiting.pop()
        if name in used or name not in stages:
            continue
        used.add(name)
        stage = stages[name]
        waiting.append(_substitute(stage.base, arguments))
        waiting += [
            _substitute(other, arguments) for instruction in stage.instructions for other in _copied_stages(instruction)
        ]
    return {name: stage for name, stage in stages.items() if name in used}


def _copied_stages(instruction: Instruction) -> Iterator[str]:
    """Yield the name after `--from=` or `from=` of each stage (or image) whose files `instruction` copies or mounts."""
    yield from re.findall(r"--from=(\S+)", instruction.text) if instruction.keyword in ("COPY", "ADD") else ()
    yield from (mount["from"] for mount in _mounts(instruction) if "from" in mount)


def _sources(instruction: Instruction) -> Iterator[str]:
    """Yield the paths below the build context that `instruction` copies or mounts; variables are not filled in."""
    if instruction.keyword in ("COPY", "ADD") and "--from=" not in instruction.text:
        yield from (word.rstrip("/") for word in instruction.text.split()[1:-1] if not word.startswith("--"))
    for mount in _mounts(instruction):
        if mount.get("type", "bind") == "bind" and "from" not in mount:
            yield (mount.get("source") or mount.get("src") or ".").rstrip("/")


def _mounts(instruction: Instruction) -> Iterator[dict[str, str]]:
    """Yield the options of each `--mount` of a RUN as option name -> value; nothing for any other instruction."""
    if instruction.keyword == "RUN":
        for options in _MOUNT.findall(instruction.text):
            yield dict(option.partition("=")[::2] for option in options.split(","))


def _substitute(text: str, arguments: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda found: arguments.get(found[1], found[0]), text)
