"""Parse and format numbers of bytes and seconds."""

import re

from rlimages.errors import UsageError


def format_duration(seconds: float) -> str:
    """`0.4 s`, `41 s`, `2 min 05 s`, `1 h 02 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    minutes, left = divmod(round(seconds), 60)
    if minutes < 1:
        return f"{left} s"
    return f"{minutes} min {left:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def format_size(number: int) -> str:
    """Bytes as Docker counts them: `227 MB`, `1.93 GB`."""
    return f"{number / 1e9:.2f} GB" if number >= 1e9 else f"{number / 1e6:.0f} MB"


def format_limit(size: int) -> str:
    """A size for people."""
    for unit, bytes_ in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if size >= bytes_:
            return f"{size / bytes_:.1f} {unit}"
    return f"{size} bytes"


_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?) ?([KMGT]I?|)B?", re.IGNORECASE)


def parse_size(text: str) -> int:
    """Bytes of `5GB`, `500 MiB`, `0`. Raises `UsageError` for what is none."""
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise UsageError(f"'{text}' is no size; write it as 5GB, 500MB or 20GiB")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def format_memory(count: int) -> str:
    """Bytes for people: `4.0 GB`."""
    return f"{count / 10**9:.1f} GB"
