"""Name all labels and annotations, and find out from the labels of an image how it was built.

The labels that a Dockerfile sets are in `templates/macros/image.j2`. The others are set when an image is built, or on
containers, volumes and networks of a run.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from rlimages.errors import UsageError

TITLE_LABEL = "org.opencontainers.image.title"
"""Name of the image for people."""
VERSION_LABEL = "org.opencontainers.image.version"
"""Version of the toolkit in the image."""
REVISION_LABEL = "org.opencontainers.image.revision"
"""Commit that an image was built from; missing if the checkout had uncommitted changes."""
CELL_LABEL = "rlimages.cell"
"""Id of the cell that an image was built for."""
SOURCE_LABEL = "rlimages.source"
"""Digest of the Dockerfile and of all files that it reads, without base images."""
INPUTS_LABEL = "rlimages.inputs"
"""JSON object with the digest of each input, such as `recipe`, `lock numpy`, `base debian:bookworm-slim`."""
BUILD_LABEL = "rlimages.build"
"""Build digest: the digest of all build inputs, base images included. A cell is not rebuilt while it is unchanged."""
RUN_LABEL = "rlimages.run"
"""On containers, volumes and networks: the run that created them."""
PROCESS_LABEL = "rlimages.process"
"""On containers, volumes and networks: the process that created them. They are removed once it is dead."""
ENDPOINT_LABEL = "rlimages.endpoint"
"""On containers of endpoints that accept requests: the name of the endpoint."""
BIND_TO_PORT_LABEL = "com.amazonaws.sagemaker.capabilities.accept-bind-to-port"
"""SageMaker's label: if it is `true`, the image listens on the port in the variable SAGEMAKER_BIND_TO_PORT."""
SIGNED_ANNOTATION = "rlimages.signed"
"""On signatures: the time of signing by the clock of the machine that signed. The signature covers this time too."""

_DIGEST_WIDTH = 12
"""Characters of a digest that are printed."""
_MAX_CHANGES = 5
"""Number of changed inputs that a message lists."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildOrigin:
    """The cell, the commit and the date of an image's build, according to its labels."""

    name: str
    """The argument by which the user gave the image."""
    id: str
    """`sha256:…` of its configuration."""
    cell: str
    """Id of the cell that the image was built for."""
    revision: str
    """The commit that was built; empty if the checkout had uncommitted changes."""
    epoch: int
    """The creation date in seconds since 1970."""
    labels: Mapping[str, str]


def read_origin(name: str, image_id: str, created: str, labels: Mapping[str, str]) -> BuildOrigin:
    """Return how the image `name` was built, from its `labels` and `created`, its creation date in ISO format.

    Raise `UsageError` if the image has no label of a cell, or if `created` is not a date.
    """
    if not labels.get(CELL_LABEL):
        raise UsageError(f"{name} has no label {CELL_LABEL}: it is not an image of a cell")
    try:
        date = datetime.fromisoformat(created)
    except ValueError:
        raise UsageError(
            f"{name} has no creation date ('{created}'), and an image is reproduced with the same date"
        ) from None
    return BuildOrigin(
        name=name,
        id=image_id,
        cell=labels[CELL_LABEL],
        revision=labels.get(REVISION_LABEL, ""),
        epoch=int(date.timestamp()),
        labels=labels,
    )


def source_difference(origin: BuildOrigin, labels: Mapping[str, str]) -> str:
    """Return a clause that says which inputs other than base images changed since an image was built.

    `origin` is the image, and `labels` are those of a new build of its cell. Return an empty string if both have an
    equal source digest (the digest of the Dockerfile and of all files that it reads), or if the image has no source
    digest.
    """
    before, after = origin.labels.get(SOURCE_LABEL, ""), labels.get(SOURCE_LABEL, "")
    if not before or before == after:
        return ""
    # `base` and `parent` are missing here: base_differences reports them
    changed = list(_changed_inputs(origin.labels, labels, ("recipe", "file", "lock", "argument")))
    more = " …" if len(changed) > _MAX_CHANGES else ""
    names = f": {', '.join(changed[:_MAX_CHANGES])}{more}" if changed else ""
    return f"the source digest is {after[:_DIGEST_WIDTH]}, the image was built from {before[:_DIGEST_WIDTH]}{names}"


def base_differences(origin: BuildOrigin, labels: Mapping[str, str]) -> tuple[str, ...]:
    """Return the base and parent images that changed since an image was built, each as `name: digest -> digest`.

    `origin` is the image, and `labels` are those of a new build of its cell. Return an empty tuple if both have an
    equal build digest (the digest of all build inputs), or if the image has no build digest.
    """
    if BUILD_LABEL not in origin.labels or origin.labels[BUILD_LABEL] == labels.get(BUILD_LABEL):
        return ()
    before, after = _inputs(origin.labels), _inputs(labels)
    return tuple(
        f"{name}: {before.get(name) or 'unknown'} -> {after.get(name) or 'unknown'}"
        for name in _changed_inputs(origin.labels, labels, ("base", "parent"))
    )


def _changed_inputs(before: Mapping[str, str], after: Mapping[str, str], kinds: tuple[str, ...]) -> Iterator[str]:
    """Yield the names of the build inputs that differ between the labels `before` and `after`, sorted.

    Only inputs whose name begins with one of the words `kinds`, such as `lock`, are compared.
    """
    old, new = _inputs(before), _inputs(after)
    for name in sorted({*old, *new}):
        if name.partition(" ")[0] in kinds and old.get(name) != new.get(name):
            yield name


def _inputs(labels: Mapping[str, str]) -> Mapping[str, str]:
    """Return the digest of each build input by its name; an empty mapping if the label is missing or not valid."""
    try:
        inputs = json.loads(labels.get(INPUTS_LABEL, "{}"))
    except ValueError:
        return {}
    return inputs if isinstance(inputs, dict) else {}
