"""Compose and parse the tags that `rlimages` adds to repositories besides the tags of the matrix."""

import re
from datetime import UTC, datetime

RUN_TAG_PREFIX = "rlimages-run-"
"""Beginning of all run tags (temporary tags of a release)."""
_RUN_TAG = re.compile(RUN_TAG_PREFIX + r"(?P<release>(?P<time>\d{8}T\d{6})-\d+)-.+")
RECORD_TAG = re.compile(r"smoke-(?P<image>[0-9a-f]{32})-[0-9a-f]{32}")
"""Pattern of a pass record's tag (`checks.pass_record.record_tag`); `image` has 32 digits of the image's id."""


def build_tag(digest: str) -> str:
    """Return the tag `build-<digits>` of the image with the build digest `digest` (the digest of all build inputs)."""
    return f"build-{digest[:32]}"


def run_tag(release: str, cell: str) -> str:
    """Return the run tag (temporary tag) that the release named `release` sets on the image of the cell with id `cell`.

    The tag keeps a lifecycle policy from deleting the image before it gets its own tags.
    """
    return f"{RUN_TAG_PREFIX}{release}-{cell}"


def release_of_run_tag(tag: str) -> tuple[str, datetime] | None:
    """Return the name and the start time of the release that set `tag`, if it is a run tag; None for any other tag."""
    found = _RUN_TAG.fullmatch(tag)
    if found is None:
        return None
    return found["release"], datetime.strptime(found["time"], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
