"""Words in, words out, exit codes. Every verb parses, calls, prints and exits; it decides nothing."""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rlimages import __version__
from rlimages.errors import FactoryError, StaleError

if TYPE_CHECKING:
    from rlimages.cell import Cell
    from rlimages.project import Project

os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")  # the look for plugins costs a tenth of the start-up


class Door(click.Group):
    """The one place where an error becomes a sentence and an exit code."""

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
def main(ctx: click.Context, matrix: Path | None) -> None:
    """Build, test and publish reinforcement learning images for Amazon SageMaker from one matrix.

    Exit codes: 0 passed, 1 something failed, 2 the matrix or the command line, 3 stale recipes or locks, 4 a missing
    tool or engine, 5 nothing selected, 6 a template, 7 the registry refused, 130 interrupted.
    """
    ctx.obj = matrix


def _project(ctx: click.Context) -> "Project":
    from rlimages import project

    return project.load(ctx.obj, Path.cwd())


def _select(project: "Project", patterns: tuple[str, ...]) -> tuple["Cell", ...]:
    from rlimages.selector import select

    return select(project.cells, patterns or ("*",))


def _print_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _progress(lines: Iterable[str]) -> int:
    count = 0
    for count, line in enumerate(lines, start=1):  # noqa: B007 - the count is the result
        click.echo(line)
    return count


_Command = Callable[..., Any]


def _together(*options: Callable[[_Command], _Command]) -> Callable[[_Command], _Command]:
    def apply(command: _Command) -> _Command:
        for option in reversed(options):
            command = option(command)
        return command

    return apply


_selecting = click.option(
    "--select", "patterns", multiple=True, metavar="PATTERN", help="Cells by id, with * and ?. May be repeated."
)
_as_json = click.option("--json", "as_json", is_flag=True, help="For programs.")
_where = _together(
    click.option("--region", help="Region to pull SageMaker's base images from."),
    click.option("--base-override", "overrides", multiple=True, metavar="REGEX=REF", help="Stand-in for bases."),
    click.option(
        "--base-overrides", "override_file", type=click.Path(path_type=Path), help="A file of REGEX=REF lines."
    ),
)
_building = _together(
    _where,
    click.option("--wheels", multiple=True, type=click.Path(path_type=Path), help="Folders of wheels for the builds."),
    click.option("--jobs", "-j", type=click.IntRange(min=1), help="Builds at once; by default what the machine fits."),
    click.option(
        "--timeout", type=click.IntRange(min=1), help="Seconds for one build; by default what the matrix says."
    ),
)


@main.command("list")
@_selecting
@_as_json
@click.pass_context
def list_(ctx: click.Context, patterns: tuple[str, ...], as_json: bool) -> None:
    """Show the cells: id, tags, base, recipe and lock."""
    from rlimages import describe

    cells = _select(_project(ctx), patterns)
    if as_json:
        _print_json([describe.summary(cell) for cell in cells])
    else:
        click.echo(describe.lines(cells), nl=False)


@main.command()
@click.argument("patterns", nargs=-1, required=True, metavar="PATTERN...")
@_as_json
@click.pass_context
def show(ctx: click.Context, patterns: tuple[str, ...], as_json: bool) -> None:
    """Show everything about some cells."""
    from rlimages import describe

    shown = [describe.everything(cell) for cell in _select(_project(ctx), patterns)]
    if as_json:
        _print_json(shown)
    else:
        click.echo("\n".join(describe.page(cell) for cell in shown), nl=False)


@main.command()
@_selecting
@click.option("--check", is_flag=True, help="Write nothing; show what would change and exit with 3.")
@click.pass_context
def render(ctx: click.Context, patterns: tuple[str, ...], check: bool) -> None:
    """Write the Dockerfiles and the other generated files; with --select, the Dockerfiles of these cells."""
    project = _project(ctx)
    cells = _select(project, patterns) if patterns else None
    if not check:
        _progress(project.write(cells))
    elif _progress(project.differences(cells)):
        raise StaleError("generated files are not what the matrix and the templates give; run `rlimages render`")


@main.command()
@_selecting
@click.option("--check", is_flag=True, help="Write nothing, ask no network; name stale locks and exit with 3.")
@click.option("--force", is_flag=True, help="Resolve also what is not stale.")
@click.pass_context
def lock(ctx: click.Context, patterns: tuple[str, ...], check: bool, force: bool) -> None:
    """Resolve each cell's requirements, as of its date, into a lock with hashes."""
    from rlimages import locking

    project = _project(ctx)
    cells = _select(project, patterns)
    if check:
        if _progress(locking.stale(project, cells, everything=not patterns)):
            raise StaleError("locks are not what the matrix asks for; run `rlimages lock`")
        return
    _progress(locking.resolve(project, cells, environ=os.environ, force=force))


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

    project = _project(ctx)
    spelled = project.matrix.framework_name(framework) if framework else None
    question = addresses.Question(toolkit=toolkit, version=version, framework=spelled, processor=processor, line=line)
    cell = addresses.find(project.cells, question)
    wanted = region or project.accounts.default_region
    host = addresses.host(cell, project.accounts, region=wanted, account=account, registry=registry)
    click.echo(f"{host}/{cell.local_name}")
