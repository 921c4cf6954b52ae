"""The verbs that bring images to registries."""

import os
from typing import Any

import click

from rlimages import doorstep, options
from rlimages.errors import UsageError


@click.command()
@options.selecting
@options.to
@options.at_once
@click.option("--resume", is_flag=False, flag_value="latest", metavar="RELEASE", help="Go on with a release.")
@click.option("--rollback", is_flag=False, flag_value="latest", metavar="RELEASE", help="Undo the moves of a release.")
@click.pass_context
def publish(
    ctx: click.Context, /, patterns: tuple[str, ...], resume: str | None, rollback: str | None, **words: Any
) -> None:
    """Release the images that passed their checks: all are brought, all are verified, then all tags move."""
    if resume is None and rollback is None:
        options.insist_on_one_place(words)
        doorstep.run(ctx, patterns, ("smoke", "publish"), **words)
    elif resume is not None and rollback is not None:
        raise UsageError("--resume goes on with a release, --rollback undoes it; say one of them")
    else:
        _continue(ctx, resume or rollback or "", back=rollback is not None, may_go_back=words["allow_older"])


@click.command()
@options.selecting
@click.option("--target", required=True, metavar="NAME", help="Target of targets.yaml to promote to.")
@click.option("--from", "source", default="", metavar="NAME", help="Target to promote from; by default as it says.")
@click.option("--allow-older", is_flag=True, help="Let tags go back from a newer image to an older one.")
@click.pass_context
def promote(ctx: click.Context, /, patterns: tuple[str, ...], target: str, source: str, allow_older: bool) -> None:
    """Copy images from one target to another, registry to registry, if their checks are recorded as passed."""
    from rlimages import promoting, shell, standing

    project = doorstep.project_of(ctx)
    stop = shell.Stop()
    with shell.stopping_on_signals(stop):
        name, places = promoting.promote(
            project, doorstep.chosen(project, patterns), target, source, environ=os.environ, stop=stop,
            may_go_back=allow_older, on_note=doorstep.note,
        )  # fmt: skip
    doorstep.print_lines(standing.lines(places))
    code = standing.exit_code(places)
    if code:
        click.echo(f"go on with `rlimages publish --resume {name}`")
    ctx.exit(code)


def _continue(ctx: click.Context, name: str, *, back: bool, may_go_back: bool) -> None:
    """Go on with a release, or undo it; print what became of each place."""
    from rlimages import promoting, shell, standing

    stop = shell.Stop()
    with shell.stopping_on_signals(stop):
        places = promoting.go_on(
            doorstep.project_of(ctx), name, back=back, may_go_back=may_go_back, environ=os.environ, stop=stop,
            on_note=doorstep.note,
        )  # fmt: skip
    doorstep.print_lines(standing.lines(places))
    ctx.exit(standing.exit_code(places))
