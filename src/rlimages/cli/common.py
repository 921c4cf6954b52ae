"""What the commands share: options, output, loading the project, running stages."""

import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rlimages.errors import UsageError
from rlimages.system.machine import DISK_FLOOR
from rlimages.system.units import format_size, parse_size

if TYPE_CHECKING:
    from rlimages.matrix.cell import Cell
    from rlimages.plan.step import RunOptions
    from rlimages.project.project import Project


Command = Callable[..., Any]


def combine(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Several options as one decorator, in this order in the help."""

    def apply(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return apply


def _bytes(_ctx: click.Context, param: click.Parameter, value: str) -> int:
    """`5GB` -> 5000000000."""
    try:
        return parse_size(value)
    except UsageError as error:
        raise UsageError(f"{param.opts[0]} {error}") from error


select_option = click.option(
    "--select", "patterns", multiple=True, metavar="PATTERN", help="Cells by id, with * and ?. May be repeated."
)
json_option = click.option("--json", "as_json", is_flag=True, help="For programs.")
base_options = combine(
    click.option("--region", help="Region to pull SageMaker's base images from."),
    click.option("--base-override", "overrides", multiple=True, metavar="REGEX=REF", help="Stand-in for bases."),
    click.option(
        "--base-overrides", "override_file", type=click.Path(path_type=Path), help="A file of REGEX=REF lines."
    ),
)
build_options = combine(
    base_options,
    click.option(
        "--wheels",
        multiple=True,
        type=click.Path(path_type=Path, exists=True, file_okay=False),
        help="Folders of wheels for the builds, beside those of this machine's pip configuration.",
    ),
    click.option("--jobs", "-j", type=click.IntRange(min=1), help="Builds at once; by default what the machine fits."),
    click.option("--no-cache", is_flag=True, help="Build also what is up to date, and from nothing."),
    click.option(
        "--cache-from",
        multiple=True,
        metavar="REGISTRY",
        help="Take layers from the cells' images there: host[:port][/prefix]. May be repeated.",
    ),
    click.option("--inline-cache", is_flag=True, help="Make images that --cache-from can take layers from."),
    click.option(
        "--disk-floor",
        callback=_bytes,
        default=format_size(DISK_FLOOR),
        show_default=True,
        envvar="RLIMAGES_DISK_FLOOR",
        show_envvar=True,
        metavar="SIZE",
        help="Begin no build that would leave less free where the engine keeps its data.",
    ),
    click.option(
        "--timeout", type=click.IntRange(min=1), help="Seconds for one build; by default what the matrix says."
    ),
)
target_options = combine(
    click.option("--to", default="", metavar="REGISTRY", help="Registry to publish to: host[:port][/prefix]."),
    click.option("--target", default="", metavar="NAME", help="Target of targets.yaml to publish to, all or nothing."),
    click.option("--allow-older", is_flag=True, help="Let tags go back from a newer image to an older one."),
)
fresh_option = click.option("--fresh", is_flag=True, help="Run checks again that passed before for this very image.")
jobs_option = click.option("--jobs", "-j", type=click.IntRange(min=1), help="Cells at once; by default what fits.")
since_option = click.option(
    "--since", default="", metavar="COMMIT", help="Only the cells whose inputs or checks are not what they were there."
)


def require_one_target(words: dict[str, Any]) -> None:
    """Raises `UsageError` unless exactly one of --to and --target is given."""
    if bool(words["to"]) == bool(words["target"]):
        raise UsageError("say where to publish to: --to host[:port][/prefix], or --target with a name in targets.yaml")


def project_of(ctx: click.Context) -> "Project":
    """The project that the command line is about."""
    from rlimages.project.project import load_project

    return load_project(ctx.obj, Path.cwd())


def chosen_cells(project: "Project", patterns: tuple[str, ...]) -> tuple["Cell", ...]:
    """The cells that the command line names; all where it names none."""
    from rlimages.matrix.cell import select_cells

    return select_cells(project.cells, patterns or ("*",))


def print_json(value: Any) -> None:
    """For programs."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_lines(lines: Iterable[str]) -> int:
    """Each as it comes; how many there were."""
    count = 0
    for count, line in enumerate(lines, start=1):  # noqa: B007 - the count is the result
        click.echo(line)
    return count


def print_note(line: str) -> None:
    """Say something beside the result."""
    click.echo(line, err=True)


def run_options(stages: tuple[str, ...], **words: Any) -> "RunOptions":
    """What the command line says about a run."""
    from rlimages.plan.step import RunOptions, Stage

    command = click.get_current_context().command_path.split()[-1]
    return RunOptions(stages=tuple(Stage(stage) for stage in stages), command=command, **words)


def run_stages(
    ctx: click.Context, patterns: tuple[str, ...], stages: tuple[str, ...], since: str = "", **words: Any
) -> None:
    """Run some stages, show how it goes, print the report and leave with its exit code."""
    from rlimages.cli.progress import progress_reporter
    from rlimages.run.report import report_exit_code, report_text
    from rlimages.run.run import run_cells
    from rlimages.system.process import Stop, stopping_on_signals

    project = project_of(ctx)
    cells = chosen_cells(project, patterns)
    if since:
        from rlimages.run.affected import affected_cells

        affected = affected_cells(project, since)
        cells = tuple(cell for cell in cells if cell.id in affected)
        print_note(f"{len(cells)} of the chosen cells are affected since {since}")
        if not cells:
            return
    stop = Stop()
    live = sys.stderr.isatty() and not os.environ.get("CI")
    with stopping_on_signals(stop), progress_reporter(sys.stderr, live=live) as on_event:
        folder, told = run_cells(
            project,
            cells,
            run_options(stages, **words),
            environ=os.environ,
            stop=stop,
            on_event=on_event,
            on_note=print_note,
        )
    click.echo(report_text(told), nl=False)
    click.echo(f"report: {os.path.relpath(folder)}")
    ctx.exit(report_exit_code(told))
