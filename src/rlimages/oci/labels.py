"""The labels of our images: their names, and how to read from them how an image was built."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from rlimages.errors import UsageError

VERSION_LABEL = "org.opencontainers.image.version"
SOURCE_LABEL = "rlimages.source"
INPUTS_LABEL = "rlimages.inputs"
REVISION_LABEL = "org.opencontainers.image.revision"
RUN_LABEL = "rlimages.run"
PROCESS_LABEL = "rlimages.process"
BUILD_LABEL = "rlimages.build"
"""An image's build digest (`digest`)."""
CELL_LABEL = "rlimages.cell"
_DIGITS = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildOrigin:
    """How an image was made."""

    called: str
    """How people name the image."""
    id: str
    """`sha256:…` of its configuration."""
    cell: str
    revision: str
    """The commit; empty where it was built from files that no commit has."""
    epoch: int
    """Its date of creation, in seconds since 1970."""
    labels: Mapping[str, str]


def read_origin(called: str, image: str, created: str, labels: Mapping[str, str]) -> BuildOrigin:
    """Understand what an image says of itself. Raises `UsageError` where it is none of ours, or has no date."""
    if not labels.get(CELL_LABEL):
        raise UsageError(f"{called} has no label {CELL_LABEL}: it is no image of a cell")
    try:
        moment = datetime.fromisoformat(created)
    except ValueError:
        raise UsageError(f"{called} does not say when it was made ('{created}'): nothing can have its date") from None
    return BuildOrigin(
        called=called,
        id=image,
        cell=labels[CELL_LABEL],
        revision=labels.get(REVISION_LABEL, ""),
        epoch=int(moment.timestamp()),
        labels=labels,
    )


def source_difference(origin: BuildOrigin, labels: Mapping[str, str]) -> str:
    """Why what is on disk is not what the image was built from, in words; empty where it is, or nobody can say."""
    then, now = origin.labels.get(SOURCE_LABEL, ""), labels.get(SOURCE_LABEL, "")
    if not then or then == now:
        return ""
    changed = list(_changed(origin.labels, labels, ("recipe", "file", "lock", "argument")))
    which = f": {', '.join(changed[:5])}{' …' if len(changed) > 5 else ''}" if changed else ""
    return f"the source digest is {now[:_DIGITS]}, the image says {then[:_DIGITS]}{which}"


def base_differences(origin: BuildOrigin, labels: Mapping[str, str]) -> tuple[str, ...]:
    """What a new build stands on that is not what the image stood on: one sentence each."""
    if BUILD_LABEL not in origin.labels or origin.labels[BUILD_LABEL] == labels.get(BUILD_LABEL):
        return ()
    then, now = (_inputs(each) for each in (origin.labels, labels))
    return tuple(
        f"{name}: {then.get(name) or 'unknown'} -> {now.get(name) or 'unknown'}"
        for name in _changed(origin.labels, labels, ("base", "parent"))
    )


def _changed(before: Mapping[str, str], after: Mapping[str, str], kinds: tuple[str, ...]) -> Iterator[str]:
    then, now = _inputs(before), _inputs(after)
    for name in sorted({*then, *now}):
        if name.partition(" ")[0] in kinds and then.get(name) != now.get(name):
            yield name


def _inputs(labels: Mapping[str, str]) -> Mapping[str, str]:
    try:
        told = json.loads(labels.get(INPUTS_LABEL, "{}"))
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
