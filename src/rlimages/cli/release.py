"""Commands that work on registries: publish, promote, gc, sdk-config."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rlimages.cli.common import (
    chosen_cells,
    jobs_option,
    json_option,
    print_lines,
    print_note,
    project_of,
    require_one_target,
    run_stages,
    select_option,
    target_options,
)
from rlimages.errors import UsageError

if TYPE_CHECKING:
    from rlimages.release.gc import GcResult


@click.command()
@select_option
@target_options
@jobs_option
@click.option("--resume", is_flag=False, flag_value="latest", metavar="RELEASE", help="Go on with a release.")
@click.option("--rollback", is_flag=False, flag_value="latest", metavar="RELEASE", help="Undo the moves of a release.")
@click.pass_context
def publish(
    ctx: click.Context, /, patterns: tuple[str, ...], resume: str | None, rollback: str | None, **words: Any
) -> None:
    """Release the images that passed their checks: all are brought, all are verified, then all tags move."""
    if resume is None and rollback is None:
        require_one_target(words)
        run_stages(ctx, patterns, ("smoke", "publish"), **words)
    elif resume is not None and rollback is not None:
        raise UsageError("--resume goes on with a release, --rollback undoes it; say one of them")
    else:
        _continue(ctx, resume or rollback or "", back=rollback is not None, may_go_back=words["allow_older"])


@click.command()
@select_option
@click.option("--target", required=True, metavar="NAME", help="Target of targets.yaml to promote to.")
@click.option("--from", "source", default="", metavar="NAME", help="Target to promote from; by default as it says.")
@click.option("--allow-older", is_flag=True, help="Let tags go back from a newer image to an older one.")
@click.pass_context
def promote(ctx: click.Context, /, patterns: tuple[str, ...], target: str, source: str, allow_older: bool) -> None:
    """Copy images from one target to another, registry to registry, if their checks are recorded as passed."""
    from rlimages.release.deliver import release_exit_code, release_lines
    from rlimages.release.promote import promote
    from rlimages.system.process import Stop, stopping_on_signals

    project = project_of(ctx)
    stop = Stop()
    with stopping_on_signals(stop):
        name, places = promote(
            project, chosen_cells(project, patterns), target, source, environ=os.environ, stop=stop,
            may_go_back=allow_older, on_note=print_note,
        )  # fmt: skip
    print_lines(release_lines(places))
    code = release_exit_code(places)
    if code:
        click.echo(f"go on with `rlimages publish --resume {name}`")
    ctx.exit(code)


def _continue(ctx: click.Context, name: str, *, back: bool, may_go_back: bool) -> None:
    """Go on with a release, or undo it; print what became of each place."""
    from rlimages.release.deliver import release_exit_code, release_lines
    from rlimages.release.promote import resume_or_roll_back
    from rlimages.system.process import Stop, stopping_on_signals

    stop = Stop()
    with stopping_on_signals(stop):
        places = resume_or_roll_back(
            project_of(ctx), name, back=back, may_go_back=may_go_back, environ=os.environ, stop=stop,
            on_note=print_note,
        )  # fmt: skip
    print_lines(release_lines(places))
    ctx.exit(release_exit_code(places))


@click.command("sdk-config")
@select_option
@click.option("--target", default="", metavar="NAME", help="Images of this target of targets.yaml, in its regions.")
@click.option("--account", default="", metavar="ACCOUNT", help="Images in your own ECR account, without a prefix.")
@click.option(
    "--region", "regions", multiple=True, help="Region of that account; may be repeated. us-west-2 if not said."
)
@click.option("--line", default="sagemaker", show_default=True, help="The base line whose versions are plain numbers.")
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), help="Folder to write to, if not stdout.")
@click.pass_context
def sdk_config(
    ctx: click.Context,
    /,
    patterns: tuple[str, ...],
    target: str,
    account: str,
    regions: tuple[str, ...],
    line: str,
    output: Path | None,
) -> None:
    """Write the SageMaker SDK's image_uri_config for our repositories: a JSON for each toolkit and framework.

    Without --target and --account it is about the images that SageMaker published.
    """
    from rlimages.matrix.cell import select_cells
    from rlimages.project.project import load_project
    from rlimages.release.sdk_config import sdk_configs, write_configs

    if target and (account or regions):
        raise UsageError("a target has its account and its regions in targets.yaml; give --target alone")
    if regions and not account:
        raise UsageError("--region is for --account: say whose images they are")
    if account and not (len(account) == 12 and account.isdecimal()):
        raise UsageError(f"--account {account}: an AWS account has twelve digits")
    known = load_project(ctx.obj, Path.cwd())
    cells = select_cells(known.cells, patterns or ("*",))
    told = sdk_configs(known, cells, target=target, account=account, regions=regions, line=line)
    if output is None:
        click.echo(json.dumps(told, indent=4))
        return
    for done in write_configs({name: json.dumps(said, indent=4) + "\n" for name, said in told.items()}, output):
        click.echo(done)


@click.command()
@click.option("--target", required=True, metavar="NAME", help="Target of targets.yaml to look at.")
@click.option(
    "--older-than", default="30d", show_default=True, metavar="SPAN", help="Only images of this age: 36h, 30d, 8w."
)
@click.option("--keep", multiple=True, metavar="PATTERN", help="Tags whose images stay, with * and ?. May be repeated.")
@click.option("--delete", is_flag=True, help="Delete it; otherwise nothing is changed.")
@json_option
@click.pass_context
def gc(ctx: click.Context, /, target: str, older_than: str, keep: tuple[str, ...], delete: bool, as_json: bool) -> None:
    """Show what of a target may go: old images without a tag of the matrix, and what is left of them.

    Exit codes: 0, or 7 where something could not be asked or deleted.
    """
    from rlimages.project.project import load_project
    from rlimages.release.gc import collect_garbage
    from rlimages.system.process import Stop, stopping_on_signals
    from rlimages.system.units import parse_duration

    fates, stop = [], Stop()
    with stopping_on_signals(stop):
        for fate in collect_garbage(
            load_project(ctx.obj, Path.cwd()), target, older_than=parse_duration(older_than), keep=keep, delete=delete,
            environ=os.environ, now=datetime.now(UTC), stop=stop,
        ):  # fmt: skip
            fates.append(fate)
            if not as_json and fate.decision.goes:
                click.echo(_gc_line(fate, delete=delete))
    going = [fate for fate in fates if fate.decision.goes]
    if as_json:
        click.echo(json.dumps([_gc_facts(fate, delete=delete) for fate in fates], indent=2))
    else:
        click.echo(_gc_summary(fates, going, delete=delete))
    ctx.exit(7 if any(fate.error for fate in going) else 0)


def _gc_line(fate: "GcResult", *, delete: bool) -> str:
    one = fate.decision
    done = "still here" if fate.error else "deleted" if delete else "would go"
    named = " ".join(one.tags) or "no tag"
    return f"{done}: {one.kind} {fate.repository}@{one.digest} ({named}): {fate.error or one.why}"


def _gc_summary(fates: "list[GcResult]", going: "list[GcResult]", *, delete: bool) -> str:
    left = sum(bool(fate.error) for fate in going)
    if delete:
        return f"{len(going) - left} deleted, {len(fates) - len(going) + left} stay"
    return f"{len(going)} would go, {len(fates) - len(going)} stay" + ("; --delete deletes them" if going else "")


def _gc_facts(fate: "GcResult", *, delete: bool) -> dict[str, Any]:
    one = fate.decision
    return {
        "place": fate.place,
        "repository": fate.repository,
        "kind": one.kind.value,
        "digest": one.digest,
        "tags": list(one.tags),
        "goes": one.goes,
        "deleted": one.goes and delete and not fate.error,
        "why": one.why,
        "error": fate.error,
    }
