"""Provide the parts that several commands share: options, output, loading the project, and running stages."""

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
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
    from rlimages.system.context import RunContext


Command = Callable[..., Any]
"""The function of a command, before or after click's decorators."""


def combine(*options: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Return one decorator that applies all of `options`, which are click's decorators for options and arguments.

    The help of a command shows the options in the given order.
    """

    def apply(command: Command) -> Command:
        # The decorator that is applied last is shown first.
        for option in reversed(options):
            command = option(command)
        return command

    return apply


def _parse_size_option(_ctx: click.Context, param: click.Parameter, value: str) -> int:
    """Return the bytes that `value` states, such as `9 GiB`: click's callback for an option that is a size.

    Raise `UsageError` with the name of the option `param` if `value` is not a size.
    """
    try:
        return parse_size(value)
    except UsageError as error:
        raise UsageError(f"{param.opts[0]} {error}") from error


select_option = click.option(
    "--select",
    "patterns",
    multiple=True,
    metavar="PATTERN",
    help="Select cells by ID; `*` and `?` match. May be given several times. The default is all cells.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
base_options = combine(
    click.option("--region", metavar="REGION", help="AWS region to pull SageMaker's base images from."),
    click.option(
        "--base-override",
        "overrides",
        multiple=True,
        metavar="REGEX=REF",
        help="Use the image REF for base images whose reference matches REGEX. May be given several times.",
    ),
    click.option(
        "--base-overrides",
        "override_file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Read base overrides from a file, one REGEX=REF in each line.",
    ),
)
build_options = combine(
    base_options,
    click.option(
        "--wheels",
        multiple=True,
        type=click.Path(path_type=Path, exists=True, file_okay=False),
        metavar="FOLDER",
        help="Folder with wheels for the builds, in addition to those of this machine's pip configuration. May be "
        "given several times.",
    ),
    click.option(
        "--jobs",
        "-j",
        type=click.IntRange(min=1),
        metavar="N",
        help="Build at most N images at once. By default as many as the machine's cores and memory allow.",
    ),
    click.option("--no-cache", is_flag=True, help="Build all selected cells, also those up to date, without cache."),
    click.option(
        "--cache-from",
        multiple=True,
        metavar="REGISTRY",
        help="Reuse layers of the cells' images in this registry: host[:port][/prefix]. May be given several times.",
    ),
    click.option("--inline-cache", is_flag=True, help="Store cache data in the images, for a later --cache-from."),
    click.option(
        "--disk-floor",
        callback=_parse_size_option,
        default=format_size(DISK_FLOOR),
        show_default=True,
        envvar="RLIMAGES_DISK_FLOOR",
        show_envvar=True,
        metavar="SIZE",
        help="Start no build that would leave less than this free on the engine's disk.",
    ),
    click.option(
        "--timeout",
        type=click.IntRange(min=1),
        metavar="SECONDS",
        help="Time limit of each build. The default is that of the matrix.",
    ),
)
allow_older_option = click.option("--allow-older", is_flag=True, help="Allow tags to move to older images.")
target_options = combine(
    click.option("--to", default="", metavar="REGISTRY", help="Registry to publish to: host[:port][/prefix]."),
    click.option(
        "--target",
        default="",
        metavar="NAME",
        help="Target of targets.yaml to publish to. In each of its registries, all images are published or none.",
    ),
    allow_older_option,
)
fresh_option = click.option("--fresh", is_flag=True, help="Run all checks, also those that this image already passed.")
jobs_option = click.option(
    "--jobs",
    "-j",
    type=click.IntRange(min=1),
    metavar="N",
    help="Process at most N cells at once. By default as many as the machine's cores and memory allow.",
)
since_option = click.option(
    "--since",
    default="",
    metavar="COMMIT",
    help="Select only the cells whose build inputs or checks have changed since this commit.",
)


def require_one_target(options: dict[str, Any]) -> None:
    """Raise `UsageError` unless exactly one of --to and --target is given. `options` maps option names to values."""
    if bool(options["to"]) == bool(options["target"]):
        raise UsageError("name one registry to publish to: --to host[:port][/prefix], or --target with a name")


def command_project(ctx: click.Context) -> "Project":
    """Load and return the project of the option `--matrix`, whose path is in `ctx.obj`.

    Without the option, it is the project in the working folder, or in the nearest folder above it with a build matrix.
    """
    from rlimages.project.project import load_project

    return load_project(ctx.obj, Path.cwd())


def selected_cells(project: "Project", patterns: tuple[str, ...]) -> tuple["Cell", ...]:
    """Return the cells of `project` whose id matches one of `patterns`, the values of `--select`.

    Without patterns, all cells are returned. Raise `SelectionError` if a pattern matches no cell.
    """
    from rlimages.matrix.cell import select_cells

    return select_cells(project.cells, patterns or ("*",))


@contextmanager
def command_context() -> Iterator["RunContext"]:
    """Yield the run context (environment, stop signal and output for notes) of the command that is running.

    Inside the block, SIGINT and SIGTERM set its `stop` instead of ending the process. Notes go to standard error.
    """
    from rlimages.system.context import RunContext
    from rlimages.system.process import Stop, stopping_on_signals

    stop = Stop()
    with stopping_on_signals(stop):
        yield RunContext(environ=os.environ, stop=stop, note=print_note)


def print_json(value: Any, *, indent: int | None = 2) -> None:
    """Print `value` as JSON on standard output, indented by `indent` spaces; in one line if `indent` is None."""
    click.echo(json.dumps(value, indent=indent, ensure_ascii=False))


def print_lines(lines: Iterable[str]) -> int:
    """Print each of `lines` on standard output as soon as it is available, and return the number of lines."""
    count = 0
    for count, line in enumerate(lines, start=1):  # noqa: B007 - the count is the result
        click.echo(line)
    return count


def print_note(line: str) -> None:
    """Print `line`, a message for people, on standard error. Standard output has only the result of the command."""
    click.echo(f"rlimages: {line}", err=True)


def run_options(stages: tuple[str, ...], **options: Any) -> "RunOptions":
    """Return the options of a run as one value, with the name of the command that is running.

    `stages` are names of stages: `build`, `smoke`, `publish`. `options` are the values of the command's options, under
    the names of the fields of `RunOptions`.
    """
    from rlimages.plan.step import RunOptions, Stage

    command = click.get_current_context().command_path.split()[-1]
    return RunOptions(stages=tuple(Stage(stage) for stage in stages), command=command, **options)


def run_stages(
    ctx: click.Context, patterns: tuple[str, ...], stages: tuple[str, ...], since: str = "", **options: Any
) -> None:
    """Run `stages` on the selected cells, show the progress, print the report and exit with its exit code.

    `patterns` are the values of `--select`, and `options` the other options of the command. If the commit `since` is
    given, only cells whose build inputs or checks changed since that commit are selected; if there are none, nothing is
    run and there is no report. The logs and the report are written to the folder of the run.
    """
    from rlimages.cli.progress import progress_reporter
    from rlimages.run.report import report_exit_code, report_text
    from rlimages.run.run import run_cells

    project = command_project(ctx)
    cells = selected_cells(project, patterns)
    if since:
        from rlimages.run.affected import affected_cells

        affected = affected_cells(project, since)
        cells = tuple(cell for cell in cells if cell.id in affected)
        print_note(f"{len(cells)} of the selected cells are affected since {since}")
        if not cells:
            return
    live = sys.stderr.isatty() and not os.environ.get("CI")
    with command_context() as context, progress_reporter(sys.stderr, live=live) as on_event:
        folder, report = run_cells(
            project,
            cells,
            run_options(stages, **options),
            context=context,
            on_event=on_event,
        )
    click.echo(report_text(report), nl=False)
    click.echo(f"report: {os.path.relpath(folder)}")
    ctx.exit(report_exit_code(report))
