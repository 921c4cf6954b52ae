"""The names of all labels and annotations, and how an image was built according to its labels.

The labels that a Dockerfile sets are in `templates/macros/image.j2`. The others are set when an image is built, or on
containers, volumes and networks of a run.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from rlimages.errors import UsageError

TITLE_LABEL = "org.opencontainers.image.title"
VERSION_LABEL = "org.opencontainers.image.version"
"""Version of the toolkit in the image."""
REVISION_LABEL = "org.opencontainers.image.revision"
"""Commit that an image was built from; missing if the checkout had uncommitted changes."""
CELL_LABEL = "rlimages.cell"
"""Id of the cell."""
SOURCE_LABEL = "rlimages.source"
"""Digest of the Dockerfile and of all files that it reads, without base images."""
INPUTS_LABEL = "rlimages.inputs"
"""JSON object with the digest of each input, such as `recipe`, `lock numpy`, `base debian:bookworm-slim`."""
BUILD_LABEL = "rlimages.build"
"""Digest of all inputs of an image, base images included. An image with the same one is not built again."""
RUN_LABEL = "rlimages.run"
"""On containers, volumes and networks: the run that created them."""
PROCESS_LABEL = "rlimages.process"
"""On containers, volumes and networks: the process that created them. They are removed once it is dead."""
ENDPOINT_LABEL = "rlimages.endpoint"
"""On containers of endpoints that accept requests: the name of the endpoint."""
BIND_TO_PORT_LABEL = "com.amazonaws.sagemaker.capabilities.accept-bind-to-port"
"""SageMaker's label: if it is `true`, the image listens on the port in the variable SAGEMAKER_BIND_TO_PORT."""
SIGNED_ANNOTATION = "rlimages.signed"
"""On signatures: the time of signing by the signer's clock. It is signed too."""

_DIGEST_WIDTH = 12
"""Characters of a digest that are printed."""
_MAX_CHANGES = 5
"""Changed inputs that are printed."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BuildOrigin:
    """How an image was built, according to its labels."""

    name: str
    """The name by which the user gave the image."""
    id: str
    """`sha256:…` of its configuration."""
    cell: str
    revision: str
    """The commit; empty if the image was built from a checkout with uncommitted changes."""
    epoch: int
    """The creation date in seconds since 1970."""
    labels: Mapping[str, str]


def read_origin(name: str, image_id: str, created: str, labels: Mapping[str, str]) -> BuildOrigin:
    """Return how an image was built. Raise `UsageError` if it is not an image of a cell, or has no creation date."""
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
    """Compare the source digest of an image with the labels of a new build. Return the difference as a clause.

    Return an empty string if both are the same, or the image has no source digest.
    """
    before, after = origin.labels.get(SOURCE_LABEL, ""), labels.get(SOURCE_LABEL, "")
    if not before or before == after:
        return ""
    changed = list(_changed_inputs(origin.labels, labels, ("recipe", "file", "lock", "argument")))
    more = " …" if len(changed) > _MAX_CHANGES else ""
    names = f": {', '.join(changed[:_MAX_CHANGES])}{more}" if changed else ""
    return f"the source digest is {after[:_DIGEST_WIDTH]}, the image was built from {before[:_DIGEST_WIDTH]}{names}"


def base_differences(origin: BuildOrigin, labels: Mapping[str, str]) -> tuple[str, ...]:
    """Return the base and parent images of a new build that are not those of the image: `name: digest -> digest`."""
    if BUILD_LABEL not in origin.labels or origin.labels[BUILD_LABEL] == labels.get(BUILD_LABEL):
        return ()
    before, after = _inputs(origin.labels), _inputs(labels)
    return tuple(
        f"{name}: {before.get(name) or 'unknown'} -> {after.get(name) or 'unknown'}"
        for name in _changed_inputs(origin.labels, labels, ("base", "parent"))
    )


def _changed_inputs(before: Mapping[str, str], after: Mapping[str, str], kinds: tuple[str, ...]) -> Iterator[str]:
    """Yield the names of the inputs of these kinds that differ between two sets of labels, sorted."""
    old, new = _inputs(before), _inputs(after)
    for name in sorted({*old, *new}):
        if name.partition(" ")[0] in kinds and old.get(name) != new.get(name):
            yield name


def _inputs(labels: Mapping[str, str]) -> Mapping[str, str]:
    try:
        inputs = json.loads(labels.get(INPUTS_LABEL, "{}"))
    except ValueError:
        return {}
    return inputs if isinstance(inputs, dict) else {}
