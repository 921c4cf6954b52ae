"""Words in, words out, exit codes. Every verb parses, calls, prints and exits; it decides nothing."""

import json
import os
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rlimages import __version__, admission, attestation, emulation, estate, options
from rlimages.errors import FactoryError, StaleError, ToolError, UsageError

if TYPE_CHECKING:
    from rlimages.cell import Cell
    from rlimages.project import Project
    from rlimages.running import Wishes

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
def main(ctx: click.Context, /, matrix: Path | None) -> None:
    """Build, test and publish reinforcement learning images for Amazon SageMaker from one matrix.

    Exit codes: 0 passed, 1 something failed, 2 the matrix or the command line, 3 stale recipes or locks, 4 a missing
    tool or engine, 5 nothing selected, 6 a template, 7 the registry refused, 8 an image that its target
    would refuse, 130 interrupted.
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


@main.command("list")
@options.selecting
@click.option("--wide", is_flag=True, help="Also recipe and lock.")
@options.as_json
@click.pass_context
def list_(ctx: click.Context, /, patterns: tuple[str, ...], wide: bool, as_json: bool) -> None:
    """Show the cells: id, tags, base, and with --wide or --json also recipe and lock."""
    from rlimages import describe

    cells = _select(_project(ctx), patterns)
    if as_json:
        _print_json([describe.summary(cell) for cell in cells])
    else:
        click.echo(describe.lines(cells, wide=wide), nl=False)


@main.command()
@click.argument("patterns", nargs=-1, required=True, metavar="PATTERN...")
@options.as_json
@click.pass_context
def show(ctx: click.Context, /, patterns: tuple[str, ...], as_json: bool) -> None:
    """Show everything about some cells."""
    from rlimages import describe

    shown = [describe.everything(cell) for cell in _select(_project(ctx), patterns)]
    if as_json:
        _print_json(shown)
    else:
        click.echo("\n".join(describe.page(cell) for cell in shown), nl=False)


@main.command()
@options.selecting
@click.option("--check", is_flag=True, help="Write nothing; show what would change and exit with 3.")
@click.pass_context
def render(ctx: click.Context, /, patterns: tuple[str, ...], check: bool) -> None:
    """Write the Dockerfiles and the other generated files; with --select, the Dockerfiles of these cells."""
    project = _project(ctx)
    cells = _select(project, patterns) if patterns else None
    if not check:
        _progress(project.write(cells))
    elif _progress(project.differences(cells)):
        raise StaleError("generated files are not what the matrix and the templates give; run `rlimages render`")


@main.command()
@options.selecting
@click.option("--check", is_flag=True, help="Write nothing, ask no network; name stale locks and exit with 3.")
@click.option("--force", is_flag=True, help="Resolve also what is not stale.")
@click.pass_context
def lock(ctx: click.Context, /, patterns: tuple[str, ...], check: bool, force: bool) -> None:
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

    project = _project(ctx)
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
@options.selecting
@options.building
@options.as_json
@click.pass_context
def plan(ctx: click.Context, /, patterns: tuple[str, ...], as_json: bool, **words: Any) -> None:
    """Show what a build would do: the exact command of each cell."""
    from rlimages import engine, running

    project = _project(ctx)
    todo = running.prepare(project, _select(project, patterns), _wishes((), **words), environ=os.environ).plan
    commands = {
        step.cell.id: engine.build_argv(step, metadata=Path("metadata.json"), progress="auto") for step in todo.steps
    }
    if as_json:
        _print_json(
            [{"id": step.cell.id, "reason": step.reason, "command": commands[step.cell.id]} for step in todo.steps]
        )
    else:
        _progress(f"# {step.cell.id}: {step.reason}\n{shlex.join(commands[step.cell.id])}" for step in todo.steps)


@main.command()
@options.selecting
@options.building
@click.pass_context
def build(ctx: click.Context, /, patterns: tuple[str, ...], **words: Any) -> None:
    """Build the chosen cells."""
    _run(ctx, patterns, ("build",), **words)


@main.command()
@options.selecting
@options.fresh
@options.at_once
@click.pass_context
def smoke(ctx: click.Context, /, patterns: tuple[str, ...], **words: Any) -> None:
    """Run every check inside the images that are in the local store."""
    _run(ctx, patterns, ("smoke",), **words)


@main.command()
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
        _one_place(words)
        _run(ctx, patterns, ("smoke", "publish"), **words)
    elif resume is not None and rollback is not None:
        raise UsageError("--resume goes on with a release, --rollback undoes it; say one of them")
    else:
        _continue(ctx, resume or rollback or "", back=rollback is not None, may_go_back=words["allow_older"])


@main.command()
@options.selecting
@click.option("--target", required=True, metavar="NAME", help="Target of targets.yaml to promote to.")
@click.option("--from", "source", default="", metavar="NAME", help="Target to promote from; by default as it says.")
@click.option("--allow-older", is_flag=True, help="Let tags go back from a newer image to an older one.")
@click.pass_context
def promote(ctx: click.Context, /, patterns: tuple[str, ...], target: str, source: str, allow_older: bool) -> None:
    """Copy images from one target to another, registry to registry, if their checks are recorded as passed."""
    from rlimages import promoting, shell, standing

    project = _project(ctx)
    stop = shell.Stop()
    with shell.stopping_on_signals(stop):
        name, places = promoting.promote(
            project, _select(project, patterns), target, source, environ=os.environ, stop=stop,
            may_go_back=allow_older, on_note=lambda line: click.echo(line, err=True),
        )  # fmt: skip
    _progress(standing.lines(places))
    code = standing.exit_code(places)
    if code:
        click.echo(f"go on with `rlimages publish --resume {name}`")
    ctx.exit(code)


@main.command("run")
@options.selecting
@options.building
@options.to
@options.fresh
@click.pass_context
def run_(ctx: click.Context, /, patterns: tuple[str, ...], **words: Any) -> None:
    """Build, smoke and publish the chosen cells, with one report."""
    _one_place(words)
    _run(ctx, patterns, ("build", "smoke", "publish"), **words)


@main.command()
@options.selecting
@options.as_json
@click.pass_context
def bases(ctx: click.Context, /, patterns: tuple[str, ...], as_json: bool) -> None:
    """Bring the open bases into the local store: pulled, or bootstrapped where they can't be."""
    from rlimages import running

    project = _project(ctx)
    found = tuple(running.bases_of(_select(project, patterns)))
    if as_json:
        _print_json([{"reference": base.reference, "origin": base.origin, "detail": base.detail} for base in found])
    else:
        _progress(f"{base.reference}: {base.origin} {base.detail}".rstrip() for base in found)


@main.command()
@click.option("--registry", default="127.0.0.1:5000", show_default=True, help="The registry to look for.")
@options.as_json
@click.pass_context
def doctor(ctx: click.Context, /, registry: str, as_json: bool) -> None:
    """Look at this machine: what works, and what to do about what doesn't."""
    from rlimages import doctor as practice

    findings = tuple(practice.examine(Path.cwd(), registry, os.environ))
    if as_json:
        _print_json([practice.facts(finding) for finding in findings])
    else:
        _progress(practice.text(findings))
    if any(finding.health is practice.Health.MISSING for finding in findings):
        raise ToolError("something that builds need is missing; the lines above say what to do")


for verb in (emulation.train, emulation.serve, emulation.invoke, emulation.transform):
    main.add_command(verb)
for verb in (admission.accept, attestation.sbom, attestation.verify):
    main.add_command(verb)
for verb in (estate.sdk_config, estate.gc):
    main.add_command(verb)


def _one_place(words: dict[str, Any]) -> None:
    if bool(words["to"]) == bool(words["target"]):
        raise UsageError("say where to publish to: --to host[:port][/prefix], or --target with a name in targets.yaml")


def _continue(ctx: click.Context, name: str, *, back: bool, may_go_back: bool) -> None:
    """Go on with a release, or undo it; print what became of each place."""
    from rlimages import promoting, shell, standing

    stop = shell.Stop()
    with shell.stopping_on_signals(stop):
        places = promoting.go_on(
            _project(ctx), name, back=back, may_go_back=may_go_back, environ=os.environ, stop=stop,
            on_note=lambda line: click.echo(line, err=True),
        )  # fmt: skip
    _progress(standing.lines(places))
    ctx.exit(standing.exit_code(places))


def _wishes(stages: tuple[str, ...], **words: Any) -> "Wishes":
    from rlimages.pipeline import Stage
    from rlimages.running import Wishes

    command = click.get_current_context().command_path.split()[-1]
    return Wishes(stages=tuple(Stage(stage) for stage in stages), command=command, **words)


def _run(ctx: click.Context, patterns: tuple[str, ...], stages: tuple[str, ...], **words: Any) -> None:
    """Run some stages, show how it goes, print the report and leave with its exit code."""
    from rlimages import progress, report, running, shell

    project = _project(ctx)
    cells = _select(project, patterns)
    stop = shell.Stop()
    live = sys.stderr.isatty() and not os.environ.get("CI")
    with shell.stopping_on_signals(stop), progress.shown(sys.stderr, live=live) as on_event:
        folder, told = running.run(
            project, cells, _wishes(stages, **words), environ=os.environ, stop=stop, on_event=on_event,
            on_note=lambda line: click.echo(line, err=True),
        )  # fmt: skip
    click.echo(report.text(told), nl=False)
    click.echo(f"report: {os.path.relpath(folder)}")
    ctx.exit(report.exit_code(told))
