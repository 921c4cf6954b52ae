"""Commands that build: plan, build, smoke, run, bases."""

import os
import shlex
from pathlib import Path
from typing import Any

import click

from rlimages.cli.common import (
    build_options,
    chosen_cells,
    fresh_option,
    jobs_option,
    json_option,
    print_json,
    print_lines,
    project_of,
    require_one_target,
    run_options,
    run_stages,
    select_option,
    since_option,
    target_options,
)

CHANGES = 10
"""Exit code of `plan` where something would be done."""


@click.command()
@select_option
@build_options
@since_option
@click.option("--to", default="", metavar="REGISTRY", help="Also what would be published to host[:port][/prefix].")
@click.option("--target", default="", metavar="NAME", help="Also what would be published to a target of targets.yaml.")
@click.option("--commands", is_flag=True, help="Print only the exact command of each build.")
@json_option
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
    from rlimages.engine.buildx import build_argv
    from rlimages.plan.step import Action
    from rlimages.run.forecast import forecast_facts, forecast_text, make_forecast
    from rlimages.run.prepare import with_host_files

    project = project_of(ctx)
    cells = chosen_cells(project, patterns)
    wishes = run_options((), to=to, target=target, **words)
    told = make_forecast(project, cells, wishes, patterns=patterns, since=since, environ=os.environ)
    builds = (
        with_host_files(project, told.plan, wishes, environ=os.environ).plan.of(Action.BUILD)
        if commands or as_json
        else ()
    )
    argv = {step.cell.id: build_argv(step.request, metadata=Path("metadata.json"), progress="auto") for step in builds}
    if commands:
        print_lines(f"# {step.cell.id}: {step.reason}\n{shlex.join(argv[step.cell.id])}" for step in builds)
    elif as_json:
        print_json(forecast_facts(told, argv))
    else:
        click.echo(forecast_text(told), nl=False)
    ctx.exit(CHANGES if told.changes else 0)


@click.command()
@select_option
@build_options
@since_option
@click.pass_context
def build(ctx: click.Context, /, patterns: tuple[str, ...], **words: Any) -> None:
    """Build the chosen cells that are not up to date."""
    run_stages(ctx, patterns, ("build",), **words)


@click.command()
@select_option
@fresh_option
@jobs_option
@click.pass_context
def smoke(ctx: click.Context, /, patterns: tuple[str, ...], **words: Any) -> None:
    """Run every check inside the images that are in the local store."""
    run_stages(ctx, patterns, ("smoke",), **words)


@click.command("run")
@select_option
@build_options
@since_option
@target_options
@fresh_option
@click.pass_context
def run_(ctx: click.Context, /, patterns: tuple[str, ...], **words: Any) -> None:
    """Build what is not up to date, smoke and publish the chosen cells, with one report."""
    require_one_target(words)
    run_stages(ctx, patterns, ("build", "smoke", "publish"), **words)


@click.command()
@select_option
@click.option("--update", is_flag=True, help="Ask the registries, and write the digests into build_matrix.lock.yaml.")
@click.option("--region", help="With --update: region to ask for SageMaker's base images.")
@json_option
@click.pass_context
def bases(ctx: click.Context, /, patterns: tuple[str, ...], update: bool, region: str | None, as_json: bool) -> None:
    """Bring the open bases into the local store: pulled, or bootstrapped where they can't be.

    With --update nothing is brought: the digest that each base has now is locked. Builds then stand on that one.
    """
    from rlimages.run.prepare import ensure_bases

    project = project_of(ctx)
    cells = chosen_cells(project, patterns)
    if update:
        from rlimages.project.update import base_lock_lines, update_base_lock

        told = update_base_lock(project, cells, region=region)
        if as_json:
            print_json([{"base": n, "digest": a.digest, "unreachable": a.unreachable} for n, a in told.items()])
        else:
            print_lines(base_lock_lines(told))
        return
    found = tuple(ensure_bases(cells))
    if as_json:
        print_json([{"reference": base.reference, "origin": base.origin, "detail": base.detail} for base in found])
    else:
        print_lines(f"{base.reference}: {base.origin} {base.detail}".rstrip() for base in found)
