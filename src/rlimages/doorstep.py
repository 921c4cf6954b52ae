"""What several verbs begin or end with: load the project, choose cells, run stages, print."""

import json
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rlimages.cell import Cell
    from rlimages.preparing import Wishes
    from rlimages.project import Project


def project_of(ctx: click.Context) -> "Project":
    """The project that the command line is about."""
    from rlimages import project

    return project.load(ctx.obj, Path.cwd())


def chosen(project: "Project", patterns: tuple[str, ...]) -> tuple["Cell", ...]:
    """The cells that the command line names; all where it names none."""
    from rlimages.selector import select

    return select(project.cells, patterns or ("*",))


def print_json(value: Any) -> None:
    """For programs."""
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_lines(lines: Iterable[str]) -> int:
    """Each as it comes; how many there were."""
    count = 0
    for count, line in enumerate(lines, start=1):  # noqa: B007 - the count is the result
        click.echo(line)
    return count


def note(line: str) -> None:
    """Say something beside the result."""
    click.echo(line, err=True)


def wishes(stages: tuple[str, ...], **words: Any) -> "Wishes":
    """What the command line says about a run."""
    from rlimages.plan import Stage
    from rlimages.preparing import Wishes

    command = click.get_current_context().command_path.split()[-1]
    return Wishes(stages=tuple(Stage(stage) for stage in stages), command=command, **words)


def run(ctx: click.Context, patterns: tuple[str, ...], stages: tuple[str, ...], since: str = "", **words: Any) -> None:
    """Run some stages, show how it goes, print the report and leave with its exit code."""
    from rlimages import progress, report, running, shell

    project = project_of(ctx)
    cells = chosen(project, patterns)
    if since:
        from rlimages import ancestry

        affected = ancestry.affected(project, since)
        cells = tuple(cell for cell in cells if cell.id in affected)
        note(f"{len(cells)} of the chosen cells are affected since {since}")
        if not cells:
            return
    stop = shell.Stop()
    live = sys.stderr.isatty() and not os.environ.get("CI")
    with shell.stopping_on_signals(stop), progress.shown(sys.stderr, live=live) as on_event:
        folder, told = running.run(
            project, cells, wishes(stages, **words), environ=os.environ, stop=stop, on_event=on_event, on_note=note
        )
    click.echo(report.text(told), nl=False)
    click.echo(f"report: {os.path.relpath(folder)}")
    ctx.exit(report.exit_code(told))
