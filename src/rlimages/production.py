"""The verbs that make images: what would be done, bring bases, build, check, all of it."""

import os
import shlex
from pathlib import Path
from typing import Any

import click

from rlimages import doorstep, options

CHANGES = 10
"""Exit code of `plan` where something would be done."""


@click.command()
@options.selecting
@options.building
@options.since
@click.option("--to", default="", metavar="REGISTRY", help="Also what would be published to host[:port][/prefix].")
@click.option("--target", default="", metavar="NAME", help="Also what would be published to a target of targets.yaml.")
@click.option("--commands", is_flag=True, help="Print only the exact command of each build.")
@options.as_json
@click.pass_context
def plan(
    ctx: click.Context,
    /,
    patterns: tuple[str, ...],
    since: str,
    to: str,
    target: str,
    commands: bool,
    as_json: bool,
    **words: Any,
) -> None:
    """Say for every cell what a run would do and why; nothing is changed.

    Exit code 0 when nothing would be done, 10 when something would.
    """
    from rlimages import engine, forecast, outlook, preparing
    from rlimages.plan import Action

    project = doorstep.project_of(ctx)
    cells = doorstep.chosen(project, patterns)
    wishes = doorstep.wishes((), to=to, target=target, **words)
    told = outlook.foresee(project, cells, wishes, patterns=patterns, since=since, environ=os.environ)
    builds = (
        preparing.lent(project, told.plan, wishes, environ=os.environ).plan.of(Action.BUILD)
        if commands or as_json
        else ()
    )
    argv = {step.cell.id: engine.build_argv(step, metadata=Path("metadata.json"), progress="auto") for step in builds}
    if commands:
        doorstep.print_lines(f"# {step.cell.id}: {step.reason}\n{shlex.join(argv[step.cell.id])}" for step in builds)
    elif as_json:
        doorstep.print_json(forecast.facts(told, argv))
    else:
        click.echo(forecast.text(told), nl=False)
    ctx.exit(CHANGES if told.changes else 0)


@click.command()
@options.selecting
@options.building
@options.since
@click.pass_context
def build(ctx: click.Context, /, patterns: tuple[str, ...], **words: Any) -> None:
    """Build the chosen cells that are not up to date."""
    doorstep.run(ctx, patterns, ("build",), **words)


@click.command()
@options.selecting
@options.fresh
@options.at_once
@click.pass_context
def smoke(ctx: click.Context, /, patterns: tuple[str, ...], **words: Any) -> None:
    """Run every check inside the images that are in the local store."""
    doorstep.run(ctx, patterns, ("smoke",), **words)


@click.command("run")
@options.selecting
@options.building
@options.since
@options.to
@options.fresh
@click.pass_context
def run_(ctx: click.Context, /, patterns: tuple[str, ...], **words: Any) -> None:
    """Build what is not up to date, smoke and publish the chosen cells, with one report."""
    options.insist_on_one_place(words)
    doorstep.run(ctx, patterns, ("build", "smoke", "publish"), **words)


@click.command()
@options.selecting
@click.option("--update", is_flag=True, help="Ask the registries, and write the digests into build_matrix.lock.yaml.")
@click.option("--region", help="With --update: region to ask for SageMaker's base images.")
@options.as_json
@click.pass_context
def bases(ctx: click.Context, /, patterns: tuple[str, ...], update: bool, region: str | None, as_json: bool) -> None:
    """Bring the open bases into the local store: pulled, or bootstrapped where they can't be.

    With --update nothing is brought: the digest that each base has now is locked. Builds then stand on that one.
    """
    from rlimages import preparing

    project = doorstep.project_of(ctx)
    cells = doorstep.chosen(project, patterns)
    if update:
        from rlimages import pinning

        told = pinning.update(project, cells, region=region)
        if as_json:
            doorstep.print_json(
                [{"base": n, "digest": a.digest, "unreachable": a.unreachable} for n, a in told.items()]
            )
        else:
            doorstep.print_lines(pinning.lines(told))
        return
    found = tuple(preparing.bases_of(cells))
    if as_json:
        doorstep.print_json(
            [{"reference": base.reference, "origin": base.origin, "detail": base.detail} for base in found]
        )
    else:
        doorstep.print_lines(f"{base.reference}: {base.origin} {base.detail}".rstrip() for base in found)
