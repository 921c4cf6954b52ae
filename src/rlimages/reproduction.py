"""The verbs that take images apart: make one again and say how alike the two are, and show what one is made of."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rlimages import doorstep, options

if TYPE_CHECKING:
    from rlimages.compare import Difference
    from rlimages.reproducing import Reproduction

SHOWN = 20
"""Differences that people see; --json has all."""
LEVELS = ("digest", "files", "packages")


@click.command()
@click.argument("image", metavar="IMAGE")
@click.option(
    "--level", type=click.Choice(LEVELS), default="files", show_default=True,
    help="What must be the same, or the exit code is 1.",
)  # fmt: skip
@click.option("--as-is", is_flag=True, help="Build from this checkout, not from the commit that the image names.")
@click.option("--keep", is_flag=True, help="Keep the new image, as rlimages-reproduction:<cell>.")
@options.where
@click.option("--timeout", type=click.IntRange(min=1), help="Seconds for the build; by default what the matrix says.")
@options.as_json
@click.pass_context
def reproduce(
    ctx: click.Context,
    /,
    image: str,
    level: str,
    as_is: bool,
    keep: bool,
    region: str | None,
    overrides: tuple[str, ...],
    override_file: Path | None,
    timeout: int | None,
    as_json: bool,
) -> None:
    """Build an image again from what its labels say, and say how alike the two are.

    IMAGE is a reference that names a registry, an image of the local store, or a cell. Its cell is built from nothing,
    from the commit that it names, which is taken out of this repository into a temporary folder, at its own date.
    Then the two are the same by digest, by files (time stamps apart), by packages, or different; the differences are
    named.

    Exit codes: 0 the same at --level or above, 1 not, or the build failed.
    """
    from rlimages import reproducing, shell
    from rlimages.compare import Level
    from rlimages.preparing import Wishes

    wishes = Wishes(
        stages=(), command="reproduce", region=region, overrides=overrides, override_file=override_file, timeout=timeout
    )
    stop = shell.Stop()
    with shell.stopping_on_signals(stop):
        done = reproducing.reproduce(
            image, matrix=ctx.obj, wishes=wishes, as_is=as_is, keep=keep, environ=os.environ, stop=stop,
            on_note=doorstep.note,
        )  # fmt: skip
    if as_json:
        doorstep.print_json(facts(done))
    else:
        doorstep.print_lines(lines(done))
    ctx.exit(0 if done.comparison.level >= Level[level.upper()] else 1)


def show_layers(words: Sequence[str], matrix: Path | None, *, as_json: bool) -> None:
    """Print what images of the local store are made of."""
    from rlimages import stack, stacking

    told = list(stacking.stacks(words, matrix=matrix))
    if as_json:
        doorstep.print_json(stack.facts(told))
    else:
        doorstep.print_lines(line for each in told for line in stack.lines(each))


def lines(done: "Reproduction") -> Iterator[str]:
    """What came of it, for people."""
    found = done.comparison
    yield f"{done.origin.called}: {found.level}"
    yield f"  was {done.origin.id}"
    yield f"  now {done.image} (built in {done.seconds:.0f} s)"
    for sentence in done.ground:
        yield f"  stands on another {sentence}"
    yield from _listed("packages", found.packages)
    yield from _listed("paths and settings", found.files)
    yield from _listed("labels", found.labels)
    if found.times:
        yield f"  {found.times} paths have another time stamp"


def _listed(what: str, differences: "Sequence[Difference]") -> Iterator[str]:
    if differences:
        yield f"  {len(differences)} {what} differ:"
    for one in differences[:SHOWN]:
        yield f"    {one.where}: {one.what}"
    if len(differences) > SHOWN:
        yield f"    and {len(differences) - SHOWN} more (--json names all)"


def facts(done: "Reproduction") -> dict[str, Any]:
    """The same for programs."""
    found = done.comparison
    return {
        "image": done.origin.called,
        "cell": done.origin.cell,
        "revision": done.origin.revision,
        "epoch": done.origin.epoch,
        "level": str(found.level),
        "was": done.origin.id,
        "now": done.image,
        "seconds": round(done.seconds, 1),
        "ground": list(done.ground),
        "packages": _told(found.packages),
        "files": _told(found.files),
        "labels": _told(found.labels),
        "times": found.times,
    }


def _told(differences: "Sequence[Difference]") -> list[dict[str, str]]:
    return [{"where": one.where, "what": one.what} for one in differences]
