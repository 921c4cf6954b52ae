"""Define the commands that build and check images: plan, build, smoke, run, bases."""

import os
import shlex
from pathlib import Path
from typing import Any

import click

from rlimages.cli.common import (
    build_options,
    command_project,
    fresh_option,
    jobs_option,
    json_option,
    print_json,
    print_lines,
    require_one_target,
    run_options,
    run_stages,
    select_option,
    selected_cells,
    since_option,
    target_options,
)

CHANGES_EXIT_CODE = 10
"""Exit code of `plan` if a run would build, check or publish something. No error has this exit code."""


@click.command()
@select_option
@build_options
@since_option
@click.option(
    "--to",
    default="",
    metavar="REGISTRY",
    help="Also show what would be published to this registry: host[:port][/prefix].",
)
@click.option(
    "--target", default="", metavar="NAME", help="Also show what would be published to this target of targets.yaml."
)
@click.option("--commands", is_flag=True, help="Print only the command of each build.")
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
    **arguments: Any,
) -> None:
    """Show what a run would do for each cell, and why.

    Nothing is changed. The exit code is 0 if there is nothing to do, and 10 if there is.
    """
    from rlimages.engine.buildx import build_argv
    from rlimages.plan.step import Action, BuildStep
    from rlimages.run.forecast import make_forecast
    from rlimages.run.forecast_report import forecast_facts, forecast_text
    from rlimages.run.prepare import add_host_files
    from rlimages.system.context import RunContext
    from rlimages.system.process import Stop

    project = command_project(ctx)
    cells = selected_cells(project, patterns)
    options = run_options((), to=to, target=target, **arguments)
    context = RunContext(environ=os.environ, stop=Stop())
    forecast = make_forecast(project, cells, options, patterns=patterns, since=since, context=context)
    builds: tuple[BuildStep, ...] = ()
    if commands or as_json:
        builds = add_host_files(forecast.plan, project, options, context).steps_with(Action.BUILD)
    argv = {step.cell.id: build_argv(step.request, metadata=Path("metadata.json"), progress="auto") for step in builds}
    if commands:
        print_lines(f"# {step.cell.id}: {step.reason}\n{shlex.join(argv[step.cell.id])}" for step in builds)
    elif as_json:
        print_json(forecast_facts(forecast, argv))
    else:
        click.echo(forecast_text(forecast), nl=False)
    ctx.exit(CHANGES_EXIT_CODE if forecast.changes else 0)


@click.command()
@select_option
@build_options
@since_option
@click.pass_context
def build(ctx: click.Context, /, patterns: tuple[str, ...], **options: Any) -> None:
    """Build the selected cells that are not up to date.

    If a build fails, the images that extend it are skipped, and all other builds continue.
    """
    run_stages(ctx, patterns, ("build",), **options)


@click.command()
@select_option
@fresh_option
@jobs_option
@click.pass_context
def smoke(ctx: click.Context, /, patterns: tuple[str, ...], **options: Any) -> None:
    """Run the checks inside the local images of the cells.

    A check that passed before for the same image is not run again.
    """
    run_stages(ctx, patterns, ("smoke",), **options)


@click.command("run")
@select_option
@build_options
@since_option
@target_options
@fresh_option
@click.pass_context
def run_(ctx: click.Context, /, patterns: tuple[str, ...], **options: Any) -> None:
    """Build, check and publish the selected cells.

    Only cells that are not up to date are built, and only images that passed their checks are published. The result is
    one report.
    """
    require_one_target(options)
    run_stages(ctx, patterns, ("build", "smoke", "publish"), **options)


@click.command()
@select_option
@click.option("--update", is_flag=True, help="Ask the registries for current digests and write build_matrix.lock.yaml.")
@click.option("--region", metavar="REGION", help="With --update: AWS region to ask for SageMaker's base images.")
@json_option
@click.pass_context
def bases(ctx: click.Context, /, patterns: tuple[str, ...], update: bool, region: str | None, as_json: bool) -> None:
    """Pull or bootstrap base images, or lock their digests.

    The Debian base images of the selected cells are pulled. One that cannot be pulled is bootstrapped with mmdebstrap.

    With --update nothing is pulled. The current digest of each base image is written to build_matrix.lock.yaml, and
    later builds use exactly that image.
    """
    from rlimages.run.prepare import ensure_bases

    project = command_project(ctx)
    cells = selected_cells(project, patterns)
    if update:
        from rlimages.project.update import base_lock_lines, update_base_lock

        entries = update_base_lock(project, cells, region=region)
        if as_json:
            print_json(
                [
                    {"base": name, "digest": entry.digest, "unreachable": entry.unreachable}
                    for name, entry in entries.items()
                ]
            )
        else:
            print_lines(base_lock_lines(entries))
        return
    results = tuple(ensure_bases(cells))
    if as_json:
        print_json([{"reference": base.reference, "origin": base.origin, "detail": base.detail} for base in results])
    else:
        print_lines(f"{base.reference}: {base.origin} {base.detail}".rstrip() for base in results)
