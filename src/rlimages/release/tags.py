"""Name the tags that `rlimages` adds to images besides the tags of the matrix."""

import re
from datetime import UTC, datetime

RUN_TAG_PREFIX = "rlimages-run-"
_RUN_TAG = re.compile(RUN_TAG_PREFIX + r"(?P<release>(?P<time>\d{8}T\d{6})-\d+)-.+")
RECORD_TAG = re.compile(r"smoke-(?P<image>[0-9a-f]{32})-[0-9a-f]{32}")
"""Matches the tag of a pass record (`checks.pass_record.record_tag`)."""


def build_tag(digest: str) -> str:
    """Return the tag under which a registry can be asked for the image with this build digest."""
    return f"build-{digest[:32]}"


def run_tag(release: str, cell: str) -> str:
    """Return the temporary tag that keeps an image of a release from being expired until its final tags are set."""
    return f"{RUN_TAG_PREFIX}{release}-{cell}"


def release_of_run_tag(tag: str) -> tuple[str, datetime] | None:
    """Return the name and the start time of the release that set a temporary tag, or None for any other tag."""
    found = _RUN_TAG.fullmatch(tag)
    if found is None:
        return None
    return found["release"], datetime.strptime(found["time"], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
