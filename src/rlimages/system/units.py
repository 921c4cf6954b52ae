"""Parse and format sizes in bytes and durations."""

import re
from datetime import timedelta

from rlimages.errors import UsageError

_BINARY_UNITS = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10))
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([KMGT]I?|)B?", re.IGNORECASE)
_SIZE_FACTORS = {
    "": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40,
}  # fmt: skip
_DURATION = re.compile(r"(?P<count>\d{1,5})(?P<unit>[hdw])")
_DURATION_UNITS = {"h": "hours", "d": "days", "w": "weeks"}


def format_size(size: int) -> str:
    """Return a text for `size` bytes in decimal units, which Docker uses too: `227 MB`, `1.93 GB`, `5 GB`."""
    if size < 10**9:
        return f"{size / 10**6:.0f} MB"
    return f"{size / 10**9:.2f}".rstrip("0").rstrip(".") + " GB"


def format_binary_size(size: int) -> str:
    """Return a text for `size` bytes in binary units: `10.0 GiB`, `512.0 MiB`, `100 bytes`.

    AWS states its limits in them.
    """
    for unit, factor in _BINARY_UNITS:
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


def parse_size(text: str) -> int:
    """Return the number of bytes for a size such as `5GB`, `500 MiB` or `0`.

    `GB` is 10**9 bytes and `GiB` is 2**30; the `B` may be omitted, and case does not matter. Raise `UsageError` if
    `text` is not a size.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"'{text}' is not a size; write it as 5GB, 500MB or 20GiB")
    return int(float(match[1]) * _SIZE_FACTORS[match[2].upper()])


def format_duration(seconds: float) -> str:
    """Return a text for a number of seconds: `0.4 s`, `41 s`, `2 min 05 s`, `1 h 02 min`."""
    if seconds < 9.95:  # from here on one decimal would be rounded to 10.0
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{rest} s"
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def parse_duration(text: str) -> timedelta:
    """Return the duration for a text such as `36h` (hours), `30d` (days) or `8w` (weeks).

    Raise `UsageError` if `text` has another form.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise UsageError(f"'{text}' is not a duration; write it as 36h, 30d or 8w")
    return timedelta(**{_DURATION_UNITS[match["unit"]]: int(match["count"])})
