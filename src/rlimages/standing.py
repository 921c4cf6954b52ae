"""What became of each place of a release, for people and for scripts."""

from collections.abc import Iterator, Sequence

from rlimages.errors import Interrupted, RegistryError
from rlimages.meter import QUOTAS
from rlimages.publishing import PlaceResult
from rlimages.report import duration


def lines(places: Sequence[PlaceResult]) -> Iterator[str]:
    """What became of each place, for people."""
    for place in places:
        yield f"{place.place}: {place.state}" + (f": {place.reason}" if place.reason else "")
        yield f"  {traffic(place)}"
        for told in place.demands:
            yield f"  {told.cell}: {told.demand} {'passed' if told.passed else 'FAILED'}: {told.said}"


def traffic(place: PlaceResult) -> str:
    """What it took, with ECR's names of the calls and what it allows of each in a second."""
    calls = ", ".join(
        f"{count} {call}" + (f" ({QUOTAS[call]}/s allowed)" if call in QUOTAS else "")
        for call, count in place.calls.items()
    )
    return f"{place.uploads} blobs ({place.bytes / 1e6:.0f} MB) sent in {duration(place.seconds)}; {calls}"


def exit_code(places: Sequence[PlaceResult]) -> int:
    """0 when every place is as was wanted; 130 when interrupted; else that of a registry that refused."""
    if all(not place.reason for place in places):
        return 0
    interrupted = any(place.reason == Interrupted.__name__.lower() for place in places)
    return Interrupted.exit_code if interrupted else RegistryError.exit_code
