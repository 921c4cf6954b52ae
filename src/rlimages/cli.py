"""Words in, words out, exit codes. Every verb parses, calls, prints and exits; it decides nothing."""

import os
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from rlimages import __version__, doorstep, options
from rlimages.errors import FactoryError, StaleError, ToolError

os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # the look for plugins costs a tenth of the start-up


VERBS = {
    "production": ("plan", "build", "smoke", "run", "bases"),
    "delivery": ("publish", "promote"),
    "emulation": ("train", "serve", "invoke", "transform"),
    "admission": ("accept",),
    "attestation": ("sbom", "verify"),
    "estate": ("sdk-config", "gc"),
    "reproduction": ("reproduce",),
}
"""Which module has which verbs beside those here. A module is read when one of its verbs is asked for."""


class Door(click.Group):
    """The one place where an error becomes a sentence and an exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All verbs, in the order of their names."""
        return sorted([*super().list_commands(ctx), *(verb for verbs in VERBS.values() for verb in verbs)])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One verb, by its name."""
        for module, verbs in VERBS.items():
            if cmd_name in verbs:
                found = vars(import_module(f"rlimages.{module}"))
                return next(it for it in found.values() if isinstance(it, click.Command) and it.name == cmd_name)
        return super().get_command(ctx, cmd_name)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a verb; a `FactoryError` is printed as it is, and its class gives the exit code."""
        try:
            return super().invoke(ctx)
        except FactoryError as error:
            several = "\n" in str(error)
            click.echo(f"rlimages: {error}" if not several else str(error), err=True)
            ctx.exit(error.exit_code)


@click.group(cls=Door, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="rlimages")
@click.option("--matrix", type=click.Path(path_type=Path), help="The build matrix; by default the nearest one above.")
@click.pass_context
def main(ctx: click.Context, /, matrix: Path | None) -> None:
    """Build, test and publish reinforcement learning images for Amazon SageMaker from one matrix.

    Exit codes: 0 passed, 1 something failed, 2 the matrix or the command line, 3 stale recipes or locks, 4 a missing
    tool or engine, 5 nothing selected, 6 a template, 7 the registry refused, 8 an image that its target
    would refuse, 130 interrupted.
    """
    ctx.obj = matrix


@main.command("list")
@options.selecting
@click.option("--wide", is_flag=True, help="Also recipe and lock.")
@options.as_json
@click.pass_context
def list_(ctx: click.Context, /, patterns: tuple[str, ...], wide: bool, as_json: bool) -> None:
    """Show the cells: id, tags, base, and with --wide or --json also recipe and lock."""
    from rlimages import describe

    cells = doorstep.chosen(doorstep.project_of(ctx), patterns)
    if as_json:
        doorstep.print_json([describe.summary(cell) for cell in cells])
    else:
        click.echo(describe.lines(cells, wide=wide), nl=False)


@main.command()
@click.argument("patterns", nargs=-1, required=True, metavar="PATTERN...")
@click.option("--layers", is_flag=True, help="The layers of their images in the local store, or of other images there.")
@options.as_json
@click.pass_context
def show(ctx: click.Context, /, patterns: tuple[str, ...], layers: bool, as_json: bool) -> None:
    """Show everything about some cells, or what their images are made of."""
    from rlimages import describe

    if layers:
        from rlimages import reproduction

        reproduction.show_layers(patterns, ctx.obj, as_json=as_json)
        return
    shown = [describe.everything(cell) for cell in doorstep.chosen(doorstep.project_of(ctx), patterns)]
    if as_json:
        doorstep.print_json(shown)
    else:
        click.echo("\n".join(describe.page(cell) for cell in shown), nl=False)


@main.command()
@options.selecting
@click.option("--check", is_flag=True, help="Write nothing; show what would change and exit with 3.")
@click.pass_context
def render(ctx: click.Context, /, patterns: tuple[str, ...], check: bool) -> None:
    """Write the Dockerfiles and the other generated files; with --select, the Dockerfiles of these cells."""
    project = doorstep.project_of(ctx)
    cells = doorstep.chosen(project, patterns) if patterns else None
    if not check:
        doorstep.print_lines(project.write(cells))
    elif doorstep.print_lines(project.differences(cells)):
        raise StaleError("generated files are not what the matrix and the templates give; run `rlimages render`")


@main.command()
@options.selecting
@click.option("--check", is_flag=True, help="Write nothing, ask no network; name stale locks and exit with 3.")
@click.option("--force", is_flag=True, help="Resolve also what is not stale.")
@click.pass_context
def lock(ctx: click.Context, /, patterns: tuple[str, ...], check: bool, force: bool) -> None:
    """Resolve each cell's requirements, as of its date, into a lock with hashes."""
    from rlimages import locking

    project = doorstep.project_of(ctx)
    cells = doorstep.chosen(project, patterns)
    if check:
        if doorstep.print_lines(locking.stale(project, cells, everything=not patterns)):
            raise StaleError("locks are not what the matrix asks for; run `rlimages lock`")
        return
    doorstep.print_lines(locking.resolve(project, cells, environ=os.environ, force=force))


@main.command()
@click.option("--toolkit", required=True)
@click.option("--version", "version", help="A version, or a minor version for its newest patch; by default the newest.")
@click.option("--framework", help="tf, torch or mxnet, or as the SDK spells them.")
@click.option("--processor", default="cpu", show_default=True, type=click.Choice(["cpu", "gpu"]))
@click.option("--line", default="sagemaker", show_default=True, help="The base line.")
@click.option("--region", help="us-west-2 if not said.")
@click.option("--account", help="Your own ECR account.")
@click.option("--registry", help="Your own registry: host[:port][/prefix].")
@click.pass_context
def uri(
    ctx: click.Context,
    /,
    toolkit: str,
    version: str | None,
    framework: str | None,
    processor: str,
    line: str,
    region: str | None,
    account: str | None,
    registry: str | None,
) -> None:
    """Print the address of one image."""
    from rlimages import uri as addresses

    project = doorstep.project_of(ctx)
    spelled = project.matrix.framework_name(framework) if framework else None
    question = addresses.Question(
        toolkit=toolkit,
        version=version,
        framework=spelled,
        processor=processor,
        line=line,
        published=not (account or registry),
    )
    cell = addresses.find(project.cells, question)
    wanted = region or project.accounts.default_region
    host = addresses.host(cell, project.accounts, region=wanted, account=account, registry=registry)
    click.echo(f"{host}/{cell.local_name}")


@main.command()
@click.option("--registry", default="127.0.0.1:5000", show_default=True, help="The registry to look for.")
@options.as_json
@click.pass_context
def doctor(ctx: click.Context, /, registry: str, as_json: bool) -> None:
    """Look at this machine: what works, and what to do about what doesn't."""
    from rlimages import doctor as practice

    findings = tuple(practice.examine(Path.cwd(), registry, os.environ))
    if as_json:
        doorstep.print_json([practice.facts(finding) for finding in findings])
    else:
        doorstep.print_lines(practice.text(findings))
    if any(finding.health is practice.Health.MISSING for finding in findings):
        raise ToolError("something that builds need is missing; the lines above say what to do")
