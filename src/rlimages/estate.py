"""The verbs for what is published already: how the SageMaker SDK finds it, and what of it may go."""

import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rlimages import options
from rlimages.errors import UsageError

if TYPE_CHECKING:
    from rlimages.clearing import Fate


@click.command("sdk-config")
@options.selecting
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
    from rlimages import introducing, project, selector

    if target and (account or regions):
        raise UsageError("a target has its account and its regions in targets.yaml; give --target alone")
    if regions and not account:
        raise UsageError("--region is for --account: say whose images they are")
    if account and not (len(account) == 12 and account.isdecimal()):
        raise UsageError(f"--account {account}: an AWS account has twelve digits")
    known = project.load(ctx.obj, Path.cwd())
    cells = selector.select(known.cells, patterns or ("*",))
    told = introducing.introduce(known, cells, target=target, account=account, regions=regions, line=line)
    if output is None:
        click.echo(json.dumps(told, indent=4))
        return
    for done in introducing.write({name: json.dumps(said, indent=4) + "\n" for name, said in told.items()}, output):
        click.echo(done)


@click.command()
@click.option("--target", required=True, metavar="NAME", help="Target of targets.yaml to look at.")
@click.option(
    "--older-than", default="30d", show_default=True, metavar="SPAN", help="Only images of this age: 36h, 30d, 8w."
)
@click.option("--keep", multiple=True, metavar="PATTERN", help="Tags whose images stay, with * and ?. May be repeated.")
@click.option("--delete", is_flag=True, help="Delete it; otherwise nothing is changed.")
@options.as_json
@click.pass_context
def gc(ctx: click.Context, /, target: str, older_than: str, keep: tuple[str, ...], delete: bool, as_json: bool) -> None:
    """Show what of a target may go: old images without a tag of the matrix, and what is left of them.

    Exit codes: 0, or 7 where something could not be asked or deleted.
    """
    from rlimages import clearing, project, retention, shell

    fates, stop = [], shell.Stop()
    with shell.stopping_on_signals(stop):
        for fate in clearing.clear(
            project.load(ctx.obj, Path.cwd()), target, older_than=retention.span(older_than), keep=keep, delete=delete,
            environ=os.environ, now=datetime.now(UTC), stop=stop,
        ):  # fmt: skip
            fates.append(fate)
            if not as_json and fate.decision.goes:
                click.echo(_line(fate, delete=delete))
    going = [fate for fate in fates if fate.decision.goes]
    if as_json:
        click.echo(json.dumps([_facts(fate, delete=delete) for fate in fates], indent=2))
    else:
        click.echo(_sum(fates, going, delete=delete))
    ctx.exit(7 if any(fate.error for fate in going) else 0)


def _line(fate: "Fate", *, delete: bool) -> str:
    one = fate.decision
    done = "still here" if fate.error else "deleted" if delete else "would go"
    named = " ".join(one.tags) or "no tag"
    return f"{done}: {one.kind} {fate.repository}@{one.digest} ({named}): {fate.error or one.why}"


def _sum(fates: "list[Fate]", going: "list[Fate]", *, delete: bool) -> str:
    left = sum(bool(fate.error) for fate in going)
    if delete:
        return f"{len(going) - left} deleted, {len(fates) - len(going) + left} stay"
    return f"{len(going)} would go, {len(fates) - len(going)} stay" + ("; --delete deletes them" if going else "")


def _facts(fate: "Fate", *, delete: bool) -> dict[str, Any]:
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
